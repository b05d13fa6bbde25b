//! How a channel outlives its connection, and its own closes: what it forgets, what it says again, what waits.
//!
//! A channel goes on in two phases: what it stands for is said first (open, prefetch and consumers, confirms); when all of
//! that is answered, publishes go on, and the calls that waited are made.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use actix::{Context, Handler, Message};
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Channel, ChannelState, Number, Reply, Responder,
    consume::Entry,
    renames::Renames,
    replies::{PendingReply, Refused},
};
use crate::{
    error::{CloseReason, Error, Result},
    message::{
        ChannelEvent, ConsumerEnd, EntityKind, Skipped,
        internal::{Change, Entity, Removal, SupervisorMessage},
    },
    outbox::Outage,
    wire::{AMQPClass, channel as methods, confirm},
};

/// So many closes by the broker within [`UNSTABLE_WITHIN`] are not a mishap any more.
const UNSTABLE: usize = 5;
const UNSTABLE_WITHIN: Duration = Duration::from_secs(10);

/// What a channel needs to go on in another life.
#[derive(Debug, Default)]
pub(super) struct ChannelRecovery {
    /// Why it is not open now, or was not the last time.
    cause: Option<Error>,
    /// Calls that wait for it to be open.
    waiting: VecDeque<WaitingCall>,
    /// Queues that the broker has named anew.
    renames: Renames,
    /// When the broker has closed it.
    closes: VecDeque<Instant>,
    /// Consumers that this life began without, and why.
    skipped: Vec<(u32, Error)>,
}

struct WaitingCall {
    since: Instant,
    call: Box<dyn Call>,
}

impl fmt::Debug for WaitingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingCall").field("since", &self.since).finish_non_exhaustive()
    }
}

/// A call that was not made yet.
trait Call {
    fn make(self: Box<Self>, channel: &mut Channel, ctx: &mut Context<Channel>);
    fn fail(self: Box<Self>, error: Error);
}

struct QueuedCall<M, T> {
    message: M,
    responder: Responder<T>,
}

impl<M, T> Call for QueuedCall<M, T>
where
    Channel: Handler<M, Result = Reply<T>>,
    M: Message<Result = Result<T>>,
    T: 'static,
{
    fn make(self: Box<Self>, channel: &mut Channel, ctx: &mut Context<Channel>) {
        // As a call is not made whose caller has left before the actor came to it.
        if self.responder.is_given_up() {
            return;
        }
        <Channel as Handler<M>>::handle(channel, self.message, ctx).forward(self.responder);
    }

    fn fail(self: Box<Self>, error: Error) {
        // Nobody waits any more: fine.
        drop(self.responder.send(Err(error)));
    }
}

impl Channel {
    /// Tells whether calls have to wait for the channel to be open again.
    pub(super) fn waits(&self) -> bool {
        matches!(
            self.phase,
            ChannelState::Lost | ChannelState::Restoring | ChannelState::Closing { reopen: true, .. }
        )
    }

    /// Why the channel is not open now.
    pub(super) fn cause(&self) -> Error {
        let unknown = || Error::connection_closed("the connection is lost", None);
        self.going.cause.clone().unwrap_or_else(unknown)
    }

    /// Makes the call when the channel is open again; it fails when its deadline passes first.
    pub(super) fn later<M, T>(&mut self, message: M, ctx: &mut Context<Self>) -> Reply<T>
    where
        Self: Handler<M, Result = Reply<T>>,
        M: Message<Result = Result<T>> + 'static,
        T: 'static,
    {
        let (reply, responder) = Reply::later();
        let call = Box::new(QueuedCall { message, responder });
        self.going.waiting.push_back(WaitingCall { since: Instant::now(), call });
        self.keep_ticking(ctx);
        reply
    }

    /// Answers calls that have waited for too long; tells whether others wait.
    pub(super) fn expire_waiting(&mut self, now: Instant) -> bool {
        let deadline = self.outbox.terms().deadline;
        while let Some(first) = self.going.waiting.front() {
            if now.saturating_duration_since(first.since) < deadline {
                break;
            }
            let Some(first) = self.going.waiting.pop_front() else { break };
            let what = format!("not sent within {deadline:?}: {}", self.cause());
            first.call.fail(Error::timeout(what));
        }
        !self.going.waiting.is_empty()
    }

