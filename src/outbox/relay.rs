//! The builder and the handle of a relay.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Addr, Recipient};
use actix_pika_actors::facade::{self, Watchers};
use actix_rt::{ArbiterHandle, System};
use futures_util::future::BoxFuture;
use tokio::{sync::watch, time::Instant};

use super::{
    Lag, RelayEvent,
    actor::{End, RelayActor, supervise},
    store::{self, Holder},
};
use crate::{
    Connection, Result,
    database::{AnyPool, Names},
    runtime,
    shutdown::Drain,
    tasks::DrainReport,
};

/// When a drain gives up what is under way, and when it has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainBy {
    pub(super) cut: Instant,
    pub(super) end: Instant,
}

/// What a relay, its actor and its handles share.
pub(super) struct Shared {
    pub(super) pool: AnyPool,
    pub(super) names: Names,
    pub(super) connection: Connection,
    pub(super) holder: Holder,
    pub(super) poll: Duration,
    pub(super) batch: usize,
    /// Changes when something is written.
    pub(super) wakes: Arc<watch::Sender<()>>,
    pub(super) drain: watch::Sender<Option<DrainBy>>,
    /// Set when the relay has ended.
    pub(super) report: watch::Sender<Option<DrainReport>>,
    pub(super) addr: Mutex<Option<Addr<RelayActor>>>,
    pub(super) watchers: Mutex<Watchers<RelayEvent>>,
    pub(super) counts: Counts,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) published: AtomicU64,
    pub(super) parked: AtomicU64,
    pub(super) retried: AtomicU64,
    pub(super) failures: AtomicU64,
}

/// What a relay has done since it was started: [`OutboxRelay::counters`] returns it.
///
/// # Examples
/// ```no_run
/// # fn run(relay: actix_pika::outbox::OutboxRelay) {
/// let counters = relay.counters();
/// println!("{} published, {} parked", counters.published, counters.parked);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RelayCounters {
    /// Messages that the broker has confirmed.
    pub published: u64,
    /// Messages that were parked.
    pub parked: u64,
    /// Refusals of messages that are tried again.
    pub retried: u64,
    /// Failures of the database.
    pub database_failures: u64,
}

impl Shared {
    pub(super) fn tell(&self, event: &RelayEvent) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).notify(event);
    }

    pub(super) fn end(&self, event: RelayEvent) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).close(event);
    }
}

/// Builds an [`OutboxRelay`]. [`Outbox::relay`](super::Outbox::relay) returns it.
///
/// # Examples
/// See [`OutboxRelay`].
#[must_use = "a builder does nothing until it is started"]
pub struct RelayBuilder {
    pool: AnyPool,
    names: Names,
    connection: Connection,
    wakes: Arc<watch::Sender<()>>,
    lease: Duration,
    poll: Duration,
    batch: usize,
    arbiter: Option<ArbiterHandle>,
    watchers: Watchers<RelayEvent>,
}

impl RelayBuilder {
    pub(super) fn new(
        pool: AnyPool,
        names: Names,
        connection: Connection,
        wakes: Arc<watch::Sender<()>>,
    ) -> Self {
        Self {
            pool,
            names,
            connection,
            wakes,
            lease: Duration::from_secs(10),
            poll: Duration::from_millis(500),
            batch: 200,
            arbiter: None,
            watchers: Watchers::new("outbox relay"),
        }
    }

