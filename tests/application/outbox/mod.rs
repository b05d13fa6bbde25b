//! The outbox, on SQLite and on PostgreSQL.

/// Runs each test on both databases, with a pool of a new one and its outbox, which is migrated.
macro_rules! on_databases {
    ($($(#[$doc:meta])* async fn $name:ident($pool:ident, $outbox:ident) $body:block)*) => {
        #[cfg(feature = "sqlx")]
        mod sqlite {
            use super::*;
            $(
                $(#[$doc])*
                #[actix::test]
                async fn $name() {
                    let database = crate::databases::Sqlite::fresh();
                    let $pool = database.pool().await;
                    let $outbox = actix_pika::outbox::Outbox::sqlite($pool.clone());
                    $outbox.migrate().await.unwrap();
                    $body;
                    $pool.close().await;
                }
            )*
        }
        #[cfg(feature = "sqlx-postgres")]
        mod postgres {
            use super::*;
            $(
                $(#[$doc])*
                #[actix::test]
                async fn $name() {
                    let Some(database) = crate::databases::Postgres::fresh().await else { return };
                    let $pool = database.pool().await;
                    let $outbox = actix_pika::outbox::Outbox::postgres($pool.clone());
                    $outbox.migrate().await.unwrap();
                    $body;
                    $pool.close().await;
                }
            )*
        }
    };
}

/// Writes a text to the outbox in a transaction of its own.
macro_rules! put {
    ($outbox:ident, $to:expr, $text:expr) => {{
        let mut tx = $outbox.begin().await.unwrap();
        let text: String = $text.to_string();
        let queued = $outbox.publish(&mut tx, $to.codec(actix_pika::codec::Raw), &text).await.unwrap();
        tx.commit().await.unwrap();
        queued
    }};
}

mod cost;
mod drain;
mod lanes;
mod lease;
mod order;
mod outage;
#[cfg(feature = "sqlx-postgres")]
mod postgres;
mod refused;
#[cfg(feature = "sqlx")]
mod sqlite;

use crate::support::{oracle::Oracle, within};
use actix_pika::{outbox::RelayEvent, testing::Probe};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);

/// Waits for as many messages, and returns their bodies.
async fn texts(oracle: &Oracle, queue: &str, messages: u32) -> Vec<String> {
    within("messages", 30, oracle.wait_for_count(queue, messages)).await;
    let bodies = oracle.drain_bodies(queue).await;
    bodies.into_iter().map(|body| String::from_utf8(body).unwrap()).collect()
}

/// Waits for an event.
async fn event(probe: &mut Probe<RelayEvent>, wanted: impl FnMut(&RelayEvent) -> bool) -> RelayEvent {
    within("an event", 30, probe.next_matching(wanted)).await.unwrap()
}

fn is_taken(event: &RelayEvent) -> bool {
    matches!(event, RelayEvent::LeaseTaken { .. })
}

fn is_lost(event: &RelayEvent) -> bool {
    matches!(event, RelayEvent::LeaseLost)
}
