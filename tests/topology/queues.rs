//! Queues that expire, let messages expire, or choose among their consumers; and calls that nobody awaits.

use std::{pin::pin, time::Duration};

use crate::support::{eventually, oracle::Oracle, take};
use actix_pika::testing::Probe;
use actix_pika::{
    Channel, Consume, ConsumerEnd, DeclareExchange, DeclareQueue, Delivery, ErrorKind, Publishing, Queue,
    message::{BindQueue, DeathReason, DeleteExchange, DeleteQueue, PauseConsumer, UnbindQueue},
};
use futures_util::poll;

const TTL: Duration = Duration::from_millis(500);

async fn next(queue: &Queue) -> Delivery {
    eventually("a message", 10, || async { queue.get().await.unwrap() }).await
}

/// Two round trips: what the broker sends of its own accord by then has come.
async fn settled(channel: &Channel) {
    for _ in 0..2 {
        channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    }
}

/// A queue from which what has expired goes on to the queue "expired".
fn expiring(name: &str) -> DeclareQueue {
    DeclareQueue::new(name).dead_letter_exchange("").dead_letter_routing_key("expired")
}

/// Returns when a message with this time to live, published now, has expired.
async fn until_expired(channel: &Channel, ttl: Duration) {
    let expired = channel.declare_queue("expired").await.unwrap();
    channel.declare_queue(expiring("clock").message_ttl(ttl)).await.unwrap();
    channel.default_exchange().publish("tick", "clock").await.unwrap();
    let tick = next(&expired).await;
    assert_eq!(tick.body(), b"tick");
    tick.ack().unwrap();
}

