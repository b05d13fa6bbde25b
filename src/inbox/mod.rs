//! An inbox: a message takes effect once, though it is delivered more than once.
//!
//! RabbitMQ delivers *at least* once. A message comes again after a lost connection, after the crash of a process that
//! had not acknowledged it, and whenever its publisher was not sure that it had arrived; the relay of an
//! [outbox](crate::outbox) is such a publisher. An [`Inbox`] writes the id of each message into a table, in the
//! transaction of the effect. The copy of a message finds its id there, and is acknowledged without an effect.
//!
//! ```no_run
//! # #[cfg(feature = "sqlx")]
//! # mod example {
//! use actix_pika::{Channel, inbox::{self, Inbox}, tasks::Task};
//! use sqlx::{SqliteConnection, SqlitePool};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced { customer: String, cents: i64 }
//!
//! async fn bill(tx: &mut SqliteConnection, order: &OrderPlaced) -> sqlx::Result<()> {
//!     let insert = sqlx::query("insert into bills (customer, cents) values ($1, $2)");
//!     insert.bind(&order.customer).bind(order.cents).execute(tx).await.map(drop)
//! }
//!
//! async fn run(channel: Channel, pool: SqlitePool) -> actix_pika::Result<()> {
//!     let inbox = Inbox::sqlite(pool, "billing");
//!     inbox.migrate().await?;
//!     let _pruner = inbox.prune_by_itself(inbox::RETENTION)?;
//!     let handle = move |order: Task<OrderPlaced>| {
//!         let inbox = inbox.clone();
//!         async move {
//!             let mut tx = inbox.begin().await?;
//!             if inbox.first(&mut tx, &order).await? {
//!                 bill(&mut tx, &order).await?;
//!             }
//!             tx.commit().await?; // the id and the bill, or neither
//!             Ok(())
//!         }
//!     };
//!     let orders = channel.queue("orders");
//!     orders.tasks().at_once(8).for_each(handle).await?.ended().await;
//!     Ok(())
//! }
//! # }
//! ```
//!
//! # What it promises
//!
//! What is written in the transaction of [`Inbox::first`] happens once for each message id and name of an inbox, whatever
//! is killed or lost:
//!
//! | the process is killed | what is left | then |
//! |---|---|---|
//! | before the commit | nothing | the message is delivered again, and is the first |
//! | after the commit, before the ack | the effect and the id | the message is delivered again, is known, and is acknowledged |
//! | after the ack | the effect and the id | - |
//!
//! What is *not* part of the transaction, such as a mail or a call of another service, can happen again. Write a message
//! about it with an outbox in the same transaction, and let the consumer of that message do it.
//!
//! # Two copies side by side
//!
//! `first` inserts before the effect begins. The second of two copies waits until the transaction of the
//! first has ended: after its commit the copy is known, after its rollback it is the first. With SQLite, which
//! has one writer, it waits in [`begin`](Inbox::begin). With PostgreSQL it waits in `first`, as long as the transaction
//! lasts; `lock_timeout` limits that. At the isolation levels `REPEATABLE READ` and `SERIALIZABLE` PostgreSQL ends the
//! wait with an error (40001), which is retryable.
//!
//! # Message ids
//!
//! The id is the property `message-id`: up to 255 bytes, which need not be text. It must be another one for each message
//! that reaches the inbox, from whatever publisher and queue, and the same for all copies. It is given by
//! [`Outbox::publish`](crate::outbox::Outbox::publish), [`Publisher::message_ids`](crate::publisher::Publisher::message_ids),
//! [`Publishing::generate_message_id`](crate::Publishing::generate_message_id) and
//! [`OpenChannel::message_ids`](crate::OpenChannel::message_ids), and not unless one of them is asked for; retries and [redrives](crate::redrive) keep it. A
//! message without an id, or with an empty one, is an error, never a first one. An id that is in the message itself, such as
//! the number of an order, goes to [`Inbox::first_id`].
//!
//! # How long ids are kept
//!
//! A copy that comes after its id was pruned takes effect again. Ids must be kept longer than a message can live: longer
//! than its time in queues, with the delays of a ladder, as a dead letter that is moved back, and in the outbox of its
//! publisher during the longest outage. [`RETENTION`] is 7 days. An id of 36 bytes takes about 130 bytes in SQLite and 200 in
//! PostgreSQL, with its indexes: 100 messages a second are 8 or 12 GB in 7 days.
//!
//! # Tables
//!
//! [`Inbox::migrate`] creates `pika_inbox(consumer, message_id, at)`; `at` is in milliseconds since 1970, by the clock of the
//! database. See [`database`].

