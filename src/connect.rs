//! From a URI to a connection.

use std::{fmt, time::Duration};

use actix_pika_actors::{
    Address, ConnectionOptions, ConnectionState, ConnectionSupervisor, HappyEyeballs, SharedProvider,
    uri::{AmqpUri, Scheme, UriError, UriParameters, parse_list},
};
use actix_rt::ArbiterHandle;

use crate::{
    AddressOrder, Connection, CredentialsProvider, Error, Mechanism, Result, TcpOptions, Value, runtime,
};

/// Opens a connection; it stays closed when it is lost.
///
/// Lives on the caller's arbiter, or, where no actix `System` runs (`#[tokio::main]`), on a thread of the library's own.
///
/// # Errors
/// `Uri` for what cannot be parsed, `Io` where nothing listens, `Timeout` when dialling and shaking hands take longer
/// than 30 seconds, `Auth` (403), `Vhost` (530), `Protocol` where the other end does not speak AMQP 0-9-1, `Limit` for
/// client properties and a login of more than 4,096 bytes together.
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
    /// Takes address, login, virtual host and parameters from a URI (RabbitMQ URI specification, and aio-pika).
    ///
    /// | parameter | meaning |
    /// |---|---|
    /// | `name` | as [`name`](Self::name) |
    /// | `heartbeat` | seconds, 0 for none |
    /// | `connection_timeout`, or `timeout` | as [`connect_timeout`](Self::connect_timeout): milliseconds in the former, seconds with a fraction in the latter; the former wins; 0 is refused |
    /// | `channel_max`, `frame_max` | as [`channel_max`](Self::channel_max) and [`frame_max`](Self::frame_max); 0 for no limit of ours, in frames 128 KiB |
    /// | `auth_mechanism`, or `auth` | `PLAIN`, `AMQPLAIN` or `EXTERNAL`; several in order, see [`mechanisms`](Self::mechanisms) |
    /// | `happy_eyeballs_delay`, `interleave` | as [`happy_eyeballs`](Self::happy_eyeballs): seconds with a fraction, and a count |
    /// | `reconnect_interval`, `fail_fast` | read and checked; without effect, since a connection that is lost stays closed and a first connect that fails is always an error |
    /// | `cacertfile`, `certfile`, `keyfile`, `verify`, `server_name_indication`, `cafile`, `capath`, `cadata`, `no_verify_ssl` | refused: they need TLS |
    ///
    /// # Errors
    /// `Uri`, which names the part or the parameter, also one that is unknown; never the password.
    pub fn new(uri: &str) -> Result<Self> {
        Self::new_many([uri])
    }

    /// Takes several URIs for one connection: the nodes of a cluster, tried in this order unless
    /// [`address_order`](Self::address_order) says otherwise.
    ///
    /// The first one says everything; the others may leave out login, virtual host and parameters, and may not say
    /// anything else there. An address that refuses, is silent for longer than the connect limit, or fails in the
    /// handshake leads to the next; a refusal of login or virtual host is reported at once. If none works, the error is
    /// that of the last one and names it.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), for any of them, and for no URI at all.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{AddressOrder, Connector};
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let cluster = Connector::new_many(["amqp://app:secret@rabbit-1/orders", "amqp://rabbit-2"])?
    ///     .address("rabbit-3", 5672)
    ///     .address_order(AddressOrder::Shuffled);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "hosts")]
    pub fn new_many<T: AsRef<str>>(uris: impl IntoIterator<Item = T>) -> Result<Self> {
        let (uri, others) = parse_list(uris).map_err(|error: UriError| Error::uri(error.to_string()))?;
        let mut connector = Self::from_uri(uri)?;
        connector.options.other_addresses = others;
        Ok(connector)
    }

    fn from_uri(uri: AmqpUri) -> Result<Self> {
        if uri.scheme == Scheme::Amqps {
            return Err(Error::uri("amqps: this version speaks plain TCP only"));
        }
        if let Some(key) = uri.parameters.needs_tls() {
            return Err(Error::uri(format!("AMQP URI: parameter {key} needs amqps, not in this version")));
        }
        let mut options = ConnectionOptions::default();
        options.address = Address::new(uri.host, uri.port);
        options.user = uri.user;
        options.password = uri.password;
        options.vhost = uri.vhost;
        Self { options, arbiter: None }.with_parameters(uri.parameters)
    }

    fn with_parameters(mut self, parameters: UriParameters) -> Result<Self> {
        let options = &mut self.options;
        options.heartbeat = parameters.heartbeat;
        if let Some(max) = parameters.channel_max {
            options.channel_max = max;
        }
        if let Some(max) = parameters.frame_max {
            options.frame_max = max;
        }
        for (key, timeout) in
            [("timeout", parameters.timeout), ("connection_timeout", parameters.connection_timeout)]
        {
            match timeout {
                Some(Duration::ZERO) => {
                    return Err(Error::uri(format!("AMQP URI: parameter {key} has to be more than 0")));
                }
                Some(timeout) => options.connect_timeout = timeout,
                None => {}
            }
        }
        if !parameters.auth_mechanism.is_empty() {
            let named = parameters.auth_mechanism.iter().map(|name| Mechanism::named(name));
            options.mechanisms = named.collect::<Option<_>>().ok_or_else(|| {
                Error::uri("AMQP URI: parameter auth_mechanism has to be PLAIN, AMQPLAIN or EXTERNAL")
            })?;
        }
        options.happy_eyeballs.delay = parameters.happy_eyeballs_delay;
        options.happy_eyeballs.interleave = parameters.interleave;
        Ok(match parameters.name {
            Some(name) => self.name(name),
            None => self,
        })
    }

    /// Adds another address of the same broker or cluster, to be tried after those before it; an IPv6 address has no
    /// brackets here.
    pub fn address(mut self, host: impl Into<String>, port: u16) -> Self {
        self.options.other_addresses.push(Address::new(host, port));
        self
    }

    /// Sets in which order several addresses are tried, each connect anew.
    pub fn address_order(mut self, order: AddressOrder) -> Self {
        self.options.address_order = order;
        self
    }

    /// Races the IP addresses of a name (RFC 8305): each has `delay` before the next is tried beside it, and IPv4 and
    /// IPv6 take turns. Without it they are tried one after the other.
    pub fn happy_eyeballs(mut self, delay: Duration) -> Self {
        let mut how = HappyEyeballs::default();
        how.delay = Some(delay);
        self.options.happy_eyeballs = how;
        self
    }

    /// Sets what the TCP socket is asked for: delay, keepalive, buffers.
    pub fn tcp(mut self, options: TcpOptions) -> Self {
        self.options.tcp = options;
        self
    }

    /// Sets the virtual host, as it is, not escaped.
    #[doc(alias = "virtualhost")]
    pub fn vhost(mut self, vhost: impl Into<String>) -> Self {
        self.options.vhost = vhost.into();
        self
    }

    /// Logs in with these credentials, or asks this provider at every connect, and again before they expire.
    ///
    /// New credentials are passed on by `connection.update-secret` at 80 % of the life of the present ones; watchers
    /// hear of it in [`SecretUpdated`](crate::ConnectionEvent::SecretUpdated) and
    /// [`RefreshFailed`](crate::ConnectionEvent::RefreshFailed).
    ///
    /// # Examples
    /// ```no_run
    /// use std::time::Duration;
    /// use actix_pika::{Connector, Credentials, Error};
    ///
    /// async fn token() -> actix_pika::Result<Credentials> {
    ///     let token = std::fs::read_to_string("/run/secrets/token").map_err(Error::credentials)?;
    ///     Ok(Credentials::new("", token).expires_in(Duration::from_secs(600)))
    /// }
    ///
    /// # async fn run() -> actix_pika::Result<()> {
    /// let connection = Connector::new("amqp://broker.example/orders")?.credentials(token).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn credentials(mut self, provider: impl CredentialsProvider) -> Self {
        match provider.fixed() {
            Some(fixed) => {
                self.options.user = fixed.user().to_owned();
                self.options.password = fixed.password().clone();
                self.options.credentials = None;
            }
            None => self.options.credentials = Some(SharedProvider::new(provider)),
        }
        self
    }

    /// Sets how to log in: the first of these that the broker offers; `PLAIN` unless set.
    pub fn mechanisms(mut self, mechanisms: impl IntoIterator<Item = Mechanism>) -> Self {
        self.options.mechanisms = mechanisms.into_iter().collect();
        self
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

    /// Sets how long dialling and shaking hands may take together, with each address that is tried (30 seconds).
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
