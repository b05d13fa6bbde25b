//! Permits: how many deliveries an application may hold at once where the broker does not bound them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The limit that stands for none.
const UNLIMITED: usize = usize::MAX;

#[derive(Debug)]
pub(super) struct Permits {
    limit: AtomicUsize,
    /// The deliveries that exist, handed on or waiting.
    existing: AtomicUsize,
    /// The deliveries that wait for a permit; 0 when [`release`](Self::release) need not wake the consumer.
    waiting: AtomicUsize,
    /// While paused nothing is handed on, whatever the permits allow.
    paused: AtomicBool,
}

impl Default for Permits {
    fn default() -> Self {
        Self {
            limit: AtomicUsize::new(UNLIMITED),
            existing: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
        }
    }
}

impl Permits {
    pub(super) fn set_limit(&self, limit: Option<usize>) {
        self.limit.store(limit.unwrap_or(UNLIMITED), Ordering::SeqCst);
    }

    fn is_unlimited(&self) -> bool {
        self.limit.load(Ordering::Relaxed) == UNLIMITED
    }

    /// Returns whether everything may be handed on at once: there is no limit and no pause.
    pub(super) fn is_free(&self) -> bool {
        self.is_unlimited() && !self.is_paused()
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Counts deliveries that have arrived.
    pub(super) fn add(&self, deliveries: usize) {
        if !self.is_unlimited() {
            self.existing.fetch_add(deliveries, Ordering::SeqCst);
        }
    }

    /// Returns whether one of the `waiting` deliveries may be handed on.
    pub(super) fn allow(&self, waiting: usize) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let has_room = || self.existing.load(Ordering::SeqCst).saturating_sub(waiting) < limit;
        !self.is_paused() && (limit == UNLIMITED || has_room())
    }

    /// Asks [`release`](Self::release) to wake the consumer. Check [`allow`](Self::allow) again afterwards.
    pub(super) fn wait(&self, waiting: usize) {
        self.waiting.store(waiting, Ordering::SeqCst);
    }

    /// Counts a delivery that is settled or dropped. Returns whether to wake the consumer: once per
    /// [`wait`](Self::wait), when half of the permits are free.
    pub(super) fn release(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == UNLIMITED {
            return false;
        }
        let existing = self.existing.fetch_sub(1, Ordering::SeqCst).saturating_sub(1);
        let waiting = self.waiting.load(Ordering::SeqCst);
        let is_half_free = existing.saturating_sub(waiting) <= limit / 2;
        waiting > 0 && is_half_free && self.waiting.swap(0, Ordering::SeqCst) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_everything_is_allowed_unless_paused() {
        let permits = Permits::default();
        permits.add(1000);
        assert!(permits.is_free() && permits.allow(1000) && !permits.release());
        permits.set_paused(true);
        assert!(!permits.is_free() && !permits.allow(1));
    }

    #[test]
    fn the_consumer_is_woken_once_when_half_of_the_permits_are_free() {
        let permits = Permits::default();
        permits.set_limit(Some(4));
        permits.add(6);
        // Six wait, then four of them are handed on.
        assert!(permits.allow(6) && permits.allow(3) && !permits.allow(2));
        permits.wait(2);
        assert!(!permits.release());
        assert!(permits.release());
        assert!(!permits.release());
    }
}
