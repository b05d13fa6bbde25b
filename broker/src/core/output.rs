//! What the core tells the connections.

use std::sync::Arc;

use actix_pika_actors::wire::method::AMQPClass;
use bytes::Bytes;

use super::{
    error::Close,
    keys::ConnectionId,
    message::{Message, Name},
};

/// An output and where it goes.
#[derive(Debug)]
pub struct Outgoing {
    /// The connection.
    pub connection: ConnectionId,
    /// The channel, or 0 for the connection itself.
    pub channel: u16,
    /// What to send.
    pub output: Output,
}

/// What a connection has to send. Exchange and routing key of a content are those of its message.
#[derive(Debug)]
pub enum Output {
    /// A method without content.
    Method(AMQPClass),
    /// `basic.ack` of publishes.
    Ack {
        /// The number of the publish.
        tag: u64,
        /// And all before it.
        multiple: bool,
    },
    /// `basic.nack` of publishes.
    Nack {
        /// The number of the publish.
        tag: u64,
        /// And all before it.
        multiple: bool,
    },
    /// `basic.deliver` and its content.
    Deliver {
        /// The tag of the consumer.
        consumer_tag: Name,
        /// The tag of the delivery.
        delivery_tag: u64,
        /// Whether it was delivered before.
        redelivered: bool,
        /// The flags and properties of the header.
        properties: Bytes,
        /// The message.
        message: Arc<Message>,
    },
    /// `basic.get-ok` and its content.
    GetOk {
        /// The tag of the delivery.
        delivery_tag: u64,
        /// Whether it was delivered before.
        redelivered: bool,
        /// How many messages are left.
        message_count: u32,
        /// The flags and properties of the header.
        properties: Bytes,
        /// The message.
        message: Arc<Message>,
    },
    /// `basic.return` and its content.
    Return {
        /// The reply code.
        code: u16,
        /// The reply text.
        text: &'static str,
        /// The message.
        message: Arc<Message>,
    },
    /// `connection.close`. For the core, the connection has ended already.
    CloseConnection(Close),
}
