//! The byte mailbox of one channel: the channel's only way out, shared by its handles, its deliveries, its
//! Channel actor and the connection.
//!
//! Handles append content, deliveries mark settles, the Channel actor appends methods, and the connection takes
//! bytes when its socket can hold them, so order is one order. Everything is a plain struct under one mutex; nothing
//! is woken, dropped or sent while it is held.

mod acks;
mod attachment;
mod barrier;
mod confirm;
mod confirms;
mod nack_retry;
mod publish_all;
mod publish_future;
mod queue;
#[cfg(test)]
mod tests;
mod transaction;
mod unconfirmed;
mod window;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use actix::{Message, Recipient};
use bytes::Bytes;

use self::{
    acks::Acks,
    confirms::{Answer, Confirms},
    queue::Queue,
    unconfirmed::Unconfirmed,
    window::Window,
};
pub(crate) use self::{
    acks::{Outcome, Seen},
    attachment::Outage,
};
pub use self::{
    barrier::WaitForConfirmsFuture,
    confirm::Confirm,
    publish_all::PublishAllFuture,
    publish_future::{Destination, PublishDeferredFuture, PublishFuture},
};
use crate::{
    error::{Error, Result},
    message::Publishing,
    returned::Return,
    wire::{Properties, header_len},
};

/// Bodies below this are copied into the batch, larger ones are chained.
const CHAIN_FROM: usize = 4096;

/// What a publish weighs in the window beside its bytes.
const PUBLISH_COST: usize = 64;

/// Tells the connection that a channel has something to take.
#[derive(Clone, Copy, Debug)]
pub struct Flush {
    pub(crate) channel: u16,
    pub(crate) epoch: u64,
}

impl Message for Flush {
    type Result = ();
}

/// Tells the Channel actor that deadlines run again, or that it may have nothing left to do.
#[derive(Clone, Copy, Debug)]
pub struct Tick;

impl Message for Tick {
    type Result = ();
}

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
    /// How late a deadline is noticed at most.
    pub(crate) fn tick(&self) -> Duration {
        (self.deadline / 16).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}

/// A publish by reference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    /// Empty for the default exchange.
    pub(crate) exchange: &'a str,
    pub(crate) routing_key: &'a str,
    pub(crate) mandatory: bool,
    /// Whether it is sent again when the connection is lost before its confirm.
    pub(crate) resend: bool,
    pub(crate) properties: &'a Properties,
    pub(crate) body: &'a Bytes,
}

impl Outgoing<'_> {
    fn cost(&self) -> usize {
        self.exchange.len() + self.routing_key.len() + self.body.len() + PUBLISH_COST
    }
}

/// A place in the wait queue of the publish window.
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<u64>);

impl Ticket {
    /// Returns whether it has a place in the queue.
    #[inline]
    fn is_waiting(&self) -> bool {
        self.0.is_some()
    }
}

/// The output of one channel: keeps bytes until the connection takes them.
///
/// Publishes go into it without passing a mailbox. Applications publish with the handles of the crate `actix-pika` or
/// with the message [`Publish`](crate::Publish).
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
    terms: OutboxConfig,
    state: Mutex<State>,
}

struct State {
    life: Attachment,
    channel_epoch: u32,
    frame_max: usize,
    /// Why no more publishes are taken, while what is under way goes on.
    refusing: Option<Error>,
    /// Why no publishes are taken until the connection is back.
    outage: Option<Error>,
    scheduled: bool,
    ticking: bool,
    /// Nobody but what is under way needs the channel: a tick says when that is nothing any more.
    last_leg: bool,
    blocked: bool,
    clock: Instant,
    tick: Option<Arc<Recipient<Tick>>>,
    queue: Queue,
    /// Where publishes wait while the channel is restored.
    held: Option<Queue>,
    window: Window,
    confirms: Confirms,
    kept: Unconfirmed,
    /// Between two lives: of what is kept, nothing was handed over in this one.
    between: bool,
    /// One more than the number of the last publish that was handed over in any life.
    sent: u64,
    /// Until when nacks are not told in this life, but their publishes sent again.
    patience: Option<Instant>,
    /// The first publish that waits because of them.
    held_from: u64,
    settles: Acks,
}

