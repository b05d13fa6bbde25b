//! The guard over the work on a delivery.

use crate::support::oracle::Oracle;
use actix::prelude::*;
use actix_pika::{Channel, Consume, DeclareQueue, Delivery, ErrorKind, Queue, Requeue};
use futures_util::StreamExt;
use tokio::sync::mpsc;

async fn queue_with(channel: &Channel, bodies: &[&str]) -> Queue {
    channel.declare_queue("graveyard").await.unwrap();
    let declare = DeclareQueue::new("q").dead_letter_exchange("").dead_letter_routing_key("graveyard");
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
    /// ACK-11: work that is done is acknowledged, once.
    async fn done_acknowledges(bench: Bench) {
        let queue = queue_with(&bench.channel, &["x"]).await;
        let work = take(&queue).await.process(Requeue::Yes);
        assert_eq!((work.body(), work.redelivered()), (&b"x"[..], false));
        work.done().unwrap();
        bench.channel.close().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!((oracle.count("q").await, oracle.count("graveyard").await), (0, 0));
    }

    /// ACK-10: work that ends in an error goes back where the policy says so, and the error goes on.
    async fn failing_work_is_requeued(bench: Bench) {
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

    /// ACK-10: without requeue it is dead-lettered; once-then-drop does either, in this order.
    async fn the_policy_decides(bench: Bench) {
        let queue = queue_with(&bench.channel, &["drop"]).await;
        let graveyard = bench.channel.queue("graveyard");
        drop(take(&queue).await.process(Requeue::No));
        let dead = take(&graveyard).await;
        assert_eq!(dead.body(), b"drop");
        dead.ack().unwrap();

        bench.channel.default_exchange().publish("once", "q").await.unwrap();
        drop(take(&queue).await.process(Requeue::OnceThenDrop));
        let again = take(&queue).await;
        assert!(again.redelivered());
        drop(again.process(Requeue::OnceThenDrop));
        let dead = take(&graveyard).await;
        assert_eq!(dead.body(), b"once");
        dead.ack().unwrap();

        bench.channel.default_exchange().publish("fail", "q").await.unwrap();
        take(&queue).await.process(Requeue::No).fail().unwrap();
        let dead = take(&graveyard).await;
        assert_eq!(dead.body(), b"fail");
        dead.ack().unwrap();
    }

    /// ACK-12: settling inside takes the guard, so that it cannot be settled again.
    async fn settling_inside_is_the_last_word(bench: Bench) {
        let queue = queue_with(&bench.channel, &["refused", "kept"]).await;
        take(&queue).await.process(Requeue::Yes).reject(false).unwrap();
        let kept = take(&queue).await.process(Requeue::No).into_delivery();
        assert_eq!(kept.body(), b"kept");
        drop(kept);
        let kept = take(&queue).await;
        assert!(kept.redelivered(), "unguarded again, it goes back");
        kept.ack().unwrap();
        let dead = take(&bench.channel.queue("graveyard")).await;
        assert_eq!(dead.body(), b"refused");
        dead.ack().unwrap();
    }

    /// ACK-10: a handler that panics at work refuses what it worked on by the policy; what waited in its mailbox goes
    /// back into the queue.
    async fn a_panic_refuses_by_the_policy(bench: Bench) {
        struct Worker(mpsc::UnboundedSender<()>);
        impl Actor for Worker {
            type Context = Context<Self>;
        }
        impl Handler<Delivery> for Worker {
            type Result = ();
            fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
                let _work = delivery.process(Requeue::No);
                let _ = self.0.send(());
                panic!("the work fails (as it should in this test)");
            }
        }
        let queue = queue_with(&bench.channel, &["poison", "next"]).await;
        let (began, mut begins) = mpsc::unbounded_channel();
        let arbiter = Arbiter::new();
        let worker = Worker::start_in_arbiter(&arbiter.handle(), |_| Worker(began));
        queue.consume_with(Consume::new().prefetch(2), worker.recipient()).await.unwrap();
        begins.recv().await.expect("it began");
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        let dead = crate::support::eventually("it is dead", 10, || oracle.get("graveyard")).await;
        assert_eq!(dead.data, b"poison");
        let next = crate::support::eventually("the next one is back", 20, || oracle.get("q")).await;
        assert_eq!(next.data, b"next");
    }

    /// CH-30: the channel dies under the work: `done` says so, and the message comes again on the next channel.
    async fn a_channel_that_dies_under_the_work_is_told(bench: Bench) {
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
