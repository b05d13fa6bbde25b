//! What a relay does when: the lease, the batch, looks at the table, pauses, the end. A plain machine.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{
    RelayEvent,
    batch::{Batch, Head, Verdict},
    looks::Looks,
    row::{HeldRow, Hold},
};
use crate::{Error, tasks::DrainReport};

/// How long a batch begins with rows, so that a lane with many of them does not keep the others waiting.
const BATCH_TIME: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What happens.
#[derive(Debug)]
pub(super) enum Input {
    Started,
    /// The lease was taken or renewed, and has this fence; `None` if somebody else has it.
    Leased(Option<i64>),
    Fetched(Vec<Head>),
    Published(i64, Verdict, Option<Error>),
    /// False if somebody else has the lease.
    Settled(bool),
    Released,
    DatabaseFailed(Error),
    /// No channel can be opened.
    BrokerFailed(Error),
    /// The connection has ended for good.
    ConnectionClosed(Error),
    /// Something was written to the table, and will be committed.
    Woken,
    Timer,
    /// The relay has to end: what is under way is awaited until `cut`, and all is done by `end`.
    Drain {
        cut: Instant,
        end: Instant,
    },
}

/// What is to be done. Of those that ask the database, one at a time.
#[derive(Debug)]
pub(super) enum Output {
    Lease,
    Fetch,
    Settle { fence: i64, published: Vec<i64>, held: Vec<HeldRow> },
    Release { fence: i64 },
    Publish(i64),
    Tell(RelayEvent),
    Finish,
}

/// What the database is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Lease,
    Fetch,
    Settle,
    Release,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    fence: i64,
    /// When it was asked for: it lasts from then on at least.
    since: Instant,
}

#[derive(Debug)]
enum Phase {
    Running,
    Draining {
        cut: Instant,
        end: Instant,
    },
    /// The connection has ended. What was published is deleted, and then the relay ends.
    Closing(Error),
    Ended,
}

#[derive(Debug)]
struct Running {
    batch: Batch,
    fence: i64,
    begins_until: Instant,
}

#[derive(Debug)]
pub(super) struct Machine {
    phase: Phase,
    lease_time: Duration,
    lease: Option<Lease>,
    batch: Option<Running>,
    asked: Option<(Asked, Instant)>,
    looks: Looks,
    database: Pauses,
    broker: Pauses,
    report: DrainReport,
    /// The message ids and lanes of the rows of the batch, for events.
    names: HashMap<i64, (String, Option<String>)>,
}

impl Machine {
    pub(super) fn new(lease: Duration, poll: Duration, now: Instant) -> Self {
        Self {
            phase: Phase::Running,
            lease_time: lease,
            lease: None,
            batch: None,
            asked: None,
            looks: Looks::new(poll, now),
            database: Pauses::default(),
            broker: Pauses::default(),
            report: DrainReport::default(),
            names: HashMap::new(),
        }
    }

    /// Returns what to do, in order. `random` is between 0 and 1.
    #[must_use]
    pub(super) fn step(&mut self, input: Input, now: Instant, random: f64) -> Vec<Output> {
        let mut outputs = Vec::new();
        if matches!(self.phase, Phase::Ended) {
            return outputs;
        }
        self.note(input, now, random, &mut outputs);
        self.go_on(now, &mut outputs);
        outputs
    }

    /// Returns what the drain has done.
    pub(super) fn report(&self) -> DrainReport {
        self.report
    }

    fn note(&mut self, input: Input, now: Instant, random: f64, outputs: &mut Vec<Output>) {
        match input {
            Input::Started | Input::Timer => {}
            Input::Woken => self.looks.woken(now),
            Input::Leased(fence) => self.leased(fence, now, outputs),
            Input::Fetched(heads) => {
                self.answered();
                self.fetched(heads, now);
            }
            Input::Published(id, verdict, error) => self.published(id, verdict, error, now, random, outputs),
            Input::Settled(true) => self.settled(now, outputs),
            Input::Settled(false) => {
                self.answered();
                self.batch = None;
                self.lose_lease(outputs);
            }
            Input::Released => {
                self.answered();
                self.lease = None;
            }
            Input::DatabaseFailed(error) => {
                let asked = self.asked.take();
                let next_in = self.database.failed(now, random);
                outputs.push(Output::Tell(RelayEvent::DatabaseFailed { error, next_in }));
                if matches!(asked, Some((Asked::Release, _))) {
                    // It runs out by itself.
                    self.lease = None;
                }
            }
            Input::BrokerFailed(error) => {
                self.asked = None;
                let next_in = self.broker.failed(now, random);
                outputs.push(Output::Tell(RelayEvent::BrokerFailed { error, next_in }));
            }
            Input::ConnectionClosed(error) => {
                if matches!(self.asked, Some((Asked::Fetch, _))) {
                    self.asked = None;
                }
                if matches!(self.phase, Phase::Running) {
                    self.phase = Phase::Closing(error);
                }
            }
            Input::Drain { cut, end } => self.phase = Phase::Draining { cut, end },
        }
        if !matches!(self.phase, Phase::Running)
            && let Some(running) = &mut self.batch
        {
            running.batch.stop();
        }
    }

