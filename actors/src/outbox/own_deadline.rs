//! The deadline of one publish: [`Publishing::deadline`]. The future that awaits the publish keeps it, with a
//! timer that exists only where a deadline is set.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Outbox,
    confirms::{ConfirmState, Confirms},
    outcome_error::Cause,
    publish::Ticket,
    unconfirmed::Unconfirmed,
};
use crate::{
    error::{Error, Result},
    message::Publishing,
};

/// The deadline of one publish, if it has one.
#[derive(Debug, Default)]
pub(super) struct OwnDeadline(Option<Box<Timer>>);

#[derive(Debug)]
struct Timer {
    within: Duration,
    /// Set when the time begins to run.
    at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl OwnDeadline {
    /// Returns the deadline, whose time runs from the first poll on.
    #[inline]
    pub(super) fn of(content: &Publishing) -> Self {
        Self(content.own_deadline().map(Timer::new))
    }

    /// Lets the time run from now on.
    #[inline]
    pub(super) fn start(mut self) -> Self {
        if let Some(timer) = &mut self.0 {
            timer.start();
        }
        self
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Returns whether the deadline has passed; otherwise `cx` is woken when it passes.
    #[inline]
    pub(super) fn has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.0 {
            None => false,
            Some(timer) => timer.has_passed(cx),
        }
    }
}

// The destructor of a timer is not inlined where none is set.
impl Drop for OwnDeadline {
    #[inline]
    fn drop(&mut self) {
        if let Some(timer) = self.0.take() {
            timer.end();
        }
    }
}

impl Timer {
    #[cold]
    fn new(within: Duration) -> Box<Self> {
        Box::new(Self { within, at: None, sleep: None })
    }

    #[cold]
    #[inline(never)]
    fn end(self: Box<Self>) {
        drop(self);
    }

    #[cold]
    fn start(&mut self) -> Instant {
        *self.at.get_or_insert_with(|| Instant::now() + self.within)
    }

    #[cold]
    fn has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        let at = self.start();
        if self.sleep.is_none() && Handle::try_current().is_ok() {
            self.sleep = Some(Box::pin(sleep_until(at)));
        }
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().poll(cx).is_ready(),
            // Without a runtime nothing wakes the future at that time.
            None => Instant::now() >= at,
        }
    }
}

impl Outbox {
    /// Gives up a publish that waits for room in the window until its own deadline.
    #[cold]
    pub(super) fn expire_queueing(&self, ticket: &mut Ticket) -> Error {
        self.leave_queue(ticket);
        self.lock().timed_out("no room in the publish window within its deadline; not sent").without_room()
    }

    /// The own deadline of a publish has passed: ends it, and returns its outcome.
    #[cold]
    pub(super) fn expire_publish(&self, sequence: u64) -> Result<u32> {
        self.end_publish(sequence);
        let mut state = self.lock();
        let error = state.confirms.failures.remove(&sequence);
        if let Some(slot) = state.confirms.slot(sequence) {
            slot.forgotten = true;
        }
        error.map_or(Ok(state.confirms.epochs.of(sequence)), Err)
    }

    /// The own deadline of a publish has passed. If it has no outcome, it is withdrawn, or, if it was
    /// written, not sent again.
    pub(super) fn end_publish(&self, sequence: u64) {
        let _dropped = self.with(|state, effects| {
            let what = if state.confirms.taken.has(sequence) {
                "no confirm within its deadline"
            } else {
                "not sent within its deadline"
            };
            let mut late = Cause::from(state.timed_out(what));
            let dropped =
                state.confirms.end_publish(sequence, &mut late, &state.unconfirmed, &mut effects.wakers);
            (state.drop_resolved(effects), dropped, late)
        });
    }
}

impl Confirms {
    /// Returns what to drop when the lock is free.
    fn end_publish(
        &mut self,
        sequence: u64,
        late: &mut Cause,
        unconfirmed: &Unconfirmed,
        wakers: &mut Vec<Waker>,
    ) -> Option<Waker> {
        let taken = self.taken.has(sequence);
        let slot = self.slot(sequence)?;
        match slot.state {
            ConfirmState::Resolved => return None,
            _ if slot.late => return None,
            ConfirmState::Open if taken => {
                slot.late = true;
                let waker = slot.waker.take();
                self.failed(sequence, false, late);
                return waker;
            }
            ConfirmState::Open => self.withdraw(sequence, late, wakers),
            ConfirmState::NackDeferred => {
                self.fail(sequence, &mut unconfirmed.nacked(sequence).into(), wakers);
            }
        }
        self.advance(wakers);
        None
    }
}

/// Polls the outcome of a publish that `deadline` limits.
// Left to the compiler, it is a call for each confirm, which costs a tenth of publishing with confirms.
#[inline(always)]
pub(super) fn poll_outcome(
    outbox: &Outbox,
    sequence: u64,
    deadline: &mut OwnDeadline,
    cx: &mut Context<'_>,
) -> Poll<Result<u32>> {
    match outbox.poll_confirm(sequence, cx) {
        Poll::Pending if deadline.has_passed(cx) => Poll::Ready(outbox.expire_publish(sequence)),
        outcome => outcome,
    }
}
