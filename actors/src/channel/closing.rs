//! How a channel closes for good: it drains, sends `channel.close`, and ends.
//!
//! Draining waits for the confirms of publishes, and for the reply to a commit. A channel without handles closes by
//! itself.

use tokio::time::Instant;

use super::{
    ChannelMachine, Number, PendingReply, Reply, close_state::CloseUnopened, pending_reply::answer_all,
};
use crate::{
    error::{Error, ErrorKind, Result},
    internal::SupervisorMessage,
    message::{ChannelEvent, CloseChannel, ConsumerEnd, methods},
    options::clamp_timeout,
    outbox::{Abandoned, ChannelClose, CloseFault, FinalFrames},
};

/// Why a channel ends, and what each of those gets that used it.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    /// For whoever uses it later, and for its consumers.
    pub(super) error: Error,
    /// For calls and publishes that are not at fault.
    pub(super) others: &'a Error,
    /// For the callers that close it, if publishes were not confirmed.
    pub(super) cause: &'a Error,
    pub(super) fault: CloseFault<'a>,
    pub(super) frames: FinalFrames,
    pub(super) number: Number,
}

impl ChannelMachine {
    /// The application closes the channel.
    pub(super) fn close(&mut self, close: CloseChannel, now: Instant) -> Reply<()> {
        if self.state.is_closed() {
            self.give_up_ended();
            return Reply::now(Ok(()));
        }
        let (reply, responder) = Reply::later();
        self.closers.push(responder);
        if self.state.is_recovering() {
            self.close_unopened(now);
            return reply;
        }
        // One tick past the publish deadline, so that late publishes report their own timeout.
        let terms = self.outbox.config();
        let until = now + clamp_timeout(terms.deadline) + terms.tick();
        if self.state.drain(close.code, close.text, until) {
            self.outbox.refuse_publishes(Error::channel_closed("the channel is being closed", None));
            self.outbox.end_nack_retry();
            self.continue_closing(now);
        }
        self.outputs.request_tick();
        reply
    }

    /// All handles are dropped: the channel closes once nothing is in flight.
    pub(super) fn release(&mut self, now: Instant) {
        self.give_up_ended();
        self.released = Some(now + clamp_timeout(self.outbox.config().deadline));
        self.outbox.close_when_idle();
        self.continue_closing(now);
        self.outputs.request_tick();
    }

    /// The connection is being closed, and waits until no publish is unconfirmed.
    pub(super) fn drain(&mut self, now: Instant) {
        self.drain_requested = true;
        self.outbox.refuse_publishes(Error::connection_closed_here("the connection is being closed"));
        self.outbox.end_nack_retry();
        self.continue_closing(now);
        self.outputs.request_tick();
    }

    /// Returns whether the channel closes, or its connection does, once nothing is in flight.
    #[inline]
    pub(super) fn is_closing_soon(&self) -> bool {
        self.drain_requested || self.released.is_some() || self.state.is_draining()
    }

    /// Continues to close once nothing is in flight any more.
    pub(super) fn continue_closing(&mut self, now: Instant) {
        if !self.is_closing_soon() {
            return;
        }
        let load = self.outbox.load();
        let confirmed = load.unconfirmed == 0 && load.waiting == 0 && !self.awaits_commit();
        let idle = confirmed && load.drained;
        if self.drain_requested && idle {
            self.drain_requested = false;
            self.report(SupervisorMessage::ChannelDrained { channel: self.number() });
        }
        let unneeded = self.released.is_some_and(|until| idle || now >= until);
        let answered = self.replies.is_empty() || self.state.is_close_overdue();
        if unneeded && load.unsettled == 0 && self.consumers.is_empty() && answered {
            if self.state.is_detached() || self.state.is_backing_off() || self.state.is_close_overdue() {
                self.close_unopened(now);
            } else {
                self.state.drain(200, "no handle is left".into(), now);
            }
        }
        if let Some((code, text)) = self.state.close_due(now, confirmed) {
            // Late publishes report their timeout, and not that the channel is closed.
            self.outbox.expire(now);
            self.send_close(code, &text, closed(), None, now);
        }
    }

