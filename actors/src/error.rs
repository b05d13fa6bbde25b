//! The error type of the crate. It is cheap to clone, because one lost connection fails every waiter.

use std::{
    borrow::Cow,
    error,
    fmt::{self, Write},
    io,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{returned::Return, wire::Escaping};

#[cfg(feature = "actix-web")]
pub use self::response::respond;
pub use self::{close_reason::CloseReason, kind::ErrorKind, tls_failure::TlsFailure};
pub(crate) use self::{connect_refusal::ConnectRefusal, cut_text::CutText};

mod close_reason;
mod connect_refusal;
mod create;
mod cut_text;
mod kind;
#[cfg(feature = "actix-web")]
mod response;
mod tls_failure;

/// The result of an operation of this crate: a value, or an [`Error`].
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Error, Result};
/// fn token() -> Result<String> {
///     std::env::var("TOKEN_OF_THIS_EXAMPLE").map_err(Error::credentials)
/// }
/// assert!(token().is_err());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Describes a failure. Cloning is cheap.
///
/// When a connection is lost, every call and publish that awaited a reply fails with a clone of the same
/// cause. `Display` writes what failed, the entity concerned, and the broker's reply code and text. It
/// contains no credentials. Control characters in it are escaped.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Error, ErrorKind};
/// fn queue_is_missing(error: &Error) -> bool {
///     error.kind() == ErrorKind::Refused && error.code() == Some(404)
/// }
/// assert!(!queue_is_missing(&Error::credentials("the vault is sealed")));
/// ```
#[derive(Clone)]
pub struct Error(Arc<ErrorData>);

#[derive(Clone, Debug)]
struct ErrorData {
    kind: ErrorKind,
    what: Cow<'static, str>,
    entity: Option<String>,
    close: Option<CloseReason>,
    /// Why the broker refused the connection during the handshake.
    refusal: Option<ConnectRefusal>,
    tls: Option<TlsFailure>,
    returned: Option<Return>,
    io: Option<io::ErrorKind>,
    retryable: bool,
    may_have_arrived: bool,
    /// The publishes that a close has left without a confirm.
    abandoned: usize,
    /// When the connection is dialled again.
    next_attempt: Option<Instant>,
    /// The publish window or the channel numbers were used up.
    no_room: bool,
    /// The fault that this client found in what the peer sent.
    fault: Option<FaultOrigin>,
    source: Option<Error>,
}

/// The reply code of a fault, and the channel of the frame, 0 if it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FaultOrigin {
    pub(crate) code: u16,
    pub(crate) channel: u16,
}

impl Error {
    /// Returns the kind of failure.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Error, ErrorKind};
    /// assert_eq!(Error::credentials("the vault is sealed").kind(), ErrorKind::Auth);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the same operation may succeed when it is retried, if necessary on a new connection or
    /// channel.
    ///
    /// True for `Io`, `Timeout`, `Blocked`, `Protocol`, `Nacked`, failed
    /// [providers](Self::credentials), a connection that the broker refused because a limit of connections
    /// is reached (`Limit`) or its virtual host is down (`Vhost`), those of `Tls` that are waited out
    /// ([`TlsFailure`]), those of `Database` that pass (lost connections, locks, deadlocks), and a channel that was closed because of something else (`ChannelClosed`). True for `ConnectionClosed` too, unless this application has closed the connection, or
    /// the broker refuses it until its options are changed. Retrying a publish that
    /// [may have arrived](Self::may_have_arrived) may publish it twice.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// assert!(Error::credentials("the vault is sealed").is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Returns the fault that this client found in what the peer sent, if that is the error.
    pub(crate) fn fault(&self) -> Option<FaultOrigin> {
        self.0.fault
    }

    /// Returns whether the broker closed only a channel, and not the connection.
    ///
    /// This depends on the broker's reply code alone; `false` if there is none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// assert!(!Error::credentials("the vault is sealed").is_soft());
    /// ```
    pub fn is_soft(&self) -> bool {
        self.close_reason().is_some_and(CloseReason::is_soft)
    }

