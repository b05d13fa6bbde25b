//! The way of a publish: into the window, out with the next flush, and what comes of it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_pika_actors::{Outbox, Outgoing, Place, wire::check_short};

use crate::{Confirmation, Publishing, Result};

/// What will come of a publish that was queued: await it, or drop it, which cancels nothing.
///
/// # Errors
/// `Nacked`, `Unroutable`, `Timeout` ("may have arrived"), `ChannelClosed` or `ConnectionClosed` with their causes.
#[must_use = "await it to know that the broker has taken the publish, or drop it on purpose"]
pub struct Confirm {
    outbox: Arc<Outbox>,
    sequence: u64,
    resolved: bool,
}

impl Confirm {
    pub(crate) fn new(outbox: Arc<Outbox>, sequence: u64) -> Self {
        Self { outbox, sequence, resolved: sequence == 0 }
    }

    /// Tells the number of the publish on its channel, from 1 on; `None` without confirms.
    pub fn sequence(&self) -> Option<u64> {
        (self.sequence > 0).then_some(self.sequence)
    }
}

impl Future for Confirm {
    type Output = Result<Confirmation>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.sequence == 0 {
            return Poll::Ready(Ok(Confirmation::new(0)));
        }
        let answer = self.outbox.poll_confirm(self.sequence, cx);
        if answer.is_ready() {
            self.resolved = true;
        }
        answer.map_ok(|()| Confirmation::new(self.sequence))
    }
}

impl Drop for Confirm {
    fn drop(&mut self) {
        if !self.resolved {
            self.outbox.forget_confirm(self.sequence);
        }
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// Waits for the publish window, then queues.
pub(crate) struct Admission<'a> {
    outbox: &'a Arc<Outbox>,
    exchange: &'a str,
    routing_key: &'a str,
    content: Publishing,
    place: Place,
}

impl<'a> Admission<'a> {
    pub(crate) fn new(
        outbox: &'a Arc<Outbox>,
        exchange: &'a str,
        routing_key: &'a str,
        content: Publishing,
    ) -> Result<Self> {
        check(exchange, routing_key, &content)?;
        Ok(Self { outbox, exchange, routing_key, content, place: Place::default() })
    }
}

/// Refuses what cannot be sent, before a place in the window is taken for it.
pub(crate) fn check(exchange: &str, routing_key: &str, content: &Publishing) -> Result<()> {
    check_short("exchange name", exchange)?;
    check_short("routing key", routing_key)?;
    content.check()
}

impl Future for Admission<'_> {
    type Output = Result<u64>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<u64>> {
        let this = &mut *self;
        let outgoing = this.content.outgoing(this.exchange, this.routing_key);
        this.outbox.poll_publish(&mut this.place, cx, outgoing)
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        self.outbox.leave_line(&mut self.place);
    }
}

pub(crate) fn try_now(
    outbox: &Outbox,
    exchange: &str,
    routing_key: &str,
    content: &Publishing,
) -> Result<Option<u64>> {
    check(exchange, routing_key, content)?;
    let outgoing: Outgoing<'_> = content.outgoing(exchange, routing_key);
    outbox.try_publish(outgoing)
}
