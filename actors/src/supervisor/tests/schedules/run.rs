//! The machine with what is around it: the connection, channels and consumers as their actors have them, and
//! the broker.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{consumers::ConsumerModel, model_broker::ModelBroker, steps::Step};
use crate::{
    internal::{Change, Entity, Removal},
    message::{
        BindExchange, BindQueue, CloseConnection, DeclareExchange, DeclareQueue, EntityKind, QueueName,
    },
    supervisor::{
        missing::EntityKey,
        redeclare_steps::RecoveryStep,
        tests::{Machine, refusal},
    },
};

pub(super) struct Run {
    pub(super) machine: Machine,
    pub(super) broker: ModelBroker,
    /// There is a `Connection` actor.
    pub(super) connection: bool,
    /// `connection.close` was ordered from it, or a fault.
    pub(super) ends: bool,
    pub(super) utility: Option<(u16, Vec<RecoveryStep>)>,
    pub(super) trial: Option<(u64, Vec<RecoveryStep>)>,
    pub(super) channels: Vec<u16>,
    pub(super) attached: BTreeSet<u16>,
    /// Channels that were open once, and those of them that have not recovered on this connection.
    pub(super) opened: BTreeSet<u16>,
    pub(super) recovering: BTreeSet<u16>,
    /// The consumers, by channel and number.
    pub(super) made: BTreeMap<(u16, u32), ConsumerModel>,
    /// How many consumers were ever made.
    pub(super) consumers: u32,
    pub(super) state: &'static str,
    pub(super) closed: bool,
    /// Since when every attempt was refused for good by every address.
    pub(super) refused_since: Option<Instant>,
    /// A close, or the last handle that was dropped, may end the connection.
    pub(super) may_close: bool,
}

pub(super) fn queue(at: usize) -> String {
    format!("queue {at}")
}

/// Three queues and three exchanges.
fn entity(at: usize) -> (EntityKind, String) {
    if at < 3 {
        (EntityKind::Queue, queue(at))
    } else {
        (EntityKind::Exchange, format!("exchange {}", at - 3))
    }
}

pub(super) fn key(at: usize) -> EntityKey {
    let (kind, name) = entity(at);
    EntityKey::declared(kind, &name).expect("an exchange or a queue")
}

impl Run {
    pub(super) fn new() -> Self {
        let mut run = Self {
            machine: Machine::with(|_| {}),
            broker: ModelBroker::default(),
            connection: true,
            ends: false,
            utility: None,
            trial: None,
            channels: Vec::new(),
            attached: BTreeSet::new(),
            opened: BTreeSet::new(),
            recovering: BTreeSet::new(),
            made: BTreeMap::new(),
            consumers: 0,
            state: "connecting",
            closed: false,
            refused_since: None,
            may_close: false,
        };
        // Others have declared what is not recorded.
        run.others_declare();
        run.step(&Step::Opened);
        run
    }

