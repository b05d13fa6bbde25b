//! The output of one channel, shared by its handles, its deliveries, its Channel actor and the connection.
//!
//! Handles append publishes, deliveries are settled, the Channel actor appends methods, and the connection
//! takes bytes when its socket accepts them. All of it is in one plain [`OutboxState`] behind a mutex, so
//! there is one order. While the lock is held, nothing is woken, sent or dropped: see [`Outbox::with`].

mod ack_frames;
mod acks;
mod answers;
mod attachment;
mod barrier;
mod broker_answers;
mod channel_close;
mod confirm;
mod confirms;
mod counters;
mod deadlines;
mod delayed_requeues;
mod effects;
mod epochs;
mod flush;
mod flusher;
mod forbidden;
mod forbidden_place;
mod forbidden_topics;
mod held_back;
mod long_names;
mod missing;
mod nack_retry;
mod outcome_error;
mod own_deadline;
mod publish;
mod publish_all;
mod publish_future;
mod queue;
mod refused_publish;
mod refusing;
mod resend;
mod returns;
mod signals;
mod tally;
#[cfg(test)]
mod tests;
mod transaction;
mod unconfirmed;
mod window;
mod withdrawal;
mod written_publish;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use self::{
    acks::Acks, attachment::Attachment, confirms::Confirms, deadlines::Ticker, effects::DeferredEffects,
    long_names::LongNames, own_deadline::OwnDeadline, publish::over_frame_max, queue::FrameQueue,
    unconfirmed::Unconfirmed, window::Window,
};
pub(crate) use self::{
    acks::{DeliveredTags, NOBODY},
    answers::WaitingAnswers,
    attachment::{Abandoned, FinalFrames, Outage},
    channel_close::{ChannelClose, CloseFault},
    delayed_requeues::RequeueLater,
    forbidden_place::REPLY_TO,
    long_names::WHOLE_IN_TEXTS,
    missing::MissingExchanges,
    refused_publish::PublishRefusal,
    resend::HELD_BACK_FOR,
    signals::{Flush, Tick},
    tally::Note,
    transaction::WITHOUT_REPLY,
};
pub use self::{
    barrier::WaitForConfirmsFuture,
    confirm::Confirm,
    counters::{ChannelCounters, ConnectionCounters},
    publish_all::PublishAllFuture,
    publish_future::{Destination, PublishDeferredFuture, PublishFuture},
    tally::{ConnectionTally, Sample, Standing},
};
use crate::{
    error::{Error, Result},
    message::Publishing,
    transport::IoClock,
};

/// The options of an outbox, from [`OpenChannel`](crate::OpenChannel).
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutboxConfig {
    /// The channel number. It stays the same over reconnects.
    pub(crate) channel: u16,
    /// Whether publishes are confirmed.
    pub(crate) confirms: bool,
    /// The most publishes in flight.
    pub(crate) window: usize,
    /// The most bytes of publishes in flight. A larger publish is sent alone.
    pub(crate) window_bytes: usize,
    /// The deadline of a publish.
    pub(crate) deadline: Duration,
}

