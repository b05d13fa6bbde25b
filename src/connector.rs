//! The builder of a connection. Its options are the fields of the engine's `ConnectionOptions`, where their
//! defaults are, and what a URI sets.

#[cfg(feature = "metrics")]
use std::sync::Arc;
use std::{fmt, str::FromStr, time::Duration};

#[cfg(feature = "testing")]
use actix_pika_actors::testing::MemoryDialer;
use actix_pika_actors::{Address, ConnectionOptions, ConnectionState, HappyEyeballs, SharedProvider, facade};
use actix_rt::ArbiterHandle;
use tokio::sync::watch;

#[cfg(feature = "tls")]
use crate::options::TlsOptions;
use crate::{
    Connection, Error, Recovery, Result,
    hook::{Hook, Hooks},
    message::Value,
    options::{AddressOrder, CredentialsProvider, Mechanism, TcpOptions},
    runtime::Placement,
};

/// Reports a connection until it is closed.
#[cfg(feature = "metrics")]
pub(crate) type Watch = fn(&Arc<facade::ConnectionTally>, &watch::Receiver<ConnectionState>) -> Result<()>;

/// Builder for a connection.
///
/// Unset options come from the URI, or are those of `amqp://guest:guest@localhost:5672/%2f`. A clone opens
/// another connection with the same options.
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
    placement: Placement,
    hooks: Hooks,
    /// Reports each connection.
    #[cfg(feature = "metrics")]
    pub(crate) watch: Option<Watch>,
}

impl Connector {
    /// Creates a connector from a URI: address, login, virtual host and parameters (RabbitMQ URI
    /// specification, and aio-pika). `"amqp://...".parse()` and `Connector::try_from("amqp://...")` do the
    /// same.
    ///
    /// The defaults are `guest`, `guest`, `localhost`, 5672 and the virtual host `/`. Special characters are
    /// escaped with `%`: in a password `/` is `%2F`, `?` is `%3F`, `#` is `%23`, `%` is `%25`. A malformed
    /// part or an unknown parameter is an error.
    ///
    /// | parameter | meaning |
    /// |---|---|
    /// | `name` | as [`name`](Self::name) |
    /// | `heartbeat` | as [`heartbeat`](Self::heartbeat), in seconds, 0 for none |
    /// | `connection_timeout`, or `timeout` | as [`connect_timeout`](Self::connect_timeout): milliseconds in the former, seconds with a fraction in the latter; the former takes precedence; 0 is refused |
    /// | `channel_max`, `frame_max` | as [`channel_max`](Self::channel_max) and [`frame_max`](Self::frame_max); 0 for no limit, in frames 128 KiB |
    /// | `auth_mechanism`, or `auth` | `PLAIN`, `AMQPLAIN` or `EXTERNAL`; may be repeated, in order of preference, see [`mechanisms`](Self::mechanisms) |
    /// | `happy_eyeballs_delay`, `interleave` | as [`happy_eyeballs`](Self::happy_eyeballs): seconds with a fraction, and a count |
    /// | `reconnect_interval` | seconds with a fraction between a loss and the next attempt, for [`connect_robust`](crate::connect_robust); without effect if [`recovery`](Self::recovery) is set, or if the connection is not recovered |
    /// | `fail_fast` | as [`fail_fast`](Self::fail_fast): `1` or `0`, also `true` or `false` |
    /// | `cacertfile`, or `cafile` | `amqps` only, as the others below: as `TlsOptions::ca_file` |
    /// | `capath`, `cadata` | as `TlsOptions::ca_folder`; certificates in base64, DER or PEM |
    /// | `certfile`, `keyfile` | as `TlsOptions::client_certificate`; without `keyfile` the key is in `certfile` |
    /// | `server_name_indication` | as `TlsOptions::server_name` |
    /// | `verify` | `verify_peer`, the default, or `verify_none`: as `TlsOptions::danger_accept_invalid_certs` |
    /// | `no_verify_ssl` | `1` for `verify_none`, `0` for `verify_peer` |
    ///
    /// # Errors
    /// `Uri`, which names the part or the parameter, never the password.
    ///
    /// Source: <https://www.rabbitmq.com/docs/uri-spec>;
    /// <https://www.rabbitmq.com/docs/uri-query-parameters>
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

