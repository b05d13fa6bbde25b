//! How many deliveries an application may hold at once, where the broker does not bound them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// No bound.
const UNBOUNDED: usize = usize::MAX;

#[derive(Debug)]
pub(super) struct Permits {
    most: AtomicUsize,
    /// Deliveries that exist, handed on or waiting.
    alive: AtomicUsize,
    /// Those that wait for a permit, and want to be told.
    waiting: AtomicUsize,
    /// Nothing is handed on, whatever the permits say.
    paused: AtomicBool,
}

impl Default for Permits {
    fn default() -> Self {
        Self {
            most: AtomicUsize::new(UNBOUNDED),
            alive: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
        }
    }
}

impl Permits {
    pub(super) fn set(&self, most: Option<usize>) {
        self.most.store(most.unwrap_or(UNBOUNDED), Ordering::SeqCst);
    }

    pub(super) fn unbounded(&self) -> bool {
        self.most.load(Ordering::Relaxed) == UNBOUNDED
    }

    /// Tells whether nothing bounds what is handed on, now.
    pub(super) fn free(&self) -> bool {
        self.unbounded() && !self.paused()
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    pub(super) fn paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    pub(super) fn add(&self, deliveries: usize) {
        if !self.unbounded() {
            self.alive.fetch_add(deliveries, Ordering::SeqCst);
        }
    }

    /// Tells whether one of the `waiting` may be handed on.
    pub(super) fn allows(&self, waiting: usize) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let room = || self.alive.load(Ordering::SeqCst).saturating_sub(waiting) < most;
        !self.paused() && (most == UNBOUNDED || room())
    }

    /// Asks to be told when permits come back, if any wait.
    pub(super) fn wait(&self, waiting: usize) {
        self.waiting.store(waiting, Ordering::SeqCst);
    }

    /// Gives one back; tells whether the one who waits must be told, which is so once half of them are free.
    pub(super) fn release(&self) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        if most == UNBOUNDED {
            return false;
        }
        let alive = self.alive.fetch_sub(1, Ordering::SeqCst).saturating_sub(1);
        let waiting = self.waiting.load(Ordering::SeqCst);
        waiting > 0 && alive.saturating_sub(waiting) <= most / 2 && self.waiting.swap(0, Ordering::SeqCst) > 0
    }
}
