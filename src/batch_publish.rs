//! Many publishes, and one await for all.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_pika_actors::Outbox;

use crate::{Channel, Confirm, Error, Exchange, Publishing, Result};

/// Confirms that are held at most; the oldest is awaited before more are published.
const HELD: usize = 4096;

impl Exchange {
    /// Publishes all contents under one routing key, and waits until the broker has taken responsibility for each;
    /// tells how many there were.
    ///
    /// Sends `basic.publish` for each, one behind the other as the window lets them, so that the broker confirms many
    /// at once. Dropped in the middle, what was published goes on.
    ///
    /// # Errors
    /// The first failure among them, after all were published and answered; one that keeps a publish from leaving,
    /// such as a closed channel or a key that is too long, at once. The kinds are those of
    /// [`publish`](Self::publish). What was published before may have arrived.
    ///
    /// **Over a reconnect**: what was not confirmed is sent again, in its order, and the rest follows.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.publish`); <https://www.rabbitmq.com/docs/confirms>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let jobs = (0..10_000).map(|n| format!("resize {n}.png"));
    /// let count = channel.default_exchange().publish_all(jobs, "jobs").await?;
    /// assert_eq!(count, 10_000);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish_all<I>(&self, contents: I, routing_key: &str) -> Result<usize>
    where
        I: IntoIterator,
        I::Item: Into<Publishing>,
    {
        let mut confirms: VecDeque<Confirm> = VecDeque::new();
        let mut answer = Ok(0);
        let mut settle = |confirmed: Result<_>| match (&mut answer, confirmed) {
            (Ok(count), Ok(_)) => *count += 1,
            (answer @ Ok(_), Err(error)) => *answer = Err(error),
            (Err(_), _) => {}
        };
        for content in contents {
            if confirms.len() == HELD
                && let Some(oldest) = confirms.pop_front()
            {
                settle(oldest.await);
            }
            confirms.push_back(self.publish_deferred(content, routing_key).await?);
        }
        for confirm in confirms {
            settle(confirm.await);
        }
        answer
    }
}

impl Channel {
    /// Waits until every publish of the channel so far is answered, whoever made it; those made meanwhile are not
    /// awaited.
    ///
    /// # Errors
    /// `Refused` without a code on a channel without confirms. `Timeout` where some were not confirmed within the
    /// deadline. Else the first failure (`Nacked`, `Unroutable`) of a publish whose [`Confirm`] was dropped since the
    /// last call; the others are told by theirs. `ChannelClosed` or `ConnectionClosed` where that came first. None of
    /// them closes the channel.
    ///
    /// **Over a reconnect**: it just takes longer: what was not confirmed is sent again, and its deadline holds.
    ///
    /// Source: <https://www.rabbitmq.com/docs/confirms>.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let exchange = channel.default_exchange();
    /// for n in 0..1000 {
    ///     drop(exchange.publish_deferred(format!("job {n}"), "jobs").await?);
    /// }
    /// channel.wait_for_confirms().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_for_confirms(&self) -> Result<()> {
        let outbox = self.outbox();
        if !outbox.terms().confirms {
            return Err(Error::refused_here("a channel without confirms has none to wait for"));
        }
        Barrier { outbox, end: outbox.published(), place: None }.await
    }
}

/// Waits until all publishes below `end` are answered.
struct Barrier<'a> {
    outbox: &'a Arc<Outbox>,
    end: u64,
    place: Option<u64>,
}

impl Future for Barrier<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        this.outbox.poll_confirmed_below(&mut this.place, this.end, cx)
    }
}

impl Drop for Barrier<'_> {
    fn drop(&mut self) {
        if self.place.is_some() {
            self.outbox.leave_barrier(&mut self.place);
        }
    }
}
