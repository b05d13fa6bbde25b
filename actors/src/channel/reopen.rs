//! Channels that are closed while their connection goes on: by the broker, or because it does not reply. One
//! that recovers is reopened on the same connection, for as long as it is wanted: at once the first time, then
//! after the pauses of `reopen_backoff.rs`.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    ChannelMachine, Number, PendingReply,
    close_state::AfterClose,
    closing::Ending,
    output::Output,
    reopen_backoff::MAX_PAUSE,
    replies::{FailedCall, FailedConsume},
};
use crate::{
    error::{CloseReason, Error},
    internal::SupervisorMessage,
    message::{ConsumerEnd, EntityKind, methods},
    outbox::{ChannelClose, CloseFault, FinalFrames, PublishRefusal},
    wire::{Fault, channel},
};

const PUBLISH: (u16, u16) = (60, 40);

/// When a channel is reopened.
#[derive(Clone, Copy, Debug)]
struct Pause {
    after: Duration,
    /// What the broker refused does not close the channel again.
    is_taken_out: bool,
}

/// What the broker refused when it closed the channel.
#[derive(Debug)]
struct RefusedByBroker {
    publish: PublishRefusal,
    /// The long names of the call.
    names: Vec<(EntityKind, String)>,
}

impl ChannelMachine {
    /// The broker has closed the channel.
    pub(super) fn closed_by_broker(&mut self, close: channel::Close, now: Instant) {
        let ids = (close.class_id, close.method_id);
        let text = close.reply_text.to_string();
        let reason = CloseReason::new(close.reply_code, text, close.class_id, close.method_id);
        log::debug!("channel {}: closed by the broker, {reason}", self.number());
        let FailedCall { entity, consume, names, is_taken_out } = self.replies.fail_refused(ids, &reason);
        let publish = if ids == PUBLISH { self.outbox.refusal(&reason) } else { PublishRefusal::default() };
        self.held_calls.closed(is_taken_out);
        let is_taken_out = is_taken_out || publish.is_taken_out;
        let entity =
            entity.or_else(|| reason.entity().map(str::to_owned)).or_else(|| publish.missing.clone());
        let pause = self.pause_before_reopening(consume.as_ref(), is_taken_out, now);
        let error = Error::channel_closed("the broker closed the channel", Some(reason.clone()));
        let error = match entity {
            Some(entity) => error.on(entity),
            None => error,
        };
        // The repair of a consumer declares its queue.
        if !matches!(consume, Some(FailedConsume::Restarted(..) | FailedConsume::Needed(..))) {
            self.report_gone(RefusedByBroker { publish, names }, &reason, &error, now);
        }
        let fault = match ids {
            PUBLISH => CloseFault::Publish(&error),
            (0, _) => CloseFault::Unknown,
            _ => CloseFault::Elsewhere,
        };
        match (self.frame(&methods::channel_close_ok()), pause) {
            (Ok(close_ok), Some(after)) => {
                let pause = Pause { after, is_taken_out };
                self.reopen(&error, fault, close_ok, consume, pause, now);
            }
            (close_ok, _) => {
                let frames = close_ok.map_or(FinalFrames::None, FinalFrames::Only);
                let (others, cause, number) = (&Error::closed_meanwhile(&error), &error, Number::Free);
                self.end_as(Ending { error: error.clone(), others, cause, fault, frames, number });
            }
        }
    }

    /// Returns after which pause the channel is reopened, if it is.
    fn pause_before_reopening(
        &mut self,
        consume: Option<&FailedConsume>,
        is_taken_out: bool,
        now: Instant,
    ) -> Option<Duration> {
        if !self.can_reopen() || !self.state.is_open_or_reopened() {
            return None;
        }
        // Each attempt drops one consumer, so they end.
        let drops_one = matches!(
            consume,
            Some(FailedConsume::Restarted(..) | FailedConsume::Needed(..) | FailedConsume::Unwanted(_))
        );
        Some(if self.state.awaits_recovery() && drops_one {
            Duration::ZERO
        } else {
            self.backoff.closed(is_taken_out, now)
        })
    }

    pub(super) fn can_reopen(&self) -> bool {
        self.recovers && !self.transaction.selected() && !self.drain_requested
    }

