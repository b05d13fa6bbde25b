//! The handles of a bridge and of its subscriptions.

use std::{
    fmt,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use actix::Recipient;
use actix_pika_actors::facade;
use futures_core::Stream;
use futures_util::future::{BoxFuture, Either, select};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{BridgeEvent, Subscribe, inbox::Inbox, pump, registry::Registry};
use crate::{ConsumerEnd, Result, runtime, shutdown::Drain, tasks::DrainReport};

/// One consumer of an exchange for many local subscribers.
///
/// It stops when its last handle and the last [`Subscription`] or [`BridgeStream`] are dropped. Clones are the same
/// bridge, and can be used from any thread.
///
/// **Over a reconnect**: the bridge goes on, and each subscriber gets [`BridgeEvent::Gap`].
///
/// # Examples
/// See the [module](super).
#[derive(Clone)]
pub struct Bridge(Arc<Handle>);

/// What the handles and subscriptions of a bridge share.
pub(super) struct Handle {
    registry: Arc<Registry>,
    /// Until when it is drained.
    deadline: watch::Sender<Option<Instant>>,
    /// How much waited when the first drain began.
    waiting: OnceLock<usize>,
    drained: OnceLock<DrainReport>,
}

/// Counts of a [`Bridge`].
///
/// # Examples
/// ```no_run
/// # fn print(bridge: actix_pika::bridge::Bridge) {
/// let stats = bridge.stats();
/// println!("{} subscribers, {} messages were lost", stats.subscribers, stats.lost);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeStats {
    /// Subscribers at present.
    pub subscribers: usize,
    /// Different bindings that they need.
    pub bindings: usize,
    /// Messages that the bridge has received.
    pub received: u64,
    /// Messages that subscribers have lost because they were too slow, those of each counted.
    pub lost: u64,
}

impl Handle {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            deadline: watch::Sender::new(None),
            waiting: OnceLock::new(),
            drained: OnceLock::new(),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.registry.stopping.send_replace(true);
    }
}

impl Bridge {
    pub(super) fn new(handle: Handle) -> Self {
        Self(Arc::new(handle))
    }

    /// Sends the messages that match a pattern to an actor, on any arbiter. At most `max` wait for it, and 16 in its
    /// mailbox; then the oldest is lost, and the actor is told ([`Lagged`](BridgeEvent::Lagged)).
    ///
    /// When it returns, the queue is bound: what is published from now on arrives, after what matches and is under way. The actor gets the next events when
    /// it has handled the last ones, which includes the future of a handler that returns one. When it stops, it is
    /// unsubscribed. An actor that subscribes twice gets a message that matches both patterns twice.
    ///
    /// # Errors
    /// `Limit` for a pattern over 255 bytes. `Stopped` if the bridge has ended. `Refused` with 403 without permission to
    /// bind, 404 if the exchange is gone: neither disturbs other subscribers. Those of every call on a
    /// [`Channel`](crate::Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: the subscription stays; see [`BridgeEvent::Gap`].
    ///
    /// # Examples
    /// An actor that subscribes itself when it starts, as a web socket does:
    /// ```no_run
    /// use actix::prelude::*;
    /// use actix_pika::bridge::{Bridge, BridgeEvent, Subscription};
    ///
    /// struct Socket {
    ///     bridge: Bridge,
    ///     /// Dropped with the actor, which unsubscribes it.
    ///     orders: Option<Subscription>,
    /// }
    ///
    /// impl Actor for Socket {
    ///     type Context = Context<Self>;
    ///
    ///     fn started(&mut self, ctx: &mut Self::Context) {
    ///         let (bridge, me) = (self.bridge.clone(), ctx.address().recipient());
    ///         let subscribe = async move { bridge.subscribe("orders.*.at", 64, me).await };
    ///         ctx.wait(subscribe.into_actor(self).map(|subscription, socket, ctx| match subscription {
    ///             Ok(subscription) => socket.orders = Some(subscription),
    ///             Err(_) => ctx.stop(),
    ///         }));
    ///     }
    /// }
    ///
    /// impl Handler<BridgeEvent> for Socket {
    ///     type Result = ();
    ///
    ///     fn handle(&mut self, event: BridgeEvent, _: &mut Self::Context) {
    ///         println!("to the browser: {event:?}");
    ///     }
    /// }
    /// ```
    pub async fn subscribe(
        &self,
        pattern: &str,
        max: usize,
        to: impl Into<Recipient<BridgeEvent>>,
    ) -> Result<Subscription> {
        self.subscribe_with(Subscribe::new(pattern, max), to).await
    }

