//! The end of a consumer that has more deliveries than its actor has begun.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::prelude::*;
use actix_pika::{Consume, Consumer, DeclareQueue, Delivery, Queue, Result, options::Unhandled};
use tokio::sync::Semaphore;

use super::{numbers, text};
use crate::support::{
    eventually, modes::Bench, oracle::Oracle, recorded_connection::*, until_unsettled, within,
};

/// What workers have begun, and what they have acknowledged. Each delivery needs a permit of the test.
#[derive(Clone)]
struct Log {
    begun: Arc<Mutex<Vec<String>>>,
    done: Arc<Mutex<Vec<String>>>,
    permits: Arc<Semaphore>,
}

impl Log {
    fn with_permits(permits: usize) -> Self {
        let permits = Arc::new(Semaphore::new(permits));
        Self { begun: Arc::default(), done: Arc::default(), permits }
    }

    fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    async fn wait_until_begun(&self, n: usize) {
        eventually("deliveries that are begun", 10, async || (self.begun().len() >= n).then_some(())).await;
    }
}

/// Handles one delivery after the other.
struct OneByOne(Log);

impl Actor for OneByOne {
    type Context = Context<Self>;
}

impl Handler<Delivery> for OneByOne {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) -> Self::Result {
        self.0.begun.lock().unwrap().push(text(&delivery));
        AtomicResponse::new(Box::pin(work(self.0.clone(), delivery).into_actor(self)))
    }
}

/// Begins every delivery at once.
struct AllAtOnce(Log);

impl Actor for AllAtOnce {
    type Context = Context<Self>;
}

impl Handler<Delivery> for AllAtOnce {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) -> Self::Result {
        self.0.begun.lock().unwrap().push(text(&delivery));
        Box::pin(work(self.0.clone(), delivery))
    }
}

async fn work(log: Log, delivery: Delivery) {
    log.permits.acquire().await.unwrap().forget();
    log.done.lock().unwrap().push(text(&delivery));
    delivery.ack().unwrap();
}

/// Fills "jobs" with 60 messages.
async fn jobs(bench: &Bench, declare: DeclareQueue) -> Queue {
    let queue = bench.channel.declare_queue(declare).await.unwrap();
    fill(bench).await;
    queue
}

async fn fill(bench: &Bench) {
    let exchange = bench.channel.default_exchange();
    within("60 publishes", 20, exchange.publish_all(numbers(60), "jobs")).await.unwrap();
}

async fn consume(queue: &Queue, worker: impl Into<Recipient<Delivery>>) -> Consumer {
    queue.consume_with(Consume::new().prefetch(60), worker).await.unwrap()
}

/// Waits for a drain. What was begun ends after the cancel, with this many permits.
async fn drain(drain: impl Future<Output = Result<()>>, consumer: &Consumer, log: &Log, permits: usize) {
    let finish = async {
        consumer.ended().await;
        log.permits.add_permits(permits);
    };
    let (drained, ()) = within("the drain", 20, async { tokio::join!(drain, finish) }).await;
    drained.unwrap();
}

async fn drain_while_three_are_handled(bench: Bench, declare: DeclareQueue) {
    let queue = jobs(&bench, declare).await;
    let log = Log::with_permits(2);
    let consumer = consume(&queue, OneByOne(log.clone()).start()).await;
    log.wait_until_begun(3).await;
    until_unsettled(&bench.channel, 58).await;
    drain(consumer.drain(Duration::from_secs(30)), &consumer, &log, 1).await;
    assert_eq!(log.begun(), log.done());
    assert_eq!(log.begun(), numbers(3));
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    oracle.wait_for_count("jobs", 57).await;
    let left = oracle.drain_bodies("jobs").await;
    let expected: Vec<Vec<u8>> = numbers(60).split_off(3).into_iter().map(String::into_bytes).collect();
    assert_eq!(left, expected);
}

