//! Random schedules: the machine of the supervisor, with connections that come and go, refusals, repairs and closes.
//!
//! Whatever happens, the effects fit the state of the connection, and nothing is due twice. In the end the connection is up,
//! every consumer to repair has a result, and no task is left; or the connection is closed: by the application, or because
//! every address has refused it for a minute.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    connection::FailedAttempt,
    internal::{Removal, TrialConsume, TrialResult},
    message::{BindQueue, ConsumerEnd, EntityKind, Skipped},
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
    ChannelRecovered(usize),
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
    Repair {
        at: usize,
        queue: usize,
        transient: bool,
    },
    /// The utility channel reports: the code of each refusal, 0 for success; fewer results if it ended early.
    Results {
        codes: Vec<u16>,
        all: bool,
    },
    /// The broker closes the connection because of a method of this class and id.
    Fatal {
        class_id: u16,
        method_id: u16,
        answered: usize,
    },
    /// A consumer costs the connection when its channel starts it.
    FatalConsumer(usize),
    /// The trial ends: it is accepted, refused, or not made.
    Trial(u8),
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
        4 => (0..4usize).prop_map(Step::ChannelRecovered),
        1 => (0..4usize).prop_map(Step::ChannelDrained),
        3 => (0..3usize, any::<bool>()).prop_map(|(queue, auto_delete)| Step::Declare { queue, auto_delete }),
        1 => (0..3usize).prop_map(Step::Forget),
        1 => (0..3usize, any::<bool>())
            .prop_map(|(queue, is_deleting)| Step::Deleting { queue, is_deleting }),
        4 => (0..4usize, 0..3usize, any::<bool>())
            .prop_map(|(at, queue, transient)| Step::Repair { at, queue, transient }),
        10 => (prop::collection::vec(code(), 4), prop::bool::weighted(0.97))
            .prop_map(|(codes, all)| Step::Results { codes, all }),
        2 => (prop_oneof![Just((50, 10)), Just((50, 20)), Just((60, 20)), Just((60, 40)), Just((0, 0))], 0..3usize)
            .prop_map(|((class_id, method_id), answered)| Step::Fatal { class_id, method_id, answered }),
        1 => (0..4usize).prop_map(Step::FatalConsumer),
        4 => (0..3u8).prop_map(Step::Trial),
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
    /// Consumers whose repair has no result yet, with their channels.
    repairs: BTreeSet<(u16, u32)>,
    consumers: u32,
    /// Queue and tag of consumers, by channel and id.
    started: BTreeMap<(u16, u32), (String, Arc<str>)>,
    /// Those that their channels do not start.
    at_fault: BTreeSet<(u16, u32)>,
    trial: Option<u64>,
    state: &'static str,
    closed: bool,
    /// Since when every attempt was refused for good by every address.
    refused_since: Option<Instant>,
    /// A close, or the last handle that was dropped, may end the connection.
    may_close: bool,
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

