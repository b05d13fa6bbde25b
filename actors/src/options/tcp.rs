//! The options of the TCP socket under a connection.

use std::time::Duration;

/// Holds the options of the TCP socket under a connection.
///
/// Heartbeats detect a lost peer. Keepalive and the user timeout help if heartbeats are turned off, and let
/// the system detect unacknowledged writes earlier.
///
/// Source: <https://www.rabbitmq.com/docs/networking>;
/// <https://www.rabbitmq.com/docs/heartbeats#tcp-keepalives>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # use actix_pika_actors::TcpOptions;
///
/// let options = TcpOptions::new().keepalive(Duration::from_secs(60)).user_timeout(Duration::from_secs(20));
/// assert_eq!(options.keepalive, Some(Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a builder does nothing until it is used"]
pub struct TcpOptions {
    /// Whether small writes are sent at once (`TCP_NODELAY`).
    pub nodelay: bool,
    /// Silence after which the system probes the peer (`SO_KEEPALIVE`, `TCP_KEEPIDLE`); `None` turns probes
    /// off.
    pub keepalive: Option<Duration>,
    /// How long written bytes may stay unacknowledged before the system closes the connection
    /// (`TCP_USER_TIMEOUT`); `None` keeps the system's default.
    pub user_timeout: Option<Duration>,
    /// Size of the send buffer in bytes (`SO_SNDBUF`); `None` keeps the system's default.
    pub send_buffer: Option<u32>,
    /// Size of the receive buffer in bytes (`SO_RCVBUF`); `None` keeps the system's default.
    pub receive_buffer: Option<u32>,
}

impl TcpOptions {
    /// Creates options with `TCP_NODELAY` and the system's defaults.
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

    /// Sets whether small writes are sent at once (`TCP_NODELAY`); they are unless set.
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

    /// Sets the silence after which the system probes the peer (`SO_KEEPALIVE`, `TCP_KEEPIDLE`); whole
    /// seconds.
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

    /// Sets how long written bytes may stay unacknowledged before the system closes the connection
    /// (`TCP_USER_TIMEOUT`); milliseconds.
    ///
    /// Linux, Android and Fuchsia support it. On other systems a connect with this option fails with kind
    /// `Io`.
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

    /// Sets the size of the send buffer in bytes (`SO_SNDBUF`). The system may round or limit it.
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

    /// Sets the size of the receive buffer in bytes (`SO_RCVBUF`). The system may round or limit it.
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
