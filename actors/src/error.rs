//! The one error type: cloneable, because one lost connection answers every waiter there is.

use std::{borrow::Cow, error, fmt, io, sync::Arc};

use crate::{
    returned::Return,
    wire::{Fault, Refused, TooLong, method_name},
};

/// Stands for what came of an operation of this crate: the value, or an [`Error`].
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Error, Result};
/// fn port(text: &str) -> Result<u16> {
///     text.parse().map_err(Error::credentials)
/// }
/// assert_eq!(port("5672")?, 5672);
/// # Ok::<(), Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the sort of an [`Error`].
///
/// Whether a failure may pass, and what it cost, is asked of the [`Error`]:
/// [`is_retryable`](Error::is_retryable), [`is_soft`](Error::is_soft),
/// [`may_have_arrived`](Error::may_have_arrived).
///
/// **Over a reconnect**: a call whose answer was outstanding when the connection broke fails with
/// `ConnectionClosed` and is retryable; what belongs to the earlier life of a channel is `StaleDelivery`.
///
/// Source: the reply codes are among the constants of AMQP 0-9-1 (section 1.2).
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Error, ErrorKind};
/// fn blame(error: &Error) -> &'static str {
///     match error.kind() {
///         ErrorKind::Uri | ErrorKind::Auth | ErrorKind::Vhost => "the configuration",
///         ErrorKind::Codec | ErrorKind::Limit | ErrorKind::Refused => "the call",
///         ErrorKind::Io | ErrorKind::Timeout => "the network",
///         _ => "somebody else",
///     }
/// }
/// assert_eq!(blame(&Error::credentials("the vault is sealed")), "the configuration");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The socket failed: refused, reset, unreachable.
    Io,
    /// The connection URI cannot be used.
    Uri,
    /// The broker did not accept the credentials (403), or offers no mechanism that we speak.
    Auth,
    /// The virtual host does not exist or is closed to this user (530).
    Vhost,
    /// A deadline passed.
    Timeout,
    /// The peer broke the protocol, or is not an AMQP 0-9-1 server.
    Protocol,
    /// The connection is closed; [`Error::close_reason`] tells why, if the broker said so.
    ConnectionClosed,
    /// The channel is closed; [`Error::close_reason`] tells why, if the broker said so.
    ChannelClosed,
    /// The broker refused this very call, and closed the channel for it.
    Refused,
    /// The broker could not take responsibility for a publish (`basic.nack`).
    Nacked,
    /// A mandatory publish reached no queue; [`Error::returned`] has it.
    Unroutable,
    /// The delivery belongs to an earlier life of its channel, or is settled already.
    StaleDelivery,
    /// The broker blocks publishing (`connection.blocked`) and a deadline passed meanwhile.
    Blocked,
    /// The actor that should have answered is gone.
    Stopped,
    /// Content could not be encoded or decoded.
    Codec,
    /// A limit would be exceeded: a name, a key, a size, a count.
    Limit,
}

/// Tells the broker's reason for closing a connection or a channel.
///
/// Source: AMQP 0-9-1 constants (section 1.2), and methods `connection.close` and `channel.close` (sections 1.4.2.9,
/// 1.5.2.5).
///
/// # Examples
/// ```
/// # use actix_pika_actors::Error;
/// fn explain(error: &Error) -> String {
///     match error.close_reason() {
///         Some(reason) => format!("{} in {:?}: {}", reason.code, reason.method, reason.text),
///         None => "the broker said nothing".into(),
///     }
/// }
/// assert_eq!(explain(&Error::credentials("none")), "the broker said nothing");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReason {
    /// The reply code, kept as a number even where it is unknown.
    pub code: u16,
    /// The broker's text.
    pub text: String,
    /// The method that caused it, such as `queue.declare`; empty when none did.
    pub method: &'static str,
}

impl CloseReason {
    pub(crate) fn new(code: u16, text: impl Into<String>, class_id: u16, method_id: u16) -> Self {
        let method = if class_id == 0 { "" } else { method_name(class_id, method_id) };
        Self { code, text: text.into(), method }
    }

