//! The request to the connection to take bytes, and taking them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Outbox, OutboxState, attachment::Attachment, effects::DeferredEffects};
use crate::transport::IoClock;

impl Outbox {
    /// Moves at most about `budget` bytes to `out` for connection `epoch`; returns whether there is more.
    ///
    /// Once the queue is empty, the next write requests a flush again.
    pub(crate) fn take(&self, epoch: u64, budget: usize, out: &mut Vec<Bytes>) -> bool {
        let config = &self.config;
        let (more, _dropped) = self.with(|state, effects| {
            let OutboxState { attachment, queue, acks, unconfirmed, confirms, window, ticker, .. } = state;
            // A closed channel resends nothing.
            let (flusher, keep, committing) = match attachment {
                Attachment::Attached { flusher, publishes } => {
                    (flusher, config.confirms, publishes.awaits_commit())
                }
                Attachment::Closed { flusher: Some(flusher), .. } => (flusher, false, false),
                Attachment::Closed { flusher: None, .. } | Attachment::Detached { .. } => {
                    return (false, None);
                }
            };
            if flusher.epoch != epoch {
                return (false, None);
            }
            let dropped = if confirms.withdrawn.is_empty() {
                None
            } else {
                let (old, cost) = confirms.remove_withdrawn(queue, config.channel, state.frame_max);
                window.set(confirms.unconfirmed(), cost, &mut effects.wakers);
                Some(old)
            };
            if !committing {
                queue.acks(config.channel, acks);
            }
            let moved = queue.take(budget, keep.then_some(unconfirmed), out);
            confirms.taken.below(moved.end);
            let more = !queue.is_empty();
            if !config.confirms && moved.messages > 0 {
                window.written(moved.messages, moved.cost, &mut effects.wakers);
            }
            // Until a commit has its reply there is nothing more to take, so none is asked for.
            flusher.requested = more || committing;
            if !more && acks.outstanding() == 0 {
                ticker.idle(effects);
            }
            (more, dropped)
        });
        more
    }
}

impl Outbox {
    /// Sets the clock of the connection that takes the bytes from now on.
    pub(crate) fn watch_io_loop(&self, io_clock: Arc<IoClock>) {
        let _old = self.with(|state, _| state.io_clock.replace(io_clock));
    }
}

impl OutboxState {
    /// Returns whether the connection has not run for so long that the broker has closed it, because the
    /// thread of both was blocked. The clock is read only where a flush would be requested.
    #[inline]
    pub(super) fn stands_still(&mut self) -> bool {
        let Attachment::Attached { flusher, .. } = &mut self.attachment else { return false };
        if flusher.requested && !flusher.stands_still {
            return false;
        }
        flusher.stands_still = self.io_clock.as_ref().is_some_and(|clock| clock.stands_still(Instant::now()));
        flusher.stands_still
    }

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