    /// Answers all calls that wait.
    pub(super) fn fail_waiting(&mut self, error: &Error) {
        for waiting in std::mem::take(&mut self.going.waiting) {
            waiting.call.fail(error.clone());
        }
    }

    /// Says the queue's name of today.
    pub(super) fn rename(&self, name: &mut String) {
        if let Some(new) = self.going.renames.current().get(name) {
            name.clone_from(new);
        }
    }

    /// The broker has named a queue anew.
    pub(super) fn queue_renamed(&mut self, old: String, new: String) {
        self.going.renames.renamed(&old, &new);
        self.consumers.rename(&old, &new);
        self.watchers.notify(&ChannelEvent::QueueRenamed { old, new });
    }

    /// Tells the supervisor what was done to the topology.
    pub(super) fn report_changes(&mut self) {
        for change in self.replies.changes() {
            self.supervisor.do_send(SupervisorMessage::TopologyChanged(change));
        }
        for change in self.replies.unchanged() {
            if let Change::Forget(Removal::Queue(queue)) = change {
                self.supervisor.do_send(SupervisorMessage::QueueDeleting { queue, is: false });
            }
        }
    }

    pub(super) fn record(&mut self, entity: Entity) {
        // What was answered before comes before it.
        self.report_changes();
        if self.robust {
            self.supervisor.do_send(SupervisorMessage::TopologyChanged(Change::Record(entity)));
        }
    }

    pub(super) fn forget_consumer(&mut self, tag: Arc<str>) {
        self.report_changes();
        if self.robust {
            let channel = self.number();
            self.supervisor.do_send(SupervisorMessage::TopologyChanged(Change::Forget(Removal::Consumer {
                channel,
                tag,
            })));
        }
    }

    /// Forgets a consumer whose queue is to be there again.
    fn lose_consumer(&mut self, tag: Arc<str>) {
        self.report_changes();
        if self.robust {
            let channel = self.number();
            self.supervisor.do_send(SupervisorMessage::TopologyChanged(Change::Forget(
                Removal::LostConsumer { channel, tag },
            )));
        }
    }

    /// Forgets a consumer that nobody has cancelled here. One that was to be there again takes its queue along.
    pub(super) fn lost_consumer(&mut self, entry: &Entry) {
        let tag = entry.link.tag.clone();
        if entry.robust { self.forget_consumer(tag) } else { self.lose_consumer(tag) }
    }

    /// The connection is lost, and another one will come.
    pub(super) fn lost(&mut self, error: &Error) {
        let cause = Error::connection_lost(error);
        match &self.phase {
            ChannelState::Closed(_) | ChannelState::Lost => return,
            // It opens with the next connection.
            ChannelState::Opening => {
                let outage = Outage { error: &cause, fail: false, suspicious: false };
                self.channel_epoch = self.outbox.detach(&outage);
                self.replies.fail_all(&cause);
                self.epoch = 0;
                return;
            }
            ChannelState::Draining { .. } | ChannelState::Closing { reopen: false, .. } => {
                return self.end(cause, None, Number::Free);
            }
            ChannelState::Open | ChannelState::Restoring | ChannelState::Closing { reopen: true, .. } => {}
        }
        if self.transacting.selected() {
            let what = "the transaction is lost with its connection";
            return self.end(Error::channel_closed(what, cause.close_reason().cloned()), None, Number::Free);
        }
        self.lose_culprit(error);
        let suspicious = error.close_reason().is_some_and(|reason| reason.code >= 500);
        let outage = Outage { error: &cause, fail: self.fails_in_outage, suspicious };
        self.channel_epoch = self.outbox.detach(&outage);
        self.forget_life(&cause);
        self.consumers.unsuspend();
        let ended = self.consumers.end_where(|entry| !entry.robust, &ConsumerEnd::Closed(cause.clone()));
        ended.into_iter().for_each(|tag| self.lose_consumer(tag));
        self.going.cause = Some(cause);
        self.phase = ChannelState::Lost;
        // What this connection still says is not for us.
        self.epoch = 0;
    }

    /// Ends the consumer that cost the connection when it was to start again: it would do so for ever.
    fn lose_culprit(&mut self, error: &Error) {
        let culprit = error.close_reason().and_then(|reason| self.replies.culprit(reason));
        if let Some(consumer) = culprit {
            self.lose(consumer, ConsumerEnd::Closed(error.clone()));
        }
    }