    /// Creates a connector from several URIs, the nodes of a cluster. They are tried in this order, unless
    /// [`address_order`](Self::address_order) is set.
    ///
    /// The first URI has all options. The others may leave out login, virtual host and parameters; what they
    /// have must equal that of the first. If an address refuses, exceeds the connect timeout, or fails in the
    /// handshake, the next one is tried; each of them once per connect, so that a wrong password cannot lock
    /// an account. If no address works, the error is that of the last one, and names it. A refused login,
    /// virtual host or certificate is the error only if every address refused so; otherwise another one may accept later.
    ///
    /// # Errors
    /// Those of [`new`](Self::new), for any of them; `Uri` for one that differs from the first, and for no
    /// URI at all.
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
        Ok(Self::with(ConnectionOptions::from_uris(uris)?))
    }

    /// Creates a connector from a host and a port, without a URI, so that nothing needs escaping. An IPv6
    /// address has no brackets here.
    ///
    /// The login is `guest` with password `guest` at virtual host `/`, unless set.
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
        Self::with(options)
    }

    /// Adds an address of the same broker or cluster. It is tried after those before it. An IPv6 address has
    /// no brackets here.
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

    /// Sets the order in which several addresses are tried. By default it is the order in which they were
    /// given.
    ///
    /// **Over a reconnect**: each attempt starts with the first address, or shuffles again.
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

    /// Tries the IP addresses of a name in parallel (RFC 8305): after `delay`, the next one is tried beside
    /// those before it, and IPv4 and IPv6 alternate. By default they are tried one after the other.
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
        let mut happy_eyeballs = HappyEyeballs::default();
        happy_eyeballs.delay = Some(delay);
        self.options.happy_eyeballs = happy_eyeballs;
        self
    }

    /// Sets the options of the TCP socket: no delay, keepalive, buffers. By default small writes are sent at
    /// once, and the rest is left to the operating system.
    ///
    /// Source: <https://www.rabbitmq.com/docs/networking>
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

    /// Turns TLS on, with these options or a [`rustls::ClientConfig`](crate::rustls::ClientConfig). An `amqps`
    /// URI turns it on by itself; its parameters are then replaced.
    ///
    /// The port stays that of the URI or address: RabbitMQ's is 5671. With an `amqp` URI the connect fails.
    ///
    /// # Errors
    /// [`connect`](Self::connect) returns `Tls`; [`tls_failure`](Error::tls_failure) has the reason.
    ///
    /// **Over a reconnect**: certificates are read again at each attempt. See [`TlsOptions`].
    ///
    /// Source: <https://www.rabbitmq.com/docs/ssl>
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Connector, options::TlsOptions};
    ///
    /// let connector = Connector::host("rabbit-1", 5671)
    ///     .tls(TlsOptions::new().ca_file("/etc/rabbit/ca.pem").server_name("rabbit.example"));
    /// ```
    #[cfg(feature = "tls")]
    #[doc(alias = "ssl")]
    pub fn tls(mut self, options: impl Into<TlsOptions>) -> Self {
        self.options.tls = Some(options.into());
        self
    }

    /// Sets the virtual host, unescaped, 255 bytes at most. The default is that of the URI, or `/`.
    ///
    /// Source: <https://www.rabbitmq.com/docs/vhosts>
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

    /// Sets the login: [`Credentials`](crate::Credentials), or a provider that is called at every connect,
    /// and again before its credentials expire.
    ///
    /// New credentials are sent with `connection.update-secret` at 80 % of the lifetime of the current ones.
    /// Watchers receive [`SecretUpdated`](crate::ConnectionEvent::SecretUpdated) or
    /// [`RefreshFailed`](crate::ConnectionEvent::RefreshFailed). A provider that panics, or takes longer than
    /// the [connect timeout](Self::connect_timeout), counts as failed, and so does the connect.
    ///
    /// **Over a reconnect**: the provider is called again.
    ///
    /// Source: <https://www.rabbitmq.com/docs/access-control>; <https://www.rabbitmq.com/docs/oauth2>
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
        self.options.credentials = SharedProvider::new(provider);
        self
    }

    /// Sets the login mechanisms, in order of preference. The first that the broker offers is used; none is
    /// an error of kind `Auth` at the connect. The default is `PLAIN`.
    ///
    /// Source: <https://www.rabbitmq.com/docs/access-control>
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

    /// Sets the name of the connection in the management interface (the client property `connection_name`).
    /// It need not be unique.
    ///
    /// **Over a reconnect**: the new connection has the same name.
    ///
    /// Source: <https://www.rabbitmq.com/docs/connections>
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

    /// Adds a client property, which the broker shows in its management interface. It may replace those of
    /// the library, such as product and version.
    ///
    /// Client properties and login may have 4,096 bytes together; more is an error of kind `Limit` at the
    /// connect.
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

    /// Sets the heartbeat interval, rounded up to whole seconds. The broker may ask for a shorter one. Zero
    /// turns heartbeats off.
    ///
    /// The default is the broker's proposal, 60 seconds for RabbitMQ. A connection on which nothing arrives
    /// for two intervals is lost.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.5 (`connection.tune`); <https://www.rabbitmq.com/docs/heartbeats>
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

    /// Sets the time limit for dialling and the handshakes of TLS and AMQP together, for each address. The default is 30
    /// seconds.
    ///
    /// **Over a reconnect**: it applies to each attempt.
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

    /// Sets the time limit for [closing](Connection::close), outstanding confirms included. The default is 30
    /// seconds.
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

    /// Sets the highest number of channels. The broker may allow fewer, 2,047 by RabbitMQ's default. Without
    /// a limit here, which is the default and the meaning of 0, the broker's limit applies.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.5 (`connection.tune`); <https://www.rabbitmq.com/docs/channels>
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

    /// Sets the largest frame in bytes. The broker may allow less. The default, and the meaning of 0, is 128
    /// KiB.
    ///
    /// Less than 4,096, the minimum of AMQP, counts as 4,096. Less than 8,192 counts as 8,192 with RabbitMQ
    /// 4.1 and later, which refuse less.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.5 (`connection.tune`); <https://www.rabbitmq.com/docs/configure>
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

    /// Sets the largest body in bytes that is received. The default is 128 MiB.
    ///
    /// The frames of a larger one are dropped while they are read; channel and connection go on.
    /// [`Consume::oversized`](crate::Consume::oversized) selects how the delivery is settled: unless set, it
    /// returns to its queue after ten minutes. [`ChannelEvent::DeliverySkipped`](crate::ChannelEvent) and the
    /// log tell its queue, routing key and size. A [`get`](crate::Queue::get) fails with `Limit`, and the
    /// message returns to its queue at once.
    ///
    /// Bodies that are published are limited by the broker only: 16 MiB by default in RabbitMQ 4, which closes
    /// the channel for more (406).
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

    /// Sets how many bytes of incomplete bodies the channels of the connection keep together. The default is
    /// 256 MiB.
    ///
    /// A body is incomplete from its first frame to its last. When there are more bytes, the largest
    /// incomplete body is dropped, and the rest of its frames while they are read; channel and connection go
    /// on. Its delivery returns to its queue after a second (`basic.nack`), and a
    /// [`get`](crate::Queue::get) fails with `Limit`. The buffers of the bodies have up to twice their bytes.
    /// A value below [`body_max`](Self::body_max) limits each single body in several frames, too.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.partial_body_max(64 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn partial_body_max(mut self, bytes: usize) -> Self {
        self.options.partial_body_max = bytes;
        self
    }

    /// Sets how many bytes may wait for the application, in consumers without a prefetch (`no_ack`, or a
    /// prefetch of 0), before reading from the socket pauses. The default is 8 MiB. It applies to the whole
    /// connection.
    ///
    /// While a call or a confirm is awaited on the connection, reading does not pause for a consumer that
    /// acknowledges: it is given a prefetch instead, as [`prefetch_bytes`](Self::prefetch_bytes) has it.
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

    /// Sets how many bytes the unsettled deliveries of consumers with a prefetch may have, all consumers of the
    /// connection together. The default is 64 MiB.
    ///
    /// A prefetch counts messages: 250 of 2 MB each are 500 MB. When deliveries have more bytes than this, the
    /// largest consumer is cancelled and starts again under its tag with a smaller prefetch. It has its own prefetch
    /// again when it starts for another reason, a reconnect for example, and no reduction was needed for ten minutes
    /// before; or when the application cancels it and consumes again. What the application has not begun of it returns to the queue (`basic.nack`).
    /// [`ChannelEvent::PrefetchReduced`](crate::ChannelEvent) and the log name the consumer. Reading is not paused
    /// for it, so that confirms and replies arrive meanwhile. The bound is exceeded by what the application
    /// has begun, and by one message of each consumer. Consumers of streams, those of a queue that its handle
    /// has declared with `auto_delete`, and those on a channel with transactions keep their prefetch. The
    /// cancel of its last consumer deletes an `auto_delete` queue, and what has returned to it: where another
    /// handle has declared it, set a [prefetch](crate::Consume::prefetch) that fits. From an exclusive
    /// consumer, or the active one of a queue with a single active consumer, another one may take over in
    /// between.
    ///
    /// Small deliveries (below 4 KiB) are views of the blocks that were read, 64 to 256 KiB each; they are copied once
    /// the blocks that are kept have more than 4 MiB and four times their bytes.
    ///
    /// A broker that sends more than the prefetch allows is warned of, and reading pauses as for a consumer without a
    /// prefetch ([`read_ahead`](Self::read_ahead)).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.prefetch_bytes(16 << 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn prefetch_bytes(mut self, bytes: usize) -> Self {
        self.options.prefetch_bytes = bytes;
        self
    }

    /// Sets how long reading may pause because of [`read_ahead`](Self::read_ahead) before the consumer with
    /// the most waiting bytes is cancelled as too slow. The default is 20 seconds. A warning is logged after
    /// a quarter of it. The broker drops a connection that is not read for 30 seconds.
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

    /// Sets what happens when the connection is lost. The default is [`Recovery::Never`], with
    /// [`connect_robust`](crate::connect_robust) [`Recovery::default`].
    ///
    /// **Over a reconnect**: as with [`connect_robust`](crate::connect_robust).
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

    /// Sets whether the first connect fails at its first error, which is the default. With `false` it is
    /// retried like a lost connection. Without [`recovery`](Self::recovery) it has no effect.
    ///
    /// With `false`, [`connect`](Self::connect) returns when the connection is open, when the limits of the
    /// recovery are reached, or when every address has refused login or virtual host for a minute.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Connector, Recovery};
    ///
    /// # fn main() -> actix_pika::Result<()> {
    /// // May start before its broker.
    /// let connector = Connector::new("amqp://localhost")?.recovery(Recovery::default()).fail_fast(false);
    /// # Ok(())
    /// # }
    /// ```
    pub fn fail_fast(mut self, fail_fast: bool) -> Self {
        self.options.fail_fast = fail_fast;
        self
    }

    /// Connects in memory instead of to the addresses, reconnects too: tests without a network, also under a paused
    /// clock. It takes the dialer of the test broker (`Broker::dialer` of the crate `actix-pika-broker`), that of a
    /// [`MemoryPeer`](crate::testing::MemoryPeer), or any function that returns one end of a [`tokio::io::duplex`].
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Connector, connect_robust};
    /// use actix_pika_broker::Broker;
    ///
    /// # actix_rt::System::new().block_on(async {
    /// tokio::time::pause();
    /// let broker = Broker::builder().start_here();
    /// let connection = connect_robust(Connector::new(&broker.url())?.memory(broker.dialer())).await?;
    /// connection.channel().await?.declare_queue("jobs").await?;
    /// assert!(broker.look(|state| state.queue("jobs").is_some()));
    /// # Ok::<(), actix_pika::Error>(()) }).unwrap();
    /// ```
    #[cfg(feature = "testing")]
    pub fn memory(mut self, dialer: impl Into<MemoryDialer>) -> Self {
        self.options.memory = Some(dialer.into());
        self
    }

    fn with(options: ConnectionOptions) -> Self {
        Self {
            options,
            placement: Placement::default(),
            hooks: Hooks::default(),
            #[cfg(feature = "metrics")]
            watch: None,
        }
    }

    pub(crate) fn robust(self) -> Self {
        Self { options: self.options.robust(), ..self }
    }

    /// Sets the arbiter on which the connection runs. The default is the first arbiter of the `System`; see
    /// [the crate documentation](crate#where-a-connection-runs).
    ///
    /// The arbiter must not be blocked for longer than half a heartbeat interval. The connection ends with
    /// it. Replaces [`own_thread`](Self::own_thread).
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
        self.placement = Placement::Arbiter(arbiter.clone());
        self
    }

    /// Runs the connection on a thread of its own, with a `System` of its own. This is the default where no
    /// actix `System` runs (`#[tokio::main]`).
    ///
    /// Heartbeats and acknowledgements are then sent in time even if a handler blocks its arbiter, and the
    /// connection outlives the `System` of the application. It costs a thread for each connection, and
    /// deliveries and calls cross from one thread to another. The thread ends when the last handle is dropped
    /// and the connection is closed. Replaces [`arbiter`](Self::arbiter).
    ///
    /// # Errors
    /// [`connect`](Self::connect) returns `Stopped` if the thread cannot be started.
    ///
    /// **Over a reconnect**: the thread stays the same.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run() -> actix_pika::Result<()> {
    /// let connection = actix_pika::Connector::new("amqp://localhost")?.own_thread().connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn own_thread(mut self) -> Self {
        self.placement = Placement::OwnThread;
        self
    }

    /// Adds a [hook](crate::hook) for all typed publishers, consumers of tasks, calls and retries of the connection.
    ///
    /// It is nearer to the application than those that were added before.
    ///
    /// # Examples
    /// ```no_run
    /// use actix_pika::{Connector, hook::{Hook, TaskEnd}};
    ///
    /// struct Print;
    ///
    /// impl Hook for Print {
    ///     fn end(&self, end: &TaskEnd<'_>) {
    ///         println!("{:?} after {:?}", end.outcome(), end.took());
    ///     }
    /// }
    ///
    /// # async fn run() -> actix_pika::Result<()> {
    /// let connection = Connector::new("amqp://localhost")?.hook(Print).connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn hook(mut self, hook: impl Hook) -> Self {
        self.hooks.add(hook);
        self
    }

    /// Opens the connection.
    ///
    /// # Errors
    /// Those of [`connect`](crate::connect()), with the limits that were set here.
    ///
    /// **Over a reconnect**: with [`recovery`](Self::recovery) set, as with
    /// [`connect_robust`](crate::connect_robust). Otherwise there is none, as with
    /// [`connect`](crate::connect()).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run() -> actix_pika::Result<()> {
    /// let connection = actix_pika::Connector::new("amqp://localhost")?.name("orders").connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<Connection> {
        let (supervisor, state, tally) = self.placement.launch(self.options).await?;
        #[cfg(feature = "metrics")]
        if let Some(Err(error)) = self.watch.map(|watch| watch(&tally, &state)) {
            log::warn!("a connection has no metrics: {error}");
        }
        opened(Connection::new(supervisor, state.clone(), tally, self.hooks), state).await
    }
}

/// Waits until a connection is open.
///
/// # Errors
/// Why it could not be opened.
pub(crate) async fn opened(
    connection: Connection,
    mut state: watch::Receiver<ConnectionState>,
) -> Result<Connection> {
    loop {
        match &*state.borrow_and_update() {
            ConnectionState::Open(_) => return Ok(connection),
            ConnectionState::Closed(Some(cause)) => return Err(cause.clone()),
            ConnectionState::Closed(None) => return Err(facade::stopped("closed while connecting")),
            _ => {}
        }
        if state.changed().await.is_err() {
            return Err(facade::stopped("the arbiter for the I/O has ended"));
        }
    }
}

impl FromStr for Connector {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self> {
        Self::new(uri)
    }
}

/// Parses a URI, like [`Connector::new`].
impl TryFrom<&str> for Connector {
    type Error = Error;

    fn try_from(uri: &str) -> Result<Self> {
        Self::new(uri)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("options", &self.options).finish_non_exhaustive()
    }
}
