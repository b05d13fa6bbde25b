//! Prefetch: what the broker leaves unsettled with a consumer.

use crate::support::oracle::Oracle;
use crate::support::recorded_connection::RecordedConnection;
use crate::support::{eventually, modes::Bench, take, within};
use actix_pika::{Channel, Consume, DeclareQueue, Delivery, message::Qos, testing::Probe};

fn numbers(n: usize) -> Vec<String> {
    (0..n).map(|n| n.to_string()).collect()
}

/// Two round trips: what the broker sends of its own accord by then has come.
async fn settled(channel: &Channel) {
    for _ in 0..2 {
        channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    }
}

/// The next `n` deliveries, and no more than these.
async fn exactly(probe: &mut Probe<Delivery>, n: usize, channel: &Channel) -> Vec<Delivery> {
    let taken = take(probe, n).await;
    probe.expect_none_until(settled(channel)).await.unwrap();
    taken
}

async fn ready_is(oracle: &Oracle, queue: &str, n: u32) {
    eventually("so many are ready", 5, async || (oracle.count(queue).await == n).then_some(())).await;
}

crate::modes! {
    /// QOS-01: setting the prefetch is answered, the global one, too; a channel can be given several in turn.
    async fn setting_the_prefetch_is_answered(bench: Bench) {
        bench.channel.set_qos(1).await.unwrap();
        bench.channel.set_qos_with(Qos::new(1).global(true)).await.unwrap();
        bench.channel.set_qos(u16::MAX).await.unwrap();
        bench.channel.set_qos(0).await.unwrap();
    }

    /// QOS-02: of 15 queued 5 arrive, a get in between frees nothing; single acks, an ack of all, nacks with and
    /// without requeue bring as many more as they settle.
    async fn the_prefetch_bounds_what_is_unsettled(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(15)).await;
        let mut probe = Probe::<Delivery>::start();
        let queue = bench.channel.queue("jobs");
        queue.consume_with(Consume::new().prefetch(5), probe.recipient()).await.unwrap();
        let five = exactly(&mut probe, 5, &bench.channel).await;
        assert_eq!((oracle.count("jobs").await, bench.channel.load().unsettled), (10, 5));
        queue.get().await.unwrap().unwrap().ack().unwrap();
        probe.expect_none_until(settled(&bench.channel)).await.unwrap();
        for delivery in five {
            delivery.ack().unwrap();
        }
        let mut five = exactly(&mut probe, 5, &bench.channel).await;
        five.pop().unwrap().ack_all().unwrap();
        drop(five);
        let mut four = exactly(&mut probe, 4, &bench.channel).await;
        for n in 15..20 {
            oracle.publish("", "jobs", n.to_string()).await;
        }
        let one = exactly(&mut probe, 1, &bench.channel).await;
        four.extend(one);
        for delivery in four {
            delivery.nack(false).unwrap();
        }
        let four = exactly(&mut probe, 4, &bench.channel).await;
        for delivery in four {
            delivery.nack(true).unwrap();
        }
        let four = exactly(&mut probe, 4, &bench.channel).await;
        assert!(four.iter().all(Delivery::redelivered));
    }

    /// QOS-02: and so does recover, which brings the same again.
    async fn recover_brings_the_prefetch_again(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(15)).await;
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume_with(Consume::new().prefetch(5), probe.recipient()).await.unwrap();
        let held = exactly(&mut probe, 5, &bench.channel).await;
        bench.channel.recover().await.unwrap();
        let again = exactly(&mut probe, 5, &bench.channel).await;
        assert!(held.iter().all(Delivery::is_stale) && !again.iter().any(Delivery::is_stale));
        assert_eq!((oracle.count("jobs").await, bench.channel.load().unsettled), (10, 5));
        let mut bodies: Vec<_> = again.iter().map(|delivery| delivery.body().to_vec()).collect();
        bodies.sort_unstable();
        assert_eq!(bodies, [b"0", b"1", b"2", b"3", b"4"]);
        assert!(again.iter().all(Delivery::redelivered));
    }

    /// QOS-03: a prefetch of 0 is no bound.
    async fn a_prefetch_of_zero_is_no_bound(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(300)).await;
        bench.channel.set_qos(0).await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let all = take(&mut probe, 300).await;
        assert_eq!((all.len(), oracle.count("jobs").await, bench.channel.load().unsettled), (300, 0, 300));
    }

    /// QOS-03: the broker knows no prefetch for `no_ack` consumers; the application holds no more than that many.
    async fn no_ack_consumers_are_bounded_here(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(100)).await;
        let mut probe = Probe::<Delivery>::start();
        let options = Consume::new().no_ack(true).prefetch(10);
        bench.channel.queue("jobs").consume_with(options, probe.recipient()).await.unwrap();
        ready_is(&oracle, "jobs", 0).await;
        let ten = exactly(&mut probe, 10, &bench.channel).await;
        drop(ten);
        let mut ten = exactly(&mut probe, 10, &bench.channel).await;
        // Room is made once half of the ten are gone, not one by one.
        ten.truncate(6);
        probe.expect_none_until(settled(&bench.channel)).await.unwrap();
        ten.truncate(5);
        let five = exactly(&mut probe, 5, &bench.channel).await;
        drop((ten, five));
        for left in (0..75).rev() {
            let delivery = probe.next().await.unwrap();
            assert_eq!(delivery.body(), (99 - left).to_string().as_bytes());
        }
    }

    /// QOS: a consumer holds 250 unless told otherwise.
    async fn the_default_prefetch_is_250(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(300)).await;
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let held = exactly(&mut probe, 250, &bench.channel).await;
        assert_eq!((oracle.count("jobs").await, bench.channel.load().unsettled), (50, 250));
        drop(held);
        // Streams alike.
        bench.channel.close().await.unwrap();
        ready_is(&oracle, "jobs", 300).await;
        let channel = bench.another_channel().await;
        let _stream = channel.queue("jobs").deliveries().await.unwrap();
        ready_is(&oracle, "jobs", 50).await;
        settled(&channel).await;
        assert_eq!((oracle.count("jobs").await, channel.load().unsettled), (50, 250));
    }

    /// QOS-04: each consumer has its own bound, 3 and 2 of 10, and what one settles serves itself.
    async fn each_consumer_has_its_own_bound(bench: Bench) {
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
        let mut ones = exactly(&mut one, 3, &bench.channel).await;
        let twos = exactly(&mut two, 2, &bench.channel).await;
        assert_eq!((oracle.count("one").await, oracle.count("two").await), (7, 8));
        ones.pop().unwrap().ack().unwrap();
        ones.extend(exactly(&mut one, 1, &bench.channel).await);
        two.expect_none_until(settled(&bench.channel)).await.unwrap();
        // The prefetch of the second changed nothing for consumers that are still to come.
        let mut third = Probe::<Delivery>::start();
        bench.channel.queue("one").consume(third.recipient()).await.unwrap();
        let thirds = exactly(&mut third, 3, &bench.channel).await;
        drop((ones, twos, thirds));
    }

    /// QOS-04: a global bound is shared by the consumers of the channel.
    async fn a_global_bound_is_shared(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(10)).await;
        bench.channel.set_qos_with(Qos::new(3).global(true)).await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        bench.channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let three = exactly(&mut probe, 3, &bench.channel).await;
        assert_eq!(oracle.count("jobs").await, 7);
        for delivery in three {
            delivery.ack().unwrap();
        }
        let three = exactly(&mut probe, 3, &bench.channel).await;
        // One more consumer does not lift the bound.
        let mut other = Probe::<Delivery>::start();
        bench.channel.queue("jobs").consume(other.recipient()).await.unwrap();
        other.expect_none_until(settled(&bench.channel)).await.unwrap();
        probe.expect_none_until(settled(&bench.channel)).await.unwrap();
        assert_eq!((three.len(), oracle.count("jobs").await), (3, 4));
        // Nor is it kept for ever.
        bench.channel.set_qos_with(Qos::new(0).global(true)).await.unwrap();
        ready_is(&oracle, "jobs", 0).await;
    }

    /// QOS-06: the size of a prefetch, which RabbitMQ answers with 540, cannot be said; it leaves as 0.
    async fn the_prefetch_has_no_size(bench: Bench) {
        let _oracle = bench.fill_queue("jobs", []).await;
        let recorded = RecordedConnection::open(&bench).await;
        let probe = Probe::<Delivery>::start();
        recorded.channel.set_qos(7).await.unwrap();
        recorded.channel.queue("jobs").consume_with(Consume::new().prefetch(9), probe.recipient()).await.unwrap();
        let tapes = recorded.proxy.recordings();
        let frames = tapes.iter().flat_map(|tape| tape.frames(crate::support::proxy::Direction::ToBroker));
        let qos: Vec<_> = frames.filter(|f| f.method() == Some((60, 10))).map(|f| f.payload[4..].to_vec()).collect();
        assert_eq!(qos, [[0, 0, 0, 0, 0, 7, 0], [0, 0, 0, 0, 0, 9, 0]]);
    }
}

