//! A task that no broker has delivered, and what its handler says.

use std::time::Duration;

use actix::Recipient;
use actix_pika_actors::testing::{TIME_LIMIT, TestContent, TestError, TestErrorKind};
use tokio::time::timeout;

use crate::{
    Publishing,
    tasks::{Done, Task},
};

/// Builds a [`Task`] that no broker has delivered, and returns what its handler says.
///
/// # Examples
/// ```
/// use actix::prelude::*;
/// use actix_pika::{tasks::{Done, OrReject, Task, Verdict}, testing::TestTask};
///
/// struct Listener;
///
/// impl Actor for Listener {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Task<String>> for Listener {
///     type Result = Done;
///
///     fn handle(&mut self, port: Task<String>, _: &mut Self::Context) -> Done {
///         port.parse::<u16>().or_reject()?;
///         Ok(())
///     }
/// }
///
/// # System::new().block_on(async {
/// let listener = Listener.start();
/// let done = TestTask::new("5672".to_owned()).handled_by(listener.clone()).await?;
/// assert!(done.is_ok());
/// let done = TestTask::new("many".to_owned()).attempt(3).handled_by(listener).await?;
/// assert_eq!(done.unwrap_err().verdict(), Verdict::Reject);
/// # Ok::<(), actix_pika::testing::TestError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TestTask<T> {
    value: T,
    content: TestContent,
    attempt: u32,
    limit: Duration,
}

impl<T> TestTask<T> {
    /// Takes the value. Unless [`content`](Self::content) sets it, the message has no body and no properties.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::testing::TestTask;
    /// assert_eq!(*TestTask::new(7).build(), 7);
    /// ```
    pub fn new(value: T) -> Self {
        Self { value, content: TestContent::new(Publishing::new("")), attempt: 1, limit: TIME_LIMIT }
    }

    /// Sets what came with the value: body, properties, queue, and whether it is redelivered.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::{Publishing, testing::{TestContent, TestTask}};
    /// let message = Publishing::new("").message_id("order-7");
    /// let task = TestTask::new(7).content(TestContent::new(message).queue("orders")).build();
    /// assert_eq!(task.queue(), "orders");
    /// assert_eq!(task.content().properties().unwrap().message_id(), Some("order-7"));
    /// ```
    pub fn content(mut self, content: TestContent) -> Self {
        self.content = content;
        self
    }

    /// Sets which try it is. The default is 1.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::testing::TestTask;
    /// assert_eq!(TestTask::new(7).attempt(3).build().attempt(), 3);
    /// ```
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Sets how long [`handled_by`](Self::handled_by) waits. The default is [`TIME_LIMIT`].
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika::testing::TestTask;
    /// let patient = TestTask::new(7).time_limit(Duration::from_secs(60));
    /// ```
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the task, for a handler that is a function.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::{tasks::{Done, Task}, testing::TestTask};
    /// async fn handle(number: Task<u32>) -> Done {
    ///     if *number == 7 { Ok(()) } else { Err(std::io::Error::other("not 7").into()) }
    /// }
    /// # actix_rt::System::new().block_on(async {
    /// handle(TestTask::new(7).build()).await.unwrap();
    /// # });
    /// ```
    pub fn build(self) -> Task<T> {
        Task::for_test_try(self.value, self.content.build(), self.attempt)
    }
}

impl<T: Send + 'static> TestTask<T> {
    /// Sends the task to an actor, and returns what its handler says: the [verdict](crate::tasks::Failure::verdict) of
    /// a failure decides what becomes of the message.
    ///
    /// # Errors
    /// [`TimedOut`](TestErrorKind::TimedOut) if the handler has not ended within the limit;
    /// [`Disconnected`](TestErrorKind::Disconnected) if the actor has ended, or has dropped the task.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::{tasks::Task, testing::{Probe, TestTask}};
    /// # actix_rt::System::new().block_on(async {
    /// let handler = Probe::<Task<u32>>::answering(|_| Ok(()));
    /// assert!(TestTask::new(7).handled_by(handler.recipient()).await?.is_ok());
    /// # Ok::<(), actix_pika::testing::TestError>(()) }).unwrap();
    /// ```
    pub async fn handled_by(self, actor: impl Into<Recipient<Task<T>>>) -> Result<Done, TestError> {
        let awaited = "the end of a task";
        let limit = self.limit;
        match timeout(limit, actor.into().send(self.build())).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(TestError::new(TestErrorKind::Disconnected, awaited, error.to_string())),
            Err(_) => Err(TestError::timed_out(awaited, limit)),
        }
    }
}
