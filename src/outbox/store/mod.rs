//! The rows of the outbox in a database. The statements of each database have a file of their own.

use std::time::Duration;

use super::row::{HeldRow, Lag, NewRow, Parked, Row};
use crate::{
    Result,
    database::{AnyConnection, AnyPool, Component, Names, failed},
};

#[cfg(feature = "sqlx-postgres")]
mod postgres;
#[cfg(feature = "sqlx")]
mod sqlite;

/// The tables of the outbox.
pub(super) const OUTBOX: Component = Component {
    name: "outbox",
    #[cfg(feature = "sqlx")]
    sqlite: sqlite::SCHEMA,
    #[cfg(feature = "sqlx-postgres")]
    postgres: postgres::SCHEMA,
};

/// What `held_until` has for a parked row.
const PARKED: i64 = i64::MAX;

/// Rows that [`parked`] returns, and that one statement of [`prune`] deletes.
const PAGE: i64 = 1_000;

/// Who relays, as the lease row names it.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) name: String,
    pub(super) lease: Duration,
}

impl Holder {
    fn millis(&self) -> i64 {
        i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX / 2)
    }
}

/// Calls a function of the file of a connection's database.
macro_rules! on {
    ($connection:expr, $function:ident($($argument:expr),*)) => {
        match $connection {
            #[cfg(feature = "sqlx")]
            AnyConnection::Sqlite(connection) => sqlite::$function(connection, $($argument),*).await,
            #[cfg(feature = "sqlx-postgres")]
            AnyConnection::Postgres(connection) => postgres::$function(connection, $($argument),*).await,
        }
    };
}

/// The same with a connection of a pool.
macro_rules! on_pool {
    ($pool:expr, $function:ident($($argument:expr),*)) => {
        match $pool {
            #[cfg(feature = "sqlx")]
            AnyPool::Sqlite(pool) => match pool.acquire().await {
                Ok(mut connection) => sqlite::$function(&mut connection, $($argument),*).await,
                Err(error) => Err(error),
            },
            #[cfg(feature = "sqlx-postgres")]
            AnyPool::Postgres(pool) => match pool.acquire().await {
                Ok(mut connection) => postgres::$function(&mut connection, $($argument),*).await,
                Err(error) => Err(error),
            },
        }
    };
}

/// Writes rows, and returns the message ids of those that were not there.
pub(super) async fn insert(
    connection: AnyConnection<'_>,
    names: &Names,
    rows: &[NewRow],
) -> Result<Vec<String>> {
    on!(connection, insert(names, rows)).map_err(|error| failed("the outbox cannot be written", &error))
}

/// Takes or renews the lease, and returns its fence; `None` while somebody else has it.
pub(super) async fn lease(
    connection: AnyConnection<'_>,
    names: &Names,
    holder: &Holder,
) -> Result<Option<i64>> {
    on!(connection, lease(names, holder)).map_err(|error| failed("the lease cannot be taken", &error))
}

/// Returns the oldest rows that may be published: `most` of them at most, whose bodies and properties have `bytes`; a
/// larger one comes alone.
pub(super) async fn fetch(
    connection: AnyConnection<'_>,
    names: &Names,
    most: usize,
    bytes: usize,
) -> Result<Vec<Row>> {
    let number = |limit| i64::try_from(limit).unwrap_or(i64::MAX);
    on!(connection, fetch(names, number(most), number(bytes)))
        .map_err(|error| failed("the outbox cannot be read", &error))
}

/// Deletes what was published, notes what was refused, and renews the lease. Returns false, and changes nothing, if
/// somebody else has taken the lease since it had this fence.
pub(super) async fn settle(
    connection: AnyConnection<'_>,
    names: &Names,
    holder: &Holder,
    fence: i64,
    published: &[i64],
    held: &[HeldRow],
) -> Result<bool> {
    on!(connection, settle(names, holder, fence, published, held))
        .map_err(|error| failed("what was published cannot be deleted", &error))
}

/// Ends the lease, so that another relay need not wait.
pub(super) async fn release(
    connection: AnyConnection<'_>,
    names: &Names,
    holder: &Holder,
    fence: i64,
) -> Result<()> {
    on!(connection, release(names, holder, fence))
        .map_err(|error| failed("the lease cannot be ended", &error))
}

/// Fails unless the tables exist.
pub(super) async fn check(pool: &AnyPool, names: &Names) -> Result<()> {
    on_pool!(pool, check(names)).map_err(|error| failed("the outbox cannot be read", &error))
}

pub(super) async fn lag(pool: &AnyPool, names: &Names) -> Result<Lag> {
    let (waiting, oldest, parked) =
        on_pool!(pool, lag(names)).map_err(|error| failed("the outbox cannot be counted", &error))?;
    Ok(Lag { waiting: count(waiting), oldest: oldest.map(millis), parked: count(parked) })
}

/// Returns the oldest parked rows.
pub(super) async fn parked(pool: &AnyPool, names: &Names) -> Result<Vec<Parked>> {
    on_pool!(pool, parked(names)).map_err(|error| failed("the parked messages cannot be read", &error))
}

/// Lets parked rows be published again: that of a message id, or all. Returns how many.
pub(super) async fn unpark(pool: &AnyPool, names: &Names, message_id: Option<&str>) -> Result<u64> {
    on_pool!(pool, unpark(names, message_id)).map_err(|error| failed("a message cannot be unparked", &error))
}

/// Deletes parked rows that are so old, at most a page of them. Returns how many.
pub(super) async fn prune(pool: &AnyPool, names: &Names, older_than: Duration) -> Result<u64> {
    let age = i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX / 2);
    let mut pruned = 0;
    loop {
        let page = on_pool!(pool, prune(names, age))
            .map_err(|error| failed("parked messages cannot be deleted", &error))?;
        pruned += page;
        if page < count(PAGE) {
            return Ok(pruned);
        }
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A clock that was set back may make an age negative.
fn millis(number: i64) -> Duration {
    Duration::from_millis(count(number))
}
