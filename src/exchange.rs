//! The handle of an exchange.

use std::{fmt, sync::Arc};

use actix_pika_actors::facade;

use crate::{
    Channel, Confirm, Publishing, Result,
    futures::{PublishDeferredFuture, PublishFuture},
    hook::PublishKind,
    message::{BindExchange, Confirmation, DeleteExchange, UnbindExchange},
};

/// Handle of an exchange: publishes, binds and deletes.
///
/// [`Channel::declare_exchange`] declares the exchange and returns its handle; [`Channel::exchange`] returns
/// a handle and sends nothing. Clones are the same handle. Each keeps the channel open.
///
/// **Over a reconnect**: the handle stays valid. Exchanges that were declared, and bindings, are redeclared.
///
/// Source: AMQP 0-9-1 section 1.6 (class exchange); <https://www.rabbitmq.com/docs/exchanges>
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// use actix_pika::DeclareExchange;
///
/// let weather = channel.declare_exchange(DeclareExchange::topic("weather")).await?;
/// channel.declare_queue("vienna").await?.bind(weather.name(), "*.at.vienna").await?;
/// weather.publish("18 C", "temperature.at.vienna").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Exchange {
    inner: Arc<ExchangeInner>,
}

struct ExchangeInner {
    channel: Channel,
    name: Box<str>,
    /// Whether it is redeclared after a reconnect; true if unknown.
    robust: bool,
}

impl Exchange {
    pub(crate) fn new(channel: Channel, name: &str, robust: bool) -> Self {
        Self { inner: Arc::new(ExchangeInner { channel, name: Box::from(name), robust }) }
    }