enum Attachment {
    /// No connection to give bytes to.
    Detached,
    Attached {
        epoch: u64,
        flush: Arc<Recipient<Flush>>,
    },
    /// For good; what is still queued are last words to the connection that there was.
    Closed {
        error: Error,
        to: Option<(u64, Arc<Recipient<Flush>>)>,
    },
}

/// What must happen once the lock is released.
#[derive(Default)]
#[must_use]
pub(crate) struct DeferredEffects {
    flush: Option<(Arc<Recipient<Flush>>, Flush)>,
    tick: Option<Arc<Recipient<Tick>>>,
    wakers: Vec<Waker>,
    /// To be dropped only: the last reference to a task runs the drops of all that the task holds.
    gone: Vec<Waker>,
}

impl DeferredEffects {
    pub(crate) fn run(self) {
        if let Some((to, flush)) = self.flush {
            to.do_send(flush);
        }
        if let Some(to) = self.tick {
            to.do_send(Tick);
        }
        for waker in self.wakers {
            waker.wake();
        }
    }
}

/// Counts what an outbox holds, for tests, metrics and orderly ends.
///
/// The counts are those of one moment. Without confirms, `unconfirmed` stays 0.
///
/// **Over a reconnect**: publishes that wait to be sent again are unconfirmed; deliveries from before are not
/// counted any more.
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
pub struct Load {
    /// Publishes without an answer yet.
    pub unconfirmed: usize,
    /// Deliveries handed out and not settled.
    pub unsettled: usize,
    /// Bytes of publishes held.
    pub bytes: usize,
    /// Callers that wait for the window.
    pub waiting: usize,
    /// Whether everything written so far was taken by the connection.
    pub drained: bool,
}

impl Outbox {
    /// Creates the outbox of a channel that has no connection yet.
    pub(crate) fn new(terms: OutboxConfig) -> Self {
        Self {
            terms,
            state: Mutex::new(State {
                life: Attachment::Detached,
                channel_epoch: 0,
                frame_max: crate::wire::FRAME_MIN_SIZE as usize,
                refusing: None,
                outage: None,
                scheduled: false,
                ticking: false,
                last_leg: false,
                blocked: false,
                clock: Instant::now(),
                tick: None,
                queue: Queue::default(),
                held: None,
                window: Window::new(terms.window, terms.window_bytes),
                confirms: Confirms::default(),
                kept: Unconfirmed::default(),
                between: false,
                sent: 0,
                patience: None,
                held_from: 0,
                settles: Acks::default(),
            }),
        }
    }

    pub(crate) fn terms(&self) -> &OutboxConfig {
        &self.terms
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
        self.terms.channel
    }