    /// Returns when the question was asked that is answered now.
    fn answered(&mut self) -> Option<Instant> {
        self.database.succeeded();
        self.asked.take().map(|(_, at)| at)
    }

    fn leased(&mut self, fence: Option<i64>, now: Instant, outputs: &mut Vec<Output>) {
        let since = self.answered().unwrap_or(now);
        let had = self.lease.map(|lease| lease.fence);
        let Some(fence) = fence else {
            self.looks.nothing_found(now);
            return self.lose_lease(outputs);
        };
        if had.is_some_and(|had| had != fence) {
            // Another relay had it in between.
            self.lose_lease(outputs);
        }
        if self.lease.is_none() {
            outputs.push(Output::Tell(RelayEvent::LeaseTaken { fence }));
            self.looks.at_once(now);
        }
        self.lease = Some(Lease { fence, since });
    }

    fn lose_lease(&mut self, outputs: &mut Vec<Output>) {
        if self.lease.take().is_some() {
            outputs.push(Output::Tell(RelayEvent::LeaseLost));
        }
        if let Some(running) = &mut self.batch {
            running.batch.stop();
        }
    }

    fn fetched(&mut self, heads: Vec<Head>, now: Instant) {
        let Some(Lease { fence, .. }) = self.lease else { return };
        if heads.is_empty() {
            return self.looks.nothing_found(now);
        }
        self.looks.at_once(now);
        self.names =
            heads.iter().map(|head| (head.id, (head.message_id.clone(), head.lane.clone()))).collect();
        self.batch = Some(Running { batch: Batch::new(heads), fence, begins_until: now + BATCH_TIME });
    }

    fn published(
        &mut self,
        id: i64,
        verdict: Verdict,
        error: Option<Error>,
        now: Instant,
        random: f64,
        outputs: &mut Vec<Output>,
    ) {
        let Some(running) = &mut self.batch else { return };
        match &verdict {
            Verdict::Published if matches!(self.phase, Phase::Draining { .. }) => self.report.finished += 1,
            Verdict::Published => self.broker.succeeded(),
            Verdict::Unavailable => {
                if !self.broker.is_pausing(now)
                    && let Some(error) = error
                {
                    let next_in = self.broker.failed(now, random);
                    outputs.push(Output::Tell(RelayEvent::BrokerFailed { error, next_in }));
                }
            }
            Verdict::Refused(_) | Verdict::NotNow(_) => {}
        }
        running.batch.end(id, verdict);
    }

    fn settled(&mut self, now: Instant, outputs: &mut Vec<Output>) {
        let since = self.answered().unwrap_or(now);
        if let Some(lease) = &mut self.lease {
            lease.since = since;
        }
        let Some(running) = self.batch.take() else { return };
        for row in running.batch.held().iter().filter(|row| row.hold == Hold::Parked) {
            let (message_id, lane) = self.names.get(&row.id).cloned().unwrap_or_default();
            let reason = row.reason.clone();
            outputs.push(Output::Tell(RelayEvent::Parked { message_id, lane, reason }));
        }
        self.looks.at_once(now);
    }

    fn go_on(&mut self, now: Instant, outputs: &mut Vec<Output>) {
        if let Phase::Draining { cut, end } = self.phase {
            if now >= end {
                return self.finish(outputs);
            }
            if now >= cut
                && let Some(running) = &mut self.batch
            {
                self.report.abandoned += running.batch.cut();
            }
        }
        if let Some(running) = &mut self.batch {
            let may_begin = now < running.begins_until
                && self.lease.is_some_and(|lease| {
                    // A margin for the time until the broker has it.
                    lease.fence == running.fence && now < lease.since + self.lease_time * 4 / 5
                });
            if may_begin {
                outputs.extend(std::iter::from_fn(|| running.batch.begin()).map(Output::Publish));
            } else if now >= running.begins_until {
                running.batch.stop();
            }
        }
        if self.asked.is_none() {
            self.ask(now, outputs);
        }
    }

