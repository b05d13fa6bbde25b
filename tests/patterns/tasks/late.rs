//! Jobs with a ladder whose outcome comes too late, because the connection was lost.

use std::{sync::Arc, time::Duration};

use actix_pika::{
    Channel, DeclareQueue, Queue,
    retry::Retry,
    tasks::{Failure, Task, TaskConsumer},
};
use tokio::sync::Semaphore;

use super::{Job, Reports, publish, reports};
use crate::support::{
    proxy::{Cut, Direction},
    robust_connection::RobustConnection,
    until_unsettled, within,
};

/// Attempt of a run, and whether its message was redelivered.
type Run = (u32, bool);

/// A consumer whose first runs fail when the test lets them.
struct Stage {
    robust: RobustConnection,
    channel: Channel,
    gate: Arc<Semaphore>,
    reports: Reports<Run>,
    _consumer: TaskConsumer,
}

async fn consume(
    queue: &Queue,
    gate: Arc<Semaphore>,
    fails: fn() -> Failure,
) -> (TaskConsumer, Reports<Run>) {
    let (report, reports) = reports();
    let handle = move |job: Task<Job>| {
        let (report, gate) = (report.clone(), gate.clone());
        async move {
            report.send((job.attempt(), job.redelivered()))?;
            if job.attempt() > 1 {
                return if job.redelivered() { Ok(()) } else { Err(Failure::requeue("again")) };
            }
            gate.acquire().await?.forget();
            report.send((0, false))?;
            Err(fails())
        }
    };
    let ladder = Retry::ladder(&[Duration::from_millis(200)]);
    let tasks = queue.tasks::<Job>().at_once(4).retry(ladder);
    (within("the consumer", 20, tasks.for_each(handle)).await.unwrap(), reports)
}

impl Stage {
    async fn new(fails: fn() -> Failure) -> Self {
        let robust = RobustConnection::connect().await;
        let channel = robust.channel().await;
        let ladder = Retry::ladder(&[Duration::from_millis(200)]);
        let declare = channel.declare_jobs(DeclareQueue::new("jobs").quorum(), &ladder);
        let queue = within("the queues", 20, declare).await.unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let (consumer, mut reports) = consume(&queue, gate.clone(), fails).await;
        publish(&channel, [1]).await;
        assert_eq!(reports.next().await, (1, false));
        Self { robust, channel, gate, reports, _consumer: consumer }
    }

    /// Lets a run fail.
    async fn fail(&mut self) {
        self.gate.add_permits(1);
        assert_eq!(self.reports.next().await, (0, false));
    }

    /// Waits until nothing is left but dead letters.
    async fn until_nothing_is_left(self, dead: u32) {
        until_unsettled(&self.channel, 0).await;
        let oracle = self.robust.oracle().await;
        within("a close", 10, self.robust.connection.close()).await.unwrap();
        oracle.wait_for_count("jobs.dead", dead).await;
        assert_eq!((oracle.count("jobs").await, oracle.count("jobs.retry.200").await), (0, 0));
        assert!(self.reports.is_empty());
    }
}

/// TSK-104: the connection is lost before the copy in the ladder is confirmed. The outcome comes too late: what the broker
/// delivers again does not run. The copy does, also when it is redelivered, with the same id and body.
#[actix::test]
async fn a_copy_with_another_attempt_runs() {
    let mut stage = Stage::new(|| Failure::retry("busy")).await;
    stage.robust.proxy.stall(Direction::ToBroker);
    stage.fail().await;
    stage.robust.proxy.cut_all(Cut::Rst);
    stage.robust.wait_for_loss().await;
    stage.robust.proxy.resume(Direction::ToBroker);
    stage.robust.wait_for_recovery().await;
    assert_eq!(stage.reports.take(2).await, [(2, false), (2, true)]);
    stage.until_nothing_is_left(0).await;
}

/// TSK-105: a task that fails after its delivery was lost leaves the ladder to what the broker delivers again. If that
/// comes to the same consumer, it goes to the ladder, or to the dead letters, without a run.
#[actix::test]
async fn a_late_failure_is_that_of_the_copy() {
    let mut stage = Stage::new(|| Failure::retry("busy")).await;
    stage.robust.cut_and_recover().await;
    until_unsettled(&stage.channel, 1).await;
    stage.fail().await;
    assert_eq!(stage.reports.take(2).await, [(2, false), (2, true)]);
    stage.until_nothing_is_left(0).await;

    let mut stage = Stage::new(|| Failure::reject("never")).await;
    stage.robust.cut_and_recover().await;
    until_unsettled(&stage.channel, 1).await;
    stage.fail().await;
    stage.until_nothing_is_left(1).await;
}

/// TSK-106: what a consumer has failed with too late leaves no copy, if another consumer gets the message.
#[actix::test]
async fn a_late_failure_publishes_nothing() {
    let mut stage = Stage::new(|| Failure::retry("busy")).await;
    stage.robust.disconnect().await;
    let connection = within("connect", 10, actix_pika::connect(&stage.robust.vhost.url())).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let other = channel.queue("jobs");
    let (_other, mut reports) = consume(&other, gate, || Failure::retry("busy")).await;
    assert_eq!(reports.next().await, (1, true));
    stage.fail().await;
    stage.robust.proxy.accept_new().await;
    stage.robust.wait_for_recovery().await;
    // All channels have recovered: a copy would come before the confirm of this one.
    publish(&stage.channel, [2]).await;
    let oracle = stage.robust.oracle().await;
    assert_eq!(oracle.count("jobs.retry.200").await, 0);
}

/// TSK-107: a message that was rejected too late, and returns by dead-lettering with the same id and body, runs again.
#[actix::test]
async fn a_message_that_returns_by_dead_lettering_runs() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let pause = DeclareQueue::new("pause").quorum().message_ttl(Duration::from_millis(200));
    let pause = pause.dead_letter_exchange("").dead_letter_routing_key("jobs");
    let jobs = DeclareQueue::new("jobs").quorum().dead_letter_exchange("").dead_letter_routing_key("pause");
    within("a queue", 10, channel.declare_queue(pause)).await.unwrap();
    let queue = within("a queue", 10, channel.declare_queue(jobs)).await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let (report, mut reports) = reports();
    let handlers_gate = gate.clone();
    let handle = move |job: Task<Job>| {
        let (report, gate) = (report.clone(), handlers_gate.clone());
        async move {
            let returned = job.content().properties().unwrap().header("x-death").is_some();
            report.send((returned, job.redelivered()))?;
            if returned {
                return if job.redelivered() { Ok(()) } else { Err(Failure::requeue("again")) };
            }
            gate.acquire().await?.forget();
            Err(Failure::reject("later"))
        }
    };
    let _consumer = within("the consumer", 20, queue.for_each(4, handle)).await.unwrap();
    publish(&channel, [1]).await;
    assert_eq!(reports.next().await, (false, false));
    robust.cut_and_recover().await;
    until_unsettled(&channel, 1).await;
    gate.add_permits(1);
    let line = robust.vhost.broker().line().await;
    if !line.redelivers_dead_letters() {
        assert_eq!(reports.next().await, (true, false));
    }
    assert_eq!(reports.next().await, (true, true));
    until_unsettled(&channel, 0).await;
    assert!(reports.is_empty());
    robust.oracle().await.wait_for_count("jobs", 0).await;
}
