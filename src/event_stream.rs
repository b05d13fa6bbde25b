//! Events of connections and channels: sent to actors (`watch`), or read as a stream (`events`).

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use actix::Recipient;
use actix_pika_actors::{
    ChannelEvent, ConnectionEvent, WatchChannel, WatchConnection,
    facade::{EventReceiver, FollowChannel, FollowConnection, event_queue},
};
use futures_core::Stream;

use crate::{Channel, Connection};

/// A stream of [`ConnectionEvent`]s or [`ChannelEvent`]s, made by [`Connection::events`] or
/// [`Channel::events`].
///
/// The stream yields `Closed` as its last item and then ends. It buffers 256 events, with 16 MiB of bodies of
/// returned publishes. When the buffer is full, further events are dropped: `EventsDropped` tells how many, and
/// a warning is logged. `Closed` is never dropped.
///
/// **Over a reconnect**: the stream continues.
///
/// # Examples
/// ```no_run
/// # async fn run(connection: actix_pika::Connection) {
/// use actix_pika::{ConnectionEvent, events::Events};
/// use futures_util::StreamExt;
///
/// let events: Events<ConnectionEvent> = connection.events();
/// let all: Vec<ConnectionEvent> = events.collect().await;
/// assert!(matches!(all.last(), Some(ConnectionEvent::Closed(_))));
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Events<E>(EventReceiver<E>);

impl<E> Stream for Events<E> {
    type Item = E;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<E>> {
        self.0.poll_next(cx)
    }
}

impl<E> fmt::Debug for Events<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("buffered", &self.0.waiting()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Sends every [`ConnectionEvent`] from now on to an actor.
    ///
    /// Watching twice with the same recipient changes nothing. A recipient whose actor has stopped is
    /// removed. On a closed connection, the recipient gets `Closed` at once, and nothing else.
    ///
    /// At most 256 events, with at most 16 MiB of bodies of returned publishes, wait for the actor. Those that
    /// come when there is no room are dropped: `EventsDropped` tells how many, and a warning is logged.
    ///
    /// **Over a reconnect**: the recipient stays registered. `Closed` is sent once, as the last event.
    ///
    /// # Examples
    /// ```no_run
    /// use actix::prelude::*;
    /// use actix_pika::ConnectionEvent;
    ///
    /// struct Watcher;
    /// impl Actor for Watcher {
    ///     type Context = Context<Self>;
    /// }
    /// impl Handler<ConnectionEvent> for Watcher {
    ///     type Result = ();
    ///     fn handle(&mut self, event: ConnectionEvent, _: &mut Self::Context) {
    ///         println!("{event:?}");
    ///     }
    /// }
    /// # fn run(connection: actix_pika::Connection) {
    /// connection.watch(Watcher.start().recipient());
    /// # }
    /// ```
    #[doc(alias = "close_callbacks")]
    pub fn watch(&self, to: impl Into<Recipient<ConnectionEvent>>) {
        self.actor().do_send(WatchConnection(to.into()));
    }

    /// Returns a stream of every [`ConnectionEvent`] from now on. It ends after `Closed`.
    ///
    /// The stream buffers 256 events, as [`Events`] describes. On a closed connection, the stream yields `Closed`
    /// and ends.
    ///
    /// **Over a reconnect**: the stream continues, and reports the loss and the recovery.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) {
    /// use actix_pika::ConnectionEvent;
    /// use futures_util::StreamExt;
    ///
    /// let mut events = connection.events();
    /// while let Some(event) = events.next().await {
    ///     if let ConnectionEvent::Blocked(reason) = event {
    ///         println!("the broker accepts no publishes: {reason}");
    ///     }
    /// }
    /// # }
    /// ```
    pub fn events(&self) -> Events<ConnectionEvent> {
        let (to, events) = event_queue();
        self.actor().do_send(FollowConnection(to));
        Events(events)
    }
}

impl Channel {
    /// Sends every [`ChannelEvent`] from now on to an actor: returned publishes, consumers that ended, the
    /// close.
    ///
    /// Watching twice with the same recipient changes nothing. A recipient whose actor has stopped is
    /// removed. On a closed channel, the recipient gets `Closed` at once, and nothing else.
    ///
    /// At most 256 events, with at most 16 MiB of bodies of returned publishes, wait for the actor. Those that
    /// come when there is no room are dropped: `EventsDropped` tells how many, and a warning is logged.
    ///
    /// **Over a reconnect**: the recipient stays registered. `Closed` is sent once, as the last event.
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
    ///             println!("no queue for {:?}", returned.routing_key);
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

    /// Returns a stream of every [`ChannelEvent`] from now on. It ends after `Closed`.
    ///
    /// The stream buffers 256 events, as [`Events`] describes. On a closed channel, the stream yields `Closed`
    /// and ends.
    ///
    /// **Over a reconnect**: the stream continues.
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
    ///         println!("consumer {tag} ended: {end:?}");
    ///     }
    /// }
    /// # }
    /// ```
    pub fn events(&self) -> Events<ChannelEvent> {
        let (to, events) = event_queue();
        self.actor().do_send(FollowChannel(to));
        Events(events)
    }
}
