//! Declaring, binding and deleting exchanges.

use std::fmt;

use actix::Message;

use super::binding::binding;
use crate::{
    error::Result,
    wire::{Table, Value},
};

/// Selects how an exchange routes messages.
///
/// Source: AMQP 0-9-1 section 3.1.3; <https://www.rabbitmq.com/docs/exchanges>
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DeclareExchange, ExchangeKind};
/// let delayed = DeclareExchange::new("later", ExchangeKind::Custom("x-delayed-message".into()))
///     .argument("x-delayed-type", "direct");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExchangeKind {
    /// By the exact routing key.
    Direct,
    /// To every bound queue.
    Fanout,
    /// By patterns of words; `*` matches one word, `#` any number of words.
    Topic,
    /// By header values.
    Headers,
    /// A type that a plugin provides, such as `x-delayed-message`. If the broker does not support it, it
    /// closes the *connection* (503).
    Custom(String),
}

/// Converts the name of a type. A name that the protocol does not define becomes
/// [`Custom`](ExchangeKind::Custom).
///
/// # Examples
/// ```
/// # use actix_pika_actors::ExchangeKind;
/// assert_eq!(ExchangeKind::from("topic"), ExchangeKind::Topic);
/// assert_eq!(ExchangeKind::from("x-random"), ExchangeKind::Custom("x-random".into()));
/// ```
impl From<&str> for ExchangeKind {
    fn from(name: &str) -> Self {
        match name {
            "direct" => Self::Direct,
            "fanout" => Self::Fanout,
            "topic" => Self::Topic,
            "headers" => Self::Headers,
            other => Self::Custom(other.to_owned()),
        }
    }
}

/// Converts the name of a type, as from a `&str`.
impl From<String> for ExchangeKind {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl ExchangeKind {
    /// Returns the name that the broker uses.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::ExchangeKind;
    /// assert_eq!(ExchangeKind::Topic.as_str(), "topic");
    /// assert_eq!(ExchangeKind::Custom("x-random".into()).to_string(), "x-random");
    /// ```
    pub fn as_str(&self) -> &str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::Custom(name) => name,
        }
    }
}

impl fmt::Display for ExchangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares an exchange (`exchange.declare`), durable unless set otherwise. An exchange that exists with the
/// same attributes is left unchanged.
///
/// A name has at most 255 bytes, and no CR or LF: RabbitMQ would remove them, and the exchange would have
/// another name.
///
/// # Errors
/// - `Refused` with 403 for a name that begins with `amq.`, or if permission is missing; 404 for a passive
///   declare of an exchange that does not exist; 406 if it exists with different attributes
///   ([`Error::mismatch`](crate::Error::mismatch) returns the first one that differs). Each closes the
///   channel.
/// - `ConnectionClosed` with 503 for a type that the broker does not support.
/// - `Limit` for a name that is too long, `Refused` without a code for one with CR or LF, `Codec` for arguments that cannot be encoded.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: the exchange is redeclared, unless `robust(false)`. A passive declare is
/// repeated as a passive one.
///
/// Source: AMQP 0-9-1 section 1.6.2.1 (`exchange.declare`); <https://www.rabbitmq.com/docs/exchanges>
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, DeclareExchange, Result};
/// # async fn declare(channel: Addr<Channel>) -> Result<()> {
/// channel.send(DeclareExchange::topic("orders").alternate_exchange("unrouted")).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct DeclareExchange {
    pub(crate) name: String,
    pub(crate) kind: ExchangeKind,
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Table,
    pub(crate) robust: bool,
}

impl DeclareExchange {
    /// Creates the declare of an exchange of any type, including those of plugins.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareExchange, ExchangeKind};
    /// let orders = DeclareExchange::new("orders", ExchangeKind::Direct);
    /// let later = DeclareExchange::new("later", "x-delayed-message").argument("x-delayed-type", "direct");
    /// ```
    pub fn new(name: impl Into<String>, kind: impl Into<ExchangeKind>) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::default(),
            robust: true,
        }
    }

    /// Creates the declare of a direct exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let orders = DeclareExchange::direct("orders");
    /// ```
    pub fn direct(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Direct)
    }

    /// Creates the declare of a fanout exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let news = DeclareExchange::fanout("news");
    /// ```
    pub fn fanout(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Fanout)
    }

    /// Creates the declare of a topic exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let logs = DeclareExchange::topic("logs");
    /// ```
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Topic)
    }

    /// Creates the declare of a headers exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let images = DeclareExchange::headers("images");
    /// ```
    pub fn headers(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Headers)
    }

    /// Creates a passive declare (`exchange.declare`): it checks that an exchange of any type exists.
    ///
    /// A missing exchange fails with `Refused` (404), which closes the channel.
    ///
    /// **Over a reconnect**: the check is repeated; the exchange is never declared.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Addr;
    /// # use actix_pika_actors::{Channel, DeclareExchange, Result};
    /// # async fn ask(channel: Addr<Channel>) -> Result<()> {
    /// channel.send(DeclareExchange::existing("logs")).await??;
    /// # Ok(()) }
    /// ```
    #[doc(alias = "passive")]
    pub fn existing(name: impl Into<String>) -> Self {
        // RabbitMQ ignores the type of a passive declare.
        Self::direct(name).passive(true)
    }

    /// Returns the name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// assert_eq!(DeclareExchange::topic("logs").name(), "logs");
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets whether the declare only checks that the exchange exists (passive `exchange.declare`). Options
    /// other than the name are then ignored. [`existing`](Self::existing) is the short form.
    ///
    /// A missing exchange fails with `Refused` (404), which closes the channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let check = DeclareExchange::topic("logs").passive(true);
    /// ```
    pub fn passive(mut self, passive: bool) -> Self {
        self.passive = passive;
        self
    }

    /// Sets whether the exchange survives a restart of the broker; it does unless set.
    ///
    /// From 4.3 on RabbitMQ keeps each exchange over the restart of a single node.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let news = DeclareExchange::fanout("news").durable(false);
    /// ```
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets whether the broker deletes the exchange when its last binding is removed. An exchange that never
    /// had a binding stays.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let news = DeclareExchange::fanout("news").auto_delete(true);
    /// ```
    pub fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Sets whether the exchange is internal: clients cannot publish to it, it only receives messages from
    /// other exchanges.
    ///
    /// A publish to it fails with 403, which closes the channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let orders = DeclareExchange::topic("orders.eu").internal(true);
    /// ```
    pub fn internal(mut self, internal: bool) -> Self {
        self.internal = internal;
        self
    }

    /// Sets whether the exchange is redeclared after a reconnect; it is unless set. It has no effect on a
    /// connection that does not recover.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let temporary = DeclareExchange::fanout("migration").robust(false);
    /// ```
    pub fn robust(mut self, robust: bool) -> Self {
        self.robust = robust;
        self
    }

    /// Adds an argument, such as `alternate-exchange`. A further value of the same key replaces the first.
    ///
    /// A key has at most 255 bytes; a longer one fails with `Codec` when the call is sent.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let orders = DeclareExchange::topic("orders").argument("alternate-exchange", "unrouted");
    /// ```
    pub fn argument(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(key, value);
        self
    }

    /// Adds all arguments of a table, replacing those with the same key.
    ///
    /// A key has at most 255 bytes; a longer one fails with `Codec` when the call is sent.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareExchange, Table};
    /// let arguments = Table::new().with("alternate-exchange", "unrouted");
    /// let orders = DeclareExchange::topic("orders").arguments(arguments.clone());
    /// let news = DeclareExchange::fanout("news").arguments(arguments);
    /// ```
    pub fn arguments(mut self, arguments: Table) -> Self {
        self.arguments.extend(arguments);
        self
    }
}

