//! Queue behaviour: expiry, message TTL, dead letters, length limits, the choice of a consumer, and calls without a caller.

use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

use crate::support::{eventually, get_message, oracle::Oracle, take};
use actix_pika::testing::Probe;
use actix_pika::{
    Channel, Consume, ConsumerEnd, DeclareExchange, DeclareQueue, Delivery, ErrorKind, Publishing,
    message::{BindQueue, DeathReason, DeleteExchange, DeleteQueue, PauseConsumer, UnbindQueue},
};
use futures_util::{StreamExt, poll};

const TTL: Duration = Duration::from_millis(500);

/// Makes two round trips. Deliveries that the broker had sent before have arrived by then.
async fn two_round_trips(channel: &Channel) {
    for _ in 0..2 {
        channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    }
}

/// Returns a declare of a queue whose dead letters go to the queue "expired".
fn expiring(name: &str) -> DeclareQueue {
    DeclareQueue::new(name).dead_letter_exchange("").dead_letter_routing_key("expired")
}

/// Waits until a message with this TTL, published now, has expired.
async fn wait_until_expired(channel: &Channel, ttl: Duration) {
    let expired = channel.declare_queue("expired").await.unwrap();
    channel.declare_queue(expiring("clock").message_ttl(ttl)).await.unwrap();
    channel.default_exchange().publish("tick", "clock").await.unwrap();
    let tick = get_message(&expired).await;
    assert_eq!(tick.body(), b"tick");
    tick.ack().unwrap();
}

