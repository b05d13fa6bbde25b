//! The future of one confirm.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use super::{
    Outbox,
    outcome_error::Cause,
    own_deadline::{OwnDeadline, poll_outcome},
};
use crate::{
    error::{Error, Result},
    message::Confirmation,
};

/// Waits for the broker's confirm of a publish. Dropping it does not cancel the publish.
///
/// On a channel without confirms it resolves at once and guarantees nothing: see
/// [`Confirmation::is_confirmed`].
///
/// # Errors
/// These leave the channel open:
/// - `Unroutable`: no queue matches a mandatory publish. [`Error::returned`](crate::Error::returned) has the
///   publish.
/// - `Nacked`: a queue could not store it (`basic.nack`); others may have it.
/// - `Timeout`: no confirm within the deadline of the channel; `Blocked` while the broker blocks the
///   connection.
///
/// `ChannelClosed` and `ConnectionClosed` have the cause.
/// [`Error::may_have_arrived`](crate::Error::may_have_arrived) returns whether the broker may have stored the
/// publish in spite of the error.
///
/// **Over a reconnect**: it continues to wait. The publish is resent with its sequence number, within its
/// deadline. With [`OnOutage::Fail`](crate::OnOutage::Fail) it fails with `ConnectionClosed` and may have
/// arrived.
///
/// Source: <https://www.rabbitmq.com/docs/confirms>
///
/// # Examples
/// ```no_run
/// # use actix_pika_actors::{OpenedChannel, Publishing, Result};
/// # async fn run(channel: OpenedChannel) -> Result<()> {
/// if let Some(confirm) = channel.outbox.try_publish("", "jobs", &Publishing::new("resize 7.png"))? {
///     println!("written");
///     confirm.await?;
///     println!("stored by the broker");
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "await it to wait for the broker's confirm, or drop it to ignore the outcome"]
pub struct Confirm {
    outbox: Arc<Outbox>,
    publish: AwaitedPublish,
    deadline: OwnDeadline,
}

/// The sequence number of a publish, 0 without confirms, and in the highest bit whether its outcome was returned.
///
/// One word, because applications keep a whole window of confirms.
#[derive(Clone, Copy)]
struct AwaitedPublish(u64);

impl AwaitedPublish {
    const RETURNED: u64 = 1 << 63;

    #[inline]
    fn sequence(self) -> u64 {
        self.0 & !Self::RETURNED
    }

    #[inline]
    fn returned(&mut self) {
        self.0 |= Self::RETURNED;
    }

    #[inline]
    fn is_awaited(self) -> bool {
        self.0 != 0 && self.0 & Self::RETURNED == 0
    }
}

impl Confirm {
    #[inline]
    pub(super) fn new(outbox: Arc<Outbox>, sequence: u64, deadline: OwnDeadline) -> Self {
        Self { outbox, publish: AwaitedPublish(sequence), deadline }
    }

    /// Returns the sequence number of the publish on its channel, counted from 1; `None` without confirms.
    ///
    /// **Over a reconnect**: a publish that is resent keeps its number, and the next ones continue from it.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika_actors::{OpenedChannel, Publishing, Result};
    /// # async fn run(channel: OpenedChannel) -> Result<()> {
    /// if let Some(confirm) = channel.outbox.try_publish("", "jobs", &Publishing::new("resize 7.png"))? {
    ///     assert_eq!(confirm.sequence(), Some(1));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn sequence(&self) -> Option<u64> {
        Some(self.publish.sequence()).filter(|sequence| *sequence > 0)
    }
}

impl Future for Confirm {
    type Output = Result<Confirmation>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let sequence = this.publish.sequence();
        if sequence == 0 {
            return Poll::Ready(Ok(Confirmation::new(0, 0)));
        }
        let result = ready!(poll_outcome(&this.outbox, sequence, &mut this.deadline, cx));
        this.publish.returned();
        Poll::Ready(result.map(|epoch| Confirmation::new(sequence, epoch)))
    }
}

impl Drop for Confirm {
    #[inline]
    fn drop(&mut self) {
        if self.publish.is_awaited() {
            self.outbox.forget_confirm(self.publish.sequence());
        }
    }
}

impl Outbox {
    /// Returns the channel epoch in which a publish was confirmed, or its error.
    #[inline]
    pub(super) fn poll_confirm(&self, sequence: u64, cx: &mut Context<'_>) -> Poll<Result<u32>> {
        let (outcome, _old) = self.lock().confirms.poll(sequence, cx);
        outcome
    }

    /// Returns the outcome of a publish, or that it has none because of `why`.
    pub(super) fn outcome_or(&self, sequence: u64, why: Error) -> Result<u32> {
        let mut state = self.lock();
        let (outcome, _waker) = state.confirms.poll(sequence, &Context::from_waker(Waker::noop()));
        match outcome {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(Cause::from(why).of(sequence, &state.confirms.taken)),
        }
    }

    /// Removes the waiter for a confirm; the publish is not cancelled.
    #[inline]
    pub(super) fn forget_confirm(&self, sequence: u64) {
        let _old = self.lock().confirms.forget(sequence);
    }
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm").field("sequence", &self.publish.sequence()).finish_non_exhaustive()
    }
}
