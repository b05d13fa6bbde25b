//! The buffer of one subscriber behind its lock. Nothing is woken, sent or dropped while the lock is held.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{
    BridgeEvent, Lagging,
    buffer::{Buffer, Next, Offered},
};
use crate::{ConsumerEnd, message::Content};

/// The most messages that are in the mailbox of an actor, in addition to its bound.
pub(super) const MAILBOX: usize = 16;

/// What waits for one subscriber.
#[derive(Debug)]
pub(super) struct Inbox(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    buffer: Buffer<Arc<Content>>,
    /// Messages that its actor has been sent, and has not handled.
    sent: usize,
    taker: Option<Waker>,
}

impl Inbox {
    pub(super) fn new(max: usize, lagging: Lagging) -> Self {
        Self(Mutex::new(Waiting { buffer: Buffer::new(max, lagging), sent: 0, taker: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the buffer, and wakes the subscriber.
    fn change<R>(&self, change: impl FnOnce(&mut Buffer<Arc<Content>>) -> R) -> R {
        let mut waiting = self.lock();
        let changed = change(&mut waiting.buffer);
        let taker = waiting.taker.take();
        drop(waiting);
        if let Some(taker) = taker {
            taker.wake();
        }
        changed
    }

    /// Adds a message. Returns how many are lost.
    pub(super) fn offer(&self, message: &Arc<Content>) -> u64 {
        match self.change(|buffer| buffer.offer(message.clone())) {
            Offered::Kept | Offered::Ended(_) => 0,
            Offered::Lost(_) => 1,
            Offered::Disconnected(lost) => lost.len() as u64,
        }
    }

    pub(super) fn gap(&self) {
        self.change(Buffer::gap);
    }

    pub(super) fn end(&self, end: ConsumerEnd) {
        self.change(|buffer| buffer.end(end));
    }

    /// Loses all that waits. Returns how much that is, with what its actor has not handled.
    pub(super) fn discard(&self) -> usize {
        self.change(Buffer::discard).len() + self.lock().sent
    }

    /// Returns how many messages wait, or are in the mailbox of the actor.
    pub(super) fn unhandled(&self) -> usize {
        let waiting = self.lock();
        waiting.buffer.waiting() + waiting.sent
    }

    pub(super) fn lost(&self) -> u64 {
        self.lock().buffer.lost()
    }

    /// Takes the next event; `None` after the last one.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<BridgeEvent>> {
        let mut waiting = self.lock();
        match waiting.buffer.next() {
            Some(next) => Poll::Ready(Some(event(next))),
            None if waiting.buffer.is_over() => Poll::Ready(None),
            None => {
                waiting.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Takes the next events for an actor, which has handled all that were taken before; none after the last one.
    pub(super) fn poll_batch(&self, into: &mut Vec<BridgeEvent>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        waiting.sent = 0;
        while waiting.sent < MAILBOX
            && let Some(next) = waiting.buffer.next()
        {
            waiting.sent += usize::from(matches!(next, Next::Message(_)));
            into.push(event(next));
        }
        if into.is_empty() && !waiting.buffer.is_over() {
            waiting.wait(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Waiting {
    fn wait(&mut self, cx: &mut Context<'_>) {
        match &mut self.taker {
            Some(taker) => taker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }
}

fn event(next: Next<Arc<Content>>) -> BridgeEvent {
    match next {
        Next::Message(content) => BridgeEvent::Message(content),
        Next::Lagged(lost) => BridgeEvent::Lagged(lost),
        Next::Gap => BridgeEvent::Gap,
        Next::Ended(end) => BridgeEvent::Ended(end),
    }
}
