//! Where the actors of a connection run: the first arbiter of the `System`, an arbiter of the application, or
//! a thread of the connection's own.

use std::sync::Arc;

use actix::Addr;
use actix_pika_actors::{ConnectionOptions, ConnectionState, ConnectionSupervisor, facade};
use actix_rt::{Arbiter, ArbiterHandle, System};
use tokio::sync::{oneshot, watch};

use crate::Result;

/// The supervisor of a connection, and the state and the counters of the connection.
pub(crate) type Launched =
    (Addr<ConnectionSupervisor>, watch::Receiver<ConnectionState>, Arc<facade::ConnectionTally>);

/// Where a connection runs.
#[derive(Clone, Debug, Default)]
pub(crate) enum Placement {
    /// On the first arbiter of the `System`; without a `System`, on a thread of its own.
    #[default]
    FirstArbiter,
    Arbiter(ArbiterHandle),
    OwnThread,
}

impl Placement {
    /// Starts a connection.
    ///
    /// # Errors
    /// `Stopped` if its thread cannot be started.
    pub(crate) async fn launch(&self, options: ConnectionOptions) -> Result<Launched> {
        let arbiter = match self {
            Self::FirstArbiter => first_arbiter(),
            Self::Arbiter(arbiter) => Some(arbiter.clone()),
            Self::OwnThread => None,
        };
        match arbiter {
            Some(arbiter) => Ok(facade::launch(options, Some(&arbiter))),
            None => launch_on_own_thread(options).await,
        }
    }
}

/// Returns the first arbiter of the `System` of the calling thread. Unlike that of the caller, it lives as
/// long as the `System`.
pub(crate) fn first_arbiter() -> Option<ArbiterHandle> {
    System::try_current().map(|system| system.arbiter().clone()).filter(is_alive)
}

/// Spawns a task of the library on the first arbiter of the `System`; without a `System`, on the calling runtime.
///
/// # Errors
/// `Stopped` if there is neither.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    if let Some(arbiter) = first_arbiter() {
        return arbiter.spawn(task).then_some(()).ok_or_else(|| facade::stopped("the System has ended"));
    }
    let runtime = tokio::runtime::Handle::try_current()
        .map_err(|_| facade::stopped("there is neither a System nor a runtime"))?;
    runtime.spawn(task);
    Ok(())
}

/// Returns the arbiter of the calling thread, if it has one.
pub(crate) fn here() -> Option<ArbiterHandle> {
    Arbiter::try_current().filter(is_alive)
}

/// An arbiter that has ended refuses to spawn. A thread keeps the arbiter of a `System` that has stopped.
fn is_alive(arbiter: &ArbiterHandle) -> bool {
    arbiter.spawn(async {})
}

/// Starts a thread that runs one connection, in a `System` of its own, and ends with its supervisor: when no
/// handle is left and the connection is closed.
async fn launch_on_own_thread(options: ConnectionOptions) -> Result<Launched> {
    let (sender, launched) = oneshot::channel();
    std::thread::Builder::new()
        .name("actix-pika".into())
        .spawn(move || {
            let runner = System::new();
            let launched = runner.block_on(async { facade::launch(options, None) });
            let mut ended = launched.1.clone();
            // If the caller gave up, nobody has a handle.
            if let Err((supervisor, ..)) = sender.send(launched) {
                supervisor.do_send(facade::ReleaseConnection);
            }
            runner.block_on(async { while ended.changed().await.is_ok() {} });
        })
        .map_err(|error| facade::stopped(format!("no thread for the connection: {error}")))?;
    launched.await.map_err(|_| facade::stopped("the thread of the connection ended at once"))
}
