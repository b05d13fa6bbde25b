//! Deadlines of publishes: when they run, and what becomes of a publish that is late.

use std::{sync::Arc, task::Waker, time::Duration};

use actix::Recipient;
use tokio::time::Instant;

use super::{
    Outbox, OutboxState,
    confirms::{ConfirmState, Confirms},
    effects::DeferredEffects,
    outcome_error::Cause,
    signals::Tick,
    transaction::WITHOUT_REPLY,
    unconfirmed::Unconfirmed,
};
use crate::error::Error;

/// When the Channel actor ticks. Both flags are independent of each other.
pub(super) struct Ticker {
    pub(super) actor: Option<Arc<Recipient<Tick>>>,
    /// The actor ticks, because something has a deadline.
    running: bool,
    /// The channel closes when it is idle, so the actor ticks then.
    close_when_idle: bool,
    /// The time of the last tick. Publishes between two ticks share it, so the clock is not read for each of
    /// them.
    now: Instant,
}

impl Default for Ticker {
    fn default() -> Self {
        Self { actor: None, running: false, close_when_idle: false, now: Instant::now() }
    }
}

impl Ticker {
    /// Starts ticks unless they run.
    #[inline]
    pub(super) fn start(&mut self, effects: &mut DeferredEffects) {
        if !self.running {
            self.start_first(effects);
        }
    }

    #[inline(never)]
    fn start_first(&mut self, effects: &mut DeferredEffects) {
        self.running = true;
        self.now = Instant::now();
        effects.tick = self.actor.clone();
    }

    /// Has the actor tick once, whether ticks run or not.
    pub(super) fn request(&self, effects: &mut DeferredEffects) {
        effects.tick = self.actor.clone();
    }

    #[inline]
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Nothing is left to be taken or settled.
    #[inline]
    pub(super) fn idle(&self, effects: &mut DeferredEffects) {
        if self.close_when_idle {
            effects.tick = self.actor.clone();
        }
    }
}

impl Outbox {
    pub(crate) fn set_ticked_actor(&self, actor: Recipient<Tick>) {
        self.lock().ticker.actor = Some(Arc::new(actor));
    }

    /// Sends a [`Tick`] from now on whenever the queue is empty and all deliveries are settled.
    pub(crate) fn close_when_idle(&self) {
        self.lock().ticker.close_when_idle = true;
    }

    /// Resolves every wait whose deadline has passed; returns whether another tick is needed.
    pub(crate) fn expire(&self, now: Instant) -> bool {
        let late = self.config.deadline.saturating_add(self.config.tick());
        let (running, _dropped) = self.with(|state, effects| {
            let end = state.confirms.late_end(now, late);
            let dropped = (end > state.confirms.expired_below).then(|| state.expire_below(end, effects));
            state.release_held_back(self.config.channel, Some(now), effects);
            state.window.expire(now, late, &mut effects.wakers);
            state.ticker.now = now;
            state.ticker.running = state.confirms.unconfirmed() > 0 || state.window.waiting() > 0;
            (state.ticker.running, dropped)
        });
        running
    }
}

impl OutboxState {
    /// Returns what to drop when the lock is free.
    fn expire_below(&mut self, end: u64, effects: &mut DeferredEffects) -> impl Sized + use<> {
        let mut cause = self.not_confirmed("no confirm within the deadline").into();
        let mut unsent = self.not_sent("not sent within the deadline").into();
        let OutboxState { confirms, unconfirmed, .. } = self;
        let withdrawn = confirms.expire(end, &mut cause, &mut unsent, unconfirmed, &mut effects.wakers);
        let freed = withdrawn.then(|| self.drop_resolved(effects));
        (freed, cause, unsent)
    }

    /// Returns the error of a publish that could not be written within the deadline of the channel: the reason.
    pub(super) fn not_sent(&self, what: &'static str) -> Error {
        match (&self.blocked, &self.unavailable) {
            (Some(reason), _) => Error::blocked_by(what, reason),
            (None, Some(cause)) => Error::unavailable(what, cause),
            (None, None) => self.timed_out(what),
        }
    }

    /// Returns the error of a publish that was written, but not confirmed within the deadline of the channel.
    fn not_confirmed(&self, what: &'static str) -> Error {
        match &self.blocked {
            Some(reason) => Error::blocked_by(what, reason),
            None => self.timed_out(what),
        }
    }

    /// Returns `Timeout`, with the reason why a publish had to wait.
    pub(super) fn timed_out(&self, what: &'static str) -> Error {
        let late = Error::timeout(what);
        match (&self.blocked, &self.unavailable) {
            (Some(reason), _) => late.because(Error::blocked_by("it had to wait", reason)),
            (None, Some(cause)) => late.because(cause.clone()),
            (None, None) if self.attachment.awaits_commit() => late.because(Error::timeout(WITHOUT_REPLY)),
            (None, None) => late,
        }
    }
}

impl Confirms {
    /// Returns one more than the last publish that is older than `late`.
    pub(super) fn late_end(&self, now: Instant, late: Duration) -> u64 {
        // Times are in order: all publishes before the first one that is in time are late.
        let in_time = self.published_at.iter().position(|&(_, at)| now.saturating_duration_since(at) < late);
        match in_time {
            Some(at) => self.published_at.get(at).map_or(self.base, |&(from, _)| from),
            None if self.published_at.is_empty() => self.base,
            None => self.end(),
        }
    }

    /// Fails publishes below `end`. Those that were written stay in the ring with `cause`: the
    /// broker still confirms them. The others are withdrawn; returns whether there are any.
    pub(super) fn expire(
        &mut self,
        end: u64,
        cause: &mut Cause,
        unsent: &mut Cause,
        unconfirmed: &Unconfirmed,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let from = self.expired_below.max(self.base);
        let mut withdrawn = false;
        for sequence in from..end {
            let Some(slot) = self.ring.get_mut((sequence - self.base) as usize) else { break };
            if slot.state == ConfirmState::Resolved {
                continue;
            }
            if !self.taken.has(sequence) {
                self.withdraw(sequence, unsent, wakers);
                withdrawn = true;
                continue;
            }
            wakers.extend(slot.waker.take());
            if !slot.forgotten {
                slot.forgotten = true;
                match slot.state {
                    ConfirmState::NackDeferred => {
                        self.failed(sequence, false, &mut unconfirmed.nacked(sequence).into());
                    }
                    _ => self.failed(sequence, false, cause),
                }
            }
        }
        self.expired_below = self.expired_below.max(end);
        if withdrawn {
            self.advance(wakers);
        }
        self.barrier.passed(self.expired_below.max(self.base), wakers);
        withdrawn
    }
}
