//! Batches of deliveries, and paused consumers.

use std::time::{Duration, Instant};

use crate::support::oracle::Oracle;
use actix::prelude::*;
use actix_pika::{
    Channel, Consume, DeclareQueue, Delivery, ErrorKind, Queue, message::PauseConsumer, stream::DeliveryBatch,
};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

/// Declares the queue "q" and publishes the bodies "0" to `count - 1`.
async fn fill_queue(channel: &Channel, count: usize) -> Queue {
    let queue = channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
    for n in 0..count {
        channel.default_exchange().publish(n.to_string(), "q").await.unwrap();
    }
    // The reply to this call follows the publishes.
    channel.get_queue("q").await.unwrap();
    queue
}

fn bodies(batch: &DeliveryBatch) -> Vec<usize> {
    batch.iter().map(|d| std::str::from_utf8(d.body()).unwrap().parse().unwrap()).collect()
}

/// Sends each delivery to a channel.
struct Forwarder(mpsc::UnboundedSender<Delivery>);

impl Actor for Forwarder {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Forwarder {
    type Result = ();
    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        let _ = self.0.send(delivery);
    }
}

crate::modes! {
    /// A full batch is returned at once, a partial one after the time limit, in order; `ack_all` settles a batch.
    async fn batches_end_by_size_and_by_time(bench: Bench) {
        let queue = fill_queue(&bench.channel, 25).await;
        let deliveries = queue.deliveries_with(Consume::new().prefetch(100)).await.unwrap();
        let mut batches = deliveries.batches(10, Duration::from_secs(1));
        let first = batches.next().await.expect("a batch");
        assert_eq!(bodies(&first), (0..10).collect::<Vec<_>>());
        first.ack_all().unwrap();
        let second = batches.next().await.expect("a batch");
        assert_eq!(bodies(&second), (10..20).collect::<Vec<_>>());
        let started = Instant::now();
        let third = batches.next().await.expect("a batch");
        assert_eq!(bodies(&third), (20..25).collect::<Vec<_>>());
        assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
        third.nack_all(true).unwrap();
        second.ack_all().unwrap();
        let again = batches.next().await.expect("a batch");
        assert!(again.iter().all(Delivery::redelivered) && again.len() == 5);
        again.ack_all().unwrap();
        batches.close().await.unwrap();
        bench.channel.close().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!(oracle.count("q").await, 0);
    }

    /// Dropping the wait for a batch loses no delivery; a batch that is dropped unsettled is requeued.
    async fn dropping_the_wait_for_a_batch_loses_nothing(bench: Bench) {
        let queue = fill_queue(&bench.channel, 5).await;
        let deliveries = queue.deliveries_with(Consume::new().prefetch(100)).await.unwrap();
        let mut batches = deliveries.batches(10, LONG);
        crate::support::eventually("five deliveries", 10, || {
            assert!(batches.next().now_or_never().is_none(), "neither full nor over the time limit");
            std::future::ready((bench.channel.load().unsettled == 5).then_some(()))
        })
        .await;
        for n in 5..10 {
            bench.channel.default_exchange().publish(n.to_string(), "q").await.unwrap();
        }
        let batch = batches.next().await.expect("a batch");
        assert_eq!(bodies(&batch), (0..10).collect::<Vec<_>>());
        drop(batch);
        let again = batches.next().await.expect("a batch");
        assert!(again.len() == 10 && again.iter().all(Delivery::redelivered));
        drop(again);
        batches.close().await.unwrap();
        bench.channel.close().await.unwrap();
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        oracle.wait_for_count("q", 10).await;
    }

    /// CNS-09: when the channel closes, the batches end and their deliveries are stale.
    async fn batches_end_with_their_channel(bench: Bench) {
        let queue = fill_queue(&bench.channel, 3).await;
        let mut batches = queue.deliveries().await.unwrap().batches(3, LONG);
        let batch = batches.next().await.expect("a batch");
        bench.channel.close().await.unwrap();
        assert!(batches.next().await.is_none());
        assert!(batches.end().is_some());
        assert!(matches!(
            batch.ack_all().unwrap_err().kind(),
            ErrorKind::StaleDelivery | ErrorKind::ChannelClosed
        ));
    }

    /// An actor can handle batches as a stream.
    async fn an_actor_handles_batches(bench: Bench) {
        struct Worker(mpsc::UnboundedSender<usize>);
        impl Actor for Worker {
            type Context = Context<Self>;
        }
        impl StreamHandler<DeliveryBatch> for Worker {
            fn handle(&mut self, batch: DeliveryBatch, _: &mut Self::Context) {
                let _ = self.0.send(batch.len());
                batch.ack_all().unwrap();
            }
        }
        let queue = fill_queue(&bench.channel, 7).await;
        let batches = queue.deliveries().await.unwrap().batches(3, SHORT);
        let (sender, mut sizes) = mpsc::unbounded_channel();
        Worker::create(|ctx| {
            ctx.add_stream(batches);
            Worker(sender)
        });
        let mut seen = 0;
        while seen < 7 {
            let size = sizes.recv().await.expect("a batch");
            assert!((1..=3).contains(&size));
            seen += size;
        }
    }

    /// A paused consumer delivers nothing and receives up to its prefetch; `resume` delivers from where it stopped.
    async fn a_paused_consumer_receives_up_to_its_prefetch(bench: Bench) {
        let queue = fill_queue(&bench.channel, 0).await;
        let (sender, mut deliveries) = mpsc::unbounded_channel();
        let forwarder = Forwarder(sender).start().recipient();
        let consumer = queue.consume_with(Consume::new().prefetch(5), forwarder).await.unwrap();
        consumer.pause().await.unwrap();
        for n in 0..8 {
            bench.channel.default_exchange().publish(n.to_string(), "q").await.unwrap();
        }
        crate::support::until_unsettled(&bench.channel, 5).await;
        tokio::time::sleep(SHORT).await;
        assert!(deliveries.try_recv().is_err());
        consumer.resume().await.unwrap();
        for n in 0..8 {
            let delivery = deliveries.recv().await.expect("a delivery");
            assert_eq!(delivery.body(), n.to_string().as_bytes());
            assert!(!delivery.redelivered());
            delivery.ack().unwrap();
        }
        consumer.pause().await.unwrap();
        consumer.cancel().await.unwrap();
        let error = bench.channel.actor().send(PauseConsumer::resume(consumer.tag())).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.close_reason()), (ErrorKind::Refused, None));
    }

    /// The messages that a paused `no_ack` consumer received are all delivered after `resume`.
    async fn a_paused_no_ack_consumer_loses_nothing(bench: Bench) {
        let queue = fill_queue(&bench.channel, 0).await;
        let (sender, mut deliveries) = mpsc::unbounded_channel();
        let forwarder = Forwarder(sender).start().recipient();
        let consumer = queue.consume_with(Consume::new().no_ack(true), forwarder).await.unwrap();
        for round in 0..3 {
            consumer.pause().await.unwrap();
            for n in 0..400 {
                bench.channel.default_exchange().publish(format!("{round}-{n}"), "q").await.unwrap();
            }
            // The reply to this call follows the deliveries, since the consumer is fast.
            bench.channel.get_queue("q").await.unwrap();
            assert!(deliveries.try_recv().is_err());
            consumer.resume().await.unwrap();
            for n in 0..400 {
                let delivery = deliveries.recv().await.expect("a delivery");
                assert_eq!(delivery.body(), format!("{round}-{n}").as_bytes());
            }
        }
    }
}
