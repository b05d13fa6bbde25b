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

/// So many timers are never too many.
const FEW: usize = 1024;

/// Timers by time, those of one time in the order in which they were set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, u64, Timer)>>,
    set: u64,
    /// With how many those that are no longer right are given up.
    many: usize,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Time, timer: Timer) {
        self.set += 1;
        self.heap.push(Reverse((at, self.set, timer)));
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Returns whether so many were set since the last [`retain`](Self::retain) that those that are no longer right may
    /// be most of them.
    pub(crate) fn are_many(&self) -> bool {
        self.heap.len() > self.many
    }

    /// Gives up the timers that are no longer right, and those that are there twice: one may be replaced by an earlier one,
    /// and be set again when that has come.
    pub(crate) fn retain(&mut self, is_right: impl Fn(Time, Timer) -> bool) {
        let mut timers = std::mem::take(&mut self.heap).into_vec();
        timers.retain(|Reverse((at, _, timer))| is_right(*at, *timer));
        timers.sort_unstable_by_key(|Reverse((at, set, timer))| (*at, *timer, *set));
        timers.dedup_by_key(|Reverse((at, _, timer))| (*at, *timer));
        timers.shrink_to(FEW);
        self.heap = timers.into();
        self.many = FEW.max(2 * self.heap.len());
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
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

    #[test]
    fn those_that_are_no_longer_right_are_given_up() {
        let mut timers = Timers::default();
        for at in 0..=FEW as u64 {
            timers.set(Time::from_millis(at), Timer::Delayed);
        }
        assert!(timers.are_many());
        timers.retain(|at, _| at.as_millis() >= 2);
        assert_eq!((timers.len(), timers.next()), (FEW - 1, Some(Time::from_millis(2))));
        while !timers.are_many() {
            timers.set(Time::ZERO, Timer::Delayed);
        }
        assert_eq!(timers.len(), 2 * (FEW - 1) + 1);
    }

    /// The order of those of one time stays, by when each was set first.
    #[test]
    fn those_that_are_there_twice_are_given_up() {
        let mut timers = Timers::default();
        let channel = |number| Timer::Unacked(ConnectionId::default(), number);
        for number in [2, 1, 2, 3, 1] {
            timers.set(Time::from_millis(5), channel(number));
        }
        timers.set(Time::from_millis(6), channel(2));
        timers.retain(|_, _| true);
        let due = std::iter::from_fn(|| timers.due(Time::from_millis(6)));
        let due: Vec<_> = due.map(|(at, timer)| (at.as_millis(), timer)).collect();
        assert_eq!(due, [(5, channel(2)), (5, channel(1)), (5, channel(3)), (6, channel(2))]);
    }
}
