//! The confirm ring: what became of each publish, indexed by its sequence number.
//!
//! Sequence numbers are ours and never start again; the broker counts from 1 in every life of the channel, `offset`
//! publishes after ours. Good outcomes need no memory: what is below `base` and not in `outcomes` is confirmed.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    attachment::Outage,
    barrier::{Barrier, Progress},
};
use crate::{
    error::{Error, Result},
    returned::Return,
};

#[derive(Debug)]
pub(super) struct Confirms {
    pub(super) barrier: Barrier,
    /// The sequence number of `ring[0]`; the first publish has 1.
    base: u64,
    offset: u64,
    /// What this life of the channel began with, in the order in which the broker counts it; then comes what is new.
    replayed: Vec<u64>,
    ring: VecDeque<Slot>,
    answered: usize,
    /// How many publishes were nacked and are to be sent again.
    put_off: usize,
    outcomes: HashMap<u64, Error>,
    returns: HashMap<u64, Return>,
    /// From which sequence number on the publishes began at which time.
    stamps: VecDeque<(u64, Instant)>,
    expired_below: u64,
}

#[derive(Debug)]
struct Slot {
    waker: Option<Waker>,
    answered: bool,
    mandatory: bool,
    forgotten: bool,
    /// May be sent again in another life.
    resend: bool,
    /// How many lives ended with an error of the broker's while it was under way.
    strikes: u8,
    /// It was nacked, and is to be sent again in another life.
    put_off: bool,
    /// It was under way when a life ended, and may have arrived in that.
    doubtful: bool,
}

impl Slot {
    fn nacked(&self) -> Error {
        let nacked = Error::nacked();
        if self.doubtful { nacked.in_flight() } else { nacked }
    }
}

/// What the broker said of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ack,
    Nack,
    /// A nack that is not told if the publish may be sent again.
    NotYet,
}

impl Default for Confirms {
    fn default() -> Self {
        Self {
            barrier: Barrier::default(),
            base: 1,
            offset: 0,
            replayed: Vec::new(),
            ring: VecDeque::new(),
            answered: 0,
            put_off: 0,
            outcomes: HashMap::new(),
            returns: HashMap::new(),
            stamps: VecDeque::new(),
            expired_below: 1,
        }
    }
}