    /// Closes the channel while it recovers.
    fn close_unopened(&mut self, now: Instant) {
        let cause = self.state.cause();
        match self.state.close_unopened(self.outbox.abandoned().answer(&cause)) {
            CloseUnopened::Wait => {}
            CloseUnopened::SendClose => {
                self.send_close(200, "closed by the application", closed(), Some(&cause), now);
            }
            CloseUnopened::End => {
                self.notify(ChannelEvent::Closed(None));
                let (others, fault) = (&Error::closed_meanwhile(&cause), CloseFault::Elsewhere);
                // The reply to the broker's close may still be queued.
                let (frames, number) = (FinalFrames::Queued, Number::Free);
                self.end_as(Ending { error: closed(), others, cause: &cause, fault, frames, number });
            }
        }
    }

    /// Sends `channel.close`; fails calls and ends consumers. The callers that close the channel wait for the
    /// reply. Publishes fail for `cause`, or because their time is over.
    ///
    /// Only `channel.close-ok` may follow it. For any other frame, an ack included, the channel would not be
    /// open.
    fn send_close(&mut self, code: u16, text: &str, error: Error, cause: Option<&Error>, now: Instant) {
        let close = methods::channel_close(code, text);
        let frames = self.frame(&close).map_or(FinalFrames::None, FinalFrames::AfterQueued);
        let blocked = self.outbox.blocked();
        let is_blocked = blocked.is_some();
        let late = || match &blocked {
            Some(reason) => Error::blocked_by("no confirm within the deadline", reason),
            None => Error::timeout("no confirm within the deadline"),
        };
        let others = cause.map_or_else(|| error.clone(), Error::closed_meanwhile);
        let end = ChannelClose { error: &others, fault: CloseFault::Elsewhere, fail: true };
        let abandoned = self.outbox.close(&end, error.clone(), frames);
        let answer = abandoned.answer(&cause.cloned().unwrap_or_else(late));
        self.replies.fail_all(&others);
        self.consumers.end_all(|| ConsumerEnd::Closed(error.clone()));
        if is_blocked && answer.is_err() {
            // The callers have waited for a deadline already, and the broker reads nothing now.
            answer_all(self.closers.drain(..), &answer);
        }
        self.state.close_sent(error, answer);
        self.replies.expect(&close, None, None, PendingReply::Close, now);
    }

    /// The broker has closed the channel before it read the client's close. The callers that close it need
    /// not wait. The number is free only once the reply to the client's close has come, which RabbitMQ may
    /// omit.
    pub(super) fn closes_crossed(&mut self) {
        if let Some(answer) = self.state.crossed() {
            answer_all(self.closers.drain(..), &answer);
        }
    }

    /// Ends the channel for good, and replies to all callers and consumers.
    pub(super) fn end(&mut self, error: Error, frames: FinalFrames, number: Number) {
        let (cause, fault) = (&error.clone(), CloseFault::Elsewhere);
        self.end_as(Ending { error, others: cause, cause, fault, frames, number });
    }

    /// Ends the channel for good: what each gets that used it is in `ending`, unless its close was sent
    /// before.
    pub(super) fn end_as(&mut self, ending: Ending<'_>) {
        let Ending { error, others, cause, fault, frames, number } = ending;
        let is_asked = self.drain_requested || self.state.is_draining() || !self.closers.is_empty();
        let Some(ended) = self.state.end(error) else { return };
        let is_lost = self.recovers && ended.is_lost() && !is_asked;
        let (channel, error) = (self.number(), ended.error);
        if ended.never_open {
            self.report(SupervisorMessage::ChannelOpened { channel, result: Err(error.clone()) });
        }
        self.notify(ChannelEvent::Closed(ended.cause));
        let close = ChannelClose { error: others, fault, fail: true };
        let abandoned = self.outbox.close(&close, error.clone(), frames);
        let others = if ended.answer.is_some() { &error } else { others };
        self.replies.fail_all(others);
        self.report_changes();
        self.waiting.fail_all(others);
        if is_lost {
            self.lose_consumers(&error);
        }
        self.consumers.end_all(|| ConsumerEnd::Closed(error.clone()));
        self.end_lost_consumers(&error, is_asked);
        let answer = ended.answer.unwrap_or_else(|| abandoned.answer(cause));
        answer_all(self.closers.drain(..), &answer);
        self.report(SupervisorMessage::ChannelDrained { channel });
        self.report(SupervisorMessage::ChannelClosed { channel, free: number == Number::Free });
    }

