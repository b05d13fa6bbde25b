//! The shop whose orders are billed once: its tables, and the work of the processes that are killed.

use actix_pika::{
    Connection,
    inbox::Inbox,
    outbox::{Outbox, OutboxRelay, To},
    tasks::{Done, Task},
};
use sqlx::{PgPool, Pool, Postgres, Sqlite as SqliteDb, query, query_scalar};
use std::{collections::BTreeMap, ops::Range, time::Duration};

use crate::databases::Sqlite;

/// How long a relay that is killed keeps the others waiting.
pub const LEASE: Duration = Duration::from_secs(1);

/// Where a process kills itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Point {
    /// The order and its message are written, and not committed.
    OrderWritten,
    OrderCommitted,
    /// The bill and the id of its message are written, and not committed.
    BillWritten,
    /// The bill is committed, its message is not acknowledged.
    BillCommitted,
}

pub const POINTS: [Point; 4] =
    [Point::OrderWritten, Point::OrderCommitted, Point::BillWritten, Point::BillCommitted];

pub struct Side<DB: actix_pika::database::Database> {
    pub pool: Pool<DB>,
    outbox: Outbox<DB>,
    inbox: Inbox<DB>,
}

/// The shop in one of the databases.
pub enum Shop {
    Sqlite(Side<SqliteDb>),
    Postgres(Side<Postgres>),
}

/// Runs the same code with the types of each database.
macro_rules! on {
    ($shop:expr, $side:ident => $code:expr) => {
        match $shop {
            Shop::Sqlite($side) => $code,
            Shop::Postgres($side) => $code,
        }
    };
}

impl Shop {
    pub async fn open(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            let pool = Sqlite::connect(url).await;
            let (outbox, inbox) = (Outbox::sqlite(pool.clone()), Inbox::sqlite(pool.clone(), "billing"));
            Self::Sqlite(Side { pool, outbox, inbox })
        } else {
            let pool = PgPool::connect(url).await.unwrap();
            let (outbox, inbox) = (Outbox::postgres(pool.clone()), Inbox::postgres(pool.clone(), "billing"));
            Self::Postgres(Side { pool, outbox, inbox })
        }
    }

    pub async fn create_tables(&self) {
        on!(self, side => {
            side.outbox.migrate().await.unwrap();
            side.inbox.migrate().await.unwrap();
            for table in ["orders (n bigint primary key)", "bills (n bigint)", "copies (n bigint)"] {
                query(&format!("create table {table}")).execute(&side.pool).await.unwrap();
            }
        });
    }

    /// Places orders in one transaction, but those that were placed.
    pub async fn place(&self, orders: Range<i64>, at: &dyn Fn(Point)) {
        on!(self, side => {
            let mut tx = side.outbox.begin().await.unwrap();
            let mut is_new = false;
            for n in orders {
                let insert = query("insert into orders (n) values ($1) on conflict do nothing").bind(n);
                if insert.execute(&mut *tx).await.unwrap().rows_affected() == 1 {
                    side.outbox.publish(&mut tx, To::queue("orders").lane(n % 7), &n).await.unwrap();
                    is_new = true;
                }
            }
            let at = |point| if is_new { at(point) };
            at(Point::OrderWritten);
            tx.commit().await.unwrap();
            at(Point::OrderCommitted);
        });
    }

    /// Bills an order, or notes that it is a copy.
    pub async fn bill(&self, order: &Task<i64>, at: &dyn Fn(Point)) -> Done {
        on!(self, side => {
            let mut tx = side.inbox.begin().await?;
            let first = side.inbox.first(&mut tx, order).await?;
            let table = if first { "bills" } else { "copies" };
            query(&format!("insert into {table} (n) values ($1)")).bind(**order).execute(&mut *tx).await?;
            at(Point::BillWritten);
            tx.commit().await?;
            at(Point::BillCommitted);
        });
        Ok(())
    }

    pub async fn relay(&self, connection: &Connection) -> OutboxRelay {
        let builder = on!(self, side => side.outbox.relay(connection));
        builder.lease(LEASE).poll(Duration::from_millis(50)).start().await.unwrap()
    }

    pub async fn count(&self, table: &str) -> i64 {
        let count = format!("select count(*) from {table}");
        on!(self, side => query_scalar(&count).fetch_one(&side.pool).await.unwrap())
    }

    /// Returns how often each order was billed.
    pub async fn bills(&self) -> BTreeMap<i64, i64> {
        let count = "select n, count(*) from bills group by n";
        on!(self, side => {
            let rows: Vec<(i64, i64)> = sqlx::query_as(count).fetch_all(&side.pool).await.unwrap();
            rows.into_iter().collect()
        })
    }

    /// Returns the fence of the lease, and until when it lasts.
    pub async fn lease(&self) -> Option<(i64, i64)> {
        let lease = "select fence, until from pika_outbox_lease";
        on!(self, side => sqlx::query_as(lease).fetch_optional(&side.pool).await.unwrap())
    }

    /// Keeps the others from deleting what they have published, until the returned value is dropped.
    pub async fn lock(&self) -> Lock {
        match self {
            Self::Sqlite(side) => Lock::Sqlite(side.pool.begin_with("BEGIN IMMEDIATE").await.unwrap()),
            Self::Postgres(side) => {
                let mut tx = side.pool.begin().await.unwrap();
                query("lock table pika_outbox in share mode").execute(&mut *tx).await.unwrap();
                Lock::Postgres(tx)
            }
        }
    }

    /// Returns whether somebody waits for [`lock`](Self::lock). SQLite cannot tell.
    pub async fn is_waited_for(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::Postgres(side) => {
                let waiting = "select count(*) from pg_stat_activity \
                               where datname = current_database() and wait_event_type = 'Lock'";
                query_scalar::<_, i64>(waiting).fetch_one(&side.pool).await.unwrap() > 0
            }
        }
    }
}

pub enum Lock {
    Sqlite(sqlx::Transaction<'static, SqliteDb>),
    Postgres(sqlx::Transaction<'static, Postgres>),
}

impl Lock {
    pub async fn release(self) {
        match self {
            Self::Sqlite(tx) => tx.rollback().await.unwrap(),
            Self::Postgres(tx) => tx.rollback().await.unwrap(),
        }
    }
}