crate::modes! {
    /// QOS-05: a global bound that is raised, lowered and lifted under a consumer counts what is unsettled already.
    async fn a_global_bound_can_be_changed_under_a_consumer(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(30)).await;
        let channel = &bench.channel;
        let bound = async |count| channel.set_qos_with(Qos::new(count).global(true)).await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        bound(3).await;
        channel.queue("jobs").consume(probe.recipient()).await.unwrap();
        let mut held = exactly(&mut probe, 3, channel).await;
        bound(5).await;
        held.extend(exactly(&mut probe, 2, channel).await);
        // Five are out, two may be: three settles make no room.
        bound(2).await;
        for delivery in held.drain(..3) {
            delivery.ack().unwrap();
        }
        probe.expect_none_until(settled(channel)).await.unwrap();
        held.remove(0).ack().unwrap();
        held.extend(exactly(&mut probe, 1, channel).await);
        assert_eq!((channel.load().unsettled, oracle.count("jobs").await), (2, 24));
        bound(0).await;
        held.extend(exactly(&mut probe, 24, channel).await);
        let bodies: Vec<_> = held.iter().map(|delivery| delivery.body().to_vec()).collect();
        assert_eq!(bodies, (4..30).map(|n| n.to_string().into_bytes()).collect::<Vec<_>>());
        // And it can be set again.
        bound(1).await;
        oracle.publish("", "jobs", "late").await;
        probe.expect_none_until(settled(channel)).await.unwrap();
        for delivery in held {
            delivery.ack().unwrap();
        }
        assert_eq!(exactly(&mut probe, 1, channel).await[0].body(), b"late");
    }

    /// QOS-05: two queues under one global bound of two: neither starves until the other is empty.
    async fn a_global_bound_starves_no_queue(bench: Bench) {
        let oracle = bench.fill_queue("one", numbers(50)).await;
        oracle.declare_queue("two").await;
        for n in 0..50 {
            oracle.publish("", "two", n.to_string()).await;
        }
        bench.channel.set_qos_with(Qos::new(2).global(true)).await.unwrap();
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
}

/// QOS-05: in a transaction acks make room at the commit, for a consumer's own bound as for a global one.
#[actix::test]
async fn in_a_transaction_only_the_commit_makes_room() {
    let test = async {
        for global in [true, false] {
            let bench = Bench::open(false).await;
            let oracle = bench.fill_queue("jobs", numbers(10)).await;
            let channel = &bench.channel;
            let qos = if global { Qos::new(2).global(true) } else { Qos::new(2) };
            channel.set_qos_with(qos).await.unwrap();
            let transaction = channel.transaction().await.unwrap();
            let mut probe = Probe::<Delivery>::start();
            channel.queue("jobs").consume(probe.recipient()).await.unwrap();
            for delivery in exactly(&mut probe, 2, channel).await {
                delivery.ack().unwrap();
            }
            probe.expect_none_until(settled(channel)).await.unwrap();
            transaction.commit().await.unwrap();
            let two = exactly(&mut probe, 2, channel).await;
            assert_eq!(oracle.count("jobs").await, 6, "global: {global}");
            drop(two);
        }
    };
    within("two transactions", 60, test).await;
}
