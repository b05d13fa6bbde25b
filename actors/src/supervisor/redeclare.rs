//! Redeclaring the topology after a reconnect: what is declared when, and what happens to a refusal.
//!
//! The order of a recovery:
//! 1. exchanges, in the order of their first declaration
//! 2. exchange bindings
//! 3. queues
//! 4. queue bindings
//! 5. channels, each by itself: `channel.open`, prefetch and consumers, `confirm.select`
//! 6. per channel: unconfirmed publishes, publishes that were queued, calls that waited
//!
//! Steps 1 to 4 are below; 5 and 6 are in `channel/recovery.rs`. A step whose refusal may be transient is
//! sent again for up to five seconds, while the channels wait. After that it goes to the retry list
//! (`repair.rs`).

use std::time::Duration;

use tokio::time::Instant;

use super::{
    redeclare_steps::{RecoveryStep, StepResult},
    refusal::{is_not_found, is_transient},
    topology::Topology,
    topology_steps::TopologyGroup,
};
use crate::message::Skipped;

/// The order of the redeclaration. The steps of a row are sent together; the next row follows when each of
/// them is declared or given up for now.
const ORDER: [&[TopologyGroup]; 2] = [
    &[TopologyGroup::Exchanges, TopologyGroup::ExchangeBindings, TopologyGroup::Queues],
    &[TopologyGroup::QueueBindings],
];

/// How long channels wait for entities that are locked.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// The first pause before refused steps are sent again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Redeclare {
    since: Instant,
    /// The row of `ORDER` that comes after the present one.
    next_row: usize,
    pause: Duration,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// Steps are at the broker.
    Sent,
    /// These steps are sent again at this time.
    Pausing { until: Instant, refused: Vec<RecoveryStep> },
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    Send(Vec<RecoveryStep>),
    /// Nothing until [`Redeclare::deadline`].
    Wait,
    /// The topology is declared, as far as possible.
    Done,
}

/// What the results of some steps lead to.
#[derive(Debug)]
pub(super) struct Redeclared {
    pub(super) next: Next,
    /// Steps that were given up for now.
    pub(super) skipped: Vec<Skipped>,
    /// Those of them that are worth another attempt later.
    pub(super) retry: Vec<RecoveryStep>,
}

impl Redeclare {
    pub(super) fn start(topology: &Topology, now: Instant) -> (Self, Next) {
        let mut redeclare = Self { since: now, next_row: 0, pause: FIRST_PAUSE, progress: Progress::Sent };
        let next = redeclare.begin_row(topology);
        (redeclare, next)
    }

    fn begin_row(&mut self, topology: &Topology) -> Next {
        self.progress = Progress::Sent;
        while let Some(row) = ORDER.get(self.next_row) {
            self.next_row += 1;
            self.pause = FIRST_PAUSE;
            let steps: Vec<_> = row.iter().flat_map(|group| topology.steps(*group)).collect();
            if !steps.is_empty() {
                return Next::Send(steps);
            }
        }
        Next::Done
    }

    /// Takes the results of steps that were sent. `retries_pending` is whether the retry list has entries.
    pub(super) fn sent(
        &mut self,
        steps: Vec<RecoveryStep>,
        results: Vec<StepResult>,
        retries_pending: bool,
        topology: &Topology,
        now: Instant,
    ) -> Redeclared {
        let in_time = now.saturating_duration_since(self.since) < LOCK_WAIT;
        // The entity that a 404 names may still be declared.
        let may_appear =
            retries_pending || results.iter().any(|result| result.as_ref().is_err_and(is_transient));
        let (mut refused, mut skipped, mut retry) = (Vec::new(), Vec::new(), Vec::new());
        for (step, result) in steps.into_iter().zip(results) {
            let Err(error) = result else { continue };
            let vanished = topology.vanished_queue(&step).filter(|_| is_not_found(&error));
            let transient =
                is_transient(&error) || (may_appear && is_not_found(&error)) || vanished.is_some();
            if transient && in_time {
                refused.extend(vanished);
                refused.push(step);
                continue;
            }
            log::warn!("{} {:?} not redeclared: {error}", step.kind(), step.name());
            skipped.push(step.skipped(error));
            if transient {
                retry.extend(vanished);
                retry.push(step);
            }
        }
        let next = if refused.is_empty() {
            self.begin_row(topology)
        } else {
            self.progress = Progress::Pausing { until: now + self.pause, refused };
            self.pause = (self.pause * 2).min(MAX_PAUSE);
            Next::Wait
        };
        Redeclared { next, skipped, retry }
    }

