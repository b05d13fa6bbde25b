//! The way of a publish: into the window, out with the next flush, and what comes of it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_pika_actors::{Outbox, Outgoing, Ticket, wire::check_short};

use crate::{Publishing, Result, message::Confirmation};

/// Tells what will come of a publish that was queued: await it, or drop it, which cancels nothing.
///
/// Without confirms on the channel it is there at once and promises nothing
/// ([`is_confirmed`](crate::message::Confirmation::is_confirmed) is `false`).
///
/// # Errors
/// `Unroutable` when no queue got a mandatory publish, with the publish in
/// [`Error::returned`](crate::Error::returned); `Nacked` when the broker could not keep it; `Timeout`, or `Blocked`
/// while the broker blocks the connection, when the deadline has passed. These leave the channel open.
/// `ChannelClosed` or `ConnectionClosed`, with the cause, when that ended.
/// [`Error::may_have_arrived`](crate::Error::may_have_arrived) tells whether the broker may have it all the same.
///
/// **Over a reconnect**: it just takes longer: the publish is sent again, and its deadline holds. With
/// `OpenChannel::on_outage(Fail)` it fails with `ConnectionClosed`, "may have arrived".
///
/// Source: <https://www.rabbitmq.com/docs/confirms>.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// let confirm = channel.default_exchange().publish_deferred("resize 7.png", "jobs").await?;
/// println!("under way");
/// confirm.await?;
/// println!("safe with the broker");
/// # Ok(())
/// # }
/// ```
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
    ///
    /// **Over a reconnect**: a publish that is sent again keeps its number, and the next ones go on counting.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let exchange = channel.default_exchange();
    /// let first = exchange.publish_deferred("1", "jobs").await?;
    /// let second = exchange.publish_deferred("2", "jobs").await?;
    /// assert!(first.sequence() < second.sequence());
    /// # Ok(())
    /// # }
    /// ```
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
    place: Ticket,
}

impl<'a> Admission<'a> {
    pub(crate) fn new(
        outbox: &'a Arc<Outbox>,
        exchange: &'a str,
        routing_key: &'a str,
        content: Publishing,
    ) -> Result<Self> {
        check(exchange, routing_key, &content)?;
        Ok(Self { outbox, exchange, routing_key, content, place: Ticket::default() })
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
        self.outbox.leave_queue(&mut self.place);
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