    /// Sets how long the lease lasts without being renewed; 10 seconds unless set, one second at least. So long, other
    /// relays wait after this one was killed. All relays of an outbox should have the same.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>, connection: actix_pika::Connection) {
    /// let relay = outbox.relay(&connection).lease(std::time::Duration::from_secs(30));
    /// # }
    /// ```
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.clamp(Duration::from_secs(1), Duration::from_secs(86_400));
        self
    }

    /// Sets how often the relay looks for what other processes have written; every 500 milliseconds unless set, 10 at
    /// least. It need not wait for what this process writes.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>, connection: actix_pika::Connection) {
    /// let relay = outbox.relay(&connection).poll(std::time::Duration::from_millis(100));
    /// # }
    /// ```
    pub fn poll(mut self, every: Duration) -> Self {
        self.poll = every.clamp(Duration::from_millis(10), Duration::from_secs(3_600));
        self
    }

    /// Sets how many rows are read, and published side by side, at most; 200 unless set, 1,000 at most. Together they have
    /// 16 MiB; a larger one is read alone.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>, connection: actix_pika::Connection) {
    /// let relay = outbox.relay(&connection).batch(50);
    /// # }
    /// ```
    pub fn batch(mut self, rows: usize) -> Self {
        self.batch = rows.clamp(1, 1_000);
        self
    }

    /// Sets the arbiter that the relay runs on; the first one of the `System` unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>, connection: actix_pika::Connection) {
    /// let relay = outbox.relay(&connection).arbiter(actix::Arbiter::new().handle());
    /// # }
    /// ```
    pub fn arbiter(mut self, arbiter: ArbiterHandle) -> Self {
        self.arbiter = Some(arbiter);
        self
    }

    /// Sends the events of the relay to an actor, from the first one on.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "sqlx")]
    /// # fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>, connection: actix_pika::Connection, alarm: actix::Recipient<actix_pika::outbox::RelayEvent>) {
    /// let relay = outbox.relay(&connection).watch(alarm);
    /// # }
    /// ```
    pub fn watch(mut self, watcher: impl Into<Recipient<RelayEvent>>) -> Self {
        self.watchers.add_recipient(watcher.into());
        self
    }

    /// Starts the relay.
    ///
    /// It does not wait for the lease, or for the connection to the broker.
    ///
    /// # Errors
    /// `Database`, such as without the tables; `Refused` without a code if there is no arbiter (as under
    /// `#[tokio::main]`); `Stopped` if its arbiter has ended.
    ///
    /// # Examples
    /// See [`OutboxRelay`].
    pub async fn start(self) -> Result<OutboxRelay> {
        let first = || System::is_registered().then(runtime::first_arbiter).flatten();
        let Some(arbiter) = self.arbiter.or_else(first) else {
            return Err(facade::refused("a relay runs on an arbiter, and there is none here"));
        };
        store::check(&self.pool, &self.names).await?;
        let shared = Arc::new(Shared {
            pool: self.pool,
            names: self.names,
            connection: self.connection,
            holder: Holder { name: holder(), lease: self.lease },
            poll: self.poll,
            batch: self.batch,
            wakes: self.wakes,
            drain: watch::Sender::new(None),
            report: watch::Sender::new(None),
            addr: Mutex::new(None),
            watchers: Mutex::new(self.watchers),
            counts: Counts::default(),
        });
        // Also if the arbiter ends before it has begun.
        let end = End(shared.clone());
        let is_spawned = arbiter.spawn_fn(move || drop(actix_rt::spawn(supervise(end))));
        if is_spawned { Ok(OutboxRelay(shared)) } else { Err(facade::stopped("the arbiter has ended")) }
    }
}

/// Returns a name that no other relay has: that of the process, for those who read the table, and random digits.
fn holder() -> String {
    format!("{}-{:032x}", std::process::id(), fastrand::u128(..))
}

/// Handle of a relay, which publishes what an [`Outbox`](super::Outbox) has. See the [module](super#the-relay).
///
/// Dropping the handle ends nothing. Clones are the same relay.
///
/// **Over a reconnect**: the relay goes on; what is not confirmed is resent.
///
/// # Examples
/// ```no_run
/// # #[cfg(feature = "sqlx")]
/// # async fn run(outbox: actix_pika::outbox::Outbox<sqlx::Sqlite>, connection: actix_pika::Connection) -> actix_pika::Result<()> {
/// use std::time::Duration;
///
/// let relay = outbox.relay(&connection).start().await?;
/// // ... until the process has to end:
/// let report = relay.drain(Duration::from_secs(5)).await;
/// println!("{} are unconfirmed, and are published again", report.abandoned);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct OutboxRelay(Arc<Shared>);

