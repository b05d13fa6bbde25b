//! The tasks of a bridge: one consumes and gives messages to subscribers, one binds, and one for each actor sends to it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix::Recipient;
use futures_core::Stream;
use futures_util::future::{join_all, select};
use tokio::time::{Interval, MissedTickBehavior};

use super::{
    BridgeEvent,
    bindings::{Done, Step},
    inbox::Inbox,
    registry::Registry,
};
use crate::{
    Channel, ChannelEvent, ConsumerEnd, Delivery, DeliveryStream, ErrorKind, OpenChannel, Queue, Result,
    events::Events,
    message::{BindQueue, DeleteQueue, Table, UnbindQueue},
};

/// How often actors that have stopped are looked for. One that gets a message is noticed at once.
const SWEEP: Duration = Duration::from_secs(10);
/// How many bindings are asked for at once.
const AT_ONCE: usize = 32;
/// The pause before an unbind that has failed is tried again.
const UNBIND_AGAIN: Duration = Duration::from_secs(1);

/// Consumes, and gives each message to its subscribers.
pub(super) struct Pump {
    pub(super) registry: Arc<Registry>,
    pub(super) channel: Channel,
    pub(super) stream: DeliveryStream,
    pub(super) queue: Queue,
}

enum Happened {
    Delivery(Delivery),
    Event(ChannelEvent),
    StreamEnd,
    Stop,
    Sweep,
}

/// Ends the bridge if its task is dropped, as with its arbiter.
struct EndOnDrop(Arc<Registry>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end(ConsumerEnd::TargetGone);
    }
}

impl Pump {
    pub(super) async fn run(mut self) {
        let ends = EndOnDrop(self.registry.clone());
        let mut events = self.channel.events();
        let mut stopping = self.registry.stopping.subscribe();
        let mut stop = Box::pin(async move { stopping.wait_for(|stop| *stop).await.is_ok() });
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut generation = self.stream.generation();
        let mut matched = Vec::new();
        let end = loop {
            match poll_fn(|cx| self.poll(&mut events, stop.as_mut(), &mut sweep, cx)).await {
                Happened::Delivery(delivery) => {
                    self.gap_after(self.stream.yielded_generation(), &mut generation);
                    let (content, token) = delivery.split();
                    // Stale after a loss of the connection, with which the queue has gone.
                    let _ = token.ack();
                    self.registry.fan_out(content, &mut matched);
                    // Those that are on this thread take it before the next one comes.
                    tokio::task::yield_now().await;
                }
                Happened::Event(ChannelEvent::Reopened(_)) => {
                    self.gap_after(self.stream.generation(), &mut generation);
                }
                Happened::Event(ChannelEvent::ConsumerRecovered { .. }) => self.registry.gap(),
                Happened::Event(_) => {}
                Happened::Sweep => self.registry.sweep(),
                Happened::StreamEnd => {
                    break self.stream.end().cloned().unwrap_or(ConsumerEnd::TargetGone);
                }
                Happened::Stop => break ConsumerEnd::Cancelled,
            }
        };
        self.registry.end(end);
        drop(ends);
        self.close().await;
    }

    /// Tells the subscribers of a gap, once for each generation of the stream.
    fn gap_after(&self, now: u64, generation: &mut u64) {
        if now > *generation {
            *generation = now;
            self.registry.gap();
        }
    }

    fn poll(
        &mut self,
        events: &mut Events<ChannelEvent>,
        stop: Pin<&mut (impl Future<Output = bool> + ?Sized)>,
        sweep: &mut Interval,
        cx: &mut Context<'_>,
    ) -> Poll<Happened> {
        if stop.poll(cx).is_ready() {
            return Poll::Ready(Happened::Stop);
        }
        if let Poll::Ready(Some(event)) = Pin::new(events).poll_next(cx) {
            return Poll::Ready(Happened::Event(event));
        }
        match Pin::new(&mut self.stream).poll_next(cx) {
            Poll::Ready(Some(delivery)) => return Poll::Ready(Happened::Delivery(delivery)),
            Poll::Ready(None) => return Poll::Ready(Happened::StreamEnd),
            Poll::Pending => {}
        }
        sweep.poll_tick(cx).map(|_| Happened::Sweep)
    }

