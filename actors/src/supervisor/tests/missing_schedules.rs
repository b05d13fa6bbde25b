//! Random schedules of what is missing, beside connections that come and go.
//!
//! Exchanges and queues are deleted by others, declarations and consumers refused, channels limited and closed, consumers cancelled, things
//! forgotten. Whatever happens, the effects fit the state of the connection, and nothing is due twice. After the last fault
//! the broker has everything that is recorded, every consumer has started, nothing is missing, and the health is up; or the
//! connection is closed: by the application, or because every address has refused it for a minute.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{model_broker::ModelBroker, *};
use crate::{
    connection::FailedAttempt,
    internal::{Removal, TrialConsume},
    message::{BindExchange, BindQueue, ConsumerEnd, DeclareExchange, EntityKind, Skipped},
    supervisor::{
        missing::{EntityKey, Repair},
        phase::Phase,
        redeclare_steps::RecoveryStep,
    },
};

#[derive(Clone, Debug)]
enum Step {
    Opened,
    Ended,
    /// An attempt fails: what each of the addresses answers, in their order.
    Refused(Vec<Answer>),
    OpenChannel,
    ChannelOpened(usize),
    ChannelClosed {
        at: usize,
        free: bool,
    },
    /// A channel has recovered, and may have skipped its first consumer.
    ChannelRecovered {
        at: usize,
        skips: u16,
    },
    /// The broker has closed a channel, which reopens after a pause.
    ChannelBacksOff(usize),
    ChannelDrained(usize),
    Declare {
        queue: usize,
        auto_delete: bool,
    },
    Forget(usize),
    Deleting {
        queue: usize,
        is_deleting: bool,
    },
    /// A consumer is made, and cannot go on for this reason: 0 for the broker's cancel.
    Repair {
        at: usize,
        queue: usize,
        code: u16,
    },
    /// A running consumer cannot go on.
    RepairAgain {
        at: usize,
        code: u16,
    },
    /// A channel has started a consumer, or the broker has refused that.
    Started {
        at: usize,
        code: u16,
    },
    /// The application cancels a consumer.
    Cancel(usize),
    /// A 404 has named an exchange (3 and more) or a queue.
    Gone(usize),
    GiveUp(usize),
    /// The actor of a consumer is gone, or there is another one.
    ByApplication {
        at: usize,
        missing: bool,
    },
    /// The broker refuses one channel too many.
    ChannelLimit,
    /// The utility channel reports: the code of each refusal, 0 for success; fewer results if it ended early.
    Results {
        codes: Vec<u16>,
        all: bool,
    },
    Blocked(bool),
    Wait(u64),
    Close,
    Release,
}

/// What an address answers to an attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Login,
    MissingVhost,
    NoAccess,
    Limit,
    VhostDown,
    ShutsDown,
    Unreachable,
}

impl Answer {
    fn is_for_good(self) -> bool {
        matches!(self, Self::Login | Self::MissingVhost | Self::NoAccess)
    }

