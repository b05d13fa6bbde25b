//! From an open connection to a recovered one: the topology is redeclared, the channels are attached, and
//! what is missing is tried again.
//!
//! What is declared in which order is in `redeclare.rs`, what is missing and when it is tried in `missing/`.
//! Here their decisions become work of the utility channel, messages to channels, and phases. Consumers are
//! in `repair.rs`.

use tokio::time::Instant;

use super::{
    effect::Effect,
    missing::{EntityKey, Run, Scope},
    phase::{Open, Phase},
    redeclare::{LONGEST_LOCK_PAUSE, Next, Redeclare},
    redeclare_steps::{RecoveryStep, StepResult},
    supervision::Supervision,
    utility_task::{Purpose, UtilityTask},
};
use crate::{
    error::Error,
    internal::{ChannelMessage, ConnectionCommand},
    message::{ConnectionEvent, EntityKind, Skipped},
    wire::Fault,
};

impl Supervision {
    pub(super) fn redeclare_topology(&mut self, open: Open, now: Instant) {
        self.settle_lost_steps(now);
        self.missing.set_longest_pause(LONGEST_LOCK_PAUSE);
        self.phase = Phase::RedeclaringTopology(open, Redeclare::new(now));
        self.health_changed();
        self.redeclare_next(now);
    }

    /// Goes on with the redeclaration, unless the utility channel is at work.
    fn redeclare_next(&mut self, now: Instant) {
        if self.utility.is_some() {
            return;
        }
        let Phase::RedeclaringTopology(open, redeclare) = &mut self.phase else { return };
        match redeclare.next(&self.topology, &mut self.missing, now) {
            Next::Send(steps) => self.run_steps(steps, Purpose::Redeclare, now),
            Next::Settle => self.retry_when_due(now),
            Next::Done => {
                let open = open.clone();
                self.phase = Phase::Attaching(open, self.attach_channels(now));
                self.recovery_advanced(now);
            }
        }
    }

    /// Ends the wait for what is missing when its time is over.
    pub(super) fn redeclare_when_due(&mut self, now: Instant) {
        if let Phase::RedeclaringTopology(_, redeclare) = &self.phase
            && redeclare.is_settling()
        {
            self.redeclare_next(now);
        }
    }

    /// Starts the utility channel. Returns `false` if no channel number is free.
    fn run_steps(&mut self, steps: Vec<RecoveryStep>, purpose: Purpose, now: Instant) {
        let steps = self.withhold(steps, now);
        let Some(number) = self.take_utility_number() else { return };
        self.effects.push_back(Effect::StartUtility { number, steps: steps.clone() });
        self.utility = Some(UtilityTask { number, steps, purpose });
    }

    /// The utility channel has ended. There is no result for a step without a reply.
    pub(super) fn steps_done(&mut self, number: u16, results: Vec<StepResult>, now: Instant) {
        let Some(mut task) = self.utility.take_if(|task| task.number == number) else { return };
        self.effects.push_back(Effect::DropUtility);
        let is_unanswered = results.len() < task.steps.len();
        let redeclares = matches!(self.phase, Phase::RedeclaringTopology(..));
        if is_unanswered && redeclares {
            let fault = Fault::internal("no answer while the topology is redeclared");
            self.effects.push_back(Effect::Command(ConnectionCommand::Fail { fault }));
            return;
        }
        self.effects.push_back(Effect::Command(ConnectionCommand::DetachChannel { channel: number }));
        // The broker may hold a channel open that it did not answer on.
        match is_unanswered {
            true => self.channels.numbers.abandon(),
            false if !redeclares => self.channels.numbers.give_back(number),
            false => {}
        }
        self.rename_queues(&mut task, &results);
        match task.purpose {
            Purpose::Redeclare => {
                for (step, result) in task.steps.iter().zip(results) {
                    self.missing.step_done(step, result.map(|_| ()), &self.topology, now);
                }
            }
            Purpose::Retry(run) => self.run_done(run, task.steps, results, now),
        }
        self.announce();
        self.redeclare_next(now);
        self.retry_when_due(now);
        self.health_changed();
    }

    fn run_done(&mut self, run: Run, steps: Vec<RecoveryStep>, results: Vec<StepResult>, now: Instant) {
        for repair in self.missing.finish(run, steps, results, &self.topology, now) {
            self.finish_repair(&repair, Ok(()));
        }
    }