    /// Reopens the channel behind the reply to the broker's close, after a pause.
    fn reopen(
        &mut self,
        cause: &Error,
        fault: CloseFault<'_>,
        close_ok: Bytes,
        consume: Option<FailedConsume>,
        pause: Pause,
        now: Instant,
    ) {
        let channel = self.number();
        let Pause { after: pause, is_taken_out } = pause;
        // What goes on for long is not repeated.
        let goes_on = pause >= MAX_PAUSE || (is_taken_out && !pause.is_zero());
        let level = if goes_on { log::Level::Debug } else { log::Level::Warn };
        log::log!(level, "channel {channel}: is reopened{}: {cause}", after(pause));
        let mut skipped = self.state.take_skipped();
        let others = Error::closed_meanwhile(cause);
        let fail = self.fails_in_outage && !pause.is_zero() && !is_taken_out;
        self.channel_epoch = self.outbox.reopen(&ChannelClose { error: &others, fault, fail }, close_ok);
        self.reset_for_new_connection(&others);
        match consume {
            Some(FailedConsume::Restarted(consumer, error)) => {
                // A missing queue closes the channel once, and not once for each of its consumers.
                let missing = error.close_reason().is_some_and(|reason| reason.code == 404);
                let others = if missing { self.consumers.restarting_beside(consumer) } else { Vec::new() };
                skipped.extend(others.into_iter().map(|other| (other, error.clone())));
                skipped.push((consumer, error));
            }
            Some(FailedConsume::Needed(consumer, error)) => {
                let others = self.consumers.restarting_beside(consumer);
                skipped.extend(others.into_iter().map(|other| (other, error.clone())));
                skipped.push((consumer, error));
            }
            Some(FailedConsume::New(tag, error)) => {
                if let Some(entry) = self.consumers.remove(&tag) {
                    entry.end(ConsumerEnd::Closed(error));
                }
            }
            Some(FailedConsume::Unwanted(tag)) => {
                if let Some(entry) = self.consumers.remove(&tag) {
                    self.forget_consumer(&entry);
                    let end = entry.phase.end().cloned().unwrap_or(ConsumerEnd::Cancelled);
                    entry.end(end);
                }
            }
            None => {}
        }
        self.suspend(&skipped);
        // A short pause, which repeats as long as publishes are wrong, is not a change of health.
        let is_missing = !is_taken_out || self.state.awaits_recovery();
        if pause.is_zero() {
            self.state.reopen(cause.clone(), skipped);
            return self.send_recovery(now);
        }
        let until = now + pause;
        self.state.back_off(until, cause.clone(), skipped);
        if is_missing {
            self.report_backing_off(cause, Some(until));
        }
        self.reopen_later(pause, now);
    }

    fn suspend(&mut self, skipped: &[(u32, Error)]) {
        for (consumer, _) in skipped {
            if let Some(entry) = self.consumers.by_id(*consumer) {
                entry.phase.suspend();
            }
        }
    }

    /// Reopens a channel whose pause is over.
    pub(super) fn reopen_when_due(&mut self, channel_epoch: u32, now: Instant) {
        if channel_epoch == self.channel_epoch && self.state.reopen_if_due(now) {
            self.send_recovery(now);
        }
    }

    /// Reports the exchange or queue that does not exist, so that it is declared again or looked for.
    /// Publishes to an exchange fail here until it is found, and those that the broker refuses for a while.
    fn report_gone(&mut self, refused: RefusedByBroker, reason: &CloseReason, error: &Error, now: Instant) {
        if !self.recovers {
            return;
        }
        if let Some(place) = refused.publish.place {
            return self.outbox.missing().forbid(place, error.clone(), now);
        }
        let exchange = reason.missing_exchange().or(refused.publish.missing.as_deref());
        let exchange = exchange.map(|name| (EntityKind::Exchange, name));
        let gone = exchange.or_else(|| reason.missing_queue().map(|name| (EntityKind::Queue, name)));
        let cut = || {
            let is_cut =
                |(kind, name): &&(EntityKind, String)| reason.has_cut_missing(&kind.to_string(), name);
            refused.names.iter().find(is_cut).map(|(kind, name)| (*kind, name.as_str()))
        };
        let Some((kind, name)) = gone.or_else(cut) else { return };
        if kind == EntityKind::Exchange {
            self.outbox.missing().insert(name, error.clone(), now);
        }
        self.report(SupervisorMessage::EntityGone { kind, name: name.to_owned(), error: error.clone() });
    }

    /// Reports the missing exchanges to which somebody publishes.
    pub(super) fn report_wanted(&mut self, now: Instant) {
        for (name, error) in self.outbox.missing().take_wanted(now) {
            self.report(SupervisorMessage::EntityGone { kind: EntityKind::Exchange, name, error });
        }
    }

    /// An exchange or queue exists, or may exist: publishes to it go to the broker again.
    pub(super) fn entity_found(&self, kind: EntityKind, name: &str) {
        if kind == EntityKind::Exchange {
            self.outbox.missing().remove(name);
        }
    }

