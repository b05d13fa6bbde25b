//! What is to happen later.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    keys::{ConnectionId, QueueKey},
    time::Time,
};

/// What a timer is for. A timer that is no longer right does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Messages of a queue expire, or come back.
    Messages(QueueKey),
    /// A queue without consumers expires.
    Idle(QueueKey),
    /// Dead letters of a queue are tried again.
    DeadLetters(QueueKey),
    /// A message of an exchange with delays is due.
    Delayed,
    /// A delivery of a channel is not acked in time.
    Unacked(ConnectionId, u16),
}

/// Timers by time, those of one time in the order in which they were set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, u64, Timer)>>,
    set: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Time, timer: Timer) {
        self.set += 1;
        self.heap.push(Reverse((at, self.set, timer)));
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next timer that is due.
    pub(crate) fn due(&mut self, now: Time) -> Option<(Time, Timer)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((at, _, timer))| (at, timer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_by_time_then_in_order() {
        let mut timers = Timers::default();
        let channel = |number| Timer::Unacked(ConnectionId::default(), number);
        for (at, number) in [(5, 1), (3, 9), (5, 0), (7, 2)] {
            timers.set(Time::from_millis(at), channel(number));
        }
        assert_eq!(timers.next(), Some(Time::from_millis(3)));
        let mut due = Vec::new();
        while let Some((_, timer)) = timers.due(Time::from_millis(5)) {
            due.push(timer);
        }
        assert_eq!(due, [channel(9), channel(1), channel(0)]);
        assert_eq!(timers.next(), Some(Time::from_millis(7)));
    }
}
