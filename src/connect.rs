//! From a URI to a connection.

use std::{fmt, time::Duration};

use actix_pika_actors::{
    ConnectionOptions, ConnectionState, ConnectionSupervisor,
    uri::{AmqpUri, Scheme},
};
use actix_rt::ArbiterHandle;

use crate::{Connection, Error, Result, Value, runtime};

/// Opens a connection; it stays closed when it is lost.
///
/// Lives on the caller's arbiter, or, where no actix `System` runs (`#[tokio::main]`), on a thread of the library's own.
///
/// # Errors
/// `Uri` for what cannot be parsed, `Io` where nothing listens, `Timeout` when dialling and shaking hands take longer
/// than 30 seconds, `Auth` (403), `Vhost` (530), `Protocol` where the other end does not speak AMQP 0-9-1.
///
/// # Examples
/// ```no_run
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = actix_pika::connect("amqp://guest:guest@localhost/").await?;
/// # connection.close().await
/// # }
/// ```
pub async fn connect(target: impl IntoConnector) -> Result<Connection> {
    target.into_connector()?.connect().await
}

/// How to connect, step by step.
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use actix_pika::Connector;
///
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = Connector::new("amqp://guest:guest@localhost/")?
///     .name("orders")
///     .heartbeat(Duration::from_secs(30))
///     .connect()
///     .await?;
/// # connection.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct Connector {
    options: ConnectionOptions,
    arbiter: Option<ArbiterHandle>,
}

impl Connector {
    /// Takes address, login, virtual host and parameters from a URI (RabbitMQ URI specification).
    ///
    /// # Errors
    /// `Uri`, which names the part or the parameter; never the password.
    pub fn new(uri: &str) -> Result<Self> {
        let uri: AmqpUri =
            uri.parse().map_err(|error: actix_pika_actors::uri::UriError| Error::uri(error.to_string()))?;
        if uri.scheme == Scheme::Amqps {
            return Err(Error::uri("amqps: this version speaks plain TCP only"));
        }
        let mut options = ConnectionOptions::default();
        options.address = actix_pika_actors::Address::new(uri.host, uri.port);
        options.user = uri.user;
        options.password = uri.password;
        options.vhost = uri.vhost;
        let parameters = uri.parameters;
        options.heartbeat = parameters.heartbeat;
        if let Some(max) = parameters.channel_max {
            options.channel_max = max;
        }
        if let Some(max) = parameters.frame_max {
            options.frame_max = max;
        }
        if let Some(timeout) = parameters.connection_timeout {
            options.connect_timeout = timeout;
        }
        let mut connector = Self { options, arbiter: None };
        if let Some(name) = parameters.name {
            connector = connector.name(name);
        }
        Ok(connector)
    }

    /// Names the connection for the management interface (`connection_name`).
    pub fn name(self, name: impl Into<String>) -> Self {
        self.client_property("connection_name", name.into())
    }

    /// Adds what the broker shows of this client.
    pub fn client_property(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.client_properties.insert(key, value);
        self
    }

    /// Sets the interval of heartbeats, rounded up to whole seconds; the broker may ask for a shorter one. Zero turns
    /// them off.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        let seconds = interval.as_secs() + u64::from(interval.subsec_nanos() > 0);
        self.options.heartbeat = Some(seconds.try_into().unwrap_or(u16::MAX));
        self
    }

    /// Sets how long dialling and shaking hands may take together.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Sets how long closing may take, confirms under way included.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.options.close_timeout = timeout;
        self
    }

    /// Sets the most channels; the broker may say less.
    pub fn channel_max(mut self, channels: u16) -> Self {
        self.options.channel_max = channels;
        self
    }

    /// Sets the largest frame in bytes; the broker may say less. RabbitMQ 4.1 and later refuse less than 8,192.
    pub fn frame_max(mut self, bytes: u32) -> Self {
        self.options.frame_max = bytes;
        self
    }

    /// Sets the largest body in bytes; a larger one closes the connection.
    pub fn body_max(mut self, bytes: u64) -> Self {
        self.options.body_max = bytes;
        self
    }

    /// Sets how many bytes of `no_ack` deliveries may wait for the application before the socket is left unread.
    pub fn read_ahead(mut self, bytes: usize) -> Self {
        self.options.read_ahead = bytes;
        self
    }

    /// Sets how long the socket may stay unread because of that (20 seconds) before the consumer that holds most is
    /// cancelled as too slow; a warning is logged after a quarter of it. The broker gives up after 30 seconds.
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.options.stall_limit = limit;
        self
    }

    /// Names the arbiter that the connection lives on, instead of the caller's.
    pub fn arbiter(mut self, arbiter: &ArbiterHandle) -> Self {
        self.arbiter = Some(arbiter.clone());
        self
    }

    /// Opens the connection.
    ///
    /// # Errors
    /// Those of [`connect`].
    pub async fn connect(self) -> Result<Connection> {
        let arbiter = match self.arbiter {
            Some(arbiter) => arbiter,
            None => runtime::io_arbiter()?,
        };
        let (supervisor, mut state) = ConnectionSupervisor::launch(self.options, Some(&arbiter));
        let connection = Connection::new(supervisor, state.clone());
        loop {
            match &*state.borrow_and_update() {
                ConnectionState::Connecting => {}
                ConnectionState::Open(_) => break,
                ConnectionState::Closed(cause) => {
                    return Err(cause.clone().unwrap_or_else(|| Error::stopped("closed while connecting")));
                }
                _ => {}
            }
            if state.changed().await.is_err() {
                return Err(Error::stopped("the arbiter for the I/O has ended"));
            }
        }
        Ok(connection)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What [`connect`] takes: a URI or a [`Connector`].
pub trait IntoConnector {
    /// Makes it a connector.
    ///
    /// # Errors
    /// `Uri` for what cannot be parsed.
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
