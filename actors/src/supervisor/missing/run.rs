//! One run of the utility channel for the entries that are due: what it sends, and what the results mean.
//!
//! Everything that is due goes into one run, in the order of a recovery: exchanges, bindings of exchanges,
//! queues, bindings of queues, and then trial consumers. An exchange or queue takes all of its bindings with
//! it, because the broker has deleted them together. A consumer takes its queue with it, and the auto-delete
//! exchanges that may have gone with the queue.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::{EntityKey, Entry, Missing, Progress, Repair, Scope, is_not_found};
use crate::{
    error::{Error, ErrorKind},
    message::{DeclareExchange, EntityKind},
    supervisor::{
        redeclare_steps::{RecoveryStep, StepResult},
        topology::{BindingKey, Topology},
        topology_steps::Selection,
    },
};

/// The most consumers of a run, so that the topology is not held up by many of them.
const MOST_CONSUMERS: usize = 64;

#[derive(Debug, Default)]
pub(in crate::supervisor) struct Run {
    pub(in crate::supervisor) steps: Vec<RecoveryStep>,
    tried: Vec<EntityKey>,
    /// The consumers of the trials, in the order of the steps.
    trials: VecDeque<EntityKey>,
    probes: Vec<String>,
}

/// What the results of the trial consumers and of their queues are.
#[derive(Debug, Default)]
struct Outcomes {
    trials: BTreeMap<EntityKey, Result<(), Error>>,
    /// Queues that the broker names, and that were looked for.
    checks: BTreeMap<String, Result<(), Error>>,
}

impl Run {
    /// Returns the consumer of the trial at this place.
    pub(in crate::supervisor) fn consumer(&self, at: usize) -> Option<&EntityKey> {
        self.trials.get(at)
    }

    /// Returns whether a step looks for an exchange, and declares nothing that is recorded.
    fn is_probe(&self, declare: &DeclareExchange, topology: &Topology) -> bool {
        let is_recorded = topology.is_passive(&EntityKey::Exchange(declare.name.clone()));
        declare.passive && !is_recorded && self.probes.contains(&declare.name)
    }

    pub(in crate::supervisor) fn rename_queue(&mut self, old: &str, new: &str) {
        for key in &mut self.tried {
            key.rename_queue(old, new);
        }
    }
}

impl Missing {
    /// Returns when the next entry is due.
    pub(in crate::supervisor) fn deadline(&self, scope: Scope) -> Option<Instant> {
        let those = self.entries.iter().filter(|(key, entry)| self.is_tried(key, entry, scope));
        let probes = self.probes.deadline().filter(|_| scope == Scope::All);
        those.filter_map(|(_, entry)| entry.due()).chain(probes).min()
    }

    fn is_tried(&self, key: &EntityKey, entry: &Entry, scope: Scope) -> bool {
        let in_scope = scope == Scope::All || !matches!(key, EntityKey::Consumer { .. });
        in_scope && entry.due().is_some() && !self.is_held(key, entry)
    }

    /// Returns the entries that are due. Exchanges that nobody asks for any more are not looked for.
    pub(in crate::supervisor) fn due(&mut self, scope: Scope, now: Instant) -> Vec<EntityKey> {
        self.prune(now);
        let unasked = self.probes.take_unasked(now);
        self.announcements.extend(unasked.into_iter().map(|name| (EntityKind::Exchange, name)));
        let is_due = |(key, entry): &(&EntityKey, &Entry)| {
            self.is_tried(key, entry, scope) && entry.due().is_some_and(|due| due <= now)
        };
        let due = || self.entries.iter().filter(is_due);
        // One that has no reply holds up what is sent with it.
        let is_answered = |(_, entry): &(&EntityKey, &Entry)| entry.error.kind() != ErrorKind::Timeout;
        let is_any_answered = due().any(|entry| is_answered(&entry));
        let due = due().filter(|entry| !is_any_answered || is_answered(entry)).map(|(key, _)| key.clone());
        let mut consumers = 0;
        due.filter(|key| {
            consumers += usize::from(key.kind() == EntityKind::Consumer);
            key.kind() != EntityKind::Consumer || consumers <= MOST_CONSUMERS
        })
        .collect()
    }

