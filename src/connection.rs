//! The handle of a connection.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use actix::Addr;
use actix_pika_actors::{ConnectionState, ConnectionSupervisor, facade};
use tokio::sync::watch;

use crate::{
    Channel, OpenChannel, Result,
    events::{Health, Opened},
    message::{CloseConnection, GetHealth, Table, UpdateSecret},
    options::Secret,
};

/// A connection to a broker, on which channels are opened. Clones are the same connection.
///
/// It closes when the last handle of it, and of its channels, is gone, and nothing is under way on these. RabbitMQ
/// stops reading from a connection that it [blocks](Self::is_blocked): publishers and consumers that must not wait
/// for each other take two connections.
///
/// **Over a reconnect**: it stays the same handle, and so do its channels. One made with [`connect`](crate::connect)
/// is never restored: everything on it ends with `ConnectionClosed`. What ends the recovery of one made with
/// [`connect_robust`](crate::connect_robust) is told there.
///
/// Source: AMQP 0-9-1 section 1.4 (class connection); <https://www.rabbitmq.com/docs/connections>.
///
/// # Examples
/// ```no_run
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = actix_pika::connect("amqp://guest:guest@localhost/").await?;
/// let publishing = connection.channel().await?;
/// let consuming = connection.channel().await?;
/// connection.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

struct Inner {
    supervisor: Addr<ConnectionSupervisor>,
    state: watch::Receiver<ConnectionState>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.supervisor.do_send(facade::ReleaseConnection);
    }
}

impl Connection {
    pub(crate) fn new(
        supervisor: Addr<ConnectionSupervisor>,
        state: watch::Receiver<ConnectionState>,
    ) -> Self {
        Self { inner: Arc::new(Inner { supervisor, state }) }
    }

