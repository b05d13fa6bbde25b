//! What is said to a connection, and what it says.

use std::{sync::Arc, time::Duration};

use actix::{Message, Recipient};
use tokio::sync::mpsc;

use super::{Health, Skipped, closing::closing, state::ConnectionState};
use crate::{
    error::{Error, Result},
    secret::Secret,
};

/// Opens a channel, and answers when it is open.
///
/// Sends `channel.open`, then `confirm.select` unless confirms are off. Limits: 65,535 channels by the
/// protocol, 2,047 by RabbitMQ's default.
///
/// # Errors
/// `Limit` where all numbers are in use, or [the one](Self::number) that was asked for is, which leaves the
/// connection as it is. `Refused` without a code where confirms are asked of a broker that has none.
/// `Timeout`, or `Blocked` while the broker blocks the connection, when the deadline passes;
/// `ConnectionClosed` where the connection is.
///
/// **Over a reconnect**: the channel opens again under its number, with prefetch, consumers and confirms, in
/// that order. One that is asked for while the connection is down opens when it is back, within its deadline.
///
/// Source: AMQP 0-9-1 section 1.5.2.1; <https://www.rabbitmq.com/docs/channels>
///
/// # Examples
/// ```no_run
/// # use std::time::Duration;
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionSupervisor, OpenChannel, Result};
/// # async fn open(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// let options = OpenChannel::new().window(512).deadline(Duration::from_secs(5));
/// let channel = connection.send(options).await??;
/// println!("channel {}", channel.outbox.channel());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct OpenChannel {
    pub(crate) confirms: bool,
    pub(crate) window: usize,
    pub(crate) window_bytes: usize,
    pub(crate) deadline: Duration,
    pub(crate) number: Option<u16>,
    pub(crate) message_ids: bool,
    pub(crate) on_outage: OnOutage,
}

/// Says what becomes of publishes while a connection that recovers is lost: see [`OpenChannel::on_outage`].
///
/// # Examples
/// ```
/// use actix_pika_actors::{OnOutage, OpenChannel};
///
/// assert_eq!(OnOutage::default(), OnOutage::Keep);
/// let impatient = OpenChannel::new().on_outage(OnOutage::Fail);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOutage {
    /// They are kept, within the publish window, and sent when the connection is back: unconfirmed ones again, in the
    /// old order, then new ones. Each one's deadline goes on.
    #[default]
    Keep,
    /// They fail at once with `ConnectionClosed`, and so do new ones until the channel is open again. What was under way
    /// [may have arrived](crate::Error::may_have_arrived).
    Fail,
}

impl OpenChannel {
    /// Asks for confirms, a window of 1,024 publishes and 16 MiB, and deadlines of 30 seconds.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::OpenChannel;
    /// let options = OpenChannel::new();
    /// ```
    pub fn new() -> Self {
        Self {
            confirms: true,
            window: 1024,
            window_bytes: 16 << 20,
            deadline: Duration::from_secs(30),
            number: None,
            message_ids: false,
            on_outage: OnOutage::Keep,
        }
    }

    /// Turns publisher confirms on or off.
    ///
    /// On by default. Without them a publish is answered as soon as it is queued, and a channel can have
    /// transactions.
    ///
    /// Source: <https://www.rabbitmq.com/docs/confirms#publisher-confirms>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::OpenChannel;
    /// let unconfirmed = OpenChannel::new().confirms(false);
    /// ```
    pub fn confirms(mut self, confirms: bool) -> Self {
        self.confirms = confirms;
        self
    }

    /// Sets how many publishes may be under way before callers wait; at least 1.
    ///
    /// 1,024 unless set. Who waits longer than the deadline gets `Timeout`, or `Blocked`; nothing was sent
    /// then.
    ///
    /// **Over a reconnect**: what waits to be sent again counts.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::OpenChannel;
    /// let options = OpenChannel::new().window(64);
    /// ```
    pub fn window(mut self, messages: usize) -> Self {
        self.window = messages.max(1);
        self
    }