crate::modes! {
    /// TOP-24: calls whose answers nobody awaits have their effects, in order. There is no `nowait` here: every call is
    /// answered, and the answers that nobody wants are thrown away.
    async fn calls_that_nobody_awaits_have_their_effects(bench: Bench) {
        let actor = bench.channel.actor();
        actor.do_send(DeclareExchange::direct("ex"));
        actor.do_send(DeclareExchange::direct("short-lived"));
        actor.do_send(DeclareQueue::new("q"));
        actor.do_send(DeclareQueue::new("short-lived"));
        actor.do_send(BindQueue::new("q", "ex", "kept"));
        actor.do_send(BindQueue::new("q", "ex", "unbound"));
        actor.do_send(UnbindQueue::new("q", "ex", "unbound"));
        actor.do_send(DeleteQueue::new("short-lived"));
        actor.do_send(DeleteExchange::new("short-lived"));
        // The one that is awaited gets its own answer.
        let queue = bench.channel.declare_queue("last").await.unwrap();
        assert_eq!((queue.name(), queue.declared().unwrap().message_count), ("last", 0));
        let probe = bench.connection.channel().await.unwrap();
        probe.exchange("ex").publish("x", "kept").await.unwrap();
        let error = probe.exchange("ex").publish("x", "unbound").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable);
        let queues = bench.vhost.queues().await;
        let mut names: Vec<_> = queues.iter().map(|queue| queue["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, ["last", "q"]);
        assert!(bench.vhost.exchanges().await.iter().all(|exchange| exchange["name"] != "short-lived"));
    }

    /// TOP-24: one that fails shows as the end of the channel, and is not taken for the failure of the next call; be it
    /// that the call was sent without waiting, or that its caller gave up.
    async fn a_refusal_that_nobody_awaits_is_not_the_next_calls(bench: Bench) {
        for sent in [true, false] {
            let channel = bench.another_channel().await;
            let missing = || DeclareQueue::new("missing").passive(true);
            if sent {
                channel.actor().do_send(missing());
            } else {
                let mut declaring = pin!(channel.declare_queue(missing()));
                assert!(poll!(&mut declaring).is_pending());
                // A call that is given up before the actor has read it is not made at all.
                channel.actor().send(PauseConsumer::pause("nobody")).await.unwrap().unwrap_err();
            }
            let error = channel.declare_queue("next").await.unwrap_err();
            let reason = error.close_reason().expect("the broker's reason");
            assert_eq!((error.kind(), reason.code, reason.method), (ErrorKind::ChannelClosed, 404, "queue.declare"));
            assert!(reason.text.contains("'missing'"), "{error}");
        }
        // The broker did nothing behind the refusal.
        assert_eq!(bench.vhost.queues().await.len(), 0);
    }

    /// TOP-32: ten times round, and the history has an entry for each queue and reason, with a count.
    async fn a_history_counts_and_does_not_grow(bench: Bench) {
        let channel = &bench.channel;
        let on_to = |name: &str, next: &str| DeclareQueue::new(name).dead_letter_exchange("").dead_letter_routing_key(next);
        let brief = Duration::from_millis(1);
        for (name, next) in [("a", "b"), ("b", "c"), ("c", "work")] {
            channel.declare_queue(on_to(name, next).message_ttl(brief)).await.unwrap();
        }
        let work = channel.declare_queue(on_to("work", "work")).await.unwrap();
        channel.default_exchange().publish("x", "a").await.unwrap();
        for round in 0..10 {
            let delivery = next(&work).await;
            let mut deaths: Vec<_> = delivery.deaths().into_iter().map(|d| (d.queue, d.reason, d.count)).collect();
            // The latest is the first; the broker keeps no order among the others.
            assert_eq!(deaths[0].0, if round > 0 { "work" } else { "c" });
            deaths.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            let expired = ["a", "b", "c"].map(|queue| (queue.to_owned(), DeathReason::Expired, 1));
            let rejected = (round > 0).then(|| ("work".to_owned(), DeathReason::Rejected, round));
            assert_eq!(deaths, expired.into_iter().chain(rejected).collect::<Vec<_>>());
            if round < 9 { delivery.reject(false).unwrap() } else { delivery.ack().unwrap() }
        }
    }

    /// TOP-32: what goes round by expiring alone is dropped.
    async fn a_cycle_of_expiries_is_broken(bench: Bench) {
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
        eventually("all are empty", 10, async || {
            let mut left = 0;
            for name in ["self", "ping", "pong"] {
                left += oracle.count(name).await;
            }
            (left == 0).then_some(())
        })
        .await;
        // Whoever still went round would pass by here.
        let mut probe = Probe::<Delivery>::start();
        for name in ["self", "ping", "pong"] {
            channel.queue(name).consume(probe.recipient()).await.unwrap();
        }
        probe.expect_none_until(settled(channel)).await.unwrap();
    }

    /// TOP-34: a queue that nobody uses expires. A consumer keeps it, and so does declaring it again, in either way.
    async fn a_queue_expires_when_nobody_uses_it(bench: Bench) {
        let channel = &bench.channel;
        // The management API looks at a queue without using it.
        let gone = async |name: &str| bench.vhost.queue(name).await.is_none().then_some(());
        let unused_for = |lease| move |name: &str| DeclareQueue::new(name).expires(Duration::from_millis(lease));
        let (brief, long) = (unused_for(300), unused_for(3000));
        let consumed = channel.declare_queue(brief("consumed")).await.unwrap();
        let consumer = consumed.consume(Probe::<Delivery>::start().recipient()).await.unwrap();
        let confirmed = bench.connection.channel().await.unwrap();
        for name in ["active", "passive"] {
            channel.declare_queue(long(name)).await.unwrap();
            // Were the queue another one later, it would be empty.
            confirmed.default_exchange().publish("x", name).await.unwrap();
        }
        channel.declare_queue(long("clock")).await.unwrap();
        eventually("the clock expires", 20, async || {
            for declare in [long("active"), long("passive").passive(true)] {
                let queue = channel.declare_queue(declare).await.unwrap();
                assert_eq!(queue.declared().unwrap().message_count, 1, "{}", queue.name());
            }
            gone("clock").await
        })
        .await;
        assert!(gone("consumed").await.is_none() && consumer.end().is_none());
        consumer.cancel().await.unwrap();
        for name in ["consumed", "active", "passive"] {
            eventually("it expires", 20, async || gone(name).await).await;
        }
    }

    /// TOP-38: of the consumers of such a queue one gets all, then the next; nobody can have it for himself alone.
    async fn a_single_active_consumer_gets_everything(bench: Bench) {
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
        let firsts = take(&mut first, 10).await;
        second.expect_none_until(settled(&bench.channel)).await.unwrap();
        assert!(firsts.iter().all(|delivery| delivery.consumer_tag() == one.tag()));
        one.cancel().await.unwrap();
        firsts.into_iter().for_each(|delivery| delivery.ack().unwrap());
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

    /// TOP-44: no time to live at all is enough for a consumer that waits, and for nobody else.
    async fn without_time_to_live_only_who_waits_is_served(bench: Bench) {
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
            probe.expect_none_until(settled(channel)).await.unwrap();
        }
    }

    /// TOP-44: a consumer that comes late gets the head that has not expired, and not what has expired behind it.
    async fn a_late_consumer_gets_what_has_not_expired(bench: Bench) {
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
        until_expired(channel, brief).await;
        let mut probe = Probe::<Delivery>::start();
        queue.consume(probe.recipient()).await.unwrap();
        for body in [&b"head"[..], b"tail"] {
            let delivery = probe.next().await.unwrap();
            assert_eq!(delivery.body(), body);
            delivery.ack().unwrap();
        }
        probe.expect_none_until(settled(channel)).await.unwrap();
    }

    /// TOP-44: what is given back keeps the time that it had: it expires at once when that is over, of a queue's time to
    /// live and of its own.
    async fn giving_back_does_not_prolong_a_life(bench: Bench) {
        let channel = &bench.channel;
        let expired = channel.declare_queue("expired").await.unwrap();
        let of_queue = channel.declare_queue(expiring("of-queue").message_ttl(TTL)).await.unwrap();
        let own = channel.declare_queue(expiring("own")).await.unwrap();
        let mut held = Vec::new();
        for (queue, publish) in
            [(&of_queue, Publishing::new("x")), (&own, Publishing::new("x").expiration(TTL))]
        {
            channel.default_exchange().publish(publish, queue.name()).await.unwrap();
            held.push(queue.get().await.unwrap().expect("it has not expired yet"));
        }
        until_expired(channel, TTL).await;
        assert!(expired.get().await.unwrap().is_none(), "what is held does not expire");
        for (queue, delivery) in [&of_queue, &own].into_iter().zip(held) {
            delivery.nack(true).unwrap();
            assert!(queue.get().await.unwrap().is_none());
            let dead = next(&expired).await;
            let deaths = dead.deaths();
            assert_eq!((deaths[0].queue.as_str(), &deaths[0].reason), (queue.name(), &DeathReason::Expired));
            dead.ack().unwrap();
        }
    }

    /// TOP-35: what is in hand does not count for the length of a queue, and does again once it is given back.
    async fn what_is_held_does_not_count_for_the_length(bench: Bench) {
        let channel = &bench.channel;
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let queue = channel.declare_queue(DeclareQueue::new("q").max_length(3)).await.unwrap();
        let publish = async |bodies: std::ops::Range<u8>| {
            for n in bodies {
                channel.default_exchange().publish(vec![n], "q").await.unwrap();
            }
        };
        publish(0..2).await;
        let held = [queue.get().await.unwrap().unwrap(), queue.get().await.unwrap().unwrap()];
        publish(2..5).await;
        let count = async || channel.declare_queue(DeclareQueue::new("q").passive(true)).await.unwrap().declared().unwrap().message_count;
        // A count may overtake what was published before it.
        oracle.wait_for_count("q", 3).await;
        assert_eq!(channel.load().unsettled, 2);
        for delivery in held {
            delivery.nack(true).unwrap();
        }
        assert_eq!(count().await, 3);
        assert_eq!(oracle.drain_bodies("q").await, [[2], [3], [4]]);
    }

    /// TOP-36: single and multiple nacks do as in a classic queue.
    async fn a_quorum_queue_takes_back_what_is_refused(bench: Bench) {
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
            let delivery = next(&votes).await;
            left.push((delivery.body()[0], delivery.redelivered()));
            delivery.nack(false).unwrap();
        }
        left.sort_unstable();
        assert_eq!(left, [(1, true), (3, true), (4, true), (5, false)]);
        assert!(votes.get().await.unwrap().is_none());
    }

    /// CNS-17: nor does a queue take other consumers along when it is deleted on the channel that consumes.
    async fn a_queue_takes_its_own_consumers_along(bench: Bench) {
        let doomed = bench.channel.declare_queue("doomed").await.unwrap();
        let other = bench.channel.declare_queue("other").await.unwrap();
        let mut probe = Probe::<Delivery>::start();
        let first = doomed.consume(probe.recipient()).await.unwrap();
        let second = doomed.consume(probe.recipient()).await.unwrap();
        let third = other.consume(probe.recipient()).await.unwrap();
        doomed.delete().await.unwrap();
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