    /// Publishes if the window has room now; `None` if it has not, and nothing is sent.
    ///
    /// Sends `basic.publish`. An empty exchange name is the default exchange.
    ///
    /// # Errors
    /// `ChannelClosed`, `ConnectionClosed` when it is closed; `Limit` for a name or key over 255 bytes, or headers over
    /// the frame size; `Codec` for properties that cannot be encoded.
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
        publish_future::check(exchange, routing_key, content)?;
        let sequence = self.queue_publish(content.outgoing(exchange, routing_key))?;
        Ok(sequence.map(|sequence| Confirm::new(self.clone(), sequence)))
    }

    // A panic while the lock is held would be ours; the state is left consistent enough to answer its waiters.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- callers ----

    /// Queues a publish and returns its sequence number (0 without confirms), once the window has room.
    ///
    /// # Errors
    /// `ChannelClosed`, `ConnectionClosed` when closed; `Limit` for headers that do not fit a frame; `Timeout` or
    /// `Blocked` when the deadline passed while it waited.
    fn poll_publish(
        &self,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
        outgoing: Outgoing<'_>,
    ) -> Poll<Result<u64>> {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        let answer = state.admit(&self.terms, ticket, Some(cx), outgoing, &mut after);
        drop(state);
        after.run();
        answer
    }

    /// Queues a publish if the window has room now.
    pub(crate) fn queue_publish(&self, outgoing: Outgoing<'_>) -> Result<Option<u64>> {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        let answer = state.admit(&self.terms, &mut Ticket::default(), None, outgoing, &mut after);
        drop(state);
        after.run();
        match answer {
            Poll::Ready(answer) => answer.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Gives up a place in the wait queue and wakes the next one if that is at the front.
    #[inline]
    fn leave_queue(&self, ticket: &mut Ticket) {
        if let Some(key) = ticket.0.take() {
            let mut after = DeferredEffects::default();
            let gone = self.lock().window.leave(key, &mut after.wakers);
            after.run();
            drop(gone);
        }
    }

    /// Returns the outcome of a publish.
    fn poll_confirm(&self, sequence: u64, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut state = self.lock();
        let (answer, old) = state.confirms.poll(sequence, cx);
        drop(state);
        drop(old);
        answer
    }

    /// Removes the waiter for the confirm of `sequence`; the publish goes on.
    fn forget_confirm(&self, sequence: u64) {
        let left = self.lock().confirms.forget(sequence);
        drop(left);
    }

    /// Marks a delivery as settled; the frame leaves with the next flush.
    pub(crate) fn settle(&self, channel_epoch: u32, tag: u64, consumer: u32, verdict: Outcome) -> Result<()> {
        self.settle_each(channel_epoch, std::iter::once(tag), consumer, verdict)
    }

    /// Marks deliveries as settled under one lock; the first error, after the rest is settled.
    pub(crate) fn settle_each(
        &self,
        channel_epoch: u32,
        tags: impl Iterator<Item = u64>,
        consumer: u32,
        verdict: Outcome,
    ) -> Result<()> {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        let answer = if let Attachment::Closed { error, .. } = &state.life {
            Err(error.clone())
        } else if channel_epoch != state.channel_epoch {
            Err(Error::stale("the delivery belongs to an earlier life of its channel"))
        } else {
            let mut answer = Ok(());
            for tag in tags {
                answer = answer.and(state.settles.mark(tag, consumer, verdict));
            }
            answer
        };
        if state.settles.is_dirty() {
            state.schedule(&self.terms, &mut after);
        }
        drop(state);
        after.run();
        answer
    }

    /// Tells whether deliveries of `channel_epoch` can no longer be settled.
    pub(crate) fn is_stale(&self, channel_epoch: u32) -> bool {
        let state = self.lock();
        channel_epoch != state.channel_epoch || matches!(state.life, Attachment::Closed { .. })
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
            unsettled: state.settles.outstanding(),
            bytes: state.window.bytes(),
            waiting: state.window.waiting(),
            drained: state.queue.is_empty()
                && state.held.as_ref().is_none_or(Queue::is_empty)
                && !state.settles.is_dirty(),
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
        match &self.lock().life {
            Attachment::Closed { error, .. } => Some(error.clone()),
            _ => None,
        }
    }

    // ---- the Channel actor ----

    /// Appends one method frame, behind all content and settles that came before it.
    ///
    /// # Errors
    /// The cause when it is closed; `Limit` for a frame that is larger than the connection allows.
    pub(crate) fn method(&self, frame: Bytes) -> Result<()> {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        if let Attachment::Closed { error, .. } = &state.life {
            return Err(error.clone());
        }
        if frame.len() > state.frame_max {
            return Err(over_frame_max("the arguments", frame.len(), state.frame_max));
        }
        let State { queue, settles, .. } = &mut *state;
        queue.settles(self.terms.channel, settles);
        queue.method(frame);
        state.schedule(&self.terms, &mut after);
        drop(state);
        after.run();
        Ok(())
    }

    /// Takes no more publishes; what is under way goes on.
    pub(crate) fn refuse_more(&self, error: Error) {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        let old = state.refusing.replace(error);
        state.window.close_line(&mut after.wakers);
        drop(state);
        after.run();
        drop(old);
    }

    pub(crate) fn on_tick(&self, tick: Recipient<Tick>) {
        self.lock().tick = Some(Arc::new(tick));
    }

    /// Ticks from now on when nothing is unsettled and everything written is taken, too.
    pub(crate) fn tell_idle(&self) {
        self.lock().last_leg = true;
    }

    /// Notes deliveries that are about to be handed out; tags count up from 1. `Err` with a tag that does not.
    pub(crate) fn delivered(&self, seen: &[Seen]) -> Result<(), u64> {
        let mut state = self.lock();
        for seen in seen {
            state.settles.delivered(*seen).map_err(|()| seen.first)?;
        }
        Ok(())
    }

    /// Holds back what dropped deliveries of `consumer` would requeue, until [`release`](Self::release).
    pub(crate) fn hold(&self, consumer: u32) {
        self.lock().settles.hold(consumer);
    }

    /// Requeues what was held back for `consumer`.
    pub(crate) fn release(&self, consumer: u32) {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        state.settles.release(consumer);
        if state.settles.is_dirty() {
            state.schedule(&self.terms, &mut after);
        }
        drop(state);
        after.run();
    }

    /// Takes in `basic.ack` from the broker; `Err` for a tag that was never published.
    pub(crate) fn ack(&self, tag: u64, multiple: bool) -> Result<(), ()> {
        let mut after = DeferredEffects::default();
        let mut freed = Vec::new();
        let mut state = self.lock();
        let known = state.answered(tag, multiple, Answer::Ack, &mut after, &mut freed);
        drop(state);
        after.run();
        drop(freed);
        known
    }

    /// Takes in `basic.return`, with its property bytes; gives it back if no publish under way matches it.
    pub(crate) fn returned(&self, returned: Return, properties: &[u8]) -> Option<Return> {
        let mut state = self.lock();
        let State { kept, confirms, .. } = &mut *state;
        match kept.match_return(&returned, properties, |sequence| confirms.awaits_return(sequence)) {
            Some(sequence) => {
                let old = confirms.returned(sequence, returned);
                drop(state);
                drop(old);
                None
            }
            None => Some(returned),
        }
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.lock().blocked
    }

    pub(crate) fn set_blocked(&self, blocked: bool) {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        state.blocked = blocked;
        if !blocked {
            state.window.wake_front(&mut after.wakers);
        }
        drop(state);
        after.run();
    }

    /// Answers every wait whose deadline has passed; tells whether it must be asked again.
    pub(crate) fn expire(&self, now: Instant) -> bool {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        let late = self.terms.deadline.saturating_add(self.terms.tick());
        let blocked = state.blocked;
        let State { confirms, window, .. } = &mut *state;
        confirms.expire(now, late, blocked, &mut after.wakers);
        window.expire(now, late, &mut after.wakers);
        state.clock = now;
        state.ticking = state.confirms.unconfirmed() > 0 || state.window.waiting() > 0;
        let again = state.ticking;
        drop(state);
        after.run();
        again
    }

    // ---- the connection ----

    /// Hands over at most about `budget` bytes to connection `epoch`; tells whether there is more.
    ///
    /// Clears the schedule when it is empty, so that the next one who writes asks for a flush again.
    pub(crate) fn take(&self, epoch: u64, budget: usize, out: &mut Vec<Bytes>) -> bool {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        match &state.life {
            Attachment::Attached { epoch: current, .. } if *current == epoch => {}
            Attachment::Closed { to: Some((to, _)), .. } if *to == epoch => {}
            _ => return false,
        }
        let State { life, queue, settles, kept, window, .. } = &mut *state;
        let confirms = self.terms.confirms;
        let keeps = confirms && matches!(life, Attachment::Attached { .. });
        queue.settles(self.terms.channel, settles);
        let written = queue.take(budget, keeps.then_some(kept), out);
        let more = !queue.is_empty();
        if !confirms && written.messages > 0 {
            window.written(written.messages, written.cost, &mut after.wakers);
        }
        state.scheduled = more;
        if state.last_leg && !more && state.settles.outstanding() == 0 {
            after.tick = state.tick.clone();
        }
        drop(state);
        after.run();
        more
    }
}

impl State {
    fn admit(
        &mut self,
        terms: &OutboxConfig,
        ticket: &mut Ticket,
        cx: Option<&mut Context<'_>>,
        outgoing: Outgoing<'_>,
        after: &mut DeferredEffects,
    ) -> Poll<Result<u64>> {
        let refused = match &self.life {
            Attachment::Closed { error, .. } => Some(error),
            _ => self.refusing.as_ref().or(self.outage.as_ref()),
        };
        if let Some(error) = refused {
            ticket.0 = None;
            return Poll::Ready(Err(error.clone()));
        }
        // Only headers have no limit of their own, and a content header cannot be divided.
        if outgoing.properties.headers().is_some() {
            let len = header_len(outgoing.properties);
            if len > self.frame_max {
                return Poll::Ready(Err(over_frame_max("the headers", len, self.frame_max)));
            }
        }
        let cost = outgoing.cost();
        if self.blocked || !self.window.admits(ticket.0, cost) {
            let Some(cx) = cx else { return Poll::Pending };
            self.start_ticking(after);
            return match self.window.wait(&mut ticket.0, cx, self.clock, &mut after.gone) {
                true => Poll::Pending,
                false => {
                    let what = "no room in the publish window within the deadline; not sent";
                    let error = if self.blocked { Error::blocked(what) } else { Error::timeout(what) };
                    Poll::Ready(Err(error))
                }
            };
        }
        self.window.enter(ticket.0.take(), cost, &mut after.wakers, &mut after.gone);
        let sequence = if terms.confirms {
            self.start_ticking(after);
            self.confirms.next(self.clock, outgoing.mandatory, outgoing.resend)
        } else {
            0
        };
        if let Some(held) = &mut self.held {
            held.publish(terms.channel, self.frame_max, sequence, outgoing);
            return Poll::Ready(Ok(sequence));
        }
        self.queue.publish(terms.channel, self.frame_max, sequence, outgoing);
        self.schedule(terms, after);
        Poll::Ready(Ok(sequence))
    }

    fn answered(
        &mut self,
        tag: u64,
        multiple: bool,
        answer: Answer,
        after: &mut DeferredEffects,
        freed: &mut Vec<Bytes>,
    ) -> Result<(), ()> {
        let known = self.confirms.answered(tag, multiple, answer, &mut after.wakers);
        self.forget_answered(after, freed);
        known
    }

    /// Drops the content of what is answered, and makes room in the window.
    fn forget_answered(&mut self, after: &mut DeferredEffects, freed: &mut Vec<Bytes>) {
        let bytes = self.kept.drop_below(self.confirms.base(), freed);
        self.window.set(self.confirms.unconfirmed(), bytes, &mut after.wakers);
    }

    fn schedule(&mut self, terms: &OutboxConfig, after: &mut DeferredEffects) {
        if self.scheduled {
            return;
        }
        let to = match &self.life {
            Attachment::Attached { epoch, flush } | Attachment::Closed { to: Some((epoch, flush)), .. } => {
                Some((epoch, flush))
            }
            _ => None,
        };
        if let Some((epoch, flush)) = to {
            self.scheduled = true;
            after.flush = Some((flush.clone(), Flush { channel: terms.channel, epoch: *epoch }));
        }
    }

    fn start_ticking(&mut self, after: &mut DeferredEffects) {
        if !self.ticking {
            self.ticking = true;
            self.clock = Instant::now();
            after.tick = self.tick.clone();
        }
    }
}

#[cold]
fn over_frame_max(what: &str, len: usize, frame_max: usize) -> Error {
    Error::limit(format!("{what} make a frame of {len} bytes, this connection allows {frame_max}"))
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("terms", &self.terms).field("load", &self.load()).finish()
    }
}
