//! The handle of a consumer of tasks that runs in the background.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::control::{Control, Phase};
use crate::ConsumerEnd;

/// Handle of a consumer of tasks that runs on an arbiter: stops and drains it, and reports its end.
///
/// Dropping the handle does not stop the consumer. Clones are the same consumer.
///
/// **Over a reconnect**: the handle stays valid, and the consumer goes on.
///
/// # Examples
/// ```no_run
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Email { to: String }
/// # async fn send(email: &Email) -> std::io::Result<()> { Ok(()) }
/// # async fn run(mails: actix_pika::Queue) -> actix_pika::Result<()> {
/// use std::time::Duration;
/// use actix_pika::tasks::Task;
///
/// let consumer = mails.for_each(8, |email: Task<Email>| async move { Ok(send(&email).await?) }).await?;
/// // ... until the process has to end:
/// let report = consumer.drain(Duration::from_secs(20)).await;
/// println!("{} done, {} given back, {} cut off", report.finished, report.given_back, report.abandoned);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TaskConsumer {
    tag: Arc<str>,
    control: Arc<Control>,
}

/// What became of the tasks of a consumer that was drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// Tasks that had begun, and whose handlers ended in time.
    pub finished: usize,
    /// Messages that were delivered and not begun, or that waited for another try; they returned to the queue.
    pub given_back: usize,
    /// Tasks whose handlers did not end in time. Their messages returned to the queue; futures of closures were
    /// dropped.
    pub abandoned: usize,
}

impl DrainReport {
    /// Returns the report of what gives nothing back.
    pub(crate) fn of(finished: usize, abandoned: usize) -> Self {
        Self { finished, given_back: 0, abandoned }
    }

    /// Returns the sum of two reports.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            finished: self.finished + other.finished,
            given_back: self.given_back + other.given_back,
            abandoned: self.abandoned + other.abandoned,
        }
    }
}

impl TaskConsumer {
    pub(crate) fn new(tag: Arc<str>, control: Arc<Control>) -> Self {
        Self { tag, control }
    }

    /// Returns the consumer tag.
    ///
    /// **Over a reconnect**: it stays the same.
    ///
    /// # Examples
    /// ```no_run
    /// # fn print(consumer: actix_pika::tasks::TaskConsumer) {
    /// println!("{} takes tasks", consumer.tag());
    /// # }
    /// ```
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Stops taking tasks (`basic.cancel`). When it returns, no more begin; those that have begun still run.
    ///
    /// Messages that were delivered and not begun return to the queue, in order. Stopping twice is no error.
    ///
    /// **Over a reconnect**: a consumer that was stopped does not start again.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::tasks::TaskConsumer) {
    /// consumer.stop().await;
    /// # }
    /// ```
    pub async fn stop(&self) {
        let mut phase = self.control.watch();
        self.control.stop(None);
        let _ = phase.wait_for(|phase| !matches!(phase, Phase::Running)).await;
    }

    /// Stops taking tasks, and waits up to `limit` for those that have begun.
    ///
    /// At the limit, messages of tasks that still run return to the queue, futures of closures are dropped, and what
    /// actors answer is ignored. Draining again returns the same report; the earliest limit counts.
    ///
    /// A message returns to a quorum queue by `basic.nack`. Before RabbitMQ 4.3 this counts toward its delivery limit (20
    /// in a queue of [`declare_jobs`](crate::Channel::declare_jobs)), beyond which it is a dead letter; from 4.3 on it
    /// does not.
    ///
    /// **Over a reconnect**: a consumer that was drained does not start again.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::tasks::TaskConsumer) {
    /// let report = consumer.drain(std::time::Duration::from_secs(20)).await;
    /// assert_eq!(report.abandoned, 0);
    /// # }
    /// ```
    pub async fn drain(&self, limit: Duration) -> DrainReport {
        // Caps `limit`, so that the deadline cannot overflow.
        let limit = limit.min(Duration::from_secs(10 * 365 * 86_400));
        let phase = self.control.watch();
        self.control.stop(Some(Instant::now() + limit));
        Self::wait(phase).await.1
    }

    /// Waits until the consumer has ended, and returns why.
    ///
    /// | | |
    /// |---|---|
    /// | `Cancelled` | it was stopped or drained |
    /// | `TargetGone` | its actor, or the arbiter where it ran, has ended |
    /// | others | as for a [`Consumer`](crate::Consumer) |
    ///
    /// **Over a reconnect**: a reconnect does not end it.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(consumer: actix_pika::tasks::TaskConsumer) {
    /// println!("the consumer has ended: {:?}", consumer.ended().await);
    /// # }
    /// ```
    pub async fn ended(&self) -> ConsumerEnd {
        Self::wait(self.control.watch()).await.0
    }

    /// Returns why the consumer has ended, or `None` if it has not.
    ///
    /// # Examples
    /// ```no_run
    /// # fn is_running(consumer: actix_pika::tasks::TaskConsumer) -> bool {
    /// consumer.end().is_none()
    /// # }
    /// ```
    pub fn end(&self) -> Option<ConsumerEnd> {
        match &*self.control.watch().borrow() {
            Phase::Ended(end, _) => Some(end.clone()),
            Phase::Running | Phase::Stopped => None,
        }
    }

    /// Asks it to begin no more tasks.
    pub(crate) fn request_stop(&self) {
        self.control.stop(None);
    }

    /// Returns whether it takes tasks.
    pub(crate) fn is_running(&self) -> bool {
        matches!(&*self.control.watch().borrow(), Phase::Running)
    }

    async fn wait(mut phase: tokio::sync::watch::Receiver<Phase>) -> (ConsumerEnd, DrainReport) {
        match phase.wait_for(|phase| matches!(phase, Phase::Ended(..))).await.as_deref() {
            Ok(Phase::Ended(end, report)) => (end.clone(), *report),
            _ => (ConsumerEnd::TargetGone, DrainReport::default()),
        }
    }
}

impl fmt::Debug for TaskConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskConsumer").field("tag", &self.tag()).field("end", &self.end()).finish()
    }
}
