//! How a channel closes for good: it drains, sends `channel.close`, and ends.
//!
//! Draining waits for the confirms of publishes. A channel without handles closes by itself.

use bytes::Bytes;
use tokio::time::Instant;

use super::{ChannelMachine, Number, PendingReply, Reply, pending_reply::answer_all, state::CloseUnopened};
use crate::{
    error::{Error, ErrorKind},
    internal::SupervisorMessage,
    message::{ChannelEvent, CloseChannel, ConsumerEnd, methods},
    options::clamp_timeout,
};

impl ChannelMachine {
    /// The application closes the channel.
    pub(super) fn close(&mut self, close: CloseChannel, now: Instant) -> Reply<()> {
        if self.state.is_closed() {
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
        self.released = Some(now + clamp_timeout(self.outbox.config().deadline));
        self.outbox.close_when_idle();
        self.continue_closing(now);
        self.outputs.request_tick();
    }

    /// The connection is being closed, and waits until no publish is unconfirmed.
    pub(super) fn drain(&mut self, now: Instant) {
        self.drain_requested = true;
        self.outbox.refuse_publishes(Error::connection_closed("the connection is being closed", None));
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
        let confirmed = load.unconfirmed == 0 && load.waiting == 0;
        let idle = confirmed && load.drained;
        if self.drain_requested && idle {
            self.drain_requested = false;
            self.report(SupervisorMessage::ChannelDrained { channel: self.number() });
        }
        let unneeded = self.released.is_some_and(|until| idle || now >= until);
        if unneeded && load.unsettled == 0 && self.consumers.is_empty() && self.replies.is_empty() {
            if self.state.is_detached() {
                self.close_unopened(now);
            } else {
                self.state.drain(200, "no handle is left".into(), now);
            }
        }
        if let Some((code, text)) = self.state.close_due(now, confirmed) {
            // Late publishes report their timeout, and not that the channel is closed.
            self.outbox.expire(now);
            self.send_close(code, &text, Error::channel_closed("the channel is closed", None), now);
        }
    }

    /// Closes the channel while it recovers.
    fn close_unopened(&mut self, now: Instant) {
        let closed = || Error::channel_closed("the channel is closed", None);
        match self.state.close_unopened() {
            CloseUnopened::Wait => {}
            CloseUnopened::SendClose => self.send_close(200, "closed by the application", closed(), now),
            CloseUnopened::End => {
                self.notify(ChannelEvent::Closed(None));
                self.end(closed(), None, Number::Free);
            }
        }
    }

    /// Sends `channel.close`; fails calls and ends consumers. The callers that close the channel wait for the
    /// reply.
    ///
    /// Only `channel.close-ok` may follow it. For any other frame, an ack included, the channel would not be
    /// open.
    fn send_close(&mut self, code: u16, text: &str, error: Error, now: Instant) {
        let abandoned = self.outbox.load().unconfirmed;
        let close = methods::channel_close(code, text);
        if let Ok(frame) = self.frame(&close) {
            self.outbox.close_after_queued(error.clone(), frame);
        }
        self.replies.fail_all(&error);
        self.consumers.end_all(|| ConsumerEnd::Closed(error.clone()));
        self.state.close_sent(error, abandoned);
        self.replies.expect(&close, None, None, PendingReply::Close, now);
    }

    /// The broker has closed the channel before it read the client's close. The callers that close it need
    /// not wait. The number is free only once the reply to the client's close has come, which RabbitMQ may
    /// omit.
    pub(super) fn closes_crossed(&mut self) {
        if let Some(abandoned) = self.state.crossed() {
            self.answer_closers(abandoned);
        }
    }

    /// Ends the channel for good, and replies to all callers and consumers.
    pub(super) fn end(&mut self, error: Error, final_frames: Option<Bytes>, number: Number) {
        let unconfirmed = self.outbox.load().unconfirmed;
        let Some(ended) = self.state.end(error, unconfirmed) else { return };
        let (channel, error) = (self.number(), ended.error);
        if ended.never_open {
            self.report(SupervisorMessage::ChannelOpened { channel, result: Err(error.clone()) });
        }
        self.notify(ChannelEvent::Closed(ended.cause));
        self.outbox.close(error.clone(), final_frames);
        self.replies.fail_all(&error);
        self.report_changes();
        self.waiting.fail_all(&error);
        self.consumers.end_all(|| ConsumerEnd::Closed(error.clone()));
        self.answer_closers(ended.abandoned);
        self.report(SupervisorMessage::ChannelDrained { channel });
        self.report(SupervisorMessage::ChannelClosed { channel, free: number == Number::Free });
    }

    /// Ends the channel with its actor, so that no caller waits forever.
    pub(super) fn stop(&mut self) {
        let text = "the Channel actor ended";
        let final_frames = self.frame(&methods::channel_close(200, text)).ok();
        self.end(Error::stopped(text), final_frames, Number::InUse);
    }

    fn answer_closers(&mut self, abandoned: usize) {
        let answer = match abandoned {
            0 => Ok(()),
            n => {
                let what = format!("closed with {n} publishes unconfirmed, which may have arrived");
                Err(Error::timeout(what).maybe_arrived())
            }
        };
        answer_all(self.closers.drain(..), &answer);
    }

    /// Fails what is late, and closes the channel if the broker has not replied for too long.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.state.is_closed() {
            return;
        }
        let publishing = self.outbox.expire(now);
        let deadline = self.outbox.config().deadline;
        let waiting = self.waiting.expire(now, deadline, || self.state.cause());
        if self.state.opens_late(now, deadline) && self.replies.is_empty() {
            let what = format!("channel.open: no connection within {deadline:?}");
            return self.end(Error::timeout(what), None, Number::Free);
        }
        match self.replies.expire(now, deadline, self.outbox.is_blocked()) {
            Some(error) if error.kind() == ErrorKind::Blocked => self.held_up(&error, now),
            Some(silence) => self.give_up(&silence, now),
            None => {}
        }
        self.report_changes();
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
            // Fails only if the client's close was not sent.
            let _ = self.close_answered(now);
            return;
        }
        log::warn!("channel {channel}: given up, {silence}");
        let cause = Error::channel_closed(format!("the channel is opened again: {silence}"), None);
        if self.close_and_reopen(541, "no answer to a call", cause, now) {
            return;
        }
        self.notify(ChannelEvent::Closed(Some(silence.clone())));
        if self.state.after_close().is_some() {
            answer_all(self.closers.drain(..), &Err(silence.clone()));
            return self.end(silence.clone(), None, Number::InUse);
        }
        if self.state.is_opening() {
            self.report(SupervisorMessage::ChannelOpened { channel, result: Err(silence.clone()) });
        }
        let error = Error::channel_closed(format!("the channel is given up: {silence}"), None);
        self.send_close(541, "no answer to a call", error, now);
    }

    /// Opening or closing takes too long because the broker blocks the connection; it is done once that reads
    /// again.
    fn held_up(&mut self, error: &Error, now: Instant) {
        answer_all(self.closers.drain(..), &Err(error.clone()));
        if self.state.is_opening() {
            let channel = self.number();
            self.report(SupervisorMessage::ChannelOpened { channel, result: Err(error.clone()) });
            self.send_close(200, "the application gave up opening the channel", error.clone(), now);
        }
    }
}
