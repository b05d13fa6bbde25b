//! The outbox as an application sees it.

use std::fmt;

use sqlx::{Pool, Transaction};

use super::store::OUTBOX;
use crate::{
    Result,
    database::{self, Database, Names},
};

/// Messages that are written in a transaction of the application, and published after its commit. See the
/// [module](super).
///
/// Clones share the pool.
///
/// # Examples
/// ```no_run
/// # #[cfg(feature = "sqlx")]
/// # async fn run(pool: sqlx::SqlitePool) -> Result<(), Box<dyn std::error::Error>> {
/// use actix_pika::outbox::Outbox;
///
/// let outbox = Outbox::sqlite(pool);
/// outbox.migrate().await?;
/// # Ok(()) }
/// ```
pub struct Outbox<DB: Database> {
    pool: Pool<DB>,
    names: Names,
}

#[cfg(feature = "sqlx")]
impl Outbox<sqlx::Sqlite> {
    /// Returns the outbox of an SQLite database.
    ///
    /// # Examples
    /// See [`Outbox`].
    pub fn sqlite(pool: sqlx::SqlitePool) -> Self {
        Self { pool, names: Names::default() }
    }
}

#[cfg(feature = "sqlx-postgres")]
impl Outbox<sqlx::Postgres> {
    /// Returns the outbox of a PostgreSQL database.
    ///
    /// # Examples
    /// ```no_run
    /// use actix_pika::outbox::Outbox;
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let outbox = Outbox::postgres(sqlx::PgPool::connect("postgres://app@localhost/shop").await?);
    /// outbox.migrate().await?;
    /// # Ok(()) }
    /// ```
    pub fn postgres(pool: sqlx::PgPool) -> Self {
        Self { pool, names: Names::default() }
    }
}

impl<DB: Database> Outbox<DB> {
    /// Sets the prefix of the names of the tables; `pika_` unless set.
    ///
    /// # Errors
    /// `Refused` unless it is made of up to 32 lower-case letters, digits and underscores, the first of which is no digit.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # fn run(pool: sqlx::SqlitePool) -> actix_pika::Result<()> {
    /// use actix_pika::outbox::Outbox;
    ///
    /// let outbox = Outbox::sqlite(pool).prefix("shop_")?; // shop_outbox, shop_outbox_lease
    /// # Ok(()) }
    /// ```
    pub fn prefix(mut self, prefix: &str) -> Result<Self> {
        self.names = Names::new(prefix)?;
        Ok(self)
    }

    /// Creates the tables, or what is missing of them. See the [tables](crate::database#tables).
    ///
    /// # Errors
    /// `Database`; `Refused` if a newer version of this crate has made them.
    ///
    /// # Examples
    /// See [`Outbox`].
    pub async fn migrate(&self) -> Result<()> {
        database::migrate(&DB::pool(self.pool.clone()), &self.names, OUTBOX).await
    }

    /// Begins a transaction, in a way that [fits the database](crate::database#transactions).
    ///
    /// # Errors
    /// `Database`.
    ///
    /// # Examples
    /// See the [module](super).
    pub async fn begin(&self) -> Result<Transaction<'static, DB>> {
        database::begin(&self.pool).await
    }
}

impl<DB: Database> Clone for Outbox<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), names: self.names.clone() }
    }
}

impl<DB: Database> fmt::Debug for Outbox<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("prefix", &self.names.prefix()).finish_non_exhaustive()
    }
}
