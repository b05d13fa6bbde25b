//! From a URI to a connection.

use std::{fmt, time::Duration};

use actix_pika_actors::{
    Address, ConnectionOptions, ConnectionState, ConnectionSupervisor, HappyEyeballs, SharedProvider,
    uri::{AmqpUri, Scheme, UriError, UriParameters, parse_list},
};
use actix_rt::ArbiterHandle;

use crate::{
    Connection, Error, Recovery, Result,
    message::Value,
    options::{AddressOrder, CredentialsProvider, Mechanism, TcpOptions},
    runtime,
};

/// Opens a connection; it stays closed when it is lost.
///
/// Sends the protocol header, `connection.start-ok`, `connection.tune-ok` and `connection.open`. Takes a URI, or a
/// [`Connector`] for everything else. The first attempt counts: what fails is reported and not tried again. The
/// connection lives on the caller's arbiter, or, where no actix `System` runs (`#[tokio::main]`), on a thread of the
/// library's own; either must be running for as long as it is used.
///
/// # Errors
/// - `Uri` for what cannot be parsed, and for `amqps`: this version has no TLS.
/// - `Io` where nothing listens, the name has no address, or the socket breaks in the handshake; worth another try.
/// - `Timeout` when dialling and shaking hands take longer than 30 seconds; worth another try.
/// - `Auth` (403) for a login that the broker refuses, or no mechanism in common, and where credentials could not be
///   had.
/// - `Vhost` (530) for a virtual host that is missing or closed to this user.
/// - `ConnectionClosed` with its code for any other refusal of the broker.
/// - `Protocol` where the other end does not speak AMQP 0-9-1.
/// - `Limit` for client properties and a login of more than 4,096 bytes together, a NUL in the login, or a broker
///   whose frames are smaller than AMQP allows.
/// - `Stopped` where the arbiter has ended.
///
/// [`Error::entity`] names the address concerned.
///
/// **Over a reconnect**: there is none. Once the connection is lost, everything on it ends with `ConnectionClosed`,
/// which has the cause; what says otherwise under this heading elsewhere is said of connections made with
/// `connect_robust`.
///
/// Source: AMQP 0-9-1 section 1.4 (class connection); <https://www.rabbitmq.com/docs/connections>.
///
/// # Examples
/// ```no_run
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = actix_pika::connect("amqp://guest:guest@localhost/").await?;
/// # connection.close().await
/// # }
/// ```
///
/// An error says what to do about it:
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

/// Opens a connection that comes back by itself when it is lost, with everything that was declared on it.
///
/// The first connect fails at its first failure, like [`connect`]; the parameter `fail_fast=0` of the URI, or
/// [`Connector::fail_fast`], has it tried again instead. Afterwards a lost connection is replaced after a delay:
/// [`Recovery::default`], or the fixed `reconnect_interval` of the URI, or what [`Connector::recovery`] says.
///
/// # Errors
/// Those of [`connect`]. What ends the recovery later is the cause in
/// [`ConnectionEvent::Closed`](crate::ConnectionEvent::Closed), and of the `ConnectionClosed` that every call answers
/// from then on.
///
/// **Over a reconnect**: all handles stay as they are. Exchanges, queues and bindings that were declared over the
/// connection are declared again, then channels get their prefetch, consumers and confirm mode back, then publishes that
/// were not confirmed are sent again, in order, and new ones behind them.
/// [`ConnectionEvent::Recovered`](crate::ConnectionEvent::Recovered) tells when all of that is done, and what was not
/// possible. Only [`Connection::close`], the limits of the [`Recovery`], or a login or virtual host that is refused for a
/// minute end it. [The crate](crate#over-a-reconnect) tells more.
///
/// Source: <https://www.rabbitmq.com/docs/connections#recovery>, <https://www.rabbitmq.com/docs/reliability>.
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

