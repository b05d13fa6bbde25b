//! The statements. They are the same for both databases, but for the time and for rows that another pruner deletes.

use std::time::Duration;

use sqlx::{query, query_scalar};

use crate::{
    Result,
    database::{AnyConnection, AnyPool, Component, Names, failed},
};

/// The table of the inbox. An id is bytes, because a text of PostgreSQL has no NUL and must be UTF-8.
pub(super) const INBOX: Component = Component {
    name: "inbox",
    #[cfg(feature = "sqlx")]
    sqlite: &["
create table {p}inbox (
    consumer text not null,
    message_id blob not null,
    at bigint not null,
    primary key (consumer, message_id)
) without rowid;
create index {p}inbox_at on {p}inbox (consumer, at);
"],
    #[cfg(feature = "sqlx-postgres")]
    postgres: &["
create table {p}inbox (
    consumer text not null,
    message_id bytea not null,
    at bigint not null,
    primary key (consumer, message_id)
);
create index {p}inbox_at on {p}inbox (consumer, at);
"],
};

/// Rows that one statement deletes.
const AT_ONCE: u32 = 1_000;

/// What differs between the databases.
struct Dialect {
    /// Milliseconds since 1970.
    now: &'static str,
    /// What is added to the choice of the rows to delete.
    skip: &'static str,
}

#[cfg(feature = "sqlx")]
const SQLITE: Dialect = Dialect { now: "cast(unixepoch('subsec') * 1000 as integer)", skip: "" };
#[cfg(feature = "sqlx-postgres")]
const POSTGRES: Dialect = Dialect {
    now: "cast(extract(epoch from clock_timestamp()) * 1000 as bigint)",
    // Two pruners must not choose the same rows: the second one would delete fewer, and end.
    skip: "for update skip locked",
};

impl Dialect {
    fn insert(&self, names: &Names) -> String {
        let now = self.now;
        names.sql(&format!(
            "insert into {{p}}inbox (consumer, message_id, at) values ($1, $2, {now}) on conflict do nothing"
        ))
    }

    fn cutoff(&self) -> String {
        format!("select {} - $1", self.now)
    }

    fn prune(&self, names: &Names) -> String {
        let skip = self.skip;
        names.sql(&format!(
            "delete from {{p}}inbox where (consumer, message_id) in (select consumer, message_id from {{p}}inbox \
             where consumer = $1 and at <= $2 order by at limit {AT_ONCE} {skip})"
        ))
    }
}

/// Inserts an id, and returns whether it was not there.
pub(super) async fn insert(
    connection: AnyConnection<'_>,
    names: &Names,
    consumer: &str,
    id: &[u8],
) -> Result<bool> {
    let inserted = match connection {
        #[cfg(feature = "sqlx")]
        AnyConnection::Sqlite(connection) => {
            let sql = SQLITE.insert(names);
            query(&sql).bind(consumer).bind(id).execute(connection).await.map(|done| done.rows_affected())
        }
        #[cfg(feature = "sqlx-postgres")]
        AnyConnection::Postgres(connection) => {
            let sql = POSTGRES.insert(names);
            query(&sql).bind(consumer).bind(id).execute(connection).await.map(|done| done.rows_affected())
        }
    };
    inserted
        .map(|rows| rows == 1)
        .map_err(|error| failed("the inbox did not write the id of a message", &error))
}

/// Deletes old ids, some at once, and returns how many they were.
pub(super) async fn prune(
    pool: &AnyPool,
    names: &Names,
    consumer: &str,
    older_than: Duration,
) -> Result<u64> {
    // More than the database counts is longer ago than any.
    let age = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX);
    let mut deleted = 0;
    // The time is that of the begin, so that this ends however many ids grow old meanwhile.
    let pruned = match pool {
        #[cfg(feature = "sqlx")]
        AnyPool::Sqlite(pool) => {
            async {
                let cutoff: i64 = query_scalar(&SQLITE.cutoff()).bind(age).fetch_one(pool).await?;
                let sql = SQLITE.prune(names);
                loop {
                    let rows = query(&sql).bind(consumer).bind(cutoff).execute(pool).await?.rows_affected();
                    deleted += rows;
                    if rows < u64::from(AT_ONCE) {
                        return Ok(());
                    }
                }
            }
            .await
        }
        #[cfg(feature = "sqlx-postgres")]
        AnyPool::Postgres(pool) => {
            async {
                let cutoff: i64 = query_scalar(&POSTGRES.cutoff()).bind(age).fetch_one(pool).await?;
                let sql = POSTGRES.prune(names);
                loop {
                    let rows = query(&sql).bind(consumer).bind(cutoff).execute(pool).await?.rows_affected();
                    deleted += rows;
                    if rows < u64::from(AT_ONCE) {
                        return Ok(());
                    }
                }
            }
            .await
        }
    };
    let what = |error: sqlx::Error| failed("the inbox was not pruned", &error);
    pruned.map(|()| deleted).map_err(what)
}
