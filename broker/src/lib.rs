//! A broker to test with: it answers AMQP 0-9-1 clients as RabbitMQ does, in the process of the test.
//!
//! **This is a test broker.** It is one process, keeps everything in memory, and listens on the loopback
//! interface unless told otherwise. For production there is [RabbitMQ](https://www.rabbitmq.com).

pub mod core;
mod server;

pub use self::{
    core::Line,
    server::{Broker, BrokerState, Builder, ConnectionView, StartError},
};
