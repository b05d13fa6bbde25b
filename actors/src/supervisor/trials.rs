//! What has cost a connection, over a recovery: it is left out, tried on a connection of its own, and
//! declared or started again after that. What is tried when is decided in `fatal_entities.rs`.

use tokio::time::Instant;

use super::{
    effect::Effect,
    fatal_step::fatal_step,
    fatal_trials::{TrialEnd, TrialPlace},
    missing::{EntityKey, Repair},
    phase::Phase,
    redeclare_steps::{RecoveryStep, StepResult},
    supervision::Supervision,
    utility_task::UtilityTask,
};
use crate::{
    error::Error,
    internal::{ChannelMessage, TrialResult},
    message::ConsumerEnd,
};

/// The steps without replies of a connection that the broker closed.
#[derive(Debug)]
pub(super) struct LostSteps {
    task: UtilityTask,
    error: Error,
}

impl Supervision {
    /// An open connection is lost, while the utility channel did this. It reports which of its steps have a
    /// result: see [`utility_lost`](Self::utility_lost).
    pub(super) fn note_lost_steps(&mut self, utility: Option<UtilityTask>, error: &Error, now: Instant) {
        self.stop_trial(now);
        self.fatal_entities.connection_lost(self.epoch, now);
        let by_broker = error.close_reason().is_some_and(|reason| reason.code >= 500);
        let error = error.clone();
        self.lost_steps = utility.filter(|_| by_broker).map(|task| LostSteps { task, error });
    }

    /// The utility channel has ended before all replies had come: with its connection, or by itself.
    pub(super) fn utility_lost(&mut self, epoch: u64, number: u16, results: Vec<StepResult>, now: Instant) {
        if self.is_current(epoch) && self.utility.as_ref().is_some_and(|task| task.number == number) {
            return self.steps_done(number, results, now);
        }
        if let Some(lost) = self.lost_steps.take_if(|lost| lost.task.number == number) {
            self.find_fatal_entity(&lost, results.len(), now);
        }
    }

    /// The next connection is open, and the utility channel of the last one has not reported.
    pub(super) fn settle_lost_steps(&mut self, now: Instant) {
        if let Some(lost) = self.lost_steps.take() {
            self.find_fatal_entity(&lost, 0, now);
        }
    }

    fn find_fatal_entity(&mut self, LostSteps { task, error }: &LostSteps, answered: usize, now: Instant) {
        let Some(reason) = error.close_reason() else { return };
        let Some(at) = fatal_step(&task.steps, answered, reason) else { return };
        let Some(key) = task.key_of_step(at) else { return };
        if let EntityKey::Exchange(name) = &key
            && !self.topology.has(&key)
        {
            self.missing.probe_cost_connection(name, now);
        }
        log::warn!("{} {:?} cost the connection: {error}", key.kind(), key.name());
        if let Some(Repair { channel, consumer, .. }) = self.missing.repair_of(&key) {
            // It must not start with its channel.
            let message = ChannelMessage::ConsumerAtFault { consumer, error: error.clone() };
            self.effects.push_back(Effect::SendToChannel(channel, message));
        }
        self.add_fatal_entity(key, error.clone(), now);
    }

    /// Something has cost the last connection. It may have been given up meanwhile.
    pub(super) fn add_fatal_entity(&mut self, key: EntityKey, error: Error, now: Instant) {
        if self.topology.has(&key) {
            self.fatal_entities.add(key, error, now);
        }
    }

    /// The broker does not let this client into the virtual host any more, which has been deleted or is down.
    /// That has cost the last connection, and not what was declared while the virtual host went: the broker
    /// refuses this with 541.
    pub(super) fn vhost_gone(&mut self, now: Instant) {
        self.lost_steps = None;
        for key in self.fatal_entities.vhost_gone(now) {
            if let EntityKey::Consumer { channel, tag } = key {
                // It starts with its channel.
                let message = ChannelMessage::ConsumerNotAtFault { tag };
                self.effects.push_back(Effect::SendToChannel(channel, message));
            }
        }
    }

    /// Takes out of the steps what has cost a connection: it is missing.
    pub(super) fn withhold(&mut self, steps: Vec<RecoveryStep>, now: Instant) -> Vec<RecoveryStep> {
        let mut rest = Vec::with_capacity(steps.len());
        for step in steps {
            let key = EntityKey::of_step(&step);
            match key.as_ref().and_then(|key| Some((key, self.fatal_entities.withheld(key)?.clone()))) {
                Some((key, error)) => {
                    let next = self.next_trial(key);
                    self.missing.withhold(key, error, next, now);
                }
                None => rest.push(step),
            }
        }
        rest
    }

    /// Returns when a fatal entity is tried on a connection of its own; `None` for what is tried at the next
    /// reconnect.
    fn next_trial(&self, key: &EntityKey) -> Option<Instant> {
        match self.trial_place(key) {
            TrialPlace::OwnConnection => self.fatal_entities.due(key),
            TrialPlace::Last => None,
        }
    }

