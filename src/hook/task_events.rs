//! What hooks are told of a task.

use std::time::{Duration, SystemTime};

use crate::message::{Content, Properties};

/// A message whose task is about to be handled, or has been.
///
/// # Examples
/// ```
/// use actix_pika::hook::{Hook, Incoming, Span};
///
/// struct Log;
///
/// impl Hook for Log {
///     fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
///         println!("try {} of a message of {:?}", message.attempt(), message.queue());
///         None
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    pub(super) content: &'a Content,
    pub(super) attempt: u32,
    pub(super) in_batch: bool,
}

impl<'a> Incoming<'a> {
    /// Returns the body, properties and names.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Incoming;
    /// fn bytes(message: &Incoming<'_>) -> usize {
    ///     message.content().body().len()
    /// }
    /// ```
    pub fn content(&self) -> &'a Content {
        self.content
    }

    /// Returns the queue that delivered it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Incoming;
    /// fn print(message: &Incoming<'_>) {
    ///     println!("from {:?}", message.queue());
    /// }
    /// ```
    pub fn queue(&self) -> &'a str {
        self.content.queue()
    }

    /// Returns its properties; `None` if they cannot be decoded.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Incoming;
    /// fn id<'a>(message: &Incoming<'a>) -> Option<&'a str> {
    ///     message.properties()?.message_id()
    /// }
    /// ```
    pub fn properties(&self) -> Option<&'a Properties> {
        self.content.properties().ok()
    }

    /// Returns which try this is, from 1 on ([`Task::attempt`](crate::tasks::Task::attempt)).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Incoming;
    /// fn is_retry(message: &Incoming<'_>) -> bool {
    ///     message.attempt() > 1
    /// }
    /// ```
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns whether the broker may have delivered it before.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Incoming;
    /// fn may_be_a_copy(message: &Incoming<'_>) -> bool {
    ///     message.redelivered()
    /// }
    /// ```
    pub fn redelivered(&self) -> bool {
        self.content.redelivered()
    }

    /// Returns whether it is handled in a [batch](crate::tasks::TaskBatches).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Incoming;
    /// fn is_alone(message: &Incoming<'_>) -> bool {
    ///     !message.in_batch()
    /// }
    /// ```
    pub fn in_batch(&self) -> bool {
        self.in_batch
    }

    /// Returns how old it is by its timestamp, which has whole seconds; zero if that is in the future, `None` if it has none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Incoming;
    /// fn is_old(message: &Incoming<'_>) -> bool {
    ///     message.age().is_some_and(|age| age.as_secs() > 60)
    /// }
    /// ```
    pub fn age(&self) -> Option<Duration> {
        let published = self.properties()?.timestamp()?;
        Some(SystemTime::now().duration_since(published).unwrap_or_default())
    }
}

/// What has become of a message whose task was handled.
///
/// # Examples
/// ```
/// use actix_pika::hook::Outcome;
///
/// assert_eq!(Outcome::Acked.as_str(), "acked");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It is acknowledged.
    Acked,
    /// Its task runs again, here after a pause, or by a copy that a ladder has.
    Retried,
    /// The dead letters of its ladder have a copy.
    DeadLettered,
    /// It is rejected: the broker dead-letters it, or drops it.
    Rejected,
    /// It returns to its queue.
    Requeued,
    /// Its task was not done: the consumer has ended, a drain has reached its limit, or another task has cut it off. It
    /// returns to its queue, or begins again.
    GivenBack,
    /// Its connection is lost, so that it cannot be settled. The broker delivers it again.
    Stale,
}

impl Outcome {
    /// Returns a short name, for a label or an attribute.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::Outcome;
    ///
    /// assert_eq!(Outcome::DeadLettered.as_str(), "dead_lettered");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Retried => "retried",
            Self::DeadLettered => "dead_lettered",
            Self::Rejected => "rejected",
            Self::Requeued => "requeued",
            Self::GivenBack => "given_back",
            Self::Stale => "stale",
        }
    }
}

/// Why a task was not done.
///
/// # Examples
/// ```
/// use actix_pika::hook::Cause;
///
/// assert_eq!(Cause::TimedOut.as_str(), "timed_out");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Its handler has returned a [`Failure`](crate::tasks::Failure).
    Failed,
    /// Its handler has panicked.
    Panicked,
    /// Its handler has exceeded its [time-out](crate::tasks::Tasks::timeout).
    TimedOut,
    /// Its actor has dropped it without an answer: it, or another task, has ended the actor.
    Unanswered,
    /// It has no value, so that no handler was called.
    Undecodable,
}

impl Cause {
    /// Returns a short name, for a label or an attribute.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::Cause;
    ///
    /// assert_eq!(Cause::Failed.as_str(), "failed");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::TimedOut => "timed_out",
            Self::Unanswered => "unanswered",
            Self::Undecodable => "undecodable",
        }
    }
}

/// The end of a task.
///
/// # Examples
/// ```
/// use actix_pika::hook::{Hook, Outcome, TaskEnd};
///
/// struct Failures;
///
/// impl Hook for Failures {
///     fn end(&self, end: &TaskEnd<'_>) {
///         if end.outcome() != Outcome::Acked {
///             println!("{:?} after {:?}: {:?}", end.outcome(), end.took(), end.cause());
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct TaskEnd<'a> {
    pub(super) message: Incoming<'a>,
    pub(super) outcome: Outcome,
    pub(super) cause: Option<Cause>,
    pub(super) text: Option<&'a str>,
    pub(super) took: Option<Duration>,
}

impl<'a> TaskEnd<'a> {
    /// Returns the message.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::TaskEnd;
    /// fn print(end: &TaskEnd<'_>) {
    ///     println!("{:?}: {:?}", end.message().queue(), end.outcome());
    /// }
    /// ```
    pub fn message(&self) -> &Incoming<'a> {
        &self.message
    }

    /// Returns what has become of the message.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{Outcome, TaskEnd};
    /// fn is_done(end: &TaskEnd<'_>) -> bool {
    ///     end.outcome() == Outcome::Acked
    /// }
    /// ```
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Returns why the task was not done; `None` if it was, or if it was given back while it ran.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{Cause, TaskEnd};
    /// fn has_panicked(end: &TaskEnd<'_>) -> bool {
    ///     end.cause() == Some(Cause::Panicked)
    /// }
    /// ```
    pub fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// Returns the text of the failure. It may have data of the application.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::TaskEnd;
    /// fn print(end: &TaskEnd<'_>) {
    ///     println!("{}", end.cause_text().unwrap_or("done"));
    /// }
    /// ```
    pub fn cause_text(&self) -> Option<&'a str> {
        self.text
    }

    /// Returns how long the handler took; `None` if none was called. For an actor, the time in its mailbox is part of it,
    /// and for a batch the time in which that was collected.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::TaskEnd;
    /// fn seconds(end: &TaskEnd<'_>) -> Option<f64> {
    ///     end.took().map(|took| took.as_secs_f64())
    /// }
    /// ```
    pub fn took(&self) -> Option<Duration> {
        self.took
    }
}