    /// Returns the name; empty for the default exchange.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) {
    /// assert_eq!(channel.exchange("orders").name(), "orders");
    /// assert_eq!(channel.default_exchange().name(), "");
    /// # }
    /// ```
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Publishes, and waits until the broker has confirmed the message.
    ///
    /// Sends `basic.publish`. `Ok` means that the message is confirmed and was routed to a queue, unless
    /// [`Publishing::mandatory`] was turned off. On a channel without confirms it waits only for room in the
    /// window, and `Ok` guarantees nothing. If the future is dropped before its first poll, nothing is sent;
    /// if it is dropped later, the message is still published.
    ///
    /// # Errors
    /// Before anything is sent: `Limit` for a name or key over 255 bytes, or headers over the frame size of
    /// the connection; `Codec` for properties that cannot be encoded; `Refused` for those that RabbitMQ accepts
    /// from nobody (406): an `expiration` from another client that is not a number of milliseconds, or is
    /// longer than ten years, and headers `CC` or `BCC` that are not arrays; `Timeout`, or `Blocked`, if the
    /// window had no room within the deadline; `ChannelClosed` or `ConnectionClosed` if the channel or the
    /// connection is closed.
    ///
    /// Afterwards: `Unroutable` if no queue receives it, with the message in
    /// [`Error::returned`](crate::Error::returned); `Nacked` if a queue refuses it, while others may have
    /// it; `Timeout`, or
    /// `Blocked`, if it was not confirmed within the deadline. These leave the channel open. `ChannelClosed`
    /// with 404 if the exchange does not exist, 403 without permission or for an internal exchange, 406 for a
    /// `user_id` that is not the login, or a body above the broker's limit: the broker has closed the
    /// channel, and a robust one [is reopened](Channel#a-channel-that-the-broker-closes); none of these is
    /// retryable. After a 404, publishes to the exchange fail with it and are not sent until the exchange is
    /// found again. After a 403, publishes to the exchange, or to it with the forbidden routing key, fail with
    /// it and are not sent for 1 second, then twice as long each time up to 60 seconds. The first one after
    /// the pause is sent, and if the broker takes it the next ones are; but a connection sends one such publish a
    /// second at most, so that with many forbidden places each is asked for later. So it is after
    /// a 406, with all publishes under other `user_id`s than that of the connection, with all larger bodies, and
    /// with requests to `amq.rabbitmq.reply-to`, until the channel consumes from it. 1,024 forbidden routing
    /// keys and 64 other refusals are remembered; what is not remembered closes the channel again, whose other
    /// publishes then wait for the time that this takes. `ChannelClosed` that is retryable if the channel was closed for another call or publish,
    /// and this one is not resent. `ConnectionClosed` if the connection is lost.
    ///
    /// [`Error::may_have_arrived`](crate::Error::may_have_arrived) returns whether the broker may have the
    /// message in spite of the error.
    ///
    /// **Over a reconnect**: an unconfirmed publish is resent, in order and before newer ones. The future
    /// takes longer; its deadline still applies. The message may arrive twice;
    /// [`Publishing::generate_message_id`] lets consumers recognise it. With
    /// `OpenChannel::on_outage(OnOutage::Fail)` the publish fails with `ConnectionClosed` instead, and may
    /// have arrived. A publish that is made while the connection is down waits within its deadline. A nack
    /// within five seconds of the reconnect is not reported at once, because quorum queues accept nothing
    /// until they have elected a leader: the publish is resent, for which a channel without consumers is
    /// closed and reopened.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.7 (`basic.publish`); <https://www.rabbitmq.com/docs/confirms>
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::{ErrorKind, Publishing};
    ///
    /// let exchange = channel.default_exchange();
    /// exchange.publish("resize 7.png", "jobs").await?;
    /// exchange.publish(Publishing::new("{}").content_type("application/json"), "jobs").await?;
    ///
    /// match exchange.publish("hello", "no such queue").await {
    ///     Err(error) if error.kind() == ErrorKind::Unroutable => println!("returned: {:?}", error.returned()),
    ///     result => println!("confirmed: {}", result?.is_confirmed()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn publish<'k>(&self, content: impl Into<Publishing>, routing_key: &'k str) -> PublishFuture<'k> {
        let content = self.channel().finish(content.into());
        PublishFuture::new(self, content, routing_key)
    }

    /// Publishes as [`publish`](Self::publish) does, and tells the hooks of the connection.
    pub(crate) async fn publish_hooked(
        &self,
        kind: PublishKind,
        mut message: Publishing,
        routing_key: &str,
    ) -> Result<Confirmation> {
        let hooks = self.channel().connection().hooks();
        let hooked = hooks.publishing(kind, self.name(), routing_key, &mut message);
        let published = self.publish(message, routing_key).await;
        if let Some(hooked) = hooked {
            hooked.end(&published);
        }
        published
    }

    /// Publishes, and waits only for room in the window. The returned [`Confirm`] completes when the broker
    /// has confirmed the message.
    ///
    /// Sends `basic.publish`. The window is 1,024 publishes and 16 MiB, unless
    /// [`OpenChannel`](crate::OpenChannel) sets another; a larger publish is sent alone.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish) that are returned before anything is sent.
    ///
    /// **Over a reconnect**: as for [`publish`](Self::publish).
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.7 (`basic.publish`); <https://www.rabbitmq.com/docs/confirms>
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let exchange = channel.default_exchange();
    /// let mut confirms = Vec::new();
    /// for n in 0..100 {
    ///     confirms.push(exchange.publish_deferred(format!("job {n}"), "jobs").await?);
    /// }
    /// for confirm in confirms {
    ///     confirm.await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn publish_deferred<'k>(
        &self,
        content: impl Into<Publishing>,
        routing_key: &'k str,
    ) -> PublishDeferredFuture<'k> {
        let content = self.channel().finish(content.into());
        PublishDeferredFuture::new(self, content, routing_key)
    }

    /// Publishes if the window has room now. Otherwise, or if the broker accepts no publishes, returns `None`
    /// and sends nothing.
    ///
    /// Sends `basic.publish`. It does not wait, and can be called outside of async code.
    ///
    /// # Errors
    /// Those of [`publish_deferred`](Self::publish_deferred), without the deadline.
    ///
    /// **Over a reconnect**: while the connection is down, publishes are queued until the window is full.
    ///
    /// Source: AMQP 0-9-1 section 1.8.3.7 (`basic.publish`)
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// match channel.exchange("metrics").try_publish("42", "load")? {
    ///     Some(confirm) => println!("publish {:?} is under way", confirm.sequence()),
    ///     None => println!("too much is under way: dropped"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_publish(&self, content: impl Into<Publishing>, routing_key: &str) -> Result<Option<Confirm>> {
        let content = self.channel().finish(content.into());
        self.channel().outbox().try_publish(self.name(), routing_key, &content)
    }

    /// Binds this exchange to another one, from which it then receives messages.
    ///
    /// Sends `exchange.bind`, a RabbitMQ extension. Repeating a binding changes nothing.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, or without permission; 404 if one of the exchanges does not
    /// exist. Each closes the channel. And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: the binding is redeclared after the exchanges, unless this exchange was declared
    /// with `robust(false)`.
    ///
    /// Source: <https://www.rabbitmq.com/docs/e2e>
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::DeclareExchange;
    ///
    /// let archive = channel.declare_exchange(DeclareExchange::fanout("archive")).await?;
    /// archive.bind("amq.topic", "orders.#").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn bind(&self, source: &str, routing_key: &str) -> Result<()> {
        self.bind_with(BindExchange::new(self.name(), source, routing_key)).await
    }

    /// Binds with options, which have both names, and may have arguments.
    ///
    /// Sends `exchange.bind`.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    ///
    /// **Over a reconnect**: as for [`bind`](Self::bind), arguments included.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(archive: actix_pika::Exchange) -> actix_pika::Result<()> {
    /// use actix_pika::message::BindExchange;
    ///
    /// let urgent = BindExchange::new(archive.name(), "amq.headers", "");
    /// archive.bind_with(urgent.argument("x-match", "any").argument("urgent", true)).await
    /// # }
    /// ```
    pub async fn bind_with(&self, bind: BindExchange) -> Result<()> {
        let transient = !self.inner.robust && facade::bound_exchange(&bind) == self.name();
        let bind = if transient { bind.robust(false) } else { bind };
        self.inner.channel.call(bind).await
    }

    /// Removes a binding to another exchange. If the binding or an exchange does not exist, it succeeds.
    ///
    /// Sends `exchange.unbind`, a RabbitMQ extension.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, or without permission, which closes the channel. And [those
    /// of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: the binding is not redeclared.
    ///
    /// Source: <https://www.rabbitmq.com/docs/e2e>
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(archive: actix_pika::Exchange) -> actix_pika::Result<()> {
    /// archive.unbind("amq.topic", "orders.#").await
    /// # }
    /// ```
    pub async fn unbind(&self, source: &str, routing_key: &str) -> Result<()> {
        self.unbind_with(UnbindExchange::new(self.name(), source, routing_key)).await
    }

    /// Removes a binding with options, which have both names. The arguments must be those of the binding.
    ///
    /// Sends `exchange.unbind`.
    ///
    /// # Errors
    /// Those of [`unbind`](Self::unbind).
    ///
    /// **Over a reconnect**: the binding is not redeclared.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(archive: actix_pika::Exchange) -> actix_pika::Result<()> {
    /// use actix_pika::message::UnbindExchange;
    ///
    /// let urgent = UnbindExchange::new(archive.name(), "amq.headers", "");
    /// archive.unbind_with(urgent.argument("x-match", "any").argument("urgent", true)).await
    /// # }
    /// ```
    pub async fn unbind_with(&self, unbind: UnbindExchange) -> Result<()> {
        self.inner.channel.call(unbind).await
    }

    /// Deletes the exchange with its bindings. Deleting one that does not exist succeeds.
    ///
    /// Sends `exchange.delete`. For conditions, see [`delete_with`](Self::delete_with).
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, for names that begin with `amq.`, or without permission,
    /// which closes the channel. And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: it is not redeclared, and neither are its bindings.
    ///
    /// Source: AMQP 0-9-1 section 1.6.2.3 (`exchange.delete`)
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// channel.exchange("orders").delete().await
    /// # }
    /// ```
    pub async fn delete(&self) -> Result<()> {
        self.inner.channel.call(DeleteExchange::new(self.name())).await
    }

    /// Deletes an exchange with options, which have its name, and a condition: only if nothing is bound to
    /// it.
    ///
    /// Sends `exchange.delete`.
    ///
    /// # Errors
    /// Those of [`delete`](Self::delete), and `Refused` with 406 if the condition
    /// [`if_unused`](DeleteExchange::if_unused) does not hold, which closes the channel.
    ///
    /// **Over a reconnect**: as for [`delete`](Self::delete).
    ///
    /// Source: AMQP 0-9-1 section 1.6.2.3 (`exchange.delete`)
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::message::DeleteExchange;
    ///
    /// let logs = channel.exchange("logs");
    /// logs.delete_with(DeleteExchange::new(logs.name()).if_unused(true)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_with(&self, delete: DeleteExchange) -> Result<()> {
        self.inner.channel.call(delete).await
    }

    /// Returns the channel of the handle.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(exchange: actix_pika::Exchange) -> actix_pika::Result<()> {
    /// exchange.channel().wait_for_confirms().await
    /// # }
    /// ```
    pub fn channel(&self) -> &Channel {
        &self.inner.channel
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("name", &self.name())
            .field("channel", &self.channel().number())
            .finish()
    }
}
