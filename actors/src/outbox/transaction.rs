//! Transactions and `basic.recover`: methods that change the meaning of earlier acks. They are appended
//! together with these acks, under one lock.

use bytes::Bytes;

use super::{Outbox, OutboxState};
use crate::error::Result;

impl Outbox {
    /// Appends `tx.select`. Settled tags are remembered until they are committed.
    pub(crate) fn select_tx(&self, frame: Bytes) -> Result<()> {
        self.append(|state, channel| {
            state.append_after_acks(channel, frame);
            state.acks.begin_transaction();
        })
    }

    /// Appends `tx.commit` behind everything that it commits.
    pub(crate) fn commit_tx(&self, frame: Bytes) -> Result<()> {
        self.append(|state, channel| {
            state.append_after_acks(channel, frame);
            state.acks.take_uncommitted();
        })
    }

    /// Appends `tx.rollback`. It undoes acks of deliveries that the application does not hold any more, so
    /// these are requeued, followed by `tx.commit`. Returns how many there are; without any, `tx.commit` is
    /// not appended.
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
            requeued
        })
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
        self.queue.acks(channel, &mut self.acks);
        self.queue.method(frame);
    }
}