    /// Sends the messages that match a pattern to an actor, with options.
    ///
    /// # Errors
    /// Those of [`subscribe`](Self::subscribe).
    ///
    /// **Over a reconnect**: as for [`subscribe`](Self::subscribe).
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Recipient;
    /// # use actix_pika::bridge::{Bridge, BridgeEvent, Lagging, Subscribe};
    /// # async fn run(bridge: Bridge, audit: Recipient<BridgeEvent>) -> actix_pika::Result<()> {
    /// let strict = Subscribe::new("orders.#", 1024).lagging(Lagging::Disconnect);
    /// let subscription = bridge.subscribe_with(strict, audit).await?;
    /// # Ok(()) }
    /// ```
    pub async fn subscribe_with(
        &self,
        subscribe: Subscribe,
        to: impl Into<Recipient<BridgeEvent>>,
    ) -> Result<Subscription> {
        let to = to.into();
        let subscription = self.add(&subscribe, Some(to.clone())).await?;
        let (registry, id, inbox) = (self.0.registry.clone(), subscription.id, subscription.inbox.clone());
        runtime::spawn(pump::forward(registry, id, inbox, to))?;
        Ok(subscription)
    }

    /// Returns the messages that match a pattern as a stream. At most `max` wait; then the oldest is lost, and the stream
    /// tells that ([`Lagged`](BridgeEvent::Lagged)).
    ///
    /// When it returns, the queue is bound. Dropping the stream unsubscribes.
    ///
    /// # Errors
    /// Those of [`subscribe`](Self::subscribe).
    ///
    /// **Over a reconnect**: as for [`subscribe`](Self::subscribe).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(bridge: actix_pika::bridge::Bridge) -> actix_pika::Result<()> {
    /// use actix_pika::bridge::BridgeEvent;
    /// use futures_util::StreamExt;
    ///
    /// let mut orders = bridge.stream("orders.#", 64).await?;
    /// while let Some(event) = orders.next().await {
    ///     if let BridgeEvent::Message(order) = event {
    ///         println!("{}", order.routing_key());
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn stream(&self, pattern: &str, max: usize) -> Result<BridgeStream> {
        self.stream_with(Subscribe::new(pattern, max)).await
    }

    /// Returns the messages that match a pattern as a stream, with options.
    ///
    /// # Errors
    /// Those of [`subscribe`](Self::subscribe).
    ///
    /// **Over a reconnect**: as for [`subscribe`](Self::subscribe).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(bridge: actix_pika::bridge::Bridge) -> actix_pika::Result<()> {
    /// use actix_pika::bridge::{Lagging, Subscribe};
    ///
    /// let first = bridge.stream_with(Subscribe::new("orders.#", 64).lagging(Lagging::DropNewest)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn stream_with(&self, subscribe: Subscribe) -> Result<BridgeStream> {
        Ok(BridgeStream(self.add(&subscribe, None).await?))
    }

    async fn add(
        &self,
        subscribe: &Subscribe,
        actor: Option<Recipient<BridgeEvent>>,
    ) -> Result<Subscription> {
        let (bound, is_bound) = oneshot::channel();
        let (id, inbox) = self.0.registry.add(subscribe, actor, bound)?;
        // Made before the wait, so that dropping the call unsubscribes.
        let subscription = Subscription { handle: self.0.clone(), id, inbox };
        is_bound.await.map_err(|_| facade::stopped("the bridge has ended"))??;
        Ok(subscription)
    }

    /// Stops the bridge: nothing more is consumed. Subscribers still get what waits for them, and then
    /// [`Ended`](BridgeEvent::Ended).
    ///
    /// Stopping twice is no error.
    ///
    /// **Over a reconnect**: a bridge that was stopped does not start again.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(bridge: actix_pika::bridge::Bridge) {
    /// bridge.stop();
    /// println!("{:?}", bridge.ended().await);
    /// # }
    /// ```
    pub fn stop(&self) {
        self.0.registry.stopping.send_replace(true);
    }

    /// Stops the bridge, and waits up to `limit` until its subscribers have taken what waits for them.
    ///
    /// In the report, `finished` counts messages that were taken or handled meanwhile, `abandoned` those that were not,
    /// each for each of its subscribers. Draining again returns the same report; the earliest limit counts.
    ///
    /// **Over a reconnect**: a bridge that was drained does not start again.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(bridge: actix_pika::bridge::Bridge) {
    /// let report = bridge.drain(std::time::Duration::from_secs(5)).await;
    /// println!("{} messages were not read", report.abandoned);
    /// # }
    /// ```
    pub async fn drain(&self, limit: Duration) -> DrainReport {
        let Handle { registry, deadline, waiting, drained } = &*self.0;
        let waiting = *waiting.get_or_init(|| registry.unhandled());
        self.stop();
        // Caps `limit`, so that the deadline cannot overflow.
        let until = Instant::now() + limit.min(Duration::from_secs(10 * 365 * 86_400));
        deadline
            .send_modify(|earliest| *earliest = Some(earliest.map_or(until, |earliest| earliest.min(until))));
        let all_taken = async {
            self.ended().await;
            let mut count = registry.count.subscribe();
            let _ = count.wait_for(|subscribers| *subscribers == 0).await;
        };
        let too_late = async {
            let mut deadline = deadline.subscribe();
            loop {
                let until = deadline.borrow_and_update().unwrap_or(until);
                let earlier = deadline.changed();
                if let Either::Left(_) = select(pin!(tokio::time::sleep_until(until)), pin!(earlier)).await {
                    return;
                }
            }
        };
        let abandoned = match select(pin!(all_taken), pin!(too_late)).await {
            Either::Left(_) => 0,
            Either::Right(_) if drained.get().is_some() => 0,
            Either::Right(_) => registry.discard(),
        };
        *drained.get_or_init(|| DrainReport::of(waiting.saturating_sub(abandoned), abandoned))
    }

    /// Waits until the bridge has ended, and returns why: `Cancelled` after [`stop`](Self::stop), otherwise why its
    /// consumer has ended; `TargetGone` if its arbiter has.
    ///
    /// **Over a reconnect**: a reconnect does not end it.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(bridge: actix_pika::bridge::Bridge) {
    /// println!("the bridge has ended: {:?}", bridge.ended().await);
    /// # }
    /// ```
    pub async fn ended(&self) -> ConsumerEnd {
        let mut ended = self.0.registry.ended.subscribe();
        ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|end| end.clone())
            .unwrap_or(ConsumerEnd::TargetGone)
    }

    /// Returns why the bridge has ended, or `None` if it has not.
    ///
    /// # Examples
    /// ```no_run
    /// # fn is_running(bridge: actix_pika::bridge::Bridge) -> bool {
    /// bridge.end().is_none()
    /// # }
    /// ```
    pub fn end(&self) -> Option<ConsumerEnd> {
        self.0.registry.ended.borrow().clone()
    }

    /// Returns the counts of the bridge.
    ///
    /// # Examples
    /// ```no_run
    /// # fn print(bridge: actix_pika::bridge::Bridge) {
    /// println!("{:?}", bridge.stats());
    /// # }
    /// ```
    pub fn stats(&self) -> BridgeStats {
        self.0.registry.stats()
    }
}

