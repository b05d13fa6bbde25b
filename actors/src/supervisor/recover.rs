//! What the supervisor does when a connection is lost: waits, dials, declares everything again, and gives the new
//! connection to its channels.
//!
//! Declarations come first, for all channels together; what a lock of the dead connection still holds is tried again for
//! a moment. Then every channel restores itself. What could not be had is reported, and, where that may change, tried
//! further beside everything else.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use actix::{AsyncContext, Context, Recipient, SpawnHandle};
use tokio::time::Instant;

use super::{
    ConnectionSupervisor,
    backoff::ReconnectBackoff,
    recovery_steps::{RecoveryStep, StepResult},
    topology::Topology,
    utility_channel::UtilityChannel,
};
use crate::{
    error::{Error, ErrorKind},
    message::{
        ConnectionEvent, ConnectionState, ConsumerEnd, EntityKind, Skipped,
        internal::{ChannelMessage, ConnectionCommand, TrialConsume},
    },
    options::{Backoff, Recovery},
    wire::Fault,
};

/// How long channels wait for what is locked.
const LOCKED: Duration = Duration::from_secs(5);
/// The first wait before something refused is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long something refused is tried again at least; longer where the dead connection may hold a lock longer.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct ConnectionRecovery {
    pub(super) topology: Topology,
    pub(super) attempts: ReconnectBackoff,
    /// Until the next try.
    timer: Option<SpawnHandle>,
    opened: Option<Instant>,
    stage: RecoveryPhase,
    /// The scratch channel that is at work, and what it does.
    scratch: Option<Work>,
    /// What is tried again, or beside everything else.
    jobs: VecDeque<RetryTask>,
    jobs_timer: Option<SpawnHandle>,
    pub(super) skipped: Vec<Skipped>,
}

#[derive(Debug, Default)]
enum RecoveryPhase {
    #[default]
    Idle,
    /// Declares what all channels share.
    Declaring { since: Instant, wait: Duration, tried: Vec<RecoveryStep>, then_bind: bool },
    /// These channels are not restored yet.
    Channels(BTreeSet<u16>),
}

#[derive(Debug)]
struct Work {
    number: u16,
    down: Recipient<ChannelMessage>,
    steps: Vec<RecoveryStep>,
    job: Option<RetryTask>,
}

#[derive(Debug)]
struct RetryTask {
    what: RetryKind,
    since: Instant,
    wait: Duration,
    due: Instant,
}

#[derive(Debug)]
enum RetryKind {
    Declare(Vec<RecoveryStep>),
    Repair {
        channel: u16,
        consumer: u32,
        probe: TrialConsume,
        cause: ConsumerEnd,
        /// A queue that the broker had named is gone: another one takes its place.
        anew: bool,
    },
}

impl ConnectionSupervisor {
    /// A connection has ended, or did not come about.
    pub(super) fn ended(&mut self, error: Error, ctx: &mut Context<Self>) {
        let first = !self.was_open && self.options.fail_fast;
        let unneeded = self.released && self.routes.is_empty();
        match self.options.recovery {
            Recovery::After(backoff) if self.closing.is_none() && !first && !unneeded => {
                self.lost(error, backoff, ctx);
            }
            _ => self.over(error, ctx),
        }
    }

    fn lost(&mut self, error: Error, backoff: Backoff, ctx: &mut Context<Self>) {
        self.connection = None;
        let now = Instant::now();
        if let ConnectionState::Open(opened) = &*self.state.borrow() {
            let quiet = Duration::from_secs(opened.negotiated.heartbeat.max(1).into());
            if self.recovering.opened.is_some_and(|at| now.saturating_duration_since(at) >= quiet) {
                self.recovering.attempts.reset();
            }
        }
        if self.recovering.opened.take().is_some() {
            log::warn!("connection lost: {error}");
            self.forget_life(&error, ctx);
            self.tell(&ConnectionEvent::Lost(error.clone()));
        } else {
            log::debug!("not connected: {error}");
        }
        let refused =
            matches!(error.kind(), ErrorKind::Auth | ErrorKind::Vhost) && error.close_reason().is_some();
        let for_good = self.recovering.attempts.is_refused_for_good(refused, now);
        let next = self.recovering.attempts.next(&backoff, now).filter(|_| !for_good);
        let Some((attempt, delay)) = next else {
            log::error!("no connection, and given up: {error}");
            return self.over(error, ctx);
        };
        log::info!("connection: try {attempt} in {delay:?}: {error}");
        self.state.send_replace(ConnectionState::Reconnecting(error.clone()));
        self.health_changed();
        self.tell(&ConnectionEvent::Retrying { attempt, delay, error });
        self.recovering.timer = Some(ctx.run_later(delay, |supervisor, ctx| {
            supervisor.recovering.timer = None;
            supervisor.dial(ctx);
        }));
    }

