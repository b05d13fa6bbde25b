//! The outbox as an application sees it.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use sqlx::{Pool, Transaction};
use tokio::sync::watch;

use super::{
    Lag, Parked, RelayBuilder, To,
    store::{self, OUTBOX},
};
use crate::{
    Connection, Result,
    codec::Codec,
    database::{self, AnyPool, Database, Names},
};

/// What RabbitMQ 4 accepts unless configured.
const BODY_MAX: usize = 16 << 20;

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
    body_max: usize,
    /// Changes when something is written.
    wakes: Arc<watch::Sender<()>>,
}

/// A message that was written to an outbox.
///
/// # Examples
/// See [`Outbox::publish`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queued {
    /// The message id.
    pub message_id: String,
    /// False if the outbox had a message with this id, so that nothing was written.
    pub is_new: bool,
}

#[cfg(feature = "sqlx")]
impl Outbox<sqlx::Sqlite> {
    /// Returns the outbox of an SQLite database.
    ///
    /// # Examples
    /// See [`Outbox`].
    pub fn sqlite(pool: sqlx::SqlitePool) -> Self {
        Self::new(pool)
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
        Self::new(pool)
    }
}

impl<DB: Database> Outbox<DB> {
    fn new(pool: Pool<DB>) -> Self {
        Self { pool, names: Names::default(), body_max: BODY_MAX, wakes: Arc::new(watch::Sender::new(())) }
    }

    fn any_pool(&self) -> AnyPool {
        DB::pool(self.pool.clone())
    }

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

    /// Sets how many bytes a body has at most; 16 MiB unless set, which is the `max_message_size` of RabbitMQ 4. What the
    /// broker does not accept would be [parked](super#what-is-refused).
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # fn run(pool: sqlx::SqlitePool) {
    /// let outbox = actix_pika::outbox::Outbox::sqlite(pool).body_max(128 << 20); // of RabbitMQ 3
    /// # }
    /// ```
    pub fn body_max(mut self, bytes: usize) -> Self {
        self.body_max = bytes;
        self
    }

