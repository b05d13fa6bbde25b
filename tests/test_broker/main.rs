//! The client on the test broker (`actix-pika-broker`), with what no RabbitMQ gives a test: streams in memory, a clock that
//! is paused, random faults by a seed, certificates made on the spot. Needs neither a broker nor a network.

#![allow(missing_docs, unreachable_pub)]

mod chaos;
mod clock;
mod memory;
mod recipes;
mod tls;

use std::{future::Future, panic::Location, time::Duration};

use actix_pika::{Connection, Connector, Recovery};
use actix_pika_broker::Broker;

/// Awaits `future`, and panics if that takes longer than a minute, of the paused clock if it is.
#[track_caller]
fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let at = Location::caller();
    async move {
        match tokio::time::timeout(Duration::from_secs(60), future).await {
            Ok(value) => value,
            Err(_) => panic!("not within a minute ({at})"),
        }
    }
}

/// Returns a connector that dials a broker in memory.
fn in_memory(broker: &Broker) -> Connector {
    Connector::new(&broker.url()).unwrap().memory(broker.dialer())
}

/// Returns a connection in memory that recovers.
async fn robust(broker: &Broker) -> Connection {
    let recovery = Recovery::exponential(Duration::from_millis(20), Duration::from_millis(100));
    soon(in_memory(broker).recovery(recovery).connect()).await.unwrap()
}
