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
    publish::Ticket,
    publish_future::{Destination, poll_queue},
};
use crate::{error::Result, message::Publishing};

/// The most confirms to wait for; the oldest must arrive before more is published.
const MAX_CONFIRMS: usize = 4096;

/// Publishes all contents and waits for all confirms. Nothing happens before the first poll.
#[must_use = "futures do nothing unless polled"]
pub struct PublishAllFuture<D: Destination, I: Iterator<Item = Publishing>> {
    destination: D,
    contents: Fuse<I>,
    /// The publish that waits for room in the window.
    queueing: Option<(Publishing, Ticket)>,
    /// The sequence numbers of publishes without a confirm yet, oldest first.
    confirming: VecDeque<u64>,
    /// The number of confirmed publishes, or the first failure.
    result: Result<usize>,
}

// The iterator is used by reference and never pinned.
impl<D: Destination, I: Iterator<Item = Publishing>> Unpin for PublishAllFuture<D, I> {}

impl<D: Destination, I: Iterator<Item = Publishing>> PublishAllFuture<D, I> {
    /// Creates the future.
    pub fn new(destination: D, contents: I) -> Self {
        let (contents, confirming) = (contents.fuse(), VecDeque::new());
        Self { destination, contents, queueing: None, confirming, result: Ok(0) }
    }

    fn resolved(&mut self, result: Result<()>) {
        match (&mut self.result, result) {
            (Ok(count), Ok(())) => *count += 1,
            (Ok(_), Err(error)) => self.result = Err(error),
            (Err(_), _) => {}
        }
    }
}

impl<D: Destination, I: Iterator<Item = Publishing>> Future for PublishAllFuture<D, I> {
    type Output = Result<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if this.queueing.is_none() {
                this.queueing = this.contents.next().map(|content| (content, Ticket::default()));
            }
            match &mut this.queueing {
                Some((content, ticket)) if this.confirming.len() < MAX_CONFIRMS => {
                    let queued = ready!(poll_queue(&this.destination, content, ticket, cx));
                    this.queueing = None;
                    match queued? {
                        0 => this.resolved(Ok(())),
                        sequence => this.confirming.push_back(sequence),
                    }
                }
                _ => {
                    let Some(&oldest) = this.confirming.front() else {
                        return Poll::Ready(std::mem::replace(&mut this.result, Ok(0)));
                    };
                    let confirmed = ready!(this.destination.outbox().poll_confirm(oldest, cx));
                    this.confirming.pop_front();
                    this.resolved(confirmed);
                }
            }
        }
    }
}

impl<D: Destination, I: Iterator<Item = Publishing>> Drop for PublishAllFuture<D, I> {
    fn drop(&mut self) {
        let outbox = self.destination.outbox();
        if let Some((_, ticket)) = &mut self.queueing {
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
