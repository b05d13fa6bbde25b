//! Redeclaring the topology after a reconnect: what is declared when, and how long the channels wait.
//!
//! The order of a recovery:
//! 1. exchanges, in the order of their first declaration
//! 2. exchange bindings
//! 3. queues
//! 4. queue bindings
//! 5. channels, each by itself: `channel.open`, prefetch and consumers, `confirm.select`
//! 6. per channel: unconfirmed publishes, publishes that were queued, calls that waited
//!
//! Steps 1 to 4 are below; 5 and 6 are in `channel/recovery.rs`. What is refused is missing, and tried again
//! by its own back-off (`missing/`). The channels wait up to five seconds for what may be in place in a
//! moment.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    missing::{EntityKey, Missing},
    redeclare_steps::RecoveryStep,
    topology::Topology,
    topology_steps::TopologyGroup,
};

/// The order of the redeclaration. The steps of a row are sent together; the next row follows when all of
/// them have their replies, because queues may have new names then.
const ORDER: [&[TopologyGroup]; 2] = [
    &[TopologyGroup::Exchanges, TopologyGroup::ExchangeBindings, TopologyGroup::Queues],
    &[TopologyGroup::QueueBindings],
];

/// How long channels wait for entities that are locked.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// The longest pause between tries while they wait.
pub(super) const LONGEST_LOCK_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Redeclare {
    since: Instant,
    /// The row of `ORDER` that comes after the present one.
    next_row: usize,
    /// Everything was sent once; the channels wait for what is missing.
    settling: bool,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    Send(Vec<RecoveryStep>),
    /// Try what is missing, until [`Redeclare::deadline`].
    Settle,
    /// The topology is declared, as far as possible.
    Done,
}

impl Redeclare {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, next_row: 0, settling: false }
    }

    /// Returns what follows when all steps that were sent have their results.
    pub(super) fn next(&mut self, topology: &Topology, missing: &mut Missing, now: Instant) -> Next {
        while let Some(row) = ORDER.get(self.next_row) {
            self.next_row += 1;
            let steps = row.iter().flat_map(|group| topology.steps(*group));
            let steps: Vec<_> = steps.filter(|step| missing.may_be_redeclared(step, now)).collect();
            if !steps.is_empty() {
                return Next::Send(steps);
            }
        }
        self.settling = true;
        let in_time = now.saturating_duration_since(self.since) < LOCK_WAIT;
        if in_time && missing.holds_up(topology) { Next::Settle } else { Next::Done }
    }

    /// Returns whether everything was sent once, and what is missing is tried.
    pub(super) fn is_settling(&self) -> bool {
        self.settling
    }

    /// Returns when the channels wait no longer.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.settling.then_some(self.since + LOCK_WAIT)
    }
}

impl Missing {
    /// Returns whether a step of the redeclaration is sent. A binding of what is missing is not: it is missing
    /// as well.
    fn may_be_redeclared(&mut self, step: &RecoveryStep, now: Instant) -> bool {
        let Some(EntityKey::Binding(binding)) = EntityKey::of_step(step) else { return true };
        !self.misses_end_of(&binding, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::{CloseReason, Error},
        internal::{Change, Entity},
        message::{BindExchange, BindQueue, DeclareExchange, DeclareQueue, QueueName},
        options::Recovery,
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

    /// A redeclaration, with the entries that it makes.
    struct Run {
        topology: Topology,
        missing: Missing,
        redeclare: Redeclare,
        now: Instant,
    }

    impl Run {
        fn start(topology: Topology) -> Self {
            let now = Instant::now();
            let missing = Missing::new(Recovery::default());
            Self { topology, missing, redeclare: Redeclare::new(now), now }
        }

        fn next(&mut self) -> Next {
            self.redeclare.next(&self.topology, &mut self.missing, self.now)
        }

        /// Expects steps, and refuses those that are listed.
        fn send(&mut self, refused: &[(&str, u16)]) -> Vec<String> {
            let Next::Send(steps) = self.next() else { panic!("no steps") };
            for step in &steps {
                let refusal = refused.iter().find(|(name, _)| step.name() == *name);
                let result = refusal.map_or(Ok(()), |(_, code)| {
                    Err(Error::refused("queue.declare", CloseReason::new(*code, "refused", 50, 10)))
                });
                self.missing.step_done(step, result, &self.topology, self.now);
            }
            names(&steps)
        }
    }

    #[test]
    fn exchanges_bindings_of_exchanges_and_queues_come_before_bindings_of_queues() {
        let mut run = Run::start(topology());
        assert_eq!(run.send(&[]), ["front", "back", "front -> back ()", "jobs"]);
        assert_eq!(run.send(&[]), ["front -> jobs ()"]);
        assert!(matches!(run.next(), Next::Done));
        assert!(matches!(Run::start(Topology::default()).next(), Next::Done));
    }

    #[test]
    fn channels_wait_five_seconds_for_a_locked_queue_and_its_binding_waits_with_it() {
        let mut run = Run::start(topology());
        run.send(&[("jobs", 405)]);
        assert!(matches!(run.next(), Next::Settle));
        let missing: Vec<_> = run.missing.skipped().map(|one| (one.name, one.error.code())).collect();
        assert_eq!(missing, [("jobs".into(), Some(405)), ("front -> jobs ()".into(), Some(405))]);
        assert_eq!(run.redeclare.deadline(), Some(run.now + LOCK_WAIT));
        run.now += LOCK_WAIT - Duration::from_millis(1);
        assert!(matches!(run.next(), Next::Settle));
        run.now += Duration::from_millis(1);
        assert!(matches!(run.next(), Next::Done));
    }

    #[test]
    fn channels_do_not_wait_for_a_conflict_or_for_what_was_declared_passively() {
        let mut run = Run::start(topology());
        run.send(&[("jobs", 406)]);
        // There is another queue of this name, which can be bound.
        assert_eq!(run.send(&[]), ["front -> jobs ()"]);
        assert!(matches!(run.next(), Next::Done));
        let mut topology = Topology::default();
        topology.change(Change::Record(Entity::Exchange(DeclareExchange::existing("theirs"))));
        let mut run = Run::start(topology);
        run.send(&[("theirs", 404)]);
        assert!(matches!(run.next(), Next::Done));
    }

    /// The text names neither end, so that both are declared again.
    #[test]
    fn channels_wait_for_what_vanished_after_it_was_declared() {
        let mut run = Run::start(topology());
        run.send(&[]);
        run.send(&[("front -> jobs ()", 404)]);
        assert!(matches!(run.next(), Next::Settle));
        let missing: Vec<_> = run.missing.skipped().map(|one| one.name).collect();
        assert_eq!(missing, ["front", "jobs", "front -> back ()", "front -> jobs ()"]);
    }
}
