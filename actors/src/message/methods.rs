//! What of the topology is said on the wire: the same words for people and for recovery.

use super::{BindExchange, BindQueue, DeclareExchange, DeclareQueue, UnbindExchange, UnbindQueue};
use crate::{
    error::Result,
    wire::{AMQPClass, exchange, queue, short, to_field_table},
};

impl DeclareExchange {
    pub(crate) fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: short("exchange name", &self.name)?,
            kind: short("exchange type", self.kind.as_str())?,
            passive: self.passive,
            durable: self.durable,
            auto_delete: self.auto_delete,
            internal: self.internal,
            nowait: false,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

impl DeclareQueue {
    pub(crate) fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: short("queue name", &self.name)?,
            passive: self.passive,
            durable: self.durable,
            exclusive: self.exclusive,
            auto_delete: self.auto_delete,
            nowait: false,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

impl BindExchange {
    pub(crate) fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
            destination: short("exchange name", &self.destination)?,
            source: short("exchange name", &self.source)?,
            routing_key: short("routing key", &self.routing_key)?,
            nowait: false,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

impl UnbindExchange {
    pub(crate) fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Exchange(exchange::AMQPMethod::Unbind(exchange::Unbind {
            destination: short("exchange name", &self.destination)?,
            source: short("exchange name", &self.source)?,
            routing_key: short("routing key", &self.routing_key)?,
            nowait: false,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

impl BindQueue {
    pub(crate) fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
            queue: short("queue name", &self.queue)?,
            exchange: short("exchange name", &self.exchange)?,
            routing_key: short("routing key", &self.routing_key)?,
            nowait: false,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

impl UnbindQueue {
    pub(crate) fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
            queue: short("queue name", &self.queue)?,
            exchange: short("exchange name", &self.exchange)?,
            routing_key: short("routing key", &self.routing_key)?,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}
