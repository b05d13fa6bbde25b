//! What a shutdown is made of.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{Drain, ShutdownReport, run::NoFront};
use crate::Connection;

/// The longest time of a shutdown: ten years, so that the deadline cannot overflow.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Lists what runs in a process, and ends it in the order of the [module](super).
///
/// **Over a reconnect**: a connection that is down when it is closed is given up at once.
///
/// # Examples
/// ```no_run
/// # use actix_pika::{Connection, tasks::TaskConsumer};
/// # async fn run(mails: TaskConsumer, connection: Connection) -> std::io::Result<()> {
/// use std::time::Duration;
/// use actix_pika::shutdown::Shutdown;
///
/// let shutdown = Shutdown::within(Duration::from_secs(20)).consumer(mails).connection(connection);
/// let report = shutdown.on_signal().await?;
/// assert!(report.is_complete(), "{report}");
/// # Ok(()) }
/// ```
#[must_use = "nothing is shut down unless it is awaited"]
pub struct Shutdown {
    pub(super) within: Duration,
    pub(super) pause: Duration,
    pub(crate) consumers: Vec<Arc<dyn Drain>>,
    pub(crate) relays: Vec<Arc<dyn Drain>>,
    pub(crate) bridges: Vec<Arc<dyn Drain>>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) state: Arc<State>,
}

/// What a shutdown shares with its handles.
#[derive(Debug, Default)]
pub(crate) struct State {
    begun: watch::Sender<bool>,
    /// The HTTP requests, if they are counted.
    #[cfg(feature = "actix-web")]
    pub(crate) requests: std::sync::OnceLock<Arc<super::Requests>>,
}

impl State {
    pub(super) fn begin(&self) {
        self.begun.send_replace(true);
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.begun.borrow()
    }

    pub(super) async fn begun(&self) {
        // The sender is here.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }
}

/// Begins a shutdown without a signal, and tells whether one has begun.
///
/// # Examples
/// ```no_run
/// # async fn run(shutdown: actix_pika::shutdown::Shutdown, connection: actix_pika::Connection) {
/// // A connection that is closed for good ends the process.
/// let handle = shutdown.handle();
/// actix::spawn(async move {
///     let _ = connection.closed().await;
///     handle.begin();
/// });
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ShutdownHandle(Arc<State>);

impl ShutdownHandle {
    /// Begins the shutdown, as a signal does. Once it has begun, it changes nothing.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(handle: actix_pika::shutdown::ShutdownHandle) {
    /// handle.begin();
    /// # }
    /// ```
    pub fn begin(&self) {
        self.0.begin();
    }

    /// Returns whether the shutdown has begun.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(handle: actix_pika::shutdown::ShutdownHandle) -> u16 {
    /// if handle.is_draining() { 503 } else { 200 }
    /// # }
    /// ```
    pub fn is_draining(&self) -> bool {
        self.0.is_draining()
    }
}

impl Shutdown {
    /// Creates a shutdown that takes `limit` at most, its pause included. Process managers kill a process that takes longer
    /// than they allow: 30 seconds in Kubernetes, 90 in systemd, 10 in Docker, unless set.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika::shutdown::Shutdown;
    /// let shutdown = Shutdown::within(Duration::from_secs(25));
    /// ```
    pub fn within(limit: Duration) -> Self {
        Self {
            within: limit.min(LONGEST),
            pause: Duration::ZERO,
            consumers: Vec::new(),
            relays: Vec::new(),
            bridges: Vec::new(),
            connections: Vec::new(),
            state: Arc::default(),
        }
    }