    /// Returns whether the publish may have reached a queue in spite of the error.
    ///
    /// True for every publish that a socket has taken, on this connection or an earlier one, whatever ended
    /// it later; publishing it again may duplicate it. This includes `Nacked`, because one queue that refuses
    /// a message is enough for a nack, while others have it. `Unroutable` is the exception: the broker has
    /// returned the publish, so that it can have arrived only if it was written once before. The same holds for
    /// the publish for which the broker closed the channel, as with 404 for its exchange, and for what it has
    /// dropped behind it. False if the publish was not written, and will not be.
    ///
    /// Of a call: whether it may have taken effect, because its reply did not come. False for a call that changes
    /// nothing at the broker. Of a [`MailboxError`](actix::MailboxError): an actor that has ended had not read the
    /// message; one that did not reply in time still reads it, whatever it is.
    ///
    /// **Over a reconnect**: an unconfirmed publish is resent automatically. An error is returned only when
    /// its deadline passes, or with `on_outage(Fail)`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn can_be_published_again(error: &Error) -> bool {
    ///     error.is_retryable() && !error.may_have_arrived()
    /// }
    /// assert!(can_be_published_again(&Error::credentials("the vault is sealed")));
    /// ```
    pub fn may_have_arrived(&self) -> bool {
        self.0.may_have_arrived
    }

    /// Returns how many publishes were left without a confirm by the close of a connection or channel that failed
    /// with this error; 0 for every other error.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn print(error: &Error) {
    ///     eprintln!("{error}: {} publishes may be lost", error.abandoned_publishes());
    /// }
    /// assert_eq!(Error::credentials("the vault is sealed").abandoned_publishes(), 0);
    /// ```
    pub fn abandoned_publishes(&self) -> usize {
        self.0.abandoned
    }

    /// Returns the time until the next attempt to connect, if the connection is lost and the attempt has not begun yet.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn advice(error: &Error) -> String {
    ///     match error.next_attempt_in() {
    ///         Some(wait) => format!("try again in {wait:.0?}"),
    ///         None => "try again later".into(),
    ///     }
    /// }
    /// assert_eq!(advice(&Error::credentials("the vault is sealed")), "try again later");
    /// ```
    pub fn next_attempt_in(&self) -> Option<Duration> {
        self.next_attempt()?.checked_duration_since(Instant::now())
    }

    fn next_attempt(&self) -> Option<Instant> {
        self.0.next_attempt.or_else(|| self.0.source.as_ref().and_then(Error::next_attempt))
    }

