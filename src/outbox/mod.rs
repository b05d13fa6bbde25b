//! A transactional outbox: messages are written to a table in the transaction of the application, and published after it.
//!
//! A process that commits and then publishes loses the message if it is killed in between; one that publishes first has
//! told of something that may never be committed. [`Outbox::publish`] writes the message beside the data, in the same
//! transaction. A [relay](#the-relay) publishes what is committed, waits for the confirms, and deletes it. SQLite (feature
//! `sqlx`) and PostgreSQL (feature `sqlx-postgres`); see [`database`](crate::database).
//!
//! ```no_run
//! # #[cfg(feature = "sqlx")]
//! # async fn run(pool: sqlx::SqlitePool, connection: actix_pika::Connection) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use actix_pika::outbox::{Outbox, To};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct OrderPlaced { order: i64, customer: i64 }
//!
//! let outbox = Outbox::sqlite(pool);                                  // or Outbox::postgres
//! outbox.migrate().await?;
//! let relay = outbox.relay(&connection).start().await?;
//!
//! let placed = OrderPlaced { order: 42, customer: 7 };
//! let mut tx = outbox.begin().await?;
//! sqlx::query("insert into orders (id) values ($1)").bind(placed.order).execute(&mut *tx).await?;
//! let to = To::exchange("shop").key("order.placed").lane(placed.customer);
//! outbox.publish(&mut *tx, to, &placed).await?;
//! tx.commit().await?;                                                 // both, or neither
//!
//! relay.drain(Duration::from_secs(5)).await;                          // before the process ends
//! # Ok(()) }
//! ```
//!
//! In a handler of actix-web, errors of sqlx need a `map_err`, because they are no responses, as errors of this crate are with
//! the feature `actix-web`. Close the pool (`pool.close()`) after the drain, when nothing uses it any more.
//!
//! # What it promises
//!
//! A message that is committed reaches a queue **at least once**, whatever is killed or lost:
//!
//! | the process is killed | what is there | after the restart |
//! |---|---|---|
//! | before the commit | nothing | the caller knows that its request failed, and repeats it |
//! | after the commit, before or during the publish | the row | it is published |
//! | after the publish, before the confirm or the delete | the row, and perhaps the message | it is published again, with the same message id |
//! | after the delete | the message | - |
//!
//! A copy has the id of the message. An [`Inbox`](crate::inbox::Inbox) at the consumer makes one effect of both.
//!
//! Messages of one [lane](To::lane) are published in the order of their transactions: the next one begins when the one
//! before is confirmed. Without a lane there is no order, and nothing waits for another message. The order does not hold
//! over one event: a relay that stands still for longer than its lease, with a publish under way, may publish that message
//! once more after another relay has published later ones. Lanes should be fine, such as one for each customer: of a lane,
//! one message is under way.
//!
//! # The relay
//!
//! [`Outbox::relay`] starts it on the first arbiter of the `System`. Every process may run one. A lease, a row with a
//! holder, a time and a fence, decides which of them publishes; the others look every 500 milliseconds whether it has run
//! out, after 10 seconds without a renewal. All times are those of the database's clock. Rows are deleted only while the
//! lease has the fence that they were read with.
//!
//! | what happens | what the relay does | [event](RelayEvent) |
//! |---|---|---|
//! | something is published in this process | looks after 5 and after 50 milliseconds, since the commit comes later | |
//! | in another process | finds it within 500 milliseconds, or sooner when it gets [`Wake`] | |
//! | the broker is down | waits, and renews its lease | `BrokerFailed` |
//! | the database fails, or does not answer for 10 seconds | asks again, after 100 milliseconds to 10 seconds | `DatabaseFailed` |
//! | another relay has the lease | publishes nothing more | `LeaseLost` |
//! | it panics | starts again, after 100 milliseconds to 10 seconds | `Panicked` |
//! | its connection is closed for good | ends the lease, and ends | `Ended` with an error |
//! | [`OutboxRelay::drain`] | awaits confirms, deletes, ends the lease, and ends | `Ended` |
//!
//! It takes one connection out of the pool, and keeps it. It may also end with its `System`, without a drain: what is not
//! confirmed is published again.
//!
//! # What is refused
//!
//! | the broker | what becomes of the message |
//! |---|---|
//! | returns it: no queue receives it, and it is [mandatory](To::mandatory) | parked |
//! | does not accept it: too large, or with properties that it refuses | parked |
//! | nacks it, or its exchange is missing or forbidden | tried again after 0.1 to 26 seconds; the tenth time, about 50 seconds after the first, parked |
//!
//! So is a row that cannot be read. A parked message stops its lane, is never dropped, and is told by
//! [`RelayEvent::Parked`], [`Outbox::parked`] and [`Lag::parked`]. [`Outbox::unpark`] has it published, [`Outbox::prune`]
//! gives it up; both let its lane go on.
//!
//! # Tables
//!
//! [`Outbox::migrate`] creates them; PostgreSQL has the types `bytea` and `bigint generated always as identity`.
//!
//! ```sql
//! create table pika_outbox (
//!     id integer primary key autoincrement,
//!     message_id text not null unique,
//!     exchange text not null,
//!     routing_key text not null,
//!     lane text,
//!     mandatory boolean not null,
//!     properties blob not null,   -- as an AMQP content header has them
//!     body blob not null,
//!     created bigint not null,    -- milliseconds since 1970
//!     tries integer not null default 0,
//!     held_until bigint,          -- not published before; parked with the largest number
//!     reason text                 -- why
//! );
//! create table pika_outbox_lease (one integer primary key, holder text not null, until bigint not null, fence bigint not null);
//! ```
//!
//! Rows are deleted when they are confirmed, so that there is nothing to prune but parked ones. On PostgreSQL, an
//! `autovacuum_vacuum_scale_factor` of 0 and a threshold of some thousand rows keep the table small.
//!
//! # With PostgreSQL
//!
//! An id is given before the commit, so that a smaller one may be committed later. A message with a lane therefore takes a
//! lock of its lane first (`pg_advisory_xact_lock`), until its transaction ends. Two transactions that publish to the same
//! two lanes, in different orders, deadlock: one fails with an error that is
//! [retryable](crate::Error::is_retryable). [`Outbox::publish_all`] takes the locks in one order.

pub use self::{
    actor::{RelayActor, Wake},
    event::RelayEvent,
    handle::{Outbox, Queued},
    relay::{OutboxRelay, RelayBuilder, RelayCounters},
    row::{Lag, Parked},
    to::To,
};

mod actor;
mod batch;
mod event;
mod handle;
mod looks;
mod machine;
#[cfg(test)]
mod machine_tests;
mod relay;
mod row;
mod runner;
mod store;
mod to;
