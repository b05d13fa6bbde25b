//! The actor of a relay, and its supervisor.

use std::sync::{Arc, PoisonError, atomic::Ordering};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, fut};
use actix_pika_actors::facade::WorkerBackoff;
use futures_util::future::pending;
use tokio::time::{Instant, timeout};

use super::{RelayEvent, relay::Shared, runner::Runner};
use crate::worker::live;

/// The actor of an [`OutboxRelay`](super::OutboxRelay). It takes [`Wake`].
///
/// # Examples
/// See [`OutboxRelay::addr`](super::OutboxRelay::addr).
pub struct RelayActor {
    shared: Arc<Shared>,
}

/// Tells a relay that something was written to its table, by another process. It looks after 5 milliseconds.
///
/// # Examples
/// See [`OutboxRelay::addr`](super::OutboxRelay::addr).
#[derive(Clone, Copy, Debug)]
pub struct Wake;

impl Message for Wake {
    type Result = ();
}

impl Actor for RelayActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let runner = Runner::new(self.shared.clone()).run();
        ctx.spawn(fut::wrap_future(runner).map(|(), _: &mut Self, ctx: &mut Self::Context| ctx.stop()));
    }
}

impl Handler<Wake> for RelayActor {
    type Result = ();

    fn handle(&mut self, _: Wake, _: &mut Self::Context) {
        self.shared.wakes.send_replace(());
    }
}

impl std::fmt::Debug for RelayActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayActor").finish_non_exhaustive()
    }
}

/// Tells callers and watchers that the relay has ended, also if its arbiter has.
pub(super) struct End(pub(super) Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        *self.0.addr.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.report.send_if_modified(|report| {
            let is_missing = report.is_none();
            report.get_or_insert_default();
            is_missing
        });
        self.0.end(RelayEvent::Ended(None));
    }
}

/// Runs the actor of a relay, and builds it again after a panic.
pub(super) async fn supervise(end: End) {
    let shared = end.0.clone();
    let mut backoff = WorkerBackoff::new(Instant::now());
    loop {
        let context = Context::new();
        *shared.addr.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.address());
        backoff.worker_built(Instant::now());
        live(context, RelayActor { shared: shared.clone() }, pending()).await;
        *shared.addr.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if shared.report.borrow().is_some() || shared.drain.borrow().is_some() {
            return;
        }
        shared.counts.failures.fetch_add(1, Ordering::Relaxed);
        let next_in = backoff.worker_stopped(Instant::now(), fastrand::f64());
        log::error!("an outbox relay has panicked, the next one starts in {next_in:?}");
        shared.tell(&RelayEvent::Panicked { next_in });
        let mut drain = shared.drain.subscribe();
        if timeout(next_in, drain.wait_for(Option::is_some)).await.is_ok() {
            return;
        }
    }
}
