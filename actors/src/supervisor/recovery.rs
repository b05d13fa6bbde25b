//! From an open connection to a recovered one: the topology is redeclared, the channels are attached, and
//! what is missing is repaired.
//!
//! What is declared in which order is in `redeclare.rs`, what is repaired when in `repair.rs`. Here their
//! decisions become work of the utility channel, messages to channels, and phases.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    effect::Effect,
    phase::{Open, Phase},
    redeclare::{Next, Redeclare},
    redeclare_steps::{RecoveryStep, StepResult},
    refusal::is_transient,
    repair::{Repair, RetryTask, TaskEnd},
    supervision::Supervision,
    utility_task::{Purpose, UtilityTask},
};
use crate::{
    error::Error,
    internal::{ChannelMessage, ConnectionCommand},
    message::{ConnectionEvent, ConsumerEnd, EntityKind, Skipped},
    wire::Fault,
};

/// The least time for which a refused step is tried again. With a long heartbeat interval it is longer,
/// because the broker may notice the dead connection later.
const RETRY_LIMIT: Duration = Duration::from_secs(60);

impl Supervision {
    pub(super) fn redeclare_topology(&mut self, open: Open, now: Instant) {
        let (redeclare, next) = Redeclare::start(&self.topology, now);
        self.phase = Phase::RedeclaringTopology(open, redeclare);
        self.health_changed();
        self.redeclare_next(next, now);
    }

    fn redeclare_next(&mut self, next: Next, now: Instant) {
        match next {
            Next::Send(steps) => {
                // No channel is attached yet, so that every number is free at the broker.
                self.run_steps(self.channels.numbers.max(), steps, Purpose::Redeclare);
            }
            Next::Wait => {}
            Next::Done => {
                let Some(open) = self.phase.open().cloned() else { return };
                self.phase = Phase::Attaching(open, self.attach_channels());
                self.recovery_advanced(now);
            }
        }
    }

    /// Sends refused steps again when their pause is over.
    pub(super) fn redeclare_when_due(&mut self, now: Instant) {
        if let Phase::RedeclaringTopology(_, redeclare) = &mut self.phase
            && let Some(steps) = redeclare.take_due(now)
        {
            self.redeclare_next(Next::Send(steps), now);
        }
    }

    fn run_steps(&mut self, number: u16, steps: Vec<RecoveryStep>, purpose: Purpose) {
        self.effects.push_back(Effect::StartUtility { number, steps: steps.clone() });
        self.utility = Some(UtilityTask { number, steps, purpose });
    }

