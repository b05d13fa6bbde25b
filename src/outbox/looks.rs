//! When a relay looks at the table. A plain machine.

use std::time::Duration;

use tokio::time::Instant;

/// A transaction that has written is committed soon after: at the first look, or at the second one.
const AFTER_WRITE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(50)];

#[derive(Debug)]
pub(super) struct Looks {
    poll: Duration,
    next: Instant,
    /// The one after the next.
    later: Option<Instant>,
}

impl Looks {
    pub(super) fn new(poll: Duration, now: Instant) -> Self {
        Self { poll, next: now, later: None }
    }

    /// Somebody has written, and will commit.
    pub(super) fn woken(&mut self, now: Instant) {
        self.next = self.next.min(now + AFTER_WRITE[0]);
        self.later = Some(now + AFTER_WRITE[1]);
    }

    /// There may be more.
    pub(super) fn at_once(&mut self, now: Instant) {
        self.next = now;
    }

    pub(super) fn nothing_found(&mut self, now: Instant) {
        self.next = self.later.take().filter(|later| *later > now).unwrap_or(now + self.poll);
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_looked_for_after_5_and_50_milliseconds() {
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        let mut looks = Looks::new(Duration::from_millis(500), now);
        assert!(looks.is_due(now));
        looks.nothing_found(now);
        assert_eq!(looks.next(), at(500));
        looks.woken(at(100));
        assert_eq!(looks.next(), at(105));
        looks.woken(at(104));
        assert_eq!(looks.next(), at(105), "many writes do not put it off");
        looks.nothing_found(at(106));
        assert_eq!(looks.next(), at(154), "50 milliseconds after the last one");
        looks.nothing_found(at(155));
        assert_eq!(looks.next(), at(655));
        looks.at_once(at(200));
        assert!(looks.is_due(at(200)));
    }
}
