//! What is said about exchanges.

use std::fmt;

use actix::Message;

use super::binding::binding;
use crate::{
    error::Result,
    wire::{Table, Value},
};

/// Says how an exchange routes.
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
    /// To every queue bound.
    Fanout,
    /// By patterns of words, `*` for one and `#` for any number.
    Topic,
    /// By header values.
    Headers,
    /// A type of a plugin, such as `x-delayed-message`. The broker closes the *connection* (503) if it has no such.
    Custom(String),
}

/// Takes a type by the name that the broker knows; one that is not the protocol's is [`Custom`](ExchangeKind::Custom).
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

/// Takes a type by its name, as from a `&str`.
impl From<String> for ExchangeKind {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl ExchangeKind {
    /// Names the type as the broker knows it.
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

/// Declares an exchange, durable unless said otherwise. One that exists in the same way already is left as it
/// is.
///
/// Sends `exchange.declare`. A name has 255 bytes at most.
///
/// # Errors
/// `Refused`: 403 for `amq.*` names or missing permission, 404 for a passive declare of what does not exist,
/// 406 where it exists otherwise ([`Error::mismatch`](crate::Error::mismatch) tells what differs). Each
/// closes the channel. A type that the broker does not know closes the connection: `ConnectionClosed` with
/// 503. `Limit` and `Codec` for what cannot be sent, and those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: it is declared again, unless `robust(false)`; a passive one is asked for again.
///
/// Source: AMQP 0-9-1 section 1.6.2.1; <https://www.rabbitmq.com/docs/exchanges>
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
    /// Declares an exchange of any kind, be it one of a plugin by its name.
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

    /// Declares a direct exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let orders = DeclareExchange::direct("orders");
    /// ```
    pub fn direct(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Direct)
    }

    /// Declares a fanout exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let news = DeclareExchange::fanout("news");
    /// ```
    pub fn fanout(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Fanout)
    }

    /// Declares a topic exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let logs = DeclareExchange::topic("logs");
    /// ```
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Topic)
    }

    /// Declares a headers exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let images = DeclareExchange::headers("images");
    /// ```
    pub fn headers(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Headers)
    }

    /// Only asks whether an exchange of this name exists, of whatever kind (passive `exchange.declare`).
    ///
    /// What does not exist is refused with 404, which closes the channel.
    ///
    /// **Over a reconnect**: it is asked for again, and never declared.
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
        // RabbitMQ does not look at the kind then.
        Self::direct(name).passive(true)
    }

    /// Tells the name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// assert_eq!(DeclareExchange::topic("logs").name(), "logs");
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Only asks whether it exists; nothing but the name counts. [`existing`](Self::existing) says it in one.
    ///
    /// What does not exist is refused with 404, which closes the channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let is_there = DeclareExchange::topic("logs").passive(true);
    /// ```
    pub fn passive(mut self, passive: bool) -> Self {
        self.passive = passive;
        self
    }

    /// Sets whether it survives a restart of the broker.
    ///
    /// Durable unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let passing = DeclareExchange::fanout("news").durable(false);
    /// ```
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Sets whether the broker deletes the exchange when its last binding is removed. An exchange that never had a binding
    /// stays.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let passing = DeclareExchange::fanout("news").auto_delete(true);
    /// ```
    pub fn auto_delete(mut self, auto_delete: bool) -> Self {
        self.auto_delete = auto_delete;
        self
    }

    /// Sets whether the exchange is internal: it takes no publishes, only messages from other exchanges.
    ///
    /// A publish to it is refused with 403, which closes the channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let inner = DeclareExchange::topic("orders.eu").internal(true);
    /// ```
    pub fn internal(mut self, internal: bool) -> Self {
        self.internal = internal;
        self
    }

    /// Sets whether it is declared again after a reconnect, which is so by default on a connection that recovers.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::DeclareExchange;
    /// let once = DeclareExchange::fanout("migration").robust(false);
    /// ```
    pub fn robust(mut self, robust: bool) -> Self {
        self.robust = robust;
        self
    }

    /// Tells whether it is declared again.
    #[doc(hidden)]
    pub fn is_robust(&self) -> bool {
        self.robust
    }

    /// Adds an argument, such as `alternate-exchange`.
    ///
    /// A key that is there already gets the new value; of keys, 255 bytes at most (`Codec` when it is sent).
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

    /// Adds all arguments of a table; of two of the same name the later one counts.
    ///
    /// Keys have 255 bytes at most (`Codec` when it is sent).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeclareExchange, Table};
    /// let ours = Table::new().with("alternate-exchange", "unrouted");
    /// let orders = DeclareExchange::topic("orders").arguments(ours.clone());
    /// let news = DeclareExchange::fanout("news").arguments(ours);
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

/// Deletes an exchange with its bindings. One that does not exist is no error.
///
/// Sends `exchange.delete`.
///
/// # Errors
/// `Refused`: 403 for predeclared ones or missing permission, 406 for `if_unused` on one with bindings. Each
/// closes the channel. Otherwise those of every call ([`Channel`](crate::Channel)).
///
/// **Over a reconnect**: what was deleted is not declared again.
///
/// Source: AMQP 0-9-1 section 1.6.2.3
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
    /// Deletes the exchange of this name.
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
    /// Binds an exchange to another one, a RabbitMQ extension. A binding that exists is left as it is.
    ///
    /// Sends `exchange.bind`.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange or missing permission, 404 where either is missing.
    /// Each closes the channel. `Limit` and `Codec` for what cannot be sent, and those of every call
    /// ([`Channel`](crate::Channel)).
    ///
    /// **Over a reconnect**: the binding is made again with its exchanges.
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
    "Names the exchange that receives, the exchange that it receives from, and the routing key."
}
binding! {
    /// Removes a binding between exchanges. One that does not exist is no error.
    ///
    /// Sends `exchange.unbind`.
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange or missing permission, which closes the channel. `Limit` and `Codec` for
    /// what cannot be sent, and those of every call ([`Channel`](crate::Channel)).
    ///
    /// **Over a reconnect**: what was unbound is not bound again.
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
    "Names the exchange that receives, the exchange that it receives from, and the routing key."
}
