//! Publishing values.

use std::{
    borrow::Borrow,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_pika_actors::{
    Outbox,
    facade::{self as engine, Destination},
};

use super::{Publisher, RoutingKey};
use crate::{
    Confirm, Exchange, Publishing, Result, codec::Codec, hook::HookedPublish, message::Confirmation,
};

/// An exchange, and the routing key of a value.
pub(super) struct Route {
    pub(super) exchange: Exchange,
    pub(super) key: RoutingKey,
}

impl Destination for Route {
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
        self.key.as_str()
    }
}

/// The message of a value, where it goes, and what the hooks are told of its end.
pub(super) struct Outgoing {
    pub(super) message: Publishing,
    pub(super) route: Route,
    pub(super) hooked: Option<HookedPublish>,
}

/// Publishes a value and waits for the confirm: the future of [`Publisher::publish`].
///
/// It owns the encoded value and a handle of the exchange, which keeps the channel open. Nothing is sent before the
/// first poll.
///
/// # Examples
/// ```no_run
/// # async fn run(numbers: actix_pika::publisher::Publisher<u32>) -> actix_pika::Result<()> {
/// let confirmation = tokio::spawn(numbers.publish(&7));
/// # drop(confirmation);
/// # Ok(())
/// # }
/// ```
#[must_use = "futures do nothing unless polled"]
pub struct PublishValueFuture(State);

enum State {
    Failed(Option<crate::Error>),
    Publishing(engine::PublishFuture<Route>, Option<HookedPublish>),
}

impl PublishValueFuture {
    fn new(message: Result<Outgoing>) -> Self {
        Self(match message {
            Ok(Outgoing { message, route, hooked }) => {
                State::Publishing(engine::PublishFuture::new(route, message), hooked)
            }
            Err(error) => State::Failed(Some(error)),
        })
    }
}

impl Future for PublishValueFuture {
    type Output = Result<Confirmation>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Failed(error) => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
            State::Publishing(publish, hooked) => {
                let result = ready!(Pin::new(publish).poll(cx));
                if let Some(hooked) = hooked.take() {
                    hooked.end(&result);
                }
                Poll::Ready(result)
            }
        }
    }
}

impl fmt::Debug for PublishValueFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            State::Failed(error) => error.fmt(f),
            State::Publishing(publish, _) => publish.fmt(f),
        }
    }
}

impl<T, C: Codec<T>> Publisher<T, C> {
    /// Publishes a value, and waits until the broker has confirmed it.
    ///
    /// Sends `basic.publish`. The value is encoded by the call; nothing is sent before the first poll. The future
    /// borrows neither the value nor the publisher.
    ///
    /// # Errors
    /// `Codec` if the value cannot be encoded, `Limit` for a routing key over 255 bytes, and those of
    /// [`Exchange::publish`], such as `Unroutable`.
    ///
    /// **Over a reconnect**: as for [`Exchange::publish`]: it is resent, and may arrive twice.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.7 (`basic.publish`); <https://www.rabbitmq.com/docs/confirms>
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(numbers: actix_pika::publisher::Publisher<u32>) -> actix_pika::Result<()> {
    /// assert!(numbers.publish(&7).await?.is_confirmed());
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish(&self, value: &T) -> PublishValueFuture {
        PublishValueFuture::new(self.message(value, |message| message))
    }

    /// Publishes a value with options of its own: `options` changes the message, which has the options of the
    /// publisher.
    ///
    /// Sends `basic.publish`.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish).
    ///
    /// **Over a reconnect**: as for [`publish`](Self::publish).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(numbers: actix_pika::publisher::Publisher<u32>) -> actix_pika::Result<()> {
    /// numbers.publish_with(&7, |message| message.priority(5).header("tenant", "a")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_with(
        &self,
        value: &T,
        options: impl FnOnce(Publishing) -> Publishing,
    ) -> PublishValueFuture {
        PublishValueFuture::new(self.message(value, options))
    }