    /// Sets how many bytes of publishes may be under way before callers wait; a larger publish goes alone.
    ///
    /// 16 MiB unless set. A message counts with its body, its names and a little more.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::OpenChannel;
    /// let options = OpenChannel::new().window_bytes(1 << 20);
    /// ```
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Sets how long each publish and each call may take.
    ///
    /// 30 seconds unless set; noticed up to a sixteenth of it, or one second, later.
    ///
    /// **Over a reconnect**: it runs on while the connection is down.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::OpenChannel;
    /// let options = OpenChannel::new().deadline(Duration::from_secs(5));
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets what becomes of publishes while the connection is lost: kept unless set.
    ///
    /// Calls wait for the connection either way, and deliveries are not concerned. Has no meaning on a connection that
    /// does not recover.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{OnOutage, OpenChannel};
    /// // A price of ten seconds ago is of no use to anybody.
    /// let prices = OpenChannel::new().on_outage(OnOutage::Fail);
    /// ```
    pub fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.on_outage = on_outage;
        self
    }

    /// Asks for this channel number instead of the next free one.
    ///
    /// From 1 to what was agreed on; one that is in use or out of bounds is `Limit`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::OpenChannel;
    /// let options = OpenChannel::new().number(11);
    /// ```
    pub fn number(mut self, number: u16) -> Self {
        self.number = Some(number);
        self
    }
}

impl Default for OpenChannel {
    fn default() -> Self {
        Self::new()
    }
}

closing! {
    /// Closes the connection: publishing ends, confirms under way are awaited, then everything is closed.
    ///
    /// Sends `connection.close`. Answered when the broker has answered, or when it cannot any more, after
    /// `close_timeout` (30 seconds unless set) at the latest. Closing twice is fine.
    ///
    /// # Errors
    /// `Timeout`, or `Blocked` while the broker blocks the connection, where publishes were not confirmed and may
    /// have arrived. The connection is closed all the same.
    ///
    /// **Over a reconnect**: a close ends recovery at once.
    ///
    /// Source: AMQP 0-9-1 section 1.4.2.9
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Addr;
    /// # use actix_pika_actors::{CloseConnection, ConnectionSupervisor, Result};
    /// # async fn close(connection: Addr<ConnectionSupervisor>) -> Result<()> {
    /// connection.send(CloseConnection::new()).await??;
    /// # Ok(()) }
    /// ```
    CloseConnection
}

/// Gives the broker a new password or token for the login (`connection.update-secret`, a RabbitMQ extension).
///
/// Answered when the broker has taken it; from then on it is also used for later connects, unless a
/// [`CredentialsProvider`](crate::CredentialsProvider) is asked at each of them.
///
/// # Errors
/// `Timeout`, or `Blocked` while the broker blocks the connection, when the deadline passes: the broker may take the
/// secret all the same. `ConnectionClosed` with the reason when the broker refuses it, which closes the connection
/// (530). `Limit` when the secret does not fit a frame.
///
/// **Over a reconnect**: the new secret is used; a call that was not answered is `ConnectionClosed`.
///
/// Source: <https://www.rabbitmq.com/docs/oauth2#token-expiration>
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use actix_pika_actors::UpdateSecret;
///
/// let update = UpdateSecret::new("a new token", "rotation").deadline(Duration::from_secs(5));
/// assert!(!format!("{update:?}").contains("token"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct UpdateSecret {
    pub(crate) secret: Secret,
    pub(crate) reason: String,
    pub(crate) deadline: Duration,
}

impl UpdateSecret {
    /// Takes the secret, and a reason for the broker's log, which is cut to 255 bytes; the deadline is 30 seconds.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::UpdateSecret;
    /// let update = UpdateSecret::new("a new token", "rotation");
    /// ```
    pub fn new(secret: impl Into<Secret>, reason: impl Into<String>) -> Self {
        Self { secret: secret.into(), reason: reason.into(), deadline: Duration::from_secs(30) }
    }

