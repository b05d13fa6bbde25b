//! Deadlines of publishes: when they run, and what becomes of a publish that is late.

use std::{sync::Arc, task::Waker, time::Duration};

use actix::Recipient;
use tokio::time::Instant;

use super::{
    Outbox, OutboxState,
    attachment::{Attachment, PublishMode},
    confirms::{ConfirmState, Confirms},
    effects::DeferredEffects,
    outcome_error::Cause,
    signals::Tick,
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
            self.running = true;
            self.now = Instant::now();
            effects.tick = self.actor.clone();
        }
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
        self.with(|state, effects| {
            if matches!(state.attachment, Attachment::Attached { publishes: PublishMode::Writing { .. }, .. })
            {
                // What is late is written nevertheless.
                let end = state.confirms.late_end(now, late);
                state.confirms.taken.below(end);
            }
            let OutboxState { confirms, unconfirmed, blocked, .. } = &mut *state;
            confirms.expire(now, late, *blocked, unconfirmed, &mut effects.wakers);
            state.release_held_back(self.config.channel, Some(now), effects);
            state.window.expire(now, late, &mut effects.wakers);
            state.ticker.now = now;
            state.ticker.running = state.confirms.unconfirmed() > 0 || state.window.waiting() > 0;
            state.ticker.running
        })
    }
}

impl Confirms {
    /// Returns one more than the last publish that is older than `late`.
    fn late_end(&self, now: Instant, late: Duration) -> u64 {
        // Times are in order: all publishes before the first one that is in time are late.
        let in_time = self.published_at.iter().position(|&(_, at)| now.saturating_duration_since(at) < late);
        match in_time {
            Some(at) => self.published_at.get(at).map_or(self.base, |&(from, _)| from),
            None if self.published_at.is_empty() => self.base,
            None => self.end(),
        }
    }

    /// Fails publishes that are older than `late`. They stay in the ring: the broker still confirms them.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        late: Duration,
        blocked: bool,
        unconfirmed: &Unconfirmed,
        wakers: &mut Vec<Waker>,
    ) {
        let end = self.late_end(now, late);
        let from = self.expired_below.max(self.base);
        let what = "no confirm within the deadline";
        let mut cause = Cause::from(if blocked { Error::blocked(what) } else { Error::timeout(what) });
        for sequence in from..end {
            let Some(slot) = self.ring.get_mut((sequence - self.base) as usize) else { break };
            if slot.state == ConfirmState::Resolved {
                continue;
            }
            wakers.extend(slot.waker.take());
            if !slot.forgotten {
                slot.forgotten = true;
                match slot.state {
                    ConfirmState::NackDeferred => {
                        self.failed(sequence, false, &mut unconfirmed.nacked(sequence).into());
                    }
                    _ => self.failed(sequence, false, &mut cause),
                }
            }
        }
        self.expired_below = self.expired_below.max(end);
        self.barrier.passed(self.expired_below.max(self.base), wakers);
    }
}
