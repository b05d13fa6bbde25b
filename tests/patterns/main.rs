//! The tests of typed consumers, workers, retries and RPC against a real RabbitMQ, in one binary. `../README.md` lists
//! the ids in the comments of tests.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod aio_pika;
mod codecs;
mod handlers;
mod killed;
mod master;
mod pool;
mod prelude;
mod publisher;
mod redrive;
mod relay;
mod retry;
mod rpc;
mod tasks;
mod worker;
