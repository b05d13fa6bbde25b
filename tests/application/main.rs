//! The tests of what an application needs around its messages (web server, database, metrics, traces) against a real
//! RabbitMQ, in one binary. `../README.md` lists the ids in the comments of tests.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod bridge;
#[cfg(any(feature = "sqlx", feature = "sqlx-postgres"))]
mod databases;
mod hooks;
#[cfg(any(feature = "sqlx", feature = "sqlx-postgres"))]
mod inbox;
#[cfg(all(unix, feature = "sqlx", feature = "sqlx-postgres"))]
mod killed;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(any(feature = "sqlx", feature = "sqlx-postgres"))]
mod outbox;
#[cfg(all(unix, feature = "actix-web"))]
mod shutdown;
#[cfg(feature = "actix-web")]
mod web;
