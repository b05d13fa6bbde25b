//! Behaviour that is wanted and not there yet: one test for each known fault, ignored until the fault is mended.
//!
//! A mended fault takes the `#[ignore]` away and moves the test to the file of its area.

mod blocked;
mod routing;

use actix_pika::{
    Connection, ConnectionEvent,
    events::{Events, Skipped},
};
use futures_util::StreamExt;

use crate::support::{eventually, within};

/// Waits for the end of a recovery; returns what it did not restore.
async fn recovered(events: &mut Events<ConnectionEvent>) -> std::sync::Arc<[Skipped]> {
    within("a recovery", 30, async {
        loop {
            match events.next().await.expect("an open connection") {
                ConnectionEvent::Recovered { skipped, .. } => return skipped,
                ConnectionEvent::Closed(cause) => panic!("the connection closed: {cause:?}"),
                _ => {}
            }
        }
    })
    .await
}

/// Waits until the connection is open with everything restored.
async fn healthy(connection: &Connection, secs: u64) {
    eventually("a healthy connection", secs, async || {
        connection.health().await.unwrap().is_up().then_some(())
    })
    .await;
}