    /// Deletes the queue, with its bindings, and closes the channel. After a loss of the connection both are gone.
    async fn close(self) {
        let _ = self.stream.close().await;
        if !self.channel.is_closed() {
            let _ = self.channel.delete_queue(DeleteQueue::new(self.queue.name())).await;
            let _ = self.channel.close().await;
        }
    }
}

/// Keeps the bindings at the broker as the subscribers want them, on a channel of its own, which a refusal closes.
pub(super) struct Binder {
    pub(super) registry: Arc<Registry>,
    pub(super) channel: Channel,
    pub(super) queue: Queue,
    pub(super) exchange: Box<str>,
    pub(super) arguments: Table,
}

impl Binder {
    pub(super) async fn run(mut self) {
        let mut ended = self.registry.ended.subscribe();
        loop {
            let steps: Vec<Step> = self
                .registry
                .with_bindings(|bindings| std::iter::from_fn(|| bindings.next()).take(AT_ONCE).collect());
            let again = self.take(steps).await;
            let wait = async {
                match again {
                    Outcome::Again => tokio::time::sleep(UNBIND_AGAIN).await,
                    Outcome::More => {}
                    Outcome::Idle => self.registry.changed.notified().await,
                }
            };
            select(pin!(wait), pin!(ended.wait_for(Option::is_some))).await;
            if ended.borrow().is_some() {
                break;
            }
        }
        if !self.channel.is_closed() {
            let _ = self.channel.close().await;
        }
    }

    async fn take(&mut self, steps: Vec<Step>) -> Outcome {
        if steps.is_empty() {
            return Outcome::Idle;
        }
        self.reopen().await;
        let results = join_all(steps.iter().map(|step| self.ask(step))).await;
        let mut outcome = Outcome::More;
        for (step, mut result) in steps.iter().zip(results) {
            // The refusal of another one may have closed the channel.
            if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::ChannelClosed) {
                self.reopen().await;
                result = self.ask(step).await;
            }
            match self.registry.with_bindings(|bindings| bindings.done(step, result)) {
                Done::Bound(waiting) => waiting.into_iter().for_each(|waits| drop(waits.send(Ok(())))),
                Done::Refused(waiting, error) => {
                    waiting.into_iter().for_each(|waits| drop(waits.send(Err(error.clone()))));
                }
                Done::Nothing => {}
                Done::Again => outcome = Outcome::Again,
            }
        }
        outcome
    }

    /// Opens another channel if this one is closed, as the channel of a connection that does not recover is by a refusal.
    async fn reopen(&mut self) {
        if self.channel.is_closed()
            && let Ok(channel) = self.channel.connection().channel_with(options()).await
        {
            self.channel = channel;
        }
    }

    async fn ask(&self, step: &Step) -> Result<()> {
        let (queue, exchange, arguments) = (self.queue.name(), &*self.exchange, self.arguments.clone());
        match step {
            Step::Bind(key) => {
                self.channel.call(BindQueue::new(queue, exchange, &**key).arguments(arguments)).await
            }
            Step::Unbind(key) => {
                self.channel.call(UnbindQueue::new(queue, exchange, &**key).arguments(arguments)).await
            }
        }
    }
}

enum Outcome {
    Idle,
    More,
    /// After a pause.
    Again,
}

/// Returns the options of the channels of a bridge, which publish nothing.
pub(super) fn options() -> OpenChannel {
    OpenChannel::new().confirms(false)
}

/// Sends an actor what waits for it, and goes on when it has handled that.
pub(super) async fn forward(registry: Arc<Registry>, id: u64, inbox: Arc<Inbox>, to: Recipient<BridgeEvent>) {
    let mut events = Vec::new();
    loop {
        poll_fn(|cx| inbox.poll_batch(&mut events, cx)).await;
        let Some(last) = events.pop() else { break };
        let is_end = matches!(last, BridgeEvent::Ended(_));
        events.drain(..).for_each(|event| to.do_send(event));
        // A clone always has room in the mailbox, so that no event overtakes another one.
        if (to.clone().send(last).await.is_err() && !to.connected()) || is_end {
            break;
        }
    }
    inbox.end(ConsumerEnd::TargetGone);
    inbox.discard();
    registry.remove(id);
}