impl Confirms {
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// One more than the number of the last publish.
    pub(super) fn end(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    pub(super) fn progress(&self, end: u64) -> Progress {
        match () {
            () if self.base >= end => Progress::Answered,
            () if self.expired_below >= end => Progress::Late,
            () => Progress::Waiting,
        }
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.ring.len() - self.answered
    }

    pub(super) fn next(&mut self, now: Instant, mandatory: bool, resend: bool) -> u64 {
        let sequence = self.base + self.ring.len() as u64;
        if self.stamps.back().is_none_or(|&(_, at)| at < now) {
            self.stamps.push_back((sequence, now));
        }
        self.ring.push_back(Slot {
            waker: None,
            answered: false,
            mandatory,
            forgotten: false,
            resend,
            strikes: 0,
            put_off: false,
            doubtful: false,
        });
        sequence
    }

    pub(super) fn poll(&mut self, sequence: u64, cx: &Context<'_>) -> (Poll<Result<()>>, Option<Waker>) {
        if !self.outcomes.is_empty()
            && let Some(error) = self.outcomes.remove(&sequence)
        {
            if let Some(slot) = self.slot(sequence) {
                slot.forgotten = true;
            }
            return (Poll::Ready(Err(error)), None);
        }
        match self.slot(sequence) {
            Some(slot) if !slot.answered => match &slot.waker {
                Some(waker) if waker.will_wake(cx.waker()) => (Poll::Pending, None),
                _ => (Poll::Pending, slot.waker.replace(cx.waker().clone())),
            },
            _ => (Poll::Ready(Ok(())), None),
        }
    }

    pub(super) fn forget(&mut self, sequence: u64) -> (Option<Waker>, Option<Error>) {
        let error = if self.outcomes.is_empty() { None } else { self.outcomes.remove(&sequence) };
        if let Some(error) = &error {
            self.barrier.failed(error);
        }
        let waker = self.slot(sequence).and_then(|slot| {
            slot.forgotten = true;
            slot.waker.take()
        });
        (waker, error)
    }

    /// Takes in an ack or nack of the broker's tag; `Err` for one that was never published.
    pub(super) fn answered(
        &mut self,
        tag: u64,
        multiple: bool,
        answer: Answer,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), ()> {
        let end = self.base + self.ring.len() as u64;
        let replayed = tag.checked_sub(1).and_then(|at| self.replayed.get(at as usize));
        let sequence = match replayed {
            Some(&sequence) => sequence,
            None if tag == 0 && multiple => end - 1,
            None if tag == 0 => return Err(()),
            None => tag.saturating_add(self.offset),
        };
        if sequence >= end || sequence == 0 {
            return Err(());
        }
        if sequence < self.base {
            return Ok(());
        }
        let last = (sequence - self.base) as usize;
        let first = if multiple { 0 } else { last };
        for at in first..=last {
            self.answer(at, answer, wakers);
        }
        self.advance(wakers);
        Ok(())
    }

    /// Forgets what is answered at the front.
    fn advance(&mut self, wakers: &mut Vec<Waker>) {
        while self.ring.front().is_some_and(|slot| slot.answered) {
            self.ring.pop_front();
            self.base += 1;
            self.answered -= 1;
        }
        while self.stamps.len() > 1 && self.stamps.get(1).is_some_and(|&(from, _)| from <= self.base) {
            self.stamps.pop_front();
        }
        if self.ring.is_empty() {
            self.stamps.clear();
        }
        self.barrier.passed(self.base, wakers);
    }

    fn answer(&mut self, at: usize, answer: Answer, wakers: &mut Vec<Waker>) {
        let sequence = self.base + at as u64;
        let Some(slot) = self.ring.get_mut(at) else { return };
        if slot.answered || slot.put_off {
            return;
        }
        if answer == Answer::NotYet && slot.resend && sequence >= self.expired_below {
            slot.put_off = true;
            self.put_off += 1;
            return;
        }
        slot.answered = true;
        self.answered += 1;
        wakers.extend(slot.waker.take());
        let returned = if self.returns.is_empty() { None } else { self.returns.remove(&sequence) };
        let failure = match returned {
            _ if answer != Answer::Ack => Some(slot.nacked()),
            Some(returned) => Some(Error::unroutable(returned)),
            None => None,
        };
        match failure {
            Some(error) if slot.forgotten => self.barrier.failed(&error),
            Some(error) => drop(self.outcomes.insert(sequence, error)),
            None => {}
        }
    }

    /// Tells whether `sequence` is a mandatory publish that is neither answered nor returned.
    pub(super) fn awaits_return(&self, sequence: u64) -> bool {
        sequence
            .checked_sub(self.base)
            .and_then(|at| self.ring.get(at as usize))
            .is_some_and(|slot| slot.mandatory && !slot.answered)
            && !self.returns.contains_key(&sequence)
    }

    pub(super) fn returned(&mut self, sequence: u64, returned: Return) -> Option<Return> {
        self.returns.insert(sequence, returned)
    }

    pub(super) fn expire(&mut self, now: Instant, late: Duration, blocked: bool, wakers: &mut Vec<Waker>) {
        // Stamps are in order: all publishes before the first stamp that is still in time are late.
        let overdue = self.stamps.iter().position(|&(_, at)| now.saturating_duration_since(at) < late);
        let end = match overdue {
            Some(at) => self.stamps.get(at).map_or(self.base, |&(from, _)| from),
            None if self.stamps.is_empty() => self.base,
            None => self.base + self.ring.len() as u64,
        };
        let from = self.expired_below.max(self.base);
        for sequence in from..end {
            let Some(slot) = self.ring.get_mut((sequence - self.base) as usize) else { break };
            if slot.answered {
                continue;
            }
            wakers.extend(slot.waker.take());
            if !slot.forgotten {
                let what = "no confirm within the deadline";
                let error = match blocked {
                    _ if slot.put_off => slot.nacked(),
                    true => Error::blocked(what).in_flight(),
                    false => Error::timeout(what).in_flight(),
                };
                self.outcomes.insert(sequence, error);
                slot.forgotten = true;
            }
        }
        self.expired_below = self.expired_below.max(end);
        self.barrier.passed(self.expired_below.max(self.base), wakers);
    }

    /// Answers all that is open with `error`; what had been handed over (below `handed_over`) may have arrived.
    pub(super) fn fail_all(&mut self, error: &Error, handed_over: u64, wakers: &mut Vec<Waker>) {
        let in_flight = error.in_flight();
        let first = self.base;
        self.base += self.ring.len() as u64;
        for (sequence, slot) in (first..).zip(self.ring.drain(..)) {
            if !slot.answered {
                let error = match () {
                    () if slot.put_off => slot.nacked(),
                    () if sequence < handed_over => in_flight.clone(),
                    () => error.clone(),
                };
                if slot.forgotten {
                    self.barrier.failed(&error);
                } else {
                    self.outcomes.insert(sequence, error);
                }
            }
            wakers.extend(slot.waker);
        }
        self.answered = 0;
        self.put_off = 0;
        self.returns.clear();
        self.stamps.clear();
        self.barrier.passed(self.base, wakers);
    }

    /// Answers what was handed over (below `handed_over`) and is open with `error`: it may have arrived.
    pub(super) fn fail_below(&mut self, error: &Error, handed_over: u64, wakers: &mut Vec<Waker>) {
        self.fail_where(error, handed_over, |_| true, wakers);
    }

    /// The connection is lost and another one will come: answers what must not be sent again.
    pub(super) fn outlive(&mut self, outage: &Outage<'_>, handed_over: u64, wakers: &mut Vec<Waker>) {
        let given_up = |slot: &mut Slot| {
            slot.strikes += u8::from(outage.suspicious);
            slot.doubtful = true;
            !slot.resend || slot.strikes >= 2
        };
        self.fail_where(outage.error, handed_over, given_up, wakers);
    }

    fn fail_where(
        &mut self,
        error: &Error,
        handed_over: u64,
        mut which: impl FnMut(&mut Slot) -> bool,
        wakers: &mut Vec<Waker>,
    ) {
        let in_flight = error.in_flight();
        let mut failed = Vec::new();
        for (sequence, slot) in (self.base..handed_over).zip(&mut self.ring) {
            if slot.answered || slot.put_off || !which(slot) {
                continue;
            }
            failed.push(sequence);
        }
        for sequence in failed {
            self.fail(sequence, in_flight.clone(), wakers);
        }
        self.advance(wakers);
    }

    /// How many were nacked and are to be sent again.
    pub(super) fn put_off(&self) -> usize {
        self.put_off
    }

    /// Tells of the nacks that were not told.
    pub(super) fn admit(&mut self, wakers: &mut Vec<Waker>) {
        let nacked: Vec<_> = (self.base..)
            .zip(&self.ring)
            .filter(|(_, slot)| slot.put_off)
            .map(|(sequence, slot)| (sequence, slot.nacked()))
            .collect();
        for (sequence, error) in nacked {
            self.fail(sequence, error, wakers);
        }
        self.advance(wakers);
    }

    /// Tells whether a publish is neither answered nor late.
    pub(super) fn is_open(&self, sequence: u64) -> bool {
        let at = sequence.checked_sub(self.base);
        let slot = at.and_then(|at| self.ring.get(at as usize));
        slot.is_some_and(|slot| !slot.answered) && sequence >= self.expired_below
    }

    /// Answers one that cannot be sent again.
    pub(super) fn fail(&mut self, sequence: u64, error: Error, wakers: &mut Vec<Waker>) {
        let Some(slot) = self.slot(sequence).filter(|slot| !slot.answered) else { return };
        slot.answered = true;
        let put_off = std::mem::take(&mut slot.put_off);
        let forgotten = slot.forgotten;
        wakers.extend(slot.waker.take());
        self.answered += 1;
        self.put_off -= usize::from(put_off);
        if forgotten {
            self.barrier.failed(&error);
        } else {
            self.outcomes.insert(sequence, error);
        }
    }

    /// Begins another life, in which these publishes are sent again: the broker counts them from 1. What is open and not
    /// among them is late, and not sent.
    pub(super) fn restart(&mut self, replayed: Vec<u64>, wakers: &mut Vec<Waker>) {
        self.ring.iter_mut().for_each(|slot| slot.put_off = false);
        self.put_off = 0;
        let mut again = replayed.iter().copied().peekable();
        let late: Vec<u64> = (self.base..)
            .zip(&self.ring)
            .filter(|(sequence, slot)| again.next_if_eq(sequence).is_none() && !slot.answered)
            .map(|(sequence, _)| sequence)
            .collect();
        for sequence in late {
            if sequence >= self.expired_below {
                self.fail(sequence, Error::timeout("not sent again").in_flight(), wakers);
            } else if let Some(slot) = self.slot(sequence) {
                // Told already.
                slot.answered = true;
                self.answered += 1;
            }
        }
        self.offset = self.end() - 1 - replayed.len() as u64;
        self.replayed = replayed;
        self.returns.clear();
        self.advance(wakers);
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Slot> {
        let at = sequence.checked_sub(self.base)?;
        self.ring.get_mut(at as usize)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{ErrorKind, wire::Properties};

    fn look(confirms: &mut Confirms, sequence: u64) -> Poll<Result<()>> {
        let cx = Context::from_waker(Waker::noop());
        confirms.poll(sequence, &cx).0
    }

    fn kind(answer: Poll<Result<()>>) -> Option<ErrorKind> {
        match answer {
            Poll::Ready(Err(error)) => Some(error.kind()),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        }
    }

    fn publish(confirms: &mut Confirms, count: u64) {
        let now = Instant::now();
        for _ in 0..count {
            confirms.next(now, true, true);
        }
    }

    fn some_return() -> Return {
        Return {
            code: 312,
            text: "NO_ROUTE".into(),
            exchange: String::new(),
            routing_key: "nowhere".into(),
            properties: Ok(Properties::new()),
            body: Bytes::new(),
        }
    }

    #[test]
    fn confirms_may_come_out_of_order_and_several_at_once() {
        let mut confirms = Confirms::default();
        let mut woken = Vec::new();
        publish(&mut confirms, 10);
        for (tag, multiple) in [(1, false), (3, false), (5, true), (10, false), (9, true)] {
            confirms.answered(tag, multiple, Answer::Ack, &mut woken).unwrap();
        }
        assert_eq!((confirms.unconfirmed(), confirms.base()), (0, 11));
        assert!((1..=10).all(|sequence| look(&mut confirms, sequence).is_ready()));
        assert_eq!(confirms.answered(11, false, Answer::Ack, &mut woken), Err(()), "never published");
        assert_eq!(confirms.answered(4, false, Answer::Ack, &mut woken), Ok(()), "known already");
    }

    #[test]
    fn a_nack_and_a_return_are_told_to_their_publish_only() {
        let mut confirms = Confirms::default();
        let mut woken = Vec::new();
        publish(&mut confirms, 4);
        assert!(look(&mut confirms, 2).is_pending());
        confirms.returned(3, some_return());
        confirms.answered(2, false, Answer::Nack, &mut woken).unwrap();
        assert_eq!(woken.len(), 1);
        confirms.answered(4, true, Answer::Ack, &mut woken).unwrap();
        assert_eq!(kind(look(&mut confirms, 2)), Some(ErrorKind::Nacked));
        assert_eq!(kind(look(&mut confirms, 3)), Some(ErrorKind::Unroutable));
        assert!(look(&mut confirms, 1).is_ready() && look(&mut confirms, 4).is_ready());
        assert!(confirms.outcomes.is_empty() && confirms.returns.is_empty());
    }

    #[test]
    fn what_nobody_waits_for_leaves_nothing_behind() {
        let mut confirms = Confirms::default();
        let mut woken = Vec::new();
        publish(&mut confirms, 3);
        confirms.forget(1);
        confirms.forget(2);
        confirms.returned(2, some_return());
        confirms.answered(3, true, Answer::Nack, &mut woken).unwrap();
        confirms.forget(3);
        assert!(confirms.outcomes.is_empty() && confirms.returns.is_empty() && confirms.stamps.is_empty());
    }

    #[test]
    fn a_late_publish_is_answered_once_and_its_confirm_still_counts() {
        let mut confirms = Confirms::default();
        let mut woken = Vec::new();
        let late = Duration::from_secs(1);
        let start = Instant::now();
        confirms.next(start, true, true);
        confirms.next(start + late / 2, true, true);
        confirms.expire(start + late, late, false, &mut woken);
        assert_eq!(kind(look(&mut confirms, 1)), Some(ErrorKind::Timeout));
        assert!(look(&mut confirms, 2).is_pending());
        assert_eq!(confirms.unconfirmed(), 2);
        confirms.expire(start + late * 2, late, true, &mut woken);
        assert_eq!(kind(look(&mut confirms, 2)), Some(ErrorKind::Blocked));
        confirms.answered(2, true, Answer::Ack, &mut woken).unwrap();
        assert_eq!((confirms.unconfirmed(), confirms.outcomes.len()), (0, 0));
    }

    #[test]
    fn the_end_is_told_to_all_and_what_was_handed_over_may_have_arrived() {
        let mut confirms = Confirms::default();
        let mut woken = Vec::new();
        publish(&mut confirms, 3);
        confirms.answered(1, false, Answer::Ack, &mut woken).unwrap();
        confirms.fail_all(&Error::channel_closed("gone", None), 3, &mut woken);
        assert!(matches!(look(&mut confirms, 1), Poll::Ready(Ok(()))));
        let Poll::Ready(Err(handed_over)) = look(&mut confirms, 2) else { panic!("unanswered") };
        let Poll::Ready(Err(kept)) = look(&mut confirms, 3) else { panic!("unanswered") };
        assert_eq!((handed_over.kind(), handed_over.may_have_arrived()), (ErrorKind::ChannelClosed, true));
        assert_eq!((kept.kind(), kept.may_have_arrived()), (ErrorKind::ChannelClosed, false));
    }

    proptest! {
        #[test]
        fn every_publish_gets_the_answer_that_was_given(
            answers in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<bool>()), 1..60),
            count in 1..200u64,
        ) {
            let mut confirms = Confirms::default();
            let mut woken = Vec::new();
            publish(&mut confirms, count);
            let mut truth: Vec<Option<bool>> = vec![None; count as usize];
            for (pick, multiple, nack) in answers {
                let at = pick.index(truth.len());
                let first = if multiple { 0 } else { at };
                truth[first..=at].iter_mut().for_each(|t| { t.get_or_insert(nack); });
                let answer = if nack { Answer::Nack } else { Answer::Ack };
                confirms.answered(at as u64 + 1, multiple, answer, &mut woken).unwrap();
            }
            prop_assert_eq!(confirms.unconfirmed(), truth.iter().filter(|t| t.is_none()).count());
            for (sequence, nacked) in (1..).zip(truth) {
                let answer = look(&mut confirms, sequence);
                prop_assert_eq!(answer.is_ready(), nacked.is_some());
                prop_assert_eq!(kind(answer) == Some(ErrorKind::Nacked), nacked == Some(true));
            }
        }
    }
}
