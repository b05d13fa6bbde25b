//! Consumers of a quorum queue of jobs that stop and start again and again: no job is lost, and none that has not failed
//! is a dead letter.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::prelude::*;
use actix_pika::{
    Channel, Connection, DeclareQueue, Queue,
    message::Properties,
    retry::Retry,
    tasks::{Done, Task, TaskConsumer, Tasks},
    worker::SupervisedWorker,
};
use tokio::sync::{Semaphore, mpsc::UnboundedSender};

use super::{Job, Reports, publish, reports};
use crate::{
    ends_when_told,
    support::{
        broker::{Line, Vhost},
        eventually,
        oracle::Oracle,
        robust_connection::RobustConnection,
        until_unsettled, within,
    },
    worker::{End, WorkerEvents},
};

const JOBS: u32 = 300;
const ROUNDS: u32 = 25;
const AT_ONCE: usize = 4;
const PREFETCH: usize = 12;

/// How many jobs end in each round, at least.
const ENDS: usize = 8;

fn ladder() -> Retry {
    Retry::ladder(&[Duration::from_millis(200)])
}

fn tasks(queue: &Queue) -> Tasks<Job> {
    queue.tasks::<Job>().at_once(AT_ONCE).prefetch(PREFETCH as u16).retry(ladder())
}

async fn declare(channel: &Channel) -> Queue {
    let ladder = ladder();
    let jobs = channel.declare_jobs(DeclareQueue::new("jobs").quorum(), &ladder);
    within("the queues", 20, jobs).await.unwrap()
}

/// A job that was done.
#[derive(Debug)]
struct Ended {
    id: u32,
    attempt: u32,
    /// How many times the broker has counted that the message returned.
    returns: i64,
}

impl Ended {
    fn of(job: &Task<Job>) -> Self {
        let properties = job.content().properties().unwrap();
        assert!(properties.header("retry-attempt").is_none(), "{} has not failed", job.id);
        Self { id: job.id, attempt: job.attempt(), returns: returns(properties) }
    }
}

fn returns(properties: &Properties) -> i64 {
    properties.header("x-delivery-count").and_then(|count| count.as_i64()).unwrap_or(0)
}

/// Handles jobs: each waits for a permit, and is reported.
#[derive(Clone)]
struct Worker {
    gate: Arc<Semaphore>,
    report: UnboundedSender<Ended>,
}

impl Worker {
    async fn handle(self, job: Task<Job>) -> Done {
        self.gate.acquire().await?.forget();
        self.report.send(Ended::of(&job))?;
        Ok(())
    }
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Task<Job>> for Worker {
    type Result = ResponseActFuture<Self, Done>;

    fn handle(&mut self, job: Task<Job>, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.clone().handle(job).into_actor(self))
    }
}

ends_when_told!(Worker);

/// Gives permits to jobs, and counts how often each has ended.
struct Ledger {
    worker: Worker,
    reports: Reports<Ended>,
    ends: BTreeMap<u32, u32>,
    /// Whether the broker may count that messages return.
    counts: bool,
}

impl Ledger {
    fn new(counts: bool) -> Self {
        let (report, reports) = reports();
        let worker = Worker { gate: Arc::new(Semaphore::new(0)), report };
        Self { worker, reports, ends: BTreeMap::new(), counts }
    }

    /// Starts a consumer that handles jobs by a closure.
    async fn consume(&self, queue: &Queue) -> TaskConsumer {
        let worker = self.worker.clone();
        let consumer = tasks(queue).for_each(move |job| worker.clone().handle(job));
        within("the consumer", 20, consumer).await.unwrap()
    }

    /// Lets `n` jobs end, and waits until they have.
    async fn end(&mut self, n: usize) {
        self.worker.gate.add_permits(n);
        self.take(n).await;
    }

