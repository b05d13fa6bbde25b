//! What happens to a channel, for those who watch it.

use std::sync::Arc;

use actix::{Message, Recipient};
use tokio::sync::mpsc;

use super::ConsumerEnd;
use crate::{error::Error, returned::Return};

/// Tells what happens to a channel.
///
/// **Over a reconnect**: `QueueRenamed` for each queue that the broker had named, then `Reopened`; a consumer that could
/// not go on is told of by `ConsumerLost` or `ConsumerRecovered` afterwards. `Closed` comes once, at the very end.
///
/// Source: <https://www.rabbitmq.com/docs/channels>, <https://www.rabbitmq.com/docs/consumer-cancel>
///
/// # Examples
/// ```
/// # use actix_pika_actors::ChannelEvent;
/// fn log(event: &ChannelEvent) {
///     match event {
///         ChannelEvent::Returned(returned) => eprintln!("came back: {}", returned.routing_key),
///         ChannelEvent::ConsumerLost { tag, end } => eprintln!("{tag} ended: {end:?}"),
///         ChannelEvent::Reopened(cause) => eprintln!("open again: {cause}"),
///         ChannelEvent::Closed(Some(error)) => eprintln!("closed: {error}"),
///         _ => {}
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// A publish came back (`basic.return`) that no confirm tells of: the channel has none, or nobody waits.
    Returned(Return),
    /// A consumer ended, and not because the application cancelled it; [`Closed`](Self::Closed) tells of the others.
    ConsumerLost {
        /// Its tag.
        tag: Arc<str>,
        /// Why it ended.
        end: ConsumerEnd,
    },
    /// A consumer goes on that the broker had cancelled, or refused when the channel was restored.
    ConsumerRecovered {
        /// Its tag.
        tag: Arc<str>,
    },
    /// The channel is open again, with its prefetch and its consumers: the connection had been lost, or the broker had
    /// closed the channel, for the cause given. Deliveries of before cannot be settled any more.
    Reopened(Error),
    /// A queue that the broker had named was declared again, and has another name; handles follow by themselves, and
    /// so does whatever says one of its last eight names on this channel.
    QueueRenamed {
        /// What it was called.
        old: String,
        /// What it is called now.
        new: String,
    },
    /// The broker asks to stop publishing (`false`) or to go on (`channel.flow`). RabbitMQ never does.
    Flow(bool),
    /// It is over: closed by the application (`None`), or for the cause given. Nothing comes after it.
    Closed(Option<Error>),
}

impl Message for ChannelEvent {
    type Result = ();
}

/// Sends every [`ChannelEvent`] from now on to a recipient; one that watches already is not counted twice.
///
/// On a channel that is closed already, `Closed` comes at once.
///
/// Events are letters, which are never lost while the recipient lives; one that is gone is forgotten.
///
/// **Over a reconnect**: who watches goes on watching.
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

/// Puts every [`ChannelEvent`] from now on into a channel; what finds it full is lost.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct FollowChannel(pub mpsc::Sender<ChannelEvent>);

impl Message for FollowChannel {
    type Result = ();
}
