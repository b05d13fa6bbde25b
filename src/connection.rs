//! The handle of a connection.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::Addr;
use actix_pika_actors::{ConnectionState, ConnectionSupervisor, facade};
use tokio::{sync::watch, time::Instant};

use crate::{
    Channel, OpenChannel, Result,
    events::{BrokerRules, ConnectionCounters, EntityKind, Health, Load, MissingEntity, Opened},
    hook::Hooks,
    message::{AwaitReady, CloseConnection, Forget, GetHealth, GetMissing, Table, UpdateSecret},
    options::Secret,
};

/// A connection to a broker, on which channels are opened. Clones are the same connection.
///
/// The connection closes when its last handle and those of its channels are dropped, and nothing is
/// outstanding on the channels. RabbitMQ stops reading from a connection that it [blocks](Self::is_blocked):
/// use two connections for publishers and consumers that must not wait for each other.
///
/// **Over a reconnect**: the handle stays valid, and so do its channels. A connection made with
/// [`connect`](crate::connect()) is not recovered: everything on it ends with `ConnectionClosed`. For what
/// ends recovery, see [`connect_robust`](crate::connect_robust).
///
/// Source: AMQP 0-9-1 section 1.4 (class connection); <https://www.rabbitmq.com/docs/connections>
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
    tally: Arc<facade::ConnectionTally>,
    hooks: Hooks,
    /// A shutdown of the process has begun, which closes the connection last.
    is_draining: AtomicBool,
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
        tally: Arc<facade::ConnectionTally>,
        hooks: Hooks,
    ) -> Self {
        let is_draining = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { supervisor, state, tally, hooks, is_draining }) }
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.inner.hooks
    }

    /// Opens a channel with publisher confirms.
    ///
    /// Sends `channel.open` and `confirm.select`. At most 1,024 publishes and 16 MiB may be unconfirmed, and
    /// deadlines are 30 seconds; [`channel_with`](Self::channel_with) takes other limits.
    ///
    /// # Errors
    /// `Limit` if all channels are in use: as many as [`channel_max`](Self::channel_max), 2,047 by RabbitMQ's
    /// default. `Refused` without a code if the broker has no confirms. Both leave the connection open.
    /// `ConnectionClosed` if it is closed or closing; `Timeout`, or `Blocked`, if the broker did not reply
    /// within the deadline; `Stopped` if the arbiter of the connection has ended.
    ///
    /// **Over a reconnect**: the channel is reopened with the same number, in confirm mode. A call made while
    /// the connection is down waits within its deadline.
    ///
    /// Source: AMQP 0-9-1 section 1.5.2.1 (`channel.open`); <https://www.rabbitmq.com/docs/confirms>
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

    /// Opens a channel with options: without confirms, with another window, deadline or number.
    ///
    /// Sends `channel.open`, and `confirm.select` unless confirms are off.
    ///
    /// # Errors
    /// Those of [`channel`](Self::channel); `Limit` also for a number that is 0, in use, or above
    /// [`channel_max`](Self::channel_max).
    ///
    /// **Over a reconnect**: the channel is reopened with these options. Unconfirmed publishes are resent,
    /// unless [`OpenChannel::on_outage`] is set to fail: then they fail with `ConnectionClosed`, and may have
    /// arrived.
    ///
    /// Source: AMQP 0-9-1 section 1.5.2.1 (`channel.open`)
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
        let message_ids = facade::has_message_ids(&options);
        let opened = self.inner.supervisor.send(options).await??;
        Ok(Channel::new(self.clone(), opened, message_ids))
    }

    /// Sends the broker a new password or token for the login of this connection.
    ///
    /// Sends `connection.update-secret`, a RabbitMQ extension for OAuth 2. The new secret is also used for
    /// later connects, unless the connection has a
    /// [`CredentialsProvider`](crate::options::CredentialsProvider), which is called at each connect.
    /// Dropping the future does not withdraw the secret.
    ///
    /// # Errors
    /// `Timeout` after 30 seconds, or `Blocked` while the broker blocks the connection; [`UpdateSecret`] sets
    /// another deadline, see [`update_secret_with`](Self::update_secret_with). `ConnectionClosed` with 530 if
    /// the broker refuses the secret, which closes the connection, and without a code if it is closed
    /// already. `Limit` if the secret does not fit a frame, or 32 of them have no reply yet. `Stopped` if the
    /// arbiter of the connection has ended.
    ///
    /// **Over a reconnect**: the new connection logs in with the secret that the broker accepted last. A call
    /// whose reply was outstanding fails with `ConnectionClosed`.
    ///
    /// Source: <https://www.rabbitmq.com/docs/oauth2>
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

    /// Sends the broker a new password or token, with options.
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

    /// Closes the connection when its outstanding publishes are confirmed and commits and rollbacks have their replies,
    /// or the time limit has passed.
    ///
    /// Sends `connection.close` with 200. The limit is 30 seconds unless
    /// [`Connector::close_timeout`](crate::Connector::close_timeout) is set; it covers the reply of the
    /// broker too, which has 250 milliseconds at least. From then on no channel takes publishes, and no
    /// channel can be opened. Other calls are not awaited: one without a reply fails with `ConnectionClosed`, and may
    /// have taken effect. Closing twice succeeds.
    ///
    /// # Errors
    /// The connection is closed nevertheless.
    /// - `Timeout`: publishes were unconfirmed at the limit, or the broker has not replied within it. `Blocked`,
    ///   with the alarm, if the broker blocked the connection then.
    /// - `ConnectionClosed`: the connection was down, or was lost before everything was written, and publishes
    ///   are abandoned. It has the cause.
    /// - `Stopped`: the arbiter of the connection has ended.
    ///
    /// The text has the number of abandoned publishes; with
    /// [`may_have_arrived`](crate::Error::may_have_arrived), at least one of them was sent.
    ///
    /// **Over a reconnect**: closing ends recovery. Calls and publishes that waited for it fail with
    /// `ConnectionClosed`, which has the cause of the outage.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.9 (`connection.close`)
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
    /// Sends `connection.close`. A text of more than 255 bytes is cut at a character boundary.
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
            Ok(result) => result,
            Err(error) => match self.state() {
                // The arbiter has ended, and the connection with it.
                ConnectionState::Closed(Some(cause)) if facade::is_stopped(&cause) => Err(cause),
                // The actor stops with its connection.
                ConnectionState::Closed(_) => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    /// Waits until the connection is closed.
    ///
    /// # Errors
    /// The cause, if it was not closed by this application: `ConnectionClosed` with the broker's code (320 if
    /// an operator or a shutdown closed it), or without one if heartbeats were missed; `Io` for a socket
    /// error; `Protocol` for a peer that violated the protocol. `Stopped` if its arbiter has ended.
    ///
    /// **Over a reconnect**: it continues to wait. A connection that is being recovered is not closed.
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

    /// Returns whether the connection is closed, or its arbiter has ended.
    ///
    /// **Over a reconnect**: a connection that is being recovered is not closed.
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

    /// Returns a copy of the present state of the connection.
    ///
    /// **Over a reconnect**: it is `Reconnecting` while the connection is down, and `Open` before everything
    /// on it is recovered; see [`health`](Self::health) for that.
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

    /// Returns what the connection has done so far: the counters of all its channels together, closed ones
    /// included, its reconnects, and how long the broker has blocked it.
    ///
    /// It can be called at any time, from any thread, and waits for nothing. The counters of each channel are
    /// those of one moment, but not those of all channels together.
    ///
    /// **Over a reconnect**: the counters continue.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// let counters = connection.counters();
    /// println!("{} publishes, {} confirmed", counters.channels.published, counters.channels.confirmed);
    /// println!("{} reconnects, blocked for {:?}", counters.reconnects, counters.blocked);
    /// # }
    /// ```
    pub fn counters(&self) -> ConnectionCounters {
        self.inner.tally.counters(Instant::now())
    }

    /// Returns how much the open channels hold at this moment, in sum: publishes without a confirm, deliveries that
    /// are not settled. It can be called at any time, also when the connection is closed.
    ///
    /// `drained` is `true` if it is of every channel. Reading it costs a lock for each open channel.
    ///
    /// **Over a reconnect**: unconfirmed publishes still count, earlier deliveries do not.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// let load = connection.load();
    /// println!("{} publishes unconfirmed, {} deliveries unsettled", load.unconfirmed, load.unsettled);
    /// # }
    /// ```
    pub fn load(&self) -> Load {
        self.inner.tally.load()
    }

    /// Returns the name that [`Connector::name`](crate::Connector::name) or the parameter `name` of the URI has set.
    ///
    /// **Over a reconnect**: it stays the same.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run() -> actix_pika::Result<()> {
    /// let connection = actix_pika::connect("amqp://localhost/?name=orders").await?;
    /// assert_eq!(connection.name(), Some("orders"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn name(&self) -> Option<&str> {
        self.inner.tally.name()
    }

    /// Returns the health of the connection: whether it is open, everything that was declared exists, and
    /// publishes are accepted.
    ///
    /// [`ConnectionEvent::Health`](crate::ConnectionEvent::Health) reports every change while the connection
    /// is open, if it is one that is recovered.
    ///
    /// # Errors
    /// `Stopped` if the arbiter of the connection has ended.
    ///
    /// **Over a reconnect**: it is `Down` with the cause, then `Degraded` during recovery, then `Up`, or
    /// `Degraded` as long as something that was declared is missing.
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

    /// Returns what was declared, opened or consumed on this connection and is not in place, with the cause and
    /// the time of the next try.
    ///
    /// Each entity is tried again by a back-off of its own: after 50 milliseconds, then after pauses that
    /// double up to 5 seconds, without end or until the limits of the
    /// [`Recovery`](crate::options::Recovery) are reached. [`health`](Self::health) is `Degraded` as long as
    /// something is missing. What was declared passively is awaited, and never made.
    ///
    /// # Errors
    /// `Stopped` if the arbiter of the connection has ended.
    ///
    /// **Over a reconnect**: what was missing is tried by the recovery, and stays listed until it is in place.
    /// While the connection is down nothing can be tried.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// for one in connection.missing().await? {
    ///     println!("{} {:?}, next try {:?}: {}", one.kind, one.name, one.next_try, one.error);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn missing(&self) -> Result<Vec<MissingEntity>> {
        Ok(self.inner.supervisor.send(GetMissing).await?)
    }

    /// Gives up what is wanted on this connection, without deleting it at the broker. Returns whether it was
    /// wanted.
    ///
    /// What was declared or consumed stays wanted, so that a queue that an operator deletes is declared
    /// again. After this it is not. An exchange or queue is given up with its bindings; a queue with its
    /// consumers, which end with [`ConsumerEnd::Forgotten`](crate::ConsumerEnd::Forgotten). A consumer that
    /// is running is cancelled (`basic.cancel`). Nothing else is sent. Kind and name are those of
    /// [`missing`](Self::missing): of a binding, `source -> destination (routing key)`; of a consumer, its
    /// tag, on every channel of the connection.
    ///
    /// # Errors
    /// `Stopped` if the arbiter of the connection has ended.
    ///
    /// **Over a reconnect**: it is not redeclared.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// use actix_pika::events::EntityKind;
    ///
    /// let was_wanted = connection.forget(EntityKind::Queue, "legacy").await?;
    /// assert!(was_wanted);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn forget(&self, kind: EntityKind, name: &str) -> Result<bool> {
        Ok(self.inner.supervisor.send(Forget::new(kind, name)).await?)
    }

    /// Waits until the connection is open and its recovery is complete. If it is, this returns at once.
    ///
    /// There is no limit: it waits as long as [`Recovery`](crate::Recovery) does. See
    /// [`ready_within`](Self::ready_within). What is missing then, and an alarm of the broker, do not keep it
    /// waiting: channels are usable, and [`health`](Self::health) reports both.
    ///
    /// # Errors
    /// `ConnectionClosed`, at once, with the cause, if the connection is closed, or being closed, and is not
    /// recovered. `Stopped` if its arbiter has ended.
    ///
    /// **Over a reconnect**: it returns after [`ConnectionEvent::Recovered`](crate::ConnectionEvent::Recovered)
    /// is sent. The connection may be lost again at any time.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// connection.ready().await?;
    /// assert!(!connection.is_closed());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn ready(&self) -> Result<()> {
        self.inner.supervisor.send(AwaitReady::new()).await?
    }

    /// Waits until the connection is open and its recovery is complete, for `limit` at most.
    ///
    /// # Errors
    /// Those of [`ready`](Self::ready), and `Timeout` after `limit`. It names the cause of the outage, which is
    /// its source.
    ///
    /// **Over a reconnect**: as for [`ready`](Self::ready).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> u16 {
    /// use std::time::Duration;
    ///
    /// match connection.ready_within(Duration::from_secs(2)).await {
    ///     Ok(()) => 200,
    ///     Err(error) => {
    ///         eprintln!("not ready: {error}");
    ///         503
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn ready_within(&self, limit: Duration) -> Result<()> {
        self.inner.supervisor.send(AwaitReady::new().within(limit)).await?
    }

    /// Returns the highest channel number that both sides agreed on; `None` unless the connection is open.
    ///
    /// **Over a reconnect**: it is negotiated again, and another node may allow less.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.5 (`connection.tune`)
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

    /// Returns the largest frame in bytes that both sides agreed on; `None` unless the connection is open.
    ///
    /// Larger bodies are sent in several frames. Headers and arguments must fit one frame.
    ///
    /// **Over a reconnect**: it is negotiated again, and another node may allow less.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.5 (`connection.tune`)
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

    /// Returns the heartbeat interval that both sides agreed on, zero for none; `None` unless the connection
    /// is open.
    ///
    /// **Over a reconnect**: it is negotiated again.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.5 (`connection.tune`); <https://www.rabbitmq.com/docs/heartbeats>
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

    /// Returns the broker's properties: product, version, capabilities; `None` unless the connection is open.
    ///
    /// **Over a reconnect**: they are those of the node to which it is connected then.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.1 (`connection.start`)
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

    /// Returns what the broker does that depends on its version; `None` unless the connection is open, and
    /// the broker is a RabbitMQ.
    ///
    /// **Over a reconnect**: it is that of the node to which it is connected then.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.1 (`connection.start`)
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// if let Some(rules) = connection.rules() {
    ///     println!("RabbitMQ {:?}: bodies of up to {} bytes", rules.version, rules.largest_body);
    /// }
    /// # }
    /// ```
    pub fn rules(&self) -> Option<BrokerRules> {
        self.opened(Opened::rules).flatten()
    }

    /// Returns the local address of the socket; `None` unless the connection is open.
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

    /// Returns the broker's address; `None` unless the connection is open.
    ///
    /// **Over a reconnect**: it is that of the new socket, which may belong to another node.
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

    /// Returns whether the broker blocks the connection (`connection.blocked`), because it is short of memory
    /// or disk.
    ///
    /// Publishes wait in the window meanwhile. RabbitMQ reads nothing from a connection that it has blocked,
    /// so calls, acknowledgements and closing wait, too. What reaches its deadline fails with kind `Blocked`.
    ///
    /// **Over a reconnect**: a new connection is not blocked until the broker blocks it.
    ///
    /// Source: <https://www.rabbitmq.com/docs/connection-blocked>
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

    /// Returns the address of the ConnectionSupervisor actor, for applications that send it messages.
    ///
    /// Unlike a handle, an address does not keep the connection open.
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

    /// Returns what is read of it for metrics. It does not keep the connection open.
    #[cfg(feature = "metrics")]
    pub(crate) fn watched(&self) -> (&Arc<facade::ConnectionTally>, &watch::Receiver<ConnectionState>) {
        (&self.inner.tally, &self.inner.state)
    }

    /// Notes that a shutdown of the process has begun.
    pub(crate) fn note_draining(&self) {
        self.inner.is_draining.store(true, Ordering::Relaxed);
    }

    #[cfg(feature = "actix-web")]
    pub(crate) fn is_draining(&self) -> bool {
        self.inner.is_draining.load(Ordering::Relaxed)
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