    fn trial_place(&self, key: &EntityKey) -> TrialPlace {
        let (queue, consumes) = match key {
            EntityKey::Queue(name) => (name.clone(), false),
            EntityKey::Binding(binding) if binding.to_queue => (binding.destination.clone(), false),
            EntityKey::Consumer { .. } => match self.missing.repair_of(key) {
                Some(repair) => (repair.trial.queue, true),
                None => return TrialPlace::OwnConnection,
            },
            EntityKey::Exchange(_)
            | EntityKey::Binding(_)
            | EntityKey::Channel(_)
            | EntityKey::Prefetch(_) => {
                return TrialPlace::OwnConnection;
            }
        };
        match self.topology.is_bound_to_connection(&queue, consumes) {
            true => TrialPlace::Last,
            false => TrialPlace::OwnConnection,
        }
    }

    /// A channel has recovered without a consumer that has cost a connection.
    pub(super) fn consumer_waits(&mut self, repair: Repair, now: Instant) {
        let key = EntityKey::consumer(repair.channel, &repair.trial.tag);
        if !self.topology.has(&key)
            || self.topology.is_deleting(&EntityKey::Queue(repair.trial.queue.clone()))
        {
            let end = repair.cause.clone();
            self.fatal_entities.forget(&key);
            self.missing.remove(&key);
            self.finish_repair(&repair, Err(end));
            return self.health_changed();
        }
        let error = match &repair.cause {
            ConsumerEnd::Closed(error) => error.clone(),
            end => Error::refused_here(format!("the consumer has ended: {end:?}")),
        };
        let due = self.fatal_entities.consumer_waits(&key, &error, now);
        self.missing.consumer_withheld(repair, error, now);
        if self.trial_place(&key) == TrialPlace::OwnConnection {
            self.missing.set_next_trial(&key, Some(due));
        }
        self.health_changed();
        self.try_last(now);
    }

    /// All else has recovered: tries what no other connection can try.
    pub(super) fn try_last(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Up(_)) {
            return;
        }
        let Self { fatal_entities, .. } = self;
        let mut fatal_entities = std::mem::take(fatal_entities);
        let last = fatal_entities.take_last(|key| self.trial_place(key), now);
        self.fatal_entities = fatal_entities;
        last.iter().for_each(|key| self.release_fatal_entity(key, now));
    }

    /// Returns when a trial is due.
    pub(super) fn trial_deadline(&self) -> Option<Instant> {
        // One at a time.
        (matches!(self.phase, Phase::Up(_)) && !self.room.is_probing())
            .then(|| self.fatal_entities.deadline(|key| self.trial_place(key)))?
    }

    /// Starts the next trial.
    pub(super) fn start_trial_when_due(&mut self, now: Instant) {
        if self.trial_deadline().is_none_or(|due| due > now) {
            return;
        }
        let mut fatal_entities = std::mem::take(&mut self.fatal_entities);
        let due = fatal_entities.take_due(|key| self.trial_place(key), now);
        self.fatal_entities = fatal_entities;
        if let Some((number, key)) = due {
            self.missing.set_next_trial(&key, Some(now));
            let steps = self.trial_steps(&key);
            self.effects.push_back(Effect::StartTrial { number, steps });
        }
    }

    fn trial_steps(&self, key: &EntityKey) -> Vec<RecoveryStep> {
        let Some(Repair { trial, .. }) = self.missing.repair_of(key) else {
            return self.topology.steps_of(key);
        };
        let is_in_place = |_: &_| true;
        let mut steps = self.topology.selected_steps(&self.topology.with_sources(&trial.queue), is_in_place);
        let tag = trial.tag.clone();
        steps.push(RecoveryStep::TrialConsume(trial));
        steps.push(RecoveryStep::TrialCancel(tag));
        steps
    }

    pub(super) fn stop_trial(&mut self, now: Instant) {
        if self.room.stop_probe(now) || self.fatal_entities.stop_trial(now) {
            self.effects.push_back(Effect::StopTrial);
        }
    }

    /// A trial has ended.
    pub(super) fn trial_done(&mut self, trial: u64, result: TrialResult, now: Instant) {
        if self.looked_for_room(trial, &result, now) {
            return;
        }
        match self.fatal_entities.trial_done(trial, result, self.missing.limits(), now) {
            Some(TrialEnd::Released(key)) => self.release_fatal_entity(&key, now),
            Some(TrialEnd::Again(key, due)) => {
                if let Some(error) = self.fatal_entities.withheld(&key).cloned() {
                    log::debug!("{} {:?}: its trial has failed: {error}", key.kind(), key.name());
                    self.missing.withhold(&key, error, Some(due), now);
                    self.health_changed();
                }
            }
            Some(TrialEnd::GivenUp(key)) => {
                if let Some(error) = self.fatal_entities.withheld(&key).cloned() {
                    self.missing.withhold(&key, error, None, now);
                    self.missing.reach_limits(&key, now);
                    self.announce();
                    self.health_changed();
                }
            }
            None => {}
        }
    }

    /// Declares an entity on the connection itself, or has its channel start a consumer.
    fn release_fatal_entity(&mut self, key: &EntityKey, now: Instant) {
        self.missing.released(key, now);
        if let Some(repair) = self.missing.repair_of(key) {
            self.missing.starting(key);
            self.finish_repair(&repair, Ok(()));
        }
        self.retry_when_due(now);
    }
}
