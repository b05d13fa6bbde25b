//! The events of a channel, and how to watch them.

use std::sync::Arc;

use actix::{Message, Recipient};

use super::{ConsumerEnd, EventSender, SkippedDelivery};
use crate::{error::Error, returned::Return};

/// Reports a change of a channel.
///
/// **Over a reconnect**: `QueueRenamed` for each queue with a name that the broker chose, then `Reopened`.
/// A consumer that could not be started again at once is tried again until it is given up: `ConsumerRecovered`
/// follows.
/// `Closed` is sent once, as the last event.
///
/// Source: <https://www.rabbitmq.com/docs/channels>; <https://www.rabbitmq.com/docs/consumer-cancel>
///
/// # Examples
/// ```
/// # use actix_pika_actors::ChannelEvent;
/// fn print(event: &ChannelEvent) {
///     match event {
///         ChannelEvent::Returned(returned) => eprintln!("unroutable: {}", returned.routing_key),
///         ChannelEvent::ConsumerLost { tag, end } => eprintln!("{tag} ended: {end:?}"),
///         ChannelEvent::Reopened(cause) => eprintln!("reopened after: {cause}"),
///         ChannelEvent::Closed(Some(error)) => eprintln!("closed: {error}"),
///         _ => {}
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// The broker returned a publish (`basic.return`) of a channel without confirms, or one whose `Confirm`
    /// was dropped.
    Returned(Return),
    /// A consumer has ended, but neither because the application cancelled it, nor because the channel is
    /// [`Closed`](Self::Closed). A refusal of the broker ends only a consumer that does not recover.
    ConsumerLost {
        /// Tag of the consumer.
        tag: Arc<str>,
        /// Why it has ended.
        end: ConsumerEnd,
    },
    /// A delivery was not read, because its body is over a limit. It is settled as
    /// [`Consume::oversized`](crate::Consume::oversized) has it.
    DeliverySkipped(SkippedDelivery),
    /// The unsettled deliveries of the connection had more bytes than
    /// [`prefetch_bytes`](crate::ConnectionOptions::prefetch_bytes). What the application had not begun of this
    /// consumer returned to its queue, and the consumer starts again with a smaller prefetch. It has its
    /// own prefetch again when it starts for another reason (a reconnect) and this event has not come for ten minutes,
    /// or when the application cancels it and consumes again.
    PrefetchReduced {
        /// Tag of the consumer.
        tag: Arc<str>,
        /// The prefetch before; 0 if it had none, and would have paused reading while a confirm or a reply was
        /// awaited.
        from: u16,
        /// The prefetch from now on.
        to: u16,
    },
    /// A consumer is running again after the broker cancelled it, or refused it during recovery.
    ConsumerRecovered {
        /// Tag of the consumer.
        tag: Arc<str>,
    },
    /// The channel is open again, with its prefetch and its consumers. The cause is that of the lost
    /// connection, or of the broker's close of the channel. Deliveries from before can no longer be settled.
    Reopened(Error),
    /// A queue with a name that the broker chose was redeclared, and has a new name. Handles use the new
    /// name; calls on this channel that use one of the last eight names are sent with the new one.
    QueueRenamed {
        /// Previous name.
        old: String,
        /// New name.
        new: String,
    },
    /// The broker requests to stop publishing (`false`) or to resume it (`channel.flow`). RabbitMQ never
    /// sends it.
    Flow(bool),
    /// The watcher is too slow: so many events were dropped before the next one.
    EventsDropped(u64),
    /// The channel is closed: by the application (`None`), or for this cause. No event follows.
    Closed(Option<Error>),
}

impl Message for ChannelEvent {
    type Result = ();
}

/// Sends every later [`ChannelEvent`] to a recipient. Registering a recipient twice has no effect.
///
/// A closed channel sends `Closed` immediately.
///
/// Events are actor messages. At most 256 of them, with at most 16 MiB of bodies, wait for a recipient; what
/// comes when there is no room is dropped, and told as [`EventsDropped`](ChannelEvent::EventsDropped). A stopped
/// recipient is removed.
///
/// **Over a reconnect**: the recipient stays registered.
///
/// # Examples
/// ```no_run
/// # use actix::{Addr, Recipient};
/// # use actix_pika_actors::{Channel, ChannelEvent, Result, WatchChannel};
/// # async fn watch(channel: Addr<Channel>, watcher: Recipient<ChannelEvent>) -> Result<()> {
/// channel.send(WatchChannel(watcher)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct WatchChannel(pub Recipient<ChannelEvent>);

impl Message for WatchChannel {
    type Result = ();
}

/// Sends every later [`ChannelEvent`] to the bounded queue of a stream.
#[derive(Clone, Debug)]
pub struct FollowChannel(pub EventSender<ChannelEvent>);

impl Message for FollowChannel {
    type Result = ();
}