    /// Returns whether exchanges are due that are not recorded.
    pub(in crate::supervisor) fn has_due_probes(&self, now: Instant) -> bool {
        self.probes.deadline().is_some_and(|due| due <= now)
    }

    /// Begins a run for these entries.
    pub(in crate::supervisor) fn begin(
        &mut self,
        due: Vec<EntityKey>,
        topology: &Topology,
        scope: Scope,
        now: Instant,
    ) -> Run {
        let mut run = Run::default();
        let mut selection = Selection::default();
        let mut consumers: BTreeMap<String, Vec<EntityKey>> = BTreeMap::new();
        for key in &due {
            match key {
                EntityKey::Exchange(name) => selection.add_exchange(name),
                EntityKey::Queue(name) => selection.add_queue(name),
                EntityKey::Binding(binding) => selection.add_binding(binding),
                EntityKey::Consumer { .. } => {
                    let repair = self.entries.get(key).and_then(|entry| entry.repair.as_ref());
                    let Some(queue) = repair.map(|repair| repair.trial.queue.clone()) else { continue };
                    consumers.entry(queue).or_default().push(key.clone());
                }
                EntityKey::Channel(_) | EntityKey::Prefetch(_) => {}
            }
        }
        for queue in consumers.keys() {
            selection.add_queue(queue);
            topology.auto_delete_sources(queue).into_iter().for_each(|name| selection.add_exchange(name));
        }
        let replaced = |queue: &str| {
            let entry = self.entries.get(&EntityKey::Queue(queue.to_owned()));
            entry.is_some_and(|entry| entry.is_missing() && entry.replace)
        };
        let is_in_place = |binding: &BindingKey| {
            let is_renamed = binding.to_queue && replaced(&binding.destination);
            !is_renamed && self.are_ends_in_place(binding, &selection)
        };
        run.steps = topology.selected_steps(&selection, is_in_place);
        for step in &mut run.steps {
            if let RecoveryStep::Queue { declare, name } = step
                && declare.name.is_empty()
                && !replaced(name.as_str())
            {
                // Declared without a name, it would be another queue.
                name.as_str().clone_into(&mut declare.name);
                declare.passive = true;
            }
        }
        for (queue, keys) in consumers {
            let is_auto_delete = topology.is_auto_delete(&queue);
            if is_auto_delete && topology.is_server_named(&queue) {
                // The broker would delete it with the trial consumer.
                continue;
            }
            for key in keys {
                let Some(entry) = self.entries.get(&key) else { continue };
                let Some(trial) = entry.repair.as_ref().map(|repair| repair.trial.clone()) else { continue };
                let tag = trial.tag.clone();
                run.steps.push(RecoveryStep::TrialConsume(trial));
                run.steps.push(RecoveryStep::TrialCancel(tag));
                run.trials.push_back(key);
            }
            if is_auto_delete {
                // The broker may have deleted it with the trial consumer.
                run.steps.extend(topology.selected_steps(&topology.with_sources(&queue), is_in_place));
            }
        }
        if scope == Scope::All {
            run.probes = self.probes.due(now);
            self.probes.sent(&run.probes);
            let probe = |name: &String| RecoveryStep::Exchange(DeclareExchange::existing(name));
            run.steps.extend(run.probes.iter().map(probe));
        }
        for key in &due {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.progress = Progress::Trying;
                entry.backoff.tried();
            }
        }
        run.tried = due;
        run
    }

    /// Takes the results of a run, fewer if the broker did not reply, and returns the consumers that their channels can start.
    pub(in crate::supervisor) fn finish(
        &mut self,
        mut run: Run,
        steps: Vec<RecoveryStep>,
        mut results: Vec<StepResult>,
        topology: &Topology,
        now: Instant,
    ) -> Vec<Repair> {
        // The step that has no reply in time holds up those behind it. These are tried without it.
        if results.len() < steps.len() {
            results.push(Err(Error::timeout("the broker did not reply in time")));
        }
        let mut outcomes = Outcomes::default();
        for (step, result) in steps.iter().zip(results) {
            let result = result.map(|_| ());
            match step {
                RecoveryStep::TrialConsume(_) => {
                    if let Some(key) = run.trials.pop_front() {
                        outcomes.trials.insert(key, result);
                    }
                }
                RecoveryStep::TrialCancel(_) => {}
                RecoveryStep::Exchange(declare) if run.is_probe(declare, topology) => match result {
                    // It exists, but not as it is recorded.
                    Ok(()) if topology.exchanges.contains_key(&declare.name) => {
                        self.stop_probing(&declare.name);
                    }
                    Ok(()) => {
                        self.found(&EntityKey::Exchange(declare.name.clone()), now);
                    }
                    Err(_) => self.probes.answered(&declare.name, now),
                },
                RecoveryStep::Queue { declare, name }
                    if declare.passive && topology.is_server_named(name.as_str()) =>
                {
                    self.checked(name.as_str(), &result, topology, now);
                    outcomes.checks.insert(name.as_str().to_owned(), result);
                }
                _ => self.step_done(step, result, topology, now),
            }
        }
        self.probes.without_result(&run.probes, now);
        run.tried.iter().filter_map(|key| self.settle(key, &mut outcomes, topology, now)).collect()
    }

    /// Takes the result of a step that declares or binds something.
    pub(in crate::supervisor) fn step_done(
        &mut self,
        step: &RecoveryStep,
        result: Result<(), Error>,
        topology: &Topology,
        now: Instant,
    ) {
        let Some(key) = EntityKey::of_step(step) else { return };
        let Err(error) = result else {
            self.found(&key, now);
            return;
        };
        // It was given up while the step was at the broker.
        if !topology.has(&key) {
            return;
        }
        // Its ends may be gone although they were declared a moment ago: the broker deletes what is
        // auto-delete when it notices that the last connection is dead.
        if let EntityKey::Binding(binding) = &key
            && is_not_found(&error)
        {
            for end in binding.ends_named_by(&error) {
                if topology.has(&end) && !topology.is_passive(&end) {
                    self.gone(&end, &error, topology, now);
                }
            }
        }
        self.refused(&key, error, now);
        if let RecoveryStep::Queue { declare, .. } = step
            && declare.name.is_empty()
            && let Some(entry) = self.entries.get_mut(&key)
        {
            entry.replace = true;
        }
    }

    /// A queue that the broker has named was looked for.
    fn checked(&mut self, name: &str, result: &Result<(), Error>, topology: &Topology, now: Instant) {
        let key = EntityKey::Queue(name.to_owned());
        match result {
            Ok(()) => {
                self.found(&key, now);
            }
            Err(error) if is_not_found(error) => {
                self.gone(&key, error, topology, now);
                if let Some(entry) = self.entries.get_mut(&key)
                    && entry.progress == Progress::Trying
                {
                    entry.progress = Progress::Waiting { due: now };
                }
            }
            Err(error) => self.refused(&key, error.clone(), now),
        }
    }

    /// Decides how it goes on with an entry of the run. Returns the consumer, if its channel can start it.
    fn settle(
        &mut self,
        key: &EntityKey,
        outcomes: &mut Outcomes,
        topology: &Topology,
        now: Instant,
    ) -> Option<Repair> {
        let longest = self.longest_pause;
        let entry = self.entries.get_mut(key).filter(|entry| entry.progress == Progress::Trying)?;
        let queue = entry.repair.as_ref().map(|repair| repair.trial.queue.clone());
        let check = queue.as_ref().and_then(|queue| outcomes.checks.get(queue));
        let result = outcomes.trials.remove(key).or_else(|| check.cloned());
        match result {
            Some(Ok(())) => {
                entry.progress = Progress::Starting;
                return entry.repair.clone();
            }
            // It waits for the queue that takes the place of its own.
            Some(Err(error))
                if is_not_found(&error) && queue.is_some_and(|q| topology.is_server_named(&q)) =>
            {
                entry.progress = Progress::Waiting { due: now };
            }
            Some(Err(error)) => self.refused(key, error, now),
            // It was not part of the steps.
            None => entry.progress = Progress::Waiting { due: entry.backoff.next(now, longest) },
        }
        None
    }
}
