//! Handlers that drop or fail their deliveries: what they cost, and that nothing is lost.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::prelude::*;
use actix_pika::{Consume, DeclareQueue, Delivery, Requeue};
use tokio::time::Instant;

use super::{numbers, text};
use crate::support::{eventually, oracle::Oracle, recorded_connection::*, within};

/// How a handler fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Failure {
    Drop,
    DropGuard,
    Nack,
}

/// Fails every delivery, and notes its body.
struct Failing {
    failure: Failure,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Actor for Failing {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Failing {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        self.seen.lock().unwrap().push(text(&delivery));
        match self.failure {
            Failure::Drop => drop(delivery),
            Failure::DropGuard => drop(delivery.process(Requeue::Yes)),
            Failure::Nack => delivery.nack(true).unwrap(),
        }
    }
}

/// Counts the deliveries of 20 messages that all fail, until each has come five times, and returns the time that took.
async fn five_rounds(
    bench: &crate::support::modes::Bench,
    declare: DeclareQueue,
    failure: Failure,
) -> (usize, Duration) {
    let queue = bench.channel.declare_queue(declare).await.unwrap();
    within("20 publishes", 10, bench.channel.default_exchange().publish_all(numbers(20), "jobs"))
        .await
        .unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now();
    let worker = Failing { failure, seen: seen.clone() }.start();
    let consumer = queue.consume_with(Consume::new().prefetch(20), worker).await.unwrap();
    eventually("five rounds", 20, async || {
        let seen = seen.lock().unwrap();
        numbers(20).iter().all(|body| seen.iter().filter(|other| *other == body).count() >= 5).then_some(())
    })
    .await;
    let took = start.elapsed();
    within("the cancel", 10, consumer.cancel()).await.unwrap();
    let deliveries = seen.lock().unwrap().len();
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    oracle.wait_for_count("jobs", 20).await;
    let mut left = oracle.drain_bodies("jobs").await;
    left.sort_unstable();
    let mut expected: Vec<Vec<u8>> = numbers(20).into_iter().map(String::into_bytes).collect();
    expected.sort_unstable();
    assert_eq!(left, expected);
    (deliveries, took)
}

crate::modes! {
    /// CNS-20: a handler that drops every delivery gets each again later and later: the fifth time not before 0.7 s.
    /// The cancel returns at once what still waits.
    async fn dropped_deliveries_come_later_and_later(bench: Bench) {
        let (deliveries, took) = five_rounds(&bench, DeclareQueue::new("jobs"), Failure::Drop).await;
        assert!(took >= Duration::from_millis(700), "{took:?}");
        assert!(deliveries <= 20 * 6, "{deliveries} deliveries");
    }

    /// CNS-20: so does the guard of a delivery that fails, on a quorum queue too, which counts the failures.
    async fn failed_deliveries_come_later_and_later(bench: Bench) {
        let declare = DeclareQueue::new("jobs").quorum().delivery_limit(50);
        let (deliveries, took) = five_rounds(&bench, declare, Failure::DropGuard).await;
        assert!(took >= Duration::from_millis(700), "{took:?}");
        assert!(deliveries <= 20 * 6, "{deliveries} deliveries");
    }

    /// CNS-20: an explicit nack is the decision of the application, and is sent at once.
    async fn an_explicit_nack_does_not_wait(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        bench.channel.default_exchange().publish("again", "jobs").await.unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let worker = Failing { failure: Failure::Nack, seen: seen.clone() }.start();
        let consumer = queue.consume(worker).await.unwrap();
        eventually("100 deliveries", 20, async || (seen.lock().unwrap().len() >= 100).then_some(())).await;
        within("the cancel", 10, consumer.cancel()).await.unwrap();
    }

    /// CNS-20: what a handler has dropped is returned with `basic.reject`, which counts as a failure.
    async fn what_was_begun_is_rejected(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(1)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let queue = recorded.channel.queue("jobs");
        let mut deliveries = queue.deliveries().await.unwrap();
        for _ in 0..2 {
            drop(within("a delivery", 10, futures_util::StreamExt::next(&mut deliveries)).await.unwrap());
        }
        // The second one waits, and is unsettled meanwhile; the close of the stream returns it.
        assert_eq!(recorded.channel.load().unsettled, 1);
        within("the close", 10, deliveries.close()).await.unwrap();
        recorded.flush().await;
        let requeued = recorded.settle_frames();
        assert!(matches!(requeued[..], [
            SettleFrame::Reject { requeue: true, .. },
            SettleFrame::Reject { requeue: true, .. },
        ]), "{requeued:?}");
        oracle.wait_for_count("jobs", 1).await;
    }

    /// CNS-20: a dead letter is delivered for the first time in its queue, though RabbitMQ 4.3 marks it as redelivered:
    /// dropped once, it comes again at once, which the count of its quorum queue tells.
    async fn a_dead_letter_has_not_failed_yet(bench: Bench) {
        bench.channel.declare_queue(DeclareQueue::new("dead").quorum()).await.unwrap();
        let declare = DeclareQueue::new("jobs").dead_letter_exchange("").dead_letter_routing_key("dead");
        let queue = bench.channel.declare_queue(declare).await.unwrap();
        bench.channel.default_exchange().publish("0", "jobs").await.unwrap();
        let job = eventually("the job", 10, async || queue.get().await.unwrap()).await;
        job.reject(false).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let worker = Failing { failure: Failure::Drop, seen: seen.clone() }.start();
        let consumer = bench.channel.queue("dead").consume(worker).await.unwrap();
        eventually("the second delivery", 10, async || (seen.lock().unwrap().len() >= 2).then_some(())).await;
        within("the cancel", 10, consumer.cancel()).await.unwrap();
    }
}
