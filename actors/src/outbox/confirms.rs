//! The confirm ring: the state of each publish, by sequence number. What the broker's `basic.ack` and `basic.nack`
//! do to it is in `broker_answers.rs`.
//!
//! Sequence numbers are never used again. The broker counts from 1 whenever the channel is opened: `tags`
//! translates its delivery tags. A publish below `base` that is not in `failures` is confirmed,
//! so a success needs no memory.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    OutboxState,
    barrier::{Barrier, BarrierProgress},
    counters::AnswerCounts,
    effects::DeferredEffects,
    epochs::Epochs,
    outcome_error::{Cause, Taken},
    unconfirmed::Unconfirmed,
    withdrawal::Tags,
};
use crate::{
    error::{Error, Result},
    returned::Return,
};

#[derive(Debug)]
pub(super) struct Confirms {
    pub(super) barrier: Barrier,
    /// The sequence number of `ring[0]`; the first publish has 1.
    pub(super) base: u64,
    pub(super) tags: Tags,
    pub(super) ring: VecDeque<PendingConfirm>,
    /// How many of the ring are resolved.
    pub(super) resolved: usize,
    /// How many of the ring have a deferred nack.
    pub(super) deferred: usize,
    pub(super) failures: HashMap<u64, Error>,
    pub(super) returns: HashMap<u64, Return>,
    /// When the publishes from a sequence number on were made, in order.
    pub(super) published_at: VecDeque<(u64, Instant)>,
    /// Publishes below are late, if they are not resolved.
    pub(super) expired_below: u64,
    /// Which publishes may have arrived.
    pub(super) taken: Taken,
    /// Publishes that are never sent, whose bytes are still queued.
    pub(super) withdrawn: BTreeSet<u64>,
    pub(super) epochs: Epochs,
    pub(super) answers: AnswerCounts,
}

#[derive(Debug)]
pub(super) struct PendingConfirm {
    pub(super) waker: Option<Waker>,
    pub(super) state: ConfirmState,
    pub(super) mandatory: bool,
    /// No caller waits for the outcome: the [`Confirm`](super::Confirm) was dropped, or has returned an
    /// error.
    pub(super) forgotten: bool,
    /// It may be sent again after a reconnect.
    pub(super) resend: bool,
    /// How often the broker has closed the connection with a hard error, or the channel, and this publish may
    /// have been the cause.
    pub(super) failures: u8,
    /// Its own deadline has passed: it is not sent again.
    pub(super) late: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfirmState {
    /// Without a confirm of the broker.
    Open,
    /// Nacked, and to be sent again: see [`nack_retry`](super::nack_retry).
    NackDeferred,
    /// Its outcome is known.
    Resolved,
}

impl OutboxState {
    /// Removes the content of resolved publishes and makes room in the window; returns bodies to drop when
    /// the lock is free.
    #[inline]
    pub(super) fn drop_resolved(&mut self, effects: &mut DeferredEffects) -> Vec<Bytes> {
        let (cost, freed) = self.unconfirmed.drop_below(self.confirms.base);
        self.window.set(self.confirms.unconfirmed(), cost, &mut effects.wakers);
        freed
    }
}

impl Default for Confirms {
    fn default() -> Self {
        Self {
            barrier: Barrier::default(),
            base: 1,
            tags: Tags::default(),
            ring: VecDeque::new(),
            resolved: 0,
            deferred: 0,
            failures: HashMap::new(),
            returns: HashMap::new(),
            published_at: VecDeque::new(),
            expired_below: 1,
            taken: Taken::default(),
            withdrawn: BTreeSet::new(),
            epochs: Epochs::default(),
            answers: AnswerCounts::default(),
        }
    }
}

impl Confirms {
    /// Returns one more than the sequence number of the last publish.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.base + self.ring.len() as u64
    }

    pub(super) fn progress(&self, end: u64) -> BarrierProgress {
        if self.base >= end {
            BarrierProgress::Resolved
        } else if self.expired_below >= end {
            BarrierProgress::Late
        } else {
            BarrierProgress::Waiting
        }
    }

    #[inline]
    pub(super) fn unconfirmed(&self) -> usize {
        self.ring.len() - self.resolved
    }

    /// Returns how many publishes from this one on are not confirmed.
    pub(super) fn unconfirmed_from(&self, first: u64) -> usize {
        let those = self.ring.iter().skip(first.saturating_sub(self.base) as usize);
        those.filter(|slot| slot.state != ConfirmState::Resolved).count()
    }

    /// Returns how many unconfirmed publishes a connection has taken.
    pub(super) fn taken_unconfirmed(&self) -> usize {
        let taken = self.ring.iter().zip(self.base..).take_while(|(_, sequence)| self.taken.has(*sequence));
        taken.filter(|(slot, _)| !matches!(slot.state, ConfirmState::Resolved)).count()
    }