    /// Takes the connection that is gone from everyone who used it.
    fn forget_life(&mut self, error: &Error, ctx: &mut Context<Self>) {
        let epoch = self.epoch;
        self.recovering.stage = RecoveryPhase::Idle;
        self.stop_scratch(error);
        self.recovering.jobs.clear();
        self.recovering.skipped.clear();
        self.recovering.topology.forget_deletes();
        if let Some(timer) = self.recovering.jobs_timer.take() {
            ctx.cancel_future(timer);
        }
        self.forget_secrets(error, ctx);
        for route in self.routes.values() {
            route.down.do_send(ChannelMessage::Detached { epoch, error: error.clone() });
        }
        // The broker knows of none any more.
        self.numbers.reset(self.routes.keys().copied());
    }

    /// Ends the scratch channel with its connection.
    pub(super) fn stop_scratch(&mut self, error: &Error) {
        if let Some(work) = self.recovering.scratch.take() {
            work.down.do_send(ChannelMessage::ConnectionClosed { error: error.clone() });
        }
    }

    /// Stops waiting for the next try; tells whether it did.
    pub(super) fn stop_waiting(&mut self, ctx: &mut Context<Self>) -> bool {
        let timer = self.recovering.timer.take();
        timer.is_some_and(|timer| ctx.cancel_future(timer))
    }

    /// There is a connection.
    pub(super) fn begin_restore(&mut self, ctx: &mut Context<Self>) {
        self.recovering.opened = Some(Instant::now());
        self.recovering.attempts.connected();
        if !self.was_open {
            self.was_open = true;
            self.attach_all(ctx);
            return;
        }
        let steps = self.recovering.topology.declarations();
        self.declare(steps, Instant::now(), true, ctx);
    }

    fn declare(
        &mut self,
        steps: Vec<RecoveryStep>,
        since: Instant,
        then_bind: bool,
        ctx: &mut Context<Self>,
    ) {
        let wait = FIRST_WAIT;
        self.recovering.stage = RecoveryPhase::Declaring { since, wait, tried: Vec::new(), then_bind };
        self.health_changed();
        if steps.is_empty() {
            self.declared(ctx);
        } else {
            // No channel is attached yet, so that every number is free at the broker.
            self.try_steps(self.numbers.max(), steps, None, ctx);
        }
    }

    fn try_steps(
        &mut self,
        number: u16,
        steps: Vec<RecoveryStep>,
        job: Option<RetryTask>,
        ctx: &mut Context<Self>,
    ) {
        let Some(life) = &self.connection else { return };
        let Some(negotiated) = &life.negotiated else { return };
        let up = ctx.address().recipient();
        let (actor, outbox) = UtilityChannel::start_with(number, self.epoch, steps.clone(), up);
        let down: Recipient<ChannelMessage> = actor.recipient();
        life.actor.do_send(ConnectionCommand::AttachChannel { channel: number, down: down.clone(), outbox });
        down.do_send(ChannelMessage::Attached {
            epoch: self.epoch,
            flush: life.flush.clone(),
            frame_max: negotiated.frame_max,
            credit: life.credit.clone(),
        });
        down.do_send(ChannelMessage::Blocked(self.is_blocked()));
        self.recovering.scratch = Some(Work { number, down, steps, job });
    }

    pub(super) fn scratch_blocked(&self, blocked: bool) {
        if let Some(work) = &self.recovering.scratch {
            work.down.do_send(ChannelMessage::Blocked(blocked));
        }
    }

