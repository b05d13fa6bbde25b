//! The handle of a broker.

use std::{fmt, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use super::{
    builder::{Builder, StartError},
    node::Node,
    shared::Shared,
};
use crate::core::Line;

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
    /// That of a broker that does not run on the arbiter where it was started.
    thread: Option<JoinHandle<()>>,
    pub(super) node: Node,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<super::tls::Tls>,
}

impl Broker {
    pub(super) fn new(
        shared: Arc<Shared>,
        address: Option<SocketAddr>,
        thread: Option<JoinHandle<()>>,
        node: Node,
    ) -> Self {
        Self {
            shared,
            address,
            thread,
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
    #[must_use]
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
    #[must_use]
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
    #[must_use]
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
    #[must_use]
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

    /// Moves the time of connections in one leap: what is due by then happens before this returns. Of several heartbeats one
    /// is sent; a client that has sent nothing for three intervals is cut; what was [delayed](Self::delay) is written.
    /// Queues and messages stay. All of these together are 100 years at most.
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

    /// Waits until a part of the broker has panicked, and returns which one.
    #[doc(hidden)]
    pub async fn broken(&self) -> String {
        let mut stopped = self.shared.stop.subscribe();
        // Nothing else stops it while there is a handle.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        self.shared.broken().unwrap_or("the test broker has ended").to_owned()
    }

    /// Ends the broker.
    fn stop(&mut self) {
        match self.shared.broken() {
            Some(broken) => log::error!("{broken}"),
            None => {
                let left = self.shared.look(|state| state.left_consuming());
                if !left.is_empty() {
                    log::warn!("the test broker ends with consumers: {}", left.join(", "));
                }
            }
        }
        self.shared.stop.send_replace(true);
        self.node.resume();
        if let Some(thread) = self.thread.take()
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
