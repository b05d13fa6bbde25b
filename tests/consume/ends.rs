//! How consumers end, who is told, and workers that are built again.

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

/// Passes every delivery on, and ends as it is told.
struct Worker {
    to: mpsc::UnboundedSender<Delivery>,
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
                panic!("the work fails (as it should in this test)");
            }
            _ => {
                let _ = self.to.send(delivery);
            }
        }
    }
}

crate::modes! {
    /// CNS-03: whoever waits for the end of a consumer learns why it ended.
    async fn the_end_of_a_consumer_is_told_with_its_reason(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let (to, _deliveries) = mpsc::unbounded_channel();
        let worker = Worker { to }.start();
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
        bench.channel.default_exchange().publish("for nobody", "q").await.unwrap();
        assert!(matches!(consumer.ended().await, ConsumerEnd::TargetGone));

        let (to, _deliveries) = mpsc::unbounded_channel();
        let consumer = queue.consume(Worker { to }.start()).await.unwrap();
        bench.channel.get_queue("nothing").await.unwrap_err();
        let ConsumerEnd::Closed(cause) = consumer.ended().await else { panic!("{:?}", consumer.end()) };
        assert_eq!(cause.close_reason().unwrap().code, 404);
    }

    /// CNS-14: draining waits for what the application holds, and tells when that takes too long.
    async fn draining_waits_for_what_is_held(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let (to, mut deliveries) = mpsc::unbounded_channel();
        let consumer = queue.consume(Worker { to }.start()).await.unwrap();
        bench.channel.default_exchange().publish("x", "q").await.unwrap();
        let held = deliveries.recv().await.expect("a delivery");
        let late = consumer.drain(Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        assert!(matches!(consumer.end(), Some(ConsumerEnd::Cancelled)));
        assert!(!held.is_stale(), "what is held can still be settled");
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

    /// A worker that stops or panics is built again, the consumer goes on, and nothing is lost.
    async fn a_worker_that_ends_is_built_again(bench: Bench) {
        let graveyard = bench.channel.declare_queue("graveyard").await.unwrap();
        let declare = DeclareQueue::new("q").dead_letter_exchange("").dead_letter_routing_key("graveyard");
        let queue = bench.channel.declare_queue(declare).await.unwrap();
        let (to, mut deliveries) = mpsc::unbounded_channel();
        let built = Arc::new(AtomicUsize::new(0));
        let consumer = queue
            .consume_supervised(Consume::new().prefetch(10), {
                let built = built.clone();
                move || {
                    built.fetch_add(1, Ordering::SeqCst);
                    Worker { to: to.clone() }
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
        let dead = crate::support::eventually("the poison is dead", 10, async || graveyard.get().await.unwrap()).await;
        assert_eq!(dead.body(), b"panic");
        dead.ack().unwrap();
        crate::support::eventually("three were built", 10, async || {
            bench.channel.default_exchange().publish("x", "q").await.unwrap();
            (built.load(Ordering::SeqCst) == 3).then_some(())
        })
        .await;
        assert!(consumer.end().is_none());
        consumer.cancel().await.unwrap();
        assert!(matches!(consumer.ended().await, ConsumerEnd::Cancelled));
        assert_eq!(bench.vhost.consumers("q").await.len(), 0);
    }

    /// A factory that panics ends its consumer, and what it had goes back.
    async fn a_factory_that_panics_ends_its_consumer(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        bench.channel.default_exchange().publish("stop", "q").await.unwrap();
        bench.channel.default_exchange().publish("kept", "q").await.unwrap();
        let mut built = 0;
        let (to, _deliveries) = mpsc::unbounded_channel();
        let options = Consume::new().prefetch(1);
        let consumer = queue
            .consume_supervised(options, move || {
                built += 1;
                assert!(built == 1, "the factory fails (as it should in this test)");
                Worker { to: to.clone() }
            })
            .await
            .unwrap();
        let end = within("it ends", 20, consumer.ended()).await;
        assert!(matches!(end, ConsumerEnd::TargetGone), "{end:?}");
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let kept = crate::support::eventually("it is back", 10, || oracle.get("q")).await;
        assert_eq!(kept.data, b"kept");
    }

    /// CNS-05: the broker tells of a lost consumer only where the client has said that it wants to hear of it, which
    /// ours does unless the application says otherwise.
    async fn the_end_of_a_consumer_is_told_to_who_asked_for_it(bench: Bench) {
        let oracle = bench.fill_queue("q", []).await;
        let silent = Table::new().with("consumer_cancel_notify", false);
        let deaf = RecordedConnection::open_with(&bench, |connector| connector.client_property("capabilities", silent)).await;
        let listens = RecordedConnection::open(&bench).await;
        let probe = Probe::<Delivery>::start();
        let unaware = deaf.channel.queue("q").consume(probe.recipient()).await.unwrap();
        let consumer = listens.channel.queue("q").consume(probe.recipient()).await.unwrap();
        oracle.channel().queue_delete("q".into(), Default::default()).await.unwrap();
        assert!(matches!(within("the notice", 10, consumer.ended()).await, ConsumerEnd::CancelledByBroker));
        // The broker would have said so before this answer.
        for _ in 0..2 {
            deaf.flush().await;
        }
        assert!(unaware.end().is_none(), "{:?}", unaware.end());
        let cancels = |recorded: &RecordedConnection| {
            let tapes = recorded.proxy.recordings();
            tapes.iter().flat_map(|tape| tape.frames(Direction::ToClient)).filter(|f| f.method() == Some((60, 30))).count()
        };
        assert_eq!((cancels(&deaf), cancels(&listens)), (0, 1));
        // To cancel what is not there any more is fine.
        unaware.cancel().await.unwrap();
        assert!(matches!(unaware.end(), Some(ConsumerEnd::Cancelled)));
    }

    /// CNS-12: a cancel right behind the consume, with 100 messages queued: nothing is left of the consumer here or at
    /// the broker, and the messages are in the queue.
    async fn a_cancel_right_behind_the_consume_leaves_nothing(bench: Bench) {
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
            // What had been handed on before the cancel-ok is the application's.
            for delivery in probe.drain().await {
                delivery.nack(true).unwrap();
            }
            recorded.flush().await;
            assert_eq!(recorded.channel.load().unsettled, 0);
            assert_eq!(oracle.queue_counts("q").await, Some((100, 0)));
            assert_eq!(ends.count().await, 1);
        }
        let bodies = oracle.drain_bodies("q").await;
        assert_eq!(bodies, (0..100).map(|n| format!("{n:02}").into_bytes()).collect::<Vec<_>>());
    }

    /// CNS-17: a queue that is deleted takes its own consumers along, on whatever channel, and no other.
    async fn a_deleted_queue_takes_only_its_own_consumers_along(bench: Bench) {
        let oracle = bench.fill_queue("one", []).await;
        oracle.declare_queue("other").await;
        let mut probe = Probe::<Delivery>::start();
        let elsewhere = bench.another_channel().await;
        let first = bench.channel.queue("one").consume(probe.recipient()).await.unwrap();
        let second = elsewhere.queue("one").consume(probe.recipient()).await.unwrap();
        let stays = bench.channel.queue("other").consume(probe.recipient()).await.unwrap();
        oracle.channel().queue_delete("one".into(), Default::default()).await.unwrap();
        for consumer in [&first, &second] {
            assert!(matches!(within("the end", 10, consumer.ended()).await, ConsumerEnd::CancelledByBroker));
        }
        oracle.publish("", "other", "still here").await;
        let delivery = probe.next().await.unwrap();
        assert_eq!((delivery.body(), delivery.consumer_tag()), (&b"still here"[..], stays.tag()));
        delivery.ack().unwrap();
        assert!(stays.end().is_none());
        stays.cancel().await.unwrap();
        assert_eq!(oracle.queue_counts("other").await, Some((0, 0)));
    }
}
