//! `Delivery::process`: a guard that settles a delivery by a policy.

use crate::support::oracle::Oracle;
use actix::prelude::*;
use actix_pika::{Channel, Consume, DeclareQueue, Delivery, ErrorKind, Queue, Requeue};
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// Declares "q", whose dead letters go to the queue "dead", and publishes `bodies`.
async fn queue_with(channel: &Channel, bodies: &[&str]) -> Queue {
    channel.declare_queue("dead").await.unwrap();
    let declare = DeclareQueue::new("q").dead_letter_exchange("").dead_letter_routing_key("dead");
    let queue = channel.declare_queue(declare).await.unwrap();
    for body in bodies {
        channel.default_exchange().publish(*body, "q").await.unwrap();
    }
    queue
}

async fn take(queue: &Queue) -> Delivery {
    crate::support::eventually("a message", 10, async || queue.get().await.unwrap()).await
}

crate::modes! {
    /// ACK-11: `done` acknowledges the delivery, once.
    async fn done_acknowledges_the_delivery(bench: Bench) {
        let queue = queue_with(&bench.channel, &["x"]).await;
        let work = take(&queue).await.process(Requeue::Yes);
        assert_eq!((work.body(), work.redelivered()), (&b"x"[..], false));
        work.done().unwrap();
        bench.channel.close().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!((oracle.count("q").await, oracle.count("dead").await), (0, 0));
    }

    /// ACK-10: with `Requeue::Yes`, a guard that is dropped by an early return requeues its delivery.
    async fn a_dropped_guard_requeues(bench: Bench) {
        let queue = queue_with(&bench.channel, &["x"]).await;
        let delivery = take(&queue).await;
        let work = async move {
            let work = delivery.process(Requeue::Yes);
            "no number".parse::<u32>()?;
            work.done().unwrap();
            Ok::<_, std::num::ParseIntError>(())
        };
        work.await.unwrap_err();
        let again = take(&queue).await;
        assert!(again.redelivered());
        again.ack().unwrap();
    }

    /// ACK-10: `Requeue::No` dead-letters; `OnceThenDrop` requeues the first time and dead-letters the second time.
    async fn a_dropped_guard_follows_its_policy(bench: Bench) {
        let queue = queue_with(&bench.channel, &["drop"]).await;
        let dead_letters = bench.channel.queue("dead");
        drop(take(&queue).await.process(Requeue::No));
        let dead = take(&dead_letters).await;
        assert_eq!(dead.body(), b"drop");
        dead.ack().unwrap();

        bench.channel.default_exchange().publish("once", "q").await.unwrap();
        drop(take(&queue).await.process(Requeue::OnceThenDrop));
        let again = take(&queue).await;
        assert!(again.redelivered());
        drop(again.process(Requeue::OnceThenDrop));
        let dead = take(&dead_letters).await;
        assert_eq!(dead.body(), b"once");
        dead.ack().unwrap();

        bench.channel.default_exchange().publish("fail", "q").await.unwrap();
        take(&queue).await.process(Requeue::No).fail().unwrap();
        let dead = take(&dead_letters).await;
        assert_eq!(dead.body(), b"fail");
        dead.ack().unwrap();
    }

    /// ACK-12: settling through the guard consumes it; `into_delivery` returns the delivery without a policy.
    async fn settling_through_the_guard_consumes_it(bench: Bench) {
        let queue = queue_with(&bench.channel, &["refused", "dropped"]).await;
        take(&queue).await.process(Requeue::Yes).reject(false).unwrap();
        let delivery = take(&queue).await.process(Requeue::No).into_delivery();
        assert_eq!(delivery.body(), b"dropped");
        drop(delivery);
        let delivery = take(&queue).await;
        assert!(delivery.redelivered(), "dropped without a guard, it is requeued");
        delivery.ack().unwrap();
        let dead = take(&bench.channel.queue("dead")).await;
        assert_eq!(dead.body(), b"refused");
        dead.ack().unwrap();
    }

    /// ACK-10: when a handler panics, its delivery is settled by the policy, and those in the mailbox are requeued.
    async fn a_panic_settles_by_the_policy(bench: Bench) {
        struct Worker(mpsc::UnboundedSender<()>);
        impl Actor for Worker {
            type Context = Context<Self>;
        }
        impl Handler<Delivery> for Worker {
            type Result = ();
            fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
                let _work = delivery.process(Requeue::No);
                let _ = self.0.send(());
                panic!("this handler panics on purpose");
            }
        }
        let queue = queue_with(&bench.channel, &["poison", "next"]).await;
        let (sender, mut started) = mpsc::unbounded_channel();
        let arbiter = Arbiter::new();
        let worker = Worker::start_in_arbiter(&arbiter.handle(), |_| Worker(sender));
        queue.consume_with(Consume::new().prefetch(2), worker.recipient()).await.unwrap();
        started.recv().await.expect("the handler runs");
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let dead = crate::support::eventually("the dead letter", 10, || oracle.get("dead")).await;
        assert_eq!(dead.data, b"poison");
        let next = crate::support::eventually("the next message is requeued", 20, || oracle.get("q")).await;
        assert_eq!(next.data, b"next");
    }

    /// CH-30: when the channel closes during the work, `done` returns the reason, and the message is redelivered.
    async fn done_after_a_channel_close_returns_the_reason(bench: Bench) {
        let queue = queue_with(&bench.channel, &["x"]).await;
        let mut deliveries = queue.deliveries().await.unwrap();
        let work = deliveries.next().await.expect("a delivery").process(Requeue::No);
        bench.channel.get_queue("nothing").await.unwrap_err();
        let error = work.done().unwrap_err();
        assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
        let again = take(&bench.another_channel().await.queue("q")).await;
        assert!(again.redelivered());
        again.process(Requeue::No).done().unwrap();
    }
}