    async fn take(&mut self, n: usize) {
        for ended in self.reports.take(n).await {
            assert_eq!(ended.attempt, 1, "{ended:?}");
            assert!(self.counts || ended.returns == 0, "{ended:?}");
            *self.ends.entry(ended.id).or_default() += 1;
        }
    }

    /// Lets all jobs end that are left.
    async fn end_all(&mut self) {
        self.worker.gate.add_permits(10 * JOBS as usize);
        while self.ends.len() < JOBS as usize {
            self.take(1).await;
        }
        assert!(self.ends.keys().copied().eq(1..=JOBS));
    }
}

async fn until_all_empty(oracle: &Oracle) {
    let counts = async || {
        let mut counts = [0; 3];
        for (count, queue) in counts.iter_mut().zip(["jobs", "jobs.retry.200", "jobs.dead"]) {
            *count = oracle.queue_counts(queue).await.unwrap().0;
        }
        counts
    };
    eventually("no job that is ready", 20, async || (counts().await[0] == 0).then_some(())).await;
    assert_eq!(counts().await, [0, 0, 0]);
}

struct Stage {
    vhost: Vhost,
    connection: Connection,
    channel: Channel,
    queue: Queue,
    oracle: Oracle,
    line: Line,
}

impl Stage {
    async fn new() -> Self {
        let vhost = Vhost::fresh().await;
        let connection = within("connect", 10, actix_pika::connect(&vhost.url())).await.unwrap();
        let channel = connection.channel().await.unwrap();
        let queue = declare(&channel).await;
        let oracle = Oracle::connect(&vhost.url()).await;
        let line = vhost.broker().line().await;
        Self { vhost, connection, channel, queue, oracle, line }
    }

    /// Closes the connection, so that what is not settled returns, and compares the numbers of messages.
    async fn until_nothing_is_left(self) {
        until_unsettled(&self.channel, 0).await;
        within("a close", 10, self.connection.close()).await.unwrap();
        until_all_empty(&self.oracle).await;
    }
}

/// TSK-100: a consumer is drained 25 times while it has jobs that run and jobs that have not begun. Each second limit is
/// too short. Each job is done once, in its first attempt, and there are no dead letters.
#[actix::test]
async fn many_drains_lose_nothing() {
    let stage = Stage::new().await;
    let mut ledger = Ledger::new(stage.line.nack_counts());
    publish(&stage.channel, 1..=JOBS).await;
    let mut left = JOBS as usize;
    for round in 0..ROUNDS {
        let consumer = ledger.consume(&stage.queue).await;
        ledger.end(ENDS).await;
        until_unsettled(&stage.channel, PREFETCH).await;
        let (limit, finished) = if round % 2 == 0 { (20, 0) } else { (10_000, AT_ONCE) };
        if finished > 0 {
            within("a stop", 10, consumer.stop()).await;
            ledger.end(finished).await;
        }
        let report = within("a drain", 15, consumer.drain(Duration::from_millis(limit))).await;
        let expected = (finished, PREFETCH - AT_ONCE, AT_ONCE - finished);
        assert_eq!((report.finished, report.given_back, report.abandoned), expected, "round {round}");
        left -= ENDS + finished;
        stage.oracle.wait_for_count("jobs", left as u32).await;
    }
    let consumer = ledger.consume(&stage.queue).await;
    ledger.end_all().await;
    assert!(ledger.ends.values().all(|ends| *ends == 1), "{:?}", ledger.ends);
    within("a drain", 15, consumer.drain(Duration::from_secs(10))).await;
    stage.until_nothing_is_left().await;
}

