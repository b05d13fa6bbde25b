//! What waits for one subscriber, within its bound, and what becomes of the rest. A plain machine.

use std::collections::VecDeque;

use super::Lagging;
use crate::ConsumerEnd;

/// What waits for a subscriber, in order.
#[derive(Debug)]
pub(super) struct Buffer<M> {
    max: usize,
    lagging: Lagging,
    /// With each message, what was missed before it.
    waiting: VecDeque<(Missed, M)>,
    /// What was missed after the last message that waits.
    after: Missed,
    end: End,
    /// Messages that this subscriber has lost in all.
    lost: u64,
}

/// What a subscriber has missed at one place of the order.
#[derive(Clone, Copy, Debug, Default)]
struct Missed {
    lost: u64,
    gap: bool,
}

#[derive(Debug)]
enum End {
    Open,
    /// The subscriber is told when it has taken what waits.
    Pending(ConsumerEnd),
    Told,
}

/// What a subscriber takes next.
#[derive(Debug)]
pub(super) enum Next<M> {
    Message(M),
    Lagged(u64),
    Gap,
    Ended(ConsumerEnd),
}

/// What became of a message. Messages that are lost are returned, because a message must not be dropped under a lock.
#[derive(Debug)]
pub(super) enum Offered<M> {
    /// It waits.
    Kept,
    /// One message is lost.
    Lost(M),
    /// The subscriber is disconnected; all that waited is lost.
    Disconnected(Vec<M>),
    /// The subscriber has ended.
    Ended(M),
}

impl Missed {
    fn take_next<M>(&mut self) -> Option<Next<M>> {
        if self.lost > 0 {
            return Some(Next::Lagged(std::mem::take(&mut self.lost)));
        }
        std::mem::take(&mut self.gap).then_some(Next::Gap)
    }
}

impl<M> Buffer<M> {
    pub(super) fn new(max: usize, lagging: Lagging) -> Self {
        let max = max.max(1);
        Self { max, lagging, waiting: VecDeque::new(), after: Missed::default(), end: End::Open, lost: 0 }
    }

    /// Adds a message.
    pub(super) fn offer(&mut self, message: M) -> Offered<M> {
        if !matches!(self.end, End::Open) {
            return Offered::Ended(message);
        }
        if self.waiting.len() < self.max {
            self.waiting.push_back((std::mem::take(&mut self.after), message));
            return Offered::Kept;
        }
        match self.lagging {
            Lagging::DropNewest => {
                self.lose(1);
                Offered::Lost(message)
            }
            Lagging::DropOldest => {
                self.waiting.push_back((std::mem::take(&mut self.after), message));
                let Some((missed, oldest)) = self.waiting.pop_front() else { return Offered::Kept };
                if let Some((before, _)) = self.waiting.front_mut() {
                    before.lost += missed.lost + 1;
                    before.gap |= missed.gap;
                }
                self.lost += 1;
                Offered::Lost(oldest)
            }
            Lagging::Disconnect => {
                let mut lost = self.discard();
                self.lose(1);
                lost.push(message);
                self.end = End::Pending(ConsumerEnd::TooSlow);
                Offered::Disconnected(lost)
            }
        }
    }

    /// Notes that messages may have been lost on the way to the bridge.
    pub(super) fn gap(&mut self) {
        self.after.gap |= matches!(self.end, End::Open);
    }

    /// Ends the subscription, once what waits is taken. The first end counts.
    pub(super) fn end(&mut self, end: ConsumerEnd) {
        if matches!(self.end, End::Open) {
            self.end = End::Pending(end);
        }
    }

    /// Loses all that waits; the subscriber is told how much.
    pub(super) fn discard(&mut self) -> Vec<M> {
        let mut gap = self.after.gap;
        let mut told_later = 0;
        let lost: Vec<M> = self
            .waiting
            .drain(..)
            .map(|(missed, message)| {
                gap |= missed.gap;
                told_later += missed.lost;
                message
            })
            .collect();
        self.after.gap = gap;
        self.after.lost += told_later;
        self.lose(lost.len());
        lost
    }

    fn lose(&mut self, messages: usize) {
        self.after.lost += messages as u64;
        self.lost += messages as u64;
    }

    /// Takes what comes next, if there is anything. The end comes once.
    pub(super) fn next(&mut self) -> Option<Next<M>> {
        if let Some((missed, _)) = self.waiting.front_mut() {
            return missed.take_next().or_else(|| self.waiting.pop_front().map(|(_, m)| Next::Message(m)));
        }
        if let Some(missed) = self.after.take_next() {
            return Some(missed);
        }
        match std::mem::replace(&mut self.end, End::Told) {
            End::Pending(end) => Some(Next::Ended(end)),
            other => {
                self.end = other;
                None
            }
        }
    }

