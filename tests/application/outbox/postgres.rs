//! What is particular to PostgreSQL: ids are given before the commit.

use super::{LIMIT, texts};
use crate::{
    databases::Postgres,
    support::{broker::Vhost, eventually, oracle::Oracle, within},
};
use actix_pika::{
    codec::Raw,
    connect,
    outbox::{Outbox, To},
};

/// OBX-20: a smaller id that is committed later is published, too; in a lane, the later transaction waits for the earlier.
#[actix_rt::test]
async fn a_late_commit_with_a_smaller_id_is_published() {
    let Some(database) = Postgres::fresh().await else { return };
    let pool = database.pool().await;
    let outbox = Outbox::postgres(pool.clone());
    outbox.migrate().await.unwrap();
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let oracle = Oracle::connect(&vhost.url()).await;
    oracle.declare_queue("orders").await;
    let relay = outbox.relay(&connection).start().await.unwrap();
    let to = || To::queue("orders").codec(Raw);
    let text = |text: &str| text.to_owned();

    let mut early = outbox.begin().await.unwrap();
    outbox.publish(&mut early, to(), &text("early, late commit")).await.unwrap();
    outbox.publish(&mut early, to().lane("a"), &text("a1")).await.unwrap();
    let waiting = {
        let (outbox, to) = (outbox.clone(), to());
        actix_rt::spawn(async move {
            let mut tx = outbox.begin().await.unwrap();
            outbox.publish(&mut tx, to.lane("a"), &"a2".to_owned()).await.unwrap();
            tx.commit().await.unwrap();
        })
    };
    let waits = async || {
        let locks = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
        let locks: i64 = sqlx::query_scalar(locks).fetch_one(&pool).await.unwrap();
        (locks == 1).then_some(())
    };
    eventually("a2 waits for a1", 10, waits).await;
    put!(outbox, To::queue("orders").lane("b"), "b1");
    put!(outbox, To::queue("orders"), "late, early commit");
    let mut first = texts(&oracle, "orders", 2).await;
    first.sort();
    assert_eq!(first, ["b1", "late, early commit"]);
    early.commit().await.unwrap();
    within("a2", 10, waiting).await.unwrap();
    let rest = texts(&oracle, "orders", 3).await;
    let in_lane: Vec<_> = rest.iter().filter(|text| text.starts_with('a')).collect();
    assert_eq!(in_lane, ["a1", "a2"]);
    assert!(rest.contains(&text("early, late commit")), "{rest:?}");
    within("the drain", 10, relay.drain(LIMIT)).await;
    pool.close().await;
}

/// OBX-21: two transactions that write to the same lanes in different orders, by `publish_all`, do not block each other for
/// ever.
#[actix_rt::test]
async fn lanes_are_locked_in_one_order() {
    let Some(database) = Postgres::fresh().await else { return };
    let pool = database.pool().await;
    let outbox = Outbox::postgres(pool.clone());
    outbox.migrate().await.unwrap();
    let write = |lanes: [u8; 2]| {
        let outbox = outbox.clone();
        async move {
            for n in 0..50 {
                let mut tx = outbox.begin().await.unwrap();
                let messages = lanes.map(|lane| (To::queue("orders").lane(lane), &n));
                outbox.publish_all(&mut tx, messages).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
    };
    within("both", 30, futures_util::future::join(write([1, 2]), write([2, 1]))).await;
    assert_eq!(outbox.lag().await.unwrap().waiting, 200);
    pool.close().await;
}