    /// Creates the tables, or what is missing of them. See the [tables](crate::database#tables).
    ///
    /// # Errors
    /// `Database`; `Refused` if a newer version of this crate has made them.
    ///
    /// # Examples
    /// See [`Outbox`].
    pub async fn migrate(&self) -> Result<()> {
        database::migrate(&self.any_pool(), &self.names, OUTBOX).await
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

    /// Writes a message, which is published after the commit of the transaction; never, if that rolls back.
    ///
    /// The connection is that of a transaction: `&mut *tx`. The message gets an id, unless [`To::message_id`] has set one,
    /// and is persistent.
    ///
    /// # Errors
    /// `Database`; with PostgreSQL, the transaction can only be rolled back then. Before anything is written: `Codec`;
    /// `Limit` for a body over [`body_max`](Self::body_max), or for a name, id or lane over 255 bytes; `Refused` for
    /// one with a zero byte, or an empty id.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # async fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>) -> Result<(), Box<dyn std::error::Error>> {
    /// use actix_pika::outbox::To;
    ///
    /// # let (customer, order) = (7, 42);
    /// let mut tx = outbox.begin().await?;
    /// sqlx::query("insert into orders (id) values ($1)").bind(order).execute(&mut *tx).await?;
    /// let queued = outbox.publish(&mut *tx, To::exchange("shop").key("order.placed").lane(customer), &order).await?;
    /// tx.commit().await?;
    /// println!("it will have the message id {}", queued.message_id);
    /// # Ok(()) }
    /// ```
    pub async fn publish<T, C: Codec<T>>(
        &self,
        connection: &mut DB::Connection,
        to: To<C>,
        value: &T,
    ) -> Result<Queued> {
        let row = to.row(value, self.body_max)?;
        let written =
            store::insert(DB::connection(connection), &self.names, std::slice::from_ref(&row)).await?;
        self.wake();
        Ok(Queued { message_id: row.message_id, is_new: !written.is_empty() })
    }

    /// Writes many messages, in this order. With PostgreSQL, they are one statement.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish). If one cannot be encoded or has a wrong name, none is written. After an error of
    /// the database, roll the transaction back: with SQLite, some may have been written.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # async fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>) -> Result<(), Box<dyn std::error::Error>> {
    /// use actix_pika::outbox::To;
    ///
    /// let mails = ["anna@example.org", "ben@example.org"].map(String::from);
    /// let mut tx = outbox.begin().await?;
    /// outbox.publish_all(&mut *tx, mails.iter().map(|mail| (To::queue("mail"), mail))).await?;
    /// tx.commit().await?;
    /// # Ok(()) }
    /// ```
    pub async fn publish_all<'v, T: 'v, C: Codec<T>>(
        &self,
        connection: &mut DB::Connection,
        messages: impl IntoIterator<Item = (To<C>, &'v T)>,
    ) -> Result<Vec<Queued>> {
        let rows: Vec<_> =
            messages.into_iter().map(|(to, value)| to.row(value, self.body_max)).collect::<Result<_>>()?;
        let written = store::insert(DB::connection(connection), &self.names, &rows).await?;
        self.wake();
        let mut written: HashSet<String> = written.into_iter().collect();
        let queued = |message_id: String| Queued { is_new: written.remove(&message_id), message_id };
        Ok(rows.into_iter().map(|row| row.message_id).map(queued).collect())
    }

    fn wake(&self) {
        self.wakes.send_replace(());
    }

    /// Returns the builder of a relay, which publishes over this connection, on a channel of its own. See
    /// [`OutboxRelay`](super::OutboxRelay).
    ///
    /// # Examples
    /// See the [module](super).
    pub fn relay(&self, connection: &Connection) -> RelayBuilder {
        RelayBuilder::new(self.any_pool(), self.names.clone(), connection.clone(), self.wakes.clone())
    }

    /// Returns how much is to be published.
    ///
    /// # Errors
    /// `Database`.
    ///
    /// # Examples
    /// See [`OutboxRelay::lag`](super::OutboxRelay::lag).
    pub async fn lag(&self) -> Result<Lag> {
        store::lag(&self.any_pool(), &self.names).await
    }

    /// Returns the messages that are [parked](super#what-is-refused), the oldest first, 1,000 at most.
    ///
    /// # Errors
    /// `Database`.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # async fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>) -> actix_pika::Result<()> {
    /// for parked in outbox.parked().await? {
    ///     println!("{}: {}", parked.message_id, parked.reason);
    ///     outbox.unpark(&parked.message_id).await?;
    /// }
    /// # Ok(()) }
    /// ```
    pub async fn parked(&self) -> Result<Vec<Parked>> {
        store::parked(&self.any_pool(), &self.names).await
    }

    /// Lets a parked message be published again, with all its tries. Returns false if none with this id is parked.
    ///
    /// # Errors
    /// `Database`.
    ///
    /// # Examples
    /// See [`parked`](Self::parked).
    pub async fn unpark(&self, message_id: &str) -> Result<bool> {
        let unparked = store::unpark(&self.any_pool(), &self.names, Some(message_id)).await?;
        self.wake();
        Ok(unparked > 0)
    }

    /// Lets all parked messages be published again, and returns how many they are.
    ///
    /// # Errors
    /// `Database`.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # async fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>) -> actix_pika::Result<()> {
    /// println!("{} are tried again", outbox.unpark_all().await?);
    /// # Ok(()) }
    /// ```
    pub async fn unpark_all(&self) -> Result<u64> {
        let unparked = store::unpark(&self.any_pool(), &self.names, None).await?;
        self.wake();
        Ok(unparked)
    }

    /// Deletes parked messages that were written so long ago, for good, and returns how many they were. Their lanes go on.
    ///
    /// What was published is deleted without it. It deletes 1,000 rows in a statement.
    ///
    /// # Errors
    /// `Database`.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # async fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>) -> actix_pika::Result<()> {
    /// let month = std::time::Duration::from_secs(30 * 86_400);
    /// println!("{} were given up", outbox.prune(month).await?);
    /// # Ok(()) }
    /// ```
    pub async fn prune(&self, older_than: Duration) -> Result<u64> {
        let pruned = store::prune(&self.any_pool(), &self.names, older_than).await?;
        self.wake();
        Ok(pruned)
    }
}

impl<DB: Database> Clone for Outbox<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            names: self.names.clone(),
            body_max: self.body_max,
            wakes: self.wakes.clone(),
        }
    }
}

impl<DB: Database> fmt::Debug for Outbox<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("prefix", &self.names.prefix()).finish_non_exhaustive()
    }
}
