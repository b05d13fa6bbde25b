//! The builder of a bridge.

use std::{fmt, sync::Arc};

use actix_pika_actors::facade;

use super::{
    Bridge,
    handle::Handle,
    pump::{self, Binder, Pump},
    registry::Registry,
};
#[allow(unused_imports, reason = "for the links")]
use crate::Channel;
use crate::{
    Consume, DeclareExchange, DeclareQueue, Exchange, Result,
    message::{Table, Value},
    options::ExchangeKind,
    runtime,
};

/// Builds a [`Bridge`] ([`Exchange::bridge`]).
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// let bridge = channel.exchange("orders").bridge().start().await?;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it is started"]
pub struct BridgeBuilder {
    exchange: Exchange,
    kind: ExchangeKind,
    arguments: Table,
    prefetch: u16,
}

impl Exchange {
    /// Returns the builder of a bridge, which passes the messages of this exchange on to many local subscribers.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let bridge = channel.exchange("orders").bridge().start().await?;
    /// # Ok(()) }
    /// ```
    pub fn bridge(&self) -> BridgeBuilder {
        let exchange = self.clone();
        BridgeBuilder { exchange, kind: ExchangeKind::Topic, arguments: Table::default(), prefetch: 250 }
    }
}

impl BridgeBuilder {
    /// Sets the type of the exchange, which is [`Topic`](ExchangeKind::Topic) unless set.
    ///
    /// | type | bindings | who gets a message |
    /// |---|---|---|
    /// | `Topic` | one for each different pattern that is wanted | subscribers with a pattern that matches its key |
    /// | `Direct` | the same | subscribers with its key |
    /// | `Fanout`, `Headers`, others | one, with the key `""` and the [arguments](Self::argument), while there is a subscriber | subscribers with a pattern that matches its key: `#` matches all |
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::options::ExchangeKind;
    ///
    /// let bridge = channel.exchange("amq.fanout").bridge().kind(ExchangeKind::Fanout).start().await?;
    /// # Ok(()) }
    /// ```
    pub fn kind(mut self, kind: ExchangeKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets an argument of the bindings, such as `x-match` and the headers for a headers exchange.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use actix_pika::options::ExchangeKind;
    ///
    /// let urgent = channel.exchange("amq.headers").bridge().kind(ExchangeKind::Headers).argument("urgent", true);
    /// let bridge = urgent.start().await?;
    /// # Ok(()) }
    /// ```
    pub fn argument(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Sets how many messages the broker sends ahead (at least 1). 250 unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let bridge = channel.exchange("orders").bridge().prefetch(32).start().await?;
    /// # Ok(()) }
    /// ```
    pub fn prefetch(mut self, messages: u16) -> Self {
        self.prefetch = messages.max(1);
        self
    }

    /// Starts the bridge: opens two channels, declares an exclusive queue that the broker names, and consumes from it.
    ///
    /// It runs on the first arbiter of the `System`; without a `System`, on the calling tokio runtime.
    ///
    /// # Errors
    /// `Refused` with 404 if the exchange does not exist, without a code for the default exchange, which cannot be bound.
    /// Those of [`Connection::channel`](crate::Connection::channel) and of [`Channel::declare_queue`]. `Stopped` if there
    /// is neither a `System` nor a runtime. The channel of the exchange's handle stays open.
    ///
    /// **Over a reconnect**: the queue has another name, with the same bindings. Subscribers get
    /// [`Gap`](super::BridgeEvent::Gap).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let bridge = channel.exchange("orders").bridge().start().await?;
    /// # Ok(()) }
    /// ```
    pub async fn start(self) -> Result<Bridge> {
        let exchange = self.exchange.name();
        if exchange.is_empty() {
            return Err(facade::refused("the default exchange cannot be bound"));
        }
        let connection = self.exchange.channel().connection();
        let binding = connection.channel_with(pump::options()).await?;
        binding.declare_exchange(DeclareExchange::existing(exchange).robust(false)).await?;
        let channel = connection.channel_with(pump::options()).await?;
        // It stays while its consumer starts again, and ends with the connection.
        let queue = channel.declare_queue(DeclareQueue::server_named().auto_delete(false)).await?;
        let consume = Consume::new().prefetch(self.prefetch).exclusive(true);
        let stream = queue.deliveries_with(consume).await?;
        let registry = Arc::new(Registry::new(exchange, &self.kind));
        let binder = Binder {
            registry: registry.clone(),
            channel: binding,
            queue: queue.clone(),
            exchange: Box::from(exchange),
            arguments: self.arguments,
        };
        let pump = Pump { registry: registry.clone(), channel, stream, queue };
        // Dropping it stops the tasks.
        let handle = Handle::new(registry);
        runtime::spawn(pump.run())?;
        runtime::spawn(binder.run())?;
        Ok(Bridge::new(handle))
    }
}

impl fmt::Debug for BridgeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BridgeBuilder")
            .field("exchange", &self.exchange.name())
            .field("kind", &self.kind)
            .field("arguments", &self.arguments)
            .field("prefetch", &self.prefetch)
            .finish()
    }
}