    /// A scratch channel is done.
    pub(super) fn replayed(&mut self, number: u16, outcomes: Vec<StepResult>, ctx: &mut Context<Self>) {
        let Some(mut work) = self.recovering.scratch.take_if(|work| work.number == number) else { return };
        let Some(life) = &self.connection else { return };
        if outcomes.len() < work.steps.len() {
            let fault = Fault::internal("no answer while the topology is restored");
            life.actor.do_send(ConnectionCommand::Fail { fault });
            return;
        }
        life.actor.do_send(ConnectionCommand::DetachChannel { channel: number });
        for (step, outcome) in work.steps.iter().zip(&outcomes) {
            if let (RecoveryStep::Queue { declare, name }, Ok(Some(new))) = (step, outcome)
                && declare.name.is_empty()
                && let Some(old) = self.recovering.topology.rename(name, new)
            {
                log::info!("queue {old:?} is called {new:?} now");
                for route in self.routes.values() {
                    route.down.do_send(ChannelMessage::QueueRenamed { old: old.clone(), new: new.clone() });
                }
                for job in self.recovering.jobs.iter_mut().chain(&mut work.job) {
                    job.rename(&old, new);
                }
            }
        }
        match work.job {
            Some(job) => {
                self.numbers.give_back(number);
                self.job_done(job, work.steps, outcomes, ctx);
            }
            None => self.steps_done(work.steps, outcomes, ctx),
        }
    }

    fn steps_done(&mut self, steps: Vec<RecoveryStep>, outcomes: Vec<StepResult>, ctx: &mut Context<Self>) {
        let RecoveryPhase::Declaring { since, wait, tried, then_bind: _ } = &mut self.recovering.stage else {
            return;
        };
        let in_time = since.elapsed() < LOCKED;
        let owing = !self.recovering.jobs.is_empty() || outcomes.iter().any(passing);
        let mut owed = Vec::new();
        for (step, outcome) in steps.into_iter().zip(outcomes) {
            let Err(error) = outcome else { continue };
            let vanished = self.recovering.topology.vanished(&step).filter(|_| is_missing(&error));
            let may_pass = may_pass(&error) || (owing && is_missing(&error)) || vanished.is_some();
            if may_pass && in_time {
                tried.extend(vanished);
                tried.push(step);
                continue;
            }
            log::warn!("not restored: {} {:?}: {error}", step.kind(), step.name());
            self.recovering.skipped.push(step.skipped(error));
            if may_pass {
                owed.extend(vanished);
                owed.push(step);
            }
        }
        // One job, so that a queue comes before its bindings.
        match self.recovering.jobs.back_mut().map(|job| &mut job.what) {
            Some(RetryKind::Declare(earlier)) => earlier.append(&mut owed),
            _ if !owed.is_empty() => self.recovering.jobs.push_back(RetryTask::new(RetryKind::Declare(owed))),
            _ => {}
        }
        if tried.is_empty() {
            return self.declared(ctx);
        }
        let again = *wait;
        *wait = (*wait * 2).min(Duration::from_secs(1));
        let epoch = self.epoch;
        ctx.run_later(again, move |supervisor, ctx| {
            if let RecoveryPhase::Declaring { tried, .. } = &mut supervisor.recovering.stage
                && supervisor.epoch == epoch
            {
                let steps = std::mem::take(tried);
                supervisor.try_steps(supervisor.numbers.max(), steps, None, ctx);
            }
        });
    }

    fn declared(&mut self, ctx: &mut Context<Self>) {
        match self.recovering.stage {
            RecoveryPhase::Declaring { then_bind: true, since, .. } => {
                let steps = self.recovering.topology.queue_bindings();
                self.declare(steps, since, false, ctx);
            }
            _ => self.attach_all(ctx),
        }
    }

