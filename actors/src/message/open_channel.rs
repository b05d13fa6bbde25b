//! Opening a channel, and its options.

use std::time::Duration;

/// Opens a channel. The reply is sent when the channel is open.
///
/// Sends `channel.open`, and `confirm.select` unless confirms are off. The protocol allows 65,535 channels
/// per connection, RabbitMQ 2,047 by default.
///
/// # Errors
/// - `Limit` if all channel numbers are in use, or the [requested one](Self::number) is. The connection stays
///   open.
/// - `Refused` without a code if the broker does not support confirms.
/// - `Timeout` if the deadline passes, or `Blocked` if it passes while the broker blocks the connection.
/// - `ConnectionClosed` if the connection is closed.
///
/// **Over a reconnect**: the channel is reopened under its number, with its prefetch, its consumers and
/// confirms, in that order. A channel that is opened while the connection is down opens after the reconnect,
/// within its deadline.
///
/// Source: AMQP 0-9-1 section 1.5.2.1 (`channel.open`); <https://www.rabbitmq.com/docs/channels>
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

/// Selects what happens to publishes while a connection that recovers is down, or a channel of it waits to be
/// reopened, see [`OpenChannel::on_outage`].
///
/// # Examples
/// ```
/// # use actix_pika_actors::{OnOutage, OpenChannel};
/// assert_eq!(OnOutage::default(), OnOutage::Keep);
/// let options = OpenChannel::new().on_outage(OnOutage::Fail);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOutage {
    /// They are kept, up to the limits of the publish window, and sent after the reconnect: first the
    /// unconfirmed ones are resent in their original order, then new ones are sent. Their deadlines keep
    /// running.
    #[default]
    Keep,
    /// They fail immediately with `ConnectionClosed`, and so do new ones until the channel is open again; with
    /// `ChannelClosed` if only the channel is closed and waits to be reopened. Unconfirmed ones [may have arrived](crate::Error::may_have_arrived).
    Fail,
}

impl OpenChannel {
    /// Creates options with confirms, a publish window of 1,024 publishes and 16 MiB, and a deadline of 30
    /// seconds.
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

    /// Sets whether the channel uses publisher confirms (`confirm.select`); it does unless set.
    ///
    /// Without confirms a publish completes as soon as it is queued, and the channel can use transactions.
    /// When the broker closes the channel because of one publish, those that were written behind it are lost:
    /// without confirms nothing tells which ones, and none is resent.
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

    /// Sets how many publishes may be unconfirmed before callers have to wait; at least 1, 1,024 unless set.
    ///
    /// A caller that waits longer than the deadline gets `Timeout` or `Blocked`, and nothing is sent.
    ///
    /// **Over a reconnect**: publishes that wait to be resent count.
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

    /// Sets how many bytes of publishes may be unconfirmed before callers have to wait; 16 MiB unless set.
    ///
    /// A publish counts with its body, its names and a small overhead. One that is larger than the limit is
    /// sent when no other is unconfirmed.
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

    /// Sets how long each publish and each call may take; 30 seconds unless set.
    ///
    /// A missed deadline is detected up to a sixteenth of it, but at most one second, later.
    ///
    /// **Over a reconnect**: the deadline keeps running while the connection is down.
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

    /// Sets what happens to publishes while the connection is down; they are kept unless set.
    ///
    /// This concerns neither calls, which always wait for the connection, nor deliveries. It has no effect on
    /// a connection that does not recover.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{OnOutage, OpenChannel};
    /// // A price that is sent ten seconds late is wrong.
    /// let options = OpenChannel::new().on_outage(OnOutage::Fail);
    /// ```
    pub fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.on_outage = on_outage;
        self
    }

    /// Sets the channel number, instead of the next free one.
    ///
    /// It ranges from 1 to the negotiated `channel_max`. A number that is in use or out of range fails with
    /// `Limit`.
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
