//! What is particular to SQLite.

use actix_pika::outbox::Outbox;
use sqlx::Row;

use crate::{databases::Sqlite, support::within};

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
