//! Transactions and `basic.recover`: methods that change the meaning of earlier acks. They are appended
//! together with these acks, under one lock.
//!
//! From `tx.commit` or `tx.rollback` until its reply, nothing of the channel is written but `channel.close`:
//! publishes and methods wait in [`PublishMode::Committing`], acks where they are marked. The publish window and
//! the prefetch bound both. When the channel closes they are dropped, as the broker would roll them back.

use bytes::Bytes;

use super::{
    Outbox, OutboxState,
    attachment::{Attachment, PublishMode},
    queue::FrameQueue,
};
use crate::error::Result;

/// Why something waited for too long behind a commit.
pub(crate) const WITHOUT_REPLY: &str = "the commit or rollback before it has no reply";

impl Outbox {
    /// Appends `tx.select`. Settled tags are remembered until they are committed.
    pub(crate) fn select_tx(&self, frame: Bytes) -> Result<()> {
        self.append(|state, channel| {
            state.append_after_acks(channel, frame);
            state.acks.begin_transaction();
        })
    }

    /// Appends `tx.commit` behind everything that it commits. What follows waits for
    /// [`transaction_answered`](Self::transaction_answered).
    pub(crate) fn commit_tx(&self, frame: Bytes) -> Result<()> {
        self.append(|state, channel| {
            state.append_after_acks(channel, frame);
            state.acks.take_uncommitted();
            state.attachment.begin_commit();
        })
    }

    /// Appends `tx.rollback`. It undoes acks of deliveries that the application does not hold any more, so
    /// these are requeued, followed by `tx.commit`. Returns how many there are; without any, `tx.commit` is
    /// not appended. What follows waits for [`transaction_answered`](Self::transaction_answered).
    pub(crate) fn rollback_tx(&self, rollback: Bytes, commit: Bytes) -> Result<u64> {
        self.append(|state, channel| {
            state.append_after_acks(channel, rollback);
            let undone = state.acks.take_uncommitted();
            let requeued = undone.iter().map(|tags| tags.end() - tags.start() + 1).sum();
            state.acks.outcomes.requeued += requeued;
            if requeued > 0 {
                state.queue.requeue(channel, undone);
                state.queue.method(commit);
            }
            state.attachment.begin_commit();
            requeued
        })
    }

    /// The last reply to a commit or rollback has come: what waited for it is written.
    pub(crate) fn transaction_answered(&self) {
        self.with(|state, effects| {
            let Attachment::Attached { flusher, publishes } = &mut state.attachment else { return };
            let PublishMode::Committing { queued } = publishes else { return };
            let queued = std::mem::take(queued);
            *publishes = PublishMode::Writing { nack_retry_until: None };
            flusher.requested = false;
            state.queue.append(queued);
            if !state.queue.is_empty() || state.acks.is_dirty() {
                state.request_flush(self.config.channel, effects);
            }
        });
    }

    /// Appends `basic.recover` behind all acks. Outstanding deliveries become stale: returns the new channel
    /// epoch. The broker's tags count on.
    pub(crate) fn basic_recover(&self, frame: Bytes) -> Result<u32> {
        self.append(|state, channel| {
            state.append_after_acks(channel, frame);
            state.acks.forget_all();
            state.channel_epoch += 1;
            state.channel_epoch
        })
    }

    fn append<T>(&self, append: impl FnOnce(&mut OutboxState, u16) -> T) -> Result<T> {
        self.with(|state, effects| {
            if let Some(error) = state.attachment.closed() {
                return Err(error.clone());
            }
            let result = append(state, self.config.channel);
            state.request_flush(self.config.channel, effects);
            Ok(result)
        })
    }
}

impl OutboxState {
    fn append_after_acks(&mut self, channel: u16, frame: Bytes) {
        self.acks_appended(channel).method(frame);
    }

    /// Appends acks, and returns the queue to which methods are appended. Behind a commit, both wait for its reply.
    pub(super) fn acks_appended(&mut self, channel: u16) -> &mut FrameQueue {
        let queue = match &mut self.attachment {
            Attachment::Attached { publishes: PublishMode::Committing { queued }, .. } => queued,
            _ => &mut self.queue,
        };
        queue.acks(channel, &mut self.acks);
        queue
    }
}

impl Attachment {
    /// Returns whether a commit or rollback has no reply yet.
    pub(super) fn awaits_commit(&self) -> bool {
        matches!(self, Self::Attached { publishes, .. } if publishes.awaits_commit())
    }

    /// A commit or rollback is appended.
    fn begin_commit(&mut self) {
        if let Self::Attached { publishes, .. } = self
            && matches!(publishes, PublishMode::Writing { .. })
        {
            *publishes = PublishMode::Committing { queued: FrameQueue::default() };
        }
    }
}

impl PublishMode {
    #[inline]
    pub(super) fn awaits_commit(&self) -> bool {
        matches!(self, Self::Committing { .. })
    }
}
