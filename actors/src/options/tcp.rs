//! What a TCP socket is asked for before it connects.

use std::time::Duration;

/// Says what the TCP socket under a connection is asked for.
///
/// Heartbeats find a dead peer by themselves; keepalive and the user timeout help where heartbeats are turned off, and
/// let the system notice earlier that what was written does not arrive.
///
/// Source: <https://www.rabbitmq.com/docs/networking>,
/// <https://www.rabbitmq.com/docs/heartbeats#tcp-keepalives>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika_actors::TcpOptions;
///
/// let patient = TcpOptions::new().keepalive(Duration::from_secs(60)).user_timeout(Duration::from_secs(20));
/// assert_eq!(patient.keepalive, Some(Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a builder does nothing until it is used"]
pub struct TcpOptions {
    /// Whether small writes leave at once (`TCP_NODELAY`).
    pub nodelay: bool,
    /// Silence after which the system probes the peer (`SO_KEEPALIVE`, `TCP_KEEPIDLE`); `None` never does.
    pub keepalive: Option<Duration>,
    /// How long written bytes may stay unacknowledged before the system drops the connection (`TCP_USER_TIMEOUT`);
    /// `None` leaves it to the system.
    pub user_timeout: Option<Duration>,
    /// Bytes of the send buffer (`SO_SNDBUF`); `None` leaves it to the system.
    pub send_buffer: Option<u32>,
    /// Bytes of the receive buffer (`SO_RCVBUF`); `None` leaves it to the system.
    pub receive_buffer: Option<u32>,
}

impl TcpOptions {
    /// Starts with no delay, and everything else as the system has it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TcpOptions;
    /// let options = TcpOptions::new();
    /// assert!(options.nodelay && options.keepalive.is_none());
    /// ```
    pub fn new() -> Self {
        Self { nodelay: true, keepalive: None, user_timeout: None, send_buffer: None, receive_buffer: None }
    }

    /// Sets whether small writes leave at once (`TCP_NODELAY`, on by default).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TcpOptions;
    /// assert!(!TcpOptions::new().nodelay(false).nodelay);
    /// ```
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.nodelay = nodelay;
        self
    }

    /// Has the system probe a peer that was silent for this long, whole seconds.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::TcpOptions;
    /// let options = TcpOptions::new().keepalive(Duration::from_secs(60));
    /// ```
    pub fn keepalive(mut self, after: Duration) -> Self {
        self.keepalive = Some(after);
        self
    }

    /// Has the system drop a connection whose bytes stay unacknowledged for this long, milliseconds.
    ///
    /// Known on Linux, Android and Fuchsia; a connect with it fails with kind `Io` elsewhere.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::TcpOptions;
    /// let options = TcpOptions::new().user_timeout(Duration::from_secs(20));
    /// ```
    pub fn user_timeout(mut self, after: Duration) -> Self {
        self.user_timeout = Some(after);
        self
    }

    /// Asks for a send buffer of this many bytes; the system may round it or limit it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TcpOptions;
    /// assert_eq!(TcpOptions::new().send_buffer(1 << 20).send_buffer, Some(1 << 20));
    /// ```
    pub fn send_buffer(mut self, bytes: u32) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// Asks for a receive buffer of this many bytes; the system may round it or limit it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::TcpOptions;
    /// assert_eq!(TcpOptions::new().receive_buffer(1 << 20).receive_buffer, Some(1 << 20));
    /// ```
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self::new()
    }
}
