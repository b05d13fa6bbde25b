//! What happens to a channel, as a stream.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use actix::Recipient;
use actix_pika_actors::{FollowChannel, WatchChannel};
use futures_core::Stream;
use tokio::sync::mpsc;

use crate::{Channel, ChannelEvent};

/// Follows what happens to a channel, as a stream that ends after `Closed`: see [`Channel::events`].
///
/// **Over a reconnect**: it goes on.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) {
/// use actix_pika::{ChannelEvent, ChannelEvents};
/// use futures_util::StreamExt;
///
/// let events: ChannelEvents = channel.events();
/// let all: Vec<ChannelEvent> = events.collect().await;
/// assert!(matches!(all.last(), Some(ChannelEvent::Closed(_))));
/// # }
/// ```
pub struct ChannelEvents(mpsc::Receiver<ChannelEvent>);

impl Channel {
    /// Sends every event from now on to an actor: publishes that came back, consumers that were lost, the end.
    ///
    /// An actor that watches already is not counted twice. On a channel that is closed already, `Closed` comes at
    /// once.
    ///
    /// **Over a reconnect**: it goes on to be told; `Closed` comes once, at the very end.
    ///
    /// # Examples
    /// ```no_run
    /// use actix::prelude::*;
    /// use actix_pika::ChannelEvent;
    ///
    /// struct Watcher;
    /// impl Actor for Watcher {
    ///     type Context = Context<Self>;
    /// }
    /// impl Handler<ChannelEvent> for Watcher {
    ///     type Result = ();
    ///     fn handle(&mut self, event: ChannelEvent, _: &mut Self::Context) {
    ///         if let ChannelEvent::Returned(returned) = event {
    ///             println!("nobody gets {:?}", returned.routing_key);
    ///         }
    ///     }
    /// }
    /// # fn run(channel: actix_pika::Channel) {
    /// channel.watch(Watcher.start().recipient());
    /// # }
    /// ```
    #[doc(alias = "return_callbacks")]
    pub fn watch(&self, to: impl Into<Recipient<ChannelEvent>>) {
        self.actor().do_send(WatchChannel(to.into()));
    }

    /// Follows every event from now on as a stream, which ends after `Closed`; on a channel that is closed already,
    /// that comes at once.
    ///
    /// 256 events may wait for who reads them; more are lost, with a warning in the log.
    ///
    /// **Over a reconnect**: the stream goes on.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) {
    /// use actix_pika::ChannelEvent;
    /// use futures_util::StreamExt;
    ///
    /// let mut events = channel.events();
    /// while let Some(event) = events.next().await {
    ///     if let ChannelEvent::ConsumerLost { tag, end } = event {
    ///         println!("{tag} gets nothing more: {end:?}");
    ///     }
    /// }
    /// # }
    /// ```
    pub fn events(&self) -> ChannelEvents {
        let (to, events) = mpsc::channel(256);
        self.actor().do_send(FollowChannel(to));
        ChannelEvents(events)
    }
}

impl Stream for ChannelEvents {
    type Item = ChannelEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ChannelEvent>> {
        self.0.poll_recv(cx)
    }
}

impl fmt::Debug for ChannelEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelEvents")
    }
}
