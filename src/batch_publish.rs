//! Many publishes with one await.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use actix_pika_actors::facade as engine;

use crate::{Channel, Exchange, Publishing, Result, publish_future::ExchangeRoute};

impl Exchange {
    /// Publishes all contents under one routing key and waits for all confirms; returns their number.
    ///
    /// Sends `basic.publish` for each content as the window has room, so that the broker confirms many at
    /// once. If the future is dropped, publishes that were written are still delivered, and the rest is not
    /// sent.
    ///
    /// # Errors
    /// The first failure, once all publishes have an outcome. An error that prevents sending, such as a
    /// closed channel or a routing key over 255 bytes, is returned at once; what was published before may
    /// have arrived. The kinds are those of [`publish`](Self::publish).
    ///
    /// **Over a reconnect**: unconfirmed publishes are resent in order, then the rest follows.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.7 (`basic.publish`); <https://www.rabbitmq.com/docs/confirms>
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
    pub fn publish_all<'k, I>(&self, contents: I, routing_key: &'k str) -> PublishAllFuture<'k, I::IntoIter>
    where
        I: IntoIterator,
        I::Item: Into<Publishing>,
    {
        let contents = Contents { channel: self.channel().clone(), contents: contents.into_iter() };
        let route = ExchangeRoute { exchange: self.clone(), routing_key };
        PublishAllFuture(engine::PublishAllFuture::new(route, contents))
    }
}

impl Channel {
    /// Waits until all publishes made on the channel before the first poll have an outcome.
    ///
    /// # Errors
    /// - `Refused` without a code: the channel has no confirms.
    /// - `Timeout`: some publishes were not confirmed within the deadline.
    /// - `Nacked`, `Unroutable`: the first failure, since the last call, of a publish whose
    ///   [`Confirm`](crate::Confirm) was dropped. Other failures are returned by their
    ///   [`Confirm`](crate::Confirm).
    /// - `ChannelClosed`, `ConnectionClosed`.
    ///
    /// None of them closes the channel.
    ///
    /// **Over a reconnect**: it continues to wait; unconfirmed publishes are resent within their deadlines.
    ///
    /// Source: <https://www.rabbitmq.com/docs/confirms>
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
    pub fn wait_for_confirms(&self) -> WaitForConfirmsFuture {
        let confirms = engine::WaitForConfirmsFuture::new(self.outbox().clone());
        WaitForConfirmsFuture { confirms, _channel: self.clone() }
    }
}

/// Publishes many contents and waits for all confirms: the future of [`Exchange::publish_all`].
///
/// It owns a handle of the exchange, which keeps the channel open, and borrows the routing key. Nothing
/// happens before the first poll.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// let sent = channel.default_exchange().publish_all(["1.png", "2.png"], "jobs");
/// assert_eq!(sent.await?, 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct PublishAllFuture<'k, I>(engine::PublishAllFuture<ExchangeRoute<'k>, Contents<I>>)
where
    I: Iterator<Item: Into<Publishing>>;

impl<I: Iterator<Item: Into<Publishing>>> Future for PublishAllFuture<'_, I> {
    type Output = Result<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<I: Iterator<Item: Into<Publishing>>> fmt::Debug for PublishAllFuture<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Converts contents and applies the options of the channel to them.
struct Contents<I> {
    channel: Channel,
    contents: I,
}

impl<I: Iterator<Item: Into<Publishing>>> Iterator for Contents<I> {
    type Item = Publishing;

    fn next(&mut self) -> Option<Publishing> {
        self.contents.next().map(|content| self.channel.finish(content.into()))
    }
}

/// Waits for the confirms of all earlier publishes: the future of [`Channel::wait_for_confirms`].
///
/// It owns a handle of the channel, which keeps it open. Nothing happens before the first poll.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// let confirmed = channel.wait_for_confirms();
/// confirmed.await
/// # }
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct WaitForConfirmsFuture {
    confirms: engine::WaitForConfirmsFuture,
    _channel: Channel,
}

impl Future for WaitForConfirmsFuture {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.confirms).poll(cx)
    }
}