    /// The utility channel has ended. There is no result for a step without a reply.
    pub(super) fn steps_done(&mut self, number: u16, results: Vec<StepResult>, now: Instant) {
        let Some(mut task) = self.utility.take_if(|task| task.number == number) else { return };
        if results.len() < task.steps.len() {
            let fault = Fault::internal("no answer while the topology is redeclared");
            self.effects.push_back(Effect::Command(ConnectionCommand::Fail { fault }));
            return;
        }
        self.effects.push_back(Effect::Command(ConnectionCommand::DetachChannel { channel: number }));
        self.rename_queues(&mut task, &results);
        match task.purpose {
            Purpose::Redeclare => {
                let Phase::RedeclaringTopology(_, redeclare) = &mut self.phase else { return };
                let retries_pending = !self.retries.is_empty();
                let redeclared = redeclare.sent(task.steps, results, retries_pending, &self.topology, now);
                redeclared.skipped.into_iter().for_each(|skipped| self.missing.insert(skipped));
                self.retries.add_steps(redeclared.retry, now);
                self.redeclare_next(redeclared.next, now);
            }
            Purpose::Retry(retry) => {
                self.channels.numbers.give_back(number);
                self.retry_done(retry, task.steps, results, now);
            }
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
                self.retries.rename_queue(&old, new);
                if let Purpose::Retry(retry) = &mut task.purpose {
                    retry.rename_queue(&old, new);
                }
            }
        }
    }

    /// A channel has recovered, except for these consumers.
    pub(super) fn channel_recovered(&mut self, channel: u16, skipped: Vec<Skipped>, now: Instant) {
        skipped.into_iter().for_each(|skipped| self.missing.insert(skipped));
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
            let skipped = self.missing.to_skipped();
            log::info!("connection {}: recovered, {} skipped", self.epoch, skipped.len());
            self.notify(ConnectionEvent::Recovered { epoch: self.epoch, skipped });
            self.forget_unrecorded();
        }
        self.health_changed();
        self.retry_when_due(now);
    }

    /// Forgets what is missing of entities that are not recorded any more, and ends their consumers.
    pub(super) fn forget_unrecorded(&mut self) {
        let lost = self.retries.remove_unrecorded(&self.topology);
        // `Recovered` names everything that its recovery skipped.
        if !matches!(self.phase, Phase::Attaching(..)) {
            self.missing.retain_recorded(&self.topology);
        }
        for repair in lost {
            let end = repair.cause.clone();
            self.lose_consumer(&repair, end);
        }
        self.health_changed();
    }

    /// A consumer has started again.
    pub(super) fn consumer_recovered(&mut self, tag: &str) {
        self.missing.remove(EntityKind::Consumer, tag);
        self.health_changed();
    }

    /// A consumer delivers nothing, and only the application can start it again.
    pub(super) fn consumer_missing(&mut self, tag: &str, error: Error) {
        self.missing.insert(Skipped { kind: EntityKind::Consumer, name: tag.to_owned(), error });
        self.health_changed();
    }

    /// A 404 named an exchange or queue. A recorded one is declared again with its bindings.
    pub(super) fn entity_gone(&mut self, kind: EntityKind, name: String, error: Error, now: Instant) {
        let steps = self.topology.entity_steps(kind, &name);
        if steps.is_empty() {
            return self.send_to_channels(|| ChannelMessage::EntityFound { kind, name: name.clone() });
        }
        self.gone.insert((kind, name.clone()));
        self.missing.insert(Skipped { kind, name, error });
        self.health_changed();
        self.retries.add_steps(steps, now);
        self.retry_when_due(now);
    }

    /// A consumer cannot start again. It is tried on the utility channel, because a refusal would close its
    /// own.
    pub(super) fn repair(&mut self, repair: Repair, now: Instant) {
        self.retries.remove_consumer(repair.channel, repair.consumer);
        let is_recorded = self.topology.queue(&repair.trial.queue).is_some();
        let error = match &repair.cause {
            ConsumerEnd::Closed(error) => error.clone(),
            _ => Error::refused_here("the broker cancelled the consumer"),
        };
        if !(is_recorded || is_transient(&error)) || self.topology.is_deleting(&repair.trial.queue) {
            let end = repair.cause.clone();
            self.lose_consumer(&repair, end);
            return;
        }
        let (kind, name) = (EntityKind::Consumer, repair.trial.tag.to_string());
        self.missing.insert(Skipped { kind, name, error });
        self.health_changed();
        self.retries.add_repair(repair, now);
        self.retry_when_due(now);
    }

    fn lose_consumer(&mut self, repair: &Repair, end: ConsumerEnd) {
        self.missing.remove(EntityKind::Consumer, &repair.trial.tag);
        self.health_changed();
        self.finish_repair(repair, Err(end));
    }

    fn finish_repair(&mut self, repair: &Repair, result: Result<(), ConsumerEnd>) {
        let message = ChannelMessage::ConsumerRepaired { consumer: repair.consumer, result };
        self.effects.push_back(Effect::SendToChannel(repair.channel, message));
    }

    /// Returns whether the retry list may use the utility channel.
    pub(super) fn can_retry(&self) -> bool {
        self.utility.is_none() && self.phase.open().is_some() && !self.phase.is_recovering()
    }

    /// Starts the next task of the retry list that is due.
    pub(super) fn retry_when_due(&mut self, now: Instant) {
        while self.can_retry()
            && let Some(task) = self.retries.take_due(now)
        {
            match self.channels.numbers.take_last() {
                Some(number) => self.run_steps(number, task.steps(&self.topology), Purpose::Retry(task)),
                None => {
                    log::debug!("connection {}: no channel number is free for a repair", self.epoch);
                    self.retries.push(task.postponed(now));
                }
            }
        }
    }

    fn retry_done(
        &mut self,
        task: RetryTask,
        steps: Vec<RecoveryStep>,
        results: Vec<StepResult>,
        now: Instant,
    ) {
        for (step, result) in steps.iter().zip(&results) {
            let kind = step.kind();
            if result.is_ok() && self.gone.remove(&(kind, step.name())) {
                self.send_to_channels(|| ChannelMessage::EntityFound { kind, name: step.name() });
            }
        }
        let heartbeat = self.phase.open().map_or(0, |open| open.opened.negotiated.heartbeat);
        let limit = RETRY_LIMIT.max(Duration::from_secs(10 + 2 * u64::from(heartbeat)));
        match task.finish(steps, results, &self.topology, &mut self.missing, limit, now) {
            TaskEnd::Declared => self.health_changed(),
            TaskEnd::DeclareAgain(task) => {
                self.retries.push(task);
                self.health_changed();
            }
            TaskEnd::Repaired(repair) => self.finish_repair(&repair, Ok(())),
            TaskEnd::RepairAgain(task) => self.retries.push(task),
            TaskEnd::Lost(repair, end) => self.lose_consumer(&repair, end),
        }
        self.retry_when_due(now);
    }
}
