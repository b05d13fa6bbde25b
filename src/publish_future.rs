//! The futures of [`Exchange::publish`] and [`Exchange::publish_deferred`].

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_pika_actors::{
    Outbox,
    facade::{self as engine, Destination},
};

use crate::{Confirm, Exchange, Publishing, Result, message::Confirmation};

/// Publishes and waits for the confirm: the future of [`Exchange::publish`].
///
/// It owns a handle of the exchange, which keeps the channel open, and borrows the routing key. Nothing
/// happens before the first poll.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// let sent = channel.default_exchange().publish("resize 7.png", "jobs");
/// assert!(sent.await?.is_confirmed());
/// # Ok(())
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct PublishFuture<'k>(engine::PublishFuture<ExchangeRoute<'k>>);

/// Publishes and waits only for room in the window: the future of [`Exchange::publish_deferred`].
///
/// It owns a handle of the exchange, which keeps the channel open, and borrows the routing key. Nothing
/// happens before the first poll.
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// let queued = channel.default_exchange().publish_deferred("resize 7.png", "jobs");
/// let confirm = queued.await?;
/// confirm.await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct PublishDeferredFuture<'k>(engine::PublishDeferredFuture<ExchangeRoute<'k>>);

/// An exchange and a routing key.
pub(crate) struct ExchangeRoute<'k> {
    pub(crate) exchange: Exchange,
    pub(crate) routing_key: &'k str,
}

impl Destination for ExchangeRoute<'_> {
    #[inline]
    fn outbox(&self) -> &Arc<Outbox> {
        self.exchange.channel().outbox()
    }

    #[inline]
    fn exchange(&self) -> &str {
        self.exchange.name()
    }

    #[inline]
    fn routing_key(&self) -> &str {
        self.routing_key
    }
}

impl<'k> PublishFuture<'k> {
    #[inline]
    pub(crate) fn new(exchange: &Exchange, content: Publishing, routing_key: &'k str) -> Self {
        Self(engine::PublishFuture::new(ExchangeRoute { exchange: exchange.clone(), routing_key }, content))
    }
}

impl Future for PublishFuture<'_> {
    type Output = Result<Confirmation>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl fmt::Debug for PublishFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'k> PublishDeferredFuture<'k> {
    #[inline]
    pub(crate) fn new(exchange: &Exchange, content: Publishing, routing_key: &'k str) -> Self {
        Self(engine::PublishDeferredFuture::new(
            ExchangeRoute { exchange: exchange.clone(), routing_key },
            content,
        ))
    }
}

impl Future for PublishDeferredFuture<'_> {
    type Output = Result<Confirm>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl fmt::Debug for PublishDeferredFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