    /// Forgets what belongs to the life that is over.
    fn forget_life(&mut self, cause: &Error) {
        for (tag, cancelled) in self.replies.unsettled_consumers() {
            if self.consumers.get(tag.as_bytes()).is_some_and(|entry| entry.repair) {
                continue;
            }
            if let Some(entry) = self.consumers.remove(tag.as_bytes()) {
                self.forget_consumer(entry.link.tag.clone());
                let end = match &entry.ending {
                    Some(end) => end.clone(),
                    None if cancelled => ConsumerEnd::Cancelled,
                    None => ConsumerEnd::Closed(cause.clone()),
                };
                entry.end(end);
            }
        }
        self.replies.fail_all(cause);
        self.report_changes();
        self.inbox.reset();
        self.recovering = 0;
        self.prefetch_said = None;
        self.going.skipped.clear();
        self.consumers.discard();
        self.consumers.free();
    }

    /// The broker has closed the channel, or we have, for a reason that does not end it.
    pub(super) fn reopens(&mut self, reason: &CloseReason, refused: &Refused) -> bool {
        let goes_on = match self.phase {
            // Every time it goes on without one consumer more.
            ChannelState::Restoring if matches!(refused, Refused::Resumed(..) | Refused::Unwanted(_)) => true,
            ChannelState::Open | ChannelState::Restoring => {
                let now = Instant::now();
                let old = |at: &Instant| now.saturating_duration_since(*at) > UNSTABLE_WITHIN;
                while self.going.closes.front().is_some_and(old) {
                    self.going.closes.pop_front();
                }
                self.going.closes.push_back(now);
                if self.going.closes.len() > UNSTABLE {
                    log::error!("channel {}: closed {UNSTABLE} times, and given up: {reason}", self.number());
                }
                self.going.closes.len() <= UNSTABLE
            }
            _ => false,
        };
        self.robust && goes_on && !self.transacting.selected() && !self.draining
    }

    /// Opens the channel again on the connection that there is, after `final_frames`. `refused` tells what was the
    /// reason.
    pub(super) fn reopen(&mut self, error: Error, final_frames: Bytes, refused: Refused) {
        log::warn!("channel {}: opened again: {error}", self.number());
        let mut skipped = std::mem::take(&mut self.going.skipped);
        self.channel_epoch = self.outbox.reopen(&error, final_frames);
        self.forget_life(&error);
        match refused {
            Refused::Resumed(consumer, error) => {
                // A queue that is not there costs the channel only once.
                let missing = error.close_reason().is_some_and(|reason| reason.code == 404);
                let others = if missing { self.consumers.beside(consumer) } else { Vec::new() };
                skipped.extend(others.into_iter().map(|other| (other, error.clone())));
                skipped.push((consumer, error));
            }
            Refused::Consumed(tag, error) => {
                if let Some(entry) = self.consumers.remove(tag.as_bytes()) {
                    entry.end(ConsumerEnd::Closed(error));
                }
            }
            Refused::Unwanted(tag) => {
                if let Some(entry) = self.consumers.remove(tag.as_bytes()) {
                    self.forget_consumer(tag);
                    let end = entry.ending.clone().unwrap_or(ConsumerEnd::Cancelled);
                    entry.end(end);
                }
            }
            Refused::Other => {}
        }
        for (consumer, _) in &skipped {
            self.consumers.suspend(*consumer);
        }
        self.going.skipped = skipped;
        self.going.cause = Some(error);
        self.restore();
    }