    /// Tells whether the code is one that closes a channel only (311, 312, 313, 403 to 406).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn needs_new_channel_only(error: &Error) -> bool {
    ///     error.close_reason().is_some_and(|reason| reason.is_soft())
    /// }
    /// assert!(!needs_new_channel_only(&Error::credentials("none")));
    /// ```
    pub fn is_soft(&self) -> bool {
        matches!(self.code, 311..=313 | 403..=406)
    }
}

impl CloseReason {
    /// Reads from the text which exchange or queue it is about: `… exchange 'orders' in vhost '/' …`.
    pub(crate) fn entity(&self) -> Option<&str> {
        let begins = |what: &str| Some(self.text.find(what)? + what.len());
        let at = [begins("exchange '"), begins("queue '")].into_iter().flatten().min()?;
        let (name, _) = self.text.get(at..)?.split_once("' in vhost '")?;
        (!name.is_empty()).then_some(name)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)?;
        if !self.method.is_empty() {
            write!(f, " (caused by {})", self.method)?;
        }
        Ok(())
    }
}

/// Says what went wrong, cheap to clone.
///
/// One error may answer many: when a connection is lost, all who waited for it get a clone of the same cause.
/// `Display` says what failed, on which entity, and the broker's code and text; nothing secret is in it.
///
/// # Examples
/// ```
/// use actix_pika_actors::{Error, ErrorKind};
///
/// fn worth_another_try(error: &Error) -> bool {
///     error.is_retryable() && error.kind() != ErrorKind::Limit
/// }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: ErrorKind,
    what: Cow<'static, str>,
    entity: Option<String>,
    close: Option<CloseReason>,
    returned: Option<Return>,
    io: Option<io::ErrorKind>,
    retryable: bool,
    may_have_arrived: bool,
    source: Option<Error>,
}

impl Error {
    /// Tells the sort of failure.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Error, ErrorKind};
    /// assert_eq!(Error::credentials("the vault is sealed").kind(), ErrorKind::Auth);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Tells whether the same operation may succeed when tried again, on a new connection or channel if need be.
    ///
    /// True for `Io`, `Timeout`, `Blocked`, `Protocol`, `ConnectionClosed`, `Nacked` and failed
    /// [providers](Self::credentials). A publish that is tried again may be there twice, if it [may have
    /// arrived](Self::may_have_arrived).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// assert!(Error::credentials("the vault is sealed").is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Tells whether only a channel, not the connection, was lost to it.
    ///
    /// It looks at the broker's reply code alone: `false` as well where the broker gave no reason.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// assert!(!Error::credentials("the vault is sealed").is_soft());
    /// ```
    pub fn is_soft(&self) -> bool {
        self.close_reason().is_some_and(CloseReason::is_soft)
    }

    /// Tells whether the publish may have reached the broker in spite of the error.
    ///
    /// True when the publish had been handed to the socket and its confirm never came, on this connection or on one
    /// before: to publish it again may make it two. False when it surely was not sent, or not taken.
    ///
    /// **Over a reconnect**: a publish that was not confirmed is sent again by itself, so that this is told
    /// of only when its deadline passes, or with `on_outage(Fail)`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn may_be_sent_again(error: &Error) -> bool {
    ///     error.is_retryable() && !error.may_have_arrived()
    /// }
    /// assert!(may_be_sent_again(&Error::credentials("the vault is sealed")));
    /// ```
    pub fn may_have_arrived(&self) -> bool {
        self.0.may_have_arrived
    }

    /// Names the reply code, text and method with which the broker closed the channel or the connection.
    ///
    /// It is that of the error below where an error wraps another; `None` where the broker closed nothing,
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

    /// Returns the broker's reply code: of the close of the channel or the connection, or of the returned publish.
    ///
    /// It is 403, 404, 405 or 406 for most refused calls, 312 for `Unroutable`, and `None` where the broker sent no code.
    ///
    /// Source: AMQP 0-9-1 section 1.2.
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

    /// Hands out the publish that came back, for [`ErrorKind::Unroutable`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn lost_key(error: &Error) -> Option<&str> {
    ///     error.returned().map(|returned| &*returned.routing_key)
    /// }
    /// assert_eq!(lost_key(&Error::credentials("none")), None);
    /// ```
    pub fn returned(&self) -> Option<&Return> {
        self.0.returned.as_ref()
    }

