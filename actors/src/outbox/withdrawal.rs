//! Publishes that are withdrawn before a connection has taken them: their deadline has passed.
//!
//! A withdrawn publish has its outcome at once. Its bytes are removed when the connection takes what is
//! queued, or skipped when the channel recovers. It keeps its sequence number, which the broker never
//! counts: see [`Tags`].

use std::{
    collections::{BTreeSet, HashMap},
    task::Waker,
};

use super::{
    confirms::Confirms,
    outcome_error::Cause,
    queue::{ChunkKind, FrameQueue},
    unconfirmed::Unconfirmed,
};

/// Which sequence number has a delivery tag of the broker, which counts publishes from 1 whenever the channel
/// is opened.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// What to add to a delivery tag behind those of `resent`.
    offset: u64,
    /// The publishes that were sent again when the channel was opened, in the order of their delivery tags.
    resent: Vec<u64>,
    /// Publishes behind those that are never sent.
    holes: BTreeSet<u64>,
}

impl Tags {
    /// The channel is open again, and sends the `resent` publishes first; the next new one is `end`.
    pub(super) fn restart(&mut self, resent: Vec<u64>, end: u64) {
        *self = Self { offset: end - 1 - resent.len() as u64, resent, holes: BTreeSet::new() };
    }

    /// Returns the sequence number that belongs to a delivery tag.
    #[inline]
    pub(super) fn sequence(&self, tag: u64) -> u64 {
        let at = tag.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        match at.and_then(|at| self.resent.get(at)) {
            Some(&sequence) => sequence,
            None if self.holes.is_empty() => tag.saturating_add(self.offset),
            None => self.behind_holes(tag.saturating_add(self.offset)),
        }
    }

    #[cold]
    fn behind_holes(&self, mut sequence: u64) -> u64 {
        for hole in &self.holes {
            if *hole > sequence {
                break;
            }
            sequence = sequence.saturating_add(1);
        }
        sequence
    }

    /// A publish that is not written yet is never sent.
    fn skip(&mut self, sequence: u64) {
        match self.resent.iter().position(|resent| *resent == sequence) {
            Some(at) => {
                self.resent.remove(at);
                self.offset += 1;
            }
            None => {
                self.holes.insert(sequence);
            }
        }
    }

    /// All publishes below have an outcome.
    #[inline]
    pub(super) fn resolved_below(&mut self, base: u64) {
        while self.holes.first().is_some_and(|hole| *hole < base) {
            self.holes.pop_first();
            self.offset += 1;
        }
    }
}

impl Confirms {
    /// Resolves a publish that no connection has taken, and sends it never.
    pub(super) fn withdraw(&mut self, sequence: u64, cause: &mut Cause, wakers: &mut Vec<Waker>) {
        self.fail(sequence, cause, wakers);
        self.withdrawn.insert(sequence);
    }

    /// Removes withdrawn publishes from what the connection takes next. Returns what to drop when the lock is
    /// free, and what they cost in the window.
    #[cold]
    pub(super) fn remove_withdrawn(
        &mut self,
        queue: &mut FrameQueue,
        channel: u16,
        frame_max: usize,
    ) -> (Box<FrameQueue>, usize) {
        let (old, removed, cost) = queue.without(channel, frame_max, &self.withdrawn);
        for sequence in removed {
            self.withdrawn.remove(&sequence);
            self.tags.skip(sequence);
        }
        self.tags.resolved_below(self.base);
        (Box::new(old), cost)
    }
}

impl FrameQueue {
    /// Removes publishes. Returns what the queue was, which of them it had, and their cost in the window.
    fn without(
        &mut self,
        channel: u16,
        frame_max: usize,
        withdrawn: &BTreeSet<u64>,
    ) -> (Self, Vec<u64>, usize) {
        let mut old = self.abandon();
        old.close_chunk(ChunkKind::Content);
        let (mut removed, mut removed_cost) = (Vec::new(), 0);
        let mut content = Unconfirmed::default();
        let mut write = |queue: &mut Self, content: &mut Unconfirmed| {
            std::mem::take(content).for_each(|publish| {
                if withdrawn.contains(&publish.sequence) {
                    removed.push(publish.sequence);
                    removed_cost += publish.cost();
                } else {
                    queue.publish_again(channel, frame_max, &publish, &HashMap::new());
                }
            });
            queue.close_chunk(ChunkKind::Content);
        };
        for chunk in &old.chunks {
            if chunk.kind == ChunkKind::Content {
                content.push(chunk.bytes.clone(), chunk.range);
            } else {
                write(self, &mut content);
                self.push(chunk.clone());
            }
        }
        write(self, &mut content);
        (old, removed, removed_cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(tags: &Tags, last: u64) -> Vec<u64> {
        (1..=last).map(|tag| tags.sequence(tag)).collect()
    }

    #[test]
    fn the_broker_does_not_count_what_is_never_sent() {
        let mut tags = Tags::default();
        tags.skip(4);
        tags.skip(2);
        tags.skip(3);
        assert_eq!(sequences(&tags, 4), [1, 5, 6, 7]);
        tags.resolved_below(4);
        assert_eq!(tags.sequence(2), 5);
        assert_eq!(tags.holes.len(), 1);
        tags.resolved_below(5);
        assert_eq!(tags.sequence(2), 5);
        assert!(tags.holes.is_empty());
    }

    #[test]
    fn what_is_sent_again_may_be_skipped_too() {
        let mut tags = Tags::default();
        tags.restart(vec![3, 5, 8], 10);
        tags.skip(5);
        tags.skip(11);
        assert_eq!(sequences(&tags, 5), [3, 8, 10, 12, 13]);
        tags.resolved_below(12);
        assert_eq!(tags.sequence(4), 12);
    }
}
