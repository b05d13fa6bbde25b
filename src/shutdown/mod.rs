//! The end of a process: work stops and is waited for in the right order, under one deadline, with a report.
//!
//! A process that exits flushes nothing, and a `System` that stops ends its actors at once. [`Shutdown`] lists what
//! runs, waits for SIGTERM or SIGINT, and ends it:
//!
//! ```no_run
//! # use actix::prelude::*;
//! # use actix_pika::{Connection, worker::SupervisedWorker};
//! # struct Mailer;
//! # impl Actor for Mailer { type Context = Context<Self>; }
//! # async fn run(connection: Connection, mailer: SupervisedWorker<Mailer>) -> std::io::Result<()> {
//! use std::time::Duration;
//! use actix_pika::shutdown::Shutdown;
//!
//! let shutdown = Shutdown::within(Duration::from_secs(20)).worker(mailer).connection(connection);
//! let report = shutdown.on_signal().await?;
//! println!("{report}");
//! # Ok(()) }
//! ```
//!
//! With an HTTP server, `actix_web::serve` takes the place of [`Shutdown::on_signal`].
//!
//! # The order
//!
//! | | what happens | its time |
//! |---|---|---|
//! | 1 | the readiness route says that the process drains; everything else goes on, so that load balancers stop to send requests | [`Shutdown::pause`], none unless set |
//! | 2 | [consumers and workers](Shutdown::consumer) begin no more tasks, and what they have not begun returns to its queue; [bridges](Shutdown::bridge) stop, which ends the requests that read from them; the HTTP server accepts no more connections. Handlers and requests that run go on: both may still publish | what is left, without the reserve |
//! | 3 | [relays](Shutdown::relay) and [bridges](Shutdown::bridge) finish what they have begun, and end | what is left, without the reserve |
//! | 4 | [connections](Shutdown::connection) await the confirms of their publishes, and close | what is left; at least 250 milliseconds |
//!
//! All steps have one deadline. A tenth of the time is a reserve for step 4 (at least half a second, at most 3 seconds and half of
//! the time), so that a handler that is stuck does not cost the confirms of the others. At the limit of step 2, messages of
//! tasks that still run return to their queues, futures of closures are dropped, and requests are cut off. Nothing is waited for
//! that has not reported by the middle of the reserve: its thread is blocked.
//!
//! # Signals
//!
//! SIGTERM and SIGINT begin a shutdown alike; on Windows, Ctrl-C does. A second signal ends it at once: what is not done is cut off,
//! and connections have 250 milliseconds. What the signals did before is replaced for the rest of the process, so leave `main` after
//! the report. They are handled by the runtime of the caller; a handler that blocks its thread keeps them waiting, too.
//!
//! **Over a reconnect**: a connection that is down when it is closed is given up at once, and its unconfirmed publishes with it;
//! the report has their number.
//!
//! Source: <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>

#[cfg(feature = "actix-web")]
pub(crate) use self::{
    builder::State,
    requests::{InFlight, Requests},
    run::{Front, name_of},
};
pub use self::{
    builder::{Shutdown, ShutdownHandle},
    drain::Drain,
    report::{ClosedConnection, Drained, RequestReport, ShutdownReport},
    signals::StopSignal,
};

mod builder;
mod drain;
mod machine;
mod report;
#[cfg(feature = "actix-web")]
mod requests;
mod run;
mod signals;
