//! Metrics of connections, for the recorder of the [`metrics`](https://docs.rs/metrics) facade that the application installs, such as
//! that of `metrics-exporter-prometheus`. With the feature `metrics`.
//!
//! [`Connector::metrics`] is all that is to be written. For a connection that is open already, there is [`watch`].
//!
//! ```no_run
//! # async fn run() -> actix_pika::Result<()> {
//! let connection = actix_pika::Connector::new("amqp://guest:guest@localhost/?name=orders")?
//!     .metrics()
//!     .connect()
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! # Names
//!
//! | name | type | labels | meaning |
//! |---|---|---|---|
//! | `actix_pika_published_total` | counter | `connection` | publishes that had room in the publish window, each once |
//! | `actix_pika_confirmed_total` | counter | `connection` | publishes that the broker has confirmed |
//! | `actix_pika_nacked_total` | counter | `connection` | publishes that the broker has nacked for good |
//! | `actix_pika_returned_total` | counter | `connection` | mandatory publishes that the broker has returned as unroutable |
//! | `actix_pika_delivered_total` | counter | `connection` | deliveries |
//! | `actix_pika_redelivered_total` | counter | `connection` | deliveries that the broker has marked as redelivered |
//! | `actix_pika_settled_total` | counter | `connection`, `outcome` | deliveries that were settled, by `outcome`: `ack`, `nack` or `reject` |
//! | `actix_pika_requeued_total` | counter | `connection` | deliveries that were nacked or rejected, and return to their queue |
//! | `actix_pika_reconnects_total` | counter | `connection` | how often a lost connection was open again |
//! | `actix_pika_blocked_milliseconds_total` | counter | `connection` | how long the broker has blocked publishing |
//! | `actix_pika_unconfirmed` | gauge | `connection` | publishes without a confirm yet |
//! | `actix_pika_unconfirmed_bytes` | gauge | `connection` | their bytes |
//! | `actix_pika_publishes_waiting` | gauge | `connection` | publishes that wait for room in the publish window |
//! | `actix_pika_unsettled` | gauge | `connection` | deliveries that are not settled yet |
//! | `actix_pika_channels` | gauge | `connection` | open channels |
//! | `actix_pika_connections` | gauge | `connection`, `state` | connections, by `state`: `up`, `degraded` or `down` |
//! | `actix_pika_missing` | gauge | `connection` | entities that were declared or consumed, and are not in place |
//! | `actix_pika_tasks_total` | counter | `queue`, `outcome` | tasks that have ended, by `outcome` |
//! | `actix_pika_tasks_running` | gauge | `queue` | tasks that have begun and not ended |
//! | `actix_pika_handler_duration_seconds` | histogram | `queue`, `outcome` | how long handlers took, by the `outcome` of their task |
//! | `actix_pika_delivery_age_seconds` | histogram | `queue` | how old messages with a timestamp are when their task begins |
//! | `actix_pika_publish_duration_seconds` | histogram | `exchange`, `kind`, `outcome` | how long typed publishes took, with their confirm |
//! | `actix_pika_outbox_lag_seconds` | gauge | `outbox` | how long the oldest message of an outbox waits |
//! | `actix_pika_outbox_waiting` | gauge | `outbox` | messages of an outbox that are to be published |
//! | `actix_pika_outbox_parked` | gauge | `outbox` | messages of an outbox that are parked |
//!
//! What exactly is counted, and when, is documented at [`ChannelCounters`](crate::events::ChannelCounters),
//! [`ConnectionCounters`](crate::events::ConnectionCounters), [`Load`](crate::events::Load) and
//! [`Health`](crate::events::Health). A connection that is closed is in no gauge. Tasks are those of typed
//! [consumers](crate::tasks), [workers](crate::worker), [masters](crate::master) and [RPC servers](crate::rpc); their
//! outcomes are listed at [`Outcome`](crate::hook::Outcome), the kinds of publishes at
//! [`PublishKind`](crate::hook::PublishKind). The outcome of a publish is `published`, `failed`, or `unknown` if nobody
//! awaited it. Retries of a queue are its tasks with the outcome `retried`. An age has whole seconds, as the timestamp of a
//! message has; a publisher that sets none causes none.
//!
//! An outbox is reported by `watch_outbox`, with a feature of sqlx.
//!
//! [`METRICS`] is this table for programs. With an exporter that wants buckets for histograms, [`BUCKETS`] are some.
//!
//! # Labels
//!
//! `connection` is the name of the connection ([`Connector::name`]), or `unnamed`. Connections of the same name, such as
//! those of a pool, are added up; 64 names have a label of their own, and the connections of further names share the label
//! `other`. `queue` and `exchange` are their names at the broker, up to 256 of each for a connector and its clones: `amq.gen`
//! stands for the queues that the broker has named, `(default)` for the default exchange. Addresses, virtual hosts, logins,
//! routing keys and bodies are in no label.
//!
//! # What they cost
//!
//! Channels count under locks that they take anyway, whether there are metrics or not. A task reads these counters once in a
//! second, and when the connection is closed, so that a publish or a delivery costs nothing more. [`sample`] reads them at
//! once, for example before the process ends.
//!
//! Tasks and typed publishes are seen by a [hook](crate::hook), which [`Connector::metrics`] adds: each of them costs what a
//! hook costs, and a look-up of the name of its queue or exchange.
//!
//! The task runs on the first arbiter of the `System`, or else on the runtime of the caller. It keeps no connection open,
//! and ends with it. Counters continue over reconnects, and those of connections that have ended stay in the sum of their
//! label, so they never go backwards.
//!
//! Install the recorder before the first connection. With one that comes later, the samples are told a second later, but
//! not the [descriptions](describe), nor the tasks and publishes of queues and exchanges that were used before.

