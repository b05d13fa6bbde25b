//! Channels that are closed while their connection goes on: by the broker, or because it does not reply. One
//! that recovers is reopened on the same connection.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    ChannelMachine, Number, PendingReply,
    replies::{FailedCall, FailedConsume},
    state::AfterClose,
};
use crate::{
    error::{CloseReason, Error},
    message::{ConsumerEnd, methods},
    wire::{Fault, channel},
};

/// The most closes within [`WITHIN`] after which a channel still reopens.
const MOST: usize = 5;
const WITHIN: Duration = Duration::from_secs(10);

/// The times of recent closes by the broker. A channel that is closed too often is given up.
#[derive(Debug, Default)]
pub(super) struct CloseHistory(VecDeque<Instant>);

impl CloseHistory {
    /// Notes a close by the broker; returns whether the channel may reopen.
    pub(super) fn closed(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) > WITHIN) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() <= MOST
    }
}

impl ChannelMachine {
    /// The broker has closed the channel.
    pub(super) fn closed_by_broker(&mut self, close: channel::Close, now: Instant) {
        let cause = (close.class_id, close.method_id);
        let text = close.reply_text.to_string();
        let reason = CloseReason::new(close.reply_code, text, close.class_id, close.method_id);
        log::debug!("channel {}: closed by the broker, {reason}", self.number());
        let FailedCall { entity, consume } = self.replies.fail_refused(cause, &reason);
        let entity = entity.or_else(|| reason.entity().map(str::to_owned));
        let reopens = self.may_reopen(&reason, consume.as_ref(), now);
        let error = Error::channel_closed("the broker closed the channel", Some(reason));
        let error = match entity {
            Some(entity) => error.on(entity),
            None => error,
        };
        match self.frame(&methods::channel_close_ok()) {
            Ok(close_ok) if reopens => self.reopen(error, close_ok, consume, now),
            close_ok => self.end(error, close_ok.ok(), Number::Free),
        }
    }

    /// Returns whether the channel reopens after the broker's close.
    fn may_reopen(&mut self, reason: &CloseReason, consume: Option<&FailedConsume>, now: Instant) -> bool {
        // Terminates: each attempt drops one consumer.
        let drops_one = matches!(
            consume,
            Some(FailedConsume::Restarted(..) | FailedConsume::Needed(..) | FailedConsume::Unwanted(_))
        );
        let may = if self.state.awaits_recovery() && drops_one {
            true
        } else if self.state.is_open_or_reopened() {
            let may = self.closes.closed(now);
            if !may {
                log::error!("channel {}: closed {MOST} times, given up: {reason}", self.number());
            }
            may
        } else {
            false
        };
        may && self.can_reopen()
    }

    pub(super) fn can_reopen(&self) -> bool {
        self.recovers && !self.transaction.selected() && !self.drain_requested
    }

    /// Reopens the channel behind the reply to the broker's close.
    fn reopen(&mut self, cause: Error, close_ok: Bytes, consume: Option<FailedConsume>, now: Instant) {
        log::warn!("channel {}: reopened: {cause}", self.number());
        let mut skipped = self.state.take_skipped();
        self.channel_epoch = self.outbox.reopen(&cause, close_ok);
        self.reset_for_new_connection(&cause);
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
        for (consumer, _) in &skipped {
            if let Some(entry) = self.consumers.by_id(*consumer) {
                entry.phase.suspend();
            }
        }
        self.state.reopen(cause, skipped);
        self.send_recovery(now);
    }

    /// Sends `channel.close` in order to reopen the channel. Returns `false` if the channel cannot reopen
    /// now.
    pub(super) fn close_and_reopen(&mut self, code: u16, text: &str, cause: Error, now: Instant) -> bool {
        if !self.can_reopen() || !self.state.is_open_or_reopened() {
            return false;
        }
        let close = methods::channel_close(code, text);
        let Ok(frame) = self.frame(&close) else { return false };
        self.channel_epoch = self.outbox.reopen(&cause, frame);
        self.reset_for_new_connection(&cause);
        self.state.close_to_reopen_sent(cause);
        self.replies.expect(&close, None, None, PendingReply::Close, now);
        true
    }

    /// The reply to `channel.close` has come.
    pub(super) fn close_answered(&mut self, now: Instant) -> Result<(), Fault> {
        match self.state.after_close() {
            Some(AfterClose::Reopen) => {
                self.replies.fail_all(&self.state.cause());
                self.recover(now);
                Ok(())
            }
            Some(AfterClose::End) => {
                self.end(Error::channel_closed("the channel is closed", None), None, Number::Free);
                Ok(())
            }
            None => Err(Fault::command("channel.close-ok without channel.close").with_method(20, 41)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_close_too_many_within_the_time_gives_the_channel_up() {
        let (mut history, start) = (CloseHistory::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!((0..5).all(|n| history.closed(start + n * second)));
        assert!(!history.closed(start + 5 * second));
    }

    #[test]
    fn old_closes_do_not_count() {
        let (mut history, start) = (CloseHistory::default(), Instant::now());
        assert!((0..50).all(|n| history.closed(start + n * Duration::from_secs(3))));
    }
}
