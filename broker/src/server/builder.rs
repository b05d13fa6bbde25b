//! How a broker is started.

use std::{fmt, io, net::IpAddr, sync::Arc};

use super::handle::millis;
#[cfg(feature = "tls")]
use super::tls::TlsSettings;
use crate::core::{CoreConfig, EntityLimits, Line, Permits};

/// Builds a [`Broker`](crate::Broker).
///
/// # Examples
/// ```
/// use actix_pika_broker::{Broker, Line};
///
/// # fn main() -> Result<(), actix_pika_broker::StartError> {
/// let broker = Broker::builder().line(Line::V4_0).user("app", "secret").vhost("orders").start()?;
/// println!("{}", broker.url());
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    pub(super) config: CoreConfig,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) manual_clock: bool,
    pub(super) users: Vec<(String, Secret)>,
    pub(super) vhosts: Vec<String>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<TlsSettings>,
}

/// A password that Debug does not show.
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}

/// Why a broker did not start.
///
/// # Examples
/// ```
/// use actix_pika_broker::Broker;
///
/// let first = Broker::start().unwrap();
/// let second = Broker::builder().port(first.port()).start();
/// assert!(second.unwrap_err().to_string().starts_with("cannot listen on 127.0.0.1:"));
/// ```
#[derive(Clone, Debug)]
pub struct StartError {
    what: String,
    source: Arc<io::Error>,
}

impl StartError {
    pub(super) fn new(what: impl Into<String>, source: io::Error) -> Self {
        Self { what: what.into(), source: Arc::new(source) }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            config: CoreConfig::default(),
            address: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            manual_clock: false,
            users: Vec::new(),
            vhosts: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets the line of RabbitMQ whose answers the broker gives; 4.3 unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::{Broker, Line};
    /// let old = Broker::builder().line(Line::V3_10);
    /// ```
    pub fn line(mut self, line: Line) -> Self {
        self.config.line = line;
        self
    }

    /// Sets the port; 0, a free one, unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika_broker::Broker;
    /// let usual = Broker::builder().port(5672);
    /// ```
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the address to listen on; `127.0.0.1` unless set. Others can be reached from outside, where anybody may log
    /// in as `guest`.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika_broker::Broker;
    /// let on_ipv6 = Broker::builder().address(std::net::Ipv6Addr::LOCALHOST);
    /// ```
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// Sets what generated names depend on; 0 unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let other_names = Broker::builder().seed(7);
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// Stops the clock: it moves by [`Broker::advance`](crate::Broker::advance) and
    /// [`Broker::advance_connections`](crate::Broker::advance_connections) only.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let still = Broker::builder().manual_clock();
    /// ```
    pub fn manual_clock(mut self) -> Self {
        self.manual_clock = true;
        self
    }

    /// Sets how long a delivery may stay without an ack, `consumer_timeout`; 30 minutes unless set.
    /// `None` is for ever.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let strict = Broker::builder().consumer_timeout(Some(std::time::Duration::from_secs(60)));
    /// ```
    pub fn consumer_timeout(mut self, timeout: Option<std::time::Duration>) -> Self {
        self.config.consumer_timeout = timeout.map(millis);
        self
    }

    /// Sets how many octets messages may take: from then on, connections that publish are blocked (`low on memory`) until a
    /// fifth of it is free again. 1 GiB unless set; each message counts 512 octets more than its body and properties,
    /// and 128 for each queue. `None` is no limit.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let little = Broker::builder().memory_limit(Some(16 << 20));
    /// ```
    pub fn memory_limit(mut self, octets: Option<u64>) -> Self {
        self.config.memory_limit = octets;
        self
    }

    /// Sets how many queues, exchanges, bindings and consumers clients may declare, 100,000 of each unless set, and how many
    /// octets their names and arguments may take together, 256 MiB unless set. One more closes its connection with 506.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::{Broker, EntityLimits};
    /// let few = Broker::builder().entity_limits(EntityLimits { queues: 10, ..EntityLimits::default() });
    /// ```
    pub fn entity_limits(mut self, limits: EntityLimits) -> Self {
        self.config.entity_limits = limits;
        self
    }

    /// Sets the largest body; 16 MiB from 4.0 on, 128 MiB before, unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let small = Broker::builder().max_message_size(1 << 20);
    /// ```
    pub fn max_message_size(mut self, bytes: u64) -> Self {
        self.config.message_max = Some(bytes);
        self
    }

    /// Sets the `frame_max` that is offered; 131,072 unless set. One below the least of the line (8,192 from 4.1 on, 4,096
    /// before) has every connection refused.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let small = Broker::builder().frame_max(8192);
    /// ```
    pub fn frame_max(mut self, octets: u32) -> Self {
        self.config.frame_max = octets;
        self
    }

    /// Permits or denies deprecated features, as `deprecated_features.permit.*` does; as the line has it unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::{Broker, Permits};
    /// let strict = Broker::builder().permits(Permits { transient_queues: Some(false), ..Permits::default() });
    /// ```
    pub fn permits(mut self, permits: Permits) -> Self {
        self.config.permits = permits;
        self
    }

    /// Adds a user, who may use each virtual host of this builder and `/`. There is always `guest`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let with_app = Broker::builder().user("app", "secret");
    /// ```
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), Secret(password.to_owned())));
        self
    }

    /// Adds a virtual host. There is always `/`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let with_orders = Broker::builder().vhost("orders");
    /// ```
    pub fn vhost(mut self, name: &str) -> Self {
        self.vhosts.push(name.to_owned());
        self
    }
}