    /// Sets how long the broker may take to answer.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::UpdateSecret;
    /// let update = UpdateSecret::new("a new token", "rotation").deadline(Duration::from_secs(5));
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

impl Message for UpdateSecret {
    type Result = Result<()>;
}

/// Asks a connection how it stands.
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{ConnectionState, ConnectionSupervisor, GetState, Result};
/// # async fn ask(connection: Addr<ConnectionSupervisor>) -> Result<()> {
/// if let ConnectionState::Open(opened) = connection.send(GetState).await? {
///     println!("heartbeat every {:?}", opened.heartbeat());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct GetState;

impl Message for GetState {
    type Result = ConnectionState;
}

/// Asks a connection how well it does.
///
/// **Over a reconnect**: it is `Down` with the cause, then `Degraded` while everything is restored, then `Up`, or
/// `Degraded` for as long as something that was declared is missing.
///
/// # Examples
/// ```
/// # use actix::prelude::*;
/// # async fn example(supervisor: Addr<actix_pika_actors::ConnectionSupervisor>) -> Result<(), MailboxError> {
/// use actix_pika_actors::GetHealth;
///
/// let well = supervisor.send(GetHealth).await?.is_up();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct GetHealth;

impl Message for GetHealth {
    type Result = Health;
}

/// Sends every [`ConnectionEvent`] from now on to a recipient; one that is closed already says so at once.
///
/// Events are letters, which are never lost while the recipient lives; one that is gone is forgotten.
///
/// **Over a reconnect**: who watches goes on watching.
///
/// # Examples
/// ```no_run
/// # use actix::{Addr, Recipient};
/// # use actix_pika_actors::{ConnectionEvent, ConnectionSupervisor, Result, WatchConnection};
/// # async fn watch(connection: Addr<ConnectionSupervisor>, to: Recipient<ConnectionEvent>) -> Result<()> {
/// connection.send(WatchConnection(to)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct WatchConnection(pub Recipient<ConnectionEvent>);

impl Message for WatchConnection {
    type Result = ();
}

/// Puts every [`ConnectionEvent`] from now on into a channel; what finds it full is lost.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct FollowConnection(pub mpsc::Sender<ConnectionEvent>);

impl Message for FollowConnection {
    type Result = ();
}

/// Tells the supervisor that the last handle is gone: it closes the connection when its last channel is gone, too.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ReleaseConnection;

impl Message for ReleaseConnection {
    type Result = ();
}

/// Tells what happens to a connection.
///
/// **Over a reconnect**: `Lost`, then `Retrying` before each try, then `Connected`, and `Restored` when everything is
/// as before. A connection that is lost while it is restored begins anew with `Lost`. `Blocked` ends with `Lost`, and
/// the next connection tells of it anew.
///
/// Source: <https://www.rabbitmq.com/docs/connections#recovery>, <https://www.rabbitmq.com/docs/connection-blocked>
///
/// # Examples
/// ```
/// # use actix_pika_actors::ConnectionEvent;
/// fn log(event: &ConnectionEvent) {
///     match event {
///         ConnectionEvent::Blocked(reason) => eprintln!("no publishes: {reason}"),
///         ConnectionEvent::Lost(error) => eprintln!("lost, and on the way back: {error}"),
///         ConnectionEvent::Recovered { skipped, .. } => eprintln!("restored, but for {skipped:?}"),
///         ConnectionEvent::Closed(Some(error)) => eprintln!("over: {error}"),
///         other => eprintln!("{other:?}"),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The handshake is done: of the first connection, or of one that takes the place of one that was lost.
    Connected,
    /// The connection is lost, and another one will be tried.
    Lost(Error),
    /// The next try comes after a delay; an attempt counts from 1.
    Retrying {
        /// Which try since a connection that lasted for a heartbeat interval.
        attempt: u32,
        /// How long until it begins.
        delay: Duration,
        /// Why there is no connection.
        error: Error,
    },
    /// Everything is as before: topology, channels and consumers, but for what is named. Publishes that were kept are
    /// on their way.
    Recovered {
        /// Which connection it is, counting tries from 1.
        epoch: u64,
        /// What could not be restored. Some of it may come later: [`Health`] tells.
        skipped: Arc<[Skipped]>,
    },
    /// The connection, which recovers, is there, and its health is another one now; [`Lost`](Self::Lost) and
    /// [`Closed`](Self::Closed) tell of its end.
    Health(Health),
    /// The broker does not accept publishes for now, for the reason given.
    Blocked(String),
    /// The broker accepts publishes again.
    Unblocked,
    /// The broker has taken a new password or token (`connection.update-secret-ok`).
    SecretUpdated,
    /// New credentials could not be had, or not be passed on, before the present ones expire; it is tried again.
    RefreshFailed(Error),
    /// It is over, or never came about: closed by the user (`None`), lost, or refused. Nothing follows.
    Closed(Option<Error>),
}

impl Message for ConnectionEvent {
    type Result = ();
}
