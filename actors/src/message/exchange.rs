//! What is said about exchanges.

use std::fmt;

use actix::Message;

use super::binding::binding;
use crate::{
    error::Result,
    wire::{Table, Value},
};

/// How an exchange routes.
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

impl ExchangeKind {
    /// Names the type as the broker knows it.
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

/// Declares an exchange (`exchange.declare`), durable unless said otherwise.
///
/// # Errors
/// `Refused`: 403 for `amq.*` names or missing permission, 404 for a passive declare of what does not exist, 406 where
/// it exists otherwise. Each closes the channel.
///
/// ```
/// use actix_pika_actors::DeclareExchange;
///
/// let orders = DeclareExchange::topic("orders").auto_delete();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeclareExchange {
    pub(crate) name: String,
    pub(crate) kind: ExchangeKind,
    pub(crate) passive: bool,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Table,
}

impl DeclareExchange {
    /// Declares an exchange of any kind.
    pub fn new(name: impl Into<String>, kind: ExchangeKind) -> Self {
        Self {
            name: name.into(),
            kind,
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: Table::default(),
        }
    }

    /// Declares a direct exchange.
    pub fn direct(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Direct)
    }

    /// Declares a fanout exchange.
    pub fn fanout(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Fanout)
    }

    /// Declares a topic exchange.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Topic)
    }

    /// Declares a headers exchange.
    pub fn headers(name: impl Into<String>) -> Self {
        Self::new(name, ExchangeKind::Headers)
    }

    /// Tells the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Only asks whether it exists; nothing but the name counts.
    pub fn passive(mut self) -> Self {
        self.passive = true;
        self
    }

    /// Sets whether it survives a restart of the broker.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Lets it go with its last binding.
    pub fn auto_delete(mut self) -> Self {
        self.auto_delete = true;
        self
    }

    /// Closes it to publishers: only other exchanges route to it.
    pub fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// Adds an argument, such as `alternate-exchange`.
    pub fn argument(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(key, value);
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

/// Deletes an exchange (`exchange.delete`) with its bindings. One that does not exist is no error.
///
/// # Errors
/// `Refused`: 403 for predeclared ones, 406 for `if_unused` on one with bindings. Each closes the channel.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeleteExchange {
    pub(crate) name: String,
    pub(crate) if_unused: bool,
}

impl DeleteExchange {
    /// Deletes the exchange of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), if_unused: false }
    }

    /// Deletes it only if nothing is bound to it.
    pub fn if_unused(mut self) -> Self {
        self.if_unused = true;
        self
    }
}

impl Message for DeleteExchange {
    type Result = Result<()>;
}

binding! {
    /// Binds an exchange to another one (`exchange.bind`, a RabbitMQ extension).
    ///
    /// # Errors
    /// `Refused`: 403 for the default exchange, 404 where either is missing. Each closes the channel.
    BindExchange { destination, source },
    "Names the exchange that receives, the exchange that it receives from, and the routing key."
}
binding! {
    /// Removes a binding between exchanges (`exchange.unbind`). One that does not exist is no error.
    UnbindExchange { destination, source },
    "Names the exchange that receives, the exchange that it receives from, and the routing key."
}
