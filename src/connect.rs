//! The functions that open a connection, and what they accept.

use crate::{Connection, Connector, Result};

/// Opens a connection. It is not recovered when it is lost.
///
/// Sends the protocol header, `connection.start-ok`, `connection.tune-ok` and `connection.open`. Takes a URI,
/// or a [`Connector`] with further options. A failed attempt is not repeated. The connection runs on the
/// first arbiter of the actix `System`, or, where none runs (`#[tokio::main]`), on a thread of its own: see
/// [the crate documentation](crate#where-a-connection-runs).
///
/// # Errors
/// - `Uri`: the URI cannot be parsed, or is `amqps` and no feature of TLS is on.
/// - `Tls`: the server is not trusted, does not trust the client, or does not use TLS;
///   [`tls_failure`](crate::Error::tls_failure) has the reason. [`TlsFailure`](crate::error::TlsFailure) lists
///   which are retryable.
/// - `Io`: nothing listens, the name has no address, or the socket fails during the handshake. Retryable.
/// - `Timeout`: dialling and the handshake took longer than 30 seconds. Retryable.
/// - `Auth`: the broker refuses the login (403), there is no mechanism in common, or the provider has no
///   credentials.
/// - `Vhost`: the virtual host does not exist, the user has no access to it (530), or it is down (541). Only
///   the last is retryable.
/// - `ConnectionClosed`: the broker refuses for another reason, with its code.
/// - `Protocol`: the peer does not speak AMQP 0-9-1.
/// - `Limit`: the virtual host, the user or the node has as many connections as it may have (530; retryable).
///   Without a code: client properties and login have more than 4,096 bytes together, the login contains a
///   NUL, or the broker's largest frame is smaller than AMQP allows.
/// - `Stopped`: the arbiter has ended, or the thread of the connection cannot be started.
///
/// [`Error::entity`](crate::Error::entity) names the address.
///
/// **Over a reconnect**: there is none. When the connection is lost, everything on it ends with
/// `ConnectionClosed`, which has the cause. Paragraphs with this heading elsewhere describe connections made
/// with [`connect_robust`].
///
/// Source: AMQP 0-9-1 section 1.4 (class connection); <https://www.rabbitmq.com/docs/connections>
///
/// # Examples
/// ```no_run
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = actix_pika::connect("amqp://guest:guest@localhost/").await?;
/// # connection.close().await
/// # }
/// ```
///
/// Errors are classified:
///
/// ```
/// use actix_pika::{ErrorKind, connect};
///
/// # actix_rt::System::new().block_on(async {
/// let error = connect("amqp://localhost/?heartbeat=often").await.unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Uri);
/// assert!(!error.is_retryable());
/// # });
/// ```
pub async fn connect(target: impl IntoConnector) -> Result<Connection> {
    target.into_connector()?.connect().await
}

/// Opens a connection that is recovered when it is lost, with everything that was declared on it.
///
/// The first connect fails at its first error, like [`connect`]; with the URI parameter `fail_fast=0` or
/// [`Connector::fail_fast`] it is retried. A connection that is lost later is replaced after a pause: as in
/// [`Recovery::default`](crate::Recovery), after the URI's `reconnect_interval`, or as set by
/// [`Connector::recovery`].
///
/// # Errors
/// Those of [`connect`]. When recovery ends later, its cause is in
/// [`ConnectionEvent::Closed`](crate::ConnectionEvent::Closed) and in the `ConnectionClosed` that every call
/// returns from then on.
///
/// **Over a reconnect**: all handles stay valid. Exchanges, queues and bindings that were declared over the
/// connection are redeclared. Then channels are reopened with their prefetch, consumers and confirm mode,
/// unconfirmed publishes are resent in order, and new ones follow.
/// [`ConnectionEvent::Recovered`](crate::ConnectionEvent::Recovered) reports when that is done, and what
/// could not be recovered. What was declared or consumed stays wanted until it is deleted, cancelled or
/// [forgotten](Connection::forget): what is [missing](Connection::missing) is tried again, each entity by a
/// back-off of its own, and [`Connection::health`] is `Degraded` until it is in place. Recovery ends by
/// [`Connection::close`], by the limits of the
/// [`Recovery`](crate::Recovery), or when every address refuses login or virtual host for a minute. See [the
/// crate documentation](crate#over-a-reconnect).
///
/// Source: <https://www.rabbitmq.com/docs/connections#recovery>; <https://www.rabbitmq.com/docs/reliability>
///
/// # Examples
/// ```no_run
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = actix_pika::connect_robust("amqp://guest:guest@localhost/").await?;
/// # connection.close().await
/// # }
/// ```
pub async fn connect_robust(target: impl IntoConnector) -> Result<Connection> {
    target.into_connector()?.robust().connect().await
}

/// What [`connect`] accepts: a URI (`&str`, `String`, `&String`) or a [`Connector`].
///
/// # Examples
/// ```
/// use actix_pika::{Connector, Result, options::IntoConnector};
///
/// struct Settings {
///     broker: String,
/// }
///
/// impl IntoConnector for &Settings {
///     fn into_connector(self) -> Result<Connector> {
///         Ok(Connector::new(&self.broker)?.name("orders"))
///     }
/// }
///
/// assert!(Settings { broker: "amqp://localhost".into() }.into_connector().is_ok());
/// assert!(Settings { broker: "http://localhost".into() }.into_connector().is_err());
/// ```
pub trait IntoConnector {
    /// Converts into a connector.
    ///
    /// # Errors
    /// `Uri` if a URI cannot be parsed.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::options::IntoConnector;
    ///
    /// assert!("amqp://localhost".into_connector().is_ok());
    /// ```
    fn into_connector(self) -> Result<Connector>;
}

impl IntoConnector for Connector {
    fn into_connector(self) -> Result<Connector> {
        Ok(self)
    }
}

impl IntoConnector for &str {
    fn into_connector(self) -> Result<Connector> {
        Connector::new(self)
    }
}

impl IntoConnector for &String {
    fn into_connector(self) -> Result<Connector> {
        Connector::new(self)
    }
}

impl IntoConnector for String {
    fn into_connector(self) -> Result<Connector> {
        Connector::new(&self)
    }
}