    /// Returns whether the end was taken.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.end, End::Told)
    }

    /// Returns how many messages wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many messages this subscriber has lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a subscriber was told, in short.
    #[derive(Clone, Debug, PartialEq)]
    enum Told {
        Message(u32),
        Lagged(u64),
        Gap,
        Ended(&'static str),
    }

    fn tell(next: Next<u32>) -> Told {
        match next {
            Next::Message(n) => Told::Message(n),
            Next::Lagged(n) => Told::Lagged(n),
            Next::Gap => Told::Gap,
            Next::Ended(ConsumerEnd::TooSlow) => Told::Ended("too slow"),
            Next::Ended(_) => Told::Ended("stopped"),
        }
    }

    fn all(buffer: &mut Buffer<u32>) -> Vec<Told> {
        std::iter::from_fn(|| buffer.next()).map(tell).collect()
    }

    fn filled(max: usize, lagging: Lagging, offered: u32) -> Buffer<u32> {
        let mut buffer = Buffer::new(max, lagging);
        (0..offered).for_each(|n| drop(buffer.offer(n)));
        buffer
    }

    use Told::*;

    #[test]
    fn the_newest_are_kept_and_the_loss_comes_before_them() {
        let mut buffer = filled(2, Lagging::DropOldest, 5);
        assert_eq!(all(&mut buffer), [Lagged(3), Message(3), Message(4)]);
        assert_eq!(buffer.lost(), 3);
    }

    #[test]
    fn the_oldest_are_kept_and_the_loss_comes_after_them() {
        let mut buffer = filled(2, Lagging::DropNewest, 5);
        assert_eq!(all(&mut buffer), [Message(0), Message(1), Lagged(3)]);
        assert!(matches!(buffer.offer(5), Offered::Kept));
        assert_eq!(all(&mut buffer), [Message(5)]);
    }

    #[test]
    fn a_disconnected_subscriber_is_told_the_loss_and_the_end() {
        let mut buffer = filled(2, Lagging::Disconnect, 5);
        assert_eq!(buffer.waiting(), 0);
        assert_eq!(all(&mut buffer), [Lagged(3), Ended("too slow")]);
        assert!(buffer.is_over());
        assert!(matches!(buffer.offer(9), Offered::Ended(9)));
        assert_eq!(all(&mut buffer), []);
    }

    #[test]
    fn a_gap_keeps_its_place_and_is_never_lost() {
        let mut buffer = filled(2, Lagging::DropOldest, 1);
        buffer.gap();
        buffer.gap();
        buffer.offer(1);
        assert_eq!(all(&mut buffer), [Message(0), Gap, Message(1)]);
        buffer.gap();
        (2..6).for_each(|n| drop(buffer.offer(n)));
        assert_eq!(all(&mut buffer), [Lagged(2), Gap, Message(4), Message(5)]);
    }

    #[test]
    fn the_first_end_counts_and_comes_last() {
        let mut buffer = filled(4, Lagging::DropOldest, 1);
        buffer.end(ConsumerEnd::TooSlow);
        buffer.end(ConsumerEnd::Cancelled);
        buffer.gap();
        assert_eq!(all(&mut buffer), [Message(0), Ended("too slow")]);
    }

    /// Offers, takes, gaps, discards and an end in any order: for each policy, every message is taken or told as lost, in
    /// order and within the bound, and a subscriber hears of each gap between the messages around it.
    #[test]
    fn nothing_is_lost_untold_in_any_order() {
        for seed in 0..3000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let lagging = [Lagging::DropOldest, Lagging::DropNewest, Lagging::Disconnect][random.usize(..3)];
            let max = random.usize(1..6);
            let mut buffer = Buffer::new(max, lagging);
            let (mut offered, mut told, mut gaps) = (0, Vec::new(), Vec::new());
            for _ in 0..random.usize(1..120) {
                match random.u8(..20) {
                    0 => {
                        buffer.gap();
                        if matches!(buffer.end, End::Open) {
                            gaps.push(offered);
                        }
                    }
                    1 if random.u8(..8) == 0 => drop(buffer.discard()),
                    2 if random.u8(..8) == 0 => buffer.end(ConsumerEnd::Cancelled),
                    1..=11 => match buffer.offer(offered) {
                        Offered::Ended(_) => {}
                        _ => offered += 1,
                    },
                    _ => told.extend(buffer.next().map(tell)),
                }
                assert!(buffer.waiting() <= max, "seed {seed}");
            }
            told.extend(all(&mut buffer));
            check(seed, &told, offered, &gaps, buffer.lost());
        }
    }

    fn check(seed: u64, told: &[Told], offered: u32, gaps: &[u32], lost: u64) {
        // What was taken or lost so far is as much as was offered before.
        let (mut at, mut last) = (0, None);
        let mut told_lost = 0;
        for one in told {
            match one {
                Message(n) => {
                    assert!(last.is_none_or(|last| last < *n), "seed {seed}: {told:?}");
                    assert_eq!(*n, at, "seed {seed}: {told:?}");
                    (at, last) = (at + 1, Some(*n));
                }
                Lagged(n) => {
                    assert!(*n > 0, "seed {seed}");
                    at += *n as u32;
                    told_lost += n;
                }
                Gap => assert!(!gaps.is_empty(), "seed {seed}"),
                Ended(_) => assert_eq!(Some(one), told.last(), "seed {seed}: {told:?}"),
            }
        }
        assert_eq!((at, told_lost), (offered, lost), "seed {seed}: {told:?}");
        // A message that was offered after a gap is never taken before the gap is told.
        for gap in gaps {
            let first_after = told.iter().position(|one| matches!(one, Message(n) if n >= gap));
            let last_before = told.iter().rposition(|one| matches!(one, Message(n) if n < gap));
            let between = &told[last_before.map_or(0, |at| at + 1)..first_after.unwrap_or(told.len())];
            assert!(between.contains(&Gap), "seed {seed}: gap at {gap} of {told:?}");
        }
    }
}