impl OutboxConfig {
    /// Returns the interval of ticks, by which a deadline may be noticed late.
    pub(crate) fn tick(&self) -> Duration {
        (self.deadline / 16).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}

/// The output of one channel: keeps bytes until the connection takes them.
///
/// Publishes go into it without passing a mailbox. Applications publish with the handles of the crate
/// `actix-pika` or with the message [`Publish`](crate::Publish).
///
/// # Examples
/// ```no_run
/// # use actix_pika_actors::{OpenedChannel, Publishing, Result};
/// # async fn run(channel: OpenedChannel) -> Result<()> {
/// match channel.outbox.try_publish("", "jobs", &Publishing::new("resize 7.png"))? {
///     Some(confirm) => drop(confirm.await?),
///     None => println!("the publish window is full"),
/// }
/// assert_eq!(channel.outbox.load().unconfirmed, 0);
/// # Ok(())
/// # }
/// ```
pub struct Outbox {
    config: OutboxConfig,
    /// Shared by the channels of a connection.
    missing: Arc<MissingExchanges>,
    tally: Arc<ConnectionTally>,
    state: Mutex<OutboxState>,
}

struct OutboxState {
    attachment: Attachment,
    /// Bumped when the connection is lost and when the channel is closed; deliveries of an earlier epoch are
    /// stale.
    channel_epoch: u32,
    frame_max: usize,
    /// The error for new publishes while the channel drains.
    refusing: Option<Error>,
    /// The broker sent `connection.blocked`, with this reason.
    blocked: Option<Arc<str>>,
    /// Why there is no connection, or why the channel is not open again yet: the last failure.
    unavailable: Option<Error>,
    ticker: Ticker,
    /// What the connection takes next.
    queue: FrameQueue,
    window: Window,
    confirms: Confirms,
    unconfirmed: Unconfirmed,
    acks: Acks,
    /// Publishes on a channel without confirms, which have no sequence number.
    published: u64,
    delivered: u64,
    redelivered: u64,
    long_names: LongNames,
    /// When the connection last ran.
    io_clock: Option<Arc<IoClock>>,
}

/// Counts what is outstanding on a channel, for tests, metrics and an orderly shutdown.
///
/// The numbers are those of one moment. Without confirms, `unconfirmed` is always 0.
///
/// **Over a reconnect**: publishes that wait to be resent are unconfirmed. Deliveries of the lost connection
/// are not counted.
///
/// # Examples
/// ```
/// # use actix_pika_actors::Load;
/// fn is_idle(load: &Load) -> bool {
///     load.unconfirmed == 0 && load.unsettled == 0 && load.waiting == 0
/// }
/// assert!(is_idle(&Load::default()));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// Publishes without a confirm yet.
    pub unconfirmed: usize,
    /// Deliveries that are not settled.
    pub unsettled: usize,
    /// Bytes of the unconfirmed publishes.
    pub bytes: usize,
    /// Callers that wait for room in the publish window.
    pub waiting: usize,
    /// Whether the connection has taken everything that was written.
    pub drained: bool,
}

impl Outbox {
    /// Creates the outbox of a channel that has no connection yet.
    pub(crate) fn new(config: OutboxConfig) -> Self {
        Self::sharing(config, Arc::default(), Arc::default())
    }

    /// Creates the outbox of a channel whose connection shares the missing exchanges, and counts what its
    /// channels do.
    pub(crate) fn sharing(
        config: OutboxConfig,
        missing: Arc<MissingExchanges>,
        tally: Arc<ConnectionTally>,
    ) -> Self {
        let state = OutboxState {
            attachment: Attachment::Detached { outage: None },
            channel_epoch: 0,
            frame_max: crate::wire::FRAME_MIN_SIZE as usize,
            refusing: None,
            blocked: None,
            unavailable: None,
            ticker: Ticker::default(),
            queue: FrameQueue::default(),
            window: Window::new(config.window, config.window_bytes),
            confirms: Confirms::default(),
            unconfirmed: Unconfirmed::default(),
            acks: Acks::default(),
            published: 0,
            delivered: 0,
            redelivered: 0,
            long_names: LongNames::default(),
            io_clock: None,
        };
        Self { config, missing, tally, state: Mutex::new(state) }
    }

    /// Returns the exchanges that are missing; publishes to them fail here.
    pub(crate) fn missing(&self) -> &MissingExchanges {
        &self.missing
    }

    pub(crate) fn config(&self) -> &OutboxConfig {
        &self.config
    }

    /// Returns the channel number. It stays the same over reconnects.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika_actors::OpenedChannel) {
    /// println!("channel {}", channel.outbox.channel());
    /// # }
    /// ```
    pub fn channel(&self) -> u16 {
        self.config.channel
    }

