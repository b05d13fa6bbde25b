//! Prefetch: per consumer and global, and the local limit of `no_ack` consumers.

use super::numbers;
use crate::support::broker::{Broker, SecondNode, Setting};
use crate::support::oracle::Oracle;
use crate::support::recorded_connection::RecordedConnection;
use crate::support::{eventually, modes::Bench, take, within};
use actix_pika::{Channel, Consume, DeclareQueue, Delivery, ErrorKind, message::Qos, testing::Probe};

/// Makes two round trips, after which the deliveries that the broker sends unasked have arrived.
async fn round_trips(channel: &Channel) {
    for _ in 0..2 {
        channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    }
}

/// Takes the next `n` deliveries, and checks that no more arrive.
async fn take_exactly(probe: &mut Probe<Delivery>, n: usize, channel: &Channel) -> Vec<Delivery> {
    let taken = take(probe, n).await;
    probe.expect_none_until(round_trips(channel)).await.unwrap();
    taken
}

async fn wait_for_ready(oracle: &Oracle, queue: &str, n: u32) {
    eventually("the ready count", 5, async || (oracle.count(queue).await == n).then_some(())).await;
}

crate::modes! {
    /// QOS-01: `set_qos` succeeds for a consumer and a global prefetch, several times on one channel.
    async fn set_qos_succeeds_repeatedly(bench: Bench) {
        bench.channel.set_qos(1).await.unwrap();
        bench.channel.set_qos_with(shared(1, true)).await.unwrap();
        bench.channel.set_qos_with(shared(0, false)).await.unwrap();
        bench.channel.set_qos(u16::MAX).await.unwrap();
        bench.channel.set_qos(0).await.unwrap();
    }

    /// QOS-02: of 15 messages 5 arrive, and a get does not raise that; single acks, `ack_all`, and nacks with and
    /// without requeue let as many more arrive as they settle.
    async fn the_prefetch_limits_unsettled_deliveries(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(15)).await;
        let mut probe = Probe::<Delivery>::start();
        let queue = bench.channel.queue("jobs");
        queue.consume_with(Consume::new().prefetch(5), probe.recipient()).await.unwrap();
        let five = take_exactly(&mut probe, 5, &bench.channel).await;
        assert_eq!((oracle.count("jobs").await, bench.channel.load().unsettled), (10, 5));
        queue.get().await.unwrap().unwrap().ack().unwrap();
        probe.expect_none_until(round_trips(&bench.channel)).await.unwrap();
        for delivery in five {
            delivery.ack().unwrap();
        }
        let mut five = take_exactly(&mut probe, 5, &bench.channel).await;
        five.pop().unwrap().ack_all().unwrap();
        drop(five);
        let mut four = take_exactly(&mut probe, 4, &bench.channel).await;
        for n in 15..20 {
            oracle.publish("", "jobs", n.to_string()).await;
        }
        let one = take_exactly(&mut probe, 1, &bench.channel).await;
        four.extend(one);
        for delivery in four {
            delivery.nack(false).unwrap();
        }
        let four = take_exactly(&mut probe, 4, &bench.channel).await;
        for delivery in four {
            delivery.nack(true).unwrap();
        }
        let four = take_exactly(&mut probe, 4, &bench.channel).await;
        assert!(four.iter().all(Delivery::redelivered));
    }

    /// QOS-02: `basic.recover` redelivers the unsettled messages, within the prefetch.
    async fn basic_recover_redelivers_within_the_prefetch(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(15)).await;
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume_with(Consume::new().prefetch(5), probe.recipient()).await.unwrap();
        let held = take_exactly(&mut probe, 5, &bench.channel).await;
        bench.channel.recover().await.unwrap();
        let again = take_exactly(&mut probe, 5, &bench.channel).await;
        assert!(held.iter().all(Delivery::is_stale) && !again.iter().any(Delivery::is_stale));
        assert_eq!((oracle.count("jobs").await, bench.channel.load().unsettled), (10, 5));
        let mut bodies: Vec<_> = again.iter().map(|delivery| delivery.body().to_vec()).collect();
        bodies.sort_unstable();
        assert_eq!(bodies, [b"0", b"1", b"2", b"3", b"4"]);
        assert!(again.iter().all(Delivery::redelivered));
    }

    /// QOS-03: a prefetch of 0 is unlimited.
    async fn a_prefetch_of_zero_is_unlimited(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(300)).await;
        bench.channel.set_qos(0).await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let all = take(&mut probe, 300).await;
        assert_eq!((all.len(), oracle.count("jobs").await, bench.channel.load().unsettled), (300, 0, 300));
    }

    /// QOS-03: the broker ignores the prefetch of `no_ack` consumers; the library hands out no more than that many.
    async fn the_prefetch_of_no_ack_consumers_is_enforced_locally(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(100)).await;
        let mut probe = Probe::<Delivery>::start();
        let options = Consume::new().no_ack(true).prefetch(10);
        bench.channel.queue("jobs").consume_with(options, probe.recipient()).await.unwrap();
        wait_for_ready(&oracle, "jobs", 0).await;
        let ten = take_exactly(&mut probe, 10, &bench.channel).await;
        drop(ten);
        let mut ten = take_exactly(&mut probe, 10, &bench.channel).await;
        // More are handed out once half of the ten are dropped, not one by one.
        ten.truncate(6);
        probe.expect_none_until(round_trips(&bench.channel)).await.unwrap();
        ten.truncate(5);
        let five = take_exactly(&mut probe, 5, &bench.channel).await;
        drop((ten, five));
        for left in (0..75).rev() {
            let delivery = probe.next().await.unwrap();
            assert_eq!(delivery.body(), (99 - left).to_string().as_bytes());
        }
    }

    /// QOS: the default prefetch is 250, for actors and streams.
    async fn the_default_prefetch_is_250(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(300)).await;
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let held = take_exactly(&mut probe, 250, &bench.channel).await;
        assert_eq!((oracle.count("jobs").await, bench.channel.load().unsettled), (50, 250));
        drop(held);
        bench.channel.close().await.unwrap();
        wait_for_ready(&oracle, "jobs", 300).await;
        let channel = bench.another_channel().await;
        let _stream = channel.queue("jobs").deliveries().await.unwrap();
        wait_for_ready(&oracle, "jobs", 50).await;
        round_trips(&channel).await;
        assert_eq!((oracle.count("jobs").await, channel.load().unsettled), (50, 250));
    }

    /// QOS-04: consumers with a prefetch of 3 and 2 are limited independently.
    async fn each_consumer_has_its_own_prefetch(bench: Bench) {
        let oracle = bench.fill_queue("one", numbers(10)).await;
        oracle.declare_queue("two").await;
        for n in 0..10 {
            oracle.publish("", "two", n.to_string()).await;
        }
        let (mut one, mut two) = (Probe::<Delivery>::start(), Probe::<Delivery>::start());
        bench.channel.set_qos(3).await.unwrap();
        bench.channel.queue("one").consume(one.recipient()).await.unwrap();
        let options = Consume::new().prefetch(2);
        bench.channel.queue("two").consume_with(options, two.recipient()).await.unwrap();
        let mut ones = take_exactly(&mut one, 3, &bench.channel).await;
        let twos = take_exactly(&mut two, 2, &bench.channel).await;
        assert_eq!((oracle.count("one").await, oracle.count("two").await), (7, 8));
        ones.pop().unwrap().ack().unwrap();
        ones.extend(take_exactly(&mut one, 1, &bench.channel).await);
        two.expect_none_until(round_trips(&bench.channel)).await.unwrap();
        // The prefetch of the second consumer does not apply to later consumers.
        let mut third = Probe::<Delivery>::start();
        bench.channel.queue("one").consume(third.recipient()).await.unwrap();
        let thirds = take_exactly(&mut third, 3, &bench.channel).await;
        drop((ones, twos, thirds));
    }

    /// QOS-04: a global prefetch is shared by the consumers of the channel. Where the broker would ignore it unless
    /// permitted, the call fails, and sends nothing; a broker that has it called permitted and does not permit it takes
    /// it for one of each new consumer.
    async fn a_global_prefetch_is_shared_or_the_call_fails(bench: Bench) {
        if bench.vhost.broker().line().await.shares_prefetch() {
            return shared_prefetch(&bench, false).await;
        }
        let oracle = bench.fill_queue("jobs", numbers(10)).await;
        let error = bench.channel.set_qos_with(Qos::new(3).global(true)).await.unwrap_err();
        assert_eq!((error.kind(), error.code(), error.is_retryable()), (ErrorKind::Refused, None, false));
        assert!(error.to_string().contains("deprecated_features.permit.global_qos = true"), "{error}");
        bench.channel.set_qos_with(Qos::new(3).global(true).permitted(true)).await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let six = take_exactly(&mut probe, 6, &bench.channel).await;
        assert_eq!((six.len(), oracle.count("jobs").await), (6, 4));
    }

    /// QOS-06: `basic.qos` is sent with a prefetch size of 0; RabbitMQ answers any other with 540, so there is no
    /// option for it.
    async fn the_prefetch_size_is_always_zero(bench: Bench) {
        let _oracle = bench.fill_queue("jobs", []).await;
        let recorded = RecordedConnection::open(&bench).await;
        let probe = Probe::<Delivery>::start();
        recorded.channel.set_qos(7).await.unwrap();
        recorded.channel.queue("jobs").consume_with(Consume::new().prefetch(9), probe.recipient()).await.unwrap();
        let recordings = recorded.proxy.recordings();
        let frames = recordings.iter().flat_map(|recording| recording.frames(crate::support::proxy::Direction::ToBroker));
        let qos: Vec<_> = frames.filter(|f| f.method() == Some((60, 10))).map(|f| f.payload[4..].to_vec()).collect();
        assert_eq!(qos, [[0, 0, 0, 0, 0, 7, 0], [0, 0, 0, 0, 0, 9, 0]]);
    }
}