impl OutboxRelay {
    /// Returns the address of the actor, or `None` while there is none: after a panic, until the next one is built, and
    /// after the end. It takes [`Wake`](super::Wake).
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(relay: actix_pika::outbox::OutboxRelay) {
    /// use actix_pika::outbox::Wake;
    ///
    /// if let Some(relay) = relay.addr() {
    ///     relay.do_send(Wake); // another process says that it has written
    /// }
    /// # }
    /// ```
    pub fn addr(&self) -> Option<Addr<RelayActor>> {
        self.0.addr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends the events of the relay to an actor, from now on. After the last one, it gets
    /// [`Ended`](RelayEvent::Ended) only. [`RelayBuilder::watch`] misses none.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(relay: actix_pika::outbox::OutboxRelay, alarm: actix::Recipient<actix_pika::outbox::RelayEvent>) {
    /// relay.watch(alarm);
    /// # }
    /// ```
    pub fn watch(&self, watcher: impl Into<Recipient<RelayEvent>>) {
        self.0.watchers.lock().unwrap_or_else(PoisonError::into_inner).add_recipient(watcher.into());
    }

    /// Returns how much is to be published, by this relay or another one.
    ///
    /// # Errors
    /// `Database`.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(relay: actix_pika::outbox::OutboxRelay) -> actix_pika::Result<()> {
    /// let lag = relay.lag().await?;
    /// println!("{} wait, the oldest for {:?}", lag.waiting, lag.oldest);
    /// # Ok(()) }
    /// ```
    pub async fn lag(&self) -> Result<Lag> {
        store::lag(&self.0.pool, &self.0.names).await
    }

    /// Returns what this relay has done.
    ///
    /// # Examples
    /// See [`RelayCounters`].
    pub fn counters(&self) -> RelayCounters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.0.counts;
        RelayCounters {
            published: read(&counts.published),
            parked: read(&counts.parked),
            retried: read(&counts.retried),
            database_failures: read(&counts.failures),
        }
    }

    /// Returns whether the relay has not ended, and is not being drained.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(relay: actix_pika::outbox::OutboxRelay) {
    /// assert!(relay.is_running());
    /// # }
    /// ```
    pub fn is_running(&self) -> bool {
        self.0.drain.borrow().is_none() && self.0.report.borrow().is_none()
    }

    /// Publishes nothing more, waits up to `limit` for the confirms of what is under way, deletes what was confirmed,
    /// and ends the lease, so that another relay goes on at once. The rest stays in the table.
    ///
    /// In the report, `finished` counts messages that were confirmed meanwhile, `abandoned` those that were not, and are
    /// published again, and `given_back` those that were read and not published. Draining again returns the same report; the
    /// earliest limit counts.
    ///
    /// # Examples
    /// See [`OutboxRelay`].
    pub async fn drain(&self, limit: Duration) -> DrainReport {
        self.drain_within(limit);
        // An error is the end of the arbiter.
        let report = self.0.report.subscribe().wait_for(Option::is_some).await.map(|report| *report);
        report.ok().flatten().unwrap_or_default()
    }

    fn drain_within(&self, limit: Duration) {
        // Capped, so that the deadline cannot overflow.
        let limit = limit.min(Duration::from_secs(10 * 365 * 86_400));
        // What was confirmed is still to be deleted.
        let reserve = (limit / 5).min(Duration::from_millis(500));
        let end = Instant::now() + limit;
        self.0.drain.send_if_modified(|known| {
            let is_earlier = known.is_none_or(|known| end < known.end);
            if is_earlier {
                *known = Some(DrainBy { cut: end - reserve, end });
            }
            is_earlier
        });
    }
}

impl Drain for OutboxRelay {
    fn name(&self) -> String {
        format!("{}outbox", self.0.names.prefix())
    }

    fn stop(&self) {
        self.drain_within(Duration::MAX);
    }

    fn drain(&self, limit: Duration) -> BoxFuture<'static, DrainReport> {
        let relay = self.clone();
        Box::pin(async move { relay.drain(limit).await })
    }

    fn is_running(&self) -> bool {
        OutboxRelay::is_running(self)
    }
}

impl fmt::Debug for OutboxRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxRelay").field("is_running", &self.is_running()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RelayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayBuilder")
            .field("lease", &self.lease)
            .field("poll", &self.poll)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}
