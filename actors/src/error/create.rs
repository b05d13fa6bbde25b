//! How errors are created: constructors, and conversions from other errors.

use std::{borrow::Cow, fmt, io, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{CloseReason, ConnectRefusal, Error, ErrorData, ErrorKind, FaultOrigin};
use crate::{
    returned::Return,
    wire::{DecodeError, EncodeError, Fault, NameError, TooLong},
};

impl Error {
    pub(super) fn data(kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> ErrorData {
        ErrorData {
            kind,
            what: what.into(),
            entity: None,
            close: None,
            refusal: None,
            tls: None,
            returned: None,
            io: None,
            retryable: false,
            may_have_arrived: false,
            abandoned: 0,
            next_attempt: None,
            no_room: false,
            fault: None,
            source: None,
        }
    }

    pub(crate) fn uri(what: impl Into<Cow<'static, str>>) -> Self {
        Self::data(ErrorKind::Uri, what).into()
    }

    pub(crate) fn limit(what: impl Into<Cow<'static, str>>) -> Self {
        Self::data(ErrorKind::Limit, what).into()
    }

    /// Creates the error of a value that cannot be encoded or decoded, such as a codec returns. It has kind `Codec`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Error, ErrorKind};
    /// let error = Error::codec("a point needs two numbers");
    /// assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Codec, false));
    /// ```
    pub fn codec(what: impl Into<Cow<'static, str>>) -> Self {
        Self::data(ErrorKind::Codec, what).into()
    }

    pub(crate) fn database(what: impl Into<Cow<'static, str>>, retryable: bool) -> Self {
        let mut data = Self::data(ErrorKind::Database, what);
        data.retryable = retryable;
        data.into()
    }

    pub(crate) fn stopped(what: impl Into<Cow<'static, str>>) -> Self {
        Self::data(ErrorKind::Stopped, what).into()
    }

    /// Creates the error of a socket or a file. An error of TLS has its own kind.
    pub(crate) fn io(what: impl Into<Cow<'static, str>>, error: &io::Error) -> Self {
        #[cfg(feature = "tls")]
        if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref()) {
            return Self::tls(what, super::TlsFailure::of(error), error);
        }
        let mut data = Self::data(ErrorKind::Io, format!("{}: {error}", what.into()));
        data.io = Some(error.kind());
        data.retryable = true;
        data.into()
    }

    pub(crate) fn timeout(what: impl Into<Cow<'static, str>>) -> Self {
        let mut data = Self::data(ErrorKind::Timeout, what);
        data.retryable = true;
        data.into()
    }

    pub(crate) fn blocked(what: impl Into<Cow<'static, str>>) -> Self {
        let mut data = Self::data(ErrorKind::Blocked, what);
        data.retryable = true;
        data.into()
    }

    /// Creates the error of a deadline that passed while the broker blocked the connection for `reason`.
    pub(crate) fn blocked_by(what: impl fmt::Display, reason: &str) -> Self {
        Self::blocked(format!("{what}: the broker blocks the connection ({})", reason.escape_debug()))
    }

    /// Creates the error of a deadline that passed while there was no connection, or no open channel, because
    /// of `cause`.
    pub(crate) fn unavailable(what: impl fmt::Display, cause: &Error) -> Self {
        let (kind, missing) = match cause.kind() {
            ErrorKind::ChannelClosed => (ErrorKind::ChannelClosed, "the channel is not open again"),
            _ => (ErrorKind::ConnectionClosed, "there is no connection"),
        };
        let mut data = Self::data(kind, format!("{what}, {missing}"));
        data.retryable = true;
        Self::from(data).because(cause.clone())
    }

    /// Sets the cause of the error.
    pub(crate) fn because(self, cause: Error) -> Self {
        let mut data = Arc::unwrap_or_clone(self.0);
        data.source = Some(cause);
        data.into()
    }

    pub(crate) fn protocol(what: impl Into<Cow<'static, str>>) -> Self {
        let mut data = Self::data(ErrorKind::Protocol, what);
        data.retryable = true;
        data.into()
    }

    /// Creates the error of a failed [`CredentialsProvider`](crate::CredentialsProvider): retryable, of kind
    /// `Auth`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Error, ErrorKind};
    /// let error = Error::credentials("the vault is sealed");
    /// assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Auth, true));
    /// assert_eq!(error.to_string(), "no credentials: the vault is sealed");
    /// ```
    pub fn credentials(why: impl fmt::Display) -> Self {
        let mut data = Self::data(ErrorKind::Auth, format!("no credentials: {why}"));
        data.retryable = true;
        data.into()
    }

    pub(crate) fn auth(what: impl Into<Cow<'static, str>>, close: Option<CloseReason>) -> Self {
        let mut data = Self::data(ErrorKind::Auth, what);
        data.close = close;
        data.into()
    }

    /// Creates the error of a connection that the broker refused during the handshake.
    pub(crate) fn connect_refused(close: CloseReason) -> Self {
        let refusal = ConnectRefusal::new(close.code, &close.text);
        let (kind, what, retryable) = match refusal {
            ConnectRefusal::Login => (ErrorKind::Auth, "the credentials were refused", false),
            ConnectRefusal::MissingVhost => (ErrorKind::Vhost, "the virtual host was not found", false),
            ConnectRefusal::VhostAccess => (ErrorKind::Vhost, "the virtual host was refused", false),
            ConnectRefusal::VhostDown => (ErrorKind::Vhost, "the virtual host is down", true),
            ConnectRefusal::Limit => (ErrorKind::Limit, "the broker takes no more connections", true),
            ConnectRefusal::Other if close.code == 530 => {
                (ErrorKind::Vhost, "the virtual host was refused", false)
            }
            ConnectRefusal::Other => {
                (ErrorKind::ConnectionClosed, "the broker closed the connection while opening it", true)
            }
        };
        let mut data = Self::data(kind, what);
        (data.close, data.refusal, data.retryable) = (Some(close), Some(refusal), retryable);
        data.into()
    }

    /// Marks a socket that the broker closed without a reply as a refusal of the login.
    pub(crate) fn with_refused_login(self) -> Self {
        let mut data = Arc::unwrap_or_clone(self.0);
        data.refusal = Some(ConnectRefusal::Login);
        data.into()
    }

    /// Adds that the thread of the connection was blocked before.
    pub(crate) fn after_stall(self, stall: Duration) -> Self {
        let mut data = Arc::unwrap_or_clone(self.0);
        data.what = format!(
            "{} (before that, the arbiter of the connection stood still for {stall:.1?}; `Connector::own_thread` \
             keeps the connection from what blocks an arbiter)",
            data.what
        )
        .into();
        data.into()
    }

    /// Adds the error that caused this one.
    pub(crate) fn caused_by(self, cause: &Error) -> Self {
        let mut data = Arc::unwrap_or_clone(self.0);
        data.source = Some(cause.clone());
        data.into()
    }

    /// Adds how other addresses failed to the text.
    pub(crate) fn beside(self, others: &[Error]) -> Self {
        if others.is_empty() {
            return self;
        }
        let mut data = Arc::unwrap_or_clone(self.0);
        let others: Vec<_> = others.iter().map(Error::to_string).collect();
        data.what = format!("{} (another address: {})", data.what, others.join("; ")).into();
        data.into()
    }

    pub(crate) fn connection_closed(what: impl Into<Cow<'static, str>>, close: Option<CloseReason>) -> Self {
        let mut data = Self::data(ErrorKind::ConnectionClosed, what);
        data.close = close;
        data.retryable = true;
        data.into()
    }

    /// Creates the error of calls and publishes that the application has ended itself, by closing the connection.
    pub(crate) fn connection_closed_here(what: &'static str) -> Self {
        Self::data(ErrorKind::ConnectionClosed, what).into()
    }

    /// Creates the error of calls and publishes on a connection that ended because of `cause`.
    pub(crate) fn connection_lost(cause: &Error) -> Self {
        if cause.kind() == ErrorKind::ConnectionClosed {
            return cause.clone();
        }
        let mut data = Self::data(ErrorKind::ConnectionClosed, "the connection is closed");
        data.retryable = !cause.is_refused_for_good();
        data.source = Some(cause.clone());
        data.into()
    }

    pub(crate) fn channel_closed(what: impl Into<Cow<'static, str>>, close: Option<CloseReason>) -> Self {
        let mut data = Self::data(ErrorKind::ChannelClosed, what);
        data.close = close;
        data.into()
    }

    /// Creates the error of publishes and calls that the broker dropped with their channel, which it closed
    /// for another one.
    pub(crate) fn closed_meanwhile(cause: &Error) -> Self {
        let mut data = Self::data(ErrorKind::ChannelClosed, "the channel was closed meanwhile");
        data.retryable = true;
        data.source = Some(cause.clone());
        data.into()
    }

    /// Creates the error of a channel whose transaction is lost with the connection. Another one may be committed
    /// on a new channel.
    pub(crate) fn transaction_lost(close: Option<CloseReason>) -> Self {
        let what = "the transaction is lost with its connection";
        let mut data = Self::data(ErrorKind::ChannelClosed, what);
        (data.close, data.retryable) = (close, true);
        data.into()
    }

    /// Creates the error of publishes, and of callers that close their channel, when it is closed before all
    /// is confirmed.
    pub(crate) fn abandoned(publishes: usize, cause: &Error) -> Self {
        let what = format!("closed with {publishes} publishes unconfirmed");
        let mut data = Self::data(cause.kind(), what);
        data.abandoned = publishes;
        data.retryable = cause.is_retryable();
        data.source = Some(cause.clone());
        data.into()
    }

    /// Adds when the connection is dialled again.
    pub(crate) fn tried_again_at(self, at: Instant) -> Self {
        let mut data = Arc::unwrap_or_clone(self.0);
        data.next_attempt = Some(at);
        data.into()
    }

    /// Marks the error as one of something that is used up at present.
    pub(crate) fn without_room(self) -> Self {
        let mut data = Arc::unwrap_or_clone(self.0);
        data.no_room = true;
        data.into()
    }

    /// Adds how many publishes a close has left without a confirm.
    pub(crate) fn abandoning(self, publishes: usize) -> Self {
        let mut data = Arc::unwrap_or_clone(self.0);
        data.abandoned = publishes;
        data.into()
    }

    /// Creates the error of a publish to an exchange that the broker has named as missing.
    pub(crate) fn not_sent_to_missing(cause: &Error) -> Self {
        let mut data =
            Self::data(cause.kind(), "not sent, the exchange was missing when the broker was last asked");
        data.source = Some(cause.clone());
        data.into()
    }

    /// Creates the error of a publish that the broker does not permit.
    pub(crate) fn not_sent_to_forbidden(cause: &Error) -> Self {
        let mut data = Self::data(cause.kind(), "not sent, the broker refused it when it was last asked");
        data.source = Some(cause.clone());
        data.into()
    }

    pub(crate) fn refused(what: &'static str, close: CloseReason) -> Self {
        let mut data = Self::data(ErrorKind::Refused, format!("{what} was refused"));
        data.close = Some(close);
        data.into()
    }

    pub(crate) fn refused_here(what: impl Into<Cow<'static, str>>) -> Self {
        Self::data(ErrorKind::Refused, what).into()
    }

    pub(crate) fn nacked() -> Self {
        let mut data = Self::data(ErrorKind::Nacked, "the broker did not take the publish (basic.nack)");
        data.retryable = true;
        // One queue that refuses the message is enough for a nack.
        data.may_have_arrived = true;
        data.into()
    }

    /// Names the publish that the error is about.
    pub(crate) fn of_publish(self, exchange: &str, routing_key: &str, message_id: Option<&str>) -> Self {
        let mut data = Arc::unwrap_or_clone(self.0);
        let message = message_id.map(|id| format!(", message id {id:?}")).unwrap_or_default();
        let exchange_name = exchange_name(exchange);
        data.what = format!("{}: routing key {routing_key:?} at {exchange_name}{message}", data.what).into();
        // The default exchange routes to the queue with the name of the key.
        let entity = if exchange.is_empty() { routing_key } else { exchange };
        data.entity.get_or_insert_with(|| entity.to_owned());
        data.into()
    }

    pub(crate) fn unroutable(returned: Return) -> Self {
        let what = format!(
            "no queue for routing key {:?} at {}: {} {}",
            returned.routing_key,
            exchange_name(&returned.exchange),
            returned.code,
            returned.text
        );
        let mut data = Self::data(ErrorKind::Unroutable, what);
        data.returned = Some(returned);
        data.into()
    }

    pub(crate) fn stale(what: &'static str) -> Self {
        Self::data(ErrorKind::StaleDelivery, what).into()
    }

    /// Marks the error as one of publishes that may have arrived.
    pub(crate) fn maybe_arrived(self) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(data) => ErrorData { may_have_arrived: true, ..data }.into(),
            Err(shared) => Self(shared).in_flight(),
        }
    }

    /// Wraps the error as one of a publish that was written to the socket and not confirmed.
    pub(crate) fn in_flight(&self) -> Self {
        if self.may_have_arrived() {
            return self.clone();
        }
        let mut data = Self::data(self.kind(), "the publish was not confirmed and may have arrived");
        data.retryable = self.is_retryable();
        data.may_have_arrived = true;
        data.io = self.io_kind();
        data.source = Some(self.clone());
        data.into()
    }

    /// Wraps the error as one of a call whose reply was cut off, so that it may have taken effect.
    pub(crate) fn without_reply(&self, method: &str) -> Self {
        let mut data = Self::data(self.kind(), format!("{method} has no reply and may have taken effect"));
        data.retryable = self.is_retryable();
        data.may_have_arrived = true;
        Self::from(data).because(self.clone())
    }

    /// Adds the entity concerned, unless the error has one already.
    pub(crate) fn on(self, entity: impl Into<String>) -> Self {
        if self.entity().is_some() {
            return self;
        }
        let mut data = Arc::unwrap_or_clone(self.0);
        data.entity = Some(entity.into());
        data.into()
    }
}

fn exchange_name(name: &str) -> String {
    if name.is_empty() { "the default exchange".into() } else { format!("exchange {name:?}") }
}

impl From<ErrorData> for Error {
    fn from(data: ErrorData) -> Self {
        Self(Arc::new(data))
    }
}

impl From<TooLong> for Error {
    fn from(error: TooLong) -> Self {
        Self::limit(error.to_string())
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        match error {
            NameError::TooLong(error) => error.into(),
            NameError::LineBreak { .. } => Self::refused_here(error.to_string()),
        }
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::codec(error.to_string())
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::codec(error.to_string())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let mut data = Self::data(ErrorKind::Protocol, fault.to_string());
        data.retryable = true;
        data.fault = Some(FaultOrigin { code: fault.code, channel: fault.channel });
        data.into()
    }
}

impl From<actix::MailboxError> for Error {
    fn from(error: actix::MailboxError) -> Self {
        match error {
            // An actor of this crate replies to every message that it has read, also when it ends.
            actix::MailboxError::Closed => Self::stopped("the actor has stopped"),
            // It still reads the message, which may be a publish.
            actix::MailboxError::Timeout => Self::timeout("the actor did not reply in time").maybe_arrived(),
        }
    }
}
