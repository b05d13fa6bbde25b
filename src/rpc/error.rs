//! Why a call has no reply.

use std::{error::Error as StdError, fmt};

use super::RemoteError;
use crate::{Error, ErrorKind};

/// Lists why a call has no reply. Cloning it is cheap, except for the details of a [`RemoteError`].
///
/// [`may_have_run`](Self::may_have_run) returns whether the server may have run the call in spite of the error: a call
/// with effects must not be repeated blindly then.
///
/// **Over a reconnect**: calls that the reconnect cut off end with `Lost`; see the
/// [module](super#what-becomes-of-a-call).
///
/// # Examples
/// ```
/// use actix_pika::rpc::RpcError;
///
/// fn advice(error: &RpcError) -> &'static str {
///     match error {
///         RpcError::Unroutable(_) => "no server has ever served it, or it was unregistered",
///         RpcError::Timeout { .. } => "the servers are busy or down",
///         RpcError::Lost { may_have_run: true, .. } => "look whether it was done",
///         RpcError::Remote(error) => if error.is_retryable() { "try later" } else { "do not repeat it" },
///         _ => "see the log",
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RpcError {
    /// No queue takes the request (312): the method is not registered. It has not run.
    Unroutable(Error),
    /// The deadline has passed.
    Timeout {
        /// Whether the request was sent.
        may_have_run: bool,
        /// What the request waited for, if it was not confirmed by the broker: the connection, an alarm.
        cause: Option<Error>,
    },
    /// The connection or channel was lost, and the reply with it.
    Lost {
        /// Whether the request was sent.
        may_have_run: bool,
        /// Why it was lost.
        cause: Error,
    },
    /// The server has replied with an error.
    Remote(RemoteError),
    /// The request could not be encoded, and was not sent; or the reply could not be decoded.
    Codec {
        /// Whether it is the reply.
        may_have_run: bool,
        /// What is wrong.
        cause: Error,
    },
    /// The client is closed, by the application or for good.
    Closed {
        /// Whether the request was sent.
        may_have_run: bool,
        /// Why it is closed.
        cause: Error,
    },
    /// The broker or the client refused the request: it is too large, forbidden, or its queue is full.
    Refused(Error),
}

impl RpcError {
    /// Returns whether the server may have run the call.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RpcError;
    /// fn is_safe_to_repeat(error: &RpcError) -> bool {
    ///     !error.may_have_run()
    /// }
    /// ```
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Unroutable(_) => false,
            Self::Timeout { may_have_run, .. }
            | Self::Lost { may_have_run, .. }
            | Self::Codec { may_have_run, .. }
            | Self::Closed { may_have_run, .. } => *may_have_run,
            Self::Remote(_) => true,
            Self::Refused(cause) => cause.may_have_arrived(),
        }
    }

    /// Returns whether the same call may succeed later.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RpcError;
    /// fn is_worth_a_try(error: &RpcError) -> bool {
    ///     error.is_retryable() && !error.may_have_run()
    /// }
    /// ```
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unroutable(_) | Self::Timeout { .. } | Self::Lost { .. } => true,
            Self::Remote(error) => error.is_retryable(),
            Self::Codec { .. } | Self::Closed { .. } => false,
            Self::Refused(cause) => cause.is_retryable(),
        }
    }

    /// Returns the remote error, if the server has replied with one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RpcError;
    /// fn is_poor(error: &RpcError) -> bool {
    ///     error.remote().is_some_and(|error| error.code() == "no-funds")
    /// }
    /// ```
    pub fn remote(&self) -> Option<&RemoteError> {
        match self {
            Self::Remote(error) => Some(error),
            _ => None,
        }
    }

    /// Classifies the error of the publish of a request. `is_closed`: the channel does not come back.
    pub(crate) fn of_publish(cause: Error, is_closed: bool) -> Self {
        let may_have_run = cause.may_have_arrived();
        match cause.kind() {
            ErrorKind::Unroutable => Self::Unroutable(cause),
            ErrorKind::Timeout | ErrorKind::Blocked => Self::Timeout { may_have_run, cause: Some(cause) },
            ErrorKind::Codec => Self::Codec { may_have_run, cause },
            _ if is_closed => Self::Closed { may_have_run, cause },
            ErrorKind::ConnectionClosed | ErrorKind::ChannelClosed | ErrorKind::Io => {
                Self::Lost { may_have_run, cause }
            }
            _ => Self::Refused(cause),
        }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = |may_have_run| if may_have_run { "may have run" } else { "has not run" };
        match self {
            Self::Unroutable(_) => f.write_str("no queue takes the request: it has not run"),
            Self::Timeout { may_have_run, .. } => {
                write!(f, "no reply within the deadline: the request {}", run(*may_have_run))
            }
            Self::Lost { may_have_run, .. } => {
                write!(f, "the connection was lost: the request {}", run(*may_have_run))
            }
            Self::Remote(error) => error.fmt(f),
            Self::Codec { may_have_run: false, .. } => f.write_str("the request cannot be encoded"),
            Self::Codec { may_have_run: true, .. } => f.write_str("the reply cannot be decoded"),
            Self::Closed { may_have_run, .. } => {
                write!(f, "the client is closed: the request {}", run(*may_have_run))
            }
            Self::Refused(_) => f.write_str("the request was refused"),
        }
    }
}

impl StdError for RpcError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Unroutable(cause)
            | Self::Lost { cause, .. }
            | Self::Codec { cause, .. }
            | Self::Closed { cause, .. }
            | Self::Refused(cause) => Some(cause),
            Self::Timeout { cause, .. } => cause.as_ref().map(|cause| cause as _),
            Self::Remote(_) => None,
        }
    }
}
