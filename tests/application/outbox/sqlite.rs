//! What is particular to SQLite.

use crate::{
    databases::Sqlite,
    support::{broker::Vhost, eventually, oracle::Oracle, within},
};
use actix_pika::{
    connect,
    outbox::{Outbox, RelayEvent, To},
    testing::Probe,
};
use sqlx::{
    Row,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use std::sync::atomic::{AtomicBool, Ordering};

/// OBX-01
#[actix_rt::test]
async fn migrating_twice_and_side_by_side_changes_nothing() {
    let database = Sqlite::fresh();
    let pool = database.pool().await;
    let outbox = Outbox::sqlite(pool.clone());
    let migrations = (0..3).map(|_| outbox.migrate());
    let done = within("migrations", 30, futures_util::future::join_all(migrations)).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let versions = "select component, version from pika_schema";
    let rows = sqlx::query(versions).fetch_all(&pool).await.unwrap();
    let known: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(known, [("outbox".to_owned(), 1)]);
    sqlx::query("update pika_schema set version = 2").execute(&pool).await.unwrap();
    let newer = outbox.migrate().await.unwrap_err();
    assert_eq!(newer.kind(), actix_pika::ErrorKind::Refused);
    assert!(newer.to_string().contains("version 2"), "{newer}");
}

/// OBX-02: a transaction that read first, and began deferred, cannot write after another connection has written.
#[actix_rt::test]
async fn a_transaction_of_the_outbox_can_write_after_it_has_read() {
    let database = Sqlite::fresh();
    let pool = database.pool().await;
    let outbox = Outbox::sqlite(pool.clone());
    outbox.migrate().await.unwrap();
    sqlx::query("create table orders (id integer)").execute(&pool).await.unwrap();
    let (count, insert) = ("select count(*) from orders", "insert into orders values (1)");

    let mut deferred = pool.begin().await.unwrap();
    sqlx::query(count).fetch_one(&mut *deferred).await.unwrap();
    sqlx::query(insert).execute(&pool).await.unwrap();
    let busy = sqlx::query(insert).execute(&mut *deferred).await.unwrap_err();
    assert_eq!(busy.as_database_error().unwrap().code().as_deref(), Some("517"));
    deferred.rollback().await.unwrap();

    let mut tx = outbox.begin().await.unwrap();
    sqlx::query(count).fetch_one(&mut *tx).await.unwrap();
    let (second, other) = (pool.clone(), insert);
    let waits =
        tokio::spawn(
            async move { sqlx::query(other).execute(&second).await.map(|done| done.rows_affected()) },
        );
    sqlx::query(insert).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(within("the other one writes afterwards", 10, waits).await.unwrap().unwrap(), 1);
    let rows: i64 = sqlx::query_scalar(count).fetch_one(&pool).await.unwrap();
    assert_eq!(rows, 3);
}

/// OBX-09: SQLite has values of any type in any column.
#[actix_rt::test]
async fn a_row_with_other_types_is_parked() {
    let database = Sqlite::fresh();
    let pool = database.pool().await;
    let outbox = Outbox::sqlite(pool.clone());
    outbox.migrate().await.unwrap();
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let oracle = Oracle::connect(&vhost.url()).await;
    oracle.declare_queue("orders").await;
    for column in
        ["exchange = x'ff'", "routing_key = x'ff00'", "lane = x'ff'", "mandatory = 'perhaps'", "tries = 'x'"]
    {
        let queued = put!(outbox, To::queue("orders"), "corrupt");
        let update = format!("update pika_outbox set {column} where message_id = $1");
        sqlx::query(&update).bind(queued.message_id).execute(&pool).await.unwrap();
    }
    put!(outbox, To::queue("orders"), "sound");
    let relay = outbox.relay(&connection).start().await.unwrap();
    // A number of tries that is none is 0.
    let mut texts = super::texts(&oracle, "orders", 2).await;
    texts.sort();
    assert_eq!(texts, ["corrupt", "sound"]);
    let parked = async || (relay.counters().parked == 4).then_some(());
    eventually("the others are parked", 10, parked).await;
    assert_eq!(outbox.parked().await.unwrap().len(), 4);
    within("the drain", 10, relay.drain(super::LIMIT)).await;
}

/// OBX-19: a relay that panics starts again. Here, a callback of the pool panics.
#[actix_rt::test]
async fn a_relay_that_panics_starts_again() {
    static PANICS: AtomicBool = AtomicBool::new(false);
    let database = Sqlite::fresh();
    let options: SqliteConnectOptions = database.url().parse().unwrap();
    let pool = SqlitePoolOptions::new().before_acquire(|_, _| {
        Box::pin(async {
            assert!(!PANICS.swap(false, Ordering::SeqCst), "a callback panics in this test");
            Ok(true)
        })
    });
    let pool = pool.connect_with(options.create_if_missing(true)).await.unwrap();
    let outbox = Outbox::sqlite(pool.clone());
    outbox.migrate().await.unwrap();
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let oracle = Oracle::connect(&vhost.url()).await;
    oracle.declare_queue("orders").await;
    let mut probe = Probe::<RelayEvent>::start();
    let relay = outbox.relay(&connection).watch(probe.recipient()).start().await.unwrap();
    super::event(&mut probe, super::is_taken).await;
    // The pool has no idle connection but the one that is returned here, whose next user panics.
    sqlx::query("alter table pika_outbox rename to elsewhere").execute(&pool).await.unwrap();
    PANICS.store(true, Ordering::SeqCst);
    super::event(&mut probe, |event| matches!(event, RelayEvent::Panicked { .. })).await;
    sqlx::query("alter table elsewhere rename to pika_outbox").execute(&pool).await.unwrap();
    put!(outbox, To::queue("orders"), "1");
    assert_eq!(super::texts(&oracle, "orders", 1).await, ["1"]);
    within("the drain", 10, relay.drain(super::LIMIT)).await;
}
