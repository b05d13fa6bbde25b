//! The options of a connection: addresses, login, limits, recovery.
//!
//! [`ConnectionOptions`] is the one table of them: its fields, their defaults, and (in `from_uri`) what a URI
//! sets. The `Connector` of the crate `actix-pika` has a method for each.

use std::time::Duration;

pub use address::{Address, AddressOrder, HappyEyeballs};
#[cfg(feature = "testing")]
pub use memory::MemoryDialer;
pub use recovery::{Backoff, Recovery};
pub use tcp::TcpOptions;

use crate::{
    credentials::SharedProvider,
    uri::Scheme,
    wire::{Mechanism, Table},
};
#[cfg(feature = "tls")]
use crate::{
    error::{Error, Result},
    tls::TlsOptions,
};

mod address;
mod from_uri;
#[cfg(feature = "testing")]
mod memory;
mod recovery;
mod tcp;
#[cfg(feature = "tls")]
mod tls_parameters;
mod uri_list;

/// Caps a duration so that `Instant + d` cannot overflow: ten years for `Duration::MAX`.
pub(crate) fn clamp_timeout(limit: Duration) -> Duration {
    limit.min(Duration::from_secs(10 * 365 * 86_400))
}

/// Holds the options of a connection, for
/// [`ConnectionSupervisor::launch`](crate::ConnectionSupervisor::launch).
///
/// The default is `guest` at `localhost:5672` with the virtual host `/`, the broker's heartbeat interval, 30
/// seconds for a connect and for a close, and no recovery. A `Connector` of the crate `actix-pika` sets them
/// from a URI and by its methods.
///
/// # Examples
/// ```
/// # use std::time::Duration;
/// # use actix_pika_actors::{Address, ConnectionOptions};
/// let mut options = ConnectionOptions::default();
/// options.address = Address::new("rabbit.example", 5672);
/// options.heartbeat = Some(Duration::from_secs(10));
/// assert_eq!((options.frame_max, options.body_max), (128 * 1024, 128 << 20));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "options do nothing until a connection is launched with them"]
pub struct ConnectionOptions {
    /// The address of the broker.
    pub address: Address,
    /// Further addresses: other nodes of its cluster.
    pub other_addresses: Vec<Address>,
    /// The order in which the addresses are tried.
    pub address_order: AddressOrder,
    /// Whether and how the IP addresses of one name are tried in parallel.
    pub happy_eyeballs: HappyEyeballs,
    /// Options of the TCP socket.
    pub tcp: TcpOptions,
    /// The options of TLS; `None` for plain TCP.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsOptions>,
    /// The login mechanisms, in order of preference. The first that the broker offers is used.
    pub mechanisms: Vec<Mechanism>,
    /// The login, or the provider that returns it at each connect.
    pub credentials: SharedProvider,
    /// The virtual host.
    pub vhost: String,
    /// The heartbeat interval, rounded up to whole seconds. `None` accepts the broker's proposal, zero turns
    /// heartbeats off.
    pub heartbeat: Option<Duration>,
    /// The highest number of channels; 0 for no limit. The broker may allow fewer.
    pub channel_max: u16,
    /// The largest frame in bytes, 4,096 at least; 0 for 128 KiB. The broker may allow less.
    pub frame_max: u32,
    /// The time limit for dialling and the handshakes together, for each address; also for reading
    /// certificates.
    pub connect_timeout: Duration,
    /// The time limit for closing, outstanding confirms included.
    pub close_timeout: Duration,
    /// The largest body in bytes. A larger one is skipped while it is read, and its delivery settled as the
    /// consumer has it ([`Consume::oversized`](crate::Consume::oversized)).
    pub body_max: u64,
    /// How many bytes of incomplete bodies the channels of the connection keep together. When there are more,
    /// the largest of these bodies is skipped, and its delivery requeued after a second.
    pub partial_body_max: usize,
    /// How many bytes may wait for the application in `no_ack` consumers before reading from the socket
    /// pauses.
    pub read_ahead: usize,
    /// How many bytes the unsettled deliveries of consumers with a prefetch may have. When they have more, what
    /// the application has not begun of the largest consumer returns to its queue, and the consumer starts
    /// again with a smaller prefetch.
    pub prefetch_bytes: usize,
    /// How long reading may pause because of [`read_ahead`](Self::read_ahead) before the consumer with the most waiting bytes is
    /// cancelled. A warning is logged after a quarter of it. The broker closes a connection that is not read
    /// for 30 seconds.
    pub stall_limit: Duration,
    /// Client properties that the broker shows in its management interface, in addition to those of the
    /// library.
    pub client_properties: Table,
    /// What happens when the connection is lost.
    pub recovery: Recovery,
    /// Whether the first connect fails at its first error. Otherwise it is retried like a lost connection.
    pub fail_fast: bool,
    /// Connects in memory instead of to the addresses, for tests.
    #[cfg(feature = "testing")]
    pub memory: Option<MemoryDialer>,
    /// The scheme of the URI, which [`tls`](Self::tls) must not contradict.
    #[cfg_attr(not(feature = "tls"), expect(dead_code))]
    pub(crate) scheme: Option<Scheme>,
    /// The `reconnect_interval` of the URI, for [`robust`](Self::robust).
    pub(crate) reconnect_interval: Option<Duration>,
}

