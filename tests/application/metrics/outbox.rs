//! What is reported of an outbox.

use std::time::Duration;

use ::metrics::set_default_local_recorder;
use actix_pika::{
    metrics,
    outbox::{Outbox, To},
};

use super::recorder::Recorded;
use crate::{
    databases::Sqlite,
    support::{eventually, proxy::Direction, robust_connection::RobustConnection, within},
};

/// MET-07: what waits in an outbox is reported until its relay is drained.
#[actix::test]
async fn what_waits_in_an_outbox_is_reported() {
    let recorded = Recorded::default();
    let _guard = set_default_local_recorder(&recorded);
    let database = Sqlite::fresh();
    let pool = database.pool().await;
    let outbox = Outbox::sqlite(pool.clone()).prefix("met_").unwrap();
    outbox.migrate().await.unwrap();
    let robust = RobustConnection::connect().await;
    robust.oracle().await.declare_queue("orders").await;
    let relay = outbox.relay(&robust.connection).start().await.unwrap();
    // It is published, and not confirmed.
    robust.proxy.stall(Direction::ToClient);
    let mut tx = outbox.begin().await.unwrap();
    outbox.publish(&mut tx, To::queue("orders"), &"x".to_owned()).await.unwrap();
    tx.commit().await.unwrap();

    metrics::watch_outbox(&relay).unwrap();
    let value = |name: &str| recorded.value(&format!("actix_pika_outbox_{name}{{outbox=met_outbox}}"));
    eventually("a message that waits", 20, || async { (value("waiting") == Some(1.0)).then_some(()) }).await;
    assert_eq!(value("parked"), Some(0.0));
    assert!(value("lag_seconds").is_some_and(|lag| lag >= 0.0));
    robust.proxy.resume(Direction::ToClient);
    eventually("nothing waits", 20, || async { (value("waiting") == Some(0.0)).then_some(()) }).await;
    assert_eq!(value("lag_seconds"), Some(0.0));
    within("the drain", 10, relay.drain(Duration::from_secs(5))).await;
    pool.close().await;
}
