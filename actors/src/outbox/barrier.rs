//! Waiting until all publishes up to a point have an outcome.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{Attachment, Outbox};
use crate::error::{Error, Result};

#[derive(Debug, Default)]
pub(super) struct Barrier {
    waiters: Vec<Waiter>,
    next_key: u64,
    /// The first publish that failed while nobody waited for its confirm.
    unheard: Option<Error>,
}

#[derive(Debug)]
struct Waiter {
    key: u64,
    /// One more than the last publish that it waits for.
    end: u64,
    waker: Waker,
}

impl Barrier {
    pub(super) fn failed(&mut self, error: &Error) {
        self.unheard.get_or_insert_with(|| error.clone());
    }

    /// Wakes those for whom everything below `base` is enough.
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

    fn wait(&mut self, place: &mut Option<u64>, end: u64, cx: &Context<'_>) -> Option<Waker> {
        let known = place.and_then(|key| self.waiters.iter_mut().find(|waiter| waiter.key == key));
        if let Some(waiter) = known {
            return Some(std::mem::replace(&mut waiter.waker, cx.waker().clone()));
        }
        let key = self.next_key;
        self.next_key += 1;
        *place = Some(key);
        self.waiters.push(Waiter { key, end, waker: cx.waker().clone() });
        None
    }

    fn leave(&mut self, place: &mut Option<u64>) -> Option<Waker> {
        let key = place.take()?;
        let at = self.waiters.iter().position(|waiter| waiter.key == key)?;
        Some(self.waiters.swap_remove(at).waker)
    }
}

impl Outbox {
    /// Returns the sequence number of the next publish, for tests.
    #[doc(hidden)]
    pub fn published(&self) -> u64 {
        self.lock().confirms.end()
    }

    /// Resolves once every publish below `end` has an outcome or is late.
    ///
    /// # Errors
    /// The error that closed the channel; `Timeout` if some are late; else the first failure that nobody waited for.
    fn poll_confirmed_below(
        &self,
        place: &mut Option<u64>,
        end: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<()>> {
        let mut state = self.lock();
        let closed = match &state.life {
            Attachment::Closed { error, .. } => Some(error.clone()),
            _ => None,
        };
        let confirms = &mut state.confirms;
        let answer = match confirms.progress(end) {
            _ if closed.is_some() => closed.map_or(Ok(()), Err),
            Progress::Answered => confirms.barrier.unheard.take().map_or(Ok(()), Err),
            Progress::Late => Err(Error::timeout("no confirm within the deadline").in_flight()),
            Progress::Waiting => {
                let old = confirms.barrier.wait(place, end, cx);
                drop(state);
                drop(old);
                return Poll::Pending;
            }
        };
        let old = confirms.barrier.leave(place);
        drop(state);
        drop(old);
        Poll::Ready(answer)
    }

    fn leave_barrier(&self, place: &mut Option<u64>) {
        let old = self.lock().confirms.barrier.leave(place);
        drop(old);
    }
}

/// Waits until all publishes before its first poll have an outcome. Nothing happens before the first poll.
#[must_use = "futures do nothing unless polled"]
pub struct WaitForConfirmsFuture {
    outbox: Arc<Outbox>,
    /// The first sequence number that it does not wait for, known since the first poll.
    end: Option<u64>,
    place: Option<u64>,
}

impl WaitForConfirmsFuture {
    /// Creates the future.
    pub fn new(outbox: Arc<Outbox>) -> Self {
        Self { outbox, end: None, place: None }
    }
}

impl Future for WaitForConfirmsFuture {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !this.outbox.terms.confirms {
            return Poll::Ready(Err(Error::refused_here("a channel without confirms has none to wait for")));
        }
        let end = *this.end.get_or_insert_with(|| this.outbox.published());
        this.outbox.poll_confirmed_below(&mut this.place, end, cx)
    }
}

impl Drop for WaitForConfirmsFuture {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.outbox.leave_barrier(&mut self.place);
        }
    }
}

impl fmt::Debug for WaitForConfirmsFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitForConfirmsFuture").field("end", &self.end).finish_non_exhaustive()
    }
}

/// How far the publishes below a point are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Waiting,
    Answered,
    /// Answered, or told to be late.
    Late,
}
