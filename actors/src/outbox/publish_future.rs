//! The futures of one publish: wait for room in the publish window, write the publish, wait for its confirm.
//!
//! `Handler<Publish>` of the channel and the handles of the crate `actix-pika` use the same futures.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    Confirm, Outbox,
    long_names::WHOLE_IN_TEXTS,
    own_deadline::{OwnDeadline, poll_outcome},
    publish::Ticket,
};
use crate::{
    error::{Error, Result},
    message::{Confirmation, Publishing},
    wire::check_short,
};

/// Where a publish goes: the outbox of a channel, an exchange and a routing key.
///
/// The futures below own their destination, so that a handle inside it is not dropped before the future.
pub trait Destination: Unpin {
    /// Returns the outbox of the channel.
    fn outbox(&self) -> &Arc<Outbox>;
    /// Returns the name of the exchange; empty for the default exchange.
    fn exchange(&self) -> &str;
    /// Returns the routing key.
    fn routing_key(&self) -> &str;
}

/// Publishes and waits for the confirm. Nothing happens before the first poll.
#[must_use = "futures do nothing unless polled"]
pub struct PublishFuture<D: Destination> {
    destination: D,
    step: PublishStep,
    deadline: OwnDeadline,
}

enum PublishStep {
    /// Waits for room in the publish window.
    Queueing {
        content: Publishing,
        ticket: Ticket,
    },
    /// Written; waits for the confirm.
    Confirming {
        sequence: u64,
    },
    Done,
}

impl<D: Destination> PublishFuture<D> {
    /// Creates the future.
    pub fn new(destination: D, content: Publishing) -> Self {
        let deadline = OwnDeadline::of(&content);
        Self { destination, step: PublishStep::Queueing { content, ticket: Ticket::default() }, deadline }
    }
}

impl<D: Destination> PublishFuture<D> {
    /// Ends it because its arbiter has ended. Returns the outcome as far as it is known.
    pub(crate) fn give_up(&mut self) -> Result<Confirmation> {
        let why = Error::stopped("the arbiter of the channel has ended");
        match &self.step {
            PublishStep::Confirming { sequence } => {
                let outcome = self.destination.outbox().outcome_or(*sequence, why);
                outcome.map(|epoch| Confirmation::new(*sequence, epoch))
            }
            PublishStep::Queueing { .. } | PublishStep::Done => Err(why),
        }
    }
}

impl<D: Destination> Future for PublishFuture<D> {
    type Output = Result<Confirmation>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let PublishStep::Queueing { content, ticket } = &mut this.step {
            match ready!(poll_queue(&this.destination, content, ticket, &mut this.deadline, cx)) {
                Ok(0) => {
                    this.step = PublishStep::Done;
                    return Poll::Ready(Ok(Confirmation::new(0, 0)));
                }
                Ok(sequence) => this.step = PublishStep::Confirming { sequence },
                Err(error) => {
                    this.step = PublishStep::Done;
                    return Poll::Ready(Err(error));
                }
            }
        }
        let PublishStep::Confirming { sequence } = this.step else { return Poll::Pending };
        let outbox = this.destination.outbox();
        let result = ready!(poll_outcome(outbox, sequence, &mut this.deadline, cx));
        this.step = PublishStep::Done;
        Poll::Ready(result.map(|epoch| Confirmation::new(sequence, epoch)))
    }
}

impl<D: Destination> Drop for PublishFuture<D> {
    fn drop(&mut self) {
        match &mut self.step {
            PublishStep::Queueing { ticket, .. } => self.destination.outbox().leave_queue(ticket),
            PublishStep::Confirming { sequence } => self.destination.outbox().forget_confirm(*sequence),
            PublishStep::Done => {}
        }
    }
}

impl<D: Destination> fmt::Debug for PublishFuture<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.destination.routing_key();
        f.debug_struct("PublishFuture").field("routing_key", &name).finish_non_exhaustive()
    }
}

/// Publishes and waits only for room in the window. Nothing happens before the first poll.
#[must_use = "futures do nothing unless polled"]
pub struct PublishDeferredFuture<D: Destination> {
    destination: D,
    content: Publishing,
    ticket: Ticket,
    deadline: OwnDeadline,
}

impl<D: Destination> PublishDeferredFuture<D> {
    /// Creates the future.
    pub fn new(destination: D, content: Publishing) -> Self {
        let deadline = OwnDeadline::of(&content);
        Self { destination, content, ticket: Ticket::default(), deadline }
    }
}

impl<D: Destination> Future for PublishDeferredFuture<D> {
    type Output = Result<Confirm>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (ticket, deadline) = (&mut this.ticket, &mut this.deadline);
        let sequence = ready!(poll_queue(&this.destination, &this.content, ticket, deadline, cx))?;
        let deadline = std::mem::take(deadline).start();
        Poll::Ready(Ok(Confirm::new(this.destination.outbox().clone(), sequence, deadline)))
    }
}

impl<D: Destination> Drop for PublishDeferredFuture<D> {
    fn drop(&mut self) {
        self.destination.outbox().leave_queue(&mut self.ticket);
    }
}

impl<D: Destination> fmt::Debug for PublishDeferredFuture<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.destination.routing_key();
        f.debug_struct("PublishDeferredFuture").field("routing_key", &name).finish_non_exhaustive()
    }
}

/// Writes a publish once the window has room; returns its sequence number, 0 without confirms.
#[inline]
pub(super) fn poll_queue<D: Destination>(
    destination: &D,
    content: &Publishing,
    ticket: &mut Ticket,
    deadline: &mut OwnDeadline,
    cx: &mut Context<'_>,
) -> Poll<Result<u64>> {
    let (exchange, routing_key) = (destination.exchange(), destination.routing_key());
    let outbox = destination.outbox();
    if !ticket.is_waiting() {
        check(outbox, exchange, routing_key, content)?;
    }
    match outbox.poll_publish(ticket, cx, content.outgoing(exchange, routing_key)) {
        Poll::Pending if deadline.has_passed(cx) => Poll::Ready(Err(outbox.expire_queueing(ticket))),
        queued => queued,
    }
}

/// Refuses what cannot be encoded, and what no broker accepts, before it takes room in the window.
#[inline]
pub(super) fn check(outbox: &Outbox, exchange: &str, routing_key: &str, content: &Publishing) -> Result<()> {
    if exchange.len() + routing_key.len() <= WHOLE_IN_TEXTS && !content.properties.has_more() {
        return Ok(());
    }
    check_each(outbox, exchange, routing_key, content)
}

#[inline(never)]
fn check_each(outbox: &Outbox, exchange: &str, routing_key: &str, content: &Publishing) -> Result<()> {
    check_short("exchange name", exchange)?;
    check_short("routing key", routing_key)?;
    outbox.note_long_names(exchange, routing_key);
    content.check().map_err(|error| error.of_publish(exchange, routing_key, None))
}