/// Says how to connect, step by step, and connects.
///
/// What is not said comes from the URI, or else is as in `amqp://guest:guest@localhost:5672/%2f`. A clone connects
/// once more in the same way.
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
#[must_use = "a connector does nothing until it connects"]
pub struct Connector {
    options: ConnectionOptions,
    /// What the URI says of the pause between tries.
    reconnect_interval: Option<Duration>,
    arbiter: Option<ArbiterHandle>,
}

impl Connector {
    /// Takes address, login, virtual host and parameters from a URI (RabbitMQ URI specification, and aio-pika).
    ///
    /// What is left out is `guest`, `guest`, `localhost`, 5672 and the virtual host `/`. Special characters are
    /// escaped with `%`; what is malformed or unknown is an error, never a default in its place.
    ///
    /// | parameter | meaning |
    /// |---|---|
    /// | `name` | as [`name`](Self::name) |
    /// | `heartbeat` | seconds, 0 for none |
    /// | `connection_timeout`, or `timeout` | as [`connect_timeout`](Self::connect_timeout): milliseconds in the former, seconds with a fraction in the latter; the former wins; 0 is refused |
    /// | `channel_max`, `frame_max` | as [`channel_max`](Self::channel_max) and [`frame_max`](Self::frame_max); 0 for no limit of ours, in frames 128 KiB |
    /// | `auth_mechanism`, or `auth` | `PLAIN`, `AMQPLAIN` or `EXTERNAL`; several in order, see [`mechanisms`](Self::mechanisms) |
    /// | `happy_eyeballs_delay`, `interleave` | as [`happy_eyeballs`](Self::happy_eyeballs): seconds with a fraction, and a count |
    /// | `reconnect_interval` | seconds with a fraction between a loss and the next try, for [`connect_robust`]; without effect where [`recovery`](Self::recovery) is set, or the connection does not recover |
    /// | `fail_fast` | as [`fail_fast`](Self::fail_fast): `0` or `1` |
    /// | `cacertfile`, `certfile`, `keyfile`, `verify`, `server_name_indication`, `cafile`, `capath`, `cadata`, `no_verify_ssl` | refused: they need TLS |
    ///
    /// # Errors
    /// `Uri`, which names the part or the parameter, also one that is unknown; never the password.
    ///
    /// Source: <https://www.rabbitmq.com/docs/uri-spec>, <https://www.rabbitmq.com/docs/uri-query-parameters>.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Connector, ErrorKind};
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = Connector::new("amqp://app:p%40ss@broker.example:5673/orders?heartbeat=10&name=billing")?;
    /// assert!(!format!("{connector:?}").contains("p@ss"));
    ///
    /// let error = Connector::new("amqp://localhost/?hartbeat=10").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Uri);
    /// assert!(error.to_string().contains("hartbeat"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(uri: &str) -> Result<Self> {
        Self::from_uris([uri])
    }

    /// Takes several URIs for one connection: the nodes of a cluster, tried in this order unless
    /// [`address_order`](Self::address_order) says otherwise.
    ///
    /// The first one says everything; the others may leave out login, virtual host and parameters, and may not say
    /// anything else there. An address that refuses, is silent for longer than the connect limit, or fails in the
    /// handshake leads to the next; a refusal of login or virtual host is reported at once. If none works, the error
    /// is that of the last one and names it.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), for any of them, for one that differs from the first, and for no URI at all.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Connector, options::AddressOrder};
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let cluster = Connector::from_uris(["amqp://app:secret@rabbit-1/orders", "amqp://rabbit-2"])?
    ///     .address("rabbit-3", 5672)
    ///     .address_order(AddressOrder::Shuffled);
    ///
    /// let two_logins = Connector::from_uris(["amqp://app:secret@rabbit-1", "amqp://other:secret@rabbit-2"]);
    /// assert!(two_logins.is_err());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "hosts")]
    pub fn from_uris<T: AsRef<str>>(uris: impl IntoIterator<Item = T>) -> Result<Self> {
        let (uri, others) = parse_list(uris).map_err(|error: UriError| Error::uri(error.to_string()))?;
        let mut connector = Self::from_uri(uri)?;
        connector.options.other_addresses = others;
        Ok(connector)
    }

    /// Names a host in parts instead of a URI, so that nothing has to be escaped; an IPv6 address has no brackets here.
    ///
    /// Until it is told otherwise, it logs in as `guest` with password `guest` at virtual host `/`.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Connector, Credentials};
    ///
    /// let connector = Connector::host("rabbit-1", 5672)
    ///     .vhost("orders/eu")
    ///     .credentials(Credentials::new("app", "p@ss:w/rd"));
    /// ```
    pub fn host(host: impl Into<String>, port: u16) -> Self {
        let mut options = ConnectionOptions::default();
        options.address = Address::new(host, port);
        Self { options, reconnect_interval: None, arbiter: None }
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
        Self { options, reconnect_interval: None, arbiter: None }.with_parameters(uri.parameters)
    }

    fn with_parameters(mut self, parameters: UriParameters) -> Result<Self> {
        let options = &mut self.options;
        options.heartbeat = parameters.heartbeat.map(|seconds| Duration::from_secs(seconds.into()));
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
        if let Some(fail_fast) = parameters.fail_fast {
            options.fail_fast = fail_fast;
        }
        self.reconnect_interval = parameters.reconnect_interval;
        let options = &mut self.options;
        options.happy_eyeballs.delay = parameters.happy_eyeballs_delay;
        options.happy_eyeballs.interleave = parameters.interleave;
        Ok(match parameters.name {
            Some(name) => self.name(name),
            None => self,
        })
    }

    /// Adds another address of the same broker or cluster, to be tried after those before it; an IPv6 address has no
    /// brackets here.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://rabbit-1")?
    ///     .address("rabbit-2", 5672)
    ///     .address("fd00::3", 5672);
    /// # Ok(())
    /// # }
    /// ```
    pub fn address(mut self, host: impl Into<String>, port: u16) -> Self {
        self.options.other_addresses.push(Address::new(host, port));
        self
    }

    /// Sets in which order several addresses are tried, each connect anew. They are tried in the order given unless
    /// set.
    ///
    /// **Over a reconnect**: each attempt begins with the first of them, or shuffles anew.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Connector, options::AddressOrder};
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = Connector::from_uris(["amqp://rabbit-1", "amqp://rabbit-2"])?
    ///     .address_order(AddressOrder::Shuffled);
    /// # Ok(())
    /// # }
    /// ```
    pub fn address_order(mut self, order: AddressOrder) -> Self {
        self.options.address_order = order;
        self
    }

    /// Races the IP addresses of a name (RFC 8305): each has `delay` before the next is tried beside it, and IPv4 and
    /// IPv6 take turns. Without it they are tried one after the other.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://broker.example")?.happy_eyeballs(Duration::from_millis(250));
    /// # Ok(())
    /// # }
    /// ```
    pub fn happy_eyeballs(mut self, delay: Duration) -> Self {
        let mut how = HappyEyeballs::default();
        how.delay = Some(delay);
        self.options.happy_eyeballs = how;
        self
    }

    /// Sets what the TCP socket is asked for: delay, keepalive, buffers. Unless set, small writes leave at once and
    /// the rest is as the system has it.
    ///
    /// Source: <https://www.rabbitmq.com/docs/networking>.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use actix_pika::{Connector, options::TcpOptions};
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = Connector::new("amqp://localhost")?.tcp(TcpOptions::new().keepalive(Duration::from_secs(60)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn tcp(mut self, options: TcpOptions) -> Self {
        self.options.tcp = options;
        self
    }

    /// Sets the virtual host, as it is, not escaped. It is `/` unless the URI or this says otherwise; 255 bytes at
    /// most.
    ///
    /// Source: <https://www.rabbitmq.com/docs/vhosts>.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.vhost("team a/orders");
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "virtualhost")]
    pub fn vhost(mut self, vhost: impl Into<String>) -> Self {
        self.options.vhost = vhost.into();
        self
    }

    /// Logs in with these credentials, or asks this provider at every connect, and again before they expire.
    ///
    /// New credentials are passed on by `connection.update-secret` at 80 % of the life of the present ones; watchers
    /// hear of it in [`SecretUpdated`](crate::ConnectionEvent::SecretUpdated) and
    /// [`RefreshFailed`](crate::ConnectionEvent::RefreshFailed). A provider that takes longer than the [connect
    /// limit](Self::connect_timeout), or panics, has failed: the connect, too.
    ///
    /// **Over a reconnect**: the provider is asked again.
    ///
    /// Source: <https://www.rabbitmq.com/docs/access-control>, <https://www.rabbitmq.com/docs/oauth2>.
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

    /// Sets how to log in: the first of these that the broker offers; `PLAIN` unless set. None in common is `Auth` at
    /// the connect.
    ///
    /// Source: <https://www.rabbitmq.com/docs/access-control>.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Connector, options::Mechanism};
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = Connector::new("amqp://localhost")?.mechanisms([Mechanism::External, Mechanism::Plain]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn mechanisms(mut self, mechanisms: impl IntoIterator<Item = Mechanism>) -> Self {
        self.options.mechanisms = mechanisms.into_iter().collect();
        self
    }

    /// Names the connection for the management interface (the client property `connection_name`). Two may have the
    /// same name.
    ///
    /// **Over a reconnect**: the new connection has the same name.
    ///
    /// Source: <https://www.rabbitmq.com/docs/connections>.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.name("orders");
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(self, name: impl Into<String>) -> Self {
        self.client_property("connection_name", name.into())
    }

    /// Adds what the broker shows of this client, beside product, version and capabilities, which it may replace.
    ///
    /// All of them and the login may have 4,096 bytes together; more is `Limit` at the connect.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?
    ///     .client_property("team", "billing")
    ///     .client_property("instance", 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn client_property(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.options.client_properties.insert(key, value);
        self
    }

    /// Sets the interval of heartbeats, rounded up to whole seconds; the broker may ask for a shorter one. Zero turns
    /// them off.
    ///
    /// Unless set, it is as the broker proposes: 60 seconds for RabbitMQ. A peer that is silent for two intervals is
    /// given up.
    ///
    /// Source: AMQP 0-9-1 section 1.4 (`connection.tune`); <https://www.rabbitmq.com/docs/heartbeats>.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.heartbeat(Duration::from_secs(30));
    /// # Ok(())
    /// # }
    /// ```
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.options.heartbeat = Some(interval);
        self
    }

    /// Sets how long dialling and shaking hands may take together, with each address that is tried. 30 seconds unless
    /// set.
    ///
    /// **Over a reconnect**: it holds for each attempt.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.connect_timeout(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// Sets how long [closing](Connection::close) may take, confirms under way included. 30 seconds unless set.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.close_timeout(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.options.close_timeout = timeout;
        self
    }

    /// Sets the most channels; the broker may say less, 2,047 by RabbitMQ's default. 0, and no setting, leave it to
    /// the broker.
    ///
    /// Source: AMQP 0-9-1 section 1.4 (`connection.tune`); <https://www.rabbitmq.com/docs/channels>.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.channel_max(16);
    /// # Ok(())
    /// # }
    /// ```
    pub fn channel_max(mut self, channels: u16) -> Self {
        self.options.channel_max = channels;
        self
    }

    /// Sets the largest frame in bytes; the broker may say less. 128 KiB unless set, and for 0.
    ///
    /// What is below 4,096, the least that AMQP allows, counts as that; with RabbitMQ 4.1 and later, which refuse
    /// less, what is below 8,192 counts as that.
    ///
    /// Source: AMQP 0-9-1 section 1.4 (`connection.tune`); <https://www.rabbitmq.com/docs/configure>.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.frame_max(64 * 1024);
    /// # Ok(())
    /// # }
    /// ```
    pub fn frame_max(mut self, bytes: u32) -> Self {
        self.options.frame_max = bytes;
        self
    }

    /// Sets the largest body in bytes that is received. 128 MiB unless set.
    ///
    /// A larger one closes the connection before it is read (506), with an error of kind `Protocol`; the message goes
    /// back into its queue. Nothing bounds what is published but the broker: 16 MiB by default in RabbitMQ 4, where
    /// more closes the channel (406).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.body_max(1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn body_max(mut self, bytes: u64) -> Self {
        self.options.body_max = bytes;
        self
    }

    /// Sets how many bytes may wait for the application, in consumers that no prefetch bounds (`no_ack`, or a
    /// prefetch of 0), before the socket is left unread. 8 MiB unless set, for the whole connection.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.read_ahead(1 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_ahead(mut self, bytes: usize) -> Self {
        self.options.read_ahead = bytes;
        self
    }

    /// Sets how long the socket may stay unread because of that before the consumer that holds most is cancelled as
    /// too slow. 20 seconds unless set; a warning is logged after a quarter of it. The broker gives up after 30
    /// seconds.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.stall_limit(Duration::from_secs(5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stall_limit(mut self, limit: Duration) -> Self {
        self.options.stall_limit = limit;
        self
    }

    /// Sets what happens when the connection is lost: nothing, unless this or [`connect_robust`] says otherwise.
    ///
    /// **Over a reconnect**: as with [`connect_robust`].
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use actix_pika::{Connector, Recovery};
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// let recovery = Recovery::exponential(Duration::from_millis(100), Duration::from_secs(2)).attempts(20);
    /// let connector = Connector::new("amqp://localhost")?.recovery(recovery);
    /// # Ok(())
    /// # }
    /// ```
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.options.recovery = recovery;
        self
    }

    /// Sets whether the first connect fails at its first failure (`true` unless set), or is tried again like a lost
    /// connection; has no meaning without [`recovery`](Self::recovery).
    ///
    /// [`connect`](Self::connect) then answers when the connection is there, or when the limits of the recovery are
    /// reached, or login or virtual host were refused for a minute.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Connector, Recovery};
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// // Comes up before its broker does.
    /// let connector = Connector::new("amqp://localhost")?.recovery(Recovery::default()).fail_fast(false);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fail_fast(mut self, fail_fast: bool) -> Self {
        self.options.fail_fast = fail_fast;
        self
    }

    /// Recovers in the usual way, unless it was said how.
    fn robust(mut self) -> Self {
        if self.options.recovery == Recovery::Never {
            self.options.recovery = self.reconnect_interval.map_or_else(Recovery::default, Recovery::fixed);
        }
        self
    }

    /// Names the arbiter that the connection lives on, instead of the caller's.
    ///
    /// It must not be blocked for longer than half a heartbeat, and the connection ends with it.
    ///
    /// # Examples
    /// ```no_run
    /// use actix::Arbiter;
    /// use actix_pika::Connector;
    ///
    /// # async fn run() -> actix_pika::Result<()> {
    /// let io = Arbiter::new();
    /// let connection = Connector::new("amqp://localhost")?.arbiter(&io.handle()).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn arbiter(mut self, arbiter: &ArbiterHandle) -> Self {
        self.arbiter = Some(arbiter.clone());
        self
    }

    /// Opens the connection.
    ///
    /// # Errors
    /// Those of [`connect`], with the limits that were set here.
    ///
    /// **Over a reconnect**: as with [`connect_robust`] where [`recovery`](Self::recovery) says so; otherwise there is
    /// none, as with [`connect`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run() -> actix_pika::Result<()> {
    /// let connection = actix_pika::Connector::new("amqp://localhost")?.name("orders").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
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

/// Names what [`connect`] takes: a URI (`&str`, `String`, `&String`) or a [`Connector`].
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
    /// Makes it a connector.
    ///
    /// # Errors
    /// `Uri` for what cannot be parsed.
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
