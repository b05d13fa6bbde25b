//! The publish window: how many publishes and bytes are under way, and who waits for room, in order.

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
    line: VecDeque<Waiter>,
    next_key: u64,
}

#[derive(Debug)]
struct Waiter {
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
            line: VecDeque::new(),
            next_key: 0,
        }
    }

    /// Tells whether the one at `place` may enter now: nobody overtakes, and a giant enters alone.
    pub(super) fn admits(&self, place: Option<u64>, cost: usize) -> bool {
        let first = match (place, self.line.front()) {
            (_, None) => true,
            (Some(key), Some(front)) => front.key == key && !front.expired,
            (None, Some(_)) => false,
        };
        first
            && self.messages < self.max_messages
            && (self.bytes + cost <= self.max_bytes || self.messages == 0)
    }

    /// Takes a place in the line, or keeps it; `false` if its deadline has passed, and it is gone. What is not needed any
    /// more goes to `gone`, to be dropped where no lock is held.
    pub(super) fn wait(
        &mut self,
        place: &mut Option<u64>,
        cx: &Context<'_>,
        now: Instant,
        gone: &mut Vec<Waker>,
    ) -> bool {
        let Some(key) = *place else {
            let key = self.next_key;
            self.next_key += 1;
            *place = Some(key);
            self.line.push_back(Waiter { key, since: now, expired: false, waker: cx.waker().clone() });
            return true;
        };
        let at = self.line.iter().position(|waiter| waiter.key == key);
        match at.and_then(|at| self.line.get_mut(at)) {
            Some(waiter) if !waiter.expired => {
                if !waiter.waker.will_wake(cx.waker()) {
                    gone.push(std::mem::replace(&mut waiter.waker, cx.waker().clone()));
                }
                true
            }
            _ => {
                *place = None;
                gone.extend(at.and_then(|at| self.line.remove(at)).map(|waiter| waiter.waker));
                false
            }
        }
    }

    /// Counts one in, and lets the next in line try.
    pub(super) fn enter(
        &mut self,
        place: Option<u64>,
        cost: usize,
        wakers: &mut Vec<Waker>,
        gone: &mut Vec<Waker>,
    ) {
        self.messages += 1;
        self.bytes += cost;
        if place.is_some() {
            gone.extend(self.line.pop_front().map(|waiter| waiter.waker));
            self.wake_front(wakers);
        }
    }

    pub(super) fn leave(&mut self, key: u64, wakers: &mut Vec<Waker>) -> Option<Waker> {
        let at = self.line.iter().position(|w| w.key == key)?;
        let gone = self.line.remove(at);
        if at == 0 {
            self.wake_front(wakers);
        }
        gone.map(|w| w.waker)
    }

    /// Sets what is under way, after confirms.
    pub(super) fn set(&mut self, messages: usize, freed: usize, wakers: &mut Vec<Waker>) {
        self.messages = messages;
        self.bytes = self.bytes.saturating_sub(freed);
        self.wake_front(wakers);
    }

    /// Counts anew what a new life begins with.
    pub(super) fn restart(&mut self, messages: usize, bytes: usize, wakers: &mut Vec<Waker>) {
        self.bytes = bytes;
        self.set(messages, 0, wakers);
    }

    /// Counts publishes out that need no confirm, once written.
    pub(super) fn written(&mut self, messages: usize, bytes: usize, wakers: &mut Vec<Waker>) {
        self.set(self.messages.saturating_sub(messages), bytes, wakers);
    }

    pub(super) fn wake_front(&mut self, wakers: &mut Vec<Waker>) {
        if self.messages < self.max_messages
            && let Some(front) = self.line.front()
        {
            wakers.push(front.waker.clone());
        }
    }

    pub(super) fn expire(&mut self, now: Instant, late: Duration, wakers: &mut Vec<Waker>) {
        for waiter in &mut self.line {
            if !waiter.expired && now.saturating_duration_since(waiter.since) >= late {
                waiter.expired = true;
                wakers.push(waiter.waker.clone());
            }
        }
        // An expired front must not keep the line waiting until its own task runs.
        while self.line.front().is_some_and(|w| w.expired) {
            self.line.pop_front();
        }
        self.wake_front(wakers);
    }

    pub(super) fn close_line(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.line.drain(..).map(|w| w.waker));
    }

    pub(super) fn close(&mut self, wakers: &mut Vec<Waker>) {
        self.close_line(wakers);
        self.messages = 0;
        self.bytes = 0;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }
}