    /// Ends the channel with its actor, so that no caller waits forever.
    pub(super) fn stop(&mut self) {
        let text = "the Channel actor ended";
        let last = self.frame(&methods::channel_close(200, text));
        self.end(Error::stopped(text), last.map_or(FinalFrames::None, FinalFrames::Only), Number::InUse);
    }

    /// Fails what is late, and closes the channel if the broker has not replied for too long.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.state.is_closed() {
            return;
        }
        let publishing = self.outbox.expire(now);
        let deadline = self.outbox.config().deadline;
        self.release_held_calls(now);
        let waiting = self.expire_waiting(now, deadline);
        if self.state.opens_late(now, deadline) && self.replies.is_empty() {
            let error = self.state.opens_too_late(deadline);
            return self.end(error, FinalFrames::None, Number::Free);
        }
        match self.replies.expire(now, deadline, self.outbox.blocked().as_deref()) {
            Some(error) if error.kind() == ErrorKind::Blocked => self.held_up(&error, now),
            Some(silence) => self.give_up(&silence, now),
            None => {}
        }
        self.report_changes();
        self.report_wanted(now);
        self.report_unrouted();
        self.continue_closing(now);
        let closing = self.state.is_opening() || self.is_closing_soon();
        if publishing || waiting || closing || !self.replies.is_empty() {
            self.outputs.request_tick();
        }
    }

    /// The broker has not replied for too long. A later reply could be taken for that to another call.
    fn give_up(&mut self, silence: &Error, now: Instant) {
        let channel = self.number();
        if self.state.is_crossed() {
            return self.close_not_answered(now);
        }
        if self.state.is_close_overdue() && self.can_reopen() {
            return;
        }
        log::warn!("channel {channel}: given up, {silence}");
        let cause = Error::channel_closed(format!("the channel is opened again: {silence}"), None);
        if self.close_and_reopen(541, "no answer to a call", cause, now) || self.wait_for_close(silence) {
            return;
        }
        self.notify(ChannelEvent::Closed(Some(silence.clone())));
        if self.state.after_close().is_some() {
            answer_all(self.closers.drain(..), &Err(silence.clone()));
            return self.end(silence.clone(), FinalFrames::None, Number::InUse);
        }
        if self.state.is_opening() {
            self.report(SupervisorMessage::ChannelOpened { channel, result: Err(silence.clone()) });
        }
        let error = Error::channel_closed(format!("the channel is given up: {silence}"), None);
        if self.recovers && self.state.is_open() && !self.drain_requested {
            self.lose_consumers(&error);
            self.report_missing_consumers();
        }
        self.send_close(541, "no answer to a call", error.clone(), Some(&error), now);
    }

    /// Opening or closing takes too long because the broker blocks the connection; it is done once that reads
    /// again.
    fn held_up(&mut self, error: &Error, now: Instant) {
        answer_all(self.closers.drain(..), &Err(error.clone()));
        if self.state.is_opening() {
            let channel = self.number();
            self.report(SupervisorMessage::ChannelOpened { channel, result: Err(error.clone()) });
            let text = "the application gave up opening the channel";
            self.send_close(200, text, error.clone(), Some(error), now);
        }
    }
}

fn closed() -> Error {
    Error::channel_closed("the channel is closed", None)
}

impl Abandoned {
    /// Returns what the callers get that close the channel, which is closed for `cause`.
    fn answer(self, cause: &Error) -> Result<()> {
        match self.unconfirmed {
            0 => Ok(()),
            n if self.may_have_arrived > 0 => Err(Error::abandoned(n, cause).maybe_arrived()),
            n => Err(Error::abandoned(n, cause)),
        }
    }
}
