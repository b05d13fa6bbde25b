//! The timer of deliveries that are requeued later: see `outbox/delayed_requeues.rs`.

use tokio::time::Instant;

use super::{ChannelMachine, output::Output};

impl ChannelMachine {
    /// Requeues what is due, and has the timer set for the next delivery.
    pub(super) fn requeue_due(&mut self, now: Instant) {
        let next = self.outbox.requeue_due(now);
        if next != self.next_requeue {
            self.next_requeue = next;
            if let Some(at) = next {
                self.outputs.push(Output::RequeueAt(at));
            }
        }
    }
}