    /// Sends `channel.close` in order to reopen the channel. Returns `false` if the channel cannot reopen
    /// now. A consumer whose start has no reply is not started with the channel: it would hold up the next
    /// opening as well. A channel that had not recovered is missing from now on.
    pub(super) fn close_and_reopen(&mut self, code: u16, text: &str, cause: Error, now: Instant) -> bool {
        if !self.can_reopen() || !self.state.is_open_or_reopened() {
            return false;
        }
        let close = methods::channel_close(code, text);
        let Ok(frame) = self.frame(&close) else { return false };
        let others = Error::closed_meanwhile(&cause);
        let mut skipped = self.state.take_skipped();
        let late = self.replies.late_restarts(now, self.outbox.config().deadline);
        let recovers = self.state.awaits_recovery();
        // Each attempt leaves out one consumer, so they end.
        let pause = match recovers && !late.is_empty() {
            true => Duration::ZERO,
            false => self.backoff.closed(false, now),
        };
        let fail = self.fails_in_outage && !pause.is_zero();
        let end = ChannelClose { error: &others, fault: CloseFault::Elsewhere, fail };
        self.channel_epoch = self.outbox.reopen(&end, frame);
        self.reset_for_new_connection(&others);
        for (consumer, error) in late {
            if skipped.iter().any(|(other, _)| *other == consumer) {
                continue;
            }
            if let Some(entry) = self.consumers.by_id(consumer) {
                let tag = entry.tag().clone();
                log::warn!("channel {}: is reopened without consumer {tag:?}: {error}", self.number());
            }
            let others = self.consumers.restarting_beside(consumer);
            skipped.extend(others.into_iter().map(|other| (other, error.clone())));
            skipped.push((consumer, error));
            self.suspend(&skipped);
        }
        let until = now + pause;
        if recovers || !pause.is_zero() {
            self.report_backing_off(&cause, Some(until));
        }
        self.state.close_to_reopen_sent(cause, skipped, until);
        self.replies.expect(&close, None, None, PendingReply::Close, now);
        true
    }

    /// Reports that the channel is missing: it reopens at this time, or with the next connection.
    fn report_backing_off(&mut self, error: &Error, until: Option<Instant>) {
        let (epoch, channel, error) = (self.epoch(), self.number(), error.clone());
        self.report(SupervisorMessage::ChannelBackingOff { epoch, channel, error, until });
    }

    /// The broker does not reply to the close of a channel that reopens. The channel waits for that, or for the
    /// next connection; returns whether it does.
    pub(super) fn wait_for_close(&mut self, silence: &Error) -> bool {
        if !self.can_reopen() || !self.state.close_is_overdue() {
            return false;
        }
        let what = format!("the channel is opened again with the next connection: {silence}");
        self.report_backing_off(&Error::channel_closed(what, None), None);
        true
    }

    /// The reply to `channel.close` has come.
    pub(super) fn close_answered(&mut self, now: Instant) -> Result<(), Fault> {
        if self.state.take_late_close_ok() {
            return Ok(());
        }
        match self.state.after_close() {
            Some(AfterClose::Reopen) => {
                self.replies.fail_all(&self.state.cause());
                match self.state.wait_to_reopen(now) {
                    Some(pause) => self.reopen_later(pause, now),
                    None => self.recover(now),
                }
                Ok(())
            }
            Some(AfterClose::End) => {
                let closed = Error::channel_closed("the channel is closed", None);
                self.end(closed, FinalFrames::None, Number::Free);
                Ok(())
            }
            None => Err(Fault::command("channel.close-ok without channel.close").with_method(20, 41)),
        }
    }

    fn reopen_later(&mut self, pause: Duration, now: Instant) {
        self.outputs.push(Output::Reopen { channel_epoch: self.channel_epoch, after: pause });
        self.outputs.request_tick();
        self.continue_closing(now);
    }

    /// Both sides have closed the channel, and the reply to the client's close has not come in time. RabbitMQ
    /// may omit it; if it comes, then before the reply to the next `channel.open`.
    pub(super) fn close_not_answered(&mut self, now: Instant) {
        match self.state.after_close() {
            Some(AfterClose::Reopen) => {
                self.replies.fail_all(&self.state.cause());
                self.recover(now);
                self.state.expect_late_close_ok();
            }
            Some(AfterClose::End) | None => {
                let closed = Error::channel_closed("the channel is closed", None);
                self.end(closed, FinalFrames::None, Number::InUse);
            }
        }
    }
}

fn after(pause: Duration) -> String {
    if pause.is_zero() { String::new() } else { format!(" in {pause:?}") }
}
