//! The future of many publishes under one routing key.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    iter::Fuse,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::{
    own_deadline::OwnDeadline,
    publish::Ticket,
    publish_future::{Destination, poll_queue},
};
use crate::{
    error::{Error, Result},
    message::Publishing,
};

/// The most confirms to wait for; the oldest must arrive before more is published.
const MAX_CONFIRMS: usize = 4096;

/// Publishes all contents and waits for all confirms. Nothing happens before the first poll.
#[must_use = "futures do nothing unless polled"]
pub struct PublishAllFuture<D: Destination, I: Iterator<Item = Publishing>> {
    destination: D,
    contents: Fuse<I>,
    /// The publish that waits for room in the window.
    queueing: Option<(Publishing, Ticket, OwnDeadline)>,
    /// The sequence numbers of publishes without a confirm yet, oldest first.
    confirming: VecDeque<u64>,
    /// The deadlines of those that have one of their own, oldest publish first.
    deadlines: VecDeque<(u64, OwnDeadline)>,
    /// The number of confirmed publishes, or the first failure.
    result: Result<usize>,
    /// Whether a publish was confirmed, or has failed and may have arrived.
    any_arrived: bool,
}

// The iterator is used by reference and never pinned.
impl<D: Destination, I: Iterator<Item = Publishing>> Unpin for PublishAllFuture<D, I> {}

impl<D: Destination, I: Iterator<Item = Publishing>> PublishAllFuture<D, I> {
    /// Creates the future.
    pub fn new(destination: D, contents: I) -> Self {
        let (contents, confirming, deadlines) = (contents.fuse(), VecDeque::new(), VecDeque::new());
        let (queueing, result, any_arrived) = (None, Ok(0), false);
        Self { destination, contents, queueing, confirming, deadlines, result, any_arrived }
    }

    fn resolved(&mut self, result: Result<()>) {
        self.any_arrived |= result.as_ref().err().is_none_or(Error::may_have_arrived);
        match (&mut self.result, result) {
            (Ok(count), Ok(())) => *count += 1,
            (Ok(_), Err(error)) => self.result = Err(error),
            (Err(_), _) => {}
        }
    }

    /// Returns the error of all of them: some may have arrived although one has not.
    fn failure(&self, error: Error) -> Error {
        if self.any_arrived || !self.confirming.is_empty() { error.maybe_arrived() } else { error }
    }

    /// Ends the publishes whose own deadlines have passed. Their outcomes are taken in their turn.
    #[cold]
    fn expire(&mut self, cx: &mut Context<'_>) {
        let (oldest, outbox) = (self.confirming.front().copied(), self.destination.outbox());
        self.deadlines.retain_mut(|(sequence, deadline)| {
            if oldest.is_none_or(|oldest| *sequence < oldest) {
                return false;
            }
            let passed = deadline.has_passed(cx);
            if passed {
                outbox.end_publish(*sequence);
            }
            !passed
        });
    }
}

impl<D: Destination, I: Iterator<Item = Publishing>> Future for PublishAllFuture<D, I> {
    type Output = Result<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if this.queueing.is_none() {
                this.queueing = this.contents.next().map(|content| {
                    let deadline = OwnDeadline::of(&content);
                    (content, Ticket::default(), deadline)
                });
            }
            if !this.deadlines.is_empty() {
                this.expire(cx);
            }
            match &mut this.queueing {
                Some((content, ticket, deadline)) if this.confirming.len() < MAX_CONFIRMS => {
                    let queued = ready!(poll_queue(&this.destination, content, ticket, deadline, cx));
                    let deadline = std::mem::take(deadline);
                    this.queueing = None;
                    match queued.map_err(|error| this.failure(error))? {
                        0 => this.resolved(Ok(())),
                        sequence => {
                            this.confirming.push_back(sequence);
                            if deadline.is_set() {
                                this.deadlines.push_back((sequence, deadline.start()));
                            }
                        }
                    }
                }
                _ => {
                    let Some(&oldest) = this.confirming.front() else {
                        let result = std::mem::replace(&mut this.result, Ok(0));
                        return Poll::Ready(result.map_err(|error| this.failure(error)));
                    };
                    let confirmed = ready!(this.destination.outbox().poll_confirm(oldest, cx));
                    this.confirming.pop_front();
                    this.resolved(confirmed.map(|_| ()));
                }
            }
        }
    }
}

impl<D: Destination, I: Iterator<Item = Publishing>> Drop for PublishAllFuture<D, I> {
    fn drop(&mut self) {
        let outbox = self.destination.outbox();
        if let Some((_, ticket, _)) = &mut self.queueing {
            outbox.leave_queue(ticket);
        }
        for &sequence in &self.confirming {
            outbox.forget_confirm(sequence);
        }
    }
}

impl<D: Destination, I: Iterator<Item = Publishing>> fmt::Debug for PublishAllFuture<D, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishAllFuture").field("confirming", &self.confirming.len()).finish_non_exhaustive()
    }
}
