//! The handle of a broker.

use std::{fmt, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use super::{
    builder::{Builder, StartError},
    node::Node,
    shared::Shared,
};
use crate::core::{InvalidPattern, Line};

/// A running broker. Dropping it closes its sockets and ends it, and the log names what was left consuming.
///
/// # Examples
/// ```
/// use actix_pika_broker::Broker;
///
/// # fn main() -> Result<(), actix_pika_broker::StartError> {
/// let broker = Broker::start()?;
/// // Any AMQP 0-9-1 client of any language may connect to it:
/// println!("{}", broker.url());
/// # Ok(()) }
/// ```
#[must_use = "a broker ends when it is dropped"]
pub struct Broker {
    pub(super) shared: Arc<Shared>,
    address: Option<SocketAddr>,
    place: Place,
    pub(super) node: Node,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<super::tls::Tls>,
}

/// Where a broker runs.
#[derive(Debug)]
pub(super) enum Place {
    Thread(JoinHandle<()>),
    /// On the arbiter where it was started.
    Caller,
    Ended,
}

impl Broker {
    pub(super) fn new(shared: Arc<Shared>, address: Option<SocketAddr>, place: Place, node: Node) -> Self {
        Self {
            shared,
            address,
            place,
            node,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Starts a broker of the line 4.3 on a free port of loopback, on a thread of its own.
    ///
    /// # Errors
    /// As [`Builder::start`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// assert_ne!(broker.port(), 0);
    /// ```
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// Returns a builder, for a broker that is not the usual one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().manual_clock().start().unwrap();
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Returns the URL of the virtual host `/` for the user `guest`. A broker without a socket is on the host `memory`,
    /// where only its [dialer](Self::dialer) connects to.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// assert_eq!(broker.url(), format!("amqp://guest:guest@127.0.0.1:{}/%2f", broker.port()));
    /// ```
    pub fn url(&self) -> String {
        self.url_of("guest", "guest", "%2f")
    }

    /// Returns the URL of a virtual host for a user.
    ///
    /// Names and passwords of letters and digits only: nothing is escaped.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().user("app", "secret").vhost("orders").start().unwrap();
    /// assert!(broker.url_of("app", "secret", "orders").ends_with("/orders"));
    /// ```
    pub fn url_of(&self, user: &str, password: &str, vhost: &str) -> String {
        let host = self.address.map_or_else(|| "memory".into(), |address| address.to_string());
        format!("amqp://{user}:{password}@{host}/{vhost}")
    }

    /// Returns the port, or 0 for a broker without a socket.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// println!("port {}", Broker::start().unwrap().port());
    /// ```
    pub fn port(&self) -> u16 {
        self.address.map_or(0, |address| address.port())
    }

    /// Returns the line of RabbitMQ whose answers it gives.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::{Broker, Line};
    /// assert_eq!(Broker::start().unwrap().line(), Line::V4_3);
    /// ```
    pub fn line(&self) -> Line {
        self.shared.look(|state| state.core.config().line)
    }

    /// Moves the time of queues and messages: what expires, is delayed or has a limit until then happens before this
    /// returns. Heartbeats do not move. All advances together are 100 years at most.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().manual_clock().start().unwrap();
    /// broker.advance(std::time::Duration::from_secs(30));
    /// ```
    pub fn advance(&self, by: Duration) {
        self.shared.advance(|clock| clock.advance_core(by));
    }

    /// Moves the time of connections: heartbeats are sent and missed. Queues and messages stay.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().manual_clock().start().unwrap();
    /// broker.advance_connections(std::time::Duration::from_secs(180));
    /// ```
    pub fn advance_connections(&self, by: Duration) {
        self.shared.advance(|clock| clock.advance_net(by));
    }

    /// Adds a user without permissions, or changes a password.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().add_user("app", "secret");
    /// ```
    pub fn add_user(&self, name: &str, password: &str) {
        self.shared.change(|state| state.core.add_user(name, password));
    }

    /// Removes a user and closes the user's connections with 320. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().remove_user("nobody"));
    /// ```
    pub fn remove_user(&self, name: &str) -> bool {
        self.shared.change(|state| state.core.remove_user(state.clock.core(), name))
    }

    /// Returns whether there is a user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().has_user("guest"));
    /// ```
    pub fn has_user(&self, name: &str) -> bool {
        self.shared.look(|state| state.core.has_user(name))
    }

    /// Sets the patterns of names that a user may configure, write and read in a virtual host.
    ///
    /// # Errors
    /// [`InvalidPattern`] for one that is no regular expression.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().set_permissions("guest", "/", ["^orders", ".*", ".*"]).unwrap();
    /// ```
    pub fn set_permissions(
        &self,
        user: &str,
        vhost: &str,
        patterns: [&str; 3],
    ) -> Result<(), InvalidPattern> {
        self.in_vhost(vhost).set_permissions(user, patterns)
    }

    /// Adds a virtual host, which `guest` may use. Returns false if it is there.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().add_vhost("orders"));
    /// ```
    pub fn add_vhost(&self, name: &str) -> bool {
        self.shared.change(|state| state.core.add_vhost(name))
    }

    /// Removes a virtual host with all that is in it, and closes its connections with 320. Returns whether there was
    /// one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().remove_vhost("orders"));
    /// ```
    pub fn remove_vhost(&self, name: &str) -> bool {
        self.shared.change(|state| state.core.remove_vhost(state.clock.core(), name))
    }

    /// Limits the connections of a virtual host, or ends the limit: one more is refused with 530. Those that are open
    /// stay.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().limit_connections_of_vhost("/", Some(1));
    /// ```
    pub fn limit_connections_of_vhost(&self, vhost: &str, max: Option<u32>) {
        self.shared.change(|state| state.core.limit_connections_of_vhost(vhost, max));
    }

    /// Limits the queues of a virtual host, or ends the limit: the declaration of one more closes its channel with 406.
    /// Those that are there stay.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().limit_queues_of_vhost("/", Some(1));
    /// ```
    pub fn limit_queues_of_vhost(&self, vhost: &str, max: Option<u32>) {
        self.shared.change(|state| state.core.limit_queues_of_vhost(vhost, max));
    }

    /// Limits the connections of a user, or ends the limit: one more is refused with 530. Those that are open stay.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().limit_connections_of_user("guest", Some(1));
    /// ```
    pub fn limit_connections_of_user(&self, user: &str, max: Option<u32>) {
        self.shared.change(|state| state.core.limit_connections_of_user(user, max));
    }

    /// Limits the channels of a user, or ends the limit: one more closes its connection with 530. Those that are open
    /// stay.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().limit_channels_of_user("guest", Some(1));
    /// ```
    pub fn limit_channels_of_user(&self, user: &str, max: Option<u32>) {
        self.shared.change(|state| state.core.limit_channels_of_user(user, max));
    }

    /// Sets how long a delivery may stay without an ack, on channels that are opened from now on.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().set_consumer_timeout(Some(std::time::Duration::from_secs(60)));
    /// ```
    pub fn set_consumer_timeout(&self, timeout: Option<Duration>) {
        self.shared.change(|state| state.core.set_consumer_timeout(timeout.map(millis)));
    }

    /// Sets the largest body from now on: a larger one closes its channel with 406.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().set_max_message_size(1 << 20);
    /// ```
    pub fn set_max_message_size(&self, bytes: u64) {
        self.shared.change(|state| state.core.set_message_max(bytes));
    }

    /// Ends the broker.
    fn stop(&mut self) {
        let left = self.shared.look(|state| state.left_consuming());
        if !left.is_empty() {
            log::warn!("the test broker ends with consumers: {}", left.join(", "));
        }
        self.shared.stop.send_replace(true);
        self.node.resume();
        if let Place::Thread(thread) = std::mem::replace(&mut self.place, Place::Ended)
            && thread.join().is_err()
        {
            log::error!("the thread of the test broker panicked");
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("line", &self.line())
            .field("port", &self.port())
            .finish_non_exhaustive()
    }
}
