//! The handle of an exchange.

use std::{fmt, sync::Arc};

use crate::{
    BindExchange, Channel, Confirm, Confirmation, DeleteExchange, Publishing, Result, UnbindExchange,
    publisher::{Admission, try_now},
};

/// An exchange, by name, on a channel.
#[derive(Clone)]
pub struct Exchange {
    channel: Channel,
    name: Arc<str>,
}

impl Exchange {
    pub(crate) fn new(channel: Channel, name: &str) -> Self {
        Self { channel, name: Arc::from(name) }
    }

    /// Tells the name; empty for the default exchange.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes (`basic.publish`) and waits until the broker has taken responsibility.
    ///
    /// Without confirms it waits only for room in the window. Dropped before the first poll, nothing is sent; dropped
    /// later, the publish goes on.
    ///
    /// # Errors
    /// `Limit` for a key over 255 bytes or headers over the connection's frame size, and `Codec` for properties that
    /// cannot be encoded, before anything is sent;
    /// `Unroutable` when no queue gets it, `Nacked` when the broker cannot keep it, `Timeout` or `Blocked` after the
    /// deadline; `ChannelClosed` with 404 when the exchange does not exist, which closes the channel.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::Publishing;
    /// let exchange = channel.default_exchange();
    /// exchange.publish("resize 7.png", "jobs").await?;
    /// exchange.publish(Publishing::new("{}").content_type("application/json"), "jobs").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish(&self, content: impl Into<Publishing>, routing_key: &str) -> Result<Confirmation> {
        self.publish_deferred(content, routing_key).await?.await
    }

    /// Publishes and waits only for room in the window; what comes of it is told by the [`Confirm`].
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish) that come before anything is sent.
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
    pub async fn publish_deferred(
        &self,
        content: impl Into<Publishing>,
        routing_key: &str,
    ) -> Result<Confirm> {
        let outbox = self.channel.outbox();
        let content = self.channel.finish(content.into());
        let sequence = Admission::new(outbox, &self.name, routing_key, content)?.await?;
        Ok(Confirm::new(outbox.clone(), sequence))
    }

    /// Publishes if the window has room now; `None`, and nothing sent, if it has not.
    ///
    /// # Errors
    /// Those of [`publish_deferred`](Self::publish_deferred), but for the deadline.
    pub fn try_publish(&self, content: impl Into<Publishing>, routing_key: &str) -> Result<Option<Confirm>> {
        let outbox = self.channel.outbox();
        let sequence = try_now(outbox, &self.name, routing_key, &self.channel.finish(content.into()))?;
        Ok(sequence.map(|sequence| Confirm::new(outbox.clone(), sequence)))
    }

    /// Binds this exchange to another one, to receive what that one routes here (`exchange.bind`).
    ///
    /// # Errors
    /// `Refused` with 403 or 404, which closes the channel.
    pub async fn bind(&self, source: &str, routing_key: &str) -> Result<()> {
        self.bind_with(BindExchange::new(&*self.name, source, routing_key)).await
    }

    /// Binds as the options say.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind).
    pub async fn bind_with(&self, bind: BindExchange) -> Result<()> {
        self.channel.call(bind).await
    }

    /// Removes a binding to another exchange (`exchange.unbind`); a missing one is no error.
    ///
    /// # Errors
    /// `Refused` with 403, which closes the channel.
    pub async fn unbind(&self, source: &str, routing_key: &str) -> Result<()> {
        self.unbind_with(UnbindExchange::new(&*self.name, source, routing_key)).await
    }

    /// Removes a binding as the options say.
    ///
    /// # Errors
    /// Those of [`unbind`](Self::unbind).
    pub async fn unbind_with(&self, unbind: UnbindExchange) -> Result<()> {
        self.channel.call(unbind).await
    }

    /// Deletes the exchange with its bindings (`exchange.delete`); a missing one is no error.
    ///
    /// # Errors
    /// `Refused` with 403 for predeclared ones, which closes the channel.
    pub async fn delete(&self) -> Result<()> {
        self.channel.call(DeleteExchange::new(&*self.name)).await
    }

    /// Hands out the channel of the handle.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("name", &self.name).field("channel", &self.channel.number()).finish()
    }
}
