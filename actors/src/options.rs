//! What a connection is to be: where, as whom, and within which limits.

use std::time::Duration;

pub use address::{Address, AddressOrder, HappyEyeballs};
#[cfg(feature = "testing")]
pub use memory::MemoryDialer;
pub use tcp::TcpOptions;

use crate::{
    credentials::SharedProvider,
    secret::Secret,
    wire::{Mechanism, Table},
};

mod address;
#[cfg(feature = "testing")]
mod memory;
mod tcp;

/// Says what happens when a connection is lost.
///
/// **Over a reconnect**: the tries are counted on, and the waits grow on, until a connection has lasted for a heartbeat
/// interval. Beside the limits set here, a login or virtual host that is refused for a minute ends the recovery, and so
/// does closing the connection.
///
/// Source: <https://www.rabbitmq.com/docs/connections#recovery>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika_actors::Recovery;
///
/// let patient = Recovery::exponential(Duration::from_millis(200), Duration::from_secs(30));
/// let limited = Recovery::fixed(Duration::from_secs(5)).attempts(12);
/// assert_ne!(patient, limited);
/// assert_ne!(limited, Recovery::Never);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a builder does nothing until it is used"]
pub enum Recovery {
    /// Nothing: the connection is closed, with its cause.
    Never,
    /// Another one takes its place, after a delay.
    After(Backoff),
}

/// Says how long to wait before each try, and when to give up; made by the functions of [`Recovery`].
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika_actors::Recovery;
///
/// let Recovery::After(backoff) = Recovery::fixed(Duration::from_secs(5)) else { unreachable!() };
/// assert_eq!((backoff.first, backoff.most), (Duration::from_secs(5), Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backoff {
    /// The longest wait before the first try; each further one may be twice as long.
    pub first: Duration,
    /// The longest wait of all.
    pub most: Duration,
    /// Whether the wait is left to chance, from nothing to the longest: clients that lost the same broker do not come
    /// back in the same moment.
    pub jitter: bool,
    /// After how many tries in a row it is given up.
    pub attempts: Option<u32>,
    /// How long after the loss it is given up.
    pub within: Option<Duration>,
}

impl Recovery {
    /// Waits a random time of up to `first`, then up to twice that, and so on, up to `most`; for ever unless
    /// [`attempts`](Self::attempts) or [`within`](Self::within) says otherwise. The wait is a short one again when a
    /// connection has lasted for a heartbeat interval.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let soon = Recovery::exponential(Duration::from_millis(50), Duration::from_secs(2));
    /// ```
    pub fn exponential(first: Duration, most: Duration) -> Self {
        Self::After(Backoff { first, most: most.max(first), jitter: true, attempts: None, within: None })
    }

    /// Waits the same time before each try, for ever unless limited.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let steady = Recovery::fixed(Duration::from_secs(5));
    /// ```
    pub fn fixed(interval: Duration) -> Self {
        Self::After(Backoff { first: interval, most: interval, jitter: false, attempts: None, within: None })
    }

    /// Gives up after so many tries in a row; the connection is then closed with the cause of the last one.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let twelve_times = Recovery::fixed(Duration::from_secs(5)).attempts(12);
    /// ```
    pub fn attempts(self, attempts: u32) -> Self {
        match self {
            Self::After(backoff) => Self::After(Backoff { attempts: Some(attempts), ..backoff }),
            Self::Never => Self::Never,
        }
    }

    /// Gives up when no connection came about for so long; that is looked at after each try.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Recovery;
    /// let an_hour = Recovery::default().within(Duration::from_secs(3600));
    /// ```
    pub fn within(self, limit: Duration) -> Self {
        match self {
            Self::After(backoff) => Self::After(Backoff { within: Some(limit), ..backoff }),
            Self::Never => Self::Never,
        }
    }
}

impl Default for Recovery {
    /// From up to 200 milliseconds to up to 30 seconds, for ever.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(200), Duration::from_secs(30))
    }
}

/// A limit of time as the clock can bear it: who asks for `Duration::MAX` waits for some years at most.
pub(crate) fn clamp_timeout(limit: Duration) -> Duration {
    limit.min(Duration::from_secs(10 * 365 * 86_400))
}

/// Holds all that a supervisor must know to make connections.
///
/// The default is `guest` at `localhost:5672` with the virtual host `/`, the broker's heartbeat, 30 seconds
/// for a connect and for a close, and no recovery. A `Connector` of the crate `actix-pika` fills it in from a
/// URI and by its methods.
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
pub struct ConnectionOptions {
    /// Where the broker is.
    pub address: Address,
    /// Where else it is: other nodes of its cluster.
    pub other_addresses: Vec<Address>,
    /// In which order all of these are tried.
    pub address_order: AddressOrder,
    /// How the IP addresses of one name are raced.
    pub happy_eyeballs: HappyEyeballs,
    /// What the socket is asked for.
    pub tcp: TcpOptions,
    /// How to log in: the first of these that the broker offers.
    pub mechanisms: Vec<Mechanism>,
    /// The login, where there is no provider.
    pub user: String,
    /// Its password; never shown.
    pub password: Secret,
    /// Who is asked for the login at each connect.
    pub credentials: Option<SharedProvider>,
    /// The virtual host.
    pub vhost: String,
    /// The heartbeat interval, rounded up to whole seconds. `None` accepts the broker's proposal, zero turns heartbeats
    /// off.
    pub heartbeat: Option<Duration>,
    /// Channels at most; the broker may say less.
    pub channel_max: u16,
    /// Bytes of a frame at most, from 4,096 on; the broker may say less.
    pub frame_max: u32,
    /// How long dialling and shaking hands may take together, with each address that is tried.
    pub connect_timeout: Duration,
    /// How long closing may take, confirms under way included.
    pub close_timeout: Duration,
    /// Bytes of a body at most; a larger one closes the connection.
    pub body_max: u64,
    /// Bytes that may wait for the application in `no_ack` consumers before the socket is not read any more.
    pub read_ahead: usize,
    /// How long the socket may stay unread because of that before the consumer that holds most is cancelled; a warning
    /// is logged after a quarter of it. The broker gives up after 30 seconds.
    pub stall_limit: Duration,
    /// What the broker shows of this client, beside what the library says of itself.
    pub client_properties: Table,
    /// What happens when the connection is lost.
    pub recovery: Recovery,
    /// Whether the first connect fails at once; otherwise it is tried again like a lost one.
    pub fail_fast: bool,
    /// Connects to a [`MemoryPeer`](crate::testing::MemoryPeer) instead of the addresses, for tests.
    #[cfg(feature = "testing")]
    pub memory: Option<MemoryDialer>,
}

impl ConnectionOptions {
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
            mechanisms: vec![Mechanism::Plain],
            user: "guest".into(),
            password: "guest".into(),
            credentials: None,
            vhost: "/".into(),
            heartbeat: None,
            channel_max: u16::MAX,
            frame_max: 128 * 1024,
            connect_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(30),
            body_max: 128 << 20,
            read_ahead: 8 << 20,
            stall_limit: Duration::from_secs(20),
            client_properties: Table::default(),
            recovery: Recovery::Never,
            fail_fast: true,
            #[cfg(feature = "testing")]
            memory: None,
        }
    }
}
