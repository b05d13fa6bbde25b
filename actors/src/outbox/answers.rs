//! What the traffic of the peer has a channel write: replies to its methods, and the outcomes of its deliveries.
//!
//! A peer that never reads would have them pile up. The connection adds up what waits on its channels, and
//! gives the peer up when that is too much: see `connection/unread_answers.rs`.

use std::ops::{AddAssign, SubAssign};

use bytes::Bytes;

use super::{Outbox, OutboxState, ack_frames::ACK_LEN, acks::Acks, queue::FrameQueue};
use crate::error::Result;

/// What a delivery that the application has settled costs until its frame is rendered.
const SETTLED_COST: usize = 24;
/// Settled deliveries become frames at the latest when there are so many of them, since one frame may stand for
/// all.
const RENDER_AT: usize = 8 * 1024;

/// The memory of what waits to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WaitingAnswers {
    /// Replies to methods of the peer, and returned deliveries that have no consumer.
    pub(crate) caused: usize,
    /// Deliveries that the application has settled.
    pub(crate) settled: usize,
}

impl AddAssign for WaitingAnswers {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.caused += other.caused;
        self.settled += other.settled;
    }
}

impl SubAssign for WaitingAnswers {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        self.caused -= other.caused;
        self.settled -= other.settled;
    }
}

impl Outbox {
    /// Appends the reply to a method of the peer.
    ///
    /// # Errors
    /// The error that closed it.
    pub(crate) fn answer(&self, frame: Bytes) -> Result<()> {
        self.append_method(frame, FrameQueue::answer)
    }

    /// Returns the memory of answers that the connection has not taken.
    pub(crate) fn waiting_answers(&self) -> WaitingAnswers {
        let state = self.lock();
        let mut waiting = state.acks.waiting();
        waiting += state.queue.answers();
        waiting += state.attachment.queued().map(FrameQueue::answers).unwrap_or_default();
        waiting
    }
}

impl OutboxState {
    /// Renders acks before they are too many.
    #[inline]
    pub(super) fn render_many_acks(&mut self, channel: u16) {
        if self.acks.settled() + self.acks.returned.len() >= RENDER_AT {
            self.acks_appended(channel);
        }
    }
}

impl Acks {
    /// Returns how many deliveries the application has settled that are not rendered.
    #[inline]
    fn settled(&self) -> usize {
        self.acked.len() + self.refused.len()
    }

    fn waiting(&self) -> WaitingAnswers {
        WaitingAnswers { caused: self.returned.len() * ACK_LEN, settled: self.settled() * SETTLED_COST }
    }
}