impl Message for DeclareExchange {
    type Result = Result<()>;
}

impl From<&DeclareExchange> for DeclareExchange {
    fn from(declare: &DeclareExchange) -> Self {
        declare.clone()
    }
}

/// Deletes an exchange with its bindings (`exchange.delete`). A missing exchange is no error.
///
/// # Errors
/// - `Refused` with 403 for a predeclared exchange, or if permission is missing; 406 if `if_unused` is set
///   and it has bindings. Each closes the channel.
/// - Those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: a deleted exchange is not redeclared.
///
/// Source: AMQP 0-9-1 section 1.6.2.3 (`exchange.delete`)
///
/// # Examples
/// ```no_run
/// # use actix::Addr;
/// # use actix_pika_actors::{Channel, DeleteExchange, Result};
/// # async fn delete(channel: Addr<Channel>) -> Result<()> {
/// channel.send(DeleteExchange::new("orders").if_unused(true)).await??;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a message does nothing until it is sent or passed to a call"]
pub struct DeleteExchange {
    pub(crate) name: String,
    pub(crate) if_unused: bool,
}

impl DeleteExchange {
    /// Creates the deletion of the exchange with this name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeleteExchange;
    /// let delete = DeleteExchange::new("orders");
    /// ```
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), if_unused: false }
    }

    /// Sets whether the exchange is deleted only if nothing is bound to it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeleteExchange;
    /// let delete = DeleteExchange::new("orders").if_unused(true);
    /// ```
    pub fn if_unused(mut self, if_unused: bool) -> Self {
        self.if_unused = if_unused;
        self
    }
}

impl Message for DeleteExchange {
    type Result = Result<()>;
}

binding! {
    /// Binds an exchange to another one (`exchange.bind`, a RabbitMQ extension). An existing binding is left
    /// unchanged.
    ///
    /// # Errors
    /// - `Refused` with 403 for the default exchange, or if permission is missing; 404 if one of them does
    ///   not exist. Each closes the channel.
    /// - `Limit` for a name that is too long, `Codec` for arguments that cannot be encoded.
    /// - Those of every call ([`Channel`](crate::Channel)).
    ///
    /// **Over a reconnect**: the binding is redeclared after its exchanges.
    ///
    /// Source: <https://www.rabbitmq.com/docs/e2e>
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Addr;
    /// # use actix_pika_actors::{Channel, BindExchange, Result};
    /// # async fn run(channel: Addr<Channel>) -> Result<()> {
    /// channel.send(BindExchange::new("billing", "orders", "order.*")).await??;
    /// # Ok(()) }
    /// ```
    BindExchange { destination, source },
    "Creates the message with the destination exchange, the source exchange and the routing key."
}
binding! {
    /// Removes a binding between exchanges (`exchange.unbind`). A missing binding is no error.
    ///
    /// # Errors
    /// - `Refused` with 403 for the default exchange, or if permission is missing, which closes the channel.
    /// - `Limit` for a name that is too long, `Codec` for arguments that cannot be encoded.
    /// - Those of every call ([`Channel`](crate::Channel)).
    ///
    /// **Over a reconnect**: a removed binding is not redeclared.
    ///
    /// Source: <https://www.rabbitmq.com/docs/e2e>
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::Addr;
    /// # use actix_pika_actors::{Channel, UnbindExchange, Result};
    /// # async fn run(channel: Addr<Channel>) -> Result<()> {
    /// channel.send(UnbindExchange::new("billing", "orders", "order.*")).await??;
    /// # Ok(()) }
    /// ```
    UnbindExchange { destination, source },
    "Creates the message with the destination exchange, the source exchange and the routing key."
}
