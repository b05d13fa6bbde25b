//! The kinds of errors.

/// Lists the kinds of [`Error`](crate::Error).
///
/// The error has more details: [`is_retryable`](crate::Error::is_retryable) returns whether the operation may
/// succeed later, [`is_soft`](crate::Error::is_soft) whether only the channel is closed, and
/// [`may_have_arrived`](crate::Error::may_have_arrived) whether a publish may have reached the broker.
///
/// **Over a reconnect**: a call that awaited its reply when the connection was lost fails with
/// `ConnectionClosed`, and is retryable. A delivery from before the reconnect fails with `StaleDelivery`.
///
/// Source: AMQP 0-9-1 section 1.2 (reply codes)
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Error, ErrorKind};
/// fn cause(error: &Error) -> &'static str {
///     match error.kind() {
///         ErrorKind::Uri | ErrorKind::Auth | ErrorKind::Vhost => "configuration",
///         ErrorKind::Codec | ErrorKind::Limit | ErrorKind::Refused => "call",
///         ErrorKind::Io | ErrorKind::Timeout => "network",
///         _ => "other",
///     }
/// }
/// assert_eq!(cause(&Error::credentials("the vault is sealed")), "configuration");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The socket failed: connection refused, reset, host unreachable.
    Io,
    /// TLS failed: [`tls_failure`](crate::Error::tls_failure) has the reason. A connect that fails
    /// so has sent no credentials.
    Tls,
    /// The connection URI is invalid.
    Uri,
    /// The broker refused the credentials (403), or offers no mechanism that this client supports.
    Auth,
    /// The virtual host does not exist, this user has no access to it (530), or it is down (541, retryable).
    Vhost,
    /// A deadline passed.
    Timeout,
    /// The peer violated the protocol, or is not an AMQP 0-9-1 server.
    Protocol,
    /// The connection is closed; [`close_reason`](crate::Error::close_reason) has the reason if the broker
    /// closed it.
    ConnectionClosed,
    /// The channel is closed; [`close_reason`](crate::Error::close_reason) has the reason if the broker
    /// closed it.
    ChannelClosed,
    /// The broker refused this call and closed the channel, or the client refused it before sending anything;
    /// the latter has no [`code`](crate::Error::code).
    Refused,
    /// The broker did not take responsibility for a publish (`basic.nack`). It may have arrived nevertheless:
    /// one queue that refuses it is enough, while other queues that it was routed to have it.
    Nacked,
    /// A mandatory publish reached no queue; [`returned`](crate::Error::returned) has the message.
    Unroutable,
    /// The delivery is from before a reconnect or a reopening of its channel, or is already settled.
    StaleDelivery,
    /// A deadline passed while the broker blocked the connection (`connection.blocked`).
    Blocked,
    /// The actor that should have replied has stopped.
    Stopped,
    /// A value could not be encoded or decoded.
    Codec,
    /// A limit would be exceeded, such as the length of a name or the number of channels. With a
    /// [`code`](crate::Error::code) (530) it is the broker's limit of connections, which passes: retryable.
    Limit,
    /// The database of an outbox or an inbox failed. Retryable if the same transaction may succeed later: for lost
    /// connections, locks, deadlocks and serialization failures.
    Database,
}