    /// Returns when refused steps are due again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.progress {
            Progress::Pausing { until, .. } => Some(until),
            Progress::Sent => None,
        }
    }

    /// Takes the refused steps once they are due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Vec<RecoveryStep>> {
        match std::mem::replace(&mut self.progress, Progress::Sent) {
            Progress::Pausing { until, refused } if until <= now => Some(refused),
            progress => {
                self.progress = progress;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::{CloseReason, Error},
        internal::{Change, Entity},
        message::{BindExchange, BindQueue, DeclareExchange, DeclareQueue, QueueName},
    };

    fn topology() -> Topology {
        let mut topology = Topology::default();
        let jobs = DeclareQueue::new("jobs").auto_delete(true);
        for entity in [
            Entity::QueueBinding(BindQueue::new("jobs", "front", "")),
            Entity::Queue { declare: jobs, name: QueueName::new("jobs") },
            Entity::ExchangeBinding(BindExchange::new("back", "front", "")),
            Entity::Exchange(DeclareExchange::fanout("front")),
            Entity::Exchange(DeclareExchange::fanout("back")),
        ] {
            topology.change(Change::Record(entity));
        }
        topology
    }

    fn names(steps: &[RecoveryStep]) -> Vec<String> {
        steps.iter().map(RecoveryStep::name).collect()
    }

    fn refusal(code: u16, text: &str) -> StepResult {
        Err(Error::refused("queue.declare", CloseReason::new(code, text, 50, 10)))
    }

    fn all_ok(steps: &[RecoveryStep]) -> Vec<StepResult> {
        steps.iter().map(|_| Ok(None)).collect()
    }

    #[test]
    fn exchanges_bindings_of_exchanges_and_queues_come_before_bindings_of_queues() {
        let (topology, now) = (topology(), Instant::now());
        let (mut redeclare, Next::Send(first)) = Redeclare::start(&topology, now) else { panic!("no steps") };
        assert_eq!(names(&first), ["front", "back", "front -> back ()", "jobs"]);
        let results = all_ok(&first);
        let Next::Send(second) = redeclare.sent(first, results, false, &topology, now).next else {
            panic!("no second row")
        };
        assert_eq!(names(&second), ["front -> jobs ()"]);
        let results = all_ok(&second);
        assert!(matches!(redeclare.sent(second, results, false, &topology, now).next, Next::Done));
        assert!(matches!(Redeclare::start(&Topology::default(), now).1, Next::Done));
    }

    #[test]
    fn a_locked_queue_is_tried_again_for_five_seconds_and_then_goes_to_the_retry_list() {
        let (topology, start) = (topology(), Instant::now());
        let (mut redeclare, Next::Send(mut steps)) = Redeclare::start(&topology, start) else {
            panic!("no steps")
        };
        let locked = || refusal(405, "RESOURCE_LOCKED");
        let mut results = all_ok(&steps[..3]);
        results.push(locked());
        let mut now = start;
        let mut pauses = Vec::new();
        let redeclared = loop {
            let redeclared = redeclare.sent(steps, results, false, &topology, now);
            let Next::Wait = redeclared.next else { break redeclared };
            assert!(redeclared.skipped.is_empty() && redeclared.retry.is_empty());
            let due = redeclare.deadline().unwrap();
            pauses.push((due - now).as_millis());
            assert!(redeclare.take_due(now).is_none());
            now = due;
            steps = redeclare.take_due(now).unwrap();
            assert_eq!(names(&steps), ["jobs"]);
            results = vec![locked()];
        };
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000, 1000]);
        assert!(now - start >= LOCK_WAIT);
        assert_eq!(names(&redeclared.retry), ["jobs"]);
        assert_eq!(redeclared.skipped[0].name, "jobs");
        // Its binding is not found then, and follows it.
        let Next::Send(bindings) = redeclared.next else { panic!("no bindings") };
        let not_found = vec![refusal(404, "NOT_FOUND - no queue 'jobs' in vhost '/'")];
        let redeclared = redeclare.sent(bindings, not_found, true, &topology, now);
        assert_eq!(names(&redeclared.retry), ["jobs", "front -> jobs ()"]);
        assert!(matches!(redeclared.next, Next::Done));
    }

    #[test]
    fn an_auto_delete_queue_that_vanished_is_declared_again_before_its_binding() {
        let (topology, now) = (topology(), Instant::now());
        let (mut redeclare, Next::Send(first)) = Redeclare::start(&topology, now) else { panic!("no steps") };
        let results = all_ok(&first);
        let Next::Send(second) = redeclare.sent(first, results, false, &topology, now).next else {
            panic!("no second row")
        };
        let not_found = vec![refusal(404, "NOT_FOUND - no queue 'jobs' in vhost '/'")];
        assert!(matches!(redeclare.sent(second, not_found, false, &topology, now).next, Next::Wait));
        let due = redeclare.deadline().unwrap();
        assert_eq!(names(&redeclare.take_due(due).unwrap()), ["jobs", "front -> jobs ()"]);
    }

    #[test]
    fn other_refusals_are_skipped_at_once() {
        let (topology, now) = (topology(), Instant::now());
        let (mut redeclare, Next::Send(first)) = Redeclare::start(&topology, now) else { panic!("no steps") };
        let mut results = all_ok(&first[..3]);
        results.push(refusal(406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'jobs'"));
        let redeclared = redeclare.sent(first, results, false, &topology, now);
        assert_eq!((redeclared.skipped.len(), redeclared.retry.len()), (1, 0));
        assert!(matches!(redeclared.next, Next::Send(_)));
    }
}