    /// Gives the connection to every channel.
    fn attach_all(&mut self, ctx: &mut Context<Self>) {
        let mut waiting = BTreeSet::new();
        let most = self.numbers.max();
        let mut numbers: Vec<u16> = self.routes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(route) = self.routes.get(&number) else { continue };
            if number > most {
                let error =
                    Error::limit(format!("channel {number} is more than the broker allows now, {most}"));
                let kind = EntityKind::Channel;
                self.recovering.skipped.push(Skipped {
                    kind,
                    name: number.to_string(),
                    error: error.clone(),
                });
                route.down.do_send(ChannelMessage::ConnectionClosed { error });
                continue;
            }
            if route.opening.is_none() {
                waiting.insert(number);
            }
            self.attach(number);
        }
        self.recovering.stage = RecoveryPhase::Channels(waiting);
        self.look_after_restore(ctx);
    }

    /// A channel is gone: nobody waits for its consumers any more.
    pub(super) fn channel_gone(&mut self, channel: u16, ctx: &mut Context<Self>) {
        for job in std::mem::take(&mut self.recovering.jobs) {
            match &job.what {
                RetryKind::Repair { channel: of, probe, .. } if *of == channel => {
                    let tag = probe.tag.clone();
                    self.found(EntityKind::Consumer, &tag);
                }
                _ => self.recovering.jobs.push_back(job),
            }
        }
        self.recovering.topology.forget_channel(channel);
        self.channel_restored(channel, Vec::new(), ctx);
    }

    /// A channel goes on.
    pub(super) fn channel_restored(&mut self, channel: u16, skipped: Vec<Skipped>, ctx: &mut Context<Self>) {
        for one in skipped {
            self.missing(one);
        }
        if let RecoveryPhase::Channels(waiting) = &mut self.recovering.stage {
            waiting.remove(&channel);
        }
        self.look_after_restore(ctx);
    }

    fn look_after_restore(&mut self, ctx: &mut Context<Self>) {
        if matches!(&self.recovering.stage, RecoveryPhase::Channels(waiting) if waiting.is_empty()) {
            self.recovering.stage = RecoveryPhase::Idle;
            if self.is_again {
                let skipped: Arc<[Skipped]> = self.recovering.skipped.clone().into();
                log::info!("restored, {} things skipped", skipped.len());
                self.tell(&ConnectionEvent::Recovered { epoch: self.epoch, skipped });
            }
            self.is_again = true;
            self.forget_missing();
        }
        self.health_changed();
        self.work_on(ctx);
    }

    /// Tells whether what all channels share is being declared, so that none may be open yet.
    pub(super) fn is_declaring(&self) -> bool {
        matches!(self.recovering.stage, RecoveryPhase::Declaring { .. })
    }

    pub(super) fn is_restoring(&self) -> bool {
        !matches!(self.recovering.stage, RecoveryPhase::Idle)
    }

    fn missing(&mut self, skipped: Skipped) {
        self.found(skipped.kind, &skipped.name);
        self.recovering.skipped.push(skipped);
    }

    fn found(&mut self, kind: EntityKind, name: &str) {
        self.recovering.skipped.retain(|one| one.kind != kind || one.name != name);
    }

    /// What is not recorded any more is not missing either, and its consumers are not tried any more.
    pub(super) fn forget_missing(&mut self) {
        let topology = &self.recovering.topology;
        let (jobs, ended): (VecDeque<RetryTask>, VecDeque<RetryTask>) =
            std::mem::take(&mut self.recovering.jobs).into_iter().partition(|job| job.is_wanted(topology));
        // What is said of a restore is said of all of it.
        if !matches!(self.recovering.stage, RecoveryPhase::Channels(_)) {
            self.recovering.skipped.retain(|one| topology.knows(one.kind, &one.name));
        }
        self.recovering.jobs = jobs;
        for job in ended {
            if let RetryKind::Repair { channel, consumer, probe, cause, .. } = job.what {
                self.lose_consumer(channel, consumer, &probe, cause);
            }
        }
        self.health_changed();
    }

    /// A consumer goes on.
    pub(super) fn consumer_resumed(&mut self, tag: &str) {
        self.found(EntityKind::Consumer, tag);
        self.health_changed();
    }

    /// A consumer cannot go on, and must not be tried on its channel.
    pub(super) fn repair(
        &mut self,
        channel: u16,
        consumer: u32,
        probe: TrialConsume,
        cause: ConsumerEnd,
        ctx: &mut Context<Self>,
    ) {
        self.recovering.jobs.retain(|job| !job.is_for(channel, consumer));
        let recorded = self.recovering.topology.queue(&probe.queue).is_some();
        let may_pass = match &cause {
            ConsumerEnd::Closed(error) => recorded || may_pass(error),
            _ => recorded,
        };
        if !may_pass || self.recovering.topology.is_deleting(&probe.queue) {
            self.lose_consumer(channel, consumer, &probe, cause);
            return;
        }
        let error = match &cause {
            ConsumerEnd::Closed(error) => error.clone(),
            _ => Error::refused_here("the broker cancelled the consumer"),
        };
        self.missing(Skipped { kind: EntityKind::Consumer, name: probe.tag.to_string(), error });
        self.health_changed();
        let what = RetryKind::Repair { channel, consumer, probe, cause, anew: false };
        self.recovering.jobs.push_back(RetryTask::new(what));
        self.work_on(ctx);
    }

    fn lose_consumer(&mut self, channel: u16, consumer: u32, probe: &TrialConsume, cause: ConsumerEnd) {
        self.found(EntityKind::Consumer, &probe.tag);
        self.health_changed();
        if let Some(route) = self.routes.get(&channel) {
            route.down.do_send(ChannelMessage::ConsumerRepaired { consumer, result: Err(cause) });
        }
    }

    /// Begins the next job that is due, or waits for it.
    fn work_on(&mut self, ctx: &mut Context<Self>) {
        if self.recovering.scratch.is_some() || self.is_restoring() || self.negotiated().is_none() {
            return;
        }
        if let Some(timer) = self.recovering.jobs_timer.take() {
            ctx.cancel_future(timer);
        }
        let now = Instant::now();
        let next = self.recovering.jobs.iter().enumerate().min_by_key(|(_, job)| job.due);
        let Some((at, due)) = next.map(|(at, job)| (at, job.due)) else { return };
        if due > now {
            self.recovering.jobs_timer = Some(ctx.run_later(due - now, |supervisor, ctx| {
                supervisor.recovering.jobs_timer = None;
                supervisor.work_on(ctx);
            }));
            return;
        }
        let Some(job) = self.recovering.jobs.remove(at) else { return };
        let steps = match &job.what {
            // What was deleted or unbound meanwhile stays so.
            RetryKind::Declare(steps) => {
                let topology = &self.recovering.topology;
                let known = |step: &&RecoveryStep| topology.knows(step.kind(), &step.name());
                steps.iter().filter(known).cloned().collect()
            }
            RetryKind::Repair { probe, anew, .. } => self.repair_steps(probe, *anew),
        };
        match self.numbers.take_last() {
            Some(number) => self.try_steps(number, steps, Some(job), ctx),
            None => {
                log::debug!("no channel number is free to try on");
                self.recovering.jobs.push_back(job.again());
                self.work_on(ctx);
            }
        }
    }

    fn repair_steps(&self, probe: &TrialConsume, anew: bool) -> Vec<RecoveryStep> {
        let Some((declare, name, bindings)) = self.recovering.topology.queue(&probe.queue) else {
            return vec![
                RecoveryStep::TrialConsume(probe.clone()),
                RecoveryStep::TrialCancel(probe.tag.clone()),
            ];
        };
        let mut declare = declare.clone();
        let named_by_broker = declare.name.is_empty();
        let deletes_itself = declare.auto_delete;
        let tries = [RecoveryStep::TrialConsume(probe.clone()), RecoveryStep::TrialCancel(probe.tag.clone())];
        if named_by_broker && !anew {
            // Declared as it was, it would be another queue.
            name.as_str().clone_into(&mut declare.name);
            declare.passive = true;
            let mut steps = vec![RecoveryStep::of_queue(&declare, name)];
            if !deletes_itself {
                steps.extend(tries);
            }
            return steps;
        }
        let mut queue = vec![RecoveryStep::of_queue(&declare, name)];
        for mut step in bindings {
            if let RecoveryStep::BindQueue(bind) = &mut step
                && named_by_broker
            {
                // Without a name, it is the queue declared last.
                bind.queue.clear();
            }
            queue.push(step);
        }
        let mut steps = self.recovering.topology.sources_of(&probe.queue);
        if named_by_broker {
            // Nobody else has it, so that there is nothing to try.
            steps.extend(queue);
            return steps;
        }
        steps.extend(queue.iter().cloned());
        steps.extend(tries);
        if deletes_itself {
            // It may have gone with the consumer that was tried.
            steps.extend(queue);
        }
        steps
    }

    fn job_done(
        &mut self,
        mut job: RetryTask,
        steps: Vec<RecoveryStep>,
        outcomes: Vec<StepResult>,
        ctx: &mut Context<Self>,
    ) {
        let patience = PATIENCE.max(Duration::from_secs(
            10 + 2 * u64::from(self.negotiated().map_or(0, |negotiated| negotiated.heartbeat)),
        ));
        let in_time = job.since.elapsed() < patience;
        let wanted = job.is_wanted(&self.recovering.topology);
        match &mut job.what {
            RetryKind::Declare(owed) => {
                owed.clear();
                let owing = outcomes.iter().any(passing);
                for (step, outcome) in steps.into_iter().zip(outcomes) {
                    match outcome {
                        Ok(_) => self.found(step.kind(), &step.name()),
                        Err(error) => {
                            let again = in_time && (may_pass(&error) || (owing && is_missing(&error)));
                            self.missing(step.skipped(error));
                            if again {
                                owed.push(step);
                            }
                        }
                    }
                }
                if !owed.is_empty() {
                    self.recovering.jobs.push_back(job.again());
                }
                self.health_changed();
            }
            RetryKind::Repair { channel, consumer, probe, cause, anew } => {
                let mut refused = None;
                for (step, outcome) in steps.iter().zip(outcomes) {
                    match outcome {
                        // A consumer can do without a binding.
                        Err(error) if matches!(step.kind(), EntityKind::Binding | EntityKind::Exchange) => {
                            self.missing(step.skipped(error));
                        }
                        Err(error) => refused = refused.or(Some((step, error))),
                        Ok(_) => self.found(step.kind(), &step.name()),
                    }
                }
                let (channel, consumer) = (*channel, *consumer);
                match refused {
                    // Cancelled, or its queue deleted, meanwhile.
                    _ if !wanted => {
                        let (probe, cause) = (probe.clone(), cause.clone());
                        self.lose_consumer(channel, consumer, &probe, cause);
                    }
                    None => {
                        if let Some(route) = self.routes.get(&channel) {
                            route.down.do_send(ChannelMessage::ConsumerRepaired { consumer, result: Ok(()) });
                        }
                    }
                    Some((step, error)) => {
                        let missing = error.close_reason().is_some_and(|reason| reason.code == 404);
                        let looked_at =
                            matches!(step, RecoveryStep::Queue { declare, .. } if declare.passive);
                        let named_by_broker = |queue: &str| {
                            let known = self.recovering.topology.queue(queue);
                            known.is_some_and(|(declare, ..)| declare.name.is_empty())
                        };
                        let replace = looked_at && missing && named_by_broker(&probe.queue);
                        if in_time && (replace || may_pass(&error) || (missing && looked_at)) {
                            *anew |= replace;
                            let mut job = job.again();
                            if replace {
                                job.due = Instant::now();
                            }
                            self.recovering.jobs.push_back(job);
                        } else {
                            let end = match cause {
                                ConsumerEnd::Closed(_) => ConsumerEnd::Closed(error),
                                other => other.clone(),
                            };
                            let probe = probe.clone();
                            self.lose_consumer(channel, consumer, &probe, end);
                        }
                    }
                }
            }
        }
        self.work_on(ctx);
    }
}