    /// Tells the kind of the I/O error below, if one is.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn nobody_listens(error: &Error) -> bool {
    ///     error.io_kind() == Some(std::io::ErrorKind::ConnectionRefused)
    /// }
    /// assert!(!nobody_listens(&Error::credentials("none")));
    /// ```
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.0.io.or_else(|| self.0.source.as_ref().and_then(Error::io_kind))
    }

    /// Names the exchange, queue, consumer or address concerned, where known; on a channel that is closed, that of the
    /// call that closed it.
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

    fn inner(kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Inner {
        Inner {
            kind,
            what: what.into(),
            entity: None,
            close: None,
            returned: None,
            io: None,
            retryable: false,
            may_have_arrived: false,
            source: None,
        }
    }

    #[doc(hidden)]
    pub fn uri(what: impl Into<Cow<'static, str>>) -> Self {
        Self::inner(ErrorKind::Uri, what).into()
    }

    #[doc(hidden)]
    pub fn limit(what: impl Into<Cow<'static, str>>) -> Self {
        Self::inner(ErrorKind::Limit, what).into()
    }

    #[doc(hidden)]
    pub fn codec(what: impl Into<Cow<'static, str>>) -> Self {
        Self::inner(ErrorKind::Codec, what).into()
    }

    #[doc(hidden)]
    pub fn stopped(what: impl Into<Cow<'static, str>>) -> Self {
        Self::inner(ErrorKind::Stopped, what).into()
    }

    pub(crate) fn io(what: impl Into<Cow<'static, str>>, error: &io::Error) -> Self {
        let mut inner = Self::inner(ErrorKind::Io, format!("{}: {error}", what.into()));
        inner.io = Some(error.kind());
        inner.retryable = true;
        inner.into()
    }

    #[doc(hidden)]
    pub fn timeout(what: impl Into<Cow<'static, str>>) -> Self {
        let mut inner = Self::inner(ErrorKind::Timeout, what);
        inner.retryable = true;
        inner.into()
    }

    pub(crate) fn blocked(what: impl Into<Cow<'static, str>>) -> Self {
        let mut inner = Self::inner(ErrorKind::Blocked, what);
        inner.retryable = true;
        inner.into()
    }

    pub(crate) fn protocol(what: impl Into<Cow<'static, str>>) -> Self {
        let mut inner = Self::inner(ErrorKind::Protocol, what);
        inner.retryable = true;
        inner.into()
    }

    /// Reports that no credentials could be had, for a [`CredentialsProvider`](crate::CredentialsProvider); of kind
    /// `Auth` and worth another try.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Error, ErrorKind};
    /// let error = Error::credentials("the vault is sealed");
    /// assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Auth, true));
    /// assert_eq!(error.to_string(), "no credentials: the vault is sealed");
    /// ```
    pub fn credentials(why: impl fmt::Display) -> Self {
        let mut inner = Self::inner(ErrorKind::Auth, format!("no credentials: {why}"));
        inner.retryable = true;
        inner.into()
    }

    pub(crate) fn auth(what: impl Into<Cow<'static, str>>, close: Option<CloseReason>) -> Self {
        let mut inner = Self::inner(ErrorKind::Auth, what);
        inner.close = close;
        inner.into()
    }

    pub(crate) fn vhost(close: CloseReason) -> Self {
        let mut inner = Self::inner(ErrorKind::Vhost, "the virtual host was refused");
        inner.close = Some(close);
        inner.into()
    }

    pub(crate) fn connection_closed(what: impl Into<Cow<'static, str>>, close: Option<CloseReason>) -> Self {
        let mut inner = Self::inner(ErrorKind::ConnectionClosed, what);
        inner.close = close;
        inner.retryable = true;
        inner.into()
    }

    /// The connection ended, for the reason that `cause` tells.
    pub(crate) fn connection_lost(cause: &Error) -> Self {
        if cause.kind() == ErrorKind::ConnectionClosed {
            return cause.clone();
        }
        let mut inner = Self::inner(ErrorKind::ConnectionClosed, "the connection is closed");
        inner.retryable = true;
        inner.source = Some(cause.clone());
        inner.into()
    }

    pub(crate) fn channel_closed(what: impl Into<Cow<'static, str>>, close: Option<CloseReason>) -> Self {
        let mut inner = Self::inner(ErrorKind::ChannelClosed, what);
        inner.close = close;
        inner.into()
    }

    pub(crate) fn refused(what: &'static str, close: CloseReason) -> Self {
        let mut inner = Self::inner(ErrorKind::Refused, format!("{what} was refused"));
        inner.close = Some(close);
        inner.into()
    }

    #[doc(hidden)]
    pub fn refused_here(what: impl Into<Cow<'static, str>>) -> Self {
        Self::inner(ErrorKind::Refused, what).into()
    }

    pub(crate) fn nacked() -> Self {
        let mut inner = Self::inner(ErrorKind::Nacked, "the broker did not take the publish (basic.nack)");
        inner.retryable = true;
        inner.into()
    }

    pub(crate) fn unroutable(returned: Return) -> Self {
        let what = format!(
            "no queue for routing key {:?} at {}: {} {}",
            returned.routing_key,
            exchange_name(&returned.exchange),
            returned.code,
            returned.text
        );
        let mut inner = Self::inner(ErrorKind::Unroutable, what);
        inner.returned = Some(returned);
        inner.into()
    }

    pub(crate) fn stale(what: &'static str) -> Self {
        Self::inner(ErrorKind::StaleDelivery, what).into()
    }

    /// The same of publishes that may have arrived.
    pub(crate) fn maybe_arrived(self) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Inner { may_have_arrived: true, ..inner }.into(),
            Err(shared) => Self(shared).in_flight(),
        }
    }

    /// The same failure, of a publish that had been handed to the socket.
    pub(crate) fn in_flight(&self) -> Self {
        let mut inner = Self::inner(self.kind(), "the publish was not confirmed and may have arrived");
        inner.retryable = self.is_retryable();
        inner.may_have_arrived = true;
        inner.io = self.io_kind();
        inner.source = Some(self.clone());
        inner.into()
    }

    /// The same failure, told of `entity`, unless it is told of another already.
    #[doc(hidden)]
    pub fn on(self, entity: impl Into<String>) -> Self {
        if self.entity().is_some() {
            return self;
        }
        let mut inner = Arc::unwrap_or_clone(self.0);
        inner.entity = Some(entity.into());
        inner.into()
    }
}

