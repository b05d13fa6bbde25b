//! The handle of an exchange.

use std::{fmt, sync::Arc};

use actix_pika_actors::facade;

use crate::{
    Channel, Confirm, Publishing, Result,
    futures::{PublishDeferredFuture, PublishFuture},
    message::{BindExchange, DeleteExchange, UnbindExchange},
};

/// Publishes to an exchange, and binds and deletes it: a name on a channel.
///
/// [`Channel::declare_exchange`] makes one and hands it out, [`Channel::exchange`] hands one out unasked. Clones are
/// the same; each keeps its channel open.
///
/// **Over a reconnect**: the handle stays good. What was declared and bound by it is declared and bound again.
///
/// Source: AMQP 0-9-1 section 1.6 (class exchange); <https://www.rabbitmq.com/docs/exchanges>.
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
    inner: Arc<Inner>,
}

struct Inner {
    channel: Channel,
    name: Box<str>,
    /// It is declared again after a reconnect, as far as is known.
    robust: bool,
}

impl Exchange {
    pub(crate) fn new(channel: Channel, name: &str, robust: bool) -> Self {
        Self { inner: Arc::new(Inner { channel, name: Box::from(name), robust }) }
    }

    /// Tells the name; empty for the default exchange.
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

    /// Publishes and waits until the broker has taken responsibility.
    ///
    /// Sends `basic.publish`. What `?` lets through is confirmed and was routed to a queue, unless
    /// [`Publishing::mandatory`] was turned off. Without confirms it waits only for room in the window, and `Ok`
    /// promises nothing. Dropped before the first poll, nothing is sent; dropped later, the publish goes on.
    ///
    /// # Errors
    /// Before anything is sent: `Limit` for a name or key over 255 bytes, or headers over the frame size of the
    /// connection; `Codec` for properties that cannot be encoded; `Timeout`, or `Blocked`, when the window had no
    /// room within the deadline; `ChannelClosed` or `ConnectionClosed` when that is closed.
    ///
    /// Afterwards: `Unroutable` when no queue gets it, with the publish in
    /// [`Error::returned`](crate::Error::returned); `Nacked` when the broker cannot keep it; `Timeout`, or `Blocked`,
    /// when it was not confirmed within the deadline. These leave the channel open. `ChannelClosed` with 404 when the
    /// exchange does not exist, 403 without permission or for an internal exchange, 406 for a `user_id` that is not
    /// the login, or a body above the broker's limit: the broker has closed the channel. `ConnectionClosed` when the
    /// connection is lost.
    ///
    /// [`Error::may_have_arrived`](crate::Error::may_have_arrived) tells whether the broker may have it in spite of
    /// the error.
    ///
    /// **Over a reconnect**: what was not confirmed is kept and sent again, in the old order and in front of newer
    /// ones. The future just takes longer, its deadline holds. A message may come twice then; [`Publishing::generate_message_id`]
    /// helps to recognise it. With `OpenChannel::on_outage(Fail)` it fails instead with `ConnectionClosed`, "may have
    /// arrived". A publish that is made while the connection is down waits for it within its deadline. A nack within
    /// five seconds of the reconnect is not told at once: quorum queues take nothing until they have a leader again, so
    /// the publish is sent again, for which a channel without consumers is closed and opened.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.publish`); <https://www.rabbitmq.com/docs/confirms>.
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
    /// match exchange.publish("for nobody", "no such queue").await {
    ///     Err(error) if error.kind() == ErrorKind::Unroutable => println!("came back: {:?}", error.returned()),
    ///     answer => println!("confirmed: {}", answer?.is_confirmed()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish<'k>(&self, content: impl Into<Publishing>, routing_key: &'k str) -> PublishFuture<'k> {
        let content = self.channel().finish(content.into());
        PublishFuture::new(self, content, routing_key)
    }

    /// Publishes and waits only for room in the window; what comes of it is told by the [`Confirm`].
    ///
    /// Sends `basic.publish`. The window is 1,024 publishes and 16 MiB, unless [`OpenChannel`](crate::OpenChannel)
    /// says otherwise; a larger publish goes alone.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish) that come before anything is sent.
    ///
    /// **Over a reconnect**: as for [`publish`](Self::publish): the [`Confirm`] just takes longer.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.publish`); <https://www.rabbitmq.com/docs/confirms>.
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
    pub fn publish_deferred<'k>(
        &self,
        content: impl Into<Publishing>,
        routing_key: &'k str,
    ) -> PublishDeferredFuture<'k> {
        let content = self.channel().finish(content.into());
        PublishDeferredFuture::new(self, content, routing_key)
    }

    /// Publishes if the window has room now; `None`, and nothing sent, if it has not, or the broker takes no
    /// publishes.
    ///
    /// Sends `basic.publish`. It waits for nothing, and so can be called where nothing can be awaited.
    ///
    /// # Errors
    /// Those of [`publish_deferred`](Self::publish_deferred), but for the deadline.
    ///
    /// **Over a reconnect**: while the connection is down, publishes are taken until the window is full.
    ///
    /// Source: AMQP 0-9-1 section 1.8 (`basic.publish`).
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

    /// Binds this exchange to another one, to receive what that one routes here.
    ///
    /// Sends `exchange.bind`, a RabbitMQ extension. The same binding again changes nothing.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, or without permission; 404 where either does not exist. Each closes
    /// the channel. And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: the binding is recorded and made again, after the exchanges; not that of an exchange that
    /// was declared with `robust(false)`.
    ///
    /// Source: <https://www.rabbitmq.com/docs/e2e>.
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

    /// Binds as the options say, which name both ends and may have arguments; the handle adds only its channel.
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
        let passing = !self.inner.robust && facade::bound_exchange(&bind) == self.name();
        let bind = if passing { bind.robust(false) } else { bind };
        self.inner.channel.call(bind).await
    }

    /// Removes a binding to another exchange; a missing one, or a missing exchange, is no error.
    ///
    /// Sends `exchange.unbind`, a RabbitMQ extension.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, or without permission, which closes the channel. And [those of every
    /// call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: what was unbound stays gone.
    ///
    /// Source: <https://www.rabbitmq.com/docs/e2e>.
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

    /// Removes a binding as the options say, which name both ends; the arguments must be those of the binding.
    ///
    /// Sends `exchange.unbind`.
    ///
    /// # Errors
    /// Those of [`unbind`](Self::unbind).
    ///
    /// **Over a reconnect**: what was unbound stays gone.
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

    /// Deletes the exchange with its bindings; a missing one is no error.
    ///
    /// Sends `exchange.delete`. [`delete_with`](Self::delete_with) does it on conditions.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, for names that begin with `amq.`, or without permission, which closes
    /// the channel. And [those of every call](Channel#errors-of-every-call).
    ///
    /// **Over a reconnect**: it stays gone, and so do its bindings.
    ///
    /// Source: AMQP 0-9-1 section 1.6 (`exchange.delete`).
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

    /// Deletes the exchange as the options say, if nothing is bound to it; the exchange is that of the options.
    ///
    /// Sends `exchange.delete`.
    ///
    /// # Errors
    /// Those of [`delete`](Self::delete), and `Refused` with 406 for [`if_unused`](DeleteExchange::if_unused) where
    /// something is bound to it, which closes the channel.
    ///
    /// **Over a reconnect**: as for [`delete`](Self::delete).
    ///
    /// Source: AMQP 0-9-1 section 1.6 (`exchange.delete`).
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

    /// Hands out the channel of the handle.
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
