//! Random schedules of what is missing, beside connections that come and go.
//!
//! Exchanges and queues are deleted by others, declarations and consumers refused, channels limited, consumers cancelled, things
//! forgotten. Whatever happens, the effects fit the state of the connection, and nothing is due twice. After the last fault
//! everything is in place, every consumer has started, and the health is up; or the connection is closed: by the application,
//! or because every address has refused it for a minute.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    connection::FailedAttempt,
    internal::{Removal, TrialConsume},
    message::{BindExchange, BindQueue, ConsumerEnd, DeclareExchange, EntityKind, Skipped},
    supervisor::{missing::Repair, phase::Phase, redeclare_steps::RecoveryStep},
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
                        if *skips == 0 || !skipped.is_empty() {
                            continue;
                        }
                        let error = refusal(*skips);
                        let (kind, name) = (EntityKind::Consumer, consumer.tag.to_string());
                        skipped.push(Skipped { kind, name, error });
                        consumer.state = ConsumerStateModel::Suspended;
                        repairs.push(repair(*key, consumer, cause(*skips)));
                    }
                    supervision.channel_recovered(channel, skipped, now);
                    repairs.into_iter().for_each(|repair| supervision.repair(repair, now));
                }
            }
            Step::ChannelDrained(at) => {
                if let Some(channel) = channel(at) {
                    supervision.channel_drained(channel, now);
                }
            }
            Step::Declare { queue: at, auto_delete } => {
                let name = queue(*at);
                self.machine.declare(DeclareQueue::new(&name).auto_delete(*auto_delete), &name);
                let (_, exchange) = entity(3 + *at);
                let declare = DeclareExchange::fanout(&exchange).auto_delete(*auto_delete);
                self.machine.record(Entity::Exchange(declare));
                self.machine.record(Entity::QueueBinding(BindQueue::new(name, &exchange, "")));
                let bind = BindExchange::new(exchange, "exchange 0", "");
                self.machine.record(Entity::ExchangeBinding(bind));
            }
            Step::Forget(at) => {
                supervision.topology_changed(Change::Forget(Removal::Queue(queue(*at))), now);
            }
            Step::Deleting { queue: at, is_deleting } => {
                supervision.queue_deleting(&queue(*at), *is_deleting)
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
                    let made = ConsumerModel { tag, queue, state: ConsumerStateModel::Suspended };
                    supervision.repair(repair((channel, consumer), &made, cause(*code)), now);
                    self.made.insert((channel, consumer), made);
                }
            }
            Step::RepairAgain { at, code } => {
                if let Some((key, consumer)) = self.made.iter_mut().nth(*at)
                    && self.attached.contains(&key.0)
                    && !self.recovering.contains(&key.0)
                    && consumer.state == ConsumerStateModel::Running
                {
                    consumer.state = ConsumerStateModel::Suspended;
                    supervision.repair(repair(*key, consumer, cause(*code)), now);
                }
            }
            Step::Started { at, code } => {
                let mut starting =
                    self.made.iter_mut().filter(|(_, made)| made.state == ConsumerStateModel::Starting);
                let found = starting.nth(*at);
                if let Some((key, consumer)) = found {
                    if *code == 0 {
                        consumer.state = ConsumerStateModel::Running;
                        supervision.consumer_recovered(key.0, &consumer.tag, now);
                    } else {
                        consumer.state = ConsumerStateModel::Suspended;
                        supervision.repair(repair(*key, consumer, cause(*code)), now);
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
            Step::Gone(at) => {
                if self.state == "open" {
                    let (kind, name) = entity(*at);
                    supervision.entity_gone(kind, &name, &refusal(404), now);
                }
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
                    let result = |code: &u16| if *code == 0 { Ok(None) } else { Err(refusal(*code)) };
                    let count = if *all { steps.len() } else { 0 };
                    let results = codes.iter().cycle().take(count).map(result).collect();
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
            ChannelMessage::StartConsumer { consumer, .. } => {
                if let Some(made) = self.made.get_mut(&(channel, consumer)) {
                    assert_eq!(made.state, ConsumerStateModel::Suspended);
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
        for _ in 0..60 {
            self.step(&Step::Opened);
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
}

proptest! {
    #[test]
    fn everything_is_in_place_or_the_connection_closed_in_the_end(steps in prop::collection::vec(step(), 1..100)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.settle();
        let supervision = &run.machine.supervision;
        if run.closed {
            prop_assert_eq!(supervision.deadline(), None);
        } else {
            prop_assert!(matches!(supervision.phase, Phase::Up(_)), "{:?}", supervision.phase);
            prop_assert!(run.utility.is_none() && supervision.utility.is_none());
            let states: BTreeSet<_> = run.made.values().map(|made| format!("{:?}", made.state)).collect();
            prop_assert!(states.iter().all(|state| state == "Running"), "{:?}", states);
            prop_assert!(supervision.missing.list().is_empty(), "{:?}", supervision.missing.list());
            prop_assert!(supervision.health().is_up(), "{:?}", supervision.health());
            let unattached = run.channels.iter().filter(|channel| !run.attached.contains(channel)).count();
            prop_assert_eq!(unattached, 0);
        }
    }
}