impl Run {
    fn new() -> Self {
        let mut run = Self {
            machine: Machine::with(|_| {}),
            connection: true,
            ends: false,
            utility: None,
            channels: Vec::new(),
            attached: BTreeSet::new(),
            repairs: BTreeSet::new(),
            consumers: 0,
            started: BTreeMap::new(),
            at_fault: BTreeSet::new(),
            trial: None,
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
                }
            }
            Step::ChannelClosed { at, free } => {
                if let Some(channel) = channel(at) {
                    self.channels.retain(|other| *other != channel);
                    self.repairs.retain(|(of, _)| *of != channel);
                    self.at_fault.retain(|(of, _)| *of != channel);
                    self.started.retain(|(of, _), _| *of != channel);
                    supervision.channel_closed(channel, *free, now);
                    self.attached.remove(&channel);
                }
            }
            Step::ChannelRecovered(at) => {
                if let Some(channel) = channel(at).filter(|channel| self.attached.contains(channel)) {
                    self.channel_recovered(channel);
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
                self.machine.record(Entity::QueueBinding(BindQueue::new(name, "events", "")));
            }
            Step::Forget(at) => {
                supervision.topology_changed(Change::Forget(Removal::Queue(queue(*at))), now);
            }
            Step::Deleting { queue: at, is_deleting } => {
                supervision.deleting(EntityKind::Queue, &queue(*at), *is_deleting)
            }
            Step::Repair { at, queue: on, transient } => {
                if let Some(channel) = channel(at).filter(|channel| self.attached.contains(channel)) {
                    self.consumers += 1;
                    let (consumer, queue) = (self.consumers, queue(*on));
                    let tag: Arc<str> = format!("consumer {consumer}").into();
                    let recorded = Entity::Consumer { channel, tag: tag.clone(), queue: queue.clone() };
                    supervision.topology_changed(Change::Record(recorded), now);
                    self.started.insert((channel, consumer), (queue.clone(), tag.clone()));
                    let trial = TrialConsume {
                        tag,
                        queue,
                        exclusive: false,
                        arguments: Table::new(),
                        shared_prefetch: None,
                    };
                    let cause = ConsumerEnd::Closed(refusal(if *transient { 405 } else { 404 }));
                    self.repairs.insert((channel, consumer));
                    supervision.repair(Repair { channel, consumer, trial, cause }, now);
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
            Step::Fatal { class_id, method_id, answered } => {
                if self.connection && self.state == "open" {
                    let (epoch, utility) = (supervision.epoch, self.utility.take());
                    let reason = CloseReason::new(541, "INTERNAL_ERROR", *class_id, *method_id);
                    supervision.connection_ended(Error::connection_closed("test", Some(reason)), now);
                    if let Some((number, steps)) = utility {
                        let results = steps.iter().take(*answered).map(|_| Ok(None)).collect();
                        supervision.utility_lost(epoch, number, results, now);
                    }
                }
            }
            Step::FatalConsumer(at) => {
                if self.connection
                    && self.state == "open"
                    && let Some(((channel, consumer), (_, tag))) = self.started.iter().nth(*at)
                {
                    let reason = CloseReason::new(541, "INTERNAL_ERROR", 60, 20);
                    let error = Error::connection_closed("test", Some(reason));
                    supervision.connection_ended(error.clone(), now);
                    supervision.fatal_entities.add(EntityKey::consumer(*channel, tag), error, now);
                    self.at_fault.insert((*channel, *consumer));
                }
            }
            Step::Trial(result) => {
                if let Some(trial) = self.trial.take() {
                    let result = match result {
                        0 => TrialResult::Accepted,
                        1 => TrialResult::Refused(refusal(541)),
                        _ => TrialResult::NotMade(refusal(530)),
                    };
                    supervision.trial_done(trial, result, now);
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
                    self.repairs.clear();
                    self.trial = None;
                }
                Effect::StartTrial { number, steps } => {
                    assert!(self.connection && self.state == "open" && self.trial.is_none());
                    assert!(!steps.is_empty());
                    self.trial = Some(number);
                }
                Effect::StopTrial => {
                    assert!(self.trial.take().is_some(), "no trial");
                }
                Effect::Stop => assert!(self.closed),
                Effect::Notify(_)
                | Effect::BlockUtility(_)
                | Effect::DropUtility
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
    }

    fn channel_message(&mut self, channel: u16, message: ChannelMessage) {
        match message {
            // Repairs end with their connection: the channel starts its consumers on the next one.
            ChannelMessage::Detached { .. } => self.repairs.retain(|(of, _)| *of != channel),
            ChannelMessage::ConsumerRepaired { consumer, result } => {
                self.repairs.remove(&(channel, consumer));
                self.at_fault.remove(&(channel, consumer));
                match (result, self.started.get(&(channel, consumer))) {
                    (Ok(()), Some((_, tag))) => {
                        let now = self.machine.now;
                        self.machine.supervision.consumer_recovered(channel, tag, now);
                    }
                    _ => {
                        self.started.remove(&(channel, consumer));
                    }
                }
            }
            ChannelMessage::ConsumerAtFault { consumer, .. } => {
                self.at_fault.insert((channel, consumer));
            }
            _ => {}
        }
    }

    /// A channel has recovered, and starts all consumers except for those that are at fault.
    fn channel_recovered(&mut self, channel: u16) {
        let now = self.machine.now;
        let at_fault = self.at_fault.iter().filter(|(of, _)| *of == channel);
        let those: Vec<_> =
            at_fault.filter_map(|key| Some((key.1, self.started.get(key)?.clone()))).collect();
        let skipped = those.iter().map(|(_, (_, tag))| Skipped {
            kind: EntityKind::Consumer,
            name: tag.to_string(),
            error: refusal(541),
        });
        self.machine.supervision.channel_recovered(channel, skipped.collect(), now);
        for (consumer, (queue, tag)) in those {
            let arguments = Table::new();
            let trial = TrialConsume { tag, queue, exclusive: false, arguments, shared_prefetch: None };
            let cause = ConsumerEnd::Closed(refusal(541));
            self.machine.supervision.consumer_waits(Repair { channel, consumer, trial, cause }, now);
        }
    }

    /// Lets everything come to rest.
    fn settle(&mut self) {
        for round in 0..200 {
            if round == 100 {
                // What can only be tried here waits for a reconnect.
                self.step(&Step::Ended);
            }
            self.step(&Step::Opened);
            self.step(&Step::Blocked(false));
            for at in 0..self.channels.len() {
                self.step(&Step::ChannelOpened(at));
                self.step(&Step::ChannelRecovered(at));
                if matches!(self.machine.supervision.phase, Phase::Closing(_)) {
                    self.step(&Step::ChannelDrained(at));
                }
            }
            self.step(&Step::Results { codes: vec![0], all: true });
            self.step(&Step::Trial(0));
            if self.ends && self.connection {
                self.step(&Step::Ended);
            }
            self.step(&Step::Wait(5000));
        }
    }
}

proptest! {
    #[test]
    fn the_connection_is_up_or_closed_in_the_end(steps in prop::collection::vec(step(), 1..100)) {
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
            prop_assert!(run.repairs.is_empty(), "{:?}", run.repairs);
            prop_assert!(supervision.missing.list().is_empty(), "{:?}", supervision.missing.list());
            prop_assert!(supervision.health().is_up(), "{:?}", supervision.health());
            prop_assert!(run.trial.is_none() && run.at_fault.is_empty(), "{:?}", run.at_fault);
            let unattached = run.channels.iter().filter(|channel| !run.attached.contains(channel)).count();
            prop_assert_eq!(unattached, 0);
        }
    }
}
