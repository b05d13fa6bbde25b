//! The inbox, on SQLite and on PostgreSQL.

#[cfg(feature = "sqlx-postgres")]
use crate::databases::Postgres;
#[cfg(feature = "sqlx")]
use crate::databases::Sqlite;
use crate::support::{broker::Vhost, eventually, oracle::Oracle, within};
use actix_pika::{
    ErrorKind, Publishing,
    codec::Raw,
    connect,
    inbox::{self, Identified, Inbox},
    message::Content,
    tasks::{OrReject, Task},
    testing::TestContent,
};
use sqlx::{query, query_scalar};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

fn content(publishing: impl Into<Publishing>) -> Content {
    TestContent::new(publishing).build()
}

fn with_id(id: &str) -> Content {
    content(Publishing::new("x").message_id(id))
}

/// Runs each test on both databases, with a pool of a new one and the function that makes its inboxes. `$waiting` tells
/// how many transactions wait for another one, if the database can tell.
macro_rules! on_both {
    ($($(#[$doc:meta])* async fn $name:ident($pool:ident, $inbox:ident, $waiting:ident) $body:block)*) => {
        #[cfg(feature = "sqlx")]
        mod sqlite {
            use super::*;
            $(
                $(#[$doc])*
                #[actix::test]
                async fn $name() {
                    let database = Sqlite::fresh();
                    let $pool = database.pool().await;
                    let pool = $pool.clone();
                    let $inbox = move |name: &str| Inbox::sqlite(pool.clone(), name);
                    // Who waits for the only writer does so in `begin`, and nothing shows it.
                    let $waiting = async || tokio::task::yield_now().await;
                    $body
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
                    let Some(database) = Postgres::fresh().await else { return };
                    let $pool = database.pool().await;
                    let pool = $pool.clone();
                    let $inbox = move |name: &str| Inbox::postgres(pool.clone(), name);
                    let pool = $pool.clone();
                    let $waiting = async || {
                        let waits = async || {
                            let locks = "select count(*) from pg_stat_activity \
                                         where datname = current_database() and wait_event_type = 'Lock'";
                            let waiting: i64 = query_scalar(locks).fetch_one(&pool).await.unwrap();
                            (waiting == 1).then_some(())
                        };
                        eventually("a transaction that waits for another", 10, waits).await
                    };
                    $body
                }
            )*
        }
    };
}

on_both! {
    /// INB-01: an id is first once for each inbox; migrating again keeps it.
    async fn a_message_is_first_once(_pool, inbox, _waiting) {
        let (billing, shipping) = (inbox("billing"), inbox("shipping"));
        let migrations = (0..3).map(|_| billing.migrate());
        for migrated in within("migrations", 30, futures_util::future::join_all(migrations)).await {
            migrated.unwrap();
        }
        let mut tx = billing.begin().await.unwrap();
        assert!(billing.first(&mut tx, &with_id("1")).await.unwrap());
        assert!(!billing.first(&mut tx, &with_id("1")).await.unwrap());
        assert!(billing.first(&mut tx, &with_id("2")).await.unwrap());
        assert!(shipping.first(&mut tx, &with_id("1")).await.unwrap());
        tx.commit().await.unwrap();
        billing.migrate().await.unwrap();
        let mut tx = billing.begin().await.unwrap();
        assert!(!billing.first(&mut tx, &Task::for_test((), with_id("1"))).await.unwrap());
        assert!(!shipping.first_id(&mut tx, "1").await.unwrap());
        assert!(shipping.first_id(&mut tx, "2").await.unwrap());
    }

    /// INB-02: the effect and the id are committed together, or neither is.
    async fn a_rollback_forgets_the_id(pool, inbox, _waiting) {
        let inbox = inbox("billing");
        inbox.migrate().await.unwrap();
        query("create table bills (id integer)").execute(&pool).await.unwrap();
        for outcome in [None, Some(true), Some(false)] {
            let mut tx = inbox.begin().await.unwrap();
            let first = inbox.first_id(&mut tx, "1").await.unwrap();
            assert_eq!(first, outcome != Some(false));
            if first {
                query("insert into bills values (1)").execute(&mut *tx).await.unwrap();
            }
            match outcome {
                // As when its process is killed, or its handler is dropped.
                None => drop(tx),
                Some(_) => tx.commit().await.unwrap(),
            }
        }
        let bills: i64 = query_scalar("select count(*) from bills").fetch_one(&pool).await.unwrap();
        assert_eq!(bills, 1);
    }

    /// INB-03: the second of two copies side by side waits for the first, and is known after its commit.
    async fn a_copy_beside_a_message_that_commits_is_known(_pool, inbox, waiting) {
        let inbox = inbox("billing");
        inbox.migrate().await.unwrap();
        let mut tx = inbox.begin().await.unwrap();
        assert!(inbox.first_id(&mut tx, "1").await.unwrap());
        let other = inbox.clone();
        let copy = actix_rt::spawn(async move {
            let mut tx = other.begin().await.unwrap();
            other.first_id(&mut tx, "1").await.unwrap()
        });
        waiting().await;
        assert!(!copy.is_finished());
        tx.commit().await.unwrap();
        assert!(!within("the copy", 10, copy).await.unwrap());
    }

    /// INB-04: the second of two copies side by side is the first after the rollback of the other.
    async fn a_copy_beside_a_message_that_rolls_back_is_first(_pool, inbox, waiting) {
        let inbox = inbox("billing");
        inbox.migrate().await.unwrap();
        let mut tx = inbox.begin().await.unwrap();
        assert!(inbox.first_id(&mut tx, "1").await.unwrap());
        let other = inbox.clone();
        let copy = actix_rt::spawn(async move {
            let mut tx = other.begin().await.unwrap();
            other.first_id(&mut tx, "1").await.unwrap()
        });
        waiting().await;
        assert!(!copy.is_finished());
        tx.rollback().await.unwrap();
        assert!(within("the copy", 10, copy).await.unwrap());
    }

    /// INB-05: an id is any bytes up to the length of a short string; a message without one is refused.
    async fn hostile_ids_are_kept_or_refused(_pool, inbox, _waiting) {
        let billing = inbox("billing");
        billing.migrate().await.unwrap();
        let mut tx = billing.begin().await.unwrap();
        let longest = [b'x'; 255];
        let ids: [&[u8]; 6] = [b"a\0b", b"a\0c", &[0xff, 0xfe], "'; drop table pika_inbox; --".as_bytes(), b" ", &longest];
        for id in ids {
            let message = content(Publishing::new("x").properties(properties(id)));
            assert!(billing.first(&mut tx, &message).await.unwrap(), "{id:?}");
            assert!(!billing.first_id(&mut tx, id).await.unwrap(), "{id:?}");
        }
        for none in [content(Publishing::new("x")), with_id("")] {
            let refused = billing.first(&mut tx, &none).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Refused);
            assert!(refused.to_string().contains("message-id"), "{refused}");
        }
        for bad in ["", &"x".repeat(256)] {
            assert_eq!(billing.first_id(&mut tx, bad).await.unwrap_err().kind(), ErrorKind::Refused);
        }
        // The transaction is as good as before.
        assert!(billing.first_id(&mut tx, "good").await.unwrap());
        for bad in ["", "a\0b", &"x".repeat(256)] {
            assert_eq!(inbox(bad).migrate().await.unwrap_err().kind(), ErrorKind::Refused, "{bad:?}");
            assert_eq!(inbox(bad).first_id(&mut tx, "1").await.unwrap_err().kind(), ErrorKind::Refused);
        }
        assert!(inbox(&"ä".repeat(127)).first_id(&mut tx, "1").await.unwrap());
    }

    /// INB-06: pruning deletes the old ids of its inbox, any number of them, also side by side.
    async fn old_ids_are_pruned(pool, inbox, _waiting) {
        let (billing, shipping) = (inbox("billing"), inbox("shipping"));
        billing.migrate().await.unwrap();
        let hour = 3_600_000i64;
        let mut tx = billing.begin().await.unwrap();
        for each in [&billing, &shipping] {
            for n in 0..2_500u32 {
                assert!(each.first_id(&mut tx, n.to_be_bytes()).await.unwrap());
            }
        }
        let old = "update pika_inbox set at = at - $1 where message_id <> $2";
        query(old).bind(hour).bind(&0u32.to_be_bytes()[..]).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(billing.prune(Duration::from_secs(7_200)).await.unwrap(), 0);
        assert_eq!(billing.prune(Duration::MAX).await.unwrap(), 0);
        let half_an_hour = Duration::from_secs(1_800);
        let both = futures_util::future::join(billing.prune(half_an_hour), billing.prune(half_an_hour));
        let (one, other) = within("two prunings", 30, both).await;
        // What one of them has chosen the other leaves to it.
        assert_eq!(one.unwrap() + other.unwrap(), 2_499);
        assert_eq!(billing.prune(half_an_hour).await.unwrap(), 0);
        let left = "select count(*) from pika_inbox where consumer = $1";
        for (name, ids) in [("billing", 1i64), ("shipping", 2_500)] {
            assert_eq!(query_scalar::<_, i64>(left).bind(name).fetch_one(&pool).await.unwrap(), ids);
        }
        let mut tx = billing.begin().await.unwrap();
        assert!(!billing.first_id(&mut tx, 0u32.to_be_bytes()).await.unwrap());
        assert!(billing.first_id(&mut tx, 1u32.to_be_bytes()).await.unwrap());
    }

    /// INB-07: an inbox prunes by itself until the handle is dropped.
    async fn an_inbox_prunes_by_itself(pool, inbox, _waiting) {
        let inbox = inbox("billing");
        inbox.migrate().await.unwrap();
        let mut tx = inbox.begin().await.unwrap();
        inbox.first_id(&mut tx, "old").await.unwrap();
        query("update pika_inbox set at = at - 86400000").execute(&mut *tx).await.unwrap();
        inbox.first_id(&mut tx, "new").await.unwrap();
        tx.commit().await.unwrap();
        let pruner = inbox.prune_by_itself(Duration::from_secs(3_600)).unwrap();
        let pruned = async || {
            let ids: i64 = query_scalar("select count(*) from pika_inbox").fetch_one(&pool).await.unwrap();
            (ids == 1).then_some(())
        };
        eventually("the old id is pruned", 10, pruned).await;
        drop(pruner);
        let mut tx = inbox.begin().await.unwrap();
        assert!(!inbox.first_id(&mut tx, "new").await.unwrap());
    }

    /// INB-08: copies that are published side by side take effect once, with handlers at once.
    async fn copies_of_a_message_take_effect_once(pool, inbox, _waiting) {
        let inbox = inbox("billing");
        inbox.migrate().await.unwrap();
        query("create table bills (body text)").execute(&pool).await.unwrap();
        let vhost = Vhost::fresh_plain().await;
        let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
        let queue = channel.declare_queue("orders").await.unwrap();
        for copy in 0..4 {
            for order in 0..25 {
                let order = Publishing::new(order.to_string()).message_id(format!("order-{order}"));
                channel.default_exchange().publish(order.app_id(copy.to_string()), "orders").await.unwrap();
            }
        }
        let handled = Arc::new(AtomicU32::new(0));
        let count = handled.clone();
        let handle = move |order: Task<String>| {
            let (inbox, count) = (inbox.clone(), count.clone());
            async move {
                order.message_id().or_reject()?;
                let mut tx = inbox.begin().await?;
                if inbox.first(&mut tx, &order).await? {
                    query("insert into bills (body) values ($1)").bind(&*order).execute(&mut *tx).await?;
                }
                tx.commit().await?;
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        };
        let consumer = queue.tasks::<String>().codec(Raw).at_once(8).for_each(handle).await.unwrap();
        let all = || std::future::ready((handled.load(Ordering::SeqCst) == 100).then_some(()));
        eventually("100 tasks", 60, all).await;
        within("the drain", 20, consumer.drain(Duration::from_secs(10))).await;
        let oracle = Oracle::connect(&vhost.url()).await;
        assert_eq!(oracle.count("orders").await, 0);
        let bills: Vec<String> = query_scalar("select body from bills").fetch_all(&pool).await.unwrap();
        let mut bills: Vec<u32> = bills.iter().map(|body| body.parse().unwrap()).collect();
        bills.sort_unstable();
        assert_eq!(bills, (0..25).collect::<Vec<_>>());
    }
}

fn properties(id: &[u8]) -> actix_pika::message::Properties {
    actix_pika::message::Properties::new().with_message_id_bytes(id)
}

/// INB-09: the tables of an inbox have the prefix that is set, and other inboxes do not know their ids.
#[cfg(feature = "sqlx")]
#[actix::test]
async fn an_inbox_has_tables_of_its_prefix() {
    let database = Sqlite::fresh();
    let pool = database.pool().await;
    let (plain, shop) =
        (Inbox::sqlite(pool.clone(), "a"), Inbox::sqlite(pool.clone(), "a").prefix("shop_").unwrap());
    plain.migrate().await.unwrap();
    let mut tx = shop.begin().await.unwrap();
    let missing = shop.first_id(&mut tx, "1").await.unwrap_err();
    assert_eq!((missing.kind(), missing.is_retryable()), (ErrorKind::Database, false));
    assert!(missing.to_string().contains("shop_inbox"), "{missing}");
    tx.rollback().await.unwrap();
    shop.migrate().await.unwrap();
    let mut tx = shop.begin().await.unwrap();
    assert!(shop.first_id(&mut tx, "1").await.unwrap());
    assert!(plain.first_id(&mut tx, "1").await.unwrap());
    assert_eq!(plain.clone().prefix("Shop").unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(inbox::RETENTION, Duration::from_secs(604_800));
}

/// INB-10: at `SERIALIZABLE` the copy beside a message that commits is an error that is retryable, and then known.
#[cfg(feature = "sqlx-postgres")]
#[actix::test]
async fn a_serializable_copy_is_retryable() {
    let Some(database) = Postgres::fresh().await else { return };
    let inbox = Inbox::postgres(database.pool().await, "billing");
    inbox.migrate().await.unwrap();
    let serializable = "set transaction isolation level serializable";
    let (mut one, mut other) = (inbox.begin().await.unwrap(), inbox.begin().await.unwrap());
    query(serializable).execute(&mut *other).await.unwrap();
    query("select count(*) from pika_inbox").execute(&mut *other).await.unwrap();
    assert!(inbox.first_id(&mut one, "1").await.unwrap());
    one.commit().await.unwrap();
    let error = inbox.first_id(&mut other, "1").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Database, true));
    drop(other);
    let mut tx = inbox.begin().await.unwrap();
    assert!(!inbox.first_id(&mut tx, "1").await.unwrap());
}