/// TSK-101: a job that runs at each drain, and one that has not begun, return each time. Where `basic.nack` counts toward
/// the delivery limit, the return after the 20th makes them dead letters; elsewhere they stay.
#[actix::test]
async fn a_drain_counts_toward_the_delivery_limit_where_a_nack_does() {
    let stage = Stage::new().await;
    publish(&stage.channel, 1..=2).await;
    let drains = if stage.line.nack_counts() { 21 } else { ROUNDS };
    for round in 0..drains {
        assert_eq!(stage.oracle.count("jobs.dead").await, 0, "round {round}");
        let (report, mut begun) = reports();
        let handle = move |job: Task<Job>| {
            report.send((job.attempt(), returns(job.content().properties().unwrap()))).unwrap();
            std::future::pending()
        };
        let tasks = stage.queue.tasks::<Job>().prefetch(2).retry(ladder());
        let consumer = within("the consumer", 20, tasks.for_each(handle)).await.unwrap();
        let expected = if stage.line.nack_counts() { i64::from(round) } else { 0 };
        assert_eq!(begun.next().await, (1, expected));
        until_unsettled(&stage.channel, 2).await;
        let report = within("a drain", 15, consumer.drain(Duration::ZERO)).await;
        assert_eq!((report.finished, report.given_back, report.abandoned), (0, 1, 1));
        assert!(begun.is_empty());
    }
    let (jobs, dead) = if stage.line.nack_counts() { (0, 2) } else { (2, 0) };
    stage.oracle.wait_for_count("jobs.dead", dead).await;
    stage.oracle.wait_for_count("jobs", jobs).await;
}

/// TSK-102: a worker ends 25 times by a panic or a stop while jobs run. Each job is done once, in its first attempt, and
/// there are no dead letters.
#[actix::test]
async fn many_restarts_of_a_worker_lose_nothing() {
    let stage = Stage::new().await;
    let mut ledger = Ledger::new(stage.line.nack_counts());
    publish(&stage.channel, 1..=JOBS).await;
    let mut restarts = 0;
    // Each worker is restarted five times: its pauses grow.
    while restarts < ROUNDS {
        let mut events = WorkerEvents::watch();
        let built = ledger.worker.clone();
        let worker = SupervisedWorker::new(move || built.clone())
            .feed(tasks(&stage.queue))
            .watch(events.watcher.clone());
        let worker = within("the worker", 20, worker.start()).await.unwrap();
        events.started().await;
        for restart in 0..5 {
            ledger.end(ENDS).await;
            until_unsettled(&stage.channel, PREFETCH).await;
            let end = if restart % 2 == 0 { End::Panic } else { End::Stop };
            worker.addr().unwrap().do_send(end);
            events.ended(matches!(end, End::Panic), true).await;
            events.started().await;
            restarts += 1;
        }
        let report = within("a drain", 15, worker.drain(Duration::from_millis(20))).await;
        let expected = (0, PREFETCH);
        assert_eq!((report.finished, report.given_back + report.abandoned), expected, "{report:?}");
    }
    let consumer = ledger.consume(&stage.queue).await;
    ledger.end_all().await;
    assert!(ledger.ends.values().all(|ends| *ends == 1), "{:?}", ledger.ends);
    within("a drain", 15, consumer.drain(Duration::from_secs(10))).await;
    stage.until_nothing_is_left().await;
}

/// TSK-103: the connection is cut 25 times while jobs run, which counts toward the delivery limit of every RabbitMQ. Each
/// job is done, in its first attempt, and there are no dead letters.
#[actix::test]
async fn many_reconnects_lose_nothing() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = declare(&channel).await;
    let mut ledger = Ledger::new(true);
    publish(&channel, 1..=JOBS).await;
    let consumer = ledger.consume(&queue).await;
    for _ in 0..ROUNDS {
        ledger.end(ENDS).await;
        robust.cut_and_recover().await;
    }
    ledger.end_all().await;
    until_unsettled(&channel, 0).await;
    let report = within("a drain", 15, consumer.drain(Duration::from_secs(10))).await;
    assert_eq!((report.given_back, report.abandoned), (0, 0));
    let oracle = robust.oracle().await;
    within("a close", 10, robust.connection.close()).await.unwrap();
    until_all_empty(&oracle).await;
}