/// A prefetch that the consumers of a channel share.
fn shared(count: u16, permitted: bool) -> Qos {
    Qos::new(count).global(true).permitted(permitted)
}

async fn shared_prefetch(bench: &Bench, permitted: bool) {
    let oracle = bench.fill_queue("jobs", numbers(10)).await;
    bench.channel.set_qos_with(shared(3, permitted)).await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
    bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
    let three = take_exactly(&mut probe, 3, &bench.channel).await;
    assert_eq!(oracle.count("jobs").await, 7);
    for delivery in three {
        delivery.ack().unwrap();
    }
    let three = take_exactly(&mut probe, 3, &bench.channel).await;
    // One more consumer does not raise the limit.
    let mut other = Probe::<Delivery>::start();
    bench.channel.queue("jobs").consume(other.recipient()).await.unwrap();
    other.expect_none_until(round_trips(&bench.channel)).await.unwrap();
    probe.expect_none_until(round_trips(&bench.channel)).await.unwrap();
    assert_eq!((three.len(), oracle.count("jobs").await), (3, 4));
    // 0 removes it.
    bench.channel.set_qos_with(shared(0, permitted)).await.unwrap();
    wait_for_ready(&oracle, "jobs", 0).await;
}

async fn shared_prefetch_is_changed(bench: &Bench, permitted: bool) {
    let oracle = bench.fill_queue("jobs", numbers(30)).await;
    let channel = &bench.channel;
    let set_global = async |count| channel.set_qos_with(shared(count, permitted)).await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    set_global(3).await;
    channel.queue("jobs").consume(probe.recipient()).await.unwrap();
    let mut held = take_exactly(&mut probe, 3, channel).await;
    set_global(5).await;
    held.extend(take_exactly(&mut probe, 2, channel).await);
    // Five are unsettled and two are allowed: after three acks no more arrive.
    set_global(2).await;
    for delivery in held.drain(..3) {
        delivery.ack().unwrap();
    }
    probe.expect_none_until(round_trips(channel)).await.unwrap();
    held.remove(0).ack().unwrap();
    held.extend(take_exactly(&mut probe, 1, channel).await);
    assert_eq!((channel.load().unsettled, oracle.count("jobs").await), (2, 24));
    set_global(0).await;
    held.extend(take_exactly(&mut probe, 24, channel).await);
    let bodies: Vec<_> = held.iter().map(|delivery| delivery.body().to_vec()).collect();
    assert_eq!(bodies, (4..30).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>());
    set_global(1).await;
    oracle.publish("", "jobs", "late").await;
    probe.expect_none_until(round_trips(channel)).await.unwrap();
    for delivery in held {
        delivery.ack().unwrap();
    }
    assert_eq!(take_exactly(&mut probe, 1, channel).await[0].body(), b"late");
}