impl RetryTask {
    fn new(what: RetryKind) -> Self {
        let now = Instant::now();
        Self { what, since: now, wait: FIRST_WAIT, due: now }
    }

    fn is_wanted(&self, topology: &Topology) -> bool {
        match &self.what {
            RetryKind::Declare(_) => true,
            RetryKind::Repair { channel, probe, .. } => topology.has_consumer(*channel, &probe.tag),
        }
    }

    fn is_for(&self, of: u16, which: u32) -> bool {
        matches!(self.what, RetryKind::Repair { channel, consumer, .. } if (channel, consumer) == (of, which))
    }

    fn rename(&mut self, old: &str, new: &str) {
        if let RetryKind::Repair { probe, anew, .. } = &mut self.what
            && probe.queue == old
        {
            new.clone_into(&mut probe.queue);
            // One is enough for all of its consumers.
            *anew = false;
        }
    }

    fn again(self) -> Self {
        Self { due: Instant::now() + self.wait, wait: (self.wait * 2).min(LONGEST_WAIT), ..self }
    }
}

fn passing(outcome: &StepResult) -> bool {
    outcome.as_ref().is_err_and(may_pass)
}

/// What it names may be among what is tried again.
fn is_missing(error: &Error) -> bool {
    error.close_reason().is_some_and(|reason| reason.code == 404)
}

