//! The position of a consumer in a stream: behind the highest offset up to which everything is settled.
//!
//! A stream keeps its messages, and the broker does not keep the position of a consumer.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::message::Outcome;

#[derive(Debug, Default)]
pub(in crate::channel) struct Offsets(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Delivered and not settled, by delivery tag.
    open: BTreeMap<u64, u64>,
    /// One more than the highest offset delivered.
    end: Option<u64>,
    /// The lowest offset that was requeued: nothing behind it counts as settled.
    requeued: Option<u64>,
}

impl State {
    fn next(&self) -> Option<u64> {
        let oldest = self.open.values().next().copied();
        let next = oldest.into_iter().chain(self.end).min()?;
        Some(self.requeued.map_or(next, |requeued| requeued.min(next)))
    }
}

impl Offsets {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn delivered(&self, tag: u64, offset: u64) {
        let mut state = self.lock();
        state.open.insert(tag, offset);
        state.end = Some(state.end.unwrap_or(0).max(offset.saturating_add(1)));
    }

    pub(super) fn settled(&self, tag: u64, outcome: Outcome) {
        let mut state = self.lock();
        let those = match outcome {
            Outcome::AckAll | Outcome::NackAll { .. } => {
                let later = state.open.split_off(&tag.saturating_add(1));
                std::mem::replace(&mut state.open, later)
            }
            _ => state.open.remove(&tag).map(|offset| BTreeMap::from([(tag, offset)])).unwrap_or_default(),
        };
        let requeued = match outcome {
            Outcome::Nack { requeue } | Outcome::NackAll { requeue } | Outcome::Reject { requeue } => requeue,
            Outcome::NotBegun | Outcome::Failed => true,
            Outcome::Ack | Outcome::AckAll => false,
        };
        if requeued && let Some(&lowest) = those.values().next() {
            state.requeued = Some(state.requeued.map_or(lowest, |requeued| requeued.min(lowest)));
        }
    }

    /// Returns the offset to consume from, once something was delivered.
    pub(super) fn next(&self) -> Option<u64> {
        self.lock().next()
    }

    /// The channel is closed: what is not settled is delivered again.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.end = state.next();
        state.open.clear();
        state.requeued = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_offset_is_behind_what_is_settled_without_a_gap() {
        let offsets = Offsets::default();
        assert_eq!(offsets.next(), None);
        for (tag, offset) in [(1, 10), (2, 11), (3, 12), (4, 13)] {
            offsets.delivered(tag, offset);
        }
        assert_eq!(offsets.next(), Some(10));
        offsets.settled(2, Outcome::Ack);
        assert_eq!(offsets.next(), Some(10), "10 is open");
        offsets.settled(1, Outcome::Reject { requeue: false });
        assert_eq!(offsets.next(), Some(12));
        offsets.settled(4, Outcome::AckAll);
        assert_eq!(offsets.next(), Some(14));
    }

    #[test]
    fn requeued_deliveries_come_again_on_the_next_channel() {
        let offsets = Offsets::default();
        for (tag, offset) in [(1, 0), (2, 1), (3, 2)] {
            offsets.delivered(tag, offset);
        }
        offsets.settled(1, Outcome::Ack);
        offsets.settled(2, Outcome::Nack { requeue: true });
        offsets.settled(3, Outcome::Ack);
        assert_eq!(offsets.next(), Some(1));
        offsets.reset();
        assert_eq!(offsets.next(), Some(1));
        offsets.delivered(1, 1);
        offsets.settled(1, Outcome::Ack);
        assert_eq!(offsets.next(), Some(2));
    }
}
