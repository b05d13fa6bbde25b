//! What happens when a connection is lost: it closes, or the supervisor reconnects.

use std::time::Duration;

/// Selects what happens when a connection is lost.
///
/// **Over a reconnect**: the number of attempts and the pauses keep growing until a connection has stood for
/// 5 seconds after its recovery. Recovery also ends when the connection is closed, or when every address has
/// refused the login, the virtual host or TLS for one minute ([`TlsFailure`](crate::TlsFailure)). A limit of connections and a node that is down are
/// waited out.
///
/// Everything that was declared, opened or consumed stays wanted until the application gives it up. What is
/// missing on an open connection is tried again, each entity by itself: after 50 milliseconds, then after
/// pauses that double up to 5 seconds. [`attempts`](Self::attempts) and [`within`](Self::within) limit these
/// tries too: an entity that reaches them is listed as given up ([`NextTry::Never`](crate::NextTry::Never)),
/// [`Health`](crate::Health) stays `Degraded`, [`GivenUp`](crate::ConnectionEvent::GivenUp) reports it, and the
/// next reconnect tries it once more.
///
/// Source: <https://www.rabbitmq.com/docs/connections#recovery>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # use actix_pika_actors::Recovery;
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
    /// The connection closes with the cause.
    Never,
    /// The supervisor reconnects after a pause.
    After(Backoff),
}

/// Sets the pauses before attempts to reconnect, and when to give up. The functions of [`Recovery`] create
/// it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # use actix_pika_actors::Recovery;
///
/// let Recovery::After(backoff) = Recovery::fixed(Duration::from_secs(5)) else { unreachable!() };
/// assert_eq!((backoff.first, backoff.most), (Duration::from_secs(5), Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backoff {
    /// Longest pause before the first attempt. It doubles with each attempt.
    pub first: Duration,
    /// Longest pause before any attempt.
    pub most: Duration,
    /// Whether each pause is random, between zero and the longest. Clients of one broker then do not
    /// reconnect at the same moment.
    pub jitter: bool,
    /// Number of consecutive attempts after which recovery ends; `None` for no limit.
    pub attempts: Option<u32>,
    /// Time since the loss after which recovery ends; `None` for no limit.
    pub within: Option<Duration>,
}

impl Recovery {
    /// Creates a recovery with random pauses that grow: up to `first` before the first attempt, up to twice
    /// that before the second, and so on, up to `most`.
    ///
    /// It does not end unless [`attempts`](Self::attempts) or [`within`](Self::within) is set. The pauses
    /// start at `first` again when a connection has stood for 5 seconds after its recovery.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let recovery = Recovery::exponential(Duration::from_millis(50), Duration::from_secs(2));
    /// ```
    pub fn exponential(first: Duration, most: Duration) -> Self {
        Self::After(Backoff { first, most: most.max(first), jitter: true, attempts: None, within: None })
    }

    /// Creates a recovery with the same pause before each attempt. It does not end unless limited.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let recovery = Recovery::fixed(Duration::from_secs(5));
    /// ```
    pub fn fixed(interval: Duration) -> Self {
        Self::After(Backoff { first: interval, most: interval, jitter: false, attempts: None, within: None })
    }

    /// Sets the number of consecutive attempts after which recovery ends. The connection then closes with the
    /// error of the last attempt.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let recovery = Recovery::fixed(Duration::from_secs(5)).attempts(12);
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
    /// let recovery = Recovery::default().within(Duration::from_secs(3600));
    /// ```
    pub fn within(self, limit: Duration) -> Self {
        match self {
            Self::After(backoff) => Self::After(Backoff { within: Some(limit), ..backoff }),
            Self::Never => Self::Never,
        }
    }
}

impl Default for Recovery {
    /// Creates a recovery with random pauses of up to 200 milliseconds before the first attempt, growing up
    /// to 5 seconds, without a limit.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(200), Duration::from_secs(5))
    }
}