    /// Opens a channel with publisher confirms.
    ///
    /// Sends `channel.open` and `confirm.select`. It has room for 1,024 publishes and 16 MiB of them under way, and
    /// deadlines of 30 seconds; [`channel_with`](Self::channel_with) sets others.
    ///
    /// # Errors
    /// `Limit` when all channels are open: as many as [`channel_max`](Self::channel_max) says, 2,047 by RabbitMQ's
    /// default. `Refused` without a code where the broker has no confirms. Both leave the connection as it is.
    /// `ConnectionClosed` when it is closed, or being closed; `Timeout`, or `Blocked`, when the broker has not
    /// answered within the deadline; `Stopped` when the arbiter of the connection has ended.
    ///
    /// **Over a reconnect**: the channel is opened again under the same number, in confirm mode. One that is opened
    /// while the connection is down waits for it within its deadline.
    ///
    /// Source: AMQP 0-9-1 section 1.5 (`channel.open`); <https://www.rabbitmq.com/docs/confirms>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// let channel = connection.channel().await?;
    /// // Returns when the broker has confirmed it.
    /// channel.default_exchange().publish("resize 7.png", "jobs").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn channel(&self) -> Result<Channel> {
        self.channel_with(OpenChannel::new()).await
    }

    /// Opens a channel as the options say: with or without confirms, with another window, deadline or number.
    ///
    /// Sends `channel.open`, and `confirm.select` unless confirms are off.
    ///
    /// # Errors
    /// Those of [`channel`](Self::channel); `Limit` also for a number that is 0, in use, or above
    /// [`channel_max`](Self::channel_max).
    ///
    /// **Over a reconnect**: the channel is opened again as these options say. Publishes that were not confirmed are
    /// sent again, unless [`OpenChannel::on_outage`] says otherwise: then they fail with `ConnectionClosed`, "may have
    /// arrived".
    ///
    /// Source: AMQP 0-9-1 section 1.5 (`channel.open`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    /// use actix_pika::OpenChannel;
    ///
    /// let fast = connection.channel_with(OpenChannel::new().confirms(false)).await?;
    /// let strict = OpenChannel::new().window(16).deadline(Duration::from_secs(2));
    /// let strict = connection.channel_with(strict).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn channel_with(&self, options: OpenChannel) -> Result<Channel> {
        let ids = facade::has_message_ids(&options);
        let opened = self.inner.supervisor.send(options).await??;
        Ok(Channel::new(self.clone(), opened, ids))
    }

    /// Gives the broker a new password or token for the login of this connection.
    ///
    /// Sends `connection.update-secret`, a RabbitMQ extension for OAuth 2. Once the broker has taken it, it is used
    /// for later connects as well, unless the connection has a [`CredentialsProvider`](crate::options::CredentialsProvider),
    /// which is asked at each of them. Dropping the future takes nothing back.
    ///
    /// # Errors
    /// `Timeout` after 30 seconds, or `Blocked` while the broker blocks the connection; [`UpdateSecret`] sets another
    /// limit with [`update_secret_with`](Self::update_secret_with). `ConnectionClosed` with 530 when the broker
    /// refuses it, which closes the connection, and without a code when it is closed already. `Limit` when the secret
    /// does not fit a frame, or 32 of them are unanswered. `Stopped` when the arbiter of the connection has ended.
    ///
    /// **Over a reconnect**: the new connection logs in with the secret that the broker took last. One whose answer
    /// was outstanding when the connection broke fails with `ConnectionClosed`.
    ///
    /// Source: <https://www.rabbitmq.com/docs/oauth2>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection, token: String) -> actix_pika::Result<()> {
    /// connection.update_secret(token, "the old token expires").await
    /// # }
    /// ```
    pub async fn update_secret(&self, secret: impl Into<Secret>, reason: &str) -> Result<()> {
        self.update_secret_with(UpdateSecret::new(secret, reason)).await
    }

    /// Gives the broker a new password or token, as the options say.
    ///
    /// Sends `connection.update-secret`.
    ///
    /// # Errors
    /// Those of [`update_secret`](Self::update_secret), with the deadline of the options.
    ///
    /// **Over a reconnect**: as for [`update_secret`](Self::update_secret).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection, token: String) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    /// use actix_pika::message::UpdateSecret;
    ///
    /// let update = UpdateSecret::new(token, "rotation").deadline(Duration::from_secs(5));
    /// connection.update_secret_with(update).await
    /// # }
    /// ```
    pub async fn update_secret_with(&self, update: UpdateSecret) -> Result<()> {
        self.inner.supervisor.send(update).await?
    }

    /// Closes the connection after the confirms under way have come, or the limit has passed.
    ///
    /// Sends `connection.close` with 200. The limit is 30 seconds unless
    /// [`Connector::close_timeout`](crate::Connector::close_timeout) says otherwise. No channel takes publishes any
    /// more, and no new channel is opened. Closing twice is fine.
    ///
    /// # Errors
    /// `Timeout`, or `Blocked` while the broker blocks the connection, when publishes were still unconfirmed: they
    /// may have arrived. The connection is closed all the same. `Stopped` when its arbiter has ended.
    ///
    /// **Over a reconnect**: it wins, the recovery ends; what waited for it fails with `ConnectionClosed`.
    ///
    /// Source: AMQP 0-9-1 section 1.4 (`connection.close`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// connection.close().await?;
    /// assert!(connection.is_closed());
    /// connection.close().await
    /// # }
    /// ```
    pub async fn close(&self) -> Result<()> {
        self.close_with(CloseConnection::new()).await
    }

    /// Closes the connection with a code and a text for the broker's log.
    ///
    /// Sends `connection.close`. A text of more than 255 bytes is cut between two characters.
    ///
    /// # Errors
    /// Those of [`close`](Self::close).
    ///
    /// **Over a reconnect**: as for [`close`](Self::close).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// use actix_pika::message::CloseConnection;
    ///
    /// connection.close_with(CloseConnection::new().reason(320, "moving house")).await
    /// # }
    /// ```
    pub async fn close_with(&self, close: CloseConnection) -> Result<()> {
        match self.inner.supervisor.send(close).await {
            Ok(answer) => answer,
            // The actor ends with its connection.
            Err(_) if self.is_closed() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until the connection is closed.
    ///
    /// # Errors
    /// The cause, if it was not closed by this application: `ConnectionClosed` with the broker's code (320 where an
    /// operator or a shutdown did it), or without one where heartbeats stayed away; `Io` for a broken socket;
    /// `Protocol` for a peer that broke the protocol, or sent a body above
    /// [`Connector::body_max`](crate::Connector::body_max). `Stopped` when its arbiter has ended.
    ///
    /// **Over a reconnect**: it goes on to wait; a connection that is being restored is not closed.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// match connection.closed().await {
    ///     Ok(()) => println!("closed by us"),
    ///     Err(cause) => println!("lost: {cause}"),
    /// }
    /// # }
    /// ```
    pub async fn closed(&self) -> Result<()> {
        let mut state = self.inner.state.clone();
        loop {
            if let ConnectionState::Closed(cause) = &*state.borrow_and_update() {
                return cause.clone().map_or(Ok(()), Err);
            }
            if state.changed().await.is_err() {
                return Err(facade::stopped("the arbiter of the connection has ended"));
            }
        }
    }

    /// Tells whether the connection is closed, or its arbiter has ended.
    ///
    /// **Over a reconnect**: a connection that is being restored is not closed.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// assert!(!connection.is_closed());
    /// connection.close().await?;
    /// assert!(connection.is_closed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_closed(&self) -> bool {
        matches!(&*self.inner.state.borrow(), ConnectionState::Closed(_))
            || self.inner.state.has_changed().is_err()
    }

    /// Tells how the connection stands: a copy of the moment.
    ///
    /// **Over a reconnect**: it is `Reconnecting` while the connection is down, and `Open` again before everything on
    /// it is restored; [`health`](Self::health) tells of that.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// use actix_pika::events::ConnectionState;
    ///
    /// if let ConnectionState::Open(opened) = connection.state() {
    ///     println!("connected to {} ({})", opened.address, opened.peer_addr);
    /// }
    /// # }
    /// ```
    pub fn state(&self) -> ConnectionState {
        self.inner.state.borrow().clone()
    }

    /// Tells how well the connection does: connected, everything there that was declared, and publishes accepted.
    ///
    /// While a connection that recovers is there, [`ConnectionEvent::Health`](crate::ConnectionEvent::Health) tells of every change.
    ///
    /// # Errors
    /// `Stopped` where the actor is gone: its arbiter has ended.
    ///
    /// **Over a reconnect**: it is `Down` with the cause, then `Degraded` while everything is restored, then `Up`, or
    /// `Degraded` for as long as something that was declared is missing.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// if !connection.health().await?.is_up() {
    ///     println!("not now");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn health(&self) -> Result<Health> {
        Ok(self.inner.supervisor.send(GetHealth).await?)
    }

    /// Tells the highest channel number that both sides agreed on; `None` unless the connection is open.
    ///
    /// **Over a reconnect**: it is agreed on anew, and another node may allow less.
    ///
    /// Source: AMQP 0-9-1 section 1.4 (`connection.tune`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// assert_eq!(connection.channel_max(), Some(2047)); // RabbitMQ's default
    /// # }
    /// ```
    pub fn channel_max(&self) -> Option<u16> {
        self.opened(Opened::channel_max)
    }

    /// Tells the largest frame in bytes that both sides agreed on; `None` unless the connection is open.
    ///
    /// Bodies may be larger, they go in several frames; headers and arguments may not.
    ///
    /// **Over a reconnect**: it is agreed on anew, and another node may allow less.
    ///
    /// Source: AMQP 0-9-1 section 1.4 (`connection.tune`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// assert_eq!(connection.frame_max(), Some(131_072)); // 128 KiB, RabbitMQ's default
    /// # }
    /// ```
    pub fn frame_max(&self) -> Option<u32> {
        self.opened(Opened::frame_max)
    }

    /// Returns the heartbeat interval that both sides agreed on, zero for none; `None` unless the connection is open.
    ///
    /// **Over a reconnect**: it is agreed on anew.
    ///
    /// Source: AMQP 0-9-1 section 1.4 (`connection.tune`); <https://www.rabbitmq.com/docs/heartbeats>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// use std::time::Duration;
    ///
    /// assert_eq!(connection.heartbeat(), Some(Duration::from_secs(60))); // RabbitMQ's default
    /// # }
    /// ```
    pub fn heartbeat(&self) -> Option<Duration> {
        self.opened(Opened::heartbeat)
    }

    /// Shows what the broker says of itself: product, version, capabilities; `None` unless the connection is open.
    ///
    /// **Over a reconnect**: they are those of the node that it is connected to now.
    ///
    /// Source: AMQP 0-9-1 section 1.4 (`connection.start`).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// use actix_pika::message::Value;
    ///
    /// let properties = connection.server_properties().unwrap_or_default();
    /// println!("{:?}", properties.get("version").and_then(Value::as_str));
    /// # }
    /// ```
    pub fn server_properties(&self) -> Option<Table> {
        self.opened(|opened| opened.server_properties().clone())
    }

    /// Tells our end of the socket, while the connection is open.
    ///
    /// **Over a reconnect**: it is that of the new socket.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// println!("from {:?} to {:?}", connection.local_addr(), connection.peer_addr());
    /// # }
    /// ```
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.opened(|opened| opened.local_addr)
    }

    /// Tells the broker's end of the socket, while the connection is open.
    ///
    /// **Over a reconnect**: it is that of the new socket, maybe of another node.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// assert_eq!(connection.peer_addr().map(|addr| addr.port()), Some(5672));
    /// connection.close().await?;
    /// assert_eq!(connection.peer_addr(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.opened(|opened| opened.peer_addr)
    }

    /// Tells whether the broker takes no publishes now (`connection.blocked`), because it is short of memory or disk.
    ///
    /// Publishes wait in the window meanwhile. RabbitMQ reads nothing at all from a connection that it has blocked,
    /// so calls, acknowledgements and closing wait, too: what reaches its deadline is answered with kind `Blocked`.
    ///
    /// **Over a reconnect**: a new connection is not blocked until the broker says so again.
    ///
    /// Source: <https://www.rabbitmq.com/docs/connection-blocked>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// if connection.is_blocked() {
    ///     println!("publishing waits for the broker");
    /// }
    /// # }
    /// ```
    pub fn is_blocked(&self) -> bool {
        self.opened(|opened| opened.blocked.is_some()).unwrap_or(false)
    }

    /// Hands out the address of the actor behind the handle, for those who speak to it in messages.
    ///
    /// An address does not keep the connection open as a handle does.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// use actix_pika::message::GetState;
    ///
    /// println!("{:?}", connection.actor().send(GetState).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn actor(&self) -> &Addr<ConnectionSupervisor> {
        &self.inner.supervisor
    }

    fn opened<T>(&self, f: impl FnOnce(&Opened) -> T) -> Option<T> {
        match &*self.inner.state.borrow() {
            ConnectionState::Open(opened) => Some(f(opened)),
            _ => None,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("state", &*self.inner.state.borrow()).finish_non_exhaustive()
    }
}
