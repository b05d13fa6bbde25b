//! The broker's confirms of publishes: `basic.ack` and `basic.nack`.

use std::task::Waker;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Outbox, OutboxState,
    confirms::{ConfirmState, Confirms},
    effects::DeferredEffects,
    outcome_error::Cause,
    unconfirmed::Unconfirmed,
};
use crate::error::Error;

/// The broker's confirm of publishes: an ack or a nack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrokerAnswer {
    Ack,
    Nack,
    /// A nack that is deferred for publishes that may be sent again.
    DeferrableNack,
}

impl Outbox {
    /// Applies `basic.ack` from the broker; `Err` for the delivery tag of a publish that no connection has taken in
    /// this channel epoch.
    pub(crate) fn ack(&self, tag: u64, multiple: bool) -> Result<(), ()> {
        let (known, _freed) = self.with(|state, effects| {
            let answered = state.answered(tag, multiple, BrokerAnswer::Ack, effects);
            state.release_held_back(self.config.channel, None, effects);
            answered
        });
        known
    }

    /// Applies `basic.nack` from the broker; returns whether publishes wait to be sent again. `Err` as for
    /// [`ack`](Self::ack).
    pub(crate) fn nack(&self, tag: u64, multiple: bool) -> Result<bool, ()> {
        let now = Instant::now();
        let (known, _freed) = self.with(|state, effects| {
            let (known, freed) = state.answered(tag, multiple, state.nack_answer(now), effects);
            let again = known.map(|()| state.retry_nacks());
            state.release_held_back(self.config.channel, None, effects);
            (again, freed)
        });
        known
    }
}

impl OutboxState {
    /// Returns bodies to drop when the lock is free.
    #[inline]
    fn answered(
        &mut self,
        tag: u64,
        multiple: bool,
        answer: BrokerAnswer,
        effects: &mut DeferredEffects,
    ) -> (Result<(), ()>, Vec<Bytes>) {
        let written = self.written();
        let OutboxState { confirms, unconfirmed, .. } = self;
        let known = confirms.answered(tag, multiple, written, answer, unconfirmed, &mut effects.wakers);
        (known, self.drop_resolved(effects))
    }
}

impl Confirms {
    /// Applies a confirm of the broker; `Err` for the delivery tag of a publish from `written` on, which was not
    /// written. Confirms of publishes that have their outcome are ignored.
    #[inline]
    pub(super) fn answered(
        &mut self,
        tag: u64,
        multiple: bool,
        written: u64,
        answer: BrokerAnswer,
        unconfirmed: &Unconfirmed,
        wakers: &mut Vec<Waker>,
    ) -> Result<(), ()> {
        // What was written and is resolved may be dropped.
        let end = written.max(self.base);
        let sequence = match tag {
            0 if multiple => end - 1,
            0 => return Err(()),
            tag => self.tags.sequence(tag),
        };
        if sequence >= end || sequence == 0 {
            return Err(());
        }
        if sequence < self.base {
            return Ok(());
        }
        let last = (sequence - self.base) as usize;
        let first = if multiple { 0 } else { last };
        let before = self.resolved;
        for at in first..=last {
            self.answer_one(at, answer, unconfirmed, wakers);
        }
        let answered = (self.resolved - before) as u64;
        match answer {
            BrokerAnswer::Ack => self.answers.acked += answered,
            BrokerAnswer::Nack | BrokerAnswer::DeferrableNack => self.answers.nacked += answered,
        }
        self.advance(wakers);
        Ok(())
    }

    #[inline]
    fn answer_one(
        &mut self,
        at: usize,
        answer: BrokerAnswer,
        unconfirmed: &Unconfirmed,
        wakers: &mut Vec<Waker>,
    ) {
        let sequence = self.base + at as u64;
        let Some(slot) = self.ring.get_mut(at) else { return };
        if slot.state != ConfirmState::Open {
            return;
        }
        if answer == BrokerAnswer::DeferrableNack
            && slot.resend
            && !slot.late
            && sequence >= self.expired_below
        {
            slot.state = ConfirmState::NackDeferred;
            self.deferred += 1;
            return;
        }
        slot.state = ConfirmState::Resolved;
        self.resolved += 1;
        wakers.extend(slot.waker.take());
        let forgotten = slot.forgotten;
        if answer != BrokerAnswer::Ack || !self.returns.is_empty() {
            self.nacked_or_returned(sequence, forgotten, answer, unconfirmed);
        }
    }

    #[inline(never)]
    fn nacked_or_returned(
        &mut self,
        sequence: u64,
        forgotten: bool,
        answer: BrokerAnswer,
        unconfirmed: &Unconfirmed,
    ) {
        let returned = self.returns.remove(&sequence);
        let mut cause = match returned {
            _ if answer != BrokerAnswer::Ack => unconfirmed.nacked(sequence).into(),
            Some(returned) => {
                self.answers.returned += 1;
                Cause::returned(Error::unroutable(returned))
            }
            None => return,
        };
        self.failed(sequence, forgotten, &mut cause);
    }
}
