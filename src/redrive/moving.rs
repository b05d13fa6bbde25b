//! How many messages a redrive has moved, and when it moves the next one. A plain machine.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Moving {
    total: u64,
    begun: u64,
    moved: u64,
    failed: u64,
    most_failures: u64,
    pace: Option<Pace>,
    ended: bool,
}

/// The pause between two messages, and when the next one may be moved.
#[derive(Debug)]
struct Pace {
    pause: Duration,
    next: Option<Instant>,
}

/// Whether a message is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    At(Instant),
    /// It stays where it is.
    No,
}

impl Moving {
    pub(super) fn new(total: u64, most_failures: u64, per_second: Option<u32>) -> Self {
        let pace = per_second.map(|rate| Pace { pause: Duration::from_secs(1) / rate.max(1), next: None });
        Self { total, begun: 0, moved: 0, failed: 0, most_failures, pace, ended: false }
    }

    /// Begins with a message.
    pub(super) fn begin(&mut self, now: Instant) -> Turn {
        if self.begun >= self.total || self.ended {
            return Turn::No;
        }
        self.begun += 1;
        let Some(Pace { pause, next }) = &mut self.pace else { return Turn::At(now) };
        let at = next.map_or(now, |next| next.max(now));
        *next = Some(at + *pause);
        Turn::At(at)
    }

    pub(super) fn moved(&mut self) {
        self.moved += 1;
    }

    pub(super) fn failed(&mut self) {
        self.failed += 1;
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns whether all is moved, or too much has failed.
    pub(super) fn is_over(&self) -> bool {
        self.moved + self.failed >= self.total || self.failed >= self.most_failures
    }

    /// Returns how many messages were begun, if none of them is under way.
    pub(super) fn idle_at(&self) -> Option<u64> {
        (self.begun == self.moved + self.failed).then_some(self.begun)
    }

    /// Returns how many messages were moved, have failed, and remain.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        (self.moved, self.failed, self.total.saturating_sub(self.moved + self.failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_messages_are_moved_than_there_were() {
        let now = Instant::now();
        let mut moving = Moving::new(2, 16, None);
        assert!(!moving.is_over());
        assert_eq!([0; 3].map(|_| moving.begin(now)), [Turn::At(now), Turn::At(now), Turn::No]);
        assert_eq!(moving.idle_at(), None);
        moving.moved();
        moving.failed();
        assert_eq!((moving.is_over(), moving.idle_at(), moving.counts()), (true, Some(2), (1, 1, 0)));
        assert!(Moving::new(0, 16, None).is_over());
    }

    #[test]
    fn too_many_failures_end_it() {
        let mut moving = Moving::new(100, 2, None);
        moving.failed();
        assert!(!moving.is_over());
        moving.failed();
        assert_eq!((moving.is_over(), moving.counts()), (true, (0, 2, 98)));
        moving.end();
        assert_eq!((moving.has_ended(), moving.begin(Instant::now())), (true, Turn::No));
    }

    #[test]
    fn a_rate_spreads_the_messages() {
        let now = Instant::now();
        let mut moving = Moving::new(10, 16, Some(4));
        let at = |millis| Turn::At(now + Duration::from_millis(millis));
        assert_eq!([0; 3].map(|_| moving.begin(now)), [at(0), at(250), at(500)]);
        let late = now + Duration::from_secs(5);
        assert_eq!(moving.begin(late), Turn::At(late), "what was not used is lost");
        assert_eq!(moving.begin(late), Turn::At(late + Duration::from_millis(250)));
        assert_eq!(Moving::new(1, 1, Some(0)).begin(now), Turn::At(now));
    }
}
