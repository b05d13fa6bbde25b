//! Waiting until all publishes up to a point have an outcome.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{Outbox, outcome_error::Cause};
use crate::error::{Error, Result};

#[derive(Debug, Default)]
pub(super) struct Barrier {
    waiters: Vec<BarrierWaiter>,
    next_key: u64,
    /// The first failure of a publish without a waiter for its confirm.
    failure: Option<Error>,
    /// Publishes that may have arrived were unconfirmed when the outbox was closed.
    pub(super) abandoned: bool,
}

#[derive(Debug)]
struct BarrierWaiter {
    key: u64,
    /// One more than the last publish to wait for.
    end: u64,
    waker: Waker,
}

impl Barrier {
    /// Keeps the first failure for the next caller. It may have arrived if any of them may.
    pub(super) fn failed(&mut self, error: &Error) {
        self.failure = Some(match self.failure.take() {
            Some(first) if error.may_have_arrived() => first.maybe_arrived(),
            Some(first) => first,
            None => error.clone(),
        });
    }

    /// Wakes those that wait for publishes below `base` only.
    #[inline]
    pub(super) fn passed(&mut self, base: u64, wakers: &mut Vec<Waker>) {
        if self.waiters.is_empty() {
            return;
        }
        for waiter in &self.waiters {
            if waiter.end <= base {
                wakers.push(waiter.waker.clone());
            }
        }
    }

    fn wait(&mut self, ticket: &mut Option<u64>, end: u64, cx: &Context<'_>) -> Option<Waker> {
        let known = ticket.and_then(|key| self.waiters.iter_mut().find(|waiter| waiter.key == key));
        if let Some(waiter) = known {
            return Some(std::mem::replace(&mut waiter.waker, cx.waker().clone()));
        }
        let key = self.next_key;
        self.next_key += 1;
        *ticket = Some(key);
        self.waiters.push(BarrierWaiter { key, end, waker: cx.waker().clone() });
        None
    }

    fn leave(&mut self, ticket: &mut Option<u64>) -> Option<Waker> {
        let key = ticket.take()?;
        let at = self.waiters.iter().position(|waiter| waiter.key == key)?;
        Some(self.waiters.swap_remove(at).waker)
    }
}

impl Outbox {
    /// Returns the sequence number of the next publish.
    pub(crate) fn published(&self) -> u64 {
        self.lock().confirms.end()
    }

    /// Resolves once every publish below `end` has an outcome or is late.
    ///
    /// # Errors
    /// The error that closed the channel; `Timeout` if some are late; else the first failure that no confirm
    /// reported.
    pub(super) fn poll_confirmed_below(
        &self,
        ticket: &mut Option<u64>,
        end: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        let (result, _old) = self.with(|state, _| {
            let closed = state.attachment.closed();
            let confirms = &mut state.confirms;
            let result = match (closed, confirms.progress(end)) {
                (Some(error), _) if confirms.barrier.abandoned => Err(error.in_flight()),
                (Some(error), _) => Err(error.clone()),
                (None, BarrierProgress::Resolved) => confirms.barrier.failure.take().map_or(Ok(()), Err),
                (None, BarrierProgress::Late) => {
                    let late = Error::timeout("no confirm within the deadline");
                    // Those behind the first one cannot have been written before it.
                    Err(Cause::from(late).of(confirms.base, &confirms.taken))
                }
                (None, BarrierProgress::Waiting) => {
                    return (Poll::Pending, confirms.barrier.wait(ticket, end, cx));
                }
            };
            (Poll::Ready(result), confirms.barrier.leave(ticket))
        });
        result
    }

    pub(super) fn leave_barrier(&self, ticket: &mut Option<u64>) {
        let _old = self.lock().confirms.barrier.leave(ticket);
    }
}

/// Waits until all publishes before its first poll have an outcome. Nothing happens before the first poll.
#[must_use = "futures do nothing unless polled"]
pub struct WaitForConfirmsFuture {
    outbox: Arc<Outbox>,
    /// The first sequence number that it does not wait for, known since the first poll.
    end: Option<u64>,
    ticket: Option<u64>,
}

impl WaitForConfirmsFuture {
    /// Creates the future.
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox, end: None, ticket: None }
    }
}

impl Future for WaitForConfirmsFuture {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !this.outbox.config.confirms {
            return Poll::Ready(Err(Error::refused_here("a channel without confirms has none to wait for")));
        }
        let end = *this.end.get_or_insert_with(|| this.outbox.published());
        this.outbox.poll_confirmed_below(&mut this.ticket, end, cx)
    }
}

impl Drop for WaitForConfirmsFuture {
    fn drop(&mut self) {
        if self.ticket.is_some() {
            self.outbox.leave_barrier(&mut self.ticket);
        }
    }
}

impl fmt::Debug for WaitForConfirmsFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitForConfirmsFuture").field("end", &self.end).finish_non_exhaustive()
    }
}

/// The progress of the publishes below a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BarrierProgress {
    Waiting,
    /// All are resolved.
    Resolved,
    /// Some are late, and the others resolved.
    Late,
}