async fn shared_prefetch_starves_no_queue(bench: &Bench, permitted: bool) {
    let oracle = bench.fill_queue("one", numbers(50)).await;
    oracle.declare_queue("two").await;
    for n in 0..50 {
        oracle.publish("", "two", n.to_string()).await;
    }
    bench.channel.set_qos_with(shared(2, permitted)).await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    for queue in ["one", "two"] {
        bench.channel.queue(queue).consume(probe.recipient()).await.unwrap();
    }
    let mut served = [0, 0];
    while served != [50, 50] {
        let delivery = probe.next().await.unwrap();
        let at = usize::from(delivery.routing_key() == "two");
        assert_eq!(delivery.body(), served[at].to_string().as_bytes());
        served[at] += 1;
        assert!(served[at] < 50 || served[1 - at] > 0, "one queue was served alone");
        assert!(bench.channel.load().unsettled <= 2);
        delivery.ack().unwrap();
    }
    assert_eq!((oracle.count("one").await, oracle.count("two").await), (0, 0));
}

crate::modes! {
    /// QOS-05: a global prefetch can be raised, lowered and removed while a consumer has unsettled deliveries. Where no
    /// shared one is possible, removing it succeeds, and leaves the prefetch of each consumer as it is.
    async fn a_global_prefetch_can_be_changed_during_consuming(bench: Bench) {
        if bench.vhost.broker().line().await.shares_prefetch() {
            return shared_prefetch_is_changed(&bench, false).await;
        }
        let oracle = bench.fill_queue("jobs", numbers(30)).await;
        bench.channel.set_qos(3).await.unwrap();
        bench.channel.set_qos_with(shared(0, false)).await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let three = take_exactly(&mut probe, 3, &bench.channel).await;
        assert_eq!((three.len(), oracle.count("jobs").await), (3, 27));
    }

    /// QOS-05: with a global prefetch of two, or a prefetch of one for each of two consumers, both of two queues are
    /// served before one is empty.
    async fn a_global_prefetch_starves_no_queue(bench: Bench) {
        if bench.vhost.broker().line().await.shares_prefetch() {
            return shared_prefetch_starves_no_queue(&bench, false).await;
        }
        let oracle = bench.fill_queue("one", numbers(50)).await;
        oracle.declare_queue("two").await;
        for n in 0..50 {
            oracle.publish("", "two", n.to_string()).await;
        }
        bench.channel.set_qos(1).await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        for queue in ["one", "two"] {
            bench.channel.queue(queue).consume(probe.recipient()).await.unwrap();
        }
        let mut served = [0, 0];
        while served != [50, 50] {
            let delivery = probe.next().await.unwrap();
            let at = usize::from(delivery.routing_key() == "two");
            served[at] += 1;
            assert!(served[at] < 50 || served[1 - at] > 0, "one queue was served alone");
            assert!(bench.channel.load().unsettled <= 2);
            delivery.ack().unwrap();
        }
    }
}