use ::metrics::{Level, Metadata};

use crate::{Connection, Connector, Result, hook::Hook};

mod groups;
mod hook;
mod names;
#[cfg(any(feature = "sqlx", feature = "sqlx-postgres"))]
mod outbox;
mod sampler;

pub use self::names::{METRICS, Metric, MetricKind, describe};
#[cfg(any(feature = "sqlx", feature = "sqlx-postgres"))]
pub use self::outbox::watch_outbox;

static METADATA: Metadata<'static> = Metadata::new("actix_pika", Level::INFO, Some("actix_pika"));

/// Buckets for the histograms, in seconds: from 1 millisecond to 5 minutes.
///
/// # Examples
/// ```
/// // PrometheusBuilder::new().set_buckets(&BUCKETS)
/// assert_eq!(actix_pika::metrics::BUCKETS.len(), 14);
/// ```
pub const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0];

/// Returns a hook that reports tasks and typed publishes, for one consumer or one publisher whose connection was not
/// opened by [`Connector::metrics`], which sets it for all.
///
/// # Examples
/// ```no_run
/// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
/// use actix_pika::{metrics, tasks::Task};
///
/// let tasks = jobs.tasks::<String>().hook(metrics::hook());
/// let consumer = tasks.for_each(|job: Task<String>| async move { Ok(println!("{}", *job)) }).await?;
/// # Ok(()) }
/// ```
pub fn hook() -> impl Hook {
    hook::MetricsHook::default()
}

/// Reports a connection until it is closed. One that [`Connector::metrics`] has opened is reported already.
///
/// The connection is not kept open by it. See the [module](self).
///
/// # Errors
/// `Stopped` if there is neither a `System` nor a runtime to read it on.
///
/// **Over a reconnect**: its counters continue.
///
/// # Examples
/// ```no_run
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = actix_pika::connect_robust("amqp://guest:guest@localhost/?name=orders").await?;
/// actix_pika::metrics::watch(&connection)?;
/// # Ok(()) }
/// ```
pub fn watch(connection: &Connection) -> Result<()> {
    let (tally, state) = connection.watched();
    sampler::watch(tally, state)
}

/// Reads all connections that are reported now, and tells the recorder: before the process ends, or before a recorder is
/// asked for what it has.
///
/// # Examples
/// ```no_run
/// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
/// connection.close().await?;
/// actix_pika::metrics::sample();
/// # Ok(()) }
/// ```
pub fn sample() {
    sampler::sample();
}

impl Connector {
    /// Reports each connection that it opens, its tasks and its typed publishes, to the recorder of the [`metrics`](self) facade, from the first
    /// attempt on.
    ///
    /// [`watch`] does the same for an open connection. If there is neither a `System` nor a
    /// runtime to read the connection on, a warning is logged.
    ///
    /// **Over a reconnect**: the counters continue.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run() -> actix_pika::Result<()> {
    /// let connector = actix_pika::Connector::new("amqp://localhost")?.name("orders").metrics();
    /// let connection = connector.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn metrics(mut self) -> Self {
        self.watch = Some(sampler::watch);
        self.hook(hook())
    }
}
