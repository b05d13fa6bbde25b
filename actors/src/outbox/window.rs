//! The publish window: how many publishes and bytes are in flight, and the queue of callers that wait for
//! room.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
    time::Duration,
};

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Window {
    max_messages: usize,
    max_bytes: usize,
    messages: usize,
    bytes: usize,
    callers: VecDeque<QueuedCaller>,
    /// How many of the callers are expired. They stay until they have noticed it, and block nobody.
    expired: usize,
    next_key: u64,
}

#[derive(Debug)]
struct QueuedCaller {
    key: u64,
    since: Instant,
    expired: bool,
    waker: Waker,
}

impl Window {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            max_messages: max_messages.max(1),
            max_bytes,
            messages: 0,
            bytes: 0,
            callers: VecDeque::new(),
            expired: 0,
            next_key: 0,
        }
    }

    /// Returns whether a publish may enter now: callers do not overtake each other, and a publish that is
    /// larger than the window enters alone.
    #[inline]
    pub(super) fn admits(&self, ticket: Option<u64>, cost: usize) -> bool {
        (self.callers.is_empty() || self.is_first(ticket))
            && self.messages < self.max_messages
            && (self.bytes + cost <= self.max_bytes || self.messages == 0)
    }

    /// Returns whether it is the turn of this caller, while there are callers.
    #[inline(never)]
    fn is_first(&self, ticket: Option<u64>) -> bool {
        match (ticket, self.front()) {
            (None, front) => front.is_none(),
            (Some(key), Some(front)) => front.key == key,
            // It is expired.
            (Some(_), None) => false,
        }
    }

    /// Returns the first caller that is not expired.
    fn front(&self) -> Option<&QueuedCaller> {
        self.callers.iter().find(|caller| !caller.expired)
    }

    fn remove(&mut self, key: u64) -> Option<Waker> {
        let at = self.callers.iter().position(|caller| caller.key == key)?;
        let caller = self.callers.remove(at)?;
        self.expired -= usize::from(caller.expired);
        Some(caller.waker)
    }

    /// Enters the wait queue, or stays in it; returns `false` if the deadline has passed, and leaves it. A
    /// waker that is not needed any more goes to `dropped`.
    pub(super) fn wait(
        &mut self,
        ticket: &mut Option<u64>,
        cx: &Context<'_>,
        now: Instant,
        dropped: &mut Vec<Waker>,
    ) -> bool {
        let Some(key) = *ticket else {
            let key = self.next_key;
            self.next_key += 1;
            *ticket = Some(key);
            self.callers.push_back(QueuedCaller {
                key,
                since: now,
                expired: false,
                waker: cx.waker().clone(),
            });
            return true;
        };
        match self.callers.iter_mut().find(|caller| caller.key == key) {
            Some(caller) if !caller.expired => {
                if !caller.waker.will_wake(cx.waker()) {
                    dropped.push(std::mem::replace(&mut caller.waker, cx.waker().clone()));
                }
                true
            }
            _ => {
                *ticket = None;
                dropped.extend(self.remove(key));
                false
            }
        }
    }

    /// Admits a publish and wakes the next caller.
    #[inline]
    pub(super) fn enter(
        &mut self,
        ticket: Option<u64>,
        cost: usize,
        wakers: &mut Vec<Waker>,
        dropped: &mut Vec<Waker>,
    ) {
        self.messages += 1;
        self.bytes += cost;
        if let Some(key) = ticket {
            self.entered(key, wakers, dropped);
        }
    }

    #[inline(never)]
    fn entered(&mut self, key: u64, wakers: &mut Vec<Waker>, dropped: &mut Vec<Waker>) {
        dropped.extend(self.remove(key));
        self.wake_front(wakers);
    }

    /// Leaves the wait queue; returns a waker to drop when the lock is free.
    pub(super) fn leave(&mut self, key: u64, wakers: &mut Vec<Waker>) -> Option<Waker> {
        let was_first = self.front().is_some_and(|front| front.key == key);
        let left = self.remove(key);
        if was_first {
            self.wake_front(wakers);
        }
        left
    }

    /// Sets how many publishes are in flight, and frees bytes.
    #[inline]
    pub(super) fn set(&mut self, messages: usize, freed: usize, wakers: &mut Vec<Waker>) {
        self.messages = messages;
        self.bytes = self.bytes.saturating_sub(freed);
        self.wake_front(wakers);
    }

    /// Sets what is in flight after a recovery.
    pub(super) fn restart(&mut self, messages: usize, bytes: usize, wakers: &mut Vec<Waker>) {
        self.bytes = bytes;
        self.set(messages, 0, wakers);
    }

    /// Removes publishes that need no confirm, once they are written.
    #[inline]
    pub(super) fn written(&mut self, messages: usize, bytes: usize, wakers: &mut Vec<Waker>) {
        self.set(self.messages.saturating_sub(messages), bytes, wakers);
    }

    /// Wakes the first caller if there is room.
    #[inline]
    pub(super) fn wake_front(&mut self, wakers: &mut Vec<Waker>) {
        if !self.callers.is_empty()
            && self.messages < self.max_messages
            && let Some(front) = self.front()
        {
            wakers.push(front.waker.clone());
        }
    }

    /// Wakes callers that have waited for `late`; they leave with an error.
    pub(super) fn expire(&mut self, now: Instant, late: Duration, wakers: &mut Vec<Waker>) {
        for caller in &mut self.callers {
            if !caller.expired && now.saturating_duration_since(caller.since) >= late {
                caller.expired = true;
                self.expired += 1;
                wakers.push(caller.waker.clone());
            }
        }
        self.wake_front(wakers);
    }

    /// Removes and wakes all callers.
    pub(super) fn wake_all(&mut self, wakers: &mut Vec<Waker>) {
        self.expired = 0;
        wakers.extend(self.callers.drain(..).map(|caller| caller.waker));
    }

    /// Removes and wakes all callers, and forgets what is in flight.
    pub(super) fn close(&mut self, wakers: &mut Vec<Waker>) {
        self.wake_all(wakers);
        self.messages = 0;
        self.bytes = 0;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn waiting(&self) -> usize {
        self.callers.len() - self.expired
    }
}