impl ConnectionOptions {
    /// Turns recovery on, unless [`recovery`](Self::recovery) is set.
    ///
    /// It uses the `reconnect_interval` of the URI as a fixed pause, or else [`Recovery::default`].
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::{ConnectionOptions, Recovery, Result};
    /// # fn main() -> Result<()> {
    /// let options = ConnectionOptions::from_uris(["amqp://localhost?reconnect_interval=5"])?.robust();
    /// assert_eq!(options.recovery, Recovery::fixed(Duration::from_secs(5)));
    /// # Ok(()) }
    /// ```
    pub fn robust(mut self) -> Self {
        if self.recovery == Recovery::Never {
            self.recovery = self.reconnect_interval.map_or_else(Recovery::default, Recovery::fixed);
        }
        self
    }

    /// Returns the options of TLS, if the connection uses it.
    ///
    /// # Errors
    /// `Uri` if they contradict the scheme of the URI.
    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> Result<Option<&TlsOptions>> {
        match (self.scheme, &self.tls) {
            (Some(Scheme::Amqp), Some(_)) => Err(Error::uri("options of TLS need an amqps URI, not amqp")),
            (Some(Scheme::Amqps), None) => Err(Error::uri("an amqps URI needs options of TLS")),
            (_, tls) => Ok(tls.as_ref()),
        }
    }

    /// Returns the heartbeat interval as AMQP has it: whole seconds, rounded up.
    pub(crate) fn heartbeat_seconds(&self) -> Option<u16> {
        let interval = self.heartbeat?;
        let seconds = interval.as_secs().saturating_add(u64::from(interval.subsec_nanos() > 0));
        Some(seconds.try_into().unwrap_or(u16::MAX))
    }
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            address: Address::new("localhost", 5672),
            other_addresses: Vec::new(),
            address_order: AddressOrder::default(),
            happy_eyeballs: HappyEyeballs::default(),
            tcp: TcpOptions::default(),
            #[cfg(feature = "tls")]
            tls: None,
            mechanisms: vec![Mechanism::Plain],
            credentials: SharedProvider::default(),
            vhost: "/".into(),
            heartbeat: None,
            channel_max: u16::MAX,
            frame_max: 128 * 1024,
            connect_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(30),
            body_max: 128 << 20,
            partial_body_max: 256 << 20,
            read_ahead: 8 << 20,
            prefetch_bytes: 64 << 20,
            stall_limit: Duration::from_secs(20),
            client_properties: Table::default(),
            recovery: Recovery::Never,
            fail_fast: true,
            #[cfg(feature = "testing")]
            memory: None,
            scheme: None,
            reconnect_interval: None,
        }
    }
}