    /// Takes the new names of queues that the broker has named.
    fn rename_queues(&mut self, task: &mut UtilityTask, results: &[StepResult]) {
        for (step, result) in task.steps.iter().zip(results) {
            if let (RecoveryStep::Queue { declare, name }, Ok(Some(new))) = (step, result)
                && declare.name.is_empty()
                && let Some(old) = self.topology.rename(name, new)
            {
                log::info!("queue {old:?}: renamed to {new:?}");
                self.send_to_channels(|| ChannelMessage::QueueRenamed { old: old.clone(), new: new.clone() });
                self.missing.rename_queue(&old, new);
                self.fatal_entities.rename_queue(&old, new);
                if let Purpose::Retry(run) = &mut task.purpose {
                    run.rename_queue(&old, new);
                }
            }
        }
    }

    /// Tells the channels what is in place again, or is not looked for any more, and the application what was
    /// given up.
    pub(super) fn announce(&mut self) {
        for given_up in self.missing.take_given_up() {
            self.notify(ConnectionEvent::GivenUp(given_up));
        }
        for (kind, name) in self.missing.take_announcements() {
            self.send_to_channels(|| ChannelMessage::EntityFound { kind, name: name.clone() });
        }
    }

    /// A channel has recovered, except for these consumers.
    pub(super) fn channel_recovered(&mut self, channel: u16, skipped: Vec<Skipped>, now: Instant) {
        let tags: Vec<_> = skipped.iter().map(|skipped| skipped.name.clone()).collect();
        self.missing.channel_recovered(channel, &tags, now);
        for Skipped { name, error, .. } in skipped {
            self.missing.not_started(channel, &name, error, now);
        }
        self.channel_is_done(channel, now);
    }

    /// A channel has recovered, or needs no recovery any more.
    pub(super) fn channel_is_done(&mut self, channel: u16, now: Instant) {
        if let Phase::Attaching(_, waiting) = &mut self.phase {
            waiting.remove(&channel);
        }
        self.recovery_advanced(now);
    }

    fn recovery_advanced(&mut self, now: Instant) {
        if let Phase::Attaching(open, waiting) = &self.phase
            && waiting.is_empty()
        {
            self.phase = Phase::Up(open.clone());
            self.backoff.came_up(now);
            self.outage = None;
            self.missing.recovered(now);
            let skipped = self.missing.to_skipped();
            log::info!("connection {}: recovered, {} skipped", self.epoch, skipped.len());
            self.notify(ConnectionEvent::Recovered { epoch: self.epoch, skipped });
            self.forget_unrecorded();
            self.try_last(now);
        }
        self.health_changed();
        self.retry_when_due(now);
    }

    /// The application has declared or consumed something.
    pub(super) fn declared(&mut self, key: &EntityKey, now: Instant) {
        self.fatal_entities.forget(key);
        if self.missing.found(key, now) {
            self.health_changed();
        }
        self.announce();
        self.retry_when_due(now);
    }

    /// A 404 named an exchange or queue. A recorded one is declared again with its bindings.
    pub(super) fn entity_gone(&mut self, kind: EntityKind, name: &str, error: &Error, now: Instant) {
        if let Some(key) = EntityKey::declared(kind, name) {
            self.topology.gone_while_deleting(&key, error);
        }
        self.missing.entity_gone(kind, name, error, &self.topology, now);
        self.announce();
        self.health_changed();
        self.retry_when_due(now);
    }

    /// Returns what may be tried now, if the utility channel is free.
    pub(super) fn retry_scope(&self) -> Option<Scope> {
        match &self.phase {
            _ if self.utility.is_some() || self.phase.open().is_none() => None,
            Phase::RedeclaringTopology(_, redeclare) => redeclare.is_settling().then_some(Scope::Topology),
            _ if self.phase.is_recovering() => None,
            _ => Some(Scope::All),
        }
    }

    /// Tries what is due.
    pub(super) fn retry_when_due(&mut self, now: Instant) {
        let Some(scope) = self.retry_scope() else { return };
        let mut due = self.missing.due(scope, now);
        self.announce();
        due.retain(|key| !self.missing.is_first_after_cancel(key) || !self.start_on_its_channel(key, now));
        if scope == Scope::All {
            self.leave_unanswered(&mut due, now);
        }
        let probes = scope == Scope::All && self.missing.has_due_probes(now);
        if due.is_empty() && !probes {
            return;
        }
        if let Err(error) = self.check_room() {
            self.retry_without_room(due, &error, now);
            return;
        }
        let run = self.missing.begin(due, &self.topology, scope, now);
        self.run_steps(run.steps.clone(), Purpose::Retry(run), now);
    }
}