    fn error(self) -> Error {
        let (code, text) = match self {
            Self::Login => (403, "ACCESS_REFUSED - Login was refused"),
            Self::MissingVhost => (530, "NOT_ALLOWED - vhost v not found"),
            Self::NoAccess => (530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u'"),
            Self::Limit => (530, "NOT_ALLOWED - connection refused: node connection limit (1) is reached"),
            Self::VhostDown => {
                (541, "INTERNAL_ERROR - access to vhost 'v' refused for user 'u': vhost 'v' is down")
            }
            Self::ShutsDown => (320, "CONNECTION_FORCED - broker forced connection closure"),
            Self::Unreachable => return Error::timeout("connecting"),
        };
        Error::connect_refused(CloseReason::new(code, text, 10, 40))
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        6 => Just(Answer::Login),
        2 => Just(Answer::MissingVhost),
        2 => Just(Answer::NoAccess),
        1 => Just(Answer::Limit),
        1 => Just(Answer::VhostDown),
        1 => Just(Answer::ShutsDown),
        1 => Just(Answer::Unreachable),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let code = || prop_oneof![6 => Just(0), 1 => Just(403), 1 => Just(404), 2 => Just(405), 1 => Just(406)];
    prop_oneof![
        8 => Just(Step::Opened),
        3 => Just(Step::Ended),
        4 => prop::collection::vec(answer(), 1..3).prop_map(Step::Refused),
        3 => Just(Step::OpenChannel),
        3 => (0..4usize).prop_map(Step::ChannelOpened),
        1 => (0..4usize, any::<bool>()).prop_map(|(at, free)| Step::ChannelClosed { at, free }),
        4 => (0..4usize, code()).prop_map(|(at, skips)| Step::ChannelRecovered { at, skips }),
        1 => (0..4usize).prop_map(Step::ChannelBacksOff),
        1 => (0..4usize).prop_map(Step::ChannelDrained),
        3 => (0..3usize, any::<bool>()).prop_map(|(queue, auto_delete)| Step::Declare { queue, auto_delete }),
        1 => (0..3usize).prop_map(Step::Forget),
        1 => (0..3usize, any::<bool>())
            .prop_map(|(queue, is_deleting)| Step::Deleting { queue, is_deleting }),
        4 => (0..4usize, 0..4usize, code()).prop_map(|(at, queue, code)| Step::Repair { at, queue, code }),
        2 => (0..4usize, code()).prop_map(|(at, code)| Step::RepairAgain { at, code }),
        6 => (0..4usize, code()).prop_map(|(at, code)| Step::Started { at, code }),
        1 => (0..4usize).prop_map(Step::Cancel),
        3 => (0..6usize).prop_map(Step::Gone),
        1 => (0..6usize).prop_map(Step::GiveUp),
        1 => (0..4usize, any::<bool>()).prop_map(|(at, missing)| Step::ByApplication { at, missing }),
        1 => Just(Step::ChannelLimit),
        10 => (prop::collection::vec(code(), 4), prop::bool::weighted(0.97))
            .prop_map(|(codes, all)| Step::Results { codes, all }),
        1 => any::<bool>().prop_map(Step::Blocked),
        8 => prop_oneof![Just(50), Just(1000), Just(5000), Just(70_000)].prop_map(Step::Wait),
        1 => prop_oneof![6 => Just(Step::Wait(10)), 1 => Just(Step::Close), 1 => Just(Step::Release)],
    ]
}

struct Run {
    machine: Machine,
    broker: ModelBroker,
    /// There is a `Connection` actor.
    connection: bool,
    /// `connection.close` was ordered from it, or a fault.
    ends: bool,
    utility: Option<(u16, Vec<RecoveryStep>)>,
    channels: Vec<u16>,
    attached: BTreeSet<u16>,
    /// Channels that were open once, and those of them that have not recovered on this connection.
    opened: BTreeSet<u16>,
    recovering: BTreeSet<u16>,
    /// The consumers, by channel and number.
    made: BTreeMap<(u16, u32), ConsumerModel>,
    consumers: u32,
    state: &'static str,
    closed: bool,
    /// Since when every attempt was refused for good by every address.
    refused_since: Option<Instant>,
    /// A close, or the last handle that was dropped, may end the connection.
    may_close: bool,
}

struct ConsumerModel {
    tag: Arc<str>,
    queue: String,
    state: ConsumerStateModel,
    /// What its channel declares before it starts.
    declare: Vec<Entity>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConsumerStateModel {
    Running,
    /// The supervisor repairs what it needs.
    Suspended,
    /// Its channel starts it.
    Starting,
    ByApplication,
}

fn name(state: &ConnectionState) -> &'static str {
    match state {
        ConnectionState::Connecting => "connecting",
        ConnectionState::Open(_) => "open",
        ConnectionState::Reconnecting(_) => "reconnecting",
        ConnectionState::Closed(_) => "closed",
    }
}

fn queue(at: usize) -> String {
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

fn key(at: usize) -> EntityKey {
    let (kind, name) = entity(at);
    EntityKey::declared(kind, &name).expect("an exchange or a queue")
}

fn repair((channel, consumer): (u16, u32), made: &ConsumerModel, cause: ConsumerEnd) -> Repair {
    let (tag, queue) = (made.tag.clone(), made.queue.clone());
    let trial = TrialConsume { tag, queue, exclusive: false, arguments: Table::new(), shared_prefetch: None };
    Repair { channel, consumer, trial, cause }
}

fn cause(code: u16) -> ConsumerEnd {
    if code == 0 { ConsumerEnd::CancelledByBroker } else { ConsumerEnd::Closed(refusal(code)) }
}

impl Run {
    fn new() -> Self {
        let mut run = Self {
            machine: Machine::with(|_| {}),
            broker: ModelBroker::default(),
            connection: true,
            ends: false,
            utility: None,
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

    fn step(&mut self, step: &Step) {
        let now = self.machine.now;
        let channel = |at: &usize| self.channels.get(*at).copied();
        let supervision = &mut self.machine.supervision;
        match step {
            Step::Opened => {
                if self.connection && matches!(supervision.phase, Phase::Dialling(_)) {
                    self.machine.connect_with_channels(200);
                    self.refused_since = None;
                }
            }
            Step::Ended => {
                if self.connection {
                    self.refused_since = None;
                    self.machine.lose();
                }
            }
            Step::Refused(answers) => {
                if self.connection && matches!(supervision.phase, Phase::Dialling(_)) {
                    let for_good = answers.iter().all(|answer| answer.is_for_good());
                    self.refused_since = if for_good { self.refused_since.or(Some(now)) } else { None };
                    let mut failed = FailedAttempt::default();
                    answers.iter().for_each(|answer| failed.add(answer.error()));
                    supervision.connection_ended(failed.into_error().unwrap(), now);
                }
            }
            Step::OpenChannel => {
                if let Ok(number) = supervision.open_channel(&OpenChannel::new().confirms(false)) {
                    self.channels.push(number);
                }
            }
            Step::ChannelOpened(at) => {
                if let Some(channel) = channel(at).filter(|channel| self.attached.contains(channel)) {
                    supervision.channel_opened(channel);
                    self.opened.insert(channel);
                }
            }
            Step::ChannelClosed { at, free } => {
                if let Some(channel) = channel(at) {
                    self.channels.retain(|other| *other != channel);
                    self.made.retain(|(of, _), _| *of != channel);
                    supervision.channel_closed(channel, *free, now);
                    self.attached.remove(&channel);
                    self.opened.remove(&channel);
                    self.recovering.remove(&channel);
                }
            }
            Step::ChannelRecovered { at, skips } => {
                if let Some(channel) = channel(at).filter(|channel| self.recovering.remove(channel)) {
                    let mut skipped = Vec::new();
                    let mut repairs = Vec::new();
                    for (key, consumer) in self.made.iter_mut().filter(|((of, _), _)| *of == channel) {
                        if consumer.state == ConsumerStateModel::ByApplication {
                            continue;
                        }
                        let error = match self.broker.consume(&consumer.queue) {
                            _ if *skips != 0 && skipped.is_empty() => refusal(*skips),
                            Ok(()) => continue,
                            Err(error) => error,
                        };
                        let (kind, name) = (EntityKind::Consumer, consumer.tag.to_string());
                        skipped.push(Skipped { kind, name, error: error.clone() });
                        consumer.state = ConsumerStateModel::Suspended;
                        repairs.push(repair(*key, consumer, ConsumerEnd::Closed(error)));
                    }
                    supervision.channel_reopened(channel, skipped, now);
                    repairs.into_iter().for_each(|repair| supervision.repair(repair, now));
                }
            }
            Step::ChannelBacksOff(at) => {
                let is_open =
                    |channel: &u16| self.attached.contains(channel) && self.opened.contains(channel);
                if let Some(channel) = channel(at).filter(is_open)
                    && self.recovering.insert(channel)
                {
                    supervision.channel_backing_off(channel, refusal(406), Some(now + SECOND), now);
                }
            }
            Step::ChannelDrained(at) => {
                if let Some(channel) = channel(at) {
                    supervision.channel_drained(channel, now);
                }
            }
            Step::Declare { queue: at, auto_delete } => {
                let (name, (_, exchange)) = (queue(*at), entity(3 + *at));
                let declare = DeclareQueue::new(&name).auto_delete(*auto_delete);
                for entity in [
                    Entity::Queue { declare, name: QueueName::new(&name) },
                    Entity::Exchange(DeclareExchange::fanout(&exchange).auto_delete(*auto_delete)),
                    Entity::QueueBinding(BindQueue::new(name, &exchange, "")),
                    Entity::ExchangeBinding(BindExchange::new(exchange, "exchange 0", "")),
                ] {
                    if self.broker.declare(&entity).is_ok() {
                        self.machine.record(entity);
                    }
                }
            }
            Step::Forget(at) => {
                supervision.topology_changed(Change::Forget(Removal::Queue(queue(*at))), now);
                self.delete(*at);
            }
            Step::Deleting { queue: at, is_deleting } => {
                supervision.deleting(EntityKind::Queue, &queue(*at), *is_deleting)
            }
            Step::Repair { at, queue: on, code } => {
                let is_open =
                    |channel: &u16| self.attached.contains(channel) && self.opened.contains(channel);
                if let Some(channel) = channel(at).filter(is_open) {
                    self.consumers += 1;
                    let (consumer, queue) = (self.consumers, queue(*on));
                    let tag: Arc<str> = format!("consumer {consumer}").into();
                    let recorded = Entity::Consumer { channel, tag: tag.clone(), queue: queue.clone() };
                    supervision.topology_changed(Change::Record(recorded), now);
                    let (state, declare) = (ConsumerStateModel::Suspended, Vec::new());
                    let made = ConsumerModel { tag, queue, state, declare };
                    supervision.repair(repair((channel, consumer), &made, cause(*code)), now);
                    self.made.insert((channel, consumer), made);
                }
            }
            Step::RepairAgain { at, code } => {
                let found = self.running().nth(*at).map(|(key, made)| (*key, made.queue.clone()));
                match found {
                    Some((_, on)) if *code == 0 => {
                        if let Some(at) = (0..3).find(|at| queue(*at) == on) {
                            self.delete(at);
                        }
                    }
                    Some((key, _)) => self.suspend(key, *code),
                    None => {}
                }
            }
            Step::Started { at, code } => {
                let mut starting =
                    self.made.iter_mut().filter(|(_, made)| made.state == ConsumerStateModel::Starting);
                let found = starting.nth(*at);
                if let Some((key, consumer)) = found {
                    let declare = std::mem::take(&mut consumer.declare);
                    let declared = declare.iter().try_for_each(|entity| self.broker.declare(entity));
                    let started = match code {
                        0 => declared.and_then(|()| self.broker.consume(&consumer.queue)),
                        code => Err(refusal(*code)),
                    };
                    match started {
                        Ok(()) => {
                            consumer.state = ConsumerStateModel::Running;
                            supervision.consumer_recovered(key.0, &consumer.tag, now);
                        }
                        Err(error) => {
                            consumer.state = ConsumerStateModel::Suspended;
                            supervision.repair(repair(*key, consumer, ConsumerEnd::Closed(error)), now);
                        }
                    }
                }
            }
            Step::Cancel(at) => {
                if let Some(key) = self.made.keys().nth(*at).copied()
                    && let Some(consumer) = self.made.remove(&key)
                {
                    let removal = Removal::Consumer { channel: key.0, tag: consumer.tag };
                    supervision.topology_changed(Change::Forget(removal), now);
                }
            }
            // What the application deletes is not declared again.
            Step::Gone(at) if supervision.topology.is_deleting(&key(*at)) => {}
            Step::Gone(at) => {
                self.delete(*at);
                self.report_gone(*at);
            }
            Step::GiveUp(at) => {
                let (kind, name) = entity(*at);
                supervision.give_up(kind, &name);
            }
            Step::ByApplication { at, missing } => {
                if let Some(((channel, _), consumer)) = self.made.iter_mut().nth(*at) {
                    match (consumer.state, missing) {
                        (ConsumerStateModel::Running, true) => {
                            consumer.state = ConsumerStateModel::ByApplication;
                            let error = Error::stopped("its actor has stopped");
                            supervision.consumer_missing(*channel, &consumer.tag, error, now);
                        }
                        (ConsumerStateModel::ByApplication, false) => {
                            consumer.state = ConsumerStateModel::Running;
                            supervision.consumer_recovered(*channel, &consumer.tag, now);
                        }
                        _ => {}
                    }
                }
            }
            Step::ChannelLimit => {
                if self.connection {
                    let reason = CloseReason::new(530, "NOT_ALLOWED - number of channels", 20, 10);
                    let error = Error::connection_closed("the broker closed the connection", Some(reason));
                    supervision.connection_ended(error, now);
                }
            }
            Step::Results { codes, all } => {
                if let Some((number, steps)) = self.utility.take() {
                    let broker = &mut self.broker;
                    let result = |(step, code): (_, &u16)| match code {
                        0 => broker.run(step).map(|()| None),
                        code => Err(refusal(*code)),
                    };
                    let count = if *all { steps.len() } else { 0 };
                    let results = steps.iter().zip(codes.iter().cycle()).take(count).map(result).collect();
                    supervision.steps_done(number, results, now);
                }
            }
            Step::Blocked(blocked) => {
                if self.state == "open" {
                    supervision.set_blocked(blocked.then(|| "low on memory".into()));
                }
            }
            Step::Wait(millis) => {
                self.machine.pass(Duration::from_millis(*millis));
                let deadline = self.machine.supervision.deadline();
                assert!(deadline.is_none_or(|due| due > self.machine.now), "due again at once");
            }
            Step::Close => {
                self.may_close = true;
                supervision.close(200, "bye".into(), now);
            }
            Step::Release => {
                self.may_close = true;
                supervision.release(now);
            }
        }
        self.perform();
        let queues = self.running().map(|(_, made)| made.queue.clone());
        // The application looks after the queues of the others.
        let by_application =
            self.made.values().filter(|made| made.state == ConsumerStateModel::ByApplication);
        let queues = queues.chain(by_application.map(|made| made.queue.clone())).collect();
        self.broker.set_consumed(queues);
    }

    /// The consumers that the broker has.
    fn running(&self) -> impl Iterator<Item = (&(u16, u32), &ConsumerModel)> {
        self.made.iter().filter(|((channel, _), made)| {
            made.state == ConsumerStateModel::Running
                && self.attached.contains(channel)
                && !self.recovering.contains(channel)
        })
    }

    /// A running consumer cannot go on.
    fn suspend(&mut self, key: (u16, u32), code: u16) {
        let now = self.machine.now;
        if let Some(consumer) = self.made.get_mut(&key) {
            consumer.state = ConsumerStateModel::Suspended;
            self.machine.supervision.repair(repair(key, consumer, cause(code)), now);
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

    /// A publish, or another call, names what does not exist.
    fn report_gone(&mut self, at: usize) {
        if self.state == "open" {
            let ((kind, name), now) = (entity(at), self.machine.now);
            self.machine.supervision.entity_gone(kind, &name, &refusal(404), now);
        }
    }

    /// Other clients declare what is not recorded, and what consumers use besides.
    fn others_declare(&mut self) {
        let keys = (0..6).map(key).filter(|key| !self.machine.supervision.topology.has(key));
        let keys: Vec<_> = keys.chain([EntityKey::Queue(queue(3))]).collect();
        keys.iter().for_each(|key| self.broker.declared_by_others(key));
    }

    fn perform(&mut self) {
        while let Some(effect) = self.machine.supervision.next_effect() {
            match effect {
                Effect::Dial => {
                    assert!(!self.connection, "two connections");
                    (self.connection, self.ends) = (true, false);
                }
                Effect::DropConnection => self.connection_is_gone(),
                Effect::Command(ConnectionCommand::Close { .. } | ConnectionCommand::Fail { .. }) => {
                    assert!(self.connection, "a command without a connection");
                    self.ends = true;
                }
                Effect::Command(_) => assert!(self.connection, "a command without a connection"),
                Effect::SetState(state) => self.state = name(&state),
                Effect::Attach(channel) => {
                    assert!(self.connection && self.state == "open", "attached without a connection");
                    assert!(
                        self.channels.contains(&channel) && self.attached.insert(channel),
                        "{channel} attached"
                    );
                    if self.opened.contains(&channel) {
                        self.recovering.insert(channel);
                    }
                }
                Effect::StartUtility { number, steps } => {
                    assert!(self.connection && self.state == "open" && self.utility.is_none());
                    assert!(!self.attached.contains(&number), "the number of a channel");
                    self.utility = Some((number, steps));
                }
                Effect::SendToChannel(channel, message) => self.channel_message(channel, message),
                Effect::CloseForGood { .. } => {
                    let refused = self.refused_since.map(|since| self.machine.now - since);
                    assert!(self.may_close || refused >= Some(60 * SECOND), "given up after {refused:?}");
                    self.connection_is_gone();
                    (self.state, self.closed) = ("closed", true);
                    self.channels.clear();
                    self.made.clear();
                }
                Effect::Stop => assert!(self.closed),
                Effect::Notify(_)
                | Effect::BlockUtility(_)
                | Effect::DropUtility
                | Effect::StartTrial { .. }
                | Effect::StopTrial
                | Effect::StopUtility(_)
                | Effect::FailSecrets(_)
                | Effect::CountUnconfirmed => {}
            }
        }
        assert_eq!(self.state, name(&self.machine.supervision.phase.state()));
    }

    fn connection_is_gone(&mut self) {
        (self.connection, self.utility) = (false, None);
        self.attached.clear();
        self.recovering.clear();
    }

    fn channel_message(&mut self, channel: u16, message: ChannelMessage) {
        match message {
            // The channel starts its consumers on the next connection.
            ChannelMessage::Detached { .. } => {
                for (_, made) in self.made.iter_mut().filter(|((of, _), _)| *of == channel) {
                    if made.state != ConsumerStateModel::ByApplication {
                        made.state = ConsumerStateModel::Running;
                    }
                }
            }
            ChannelMessage::ConsumerRepaired { consumer, result } => {
                if result.is_err() {
                    self.made.remove(&(channel, consumer));
                } else if let Some(made) = self.made.get_mut(&(channel, consumer))
                    && made.state == ConsumerStateModel::Suspended
                {
                    made.state = ConsumerStateModel::Starting;
                }
            }
            ChannelMessage::StartConsumer { consumer, declare } => {
                if let Some(made) = self.made.get_mut(&(channel, consumer)) {
                    assert_eq!(made.state, ConsumerStateModel::Suspended);
                    made.declare = declare;
                    made.state = ConsumerStateModel::Starting;
                }
            }
            ChannelMessage::ForgetConsumer { tag } => {
                self.made.retain(|(of, _), made| *of != channel || *made.tag != *tag);
            }
            _ => {}
        }
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        for round in 0..60 {
            self.step(&Step::Opened);
            self.others_declare();
            if round < 5 {
                // Publishers find out what is gone with what was bound to it.
                let gone = (3..6).filter(|at| !self.broker.has(&key(*at))).collect::<Vec<_>>();
                gone.into_iter().for_each(|at| self.report_gone(at));
            }
            if self.machine.supervision.no_room.is_some() {
                self.step(&Step::ChannelClosed { at: 0, free: true });
            }
            self.step(&Step::Blocked(false));
            for at in 0..self.channels.len() {
                self.step(&Step::ChannelOpened(at));
                self.step(&Step::ChannelRecovered { at, skips: 0 });
                if matches!(self.machine.supervision.phase, Phase::Closing(_)) {
                    self.step(&Step::ChannelDrained(at));
                }
            }
            for at in 0..self.made.len() {
                self.step(&Step::ByApplication { at, missing: false });
                self.step(&Step::Started { at: 0, code: 0 });
            }
            self.step(&Step::Results { codes: vec![0], all: true });
            if self.ends && self.connection {
                self.step(&Step::Ended);
            }
            self.step(&Step::Wait(5000));
        }
    }

    fn check(&self) {
        let supervision = &self.machine.supervision;
        if self.closed {
            assert_eq!(supervision.deadline(), None);
            return;
        }
        assert!(matches!(supervision.phase, Phase::Up(_)), "{:?}", supervision.phase);
        assert!(self.utility.is_none() && supervision.utility.is_none(), "{:?}", supervision.utility);
        let states: BTreeSet<_> = self.made.values().map(|made| format!("{:?}", made.state)).collect();
        assert!(states.iter().all(|state| state == "Running"), "{states:?}");
        assert!(supervision.missing.list().is_empty(), "{:?}", supervision.missing.list());
        assert!(supervision.health().is_up(), "{:?}", supervision.health());
        let keys = (0..6).map(key).filter(|key| supervision.topology.has(key));
        let keys: Vec<_> = keys
            .flat_map(|key| {
                let bindings = supervision.topology.bindings_of(&key);
                bindings.into_iter().map(EntityKey::Binding).chain([key])
            })
            .collect();
        let lacking: Vec<_> = keys.iter().filter(|key| !self.broker.has(key)).collect();
        assert!(lacking.is_empty(), "the broker lacks {lacking:?}");
        for made in self.made.values() {
            assert!(self.broker.consume(&made.queue).is_ok(), "no queue for {:?}", made.tag);
        }
        let unattached = self.channels.iter().filter(|channel| !self.attached.contains(channel)).count();
        assert_eq!(unattached, 0);
    }
}

/// Runs a schedule, and checks the end.
fn play(steps: &[Step]) {
    let mut run = Run::new();
    for step in steps {
        run.step(step);
    }
    run.settle();
    run.check();
}

proptest! {
    #[test]
    fn everything_is_in_place_or_the_connection_closed_in_the_end(steps in prop::collection::vec(step(), 1..100)) {
        play(&steps);
    }
}

#[test]
fn what_is_given_up_while_its_step_is_at_the_broker_is_not_tried_for_ever() {
    play(&[
        Step::Declare { queue: 0, auto_delete: false },
        Step::Refused(vec![Answer::Login]),
        Step::Gone(0),
        Step::Results { codes: vec![403, 0, 0, 0], all: false },
        Step::Refused(vec![Answer::Login]),
        Step::Wait(5000),
        Step::Results { codes: vec![0, 404, 0, 0], all: true },
        Step::GiveUp(3),
        Step::Results { codes: vec![403, 0, 0, 0], all: false },
    ]);
}

#[test]
fn a_binding_comes_back_with_an_exchange_that_others_declare() {
    play(&[Step::Declare { queue: 1, auto_delete: false }, Step::Gone(3)]);
}