use std::{fmt, sync::Arc, time::Duration};

use actix_pika_actors::facade;
use sqlx::{Pool, Transaction};

pub use self::{message_id::Identified, pruner::InboxPruner};
use crate::{
    Result,
    database::{self, Database, Names},
};

mod message_id;
mod pruner;
mod store;

/// How long ids are kept unless the application has a reason: 7 days.
///
/// # Examples
/// ```
/// assert_eq!(actix_pika::inbox::RETENTION.as_secs(), 7 * 24 * 60 * 60);
/// ```
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The longest name of an inbox, in bytes.
const NAME_MAX: usize = 255;

/// Lets each message take effect once. See the [module](self).
///
/// Clones share the pool. Inboxes with the same name know the same messages; several consumers of the same messages, each
/// with an effect of its own, need names of their own.
///
/// **Over a reconnect**: it has no connection to the broker. What is delivered again is known.
///
/// Source: [Idempotent Receiver](https://www.enterpriseintegrationpatterns.com/patterns/messaging/IdempotentReceiver.html)
///
/// # Examples
/// See the [module](self).
pub struct Inbox<DB: Database> {
    pool: Pool<DB>,
    names: Names,
    name: Arc<str>,
}

#[cfg(feature = "sqlx")]
impl Inbox<sqlx::Sqlite> {
    /// Returns the inbox of this name in an SQLite database.
    ///
    /// A name has 1 to 255 bytes and no NUL; the calls of another one fail with `Refused`.
    ///
    /// # Examples
    /// ```no_run
    /// use actix_pika::inbox::Inbox;
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = Inbox::sqlite(sqlx::SqlitePool::connect("sqlite://shop.db").await?, "billing");
    /// inbox.migrate().await?;
    /// # Ok(()) }
    /// ```
    pub fn sqlite(pool: sqlx::SqlitePool, name: &str) -> Self {
        Self { pool, names: Names::default(), name: name.into() }
    }
}

#[cfg(feature = "sqlx-postgres")]
impl Inbox<sqlx::Postgres> {
    /// Returns the inbox of this name in a PostgreSQL database.
    ///
    /// A name has 1 to 255 bytes and no NUL; the calls of another one fail with `Refused`.
    ///
    /// # Examples
    /// ```no_run
    /// use actix_pika::inbox::Inbox;
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = Inbox::postgres(sqlx::PgPool::connect("postgres://app@localhost/shop").await?, "billing");
    /// inbox.migrate().await?;
    /// # Ok(()) }
    /// ```
    pub fn postgres(pool: sqlx::PgPool, name: &str) -> Self {
        Self { pool, names: Names::default(), name: name.into() }
    }
}

impl<DB: Database> Inbox<DB> {
    /// Sets the prefix of the names of the tables; `pika_` unless set.
    ///
    /// # Errors
    /// `Refused` unless it is made of up to 32 lower-case letters, digits and underscores, the first of which is no digit.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # fn run(pool: sqlx::SqlitePool) -> actix_pika::Result<()> {
    /// use actix_pika::inbox::Inbox;
    ///
    /// let inbox = Inbox::sqlite(pool, "billing").prefix("shop_")?; // shop_inbox
    /// # Ok(()) }
    /// ```
    pub fn prefix(mut self, prefix: &str) -> Result<Self> {
        self.names = Names::new(prefix)?;
        Ok(self)
    }

    /// Creates the table, or what is missing of it. See the [tables](crate::database#tables).
    ///
    /// # Errors
    /// `Database`; `Refused` if a newer version of this crate has made it, and for a name of the inbox that is not valid.
    ///
    /// # Examples
    /// See the [module](self).
    pub async fn migrate(&self) -> Result<()> {
        self.check_name()?;
        database::migrate(&DB::pool(self.pool.clone()), &self.names, store::INBOX).await
    }

