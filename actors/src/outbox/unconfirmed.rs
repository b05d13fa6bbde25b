//! Content that was written and is not confirmed, in the batches in which it was written.
//!
//! A batch is dropped when all of its publishes are resolved. No exchange or routing key is kept per publish:
//! the rare reader of a single publish parses the frames, see [`written_publish`](super::written_publish).

use std::{cell::Cell, collections::VecDeque};

use bytes::Bytes;

#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    batches: VecDeque<WrittenBatch>,
    /// How many batches were dropped: the number of the first one that is left.
    dropped: u64,
    /// Where the search for the next returned publish begins.
    pub(super) next_return: Option<ReadPosition>,
    /// Behind the publish that was found last.
    pub(super) found: Cell<Option<ReadPosition>>,
}

/// A place between two publishes. It stays valid while batches are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadPosition {
    /// The number of the batch.
    pub(super) batch: u64,
    pub(super) at: usize,
    /// The sequence number of the next publish.
    pub(super) sequence: u64,
}

impl ReadPosition {
    pub(super) fn start_of(batch: u64, first: u64) -> Self {
        Self { batch, at: 0, sequence: first }
    }
}

/// The publishes of which bytes hold the whole or a part. Sequence numbers are consecutive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PublishRange {
    pub(super) first: u64,
    pub(super) last: u64,
    /// How many begin here.
    pub(super) messages: usize,
    /// What those cost in the window.
    pub(super) cost: usize,
}

impl PublishRange {
    /// Returns the range of bytes that continue a publish of an earlier batch.
    #[inline]
    pub(super) fn rest_of(sequence: u64) -> Self {
        Self { first: sequence, last: sequence, messages: 0, cost: 0 }
    }

    #[inline]
    pub(super) fn add(&mut self, sequence: u64, cost: usize) {
        if self.messages == 0 {
            self.first = sequence;
        }
        self.last = sequence;
        self.messages += 1;
        self.cost += cost;
    }
}

#[derive(Debug)]
pub(super) struct WrittenBatch {
    pub(super) bytes: Bytes,
    pub(super) range: PublishRange,
}

impl Unconfirmed {
    #[inline]
    pub(super) fn push(&mut self, bytes: Bytes, range: PublishRange) {
        self.batches.push_back(WrittenBatch { bytes, range });
    }

    /// Returns the last position that is not behind `sequence`, at the beginning of a batch or at what was
    /// found last.
    pub(super) fn position_before(&self, sequence: u64) -> Option<ReadPosition> {
        let found =
            self.found.get().filter(|found| found.batch >= self.dropped && found.sequence <= sequence);
        let mut position = found.or_else(|| self.front())?;
        for number in position.batch + 1.. {
            let Some(batch) = self.batch(number) else { break };
            // Others continue a publish.
            if batch.range.messages > 0 {
                if batch.range.first > sequence {
                    break;
                }
                position = ReadPosition::start_of(number, batch.range.first);
            }
        }
        Some(position)
    }

    /// Returns one more than the last publish; 0 without any.
    pub(super) fn end(&self) -> u64 {
        self.batches.back().map_or(0, |batch| batch.range.last + 1)
    }

    /// Removes the batches that lie wholly below `base`; returns what their publishes cost in the window, and
    /// their bytes, to be dropped when the lock is free.
    #[inline]
    pub(super) fn drop_below(&mut self, base: u64) -> (usize, Vec<Bytes>) {
        let (mut cost, mut freed) = (0, Vec::new());
        while self.batches.front().is_some_and(|batch| batch.range.last < base) {
            if let Some(batch) = self.batches.pop_front() {
                cost += batch.range.cost;
                freed.push(batch.bytes);
                self.dropped += 1;
            }
        }
        (cost, freed)
    }

    /// Returns the batch with a number, if it is not dropped and exists.
    pub(super) fn batch(&self, number: u64) -> Option<&WrittenBatch> {
        let index = number.checked_sub(self.dropped)?;
        self.batches.get(index as usize)
    }

    /// Returns the position of the oldest publish.
    pub(super) fn front(&self) -> Option<ReadPosition> {
        self.batches.front().map(|batch| ReadPosition::start_of(self.dropped, batch.range.first))
    }
}