    /// Says what the channel stands for.
    pub(super) fn restore(&mut self) {
        self.phase = ChannelState::Restoring;
        let open = AMQPClass::Channel(methods::AMQPMethod::Open(methods::Open {}));
        self.ask(open, "channel.open", None, PendingReply::Open);
        for id in self.consumers.ids() {
            self.resume(id);
        }
        self.share_again();
        if self.outbox.terms().confirms {
            let select = AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }));
            self.ask(select, "confirm.select", None, PendingReply::ConfirmSelect);
        }
    }

    /// Goes on once all of it is answered.
    pub(super) fn look_after_restore(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.phase, ChannelState::Restoring) || !self.replies.is_empty() {
            return;
        }
        self.phase = ChannelState::Open;
        let (channel, epoch) = (self.number(), self.epoch);
        log::debug!("channel {channel}: open again");
        let patience = self.patience();
        self.outbox.go_on(self.going.renames.current(), patience);
        self.watchers.notify(&ChannelEvent::Reopened(self.cause()));
        let (mut skipped, mut repairs) = (Vec::new(), Vec::new());
        for (consumer, error) in std::mem::take(&mut self.going.skipped) {
            let Some(entry) = self.consumers.by_id(consumer) else { continue };
            if !entry.robust {
                self.lose(consumer, ConsumerEnd::Closed(error));
                continue;
            }
            let name = entry.link.tag.to_string();
            let probe = entry.probe();
            let cause = ConsumerEnd::Closed(error.clone());
            repairs.push(SupervisorMessage::RepairConsumer { epoch, channel, consumer, probe, cause });
            skipped.push(Skipped { kind: EntityKind::Consumer, name, error });
        }
        self.supervisor.do_send(SupervisorMessage::ChannelRecovered { channel, epoch, skipped });
        repairs.into_iter().for_each(|repair| self.supervisor.do_send(repair));
        let waiting = std::mem::take(&mut self.going.waiting);
        for waiting in waiting {
            let before = self.replies.len();
            waiting.call.make(self, ctx);
            // Its time runs since it was asked for.
            self.replies.backdate(before, waiting.since);
        }
        self.look_after_drain();
    }

    /// A consumer that could not go on can, or must end.
    pub(super) fn repaired(
        &mut self,
        consumer: u32,
        result: Result<(), ConsumerEnd>,
        ctx: &mut Context<Self>,
    ) {
        if !self.consumers.by_id(consumer).is_some_and(|entry| entry.suspended) {
            return;
        }
        match result {
            Ok(()) if matches!(self.phase, ChannelState::Open | ChannelState::Restoring) => {
                self.going.skipped.retain(|(skipped, _)| *skipped != consumer);
                self.consumers.go_on(consumer);
                self.resume(consumer);
                self.keep_ticking(ctx);
            }
            // The next life begins with it.
            Ok(()) => self.consumers.go_on(consumer),
            Err(end) => {
                self.lose(consumer, end);
                self.look_after_drain();
            }
        }
    }

    /// Ends a consumer that could not start again.
    fn lose(&mut self, consumer: u32, end: ConsumerEnd) {
        let Some(entry) = self.consumers.remove_id(consumer) else { return };
        let tag = entry.link.tag.clone();
        log::warn!("channel {}: consumer {tag:?} is lost: {end:?}", self.number());
        self.outbox.release(consumer);
        self.lost_consumer(&entry);
        self.watchers.notify(&ChannelEvent::ConsumerLost { tag, end: end.clone() });
        entry.end(end);
    }

    /// Closes the channel to open it again, because the broker does not answer.
    pub(super) fn close_to_reopen(&mut self, silence: &Error) -> bool {
        let error = Error::channel_closed(format!("the channel is opened again: {silence}"), None);
        self.close_and_open(541, "no answer to a call", error)
    }

    /// Closes the channel to open it again, if it is one that goes on.
    pub(super) fn close_and_open(&mut self, code: u16, text: &str, error: Error) -> bool {
        if !self.robust
            || !matches!(self.phase, ChannelState::Open | ChannelState::Restoring)
            || self.draining
        {
            return false;
        }
        if self.transacting.selected() {
            return false;
        }
        let Ok(frame) = self.close_frame(code, text) else { return false };
        self.channel_epoch = self.outbox.reopen(&error, frame);
        self.forget_life(&error);
        self.going.cause = Some(error.clone());
        self.phase = ChannelState::Closing { abandoned: 0, error, reopen: true, crossed: false };
        self.replies.expect("channel.close", None, (20, 40), PendingReply::Close);
        true
    }

    /// Closes the channel while it is not open.
    pub(super) fn close_unopened(&mut self) {
        match &mut self.phase {
            ChannelState::Closing { reopen, .. } => *reopen = false,
            ChannelState::Restoring => {
                self.say_close(
                    200,
                    "closed by the application",
                    Error::channel_closed("the channel is closed", None),
                );
            }
            _ => {
                self.watchers.close(ChannelEvent::Closed(None));
                self.end(Error::channel_closed("the channel is closed", None), None, Number::Free);
            }
        }
    }
}