crate::modes! {
    /// TOP-24: in order. The library does not use `nowait`: it reads each answer and discards it.
    async fn calls_sent_without_waiting_take_effect(bench: Bench) {
        let actor = bench.channel.actor();
        actor.do_send(DeclareExchange::direct("ex"));
        actor.do_send(DeclareExchange::direct("short-lived"));
        actor.do_send(DeclareQueue::new("q"));
        actor.do_send(DeclareQueue::new("short-lived"));
        actor.do_send(BindQueue::new("q", "ex", "bound"));
        actor.do_send(BindQueue::new("q", "ex", "unbound"));
        actor.do_send(UnbindQueue::new("q", "ex", "unbound"));
        actor.do_send(DeleteQueue::new("short-lived"));
        actor.do_send(DeleteExchange::new("short-lived"));
        // An awaited call returns its own answer.
        let queue = bench.channel.declare_queue("last").await.unwrap();
        assert_eq!((queue.name(), queue.declared().unwrap().message_count), ("last", 0));
        let probe = bench.connection.channel().await.unwrap();
        probe.exchange("ex").publish("x", "bound").await.unwrap();
        let error = probe.exchange("ex").publish("x", "unbound").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable);
        let queues = bench.vhost.queues().await;
        let mut names: Vec<_> = queues.iter().map(|queue| &*queue.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["last", "q"]);
        assert!(bench.vhost.exchanges().await.iter().all(|exchange| exchange.name != "short-lived"));
    }

    /// TOP-24: the next call fails because the channel is closed, not because it was refused. The refused call was sent
    /// without waiting, or its future was dropped.
    async fn a_refused_call_without_a_caller_is_not_attributed_to_the_next_call(bench: Bench) {
        for sent in [true, false] {
            let channel = bench.another_channel().await;
            let missing = || DeclareQueue::new("missing").passive(true);
            if sent {
                channel.actor().do_send(missing());
            } else {
                let mut declaring = pin!(channel.declare_queue(missing()));
                assert!(poll!(&mut declaring).is_pending());
                // A round trip to the actor, which skips calls that are dropped before it handles them.
                channel.actor().send(PauseConsumer::pause("nobody")).await.unwrap().unwrap_err();
            }
            let error = channel.declare_queue("next").await.unwrap_err();
            let reason = error.close_reason().expect("the broker's reason");
            assert_eq!((error.kind(), reason.code, reason.method), (ErrorKind::ChannelClosed, 404, "queue.declare"));
            assert!(reason.text.contains("'missing'"), "{error}");
        }
        // The broker ignored the calls after the refused one.
        assert_eq!(bench.vhost.queues().await.len(), 0);
    }

    /// TOP-32: after ten rounds there is one entry for each queue and reason.
    async fn the_death_history_counts_repeated_deaths(bench: Bench) {
        let channel = &bench.channel;
        let forwarding = |name: &str, next: &str| DeclareQueue::new(name).dead_letter_exchange("").dead_letter_routing_key(next);
        let brief = Duration::from_millis(1);
        for (name, next) in [("a", "b"), ("b", "c"), ("c", "work")] {
            channel.declare_queue(forwarding(name, next).message_ttl(brief)).await.unwrap();
        }
        let work = channel.declare_queue(forwarding("work", "work")).await.unwrap();
        channel.default_exchange().publish("x", "a").await.unwrap();
        for round in 0..10 {
            let delivery = get_message(&work).await;
            let mut deaths: Vec<_> = delivery.deaths().into_iter().map(|d| (d.queue, d.reason, d.count)).collect();
            // The latest death is the first. The others are in no particular order.
            assert_eq!(deaths[0].0, if round > 0 { "work" } else { "c" });
            deaths.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            let expired = ["a", "b", "c"].map(|queue| (queue.to_owned(), DeathReason::Expired, 1));
            let rejected = (round > 0).then(|| ("work".to_owned(), DeathReason::Rejected, round));
            assert_eq!(deaths, expired.into_iter().chain(rejected).collect::<Vec<_>>());
            if round < 9 { delivery.reject(false).unwrap() } else { delivery.ack().unwrap() }
        }
    }

    /// TOP-32
    async fn the_broker_drops_messages_that_expire_in_a_cycle(bench: Bench) {
        let channel = &bench.channel;
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        for (name, next) in [("self", "self"), ("ping", "pong"), ("pong", "ping")] {
            let brief = Duration::from_millis(1);
            let declare = DeclareQueue::new(name).dead_letter_exchange("").dead_letter_routing_key(next);
            channel.declare_queue(declare.message_ttl(brief)).await.unwrap();
        }
        for first in ["self", "ping"] {
            channel.default_exchange().publish("x", first).await.unwrap();
        }
        eventually("all queues are empty", 10, async || {
            let mut left = 0;
            for name in ["self", "ping", "pong"] {
                left += oracle.count(name).await;
            }
            (left == 0).then_some(())
        })
        .await;
        // The consumers would receive a message that is still in the cycle.
        let mut probe = Probe::<Delivery>::start();
        for name in ["self", "ping", "pong"] {
            channel.queue(name).consume(probe.recipient()).await.unwrap();
        }
        probe.expect_none_until(two_round_trips(channel)).await.unwrap();
    }

    /// TOP-34: a consumer, a declare and a passive declare prevent that.
    async fn an_unused_queue_expires(bench: Bench) {
        let channel = &bench.channel;
        // The management API reads a queue without using it.
        let expired = async |name: &str| bench.vhost.queue(name).await.is_none().then_some(());
        let expiring = |lease| move |name: &str| DeclareQueue::new(name).expires(Duration::from_millis(lease));
        let (brief, long) = (expiring(300), expiring(3000));
        let consumed = channel.declare_queue(brief("consumed")).await.unwrap();
        let consumer = consumed.consume(Probe::<Delivery>::start().recipient()).await.unwrap();
        let confirmed = bench.connection.channel().await.unwrap();
        for name in ["active", "passive"] {
            channel.declare_queue(long(name)).await.unwrap();
            // Shows later that it is still the same queue.
            confirmed.default_exchange().publish("x", name).await.unwrap();
        }
        channel.declare_queue(long("clock")).await.unwrap();
        eventually("the queue clock expires", 20, async || {
            for declare in [long("active"), long("passive").passive(true)] {
                let queue = channel.declare_queue(declare).await.unwrap();
                assert_eq!(queue.declared().unwrap().message_count, 1, "{}", queue.name());
            }
            expired("clock").await
        })
        .await;
        assert!(expired("consumed").await.is_none() && consumer.end().is_none());
        consumer.cancel().await.unwrap();
        for name in ["consumed", "active", "passive"] {
            eventually("the queue expires", 20, async || expired(name).await).await;
        }
    }

    /// TOP-38: after its cancel, the next one. An exclusive consumer is refused.
    async fn a_single_active_consumer_gets_all_messages(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q").single_active_consumer(true)).await.unwrap();
        let (mut first, mut second) = (Probe::<Delivery>::start(), Probe::<Delivery>::start());
        let one = queue.consume(first.recipient()).await.unwrap();
        let two = queue.consume(second.recipient()).await.unwrap();
        let publish = async |n: usize| {
            for n in 0..n {
                bench.channel.default_exchange().publish(n.to_string(), "q").await.unwrap();
            }
        };
        publish(10).await;
        let deliveries = take(&mut first, 10).await;
        second.expect_none_until(two_round_trips(&bench.channel)).await.unwrap();
        assert!(deliveries.iter().all(|delivery| delivery.consumer_tag() == one.tag()));
        one.cancel().await.unwrap();
        deliveries.into_iter().for_each(|delivery| delivery.ack().unwrap());
        publish(10).await;
        for (n, delivery) in take(&mut second, 10).await.into_iter().enumerate() {
            assert_eq!((delivery.body(), delivery.consumer_tag()), (n.to_string().as_bytes(), two.tag()));
            delivery.ack().unwrap();
        }
        assert_eq!(first.count().await, 10);
        let other = bench.another_channel().await;
        let error = other.queue("q").deliveries_with(Consume::new().exclusive(true)).await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 403));
        assert!(two.end().is_none());
    }

    /// TOP-44: set by the queue or by the message.
    async fn a_ttl_of_zero_delivers_to_waiting_consumers_only(bench: Bench) {
        let channel = &bench.channel;
        let by_queue = channel.declare_queue(DeclareQueue::new("by-queue").message_ttl(Duration::ZERO)).await.unwrap();
        let by_message = channel.declare_queue("by-message").await.unwrap();
        for (queue, publish) in [
            (by_queue, Publishing::new("x")),
            (by_message, Publishing::new("x").expiration(Duration::ZERO)),
        ] {
            channel.default_exchange().publish(publish.clone(), queue.name()).await.unwrap();
            assert!(queue.get().await.unwrap().is_none());
            let mut probe = Probe::<Delivery>::start();
            queue.consume(probe.recipient()).await.unwrap();
            channel.default_exchange().publish(publish, queue.name()).await.unwrap();
            probe.next().await.unwrap().ack().unwrap();
            probe.expect_none_until(two_round_trips(channel)).await.unwrap();
        }
    }

    /// TOP-44: also when the expired message is behind one that has not expired.
    async fn expired_messages_are_not_delivered_to_a_late_consumer(bench: Bench) {
        let channel = &bench.channel;
        let queue = channel.declare_queue("q").await.unwrap();
        let brief = Duration::from_millis(50);
        for publish in [
            Publishing::new("head").expiration(Duration::from_secs(600)),
            Publishing::new("expired").expiration(brief),
            Publishing::new("tail"),
        ] {
            channel.default_exchange().publish(publish, "q").await.unwrap();
        }
        wait_until_expired(channel, brief).await;
        let mut probe = Probe::<Delivery>::start();
        queue.consume(probe.recipient()).await.unwrap();
        for body in [&b"head"[..], b"tail"] {
            let delivery = probe.next().await.unwrap();
            assert_eq!(delivery.body(), body);
            delivery.ack().unwrap();
        }
        probe.expect_none_until(two_round_trips(channel)).await.unwrap();
    }

    /// TOP-44: a requeued message expires at once if its TTL has passed, whether set by the queue or by the message.
    async fn requeueing_does_not_extend_the_ttl(bench: Bench) {
        let channel = &bench.channel;
        let expired = channel.declare_queue("expired").await.unwrap();
        let of_queue = channel.declare_queue(expiring("of-queue").message_ttl(TTL)).await.unwrap();
        let own = channel.declare_queue(expiring("own")).await.unwrap();
        let mut unsettled = Vec::new();
        for (queue, publish) in
            [(&of_queue, Publishing::new("x")), (&own, Publishing::new("x").expiration(TTL))]
        {
            channel.default_exchange().publish(publish, queue.name()).await.unwrap();
            unsettled.push(queue.get().await.unwrap().expect("it has not expired yet"));
        }
        wait_until_expired(channel, TTL).await;
        assert!(expired.get().await.unwrap().is_none(), "unsettled messages do not expire");
        for (queue, delivery) in [&of_queue, &own].into_iter().zip(unsettled) {
            delivery.nack(true).unwrap();
            assert!(queue.get().await.unwrap().is_none());
            let dead = get_message(&expired).await;
            let deaths = dead.deaths();
            assert_eq!((deaths[0].queue.as_str(), &deaths[0].reason), (queue.name(), &DeathReason::Expired));
            dead.ack().unwrap();
        }
    }

    /// TOP-35: until they are requeued.
    async fn unsettled_messages_do_not_count_for_max_length(bench: Bench) {
        let channel = &bench.channel;
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let queue = channel.declare_queue(DeclareQueue::new("q").max_length(3)).await.unwrap();
        let publish = async |bodies: std::ops::Range<u8>| {
            for n in bodies {
                channel.default_exchange().publish(vec![n], "q").await.unwrap();
            }
        };
        publish(0..2).await;
        let unsettled = [queue.get().await.unwrap().unwrap(), queue.get().await.unwrap().unwrap()];
        publish(2..5).await;
        let count = async || channel.declare_queue(DeclareQueue::new("q").passive(true)).await.unwrap().declared().unwrap().message_count;
        // A count may be answered before the preceding publishes are counted.
        oracle.wait_for_count("q", 3).await;
        assert_eq!(channel.load().unsettled, 2);
        for delivery in unsettled {
            delivery.nack(true).unwrap();
        }
        assert_eq!(count().await, 3);
        assert_eq!(oracle.drain_bodies("q").await, [[2], [3], [4]]);
    }

    /// TOP-36: single and multiple nacks, as in a classic queue.
    async fn a_quorum_queue_requeues_nacked_messages(bench: Bench) {
        let votes = bench.channel.declare_queue(DeclareQueue::new("votes").quorum()).await.unwrap();
        for n in 1..=5_u8 {
            bench.channel.default_exchange().publish(vec![n], "votes").await.unwrap();
        }
        let mut probe = Probe::<Delivery>::start();
        let consumer = votes.consume_with(Consume::new().prefetch(4), probe.recipient()).await.unwrap();
        let mut taken = take(&mut probe, 4).await;
        assert_eq!(taken.iter().map(|d| d.body()[0]).collect::<Vec<_>>(), [1, 2, 3, 4]);
        consumer.cancel().await.unwrap();
        let fourth = taken.pop().unwrap();
        taken.remove(1).ack().unwrap();
        fourth.nack_all(true).unwrap();
        assert_eq!(taken.pop().unwrap().ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
        let mut left = Vec::new();
        for _ in 0..4 {
            let delivery = get_message(&votes).await;
            left.push((delivery.body()[0], delivery.redelivered()));
            delivery.nack(false).unwrap();
        }
        left.sort_unstable();
        assert_eq!(left, [(1, true), (3, true), (4, true), (5, false)]);
        assert!(votes.get().await.unwrap().is_none());
    }

    /// TOP-30, TOP-31, FT-10: queue, reason, count, time, routing keys, and the removed expiration.
    async fn deaths_have_all_their_fields(bench: Bench) {
        let graveyard = bench.channel.declare_queue("graveyard").await.unwrap();
        let declare = DeclareQueue::new("q").dead_letter_exchange("").dead_letter_routing_key("graveyard");
        let queue = bench.channel.declare_queue(declare.message_ttl(Duration::from_secs(60))).await.unwrap();
        let exchange = bench.channel.default_exchange();
        let before = SystemTime::now() - Duration::from_secs(2);
        exchange.publish(Publishing::new("x").expiration(Duration::from_millis(20)), "q").await.unwrap();
        let expired = get_message(&graveyard).await;
        let deaths = expired.deaths();
        assert_eq!(deaths.len(), 1);
        let death = &deaths[0];
        assert_eq!((death.queue.as_str(), &death.reason, death.count), ("q", &DeathReason::Expired, 1));
        assert_eq!((death.exchange.as_str(), &death.routing_keys[..]), ("", &["q".to_owned()][..]));
        assert_eq!(death.original_expiration, Some(Duration::from_millis(20)));
        assert!(death.time.expect("a time") >= before);
        assert_eq!(expired.properties().unwrap().expiration(), None);

        // Published again with its headers and rejected.
        let headers = expired.properties().unwrap().headers().cloned().unwrap();
        exchange.publish(Publishing::new("x").headers(headers), "q").await.unwrap();
        expired.ack().unwrap();
        get_message(&queue).await.reject(false).unwrap();
        let again = get_message(&graveyard).await;
        let reasons: Vec<_> = again.deaths().into_iter().map(|d| (d.reason, d.count)).collect();
        // Since 4.0 the broker ignores the deaths that a client sends.
        let both = [(DeathReason::Rejected, 1), (DeathReason::Expired, 1)];
        let expected = if bench.vhost.broker().version().await < (4, 0) { 2 } else { 1 };
        assert_eq!(reasons, both[..expected]);
        again.ack().unwrap();
        exchange.publish("fresh", "graveyard").await.unwrap();
        assert!(get_message(&graveyard).await.deaths().is_empty());
    }

    /// TOP-39: after its cancel, the next one.
    async fn the_consumer_with_the_highest_priority_gets_the_messages(bench: Bench) {
        let queue = bench.channel.declare_queue("q").await.unwrap();
        let mut consumers = Vec::new();
        for priority in [-1, 1, 0] {
            let options = Consume::new().priority(priority).tag(priority.to_string());
            consumers.push((priority, queue.deliveries_with(options).await.unwrap()));
        }
        consumers.sort_by_key(|(priority, _)| -priority);
        for (priority, mut deliveries) in consumers {
            for n in 0..10 {
                bench.channel.default_exchange().publish(n.to_string(), "q").await.unwrap();
            }
            for n in 0..10 {
                let delivery = deliveries.next().await.expect("a delivery");
                assert_eq!((delivery.body(), delivery.consumer_tag()), (n.to_string().as_bytes(), &*priority.to_string()));
                delivery.ack().unwrap();
            }
            deliveries.close().await.unwrap();
        }
        let _low = queue.deliveries_with(Consume::new().priority(-1)).await.unwrap();
        let arguments = eventually("the API shows the consumer", 10, async || {
            bench.vhost.consumers("q").await.first().map(|consumer| consumer.arguments.clone())
        });
        assert_eq!(arguments.await.get("x-priority"), Some(&(-1i64).into()));
    }

    /// CNS-17: when it is deleted on the channel of the consumers.
    async fn deleting_a_queue_ends_its_own_consumers_only(bench: Bench) {
        let deleted = bench.channel.declare_queue("deleted").await.unwrap();
        let other = bench.channel.declare_queue("other").await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        let first = deleted.consume(probe.recipient()).await.unwrap();
        let second = deleted.consume(probe.recipient()).await.unwrap();
        let third = other.consume(probe.recipient()).await.unwrap();
        deleted.delete().await.unwrap();
        for consumer in [first, second] {
            assert!(matches!(consumer.ended().await, ConsumerEnd::CancelledByBroker));
        }
        assert!(third.end().is_none());
        bench.channel.default_exchange().publish("x", "other").await.unwrap();
        let delivery = probe.next().await.unwrap();
        assert_eq!(delivery.consumer_tag(), third.tag());
        delivery.ack().unwrap();
    }
}