/// QOS-04, QOS-05: a broker of the lines that ignore a shared prefetch keeps it if its operator permits it; one of earlier
/// lines does not if its operator denies it. The oldest lines know no such permission.
#[actix::test]
async fn a_shared_prefetch_depends_on_the_permission_of_the_operator() {
    let test = async {
        let mut node = SecondNode::start().await;
        let line = node.broker().line().await;
        let (permit, kept) = match (line.has_permissions(), line.shares_prefetch()) {
            (true, true) => (Some(false), false),
            (true, false) => (Some(true), true),
            (false, _) => (None, true),
        };
        if let Some(permit) = permit {
            node.configure(&[Setting::PermitGlobalQos(permit)]).await;
        }
        if kept {
            for run in 0..3 {
                let bench = Bench::open_on(node.broker(), true).await;
                match run {
                    0 => shared_prefetch(&bench, true).await,
                    1 => shared_prefetch_is_changed(&bench, true).await,
                    _ => shared_prefetch_starves_no_queue(&bench, true).await,
                }
            }
            return;
        }
        // The client cannot know it: the handshake is that of a broker that keeps the prefetch.
        let bench = Bench::open_on(node.broker(), true).await;
        let oracle = bench.fill_queue("jobs", numbers(10)).await;
        bench.channel.set_qos_with(shared(3, false)).await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let six = take_exactly(&mut probe, 6, &bench.channel).await;
        assert_eq!((six.len(), oracle.count("jobs").await), (6, 4));
    };
    within("a node with another configuration", 120, test).await;
}

/// QOS-05: in a transaction, acks let more deliveries arrive at the commit, with a global and a consumer prefetch.
#[actix::test]
async fn acks_in_a_transaction_count_at_the_commit() {
    let test = async {
        let shares = Broker::under_test().line().await.shares_prefetch();
        // Where the broker takes a shared prefetch for one of each consumer, both are the same.
        for global in [true, false] {
            let bench = Bench::open(false).await;
            let oracle = bench.fill_queue("jobs", numbers(10)).await;
            let channel = &bench.channel;
            let qos = if global { shared(2, !shares) } else { Qos::new(2) };
            channel.set_qos_with(qos).await.unwrap();
            let transaction = channel.transaction().await.unwrap();
            let mut probe = Probe::<Delivery>::start();
            channel.queue("jobs").consume(probe.recipient()).await.unwrap();
            for delivery in take_exactly(&mut probe, 2, channel).await {
                delivery.ack().unwrap();
            }
            probe.expect_none_until(round_trips(channel)).await.unwrap();
            transaction.commit().await.unwrap();
            let two = take_exactly(&mut probe, 2, channel).await;
            assert_eq!(oracle.count("jobs").await, 6, "global: {global}");
            drop(two);
        }
    };
    within("two transactions", 60, test).await;
}
