//! What a channel loses with its connection or when the broker closes it, and what it keeps.

use super::{ChannelMachine, Number, state::Loss};
use crate::{
    error::{CloseReason, Error},
    internal::{Removal, SupervisorMessage},
    message::ConsumerEnd,
    outbox::{FinalFrames, Outage},
    wire::Fault,
};

impl ChannelMachine {
    /// The broker's frames break the protocol; the connection must be closed.
    pub(super) fn fault(&mut self, fault: Fault) {
        let epoch = self.epoch();
        let fault = fault.on_channel(self.number());
        self.report(SupervisorMessage::ProtocolFault { epoch, fault: fault.clone() });
        let error = fault.into();
        if self.recovers {
            self.connection_lost(&error);
        } else {
            self.end(Error::connection_lost(&error), FinalFrames::None, Number::InUse);
        }
    }

    /// The connection is lost, and another one comes.
    pub(super) fn connection_lost(&mut self, error: &Error) {
        let cause = Error::connection_lost(error);
        match self.state.loss() {
            Loss::Ignored => return,
            Loss::OpensLater => {
                let outage = Outage { error: &cause, fail: false, hard_error: false };
                self.channel_epoch = self.outbox.detach(&outage);
                self.replies.fail_all(&cause);
                self.connection = None;
                return;
            }
            Loss::Ends => return self.end(cause, FinalFrames::None, Number::Free),
            Loss::Recovers => {}
        }
        if self.transaction.selected() {
            let reason = cause.close_reason().cloned();
            return self.end(Error::transaction_lost(reason), FinalFrames::None, Number::Free);
        }
        self.note_consumers_at_fault(error);
        // A publish that made the broker close the connection with a hard error would do so again when it is
        // resent.
        let hard_error = error.close_reason().is_some_and(may_be_caused_by_publish);
        let outage = Outage { error: &cause, fail: self.fails_in_outage, hard_error };
        self.channel_epoch = self.outbox.detach(&outage);
        self.reset_for_new_connection(&cause);
        for tag in self.consumers.connection_lost(&ConsumerEnd::Closed(cause.clone())) {
            self.forget(Removal::LostConsumer { channel: self.number(), tag });
        }
        self.state.detach(cause);
        // Frames of this connection that are still to come are dropped.
        self.connection = None;
    }

    /// There is still no connection.
    pub(super) fn connect_failed(&mut self, error: &Error) {
        let cause = Error::connection_lost(error);
        self.outbox.connect_failed(cause.clone());
        self.state.connect_failed(cause);
    }

    /// Resets what the broker forgets when a channel is closed, and fails calls without a reply.
    pub(super) fn reset_for_new_connection(&mut self, cause: &Error) {
        for (tag, cancelled) in self.replies.unanswered_consumers() {
            let is_other = |id| cancelled.is_some_and(|cancelled| cancelled != id);
            if self.consumers.get(&tag).is_some_and(|entry| entry.phase.is_freeing() || is_other(entry.id()))
            {
                continue;
            }
            if let Some(entry) = self.consumers.remove(&tag) {
                self.forget_consumer(&entry);
                let end = match entry.phase.end() {
                    Some(end) => end.clone(),
                    None if cancelled.is_some() => ConsumerEnd::Cancelled,
                    None => ConsumerEnd::Closed(cause.clone()),
                };
                entry.end(end);
            }
        }
        self.lost.end_starting();
        self.replies.fail_all(cause);
        self.report_changes();
        self.inbox.reset();
        if let Some(connection) = &self.connection {
            connection.share.forget_unsettled();
        }
        self.basic_recovers = 0;
        self.prefetch.reset();
        self.consumers.discard();
        self.consumers.channel_closed();
        // No repair was requested for skipped consumers yet, so they start with the channel.
        for (consumer, _) in self.state.take_skipped() {
            if let Some(entry) = self.consumers.by_id(consumer) {
                entry.phase.repaired();
            }
        }
    }
}

/// Returns whether a publish may have made the broker close the connection: the reason names another method
/// where that one did.
fn may_be_caused_by_publish(reason: &CloseReason) -> bool {
    reason.code >= 500 && matches!(reason.method, "" | "basic.publish")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hard_errors_of_a_publish_or_of_no_method_count_against_publishes() {
        let counts = |code, class_id, method_id| {
            may_be_caused_by_publish(&CloseReason::new(code, "text", class_id, method_id))
        };
        assert!(counts(501, 60, 40) && counts(541, 60, 40) && counts(541, 0, 0));
        assert!(!counts(541, 50, 10) && !counts(540, 60, 20) && !counts(530, 20, 10) && !counts(503, 99, 9));
        assert!(!counts(320, 0, 0) && !counts(404, 60, 40));
    }
}
