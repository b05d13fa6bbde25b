//! Who waits until every publish up to a point is answered.

use std::task::{Context, Poll, Waker};

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
    /// Tells one more than the number of the last publish so far.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::{Outbox, Ticket, Publishing, Result, OutboxConfig};
    /// # fn terms() -> OutboxConfig {
    /// #     let deadline = Duration::from_secs(5);
    /// #     OutboxConfig { channel: 1, confirms: true, window: 64, window_bytes: 1 << 20, deadline }
    /// # }
    /// assert_eq!(Outbox::new(terms()).published(), 1);
    /// ```
    pub fn published(&self) -> u64 {
        self.lock().confirms.end()
    }

    /// Answers once every publish below `end` is answered or late.
    ///
    /// # Errors
    /// The end of the channel; `Timeout` where some are late; else the first failure that nobody has heard of.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::{Outbox, Ticket, Publishing, Result, OutboxConfig};
    /// # fn terms() -> OutboxConfig {
    /// #     let deadline = Duration::from_secs(5);
    /// #     OutboxConfig { channel: 1, confirms: true, window: 64, window_bytes: 1 << 20, deadline }
    /// # }
    /// # async fn all_confirmed(outbox: &Outbox) -> Result<()> {
    /// let (end, mut place) = (outbox.published(), None);
    /// std::future::poll_fn(|cx| outbox.poll_confirmed_below(&mut place, end, cx)).await
    /// # }
    /// ```
    pub fn poll_confirmed_below(
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

    /// Gives up waiting.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::{Outbox, Ticket, Publishing, Result, OutboxConfig};
    /// # fn terms() -> OutboxConfig {
    /// #     let deadline = Duration::from_secs(5);
    /// #     OutboxConfig { channel: 1, confirms: true, window: 64, window_bytes: 1 << 20, deadline }
    /// # }
    /// Outbox::new(terms()).leave_barrier(&mut None);
    /// ```
    pub fn leave_barrier(&self, place: &mut Option<u64>) {
        let old = self.lock().confirms.barrier.leave(place);
        drop(old);
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
