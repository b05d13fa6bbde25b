//! The retry list: consumers that did not recover, and entities that could not be redeclared, one task each.
//!
//! A task runs on the utility channel, where a refusal closes no channel of the application. Given the
//! results and the time, this file decides how a task ends: it is done, it is tried again after a pause that
//! doubles, or its consumer is lost. The steps of a task are in `repair_steps.rs`.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    missing::Missing,
    redeclare_steps::{RecoveryStep, StepResult},
    refusal::{is_not_found, is_transient},
    repair_steps::{ServerNamed, repair_steps},
    topology::Topology,
};
use crate::{
    error::Error,
    internal::TrialConsume,
    message::{ConsumerEnd, EntityKind},
};

/// The first pause before a task runs again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct RetryList {
    tasks: VecDeque<RetryTask>,
}

#[derive(Debug)]
pub(super) struct RetryTask {
    kind: RetryKind,
    since: Instant,
    pause: Duration,
    due: Instant,
}

#[derive(Debug)]
enum RetryKind {
    Declare(Vec<RecoveryStep>),
    Repair(Repair),
}

/// A consumer that cannot start again on its channel for now.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) channel: u16,
    pub(super) consumer: u32,
    pub(super) trial: TrialConsume,
    /// Why it ended.
    pub(super) cause: ConsumerEnd,
    pub(super) queue: ServerNamed,
}

/// How a task ended.
#[derive(Debug)]
pub(super) enum TaskEnd {
    /// The entities are declared, or given up.
    Declared,
    /// Some entities are still to be declared.
    DeclareAgain(RetryTask),
    /// The consumer can start again.
    Repaired(Repair),
    RepairAgain(RetryTask),
    /// The consumer ends for this reason.
    Lost(Repair, ConsumerEnd),
}

impl RetryList {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.tasks.clear();
    }

    /// Adds steps to the task that is last, so that a queue is declared before its bindings.
    pub(super) fn add_steps(&mut self, mut steps: Vec<RecoveryStep>, now: Instant) {
        match self.tasks.back_mut().map(|task| &mut task.kind) {
            Some(RetryKind::Declare(earlier)) => earlier.append(&mut steps),
            _ if steps.is_empty() => {}
            _ => self.tasks.push_back(RetryTask::new(RetryKind::Declare(steps), now)),
        }
    }

    /// Adds a consumer in place of an earlier entry of the same one.
    pub(super) fn add_repair(&mut self, repair: Repair, now: Instant) {
        self.remove_consumer(repair.channel, repair.consumer);
        self.tasks.push_back(RetryTask::new(RetryKind::Repair(repair), now));
    }

    pub(super) fn push(&mut self, task: RetryTask) {
        self.tasks.push_back(task);
    }

    pub(super) fn remove_consumer(&mut self, channel: u16, consumer: u32) {
        self.tasks.retain(|task| {
            task.repair().is_none_or(|repair| (repair.channel, repair.consumer) != (channel, consumer))
        });
    }

    /// Removes the consumers of a channel, and returns their tags.
    pub(super) fn remove_channel(&mut self, channel: u16) -> Vec<Arc<str>> {
        let is_of_channel =
            |task: &mut RetryTask| task.repair().is_some_and(|repair| repair.channel == channel);
        self.extract(is_of_channel).into_iter().map(|repair| repair.trial.tag).collect()
    }

    /// Removes and returns the consumers that are not recorded any more.
    pub(super) fn remove_unrecorded(&mut self, topology: &Topology) -> Vec<Repair> {
        self.extract(|task| !task.is_recorded(topology))
    }

    fn extract(&mut self, mut which: impl FnMut(&mut RetryTask) -> bool) -> Vec<Repair> {
        let mut removed = Vec::new();
        for mut task in std::mem::take(&mut self.tasks) {
            if which(&mut task) {
                if let RetryKind::Repair(repair) = task.kind {
                    removed.push(repair);
                }
            } else {
                self.tasks.push_back(task);
            }
        }
        removed
    }

    pub(super) fn rename_queue(&mut self, old: &str, new: &str) {
        self.tasks.iter_mut().for_each(|task| task.rename_queue(old, new));
    }

    /// Returns when the next task is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.tasks.iter().map(|task| task.due).min()
    }

    /// Takes the task that has been due longest.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<RetryTask> {
        let (at, task) = self.tasks.iter().enumerate().min_by_key(|(_, task)| task.due)?;
        if task.due > now { None } else { self.tasks.remove(at) }
    }
}

impl RetryTask {
    fn new(kind: RetryKind, now: Instant) -> Self {
        Self { kind, since: now, pause: FIRST_PAUSE, due: now }
    }

    fn repair(&self) -> Option<&Repair> {
        match &self.kind {
            RetryKind::Repair(repair) => Some(repair),
            RetryKind::Declare(_) => None,
        }
    }