crate::modes! {
    /// CNS-19: a drain waits for what was begun, and returns the rest to the queue, at its old place.
    async fn a_drain_returns_what_was_not_begun(bench: Bench) {
        drain_while_three_are_handled(bench, DeclareQueue::new("jobs")).await;
    }

    /// CNS-19: a quorum queue delivers it again in the order in which it was returned.
    async fn a_drain_returns_messages_of_a_quorum_queue_in_order(bench: Bench) {
        drain_while_three_are_handled(bench, DeclareQueue::new("jobs").quorum()).await;
    }

    /// CNS-19: with `Unhandled::Process`, the actor handles all that was delivered.
    async fn a_drain_can_process_everything(bench: Bench) {
        let queue = jobs(&bench, DeclareQueue::new("jobs")).await;
        let log = Log::with_permits(2);
        let consumer = consume(&queue, OneByOne(log.clone()).start()).await;
        log.wait_until_begun(3).await;
        drain(consumer.drain_with(Unhandled::Process, Duration::from_secs(30)), &consumer, &log, 58).await;
        assert_eq!(log.done(), numbers(60));
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        oracle.wait_for_count("jobs", 0).await;
    }

    /// CNS-19: a paused consumer is resumed for that.
    async fn a_paused_consumer_can_process_everything(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
        let log = Log::with_permits(60);
        let consumer = consume(&queue, OneByOne(log.clone()).start()).await;
        consumer.pause().await.unwrap();
        fill(&bench).await;
        until_unsettled(&bench.channel, 60).await;
        within("the drain", 20, consumer.drain_with(Unhandled::Process, Duration::from_secs(30))).await.unwrap();
        assert_eq!(log.done(), numbers(60));
    }

    /// CNS-19: a drain waits for all deliveries of an actor that has begun them all.
    async fn a_drain_waits_for_all_that_was_begun(bench: Bench) {
        let queue = jobs(&bench, DeclareQueue::new("jobs")).await;
        let log = Log::with_permits(0);
        let consumer = consume(&queue, AllAtOnce(log.clone()).start()).await;
        log.wait_until_begun(60).await;
        drain(consumer.drain(Duration::from_secs(30)), &consumer, &log, 60).await;
        assert_eq!(log.done().into_iter().collect::<BTreeSet<_>>().len(), 60);
    }

    /// CNS-19: what was not begun is returned with `basic.nack`, which RabbitMQ 4.3 does not count as a failure. It
    /// comes from the mailbox of an actor, from a stream, and from a target that has stopped.
    async fn what_was_not_begun_is_nacked(bench: Bench) {
        let queue = jobs(&bench, DeclareQueue::new("jobs")).await;
        drop(queue);
        let recorded = RecordedConnection::open(&bench).await;
        let queue = recorded.channel.queue("jobs");
        let log = Log::with_permits(0);
        let consumer = consume(&queue, OneByOne(log.clone()).start()).await;
        log.wait_until_begun(1).await;
        until_unsettled(&recorded.channel, 60).await;
        within("the cancel", 10, consumer.cancel()).await.unwrap();
        log.permits.add_permits(1);
        until_unsettled(&recorded.channel, 0).await;
        assert_eq!(log.begun(), numbers(1));

        let deliveries = queue.deliveries_with(Consume::new().prefetch(60)).await.unwrap();
        eventually("59 deliveries", 10, async || (deliveries.waiting() == 59).then_some(())).await;
        within("the close", 10, deliveries.close()).await.unwrap();
        recorded.flush().await;
        let frames = recorded.settle_frames();
        let nacks = frames.iter().filter(|frame| matches!(frame, SettleFrame::Nack { requeue: true, .. })).count();
        assert_eq!((nacks, frames.len()), (59 + 59, 59 + 59 + 1), "one was acknowledged");
    }
}

/// CNS-19: 25 drains in a row lose nothing of a quorum queue whose delivery limit is the default of the broker. Each
/// returns 20 messages that were not begun, and one is handled. Up to RabbitMQ 4.2 a returned message counts as
/// delivered, and 4.0 drops it after the 20th time, so that the limit is higher there.
#[actix::test]
async fn drains_lose_nothing_of_a_quorum_queue() {
    let bench = Bench::open(true).await;
    let counts_nacks = bench.vhost.broker().version().await < (4, 3);
    let declare = DeclareQueue::new("jobs").quorum();
    let declare = if counts_nacks { declare.delivery_limit(100) } else { declare };
    let queue = jobs(&bench, declare).await;
    let log = Log::with_permits(0);
    for round in 0..25 {
        let worker = OneByOne(log.clone()).start();
        let consumer = queue.consume_with(Consume::new().prefetch(21), worker).await.unwrap();
        log.wait_until_begun(round + 1).await;
        until_unsettled(&bench.channel, 21).await;
        drain(consumer.drain(Duration::from_secs(30)), &consumer, &log, 1).await;
    }
    let oracle = Oracle::connect(&bench.vhost.url()).await;
    oracle.wait_for_count("jobs", 35).await;
    let left = oracle.drain_bodies("jobs").await;
    let left = left.into_iter().map(|body| String::from_utf8(body).unwrap());
    let all: BTreeSet<String> = left.chain(log.done()).collect();
    assert_eq!(all.len(), 60);
}