fn exchange_name(name: &str) -> String {
    if name.is_empty() { "the default exchange".into() } else { format!("exchange {name:?}") }
}

impl From<Inner> for Error {
    fn from(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }
}

impl From<TooLong> for Error {
    fn from(error: TooLong) -> Self {
        Self::limit(error.to_string())
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::codec(refused.to_string())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::protocol(fault.to_string())
    }
}

impl From<actix::MailboxError> for Error {
    fn from(error: actix::MailboxError) -> Self {
        match error {
            actix::MailboxError::Closed => Self::stopped("the actor is gone"),
            actix::MailboxError::Timeout => Self::timeout("no answer from the actor"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    fn the_text_of_a_close_names_what_it_is_about() {
        let entity = |text: &str| CloseReason::new(404, text, 60, 40).entity().map(str::to_owned);
        assert_eq!(entity("NOT_FOUND - no exchange 'orders' in vhost '/'").as_deref(), Some("orders"));
        assert_eq!(entity("NOT_FOUND - no queue 'it's' in vhost 'v'").as_deref(), Some("it's"));
        let refused =
            "ACCESS_REFUSED - access to exchange 'e' in vhost 'v' refused for user 'queue 'q' in vhost '";
        assert_eq!(entity(refused).as_deref(), Some("e"));
        assert_eq!(entity("NOT_FOUND - no exchange '' in vhost '/'"), None);
        assert_eq!(entity("NOT_FOUND - no exchange 'cut he"), None);
        assert_eq!(entity("PRECONDITION_FAILED - unknown delivery tag 9"), None);
    }

    #[test]
    fn an_error_that_is_shared_can_be_told_of_an_entity() {
        let closed = Error::connection_closed("over", None);
        let told = closed.clone().on("jobs");
        assert_eq!(
            (told.kind(), told.entity(), closed.entity()),
            (ErrorKind::ConnectionClosed, Some("jobs"), None)
        );
        // What is known is nearer to the cause.
        assert_eq!(told.in_flight().on("another").entity(), Some("jobs"));
    }
}
