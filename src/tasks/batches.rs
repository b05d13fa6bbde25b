//! Tasks in batches: the builder, and what the handler of a batch returns.

use std::{fmt, future::Future, time::Duration};

use actix_pika_actors::facade;

use super::{Done, Failure, Task, TaskConsumer, Tasks, batch_front::BatchFront, builder::Order};
use crate::{ConsumerEnd, Result, codec::Codec};

/// Builds a consumer whose closure handles tasks in batches ([`Tasks::batches`]).
///
/// **Over a reconnect**: as for [`Tasks`].
///
/// # Examples
/// ```no_run
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Click { page: String }
/// # async fn insert(pages: Vec<String>) -> std::io::Result<()> { Ok(()) }
/// # async fn run(clicks: actix_pika::Queue) -> actix_pika::Result<()> {
/// use std::time::Duration;
/// use actix_pika::tasks::{Done, Task};
///
/// let batches = clicks.tasks::<Click>().batches(500, Duration::from_millis(200));
/// let consumer = batches
///     .for_each(|clicks: Vec<Task<Click>>| async move {
///         let pages = clicks.iter().map(|click| click.page.clone()).collect();
///         insert(pages).await?; // an error: all of them are tried again
///         Done::Ok(()) // all of them are acknowledged
///     })
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it is started"]
pub struct TaskBatches<T, C> {
    tasks: Tasks<T, C>,
    size: usize,
    wait: Duration,
}

/// What a batch of tasks has come to: one [`Done`] for all of them, or a `Vec` with one for each, in order.
///
/// A task for which the `Vec` has none has failed, and is tried again.
///
/// # Examples
/// ```
/// use actix_pika::tasks::{Done, Failure, Task};
///
/// async fn check(batch: Vec<Task<String>>) -> Vec<Done> {
///     let check = |text: &Task<String>| if text.is_empty() { Err(Failure::reject("empty")) } else { Ok(()) };
///     batch.iter().map(check).collect()
/// }
/// ```
pub trait BatchOutcome {
    /// Returns the outcome of each of `tasks` tasks.
    fn into_outcomes(self, tasks: usize) -> Vec<Done>;
}

impl BatchOutcome for Done {
    fn into_outcomes(self, tasks: usize) -> Vec<Done> {
        let failed = self.err().map(|failure| (failure.verdict(), failure.into_text()));
        let one = || match &failed {
            Some((verdict, cause)) => Err(Failure::new(*verdict, cause.as_str())),
            None => Ok(()),
        };
        (0..tasks).map(|_| one()).collect()
    }
}

impl BatchOutcome for Vec<Done> {
    fn into_outcomes(mut self, tasks: usize) -> Vec<Done> {
        self.resize_with(tasks, || {
            Err(Failure::retry("the handler of its batch has returned no outcome for it"))
        });
        self
    }
}

impl<T, C> Tasks<T, C> {
    /// Has tasks handled in batches of up to `size`, at least 1. A batch begins when it is full, `wait` after its first
    /// task, or when the consumer stops.
    ///
    /// [`at_once`](Self::at_once) is the number of batches that run side by side. A task that fails is tried again in
    /// another batch. With [lanes](Self::lanes), no two tasks of a batch have the same key; [`ordered`](Self::ordered) is
    /// refused. A [time-out](Self::timeout) includes the time in which the batch is collected.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(lines: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    /// use actix_pika::tasks::{Done, Task};
    ///
    /// let batches = lines.tasks::<String>().batches(100, Duration::from_millis(50));
    /// batches.for_each(|lines: Vec<Task<String>>| async move { Done::Ok(println!("{}", lines.len())) }).await?;
    /// # Ok(()) }
    /// ```
    pub fn batches(self, size: usize, wait: Duration) -> TaskBatches<T, C> {
        // Capped, so that a deadline cannot overflow.
        let wait = wait.min(Duration::from_secs(10 * 365 * 86_400));
        TaskBatches { tasks: self, size: size.max(1), wait }
    }
}

impl<T: 'static, C: Codec<T>> TaskBatches<T, C> {
    /// Starts the consumer (`basic.consume`), which has a closure handle its batches, on the arbiter of the caller.
    ///
    /// # Errors
    /// Those of [`Tasks::for_each`]; `Refused` without a code if it is [ordered](Tasks::ordered).
    ///
    /// **Over a reconnect**: as for [`Tasks`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(lines: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    /// use actix_pika::tasks::{Done, Task};
    ///
    /// let batches = lines.tasks::<String>().batches(100, Duration::from_millis(50));
    /// batches.for_each(|lines: Vec<Task<String>>| async move { Done::Ok(println!("{}", lines.len())) }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn for_each<F, Fut>(self, closure: F) -> Result<TaskConsumer>
    where
        F: FnMut(Vec<Task<T>>) -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: BatchOutcome,
    {
        let front = self.front(closure)?;
        self.into_tasks().spawn(front).await
    }

    /// Runs the consumer in the task of the caller (`basic.consume`), and returns why it has ended. See [`Tasks::run`].
    ///
    /// # Errors
    /// Those of [`for_each`](Self::for_each), but that it needs no arbiter.
    ///
    /// **Over a reconnect**: as for [`Tasks`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(lines: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    /// use actix_pika::tasks::{Done, Task};
    ///
    /// let batches = lines.tasks::<String>().batches(100, Duration::from_millis(50));
    /// batches.run(|lines: Vec<Task<String>>| async move { Done::Ok(println!("{}", lines.len())) }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn run<F, Fut>(self, closure: F) -> Result<ConsumerEnd>
    where
        F: FnMut(Vec<Task<T>>) -> Fut,
        Fut: Future,
        Fut::Output: BatchOutcome,
    {
        let front = self.front(closure)?;
        let (runner, _) = self.into_tasks().start(front).await?;
        Ok(runner.await)
    }

    /// Returns the front, or the error of options that exclude each other.
    fn front<F, Fut>(&self, closure: F) -> Result<BatchFront<T, F, Fut>>
    where
        F: FnMut(Vec<Task<T>>) -> Fut,
        Fut: Future,
        Fut::Output: BatchOutcome,
    {
        if matches!(self.tasks.order, Order::Queue) {
            return Err(facade::refused(
                "tasks of batches are not ordered: one that fails runs in a later batch",
            ));
        }
        Ok(BatchFront::new(closure, self.size, self.wait, self.tasks.at_once))
    }

    /// Returns the options of a runner to which each task of a batch is one that runs.
    fn into_tasks(self) -> Tasks<T, C> {
        let at_once = self.tasks.at_once.saturating_mul(self.size);
        self.tasks.at_once(at_once)
    }
}

impl<T, C: fmt::Debug> fmt::Debug for TaskBatches<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskBatches")
            .field("tasks", &self.tasks)
            .field("size", &self.size)
            .field("wait", &self.wait)
            .finish()
    }
}
