//! The tests against a real RabbitMQ, in one binary: what an id in a test's comment means is in `README.md`.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[macro_use]
mod support;

mod cases;
mod channel;
mod connection;
mod consume;
mod publish;
mod recovery;
mod smoke;
mod support_selfcheck;
mod topology;
