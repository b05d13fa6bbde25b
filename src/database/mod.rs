//! The databases of outbox and inbox: SQLite and PostgreSQL, by [sqlx](https://docs.rs/sqlx/0.8.6) 0.8.
//!
//! | feature | database | what it adds to the build |
//! |---|---|---|
//! | `sqlx` | SQLite 3.46, which is compiled from C and linked statically | a C compiler, and about a minute once |
//! | `sqlx-postgres` | PostgreSQL 11 and newer | no C |
//!
//! The application makes the pool, with the options that it likes; sqlx 0.8 must be the one that it depends on. TLS to
//! PostgreSQL is a feature of sqlx, such as `tls-rustls-ring`, which the application turns on in its own `Cargo.toml`.
//!
//! Only one crate of a build may link SQLite (`links = "sqlite3"`). The feature `sqlx` takes `libsqlite3-sys` 0.30, the one
//! of `rusqlite` 0.32; with another `rusqlite` or `diesel` that takes another one, cargo finds no solution.
//!
//! # Tables
//!
//! Each table's name begins with `pika_`, unless another prefix is set, and `migrate` creates what is missing. The table
//! `pika_schema` has the version of the other ones. Migrating again changes nothing, and processes may migrate side by
//! side. A schema that a newer version of this crate has made is an error, and is left as it is.
//!
//! # Transactions
//!
//! [`Outbox::begin`](crate::outbox::Outbox::begin) begins a transaction that fits the database: `BEGIN IMMEDIATE` with
//! SQLite. One that begins deferred, as `pool.begin()` does, and reads before it writes, fails at its first write with
//! `SQLITE_BUSY_SNAPSHOT` (517) if another connection has written meanwhile, whatever the `busy_timeout` is.
//!
//! # Examples
//! ```no_run
//! # #[cfg(feature = "sqlx")]
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use actix_pika::outbox::Outbox;
//! use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
//!
//! let options = SqliteConnectOptions::new()
//!     .filename("shop.db")
//!     .create_if_missing(true)
//!     .journal_mode(SqliteJournalMode::Wal)
//!     .synchronous(SqliteSynchronous::Full); // a commit survives a power failure
//! let outbox = Outbox::sqlite(SqlitePool::connect_with(options).await?);
//! outbox.migrate().await?;
//! # Ok(()) }
//! ```

#[cfg(feature = "sqlx-postgres")]
use sqlx::{PgConnection, PgPool, Postgres};
use sqlx::{Pool, Transaction};
#[cfg(feature = "sqlx")]
use sqlx::{Sqlite, SqliteConnection, SqlitePool};

pub(crate) use self::{
    error::failed,
    migrate::{Component, migrate},
    names::Names,
};
use crate::Result;

mod error;
mod migrate;
mod names;
#[cfg(feature = "sqlx-postgres")]
mod postgres;
#[cfg(feature = "sqlx")]
mod sqlite;

/// A database of outbox and inbox: `sqlx::Sqlite` or `sqlx::Postgres`, as the features have it.
///
/// It is not implemented for others.
///
/// # Examples
/// ```
/// # #[cfg(feature = "sqlx")]
/// # {
/// use actix_pika::{database::Database, outbox::Outbox};
///
/// /// What the handlers of an application share, whatever the database is.
/// struct Shop<DB: Database> {
///     outbox: Outbox<DB>,
/// }
///
/// type LocalShop = Shop<sqlx::Sqlite>;
/// # }
/// ```
pub trait Database: sqlx::Database + Supported {}

/// What both databases have, by variants.
pub trait Supported: sqlx::Database {
    /// How a transaction that writes begins.
    const BEGIN: &'static str;

    /// Returns a pool as a variant.
    fn pool(pool: Pool<Self>) -> AnyPool;

    /// Returns a connection as a variant.
    fn connection(connection: &mut Self::Connection) -> AnyConnection<'_>;
}

/// The pool of an application.
#[derive(Clone, Debug)]
pub enum AnyPool {
    #[cfg(feature = "sqlx")]
    /// Of SQLite.
    Sqlite(SqlitePool),
    #[cfg(feature = "sqlx-postgres")]
    /// Of PostgreSQL.
    Postgres(PgPool),
}

/// A connection, mostly that of a transaction of the application.
#[derive(Debug)]
pub enum AnyConnection<'c> {
    #[cfg(feature = "sqlx")]
    /// Of SQLite.
    Sqlite(&'c mut SqliteConnection),
    #[cfg(feature = "sqlx-postgres")]
    /// Of PostgreSQL.
    Postgres(&'c mut PgConnection),
}

/// Begins a transaction that writes.
///
/// # Errors
/// `Database`.
pub(crate) async fn begin<DB: Database>(pool: &Pool<DB>) -> Result<Transaction<'static, DB>> {
    pool.begin_with(DB::BEGIN).await.map_err(|error| failed("a transaction cannot begin", &error))
}

#[cfg(feature = "sqlx")]
impl Database for Sqlite {}

#[cfg(feature = "sqlx")]
impl Supported for Sqlite {
    // A deferred one cannot write once another connection has written (517).
    const BEGIN: &'static str = "BEGIN IMMEDIATE";

    fn pool(pool: SqlitePool) -> AnyPool {
        AnyPool::Sqlite(pool)
    }

    fn connection(connection: &mut SqliteConnection) -> AnyConnection<'_> {
        AnyConnection::Sqlite(connection)
    }
}

#[cfg(feature = "sqlx-postgres")]
impl Database for Postgres {}

#[cfg(feature = "sqlx-postgres")]
impl Supported for Postgres {
    const BEGIN: &'static str = "BEGIN";

    fn pool(pool: PgPool) -> AnyPool {
        AnyPool::Postgres(pool)
    }

    fn connection(connection: &mut PgConnection) -> AnyConnection<'_> {
        AnyConnection::Postgres(connection)
    }
}

/// A connection that belongs to nobody else. Unlike one of a pool, it can be dropped without a runtime.
#[derive(Debug)]
pub(crate) enum OwnConnection {
    #[cfg(feature = "sqlx")]
    Sqlite(SqliteConnection),
    #[cfg(feature = "sqlx-postgres")]
    Postgres(PgConnection),
}

impl OwnConnection {
    /// Takes a connection out of a pool, which may then open another one.
    ///
    /// # Errors
    /// Those of the pool.
    pub(crate) async fn take(pool: &AnyPool) -> sqlx::Result<Self> {
        match pool {
            #[cfg(feature = "sqlx")]
            AnyPool::Sqlite(pool) => Ok(Self::Sqlite(pool.acquire().await?.detach())),
            #[cfg(feature = "sqlx-postgres")]
            AnyPool::Postgres(pool) => Ok(Self::Postgres(pool.acquire().await?.detach())),
        }
    }

    /// Borrows the connection.
    pub(crate) fn borrow(&mut self) -> AnyConnection<'_> {
        match self {
            #[cfg(feature = "sqlx")]
            Self::Sqlite(connection) => AnyConnection::Sqlite(connection),
            #[cfg(feature = "sqlx-postgres")]
            Self::Postgres(connection) => AnyConnection::Postgres(connection),
        }
    }
}
