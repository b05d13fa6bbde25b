//! What a handler returns: done, or a failure with its verdict.

use std::{
    error,
    fmt::{self, Write as _},
    iter,
    time::Duration,
};

use crate::caught::caught;

/// Causes behind the first one that are written.
const MOST_SOURCES: usize = 16;

type Cause = Box<dyn error::Error + Send + Sync>;

/// The result of a handler of tasks: `Ok` acknowledges the message, a [`Failure`] says what else becomes of it.
///
/// # Examples
/// ```
/// use actix_pika::tasks::{Done, Failure};
///
/// fn check(body: &str) -> Done {
///     if body.is_empty() { Err(Failure::reject("the body is empty")) } else { Ok(()) }
/// }
/// assert!(check("").is_err());
/// ```
pub type Done = Result<(), Failure>;

/// Why a task was not done, and what becomes of its message.
///
/// It does not implement [`std::error::Error`], so that the `?` operator makes a failure of every error: one
/// that is retried.
///
/// An error that is no [`std::error::Error`] itself, such as `anyhow::Error`, `Box<dyn Error + Send + Sync>` or a text,
/// takes `map_err(Failure::retry)`.
///
/// | created by | the message |
/// |---|---|
/// | `?`, [`retry`](Self::retry) | is tried again by the policy of the consumer, after its next pause |
/// | [`retry_in`](Self::retry_in) | the same, after this pause at least |
/// | [`reject`](Self::reject), [`OrReject`] | is dead-lettered with the cause |
/// | [`requeue`](Self::requeue) | returns to its queue for another consumer; this is not counted as a try |
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika::tasks::{Done, Failure, OrReject};
///
/// fn bill(amount: &str) -> Done {
///     let amount: u32 = amount.parse().or_reject()?; // it will never be a number
///     let log = std::fs::read("ledger").map_err(|e| Failure::retry_in(Duration::from_secs(60), e))?;
///     println!("{amount} {}", log.len());
///     Ok(())
/// }
/// assert_eq!(bill("x").unwrap_err().to_string(), "invalid digit found in string");
/// ```
pub struct Failure {
    verdict: Verdict,
    cause: Cause,
}

/// What becomes of the message of a task that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again by the policy of the consumer.
    Retry,
    /// It is tried again after this pause at least.
    RetryIn(Duration),
    /// It is dead-lettered.
    Reject,
    /// It returns to its queue.
    Requeue,
}

impl Failure {
    pub(super) fn new(verdict: Verdict, cause: impl Into<Cause>) -> Self {
        Self { verdict, cause: cause.into() }
    }

    /// Creates a failure after which the task is tried again by the policy of the consumer.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::{Failure, Verdict};
    /// assert_eq!(Failure::retry("the printer is busy").verdict(), Verdict::Retry);
    /// ```
    pub fn retry(cause: impl Into<Cause>) -> Self {
        Self { verdict: Verdict::Retry, cause: cause.into() }
    }

    /// Creates a failure after which the task is tried again, after a pause of at least `pause`.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika::tasks::{Failure, Verdict};
    /// let failure = Failure::retry_in(Duration::from_secs(30), "429 Too Many Requests");
    /// assert_eq!(failure.verdict(), Verdict::RetryIn(Duration::from_secs(30)));
    /// ```
    pub fn retry_in(pause: Duration, cause: impl Into<Cause>) -> Self {
        Self { verdict: Verdict::RetryIn(pause), cause: cause.into() }
    }

    /// Creates a failure after which the message is dead-lettered: no try will succeed.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::{Failure, Verdict};
    /// assert_eq!(Failure::reject("no such customer").verdict(), Verdict::Reject);
    /// ```
    pub fn reject(cause: impl Into<Cause>) -> Self {
        Self { verdict: Verdict::Reject, cause: cause.into() }
    }

    /// Creates a failure after which the message returns to its queue, for another consumer: at once, or after a pause if
    /// it has failed before, so that a message that nobody takes does not go in a circle.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::{Failure, Verdict};
    /// assert_eq!(Failure::requeue("this node has no GPU").verdict(), Verdict::Requeue);
    /// ```
    pub fn requeue(cause: impl Into<Cause>) -> Self {
        Self { verdict: Verdict::Requeue, cause: cause.into() }
    }

    /// Sets what becomes of the message, whatever the handler asked for.
    pub(crate) fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.verdict = verdict;
        self
    }

    /// Returns what becomes of the message.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::{Failure, Verdict};
    /// let by_question_mark = Failure::from(std::fmt::Error);
    /// assert_eq!(by_question_mark.verdict(), Verdict::Retry);
    /// ```
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Returns the text of the cause, up to where it fails or panics.
    pub(super) fn into_text(self) -> String {
        let mut text = String::new();
        caught(|| write!(text, "{self}"));
        caught(|| drop(self));
        text
    }

    /// Returns the cause.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::Failure;
    /// assert!(Failure::from(std::fmt::Error).cause().is::<std::fmt::Error>());
    /// ```
    pub fn cause(&self) -> &(dyn error::Error + Send + Sync + 'static) {
        &*self.cause
    }
}

impl<E: error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(cause: E) -> Self {
        Self::retry(cause)
    }
}

/// Writes the cause and the causes behind it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        // A chain without an end would be written for ever.
        let mut sources = iter::successors(self.cause.source(), |cause| cause.source()).take(MOST_SOURCES);
        sources.try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure").field("verdict", &self.verdict).field("cause", &self.cause).finish()
    }
}

/// Makes a failure that rejects the message of any error.
///
/// # Examples
/// ```
/// use actix_pika::tasks::{Done, OrReject};
///
/// fn resize(width: &str) -> Done {
///     let width: u32 = width.parse().or_reject()?;
///     assert!(width > 0);
///     Ok(())
/// }
/// ```
pub trait OrReject<T> {
    /// Returns the value, or a failure that rejects the message.
    ///
    /// # Errors
    /// [`Failure::reject`] with the error.
    fn or_reject(self) -> Result<T, Failure>;
}

impl<T, E: Into<Cause>> OrReject<T> for Result<T, E> {
    fn or_reject(self) -> Result<T, Failure> {
        self.map_err(Failure::reject)
    }
}