    /// Publishes values one after the other without waiting for each confirm, and returns the result of each, in
    /// their order.
    ///
    /// Sends `basic.publish` for each value as the publish window has room. A value that fails does not keep
    /// the others from being published. If the future is dropped, what was written is still delivered, and the rest is
    /// not sent.
    ///
    /// # Errors
    /// None; the results are those of [`publish`](Self::publish).
    ///
    /// **Over a reconnect**: unconfirmed publishes are resent in order, then the rest follows.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.7 (`basic.publish`); <https://www.rabbitmq.com/docs/confirms>
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(numbers: actix_pika::publisher::Publisher<u32>) {
    /// let values = [1, 2, 3];
    /// for (value, result) in values.iter().zip(numbers.publish_all(&values).await) {
    ///     if let Err(error) = result {
    ///         println!("{value} was not published: {error}");
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn publish_all<I>(&self, values: I) -> Vec<Result<Confirmation>>
    where
        I: IntoIterator,
        I::Item: Borrow<T>,
    {
        let mut queued = Vec::new();
        for value in values {
            let message = self.message(value.borrow(), |message| message);
            drop(value);
            queued.push(match message {
                Ok(message) => queue(message).await,
                Err(error) => Err(error),
            });
        }
        let mut results = Vec::with_capacity(queued.len());
        for queued in queued {
            results.push(match queued {
                Ok(queued) => queued.confirmed().await,
                Err(error) => Err(error),
            });
        }
        results
    }

    /// Publishes a value that its consumers get after a delay.
    ///
    /// The broker keeps it in a quorum queue, from which it expires to the exchange of this publisher with its routing
    /// key, by dead-lettering at least once. The exchange `later.<exchange>.<milliseconds>` and the queue of the same
    /// name (`later.<milliseconds>` for the default exchange) are declared at the first use of a delay, and stay.
    /// `Ok` means that this queue has the message.
    ///
    /// Precision: the delay is rounded up to a tenth of a second, from 10 seconds on to a whole second, from
    /// 10 minutes on to a whole minute, and from 10 hours on to a whole hour. The consumer gets the message behind
    /// those that the target queue has then. A delay of zero is a [`publish`](Self::publish). A message that
    /// has an expiration of its own does not stay longer than that.
    ///
    /// Limits: ten years, and 64 different delays for a publisher and its clones, because each has a queue.
    ///
    /// Routing is decided when the delay is over: a message that no queue receives then stays in its queue, and is
    /// routed again every three minutes. It is not returned. Exchanges of the type `x-delayed-message` are not
    /// needed.
    ///
    /// # Errors
    /// `Limit` beyond the limits; `Refused` without a code for a queue that the broker names, whose name changes; those
    /// of [`publish`](Self::publish), and those of declarations: `Refused` with 403 without permission for these
    /// names, which closes the channel.
    ///
    /// **Over a reconnect**: exchanges and queues are redeclared; what they keep is not lost.
    ///
    /// Source: <https://www.rabbitmq.com/docs/quorum-queues#dead-lettering>
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn run(reminders: actix_pika::publisher::Publisher<String>) -> actix_pika::Result<()> {
    /// reminders.publish_in(&"water the plants".to_owned(), Duration::from_secs(24 * 3600)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_in(
        &self,
        value: &T,
        delay: Duration,
    ) -> impl Future<Output = Result<Confirmation>> + Send + use<T, C> {
        let (message, later) = (self.message(value, |message| message), self.later.clone());
        async move {
            let Outgoing { message, route: Route { exchange, key }, hooked } = message?;
            let published = match later.exchange(&exchange, key.as_str(), delay).await {
                Ok(exchange) => engine::PublishFuture::new(Route { exchange, key }, message).await,
                Err(error) => Err(error),
            };
            if let Some(hooked) = hooked {
                hooked.end(&published);
            }
            published
        }
    }
}

/// A message that has its place in the publish window.
pub(super) struct Queued {
    confirm: Confirm,
    hooked: Option<HookedPublish>,
}

/// Waits for room in the publish window, and publishes.
pub(super) async fn queue(outgoing: Outgoing) -> Result<Queued> {
    let Outgoing { message, route, hooked } = outgoing;
    match engine::PublishDeferredFuture::new(route, message).await {
        Ok(confirm) => Ok(Queued { confirm, hooked }),
        Err(error) => {
            if let Some(hooked) = hooked {
                hooked.fail(&error);
            }
            Err(error)
        }
    }
}

impl Queued {
    /// Waits for the confirm.
    pub(super) async fn confirmed(self) -> Result<Confirmation> {
        let result = self.confirm.await;
        if let Some(hooked) = self.hooked {
            hooked.end(&result);
        }
        result
    }
}
