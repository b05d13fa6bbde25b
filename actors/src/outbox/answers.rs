//! What the peer makes a channel write: replies to its methods, and the outcomes of its deliveries.
//!
//! A peer that never reads them would have them pile up. The connection adds up what waits on its channels, and
//! gives the peer up when that is too much: see `connection/unread_answers.rs`.

use bytes::Bytes;

use super::{Outbox, OutboxState, acks::Acks, queue::FrameQueue};
use crate::error::Result;

/// What a settled delivery costs until its frame is rendered.
const SETTLED_COST: usize = 24;
/// Settled deliveries become frames at the latest when there are so many of them, since one frame may stand for
/// all.
const RENDER_AT: usize = 8 * 1024;

impl Outbox {
    /// Appends the reply to a method of the peer.
    ///
    /// # Errors
    /// The error that closed it.
    pub(crate) fn answer(&self, frame: Bytes) -> Result<()> {
        self.append_method(frame, FrameQueue::answer)
    }

    /// Returns the memory of what the peer has caused and the connection has not taken.
    pub(crate) fn waiting_answers(&self) -> usize {
        let state = self.lock();
        let queued = state.attachment.queued().map_or(0, FrameQueue::answers);
        state.queue.answers() + queued + state.acks.settled() * SETTLED_COST
    }
}

impl OutboxState {
    /// Renders acks before they are too many.
    #[inline]
    pub(super) fn render_many_acks(&mut self, channel: u16) {
        if self.acks.settled() >= RENDER_AT {
            self.acks_appended(channel);
        }
    }
}

impl Acks {
    /// Returns how many deliveries are settled and not rendered.
    #[inline]
    fn settled(&self) -> usize {
        self.acked.len() + self.refused.len()
    }
}
