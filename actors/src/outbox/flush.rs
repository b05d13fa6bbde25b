//! The request to the connection to take bytes, and taking them.

use bytes::Bytes;

use super::{Outbox, OutboxState, attachment::Attachment, effects::DeferredEffects};

impl Outbox {
    /// Moves at most about `budget` bytes to `out` for connection `epoch`; returns whether there is more.
    ///
    /// Once the queue is empty, the next write requests a flush again.
    pub(crate) fn take(&self, epoch: u64, budget: usize, out: &mut Vec<Bytes>) -> bool {
        let config = &self.config;
        self.with(|state, effects| {
            let OutboxState { attachment, queue, acks, unconfirmed, confirms, window, ticker, .. } = state;
            // A closed channel resends nothing.
            let (flusher, keep) = match attachment {
                Attachment::Attached { flusher, .. } => (flusher, config.confirms),
                Attachment::Closed { flusher: Some(flusher), .. } => (flusher, false),
                Attachment::Closed { flusher: None, .. } | Attachment::Detached { .. } => return false,
            };
            if flusher.epoch != epoch {
                return false;
            }
            queue.acks(config.channel, acks);
            let moved = queue.take(budget, keep.then_some(unconfirmed), out);
            confirms.taken.below(moved.end);
            let more = !queue.is_empty();
            if !config.confirms && moved.messages > 0 {
                window.written(moved.messages, moved.cost, &mut effects.wakers);
            }
            flusher.requested = more;
            if !more && acks.outstanding() == 0 {
                ticker.idle(effects);
            }
            more
        })
    }
}

impl OutboxState {
    /// Asks the connection to take bytes, once until it has taken all of them.
    #[inline]
    pub(super) fn request_flush(&mut self, channel: u16, effects: &mut DeferredEffects) {
        match &mut self.attachment {
            Attachment::Attached { flusher, .. } | Attachment::Closed { flusher: Some(flusher), .. } => {
                flusher.request(channel, effects);
            }
            Attachment::Detached { .. } | Attachment::Closed { flusher: None, .. } => {}
        }
    }
}