/// Whether a refusal may be one of the moment: a lock that the dead connection still holds, or a node that is not there.
fn may_pass(error: &Error) -> bool {
    error.close_reason().is_some_and(|reason| match reason.code {
        403 | 405 => true,
        // A name may have such a word in it.
        404 if reason.text.starts_with("NOT_FOUND - no ") => false,
        404 => ["down", "stopped", "unavailable"].iter().any(|word| reason.text.contains(word)),
        541 => true,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CloseReason;

    #[test]
    fn what_is_not_there_does_not_come_back_by_itself() {
        let may_pass = |code, text: &str| {
            may_pass(&Error::refused("queue.declare", CloseReason::new(code, text.to_owned(), 50, 10)))
        };
        assert!(!may_pass(404, "NOT_FOUND - no queue 'countdown' in vhost '/'"));
        assert!(!may_pass(404, "NOT_FOUND - no exchange 'stopped' in vhost '/'"));
        assert!(!may_pass(
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'down' in vhost '/'"
        ));
        assert!(may_pass(
            404,
            "NOT_FOUND - home node 'a@b' of durable queue 'q' in vhost '/' is down or inaccessible"
        ));
        assert!(may_pass(404, "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor"));
        assert!(may_pass(
            405,
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'"
        ));
        assert!(may_pass(403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"));
    }
}