    pub(super) fn step(&mut self, step: &Step) {
        let now = self.machine.now;
        match step {
            Step::Opened => self.connection_opened(),
            Step::Ended => self.connection_ended(),
            Step::Refused(answers) => self.attempt_refused(answers),
            Step::ChannelLimit => self.channel_limit(),
            Step::Fatal { class_id, method_id, answered } => {
                self.fatal_method(*class_id, *method_id, *answered);
            }
            Step::FatalConsumer(at) => self.fatal_consumer(*at),
            Step::Trial(result) => self.trial_done(*result),
            Step::OpenChannel => self.open_channel(),
            Step::ChannelOpened(at) => self.channel_opened(*at),
            Step::ChannelClosed { at, free } => self.channel_closed(*at, *free),
            Step::ChannelRecovered { at, skips } => self.channel_recovered(*at, *skips),
            Step::ChannelBacksOff(at) => self.channel_backs_off(*at),
            Step::ChannelDrained(at) => {
                if let Some(channel) = self.channels.get(*at) {
                    self.machine.supervision.channel_drained(*channel, now);
                }
            }
            Step::Declare { queue, auto_delete } => self.declare(*queue, *auto_delete),
            Step::Forget(at) => {
                let removal = Removal::Queue(queue(*at));
                self.machine.supervision.topology_changed(Change::Forget(removal), now);
                self.delete(*at);
            }
            Step::Deleting { queue: at, is_deleting } => {
                self.machine.supervision.deleting(EntityKind::Queue, &queue(*at), *is_deleting, now);
            }
            Step::Gone(at) => {
                // What the application deletes is not declared again.
                if !self.machine.supervision.topology.is_deleting(&key(*at)) {
                    self.delete(*at);
                    self.report_gone(*at);
                }
            }
            Step::GiveUp(at) => {
                let (kind, name) = entity(*at);
                self.machine.supervision.give_up(kind, &name);
            }
            Step::Repair { at, queue, code } => self.make_consumer(*at, *queue, *code),
            Step::RepairAgain { at, code } => self.stop_running(*at, *code),
            Step::Started { at, code } => self.consumer_started(*at, *code),
            Step::Cancel(at) => self.cancel(*at),
            Step::ByApplication { at, missing } => self.by_application(*at, *missing),
            Step::Results { codes, all } => self.utility_reports(codes, *all),
            Step::Blocked(blocked) => {
                if self.state == "open" {
                    let now = self.machine.now;
                    self.machine.supervision.set_blocked(blocked.then(|| "low on memory".into()), now);
                }
            }
            Step::Wait(millis) => {
                self.machine.pass(Duration::from_millis(*millis));
                let deadline = self.machine.supervision.deadline();
                assert!(deadline.is_none_or(|due| due > self.machine.now), "due again at once");
            }
            Step::Close => {
                self.may_close = true;
                self.machine.supervision.close(CloseConnection::new().reason(200, "bye"), now);
            }
            Step::Release => {
                self.may_close = true;
                self.machine.supervision.release(now);
            }
        }
        self.perform();
        let queues = self.consumed_queues();
        self.broker.set_consumed(queues);
    }

    fn declare(&mut self, at: usize, auto_delete: bool) {
        let (name, (_, exchange)) = (queue(at), entity(3 + at));
        let declare = DeclareQueue::new(&name).auto_delete(auto_delete);
        for entity in [
            Entity::Queue { declare, name: QueueName::new(&name) },
            Entity::Exchange(DeclareExchange::fanout(&exchange).auto_delete(auto_delete)),
            Entity::QueueBinding(BindQueue::new(name, &exchange, "")),
            Entity::ExchangeBinding(BindExchange::new(exchange, "exchange 0", "")),
        ] {
            if self.broker.declare(&entity).is_ok() {
                self.machine.record(entity);
            }
        }
    }

    /// An exchange or a queue is deleted; the broker cancels its consumers.
    fn delete(&mut self, at: usize) {
        self.broker.delete(&key(at));
        let (kind, name) = entity(at);
        let on_it = self.running().filter(|(_, made)| kind == EntityKind::Queue && made.queue == name);
        let cancelled: Vec<_> = on_it.map(|(key, _)| *key).collect();
        cancelled.into_iter().for_each(|key| self.suspend(key, 0));
    }

    /// The queue of a consumer is deleted, if it is one of those that schedules delete.
    pub(super) fn delete_queue(&mut self, name: &str) {
        if let Some(at) = (0..3).find(|at| queue(*at) == name) {
            self.delete(at);
        }
    }

    /// A publish, or another call, names what does not exist.
    pub(super) fn report_gone(&mut self, at: usize) {
        if self.state == "open" {
            let ((kind, name), now) = (entity(at), self.machine.now);
            self.machine.supervision.entity_gone(kind, &name, &refusal(404), now);
        }
    }

    /// Other clients declare what is not recorded, and what consumers use besides.
    pub(super) fn others_declare(&mut self) {
        let keys = (0..6).map(key).filter(|key| !self.machine.supervision.topology.has(key));
        let keys: Vec<_> = keys.chain([EntityKey::Queue(queue(3))]).collect();
        keys.iter().for_each(|key| self.broker.declared_by_others(key));
    }

    fn utility_reports(&mut self, codes: &[u16], all: bool) {
        if let Some((number, steps)) = self.utility.take() {
            let broker = &mut self.broker;
            let result = |(step, code): (_, &u16)| match code {
                0 => broker.run(step).map(|()| None),
                code => Err(refusal(*code)),
            };
            let count = if all { steps.len() } else { 0 };
            let results = steps.iter().zip(codes.iter().cycle()).take(count).map(result).collect();
            self.machine.supervision.steps_done(number, results, self.machine.now);
        }
    }
}