    /// A consumer that was cancelled, or whose queue was deleted, is not recorded any more.
    fn is_recorded(&self, topology: &Topology) -> bool {
        self.repair().is_none_or(|repair| topology.has_consumer(repair.channel, &repair.trial.tag))
    }

    pub(super) fn rename_queue(&mut self, old: &str, new: &str) {
        if let RetryKind::Repair(Repair { trial, queue, .. }) = &mut self.kind
            && trial.queue == old
        {
            new.clone_into(&mut trial.queue);
            // One new queue is enough for all of its consumers.
            *queue = ServerNamed::Check;
        }
    }

    /// Runs it again after a pause.
    pub(super) fn postponed(self, now: Instant) -> Self {
        Self { due: now + self.pause, pause: (self.pause * 2).min(MAX_PAUSE), ..self }
    }

    /// Returns what the task sends.
    pub(super) fn steps(&self, topology: &Topology) -> Vec<RecoveryStep> {
        match &self.kind {
            // What was deleted or unbound since then stays so.
            RetryKind::Declare(steps) => {
                let is_recorded = |step: &&RecoveryStep| topology.is_recorded(step.kind(), &step.name());
                steps.iter().filter(is_recorded).cloned().collect()
            }
            RetryKind::Repair(repair) => repair_steps(topology, &repair.trial, repair.queue),
        }
    }

    /// Takes the results of the steps. Refusals are tried again until `limit` after the first attempt.
    pub(super) fn finish(
        self,
        steps: Vec<RecoveryStep>,
        results: Vec<StepResult>,
        topology: &Topology,
        missing: &mut Missing,
        limit: Duration,
        now: Instant,
    ) -> TaskEnd {
        let in_time = now.saturating_duration_since(self.since) < limit;
        let is_recorded = self.is_recorded(topology);
        let Self { kind, since, pause, due } = self;
        let task = |kind| Self { kind, since, pause, due };
        match kind {
            RetryKind::Declare(_) => {
                let again = finish_declares(steps, results, missing, in_time);
                if again.is_empty() {
                    TaskEnd::Declared
                } else {
                    TaskEnd::DeclareAgain(task(RetryKind::Declare(again)).postponed(now))
                }
            }
            RetryKind::Repair(mut repair) => {
                let refused = first_refusal(&steps, results, missing);
                if !is_recorded {
                    let end = repair.cause.clone();
                    return TaskEnd::Lost(repair, end);
                }
                let Some((step, error)) = refused else { return TaskEnd::Repaired(repair) };
                let checked = matches!(step, RecoveryStep::Queue { declare, .. } if declare.passive);
                let is_gone = checked && is_not_found(&error);
                if is_gone && in_time && topology.is_server_named(&repair.trial.queue) {
                    repair.queue = ServerNamed::Replace;
                    let task = task(RetryKind::Repair(repair)).postponed(now);
                    TaskEnd::RepairAgain(Self { due: now, ..task })
                } else if in_time && (is_gone || is_transient(&error)) {
                    TaskEnd::RepairAgain(task(RetryKind::Repair(repair)).postponed(now))
                } else {
                    let end = match &repair.cause {
                        ConsumerEnd::Closed(_) => ConsumerEnd::Closed(error),
                        other => other.clone(),
                    };
                    TaskEnd::Lost(repair, end)
                }
            }
        }
    }
}

/// Notes what is declared now, and returns what is to be declared again.
fn finish_declares(
    steps: Vec<RecoveryStep>,
    results: Vec<StepResult>,
    missing: &mut Missing,
    in_time: bool,
) -> Vec<RecoveryStep> {
    let may_appear = results.iter().any(|result| result.as_ref().is_err_and(is_transient));
    let mut again = Vec::new();
    for (step, result) in steps.into_iter().zip(results) {
        match result {
            Ok(_) => missing.remove(step.kind(), &step.name()),
            Err(error) => {
                let may_succeed = is_transient(&error) || (may_appear && is_not_found(&error));
                missing.insert(step.skipped(error));
                if in_time && may_succeed {
                    again.push(step);
                }
            }
        }
    }
    again
}

/// Returns the first refusal that keeps the consumer from starting. Those of bindings and exchanges do not.
fn first_refusal<'a>(
    steps: &'a [RecoveryStep],
    results: Vec<StepResult>,
    missing: &mut Missing,
) -> Option<(&'a RecoveryStep, Error)> {
    let mut refused = None;
    for (step, result) in steps.iter().zip(results) {
        match result {
            Err(error) if matches!(step.kind(), EntityKind::Binding | EntityKind::Exchange) => {
                missing.insert(step.skipped(error));
            }
            Err(error) => refused = refused.or(Some((step, error))),
            Ok(_) => missing.remove(step.kind(), &step.name()),
        }
    }
    refused
}
