//! The end of a consumer and its reason, draining, and supervised workers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{oracle::Oracle, proxy::Direction, recorded_connection::RecordedConnection, within};
use actix::prelude::*;
use actix_pika::{
    Consume, ConsumerEnd, DeclareQueue, Delivery, ErrorKind, Requeue,
    message::{CancelConsumer, Table},
    testing::Probe,
};
use tokio::sync::mpsc;

/// Sends each delivery to a channel; stops at a "stop" and panics at a "panic".
struct Worker {
    deliveries: mpsc::UnboundedSender<Delivery>,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Worker {
    type Result = ();
    fn handle(&mut self, delivery: Delivery, ctx: &mut Self::Context) {
        match delivery.body() {
            b"stop" => {
                delivery.ack().unwrap();
                ctx.stop();
            }
            b"panic" => {
                let _work = delivery.process(Requeue::No);
                panic!("this handler panics on purpose");
            }
            _ => {
                let _ = self.deliveries.send(delivery);
            }
        }
    }
}

crate::modes! {
    /// CNS-03: `ended` returns why the consumer ended: cancel, deleted queue, stopped target, closed channel.
    async fn ended_returns_the_reason(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let (sender, _deliveries) = mpsc::unbounded_channel();
        let worker = Worker { deliveries: sender }.start();
        let consumer = queue.consume(worker.clone()).await.unwrap();
        assert!(consumer.end().is_none());
        let waiting = tokio::spawn({
            let consumer = consumer.clone();
            async move { consumer.ended().await }
        });
        consumer.cancel().await.unwrap();
        assert!(matches!(waiting.await.unwrap(), ConsumerEnd::Cancelled));
        assert!(matches!(consumer.end(), Some(ConsumerEnd::Cancelled)));

        let consumer = queue.consume(worker.clone()).await.unwrap();
        queue.delete().await.unwrap();
        assert!(matches!(consumer.ended().await, ConsumerEnd::CancelledByBroker));

        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let consumer = queue.consume(worker).await.unwrap();
        bench.channel.default_exchange().publish("stop", "q").await.unwrap();
        bench.channel.default_exchange().publish("undelivered", "q").await.unwrap();
        assert!(matches!(consumer.ended().await, ConsumerEnd::TargetGone));

        let (sender, _deliveries) = mpsc::unbounded_channel();
        let consumer = queue.consume(Worker { deliveries: sender }.start()).await.unwrap();
        bench.channel.get_queue("nothing").await.unwrap_err();
        let ConsumerEnd::Closed(cause) = consumer.ended().await else { panic!("{:?}", consumer.end()) };
        assert_eq!(cause.close_reason().unwrap().code, 404);
    }

    /// CNS-14: `drain` waits until the held deliveries are settled, and returns `Timeout` if that takes too long.
    async fn drain_waits_for_held_deliveries(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let (sender, mut deliveries) = mpsc::unbounded_channel();
        let consumer = queue.consume(Worker { deliveries: sender }.start()).await.unwrap();
        bench.channel.default_exchange().publish("x", "q").await.unwrap();
        let held = deliveries.recv().await.expect("a delivery");
        let late = consumer.drain(Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        // The limit may be over before the broker has replied to the cancel.
        assert!(matches!(within("the end", 10, consumer.ended()).await, ConsumerEnd::Cancelled));
        assert!(!held.is_stale(), "a held delivery can still be settled");
        let drained = consumer.drain(Duration::from_secs(30));
        let settled = async {
            tokio::task::yield_now().await;
            held.ack().unwrap();
        };
        let (drained, ()) = tokio::join!(drained, settled);
        drained.unwrap();
        bench.channel.close().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!(oracle.count("q").await, 0);
    }

    /// A supervised worker that stops or panics is created again; the consumer continues, and no message is lost.
    async fn a_supervised_worker_is_created_again(bench: Bench) {
        let dead_letters = bench.channel.declare_queue("dead_letters").await.unwrap();
        let declare = DeclareQueue::new("q").dead_letter_exchange("").dead_letter_routing_key("dead_letters");
        let queue = bench.channel.declare_queue(declare).await.unwrap();
        let (sender, mut deliveries) = mpsc::unbounded_channel();
        let created = Arc::new(AtomicUsize::new(0));
        let consumer = queue
            .consume_supervised(Consume::new().prefetch(10), {
                let created = created.clone();
                move || {
                    created.fetch_add(1, Ordering::SeqCst);
                    Worker { deliveries: sender.clone() }
                }
            })
            .await
            .unwrap();
        let bodies = ["0", "stop", "1", "panic", "2", "3"];
        bench.channel.default_exchange().publish_all(bodies, "q").await.unwrap();
        let mut got = Vec::new();
        for _ in 0..4 {
            let delivery = deliveries.recv().await.expect("a delivery");
            got.push(String::from_utf8_lossy(delivery.body()).into_owned());
            delivery.ack().unwrap();
        }
        got.sort();
        assert_eq!(got, ["0", "1", "2", "3"]);
        let dead = crate::support::eventually("the dead letter", 10, async || dead_letters.get().await.unwrap()).await;
        assert_eq!(dead.body(), b"panic");
        dead.ack().unwrap();
        crate::support::eventually("three workers were created", 10, async || {
            bench.channel.default_exchange().publish("x", "q").await.unwrap();
            (created.load(Ordering::SeqCst) == 3).then_some(())
        })
        .await;
        assert!(consumer.end().is_none());
        consumer.cancel().await.unwrap();
        assert!(matches!(consumer.ended().await, ConsumerEnd::Cancelled));
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!(oracle.queue_counts("q").await.unwrap().1, 0);
    }

    /// When a worker factory panics, its consumer ends, and its deliveries are requeued.
    async fn a_factory_that_panics_ends_its_consumer(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        bench.channel.default_exchange().publish("stop", "q").await.unwrap();
        bench.channel.default_exchange().publish("next", "q").await.unwrap();
        let mut created = 0;
        let (sender, _deliveries) = mpsc::unbounded_channel();
        let options = Consume::new().prefetch(1);
        let consumer = queue
            .consume_supervised(options, move || {
                created += 1;
                assert!(created == 1, "this factory panics on purpose");
                Worker { deliveries: sender.clone() }
            })
            .await
            .unwrap();
        let end = within("the end", 20, consumer.ended()).await;
        assert!(matches!(end, ConsumerEnd::TargetGone), "{end:?}");
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let requeued = crate::support::eventually("the message is requeued", 10, || oracle.get("q")).await;
        assert_eq!(requeued.data, b"next");
    }

    /// CNS-05: the broker sends `basic.cancel` only to clients with the capability `consumer_cancel_notify`, which ours
    /// announces unless the application sets its own capabilities.
    async fn a_broker_cancel_needs_the_announced_capability(bench: Bench) {
        let oracle = bench.fill_queue("q", []).await;
        let capabilities = Table::new().with("consumer_cancel_notify", false);
        let without = RecordedConnection::open_with(&bench, |connector| connector.client_property("capabilities", capabilities)).await;
        let with = RecordedConnection::open(&bench).await;
        let probe = Probe::<Delivery>::start();
        let not_notified = without.channel.queue("q").consume(probe.recipient()).await.unwrap();
        let consumer = with.channel.queue("q").consume(probe.recipient()).await.unwrap();
        oracle.channel().queue_delete("q".into(), Default::default()).await.unwrap();
        assert!(matches!(within("the notice", 10, consumer.ended()).await, ConsumerEnd::CancelledByBroker));
        // The broker would have sent the cancel before these replies.
        for _ in 0..2 {
            without.flush().await;
        }
        assert!(not_notified.end().is_none(), "{:?}", not_notified.end());
        let cancels = |recorded: &RecordedConnection| {
            let recordings = recorded.proxy.recordings();
            recordings.iter().flat_map(|recording| recording.frames(Direction::ToClient)).filter(|f| f.method() == Some((60, 30))).count()
        };
        assert_eq!((cancels(&without), cancels(&with)), (0, 1));
        // Cancelling a consumer that the broker no longer has succeeds.
        not_notified.cancel().await.unwrap();
        assert!(matches!(not_notified.end(), Some(ConsumerEnd::Cancelled)));
    }

    /// CNS-12: a cancel sent right after its consume, with 100 queued messages, leaves no consumer at the client or the
    /// broker, and the messages stay in the queue.
    async fn a_cancel_right_after_the_consume_leaves_no_consumer(bench: Bench) {
        let oracle = bench.fill_queue("q", (0..100).map(|n| format!("{n:02}"))).await;
        let recorded = RecordedConnection::open(&bench).await;
        for _ in 0..3 {
            let mut probe = Probe::<Delivery>::start();
            let mut ends = Probe::<ConsumerEnd>::start();
            let options = Consume::new().queue("q").tag("mine").watch(ends.recipient()).deliver_to(probe.recipient());
            let actor = recorded.channel.actor();
            let (consumed, cancelled) = tokio::join!(actor.send(options), actor.send(CancelConsumer::new("mine")));
            consumed.unwrap().unwrap();
            cancelled.unwrap().unwrap();
            let end = within("the end", 5, ends.next()).await.unwrap();
            assert!(matches!(end, ConsumerEnd::Cancelled), "{end:?}");
            // Deliveries before the cancel-ok reached the application.
            for delivery in probe.drain().await {
                delivery.nack(true).unwrap();
            }
            recorded.flush().await;
            assert_eq!(recorded.channel.load().unsettled, 0);
            oracle.wait_for_requeue("q", 100).await;
            assert_eq!(ends.count().await, 1);
        }
        let bodies = oracle.drain_bodies("q").await;
        assert_eq!(bodies, (0..100).map(|n| format!("{n:02}").into_bytes()).collect::<Vec<_>>());
    }

    /// CNS-17: deleting a queue ends its consumers on all channels, and no others.
    async fn a_deleted_queue_ends_only_its_own_consumers(bench: Bench) {
        let oracle = bench.fill_queue("one", []).await;
        oracle.declare_queue("other").await;
        let mut probe = Probe::<Delivery>::start();
        let other_channel = bench.another_channel().await;
        let first = bench.channel.queue("one").consume(probe.recipient()).await.unwrap();
        let second = other_channel.queue("one").consume(probe.recipient()).await.unwrap();
        let unaffected = bench.channel.queue("other").consume(probe.recipient()).await.unwrap();
        oracle.channel().queue_delete("one".into(), Default::default()).await.unwrap();
        for consumer in [&first, &second] {
            assert!(matches!(within("the end", 10, consumer.ended()).await, ConsumerEnd::CancelledByBroker));
        }
        oracle.publish("", "other", "still here").await;
        let delivery = probe.next().await.unwrap();
        assert_eq!((delivery.body(), delivery.consumer_tag()), (&b"still here"[..], unaffected.tag()));
        delivery.ack().unwrap();
        assert!(unaffected.end().is_none());
        unaffected.cancel().await.unwrap();
        assert_eq!(oracle.queue_counts("other").await, Some((0, 0)));
    }
}