    fn ask(&mut self, now: Instant, outputs: &mut Vec<Output>) {
        let (asked, output) = match self.next_question(now) {
            Some(next) => next,
            None if matches!(self.phase, Phase::Running) || self.batch.is_some() => return,
            None => return self.finish(outputs),
        };
        self.asked = Some((asked, now));
        outputs.push(output);
    }

    fn next_question(&mut self, now: Instant) -> Option<(Asked, Output)> {
        let is_pausing = self.database.is_pausing(now);
        if let Some(running) = &self.batch {
            let has_fence = self.lease.is_some_and(|lease| lease.fence == running.fence);
            let has_outcomes = !(running.batch.published().is_empty() && running.batch.held().is_empty());
            if !running.batch.is_over() {
                let renews = !is_pausing && self.renews(now, self.lease_time / 3);
                return renews.then_some((Asked::Lease, Output::Lease));
            }
            if has_fence && has_outcomes {
                let (published, held) = (running.batch.published().to_vec(), running.batch.held().to_vec());
                let settle = Output::Settle { fence: running.fence, published, held };
                return (!is_pausing).then_some((Asked::Settle, settle));
            }
            if matches!(self.phase, Phase::Draining { .. }) {
                self.report.given_back += running.batch.left();
            }
            self.batch = None;
        }
        match (&self.phase, self.lease) {
            (Phase::Running, _) if is_pausing => None,
            (Phase::Running, None) => self.looks.is_due(now).then_some((Asked::Lease, Output::Lease)),
            (Phase::Running, Some(_)) if self.renews(now, self.lease_time / 2) => {
                Some((Asked::Lease, Output::Lease))
            }
            (Phase::Running, Some(_)) => (self.looks.is_due(now) && !self.broker.is_pausing(now))
                .then_some((Asked::Fetch, Output::Fetch)),
            // It need not wait for a pause: without it, the lease runs out.
            (_, Some(Lease { fence, .. })) => Some((Asked::Release, Output::Release { fence })),
            (_, None) => None,
        }
    }

    /// Returns whether the lease is so old.
    fn renews(&self, now: Instant, age: Duration) -> bool {
        self.lease.is_some_and(|lease| now >= lease.since + age)
    }

    fn finish(&mut self, outputs: &mut Vec<Output>) {
        if let Some(mut running) = self.batch.take() {
            self.report.abandoned += running.batch.cut();
            self.report.given_back += running.batch.left();
        }
        let error = match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Closing(error) => Some(error),
            _ => None,
        };
        outputs.extend([Output::Tell(RelayEvent::Ended(error)), Output::Finish]);
    }

    /// Returns when something is due, if nothing happens before.
    pub(super) fn timer(&self, now: Instant) -> Option<Instant> {
        let drain = match &self.phase {
            Phase::Draining { cut, end } => Some(if now < *cut { *cut } else { *end }),
            _ => None,
        };
        let begins_until = self.batch.as_ref().map(|running| running.begins_until).filter(|at| *at > now);
        let ask = match (&self.asked, self.database.until(now)) {
            (Some(_), _) => None,
            (None, Some(until)) => Some(until),
            (None, None) => match (&self.batch, self.lease) {
                (Some(_), lease) => lease.map(|lease| lease.since + self.lease_time / 3),
                (None, None) => Some(self.looks.next()),
                (None, Some(lease)) => {
                    let look = self.looks.next().max(self.broker.until(now).unwrap_or(now));
                    Some(look.min(lease.since + self.lease_time / 2))
                }
            },
        };
        [drain, begins_until, ask].into_iter().flatten().min()
    }
}

/// Pauses after failures, which double.
#[derive(Debug, Default)]
struct Pauses {
    failures: u32,
    until: Option<Instant>,
}

impl Pauses {
    /// Returns the pause, up to a half shorter, at random.
    fn failed(&mut self, now: Instant, random: f64) -> Duration {
        let pause = (FIRST_PAUSE * 2u32.pow(self.failures.min(10))).min(LONGEST_PAUSE);
        let pause = pause.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0);
        self.failures += 1;
        self.until = Some(now + pause);
        pause
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }

    fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    fn is_pausing(&self, now: Instant) -> bool {
        self.until(now).is_some()
    }
}
