//! What a consumer knows about deliveries that are dropped unsettled: whether anybody was there to handle
//! them, and when the next one is logged.

use std::{
    sync::{
        Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    log_schedule::{LogSchedule, SoFar},
    message::DeliverySink,
};

/// A consumer that fails more messages for the first time within [`WINDOW`] is not believed: publishers may
/// have set the headers that tell of earlier failures.
const MAX_FIRST_FAILURES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(in crate::channel) struct Drops {
    sink: Weak<dyn DeliverySink>,
    /// The consumer is being cancelled, or has ended.
    leaving: AtomicBool,
    /// What its target has not begun returns to the queue.
    handing_back: AtomicBool,
    /// What the target had not begun below this tag was taken back. Its mailbox drops it when it gets there.
    taken_back: AtomicU64,
    log: Mutex<LogSchedule>,
    first_failures: Mutex<FirstFailures>,
}

impl Drops {
    pub(in crate::channel) fn new(sink: Weak<dyn DeliverySink>) -> Self {
        Self {
            sink,
            leaving: AtomicBool::new(false),
            handing_back: AtomicBool::new(false),
            taken_back: AtomicU64::new(0),
            log: Mutex::default(),
            first_failures: Mutex::default(),
        }
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(super) fn hand_back(&self) {
        self.leave();
        self.handing_back.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Returns whether a delivery that is dropped now was dropped by a handler. Otherwise it was dropped with
    /// the mailbox or the stream that had it, or handed back by a cancel.
    pub(super) fn has_target(&self) -> bool {
        let has_target = || self.sink.upgrade().is_none_or(|sink| sink.has_target());
        !self.handing_back.load(Ordering::Relaxed) && has_target()
    }

    /// What the target has not begun is taken back: deliveries with lower tags that are dropped from now on.
    pub(in crate::channel) fn take_back_before(&self, tag: u64) {
        self.taken_back.store(tag, Ordering::Relaxed);
    }

    /// The consumer has started again, and its next delivery has this tag or a higher one.
    pub(in crate::channel) fn restarted(&self, next: u64) {
        if next < self.taken_back.load(Ordering::Relaxed) {
            // The channel was opened again: tags begin at 1.
            self.take_back_before(0);
        }
    }

    /// Returns whether a delivery that is dropped now was not begun: it was taken back. One that was begun
    /// before counts as such, too, once.
    pub(super) fn is_taken_back(&self, tag: u64) -> bool {
        tag < self.taken_back.load(Ordering::Relaxed)
    }

    /// Counts a message that has failed for the first time. Returns whether there were too many of late.
    pub(super) fn first_failure(&self, now: Instant) -> bool {
        self.first_failures.lock().unwrap_or_else(PoisonError::into_inner).count(now)
    }

    /// Counts a dropped delivery. Returns how many there were if it is to be logged.
    pub(super) fn count(&self, now: Instant) -> Option<SoFar> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).count(now)
    }
}

/// Counts the messages that have failed for the first time. A plain machine.
#[derive(Debug, Default)]
struct FirstFailures {
    since: Option<Instant>,
    count: u32,
}

impl FirstFailures {
    /// Counts a message. Returns whether there were too many of late.
    fn count(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) > WINDOW) {
            *self = Self { since: Some(now), count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count > MAX_FIRST_FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_first_failures_in_a_second_are_not_believed() {
        let start = Instant::now();
        let mut failures = FirstFailures::default();
        assert!((0..MAX_FIRST_FAILURES).all(|_| !failures.count(start)));
        assert!(failures.count(start + WINDOW));
        assert!(!failures.count(start + WINDOW + Duration::from_millis(1)));
    }
}