    /// Returns the reply code, text and method with which the broker closed the channel or the connection.
    ///
    /// An error that wraps another one returns the reason of that one. `None` if the broker closed nothing,
    /// such as for a lost socket or a deadline.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn is_missing(error: &Error) -> bool {
    ///     error.close_reason().is_some_and(|reason| reason.code == 404)
    /// }
    /// assert!(!is_missing(&Error::credentials("none")));
    /// ```
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.0.close.as_ref().or_else(|| self.0.source.as_ref().and_then(Error::close_reason))
    }

    /// Returns why TLS failed, for [`ErrorKind::Tls`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Error, TlsFailure};
    /// fn advice(error: &Error) -> Option<&'static str> {
    ///     match error.tls_failure()? {
    ///         TlsFailure::UnknownAuthority => Some("set cacertfile"),
    ///         TlsFailure::NotTls => Some("is it the port of TLS?"),
    ///         _ => None,
    ///     }
    /// }
    /// assert_eq!(advice(&Error::credentials("none")), None);
    /// ```
    pub fn tls_failure(&self) -> Option<TlsFailure> {
        self.0.tls.or_else(|| self.0.source.as_ref().and_then(Error::tls_failure))
    }

    /// Returns whether the connection was refused until somebody changes the credentials, the user, the
    /// virtual host or a certificate.
    pub(crate) fn is_refused_for_good(&self) -> bool {
        self.0.refusal.is_some_and(ConnectRefusal::is_for_good)
            || self.0.tls.is_some_and(TlsFailure::is_for_good)
    }

    /// Returns the broker's reply code, from the close of the channel or connection, or from the returned
    /// publish.
    ///
    /// Most refused calls have 403, 404, 405 or 406, and `Unroutable` has 312. `None` if the broker sent no
    /// code.
    ///
    /// Source: AMQP 0-9-1 section 1.2 (reply codes)
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn is_missing(error: &Error) -> bool {
    ///     error.code() == Some(404)
    /// }
    /// assert!(!is_missing(&Error::credentials("none")));
    /// ```
    pub fn code(&self) -> Option<u16> {
        let returned = || self.returned().map(|returned| returned.code);
        self.close_reason().map(|reason| reason.code).or_else(returned)
    }

    /// Returns the message that the broker returned, for [`ErrorKind::Unroutable`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn unroutable_key(error: &Error) -> Option<&str> {
    ///     error.returned().map(|returned| &*returned.routing_key)
    /// }
    /// assert_eq!(unroutable_key(&Error::credentials("none")), None);
    /// ```
    pub fn returned(&self) -> Option<&Return> {
        self.0.returned.as_ref().or_else(|| self.0.source.as_ref().and_then(Error::returned))
    }

    /// Returns the kind of the I/O error that caused this error, if one did.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn port_is_closed(error: &Error) -> bool {
    ///     error.io_kind() == Some(std::io::ErrorKind::ConnectionRefused)
    /// }
    /// assert!(!port_is_closed(&Error::credentials("none")));
    /// ```
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.0.io.or_else(|| self.0.source.as_ref().and_then(Error::io_kind))
    }

    /// Returns the name of the exchange, queue, consumer or address concerned, if known. On a closed channel
    /// it is that of the call that closed it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn explain(error: &Error) -> Option<String> {
    ///     let reason = error.close_reason()?;
    ///     let entity = error.entity().unwrap_or("somewhere");
    ///     Some(format!("{} of {entity} ended with {}", reason.method, reason.code))
    /// }
    /// ```
    pub fn entity(&self) -> Option<&str> {
        self.0.entity.as_deref().or_else(|| self.0.source.as_ref().and_then(Error::entity))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Parts of it may come from the peer.
        let mut f = Escaping(f);
        f.write_str(&self.0.what)?;
        if let Some(entity) = &self.0.entity {
            write!(f, " [{entity}]")?;
        }
        if let Some(close) = &self.0.close {
            write!(f, ": {close}")?;
        }
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}, \"{self}\")", self.kind())
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_an_entity_does_not_change_clones() {
        let closed = Error::connection_closed("over", None);
        let with_entity = closed.clone().on("jobs");
        assert_eq!(
            (with_entity.kind(), with_entity.entity(), closed.entity()),
            (ErrorKind::ConnectionClosed, Some("jobs"), None)
        );
        // The first entity is nearer to the cause.
        assert_eq!(with_entity.in_flight().on("another").entity(), Some("jobs"));
    }

    #[test]
    fn an_actor_that_has_ended_has_not_read_the_message() {
        let (ended, late) = (Error::from(actix::MailboxError::Closed), actix::MailboxError::Timeout.into());
        let says = |error: &Error| (error.kind(), error.is_retryable(), error.may_have_arrived());
        assert_eq!(says(&ended), (ErrorKind::Stopped, false, false));
        assert_eq!(says(&late), (ErrorKind::Timeout, true, true));
    }

    #[test]
    fn what_ends_for_good_is_not_retryable() {
        let refused = CloseReason::new(530, "NOT_ALLOWED - vhost nope not found", 10, 40);
        let lost = [Error::connect_refused(refused), Error::connection_closed_here("closed")];
        for cause in &lost {
            let error = Error::connection_lost(cause);
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectionClosed, false), "{error}");
            assert!(!error.in_flight().is_retryable() && !error.without_reply("tx.commit").is_retryable());
        }
        for cause in [Error::connection_closed("reset", None), Error::stopped("a panic")] {
            assert!(Error::connection_lost(&cause).is_retryable(), "{cause}");
        }
        assert!(Error::transaction_lost(None).is_retryable());
    }
}