    /// Publishes if the window has room now; `None` if it has not, and nothing is sent.
    ///
    /// Sends `basic.publish`. An empty exchange name is the default exchange.
    ///
    /// # Errors
    /// `ChannelClosed`, `ConnectionClosed` when it is closed; `Limit` for a name or key over 255 bytes, or
    /// headers over the frame size; `Codec` for properties that cannot be encoded.
    ///
    /// **Over a reconnect**: while the connection is down, publishes are taken until the window is full.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika_actors::{OpenedChannel, Publishing, Result};
    /// # fn run(channel: OpenedChannel) -> Result<()> {
    /// let confirm = channel.outbox.try_publish("", "jobs", &Publishing::new("resize 7.png"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_publish(
        self: &Arc<Self>,
        exchange: &str,
        routing_key: &str,
        content: &Publishing,
    ) -> Result<Option<Confirm>> {
        publish_future::check(self, exchange, routing_key, content)?;
        let sequence = self.queue_publish(content.outgoing(exchange, routing_key))?;
        Ok(sequence.map(|sequence| Confirm::new(self.clone(), sequence, OwnDeadline::of(content).start())))
    }

    /// Returns how much it holds at this moment.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika_actors::OpenedChannel) {
    /// println!("{} publishes are not confirmed yet", channel.outbox.load().unconfirmed);
    /// # }
    /// ```
    pub fn load(&self) -> Load {
        let state = self.lock();
        Load {
            unconfirmed: state.confirms.unconfirmed(),
            unsettled: state.acks.outstanding(),
            bytes: state.window.bytes(),
            waiting: state.window.waiting(),
            drained: state.queue.is_empty()
                && state.attachment.queued().is_none_or(FrameQueue::is_empty)
                && !state.acks.is_dirty(),
        }
    }

    /// Returns the error that closed it, or `None` while it is open.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika_actors::OpenedChannel) {
    /// assert!(channel.outbox.closed().is_none());
    /// # }
    /// ```
    pub fn closed(&self) -> Option<Error> {
        self.lock().attachment.closed().cloned()
    }

    // Only a panic of this crate can poison the lock; the state is consistent enough to resolve its waiters.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state under the lock, releases it, then runs the effects of the change.
    ///
    /// A change returns what it removes, so that the caller drops it when the lock is free: a waker, a body
    /// or a recipient may run code of the application when it is dropped.
    #[inline(always)]
    fn with<T>(&self, change: impl FnOnce(&mut OutboxState, &mut DeferredEffects) -> T) -> T {
        let mut effects = DeferredEffects::default();
        let mut state = self.lock();
        let result = change(&mut state, &mut effects);
        drop(state);
        effects.run();
        result
    }

    /// Appends one method frame, behind all content and acks that were written before it. Behind a commit it
    /// waits with them.
    ///
    /// # Errors
    /// The error that closed it; `Limit` for a frame that is larger than the connection allows.
    pub(crate) fn method(&self, frame: Bytes) -> Result<()> {
        self.append_method(frame, FrameQueue::method)
    }

    fn append_method(&self, frame: Bytes, append: impl FnOnce(&mut FrameQueue, Bytes)) -> Result<()> {
        self.with(|state, effects| {
            if let Some(error) = state.attachment.closed() {
                return Err(error.clone());
            }
            if frame.len() > state.frame_max {
                return Err(over_frame_max("the arguments", frame.len(), state.frame_max));
            }
            append(state.acks_appended(self.config.channel), frame);
            state.request_flush(self.config.channel, effects);
            Ok(())
        })
    }

    /// Accepts no more publishes; those that are queued are still sent.
    pub(crate) fn refuse_publishes(&self, error: Error) {
        let _old = self.with(|state, effects| {
            state.window.wake_all(&mut effects.wakers);
            state.refusing.replace(error)
        });
    }

    /// Returns why the broker blocks the connection.
    pub(crate) fn blocked(&self) -> Option<Arc<str>> {
        self.lock().blocked.clone()
    }

    /// Stops admitting publishes (`connection.blocked` with its reason), or continues
    /// (`connection.unblocked`).
    pub(crate) fn set_blocked(&self, reason: Option<Arc<str>>) {
        self.with(|state, effects| {
            state.blocked = reason;
            if state.blocked.is_none() {
                state.window.wake_front(&mut effects.wakers);
            }
        });
    }

    /// There is still no connection: publishes that are late until there is one report this error.
    pub(crate) fn connect_failed(&self, error: Error) {
        let _old = self.with(|state, _| match state.attachment {
            Attachment::Detached { .. } => state.unavailable.replace(error),
            _ => None,
        });
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("config", &self.config).field("load", &self.load()).finish()
    }
}