    /// Begins a transaction, in a way that [fits the database](crate::database#transactions).
    ///
    /// # Errors
    /// `Database`.
    ///
    /// # Examples
    /// See the [module](self).
    pub async fn begin(&self) -> Result<Transaction<'static, DB>> {
        database::begin(&self.pool).await
    }

    /// Writes the id of a message, as part of a transaction, and returns whether it was not known: whether the
    /// message is to take effect.
    ///
    /// Call it before the effect, in the same transaction. Commit in both cases.
    ///
    /// With PostgreSQL it waits while another transaction has written the same id and has not ended. See
    /// [two copies side by side](self#two-copies-side-by-side).
    ///
    /// # Errors
    /// `Refused` for a message without an id, or whose id is empty; `Codec` for properties that cannot be decoded. A task whose
    /// handler returns these is tried again in vain, and then dead-lettered. `Database`.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "sqlx-postgres")]
    /// # mod example {
    /// use actix_pika::{inbox::Inbox, tasks::{Done, Task}};
    /// use sqlx::Postgres;
    ///
    /// async fn handle(inbox: Inbox<Postgres>, mail: Task<String>) -> Done {
    ///     let mut tx = inbox.begin().await?;
    ///     if inbox.first(&mut tx, &mail).await? {
    ///         sqlx::query("insert into mails (body) values ($1)").bind(&*mail).execute(&mut *tx).await?;
    ///     }
    ///     Ok(tx.commit().await?)
    /// }
    /// # }
    /// ```
    pub async fn first(&self, transaction: &mut DB::Connection, message: &impl Identified) -> Result<bool> {
        let id = message.message_id()?;
        self.first_id(transaction, id).await
    }

    /// Writes an id that the application has found, as part of a transaction, and returns whether it was not known.
    ///
    /// It is the id of [`first`](Self::first): text or any other 1 to 255 bytes.
    ///
    /// # Errors
    /// `Refused` for an id that is empty or longer; `Database`.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "sqlx")]
    /// # mod example {
    /// use actix_pika::{Result, inbox::Inbox};
    /// use sqlx::{Sqlite, SqliteConnection};
    ///
    /// async fn is_new(inbox: &Inbox<Sqlite>, tx: &mut SqliteConnection, order: u64) -> Result<bool> {
    ///     inbox.first_id(tx, order.to_be_bytes()).await
    /// }
    /// # }
    /// ```
    pub async fn first_id(&self, transaction: &mut DB::Connection, id: impl AsRef<[u8]>) -> Result<bool> {
        self.check_name()?;
        let id = message_id::check(id.as_ref())?;
        store::insert(DB::connection(transaction), &self.names, &self.name, id).await
    }

    /// Deletes the ids of this inbox that were written longer ago, by the clock of the database, and returns how many they
    /// were.
    ///
    /// Each statement deletes up to 1,000 and is a transaction, so that handlers do not wait long for it. It can run in several
    /// processes at once. See [how long ids are kept](self#how-long-ids-are-kept).
    ///
    /// # Errors
    /// `Database`. What was deleted before stays deleted.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "sqlx")]
    /// # async fn run(inbox: actix_pika::inbox::Inbox<sqlx::Sqlite>) -> actix_pika::Result<()> {
    /// let deleted = inbox.prune(actix_pika::inbox::RETENTION).await?;
    /// println!("{deleted} ids were older than 7 days");
    /// # Ok(()) }
    /// ```
    pub async fn prune(&self, older_than: Duration) -> Result<u64> {
        store::prune(&DB::pool(self.pool.clone()), &self.names, &self.name, older_than).await
    }

    /// Starts a task that [prunes](Self::prune) now, and then each hour, or more often if `older_than` is less than a day. It
    /// ends when the returned handle is dropped.
    ///
    /// A failure is logged, and the next time is tried again.
    ///
    /// # Errors
    /// `Stopped` outside of a runtime of tokio or actix.
    ///
    /// # Examples
    /// See the [module](self).
    pub fn prune_by_itself(&self, older_than: Duration) -> Result<InboxPruner> {
        InboxPruner::start(self.clone(), older_than)
    }

    fn check_name(&self) -> Result<()> {
        if (1..=NAME_MAX).contains(&self.name.len()) && !self.name.contains('\0') {
            return Ok(());
        }
        Err(facade::refused("the name of an inbox has 1 to 255 bytes and no NUL"))
    }
}

impl<DB: Database> Clone for Inbox<DB> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), names: self.names.clone(), name: Arc::clone(&self.name) }
    }
}

impl<DB: Database> fmt::Debug for Inbox<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("name", &self.name)
            .field("prefix", &self.names.prefix())
            .finish_non_exhaustive()
    }
}
