//! The tests against a real RabbitMQ, in one binary. `README.md` lists the ids in the comments of tests.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[macro_use]
mod support;

mod channel;
mod connection;
mod consume;
mod publish;
mod recovery;
mod smoke;
mod support_checks;
mod topology;
