//! Runs a shutdown: what the machine says, with time-outs around what might never end.

use std::{
    future::{Future, poll_fn},
    io,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use actix_pika_actors::facade;
use futures_util::{
    FutureExt,
    future::{Either, join, join_all, select},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    ClosedConnection, Drain, Drained, Shutdown, ShutdownReport, StopSignal,
    machine::{Limit, Machine, Step},
    report::RequestReport,
    signals::Signals,
};
use crate::{Connection, caught::caught, message::CloseConnection, tasks::DrainReport};

/// What is drained beside the consumers: the HTTP server.
pub(crate) trait Front {
    /// Returns when it has ended by itself.
    async fn ended(&mut self);

    /// Stops it, waits up to `limit` for its requests, and ends those that are left.
    async fn drain(&mut self, limit: Duration);

    /// Returns what became of its requests, if they are counted.
    fn report(&self) -> Option<RequestReport>;
}

/// A process without an HTTP server.
pub(super) struct NoFront;

impl Front for NoFront {
    async fn ended(&mut self) {
        std::future::pending().await
    }

    async fn drain(&mut self, _: Duration) {}

    fn report(&self) -> Option<RequestReport> {
        None
    }
}

impl Shutdown {
    /// Waits for a signal, for [`begin`](super::ShutdownHandle::begin), or for the end of the front; then shuts down.
    pub(crate) async fn run(self, front: &mut impl Front) -> io::Result<ShutdownReport> {
        let mut signals = Signals::listen()?;
        let signal = {
            let begun = pin!(self.state.begun());
            let ended = pin!(front.ended());
            let asked = select(begun, ended);
            match select(pin!(next(&mut signals)), asked).await {
                Either::Left((signal, _)) => Some(signal),
                Either::Right(_) => None,
            }
        };
        Ok(self.shut_down(front, signal, Some(signals)).await)
    }

    /// Shuts down. A signal that comes meanwhile ends it at once.
    pub(super) async fn shut_down(
        self,
        front: &mut impl Front,
        signal: Option<StopSignal>,
        mut signals: Option<Signals>,
    ) -> ShutdownReport {
        let start = Instant::now();
        self.state.begin();
        self.connections.iter().for_each(Connection::note_draining);
        match signal {
            Some(signal) => log::info!("shutdown: {signal}, within {:?}", self.within),
            None => log::info!("shutdown: within {:?}", self.within),
        }
        let mut machine = Machine::begin(self.within, self.pause, start);
        let mut report = ShutdownReport { signal, ..ShutdownReport::default() };
        loop {
            let step = machine.step(Instant::now());
            log::debug!("shutdown: {step:?}");
            if step == Step::Done {
                break;
            }
            let again = async {
                match &mut signals {
                    Some(signals) if !machine.is_forced() => next(signals).await,
                    _ => std::future::pending().await,
                }
            };
            let ended = pin!(self.take(step, front, &mut report));
            let is_forced = matches!(select(ended, pin!(again)).await, Either::Right(_));
            let now = Instant::now();
            match is_forced {
                true => {
                    log::warn!("shutdown: a second signal, what is not done is cut off");
                    machine.force(now);
                }
                false => machine.ended(now),
            }
        }
        (report.is_forced, report.deadline_passed) = (machine.is_forced(), machine.is_late());
        (report.requests, report.took) = (front.report(), start.elapsed());
        match report.is_complete() {
            true => log::info!("{report}"),
            false => log::warn!("{report}"),
        }
        report
    }

    /// Takes a step. It may be dropped, and taken again with less time.
    async fn take(&self, step: Step, front: &mut impl Front, report: &mut ShutdownReport) {
        match step {
            Step::Pause(limit) => sleep(limit).await,
            Step::Drain(limit) => {
                // A request that reads from a bridge ends with it.
                for one in self.consumers.iter().chain(&self.bridges) {
                    caught(|| one.stop());
                }
                let consumers = drain(&self.consumers, limit);
                let requests = timeout(limit.give_up, front.drain(limit.end));
                (report.consumers, _) = join(consumers, requests).await;
            }
            Step::Relays(limit) => {
                let (relays, bridges) = (drain(&self.relays, limit), drain(&self.bridges, limit));
                (report.relays, report.bridges) = join(relays, bridges).await;
            }
            Step::Close(limit) => {
                let closes =
                    self.connections.iter().enumerate().map(|(number, one)| close(number, one, limit));
                report.connections = join_all(closes).await;
            }
            Step::Done => {}
        }
    }
}

async fn next(signals: &mut Signals) -> StopSignal {
    poll_fn(|cx| signals.poll_next(cx)).await
}

async fn drain(all: &[Arc<dyn Drain>], limit: Limit) -> Vec<Drained> {
    join_all(all.iter().map(|one| drain_one(&**one, limit))).await
}

async fn drain_one(one: &dyn Drain, limit: Limit) -> Drained {
    // Both may be code of the user.
    let name = caught(|| one.name()).unwrap_or_default();
    let report = match caught(|| one.drain(limit.end)) {
        Some(drained) => reported(drained, limit.give_up).await,
        None => None,
    };
    if report.is_none() {
        log::warn!("shutdown: {name:?} does not report what it has done");
    }
    Drained { name, report: report.unwrap_or_default(), has_reported: report.is_some() }
}

async fn reported(drained: impl Future<Output = DrainReport>, give_up: Duration) -> Option<DrainReport> {
    timeout(give_up, AssertUnwindSafe(drained).catch_unwind()).await.ok()?.ok()
}

async fn close(number: usize, connection: &Connection, limit: Limit) -> ClosedConnection {
    let close = connection.close_with(CloseConnection::new().within(limit.end));
    let result = timeout(limit.give_up, close).await;
    let result =
        result.unwrap_or_else(|_| Err(facade::timed_out("the arbiter of the connection is blocked")));
    ClosedConnection {
        name: name_of(number, connection),
        unconfirmed: result.as_ref().err().map_or(0, |error| error.abandoned_publishes()),
        result,
    }
}

/// Returns the name of a connection, or its number.
pub(crate) fn name_of(number: usize, connection: &Connection) -> String {
    connection.name().map_or_else(|| number.to_string(), str::to_owned)
}
