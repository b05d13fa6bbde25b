//! Every AMQP method that this crate sends once a connection is open, built from messages and options.
//!
//! The methods of the handshake are in `wire`, and so is what is written for each message: `basic.publish`,
//! `basic.ack`, `basic.nack` and `basic.reject`. A method with a name that is too long for AMQP is an error,
//! and so is one with the name of a queue or exchange that RabbitMQ would change.

use super::{
    BindExchange, BindQueue, DeclareExchange, DeclareQueue, DeleteExchange, DeleteQueue, Get, PurgeQueue,
    Qos, UnbindExchange, UnbindQueue,
};
use crate::{
    error::Result,
    wire::{
        AMQPClass, Fault, Table, basic, channel, confirm, connection, exchange, name, queue, short,
        short_truncated, to_field_table, tx,
    },
};

/// Builds `connection.close`; the text is cut to 255 bytes.
pub(crate) fn connection_close(reason: &Fault) -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::Close(connection::Close {
        reply_code: reason.code,
        reply_text: short_truncated(&reason.text),
        class_id: reason.class_id,
        method_id: reason.method_id,
    }))
}

/// Builds `connection.close-ok`.
pub(crate) fn connection_close_ok() -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))
}

/// Builds `channel.open`.
pub(crate) fn channel_open() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))
}

/// Builds `channel.close`; the text is cut to 255 bytes.
pub(crate) fn channel_close(code: u16, text: &str) -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
        reply_code: code,
        reply_text: short_truncated(text),
        class_id: 0,
        method_id: 0,
    }))
}

/// Builds `channel.close-ok`.
pub(crate) fn channel_close_ok() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))
}

/// Builds `channel.flow-ok`.
pub(crate) fn flow_ok(active: bool) -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::FlowOk(channel::FlowOk { active }))
}

/// Builds the `basic.nack` that requeues all that is unsettled on the channel.
pub(crate) fn basic_nack_all() -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Nack(basic::Nack { delivery_tag: 0, multiple: true, requeue: true }))
}

/// Builds `confirm.select`.
pub(crate) fn confirm_select() -> AMQPClass {
    AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }))
}

/// Builds `tx.select`.
pub(crate) fn tx_select() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {}))
}

/// Builds `tx.commit`.
pub(crate) fn tx_commit() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}))
}

/// Builds `tx.rollback`.
pub(crate) fn tx_rollback() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {}))
}

/// Builds `basic.recover`, which requeues.
pub(crate) fn basic_recover() -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Recover(basic::Recover { requeue: true }))
}

/// Builds `basic.consume`.
pub(crate) fn basic_consume(
    queue: &str,
    tag: &str,
    no_ack: bool,
    exclusive: bool,
    arguments: &Table,
) -> Result<AMQPClass> {
    Ok(AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: name("queue name", queue)?,
        consumer_tag: short("consumer tag", tag)?,
        no_local: false,
        no_ack,
        exclusive,
        nowait: false,
        arguments: to_field_table(arguments)?,
    })))
}

/// Builds `basic.cancel`.
pub(crate) fn basic_cancel(tag: &str) -> Result<AMQPClass> {
    let consumer_tag = short("consumer tag", tag)?;
    Ok(AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag, nowait: false })))
}

/// A message that is one AMQP method.
pub(crate) trait Method {
    /// Builds the method.
    fn method(&self) -> Result<AMQPClass>;
}

/// `basic.qos`
impl Method for Qos {
    fn method(&self) -> Result<AMQPClass> {
        let Self { prefetch_count, global, .. } = *self;
        Ok(AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos { prefetch_count, global })))
    }
}

/// `basic.get`
impl Method for Get {
    fn method(&self) -> Result<AMQPClass> {
        let queue = name("queue name", &self.queue)?;
        Ok(AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get { queue, no_ack: self.no_ack })))
    }
}

/// `exchange.declare`
impl Method for DeclareExchange {
    fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: name("exchange name", &self.name)?,
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

/// `queue.declare`
impl Method for DeclareQueue {
    fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
            queue: name("queue name", &self.name)?,
            passive: self.passive,
            durable: self.durable,
            exclusive: self.exclusive,
            auto_delete: self.auto_delete,
            nowait: false,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

/// `exchange.bind`
impl Method for BindExchange {
    fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
            destination: name("exchange name", &self.destination)?,
            source: name("exchange name", &self.source)?,
            routing_key: short("routing key", &self.routing_key)?,
            nowait: false,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

/// `exchange.unbind`
impl Method for UnbindExchange {
    fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Exchange(exchange::AMQPMethod::Unbind(exchange::Unbind {
            destination: name("exchange name", &self.destination)?,
            source: name("exchange name", &self.source)?,
            routing_key: short("routing key", &self.routing_key)?,
            nowait: false,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

/// `queue.bind`
impl Method for BindQueue {
    fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
            queue: name("queue name", &self.queue)?,
            exchange: name("exchange name", &self.exchange)?,
            routing_key: short("routing key", &self.routing_key)?,
            nowait: false,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

/// `queue.unbind`
impl Method for UnbindQueue {
    fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Queue(queue::AMQPMethod::Unbind(queue::Unbind {
            queue: name("queue name", &self.queue)?,
            exchange: name("exchange name", &self.exchange)?,
            routing_key: short("routing key", &self.routing_key)?,
            arguments: to_field_table(&self.arguments)?,
        })))
    }
}

/// `exchange.delete`
impl Method for DeleteExchange {
    fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Exchange(exchange::AMQPMethod::Delete(exchange::Delete {
            exchange: name("exchange name", &self.name)?,
            if_unused: self.if_unused,
            nowait: false,
        })))
    }
}

/// `queue.purge`
impl Method for PurgeQueue {
    fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Queue(queue::AMQPMethod::Purge(queue::Purge {
            queue: name("queue name", &self.queue)?,
            nowait: false,
        })))
    }
}

/// `queue.delete`
impl Method for DeleteQueue {
    fn method(&self) -> Result<AMQPClass> {
        Ok(AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
            queue: name("queue name", &self.queue)?,
            if_unused: self.if_unused,
            if_empty: self.if_empty,
            nowait: false,
        })))
    }
}
