//! Returned deliveries of consumers that are being cancelled: they are requeued behind the reply to
//! `basic.cancel`, lowest tags first, because a quorum queue delivers them again in the order in which they were
//! returned.
//!
//! A peer that goes on with deliveries and never replies would have them pile up. So only so many are held back:
//! then they are requeued, and the next ones are held back.

use std::collections::HashMap;

use super::acks::Acks;
use crate::message::Outcome;

/// The most deliveries of one consumer that are held back.
pub(super) const MAX_HELD_BACK: usize = 32 * 1024;

#[derive(Debug, Default)]
pub(super) struct HeldBack {
    /// By consumer, with the outcome for each tag.
    tags: HashMap<u32, Vec<(u64, Outcome)>>,
}

/// What becomes of a returned delivery.
enum Returned {
    /// Its consumer is not being cancelled.
    Now,
    Later,
    /// It was one too many: all of them are requeued.
    All(Vec<(u64, Outcome)>),
}

impl HeldBack {
    fn add(&mut self, consumer: u32, tag: u64, outcome: Outcome) -> Returned {
        let Some(tags) = self.tags.get_mut(&consumer) else { return Returned::Now };
        tags.push((tag, outcome));
        if tags.len() <= MAX_HELD_BACK { Returned::Later } else { Returned::All(std::mem::take(tags)) }
    }

    /// Forgets the deliveries of a consumer; more may come.
    pub(super) fn forget(&mut self, consumer: u32) {
        if let Some(tags) = self.tags.get_mut(&consumer) {
            tags.clear();
        }
    }

    /// Forgets all deliveries; more may come.
    pub(super) fn forget_all(&mut self) {
        self.tags.values_mut().for_each(Vec::clear);
    }
}

impl Acks {
    pub(super) fn hold_back(&mut self, consumer: u32) {
        self.held_back.tags.entry(consumer).or_default();
    }

    pub(super) fn holds_back(&self, consumer: u32) -> bool {
        self.held_back.tags.contains_key(&consumer)
    }

    /// Requeues a tag, after its consumer is cancelled if that is under way.
    pub(super) fn requeue(&mut self, tag: u64, consumer: u32, outcome: Outcome) {
        match self.held_back.add(consumer, tag, outcome) {
            Returned::Now => self.refuse(tag, outcome),
            Returned::Later => self.keep_back(tag),
            Returned::All(tags) => self.requeue_in_order(tags),
        }
    }

    /// Requeues what was held back, and what was to be requeued later.
    pub(super) fn release(&mut self, consumer: u32) {
        let mut returned = self.held_back.tags.remove(&consumer).unwrap_or_default();
        returned.extend(self.delayed.remove_consumer(consumer));
        self.requeue_in_order(returned);
    }

    fn requeue_in_order(&mut self, mut returned: Vec<(u64, Outcome)>) {
        returned.sort_unstable_by_key(|(tag, _)| *tag);
        for (tag, outcome) in returned {
            self.refuse(tag, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::DeliveredTags;

    /// PRO-17
    #[test]
    fn a_peer_that_never_replies_to_a_cancel_has_a_bounded_number_held_back() {
        let mut acks = Acks::default();
        acks.hold_back(7);
        let max = MAX_HELD_BACK as u64;
        // The last ones of the first round come first.
        for tag in 1..=3 * max {
            acks.delivered(DeliveredTags { first: tag, last: tag, consumer: Some(7) }).unwrap();
        }
        for tag in (1..=max).rev().chain(max + 1..=3 * max) {
            acks.mark(tag, 7, Outcome::NotBegun).unwrap();
            assert!(acks.held_back.tags[&7].len() <= MAX_HELD_BACK);
        }
        let requeued: Vec<u64> = acks.refused.iter().map(|(tag, _)| *tag).collect();
        assert!(requeued.iter().copied().eq(1..=2 * (max + 1)), "in their order");
        assert_eq!(acks.outstanding() as u64, max - 2);
        acks.release(7);
        assert_eq!(acks.outstanding(), 0);
        assert!(!acks.holds_back(7));
    }
}
