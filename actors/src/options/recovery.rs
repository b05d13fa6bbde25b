//! What happens when a connection is lost: nothing, or attempts to replace it.

use std::time::Duration;

/// What happens when a connection is lost.
///
/// **Over a reconnect**: attempts are counted, and pauses grow, until a connection has lasted for a heartbeat interval.
/// Recovery also ends when the connection is closed, or when login or virtual host were refused for a minute.
///
/// Source: <https://www.rabbitmq.com/docs/connections#recovery>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika_actors::Recovery;
///
/// let growing = Recovery::exponential(Duration::from_millis(200), Duration::from_secs(30));
/// let limited = Recovery::fixed(Duration::from_secs(5)).attempts(12);
/// assert_ne!(growing, limited);
/// assert_ne!(limited, Recovery::Never);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a builder does nothing until it is used"]
pub enum Recovery {
    /// The connection closes, with its cause.
    Never,
    /// A new connection is made, after a pause.
    After(Backoff),
}

/// The pauses before attempts to reconnect, and when to give up. Made by the functions of [`Recovery`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika_actors::Recovery;
///
/// let Recovery::After(backoff) = Recovery::fixed(Duration::from_secs(5)) else { unreachable!() };
/// assert_eq!((backoff.first, backoff.most), (Duration::from_secs(5), Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backoff {
    /// The longest pause before the first attempt. It doubles with each attempt.
    pub first: Duration,
    /// The longest pause before any attempt.
    pub most: Duration,
    /// Whether each pause is random, between zero and the longest, so that clients of one broker do not reconnect at the
    /// same moment.
    pub jitter: bool,
    /// The number of attempts in a row after which recovery ends.
    pub attempts: Option<u32>,
    /// The time since the loss after which recovery ends.
    pub within: Option<Duration>,
}

impl Recovery {
    /// Returns a recovery with random pauses: up to `first` before the first attempt, up to twice that before the second,
    /// and so on, up to `most`. It has no end unless [`attempts`](Self::attempts) or [`within`](Self::within) is set. Pauses
    /// start at `first` again when a connection has lasted for a heartbeat interval.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let soon = Recovery::exponential(Duration::from_millis(50), Duration::from_secs(2));
    /// ```
    pub fn exponential(first: Duration, most: Duration) -> Self {
        Self::After(Backoff { first, most: most.max(first), jitter: true, attempts: None, within: None })
    }

    /// Returns a recovery with the same pause before each attempt. It has no end unless limited.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let steady = Recovery::fixed(Duration::from_secs(5));
    /// ```
    pub fn fixed(interval: Duration) -> Self {
        Self::After(Backoff { first: interval, most: interval, jitter: false, attempts: None, within: None })
    }

    /// Sets the number of attempts in a row after which recovery ends. The connection then closes with the error of the
    /// last attempt.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let twelve_times = Recovery::fixed(Duration::from_secs(5)).attempts(12);
    /// ```
    pub fn attempts(self, attempts: u32) -> Self {
        match self {
            Self::After(backoff) => Self::After(Backoff { attempts: Some(attempts), ..backoff }),
            Self::Never => Self::Never,
        }
    }

    /// Sets the time since the loss after which recovery ends. It is checked after each failed attempt.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let an_hour = Recovery::default().within(Duration::from_secs(3600));
    /// ```
    pub fn within(self, limit: Duration) -> Self {
        match self {
            Self::After(backoff) => Self::After(Backoff { within: Some(limit), ..backoff }),
            Self::Never => Self::Never,
        }
    }
}

impl Default for Recovery {
    /// Returns pauses that grow from 200 milliseconds to 30 seconds, without an end.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(200), Duration::from_secs(30))
    }
}