    /// Sets how long everything goes on after the readiness route says that the process drains; zero unless set. Load
    /// balancers that ask every 5 seconds need a little more than that.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika::shutdown::Shutdown;
    /// let shutdown = Shutdown::within(Duration::from_secs(25)).pause(Duration::from_secs(6));
    /// ```
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Adds a supervised worker, which is drained first.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::prelude::*;
    /// # use actix_pika::{shutdown::Shutdown, worker::SupervisedWorker};
    /// # struct Mailer;
    /// # impl Actor for Mailer { type Context = Context<Self>; }
    /// # fn run(shutdown: Shutdown, mailer: SupervisedWorker<Mailer>) -> Shutdown {
    /// shutdown.worker(mailer)
    /// # }
    /// ```
    pub fn worker(self, worker: impl Drain) -> Self {
        self.consumer(worker)
    }

    /// Adds a consumer, an RPC server, or something else that takes work, which is drained first.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{rpc::RpcServer, shutdown::Shutdown, tasks::TaskConsumer};
    /// # fn run(shutdown: Shutdown, mails: TaskConsumer, sums: RpcServer) -> Shutdown {
    /// shutdown.consumer(mails).consumer(sums)
    /// # }
    /// ```
    pub fn consumer(mut self, consumer: impl Drain) -> Self {
        self.consumers.push(Arc::new(consumer));
        self
    }

    /// Adds a relay, which is drained after handlers and requests. The relay of an outbox awaits the confirms of what it has
    /// begun; what it has not stays in the table, for the next process.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::shutdown::{Drain, Shutdown};
    /// # fn run(shutdown: Shutdown, relay: impl Drain) -> Shutdown {
    /// shutdown.relay(relay)
    /// # }
    /// ```
    pub fn relay(mut self, relay: impl Drain) -> Self {
        self.relays.push(Arc::new(relay));
        self
    }

    /// Adds a bridge, which serves connections of the HTTP server: it is drained beside the relays.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::shutdown::{Drain, Shutdown};
    /// # fn run(shutdown: Shutdown, bridge: impl Drain) -> Shutdown {
    /// shutdown.bridge(bridge)
    /// # }
    /// ```
    pub fn bridge(mut self, bridge: impl Drain) -> Self {
        self.bridges.push(Arc::new(bridge));
        self
    }

    /// Adds a connection, which is closed last.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{Connection, shutdown::Shutdown};
    /// # fn run(shutdown: Shutdown, publishing: Connection, consuming: Connection) -> Shutdown {
    /// shutdown.connection(publishing).connection(consuming)
    /// # }
    /// ```
    pub fn connection(mut self, connection: Connection) -> Self {
        self.connections.push(connection);
        self
    }

    /// Returns how long it takes at most.
    #[cfg(feature = "actix-web")]
    pub(crate) fn limit(&self) -> Duration {
        self.within
    }

    /// Returns a handle that begins the shutdown.
    ///
    /// # Examples
    /// See [`ShutdownHandle`].
    pub fn handle(&self) -> ShutdownHandle {
        ShutdownHandle(self.state.clone())
    }

    /// Waits for SIGTERM, SIGINT (on Windows, Ctrl-C) or [`ShutdownHandle::begin`], and then shuts down. A second signal
    /// ends it at once.
    ///
    /// # Errors
    /// If the process cannot listen for signals.
    ///
    /// **Over a reconnect**: it goes on waiting.
    ///
    /// # Examples
    /// See [`Shutdown`].
    pub async fn on_signal(self) -> io::Result<ShutdownReport> {
        self.run(&mut NoFront).await
    }

    /// Shuts down now. It listens for no signals.
    ///
    /// **Over a reconnect**: see [`Shutdown`].
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::shutdown::Shutdown;
    /// # async fn run(shutdown: Shutdown) {
    /// let report = shutdown.now().await;
    /// println!("{report}");
    /// # }
    /// ```
    pub async fn now(self) -> ShutdownReport {
        self.shut_down(&mut NoFront, None, None).await
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shutdown")
            .field("within", &self.within)
            .field("pause", &self.pause)
            .field("is_draining", &self.state.is_draining())
            .finish_non_exhaustive()
    }
}