/// It ends the streams and the subscriptions of HTTP requests as soon as a shutdown begins, so that these can end.
impl Drain for Bridge {
    fn name(&self) -> String {
        format!("bridge of {}", self.0.registry.exchange())
    }

    fn stop(&self) {
        Bridge::stop(self);
    }

    fn drain(&self, limit: Duration) -> BoxFuture<'static, DrainReport> {
        let bridge = self.clone();
        Box::pin(async move { bridge.drain(limit).await })
    }

    fn is_running(&self) -> bool {
        self.end().is_none() && !*self.0.registry.stopping.borrow()
    }
}

/// The subscription of an actor. Dropping it unsubscribes.
///
/// **Over a reconnect**: it stays.
///
/// # Examples
/// See [`Bridge::subscribe`].
#[must_use = "dropping it unsubscribes"]
pub struct Subscription {
    handle: Arc<Handle>,
    id: u64,
    inbox: Arc<Inbox>,
}

impl Subscription {
    /// Returns how many messages this subscriber has lost because it was too slow.
    ///
    /// # Examples
    /// ```no_run
    /// # fn print(subscription: actix_pika::bridge::Subscription) {
    /// println!("{} were lost", subscription.lost());
    /// # }
    /// ```
    pub fn lost(&self) -> u64 {
        self.inbox.lost()
    }

    /// Returns how many messages wait for this subscriber, or are in the mailbox of its actor.
    ///
    /// # Examples
    /// ```no_run
    /// # fn print(subscription: actix_pika::bridge::Subscription) {
    /// println!("{} wait", subscription.waiting());
    /// # }
    /// ```
    pub fn waiting(&self) -> usize {
        self.inbox.unhandled()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.registry.remove(self.id);
        // The task that sends to the actor ends with it.
        self.inbox.end(ConsumerEnd::Cancelled);
        self.inbox.discard();
    }
}

/// The messages of a subscription, as a stream that ends after [`Ended`](BridgeEvent::Ended). Dropping it unsubscribes.
///
/// `next` is cancel-safe.
///
/// **Over a reconnect**: it goes on.
///
/// # Examples
/// See [`Bridge::stream`].
#[must_use = "dropping it unsubscribes"]
pub struct BridgeStream(Subscription);

impl BridgeStream {
    /// Returns how many messages this subscriber has lost because it was too slow.
    ///
    /// # Examples
    /// ```no_run
    /// # fn print(stream: actix_pika::bridge::BridgeStream) {
    /// println!("{} were lost", stream.lost());
    /// # }
    /// ```
    pub fn lost(&self) -> u64 {
        self.0.lost()
    }

    /// Returns how many messages wait.
    ///
    /// # Examples
    /// ```no_run
    /// # fn print(stream: actix_pika::bridge::BridgeStream) {
    /// println!("{} wait", stream.waiting());
    /// # }
    /// ```
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }
}

impl Stream for BridgeStream {
    type Item = BridgeEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<BridgeEvent>> {
        let subscription = &self.0;
        let next = ready!(subscription.inbox.poll_next(cx));
        if matches!(next, Some(BridgeEvent::Ended(_))) {
            subscription.handle.registry.remove(subscription.id);
        }
        Poll::Ready(next)
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bridge").field("stats", &self.stats()).field("end", &self.end()).finish()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("waiting", &self.waiting()).field("lost", &self.lost()).finish()
    }
}

impl fmt::Debug for BridgeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeStream").field("waiting", &self.waiting()).field("lost", &self.lost()).finish()
    }
}