    /// Adds a publish and returns its sequence number.
    #[inline]
    pub(super) fn push(&mut self, now: Instant, mandatory: bool, resend: bool) -> u64 {
        let sequence = self.end();
        if self.published_at.back().is_none_or(|&(_, at)| at < now) {
            self.published_at.push_back((sequence, now));
        }
        self.ring.push_back(PendingConfirm {
            waker: None,
            state: ConfirmState::Open,
            mandatory,
            forgotten: false,
            resend,
            failures: 0,
            late: false,
        });
        sequence
    }

    /// Returns the channel epoch in which a publish was confirmed, and a waker to drop when the lock is free.
    #[inline]
    pub(super) fn poll(&mut self, sequence: u64, cx: &Context<'_>) -> (Poll<Result<u32>>, Option<Waker>) {
        if !self.failures.is_empty()
            && let Some(error) = self.failures.remove(&sequence)
        {
            if let Some(slot) = self.slot(sequence) {
                slot.forgotten = true;
            }
            return (Poll::Ready(Err(error)), None);
        }
        match self.slot(sequence) {
            Some(slot) if slot.state != ConfirmState::Resolved => match &slot.waker {
                Some(waker) if waker.will_wake(cx.waker()) => (Poll::Pending, None),
                _ => (Poll::Pending, slot.waker.replace(cx.waker().clone())),
            },
            _ => (Poll::Ready(Ok(self.epochs.of(sequence))), None),
        }
    }

    /// Removes the waiter of a publish; returns what to drop when the lock is free.
    #[inline]
    pub(super) fn forget(&mut self, sequence: u64) -> (Option<Waker>, Option<Error>) {
        let error = if self.failures.is_empty() { None } else { self.failures.remove(&sequence) };
        if let Some(error) = &error {
            self.barrier.failed(error);
        }
        let waker = self.slot(sequence).and_then(|slot| {
            slot.forgotten = true;
            slot.waker.take()
        });
        (waker, error)
    }

    /// Removes what is resolved at the front.
    #[inline]
    pub(super) fn advance(&mut self, wakers: &mut Vec<Waker>) {
        while self.ring.front().is_some_and(|slot| slot.state == ConfirmState::Resolved) {
            self.ring.pop_front();
            self.base += 1;
            self.resolved -= 1;
        }
        self.tags.resolved_below(self.base);
        while self.published_at.len() > 1
            && self.published_at.get(1).is_some_and(|&(from, _)| from <= self.base)
        {
            self.published_at.pop_front();
        }
        if self.ring.is_empty() {
            self.published_at.clear();
        }
        self.barrier.passed(self.base, wakers);
    }

    /// Resolves a publish without success, if it is not resolved.
    pub(super) fn fail(&mut self, sequence: u64, cause: &mut Cause, wakers: &mut Vec<Waker>) {
        let Some(slot) = self.slot(sequence) else { return };
        let deferred = match slot.state {
            ConfirmState::Resolved => return,
            ConfirmState::NackDeferred => 1,
            ConfirmState::Open => 0,
        };
        slot.state = ConfirmState::Resolved;
        let forgotten = slot.forgotten;
        wakers.extend(slot.waker.take());
        self.resolved += 1;
        self.deferred -= deferred;
        self.answers.nacked += deferred as u64;
        self.failed(sequence, forgotten, cause);
    }

    /// Resolves all publishes with `error`, or with the nack that they had.
    pub(super) fn fail_all(&mut self, error: &Error, unconfirmed: &Unconfirmed, wakers: &mut Vec<Waker>) {
        let mut cause = Cause::from(error.clone());
        self.barrier.abandoned = self.unconfirmed() > 0 && self.taken.has(self.base);
        let first = self.base;
        self.base = self.end();
        for (sequence, slot) in (first..).zip(std::mem::take(&mut self.ring)) {
            match slot.state {
                ConfirmState::Resolved => {}
                ConfirmState::NackDeferred => {
                    self.answers.nacked += 1;
                    self.failed(sequence, slot.forgotten, &mut unconfirmed.nacked(sequence).into());
                }
                ConfirmState::Open => self.failed(sequence, slot.forgotten, &mut cause),
            }
            wakers.extend(slot.waker);
        }
        self.resolved = 0;
        self.deferred = 0;
        self.returns.clear();
        self.published_at.clear();
        self.barrier.passed(self.base, wakers);
    }

    /// Keeps an error for the confirm of the publish, or for the next barrier if no caller waits for the
    /// confirm.
    pub(super) fn failed(&mut self, sequence: u64, forgotten: bool, cause: &mut Cause) {
        let error = cause.of(sequence, &self.taken);
        if forgotten {
            self.barrier.failed(&error);
        } else {
            self.failures.insert(sequence, error);
        }
    }

    #[inline]
    pub(super) fn slot(&mut self, sequence: u64) -> Option<&mut PendingConfirm> {
        let at = sequence.checked_sub(self.base)?;
        self.ring.get_mut(at as usize)
    }
}
