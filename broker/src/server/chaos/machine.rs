//! Which fault comes when. It is fed with the number of frames, with the time, and with who is there, and answers with
//! what to do: the same seed and the same inputs give the same faults.

use std::{collections::VecDeque, time::Duration};

use super::fault::{Fault, FaultKind};
use crate::{
    core::{ConnectionId, Time},
    server::shared::PeerId,
};

/// How many of the last faults are kept.
const KEPT: usize = 1_000;
const CUT_MAX: u64 = 256;
const PAUSE_MAX: u64 = 500;
const LATE_MAX: u64 = 50;
const LATE_FOR_MAX: u64 = 1_000;
const NEXT_MAX: u32 = 3;
const ALARMS: [&str; 2] = ["low on memory", "low on disk"];

/// What is chosen before a chaos starts.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) kinds: Vec<FaultKind>,
    /// The mean number of frames from one fault to the next.
    pub(super) every: u64,
    pub(super) most: u64,
}

/// Who can be hit.
#[derive(Debug, Default)]
pub(super) struct Scene {
    /// Connections, also those whose handshake is not over.
    pub(super) peers: Vec<Target>,
    /// Virtual hosts and queues that have consumers.
    pub(super) consumed: Vec<(String, String)>,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) peer: PeerId,
    /// Unless its handshake is not over.
    pub(super) open: Option<ConnectionId>,
    pub(super) name: String,
}

/// What to do to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    CutOutput(PeerId, u64),
    CutInput(PeerId, u64),
    Close(ConnectionId, u16),
    PauseReading(PeerId, bool),
    /// In milliseconds.
    Delay(PeerId, u64),
    Refuse(u32),
    Nack(u32),
    Return(u32),
    Cancel(String, String),
    Alarm(Option<&'static str>),
    Restart,
    RestartEmpty,
    /// Nothing more is refused, nacked or returned.
    Forget,
}

/// A chaos.
#[derive(Debug)]
pub(in crate::server) struct Machine {
    plan: Plan,
    rng: fastrand::Rng,
    frames: u64,
    /// How many frames are left until the next fault.
    left: u64,
    /// What ends when.
    lasting: Vec<(Time, Action)>,
    count: u64,
    faults: VecDeque<Fault>,
    stopped: bool,
}

impl Machine {
    pub(super) fn new(plan: Plan) -> Self {
        let mut machine = Self {
            rng: fastrand::Rng::with_seed(plan.seed),
            plan,
            frames: 0,
            left: 0,
            lasting: Vec::new(),
            count: 0,
            faults: VecDeque::new(),
            stopped: false,
        };
        machine.left = machine.pause();
        machine
    }

    pub(super) fn seed(&self) -> u64 {
        self.plan.seed
    }

    pub(in crate::server) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Returns the last faults.
    pub(super) fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter()
    }

    /// Returns how many faults there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns how many frames may come before the next fault.
    pub(in crate::server) fn left(&self) -> u64 {
        if self.is_over() { u64::MAX } else { self.left }
    }

    fn is_over(&self) -> bool {
        self.stopped || self.count == self.plan.most
    }

    /// Counts frames. Returns whether a fault is due.
    pub(super) fn has_counted(&mut self, frames: u64) -> bool {
        self.frames += frames;
        self.left = self.left.saturating_sub(frames);
        self.left == 0 && !self.is_over()
    }

    /// Chooses the fault that is due.
    pub(super) fn strike(&mut self, now: Time, scene: &Scene) -> Option<Action> {
        self.left = self.pause();
        let possible: Vec<FaultKind> =
            self.plan.kinds.iter().copied().filter(|kind| is_possible(*kind, scene)).collect();
        let kind = self.rng.choice(possible)?;
        let (action, what) = self.choose(kind, now, scene)?;
        self.count += 1;
        if self.faults.len() == KEPT {
            self.faults.pop_front();
        }
        let at = Duration::from_millis(now.as_millis());
        self.faults.push_back(Fault { number: self.count, kind, frames: self.frames, at, what });
        Some(action)
    }

    /// Returns when something ends.
    pub(in crate::server) fn next_end(&self) -> Option<Time> {
        self.lasting.iter().map(|(at, _)| *at).min()
    }

    /// Takes what ends now.
    pub(super) fn ends(&mut self, now: Time) -> Vec<Action> {
        let (ended, lasting) = self.lasting.drain(..).partition(|(at, _)| *at <= now);
        self.lasting = lasting;
        let ended: Vec<(Time, Action)> = ended;
        ended.into_iter().map(|(_, action)| action).collect()
    }

    /// Strikes no more. Returns what ends all that lasts.
    pub(super) fn stop(&mut self) -> Vec<Action> {
        self.stopped = true;
        self.lasting.drain(..).map(|(_, action)| action).chain([Action::Forget]).collect()
    }

    fn pause(&mut self) -> u64 {
        self.rng.u64(1..self.plan.every.saturating_mul(2).max(2))
    }

    /// Chooses to whom, how much and how long.
    fn choose(&mut self, kind: FaultKind, now: Time, scene: &Scene) -> Option<(Action, String)> {
        Some(match kind {
            FaultKind::Cut => {
                let target = self.rng.choice(&scene.peers)?;
                let (is_output, octets) = (self.rng.bool(), self.rng.u64(0..=CUT_MAX));
                let (action, side): (fn(_, _) -> _, _) =
                    if is_output { (Action::CutOutput, "is sent") } else { (Action::CutInput, "sends") };
                let what = format!("{}: cut when it {side} {octets} octets more", target.name);
                (action(target.peer, octets), what)
            }
            FaultKind::Close | FaultKind::InternalError => {
                let open = scene.peers.iter().filter_map(|target| Some((target.open?, &target.name)));
                let (connection, name) = self.rng.choice(open.collect::<Vec<_>>())?;
                let code = if kind == FaultKind::Close { 320 } else { 541 };
                (Action::Close(connection, code), format!("{name}: closed with {code}"))
            }
            FaultKind::StopReading => {
                let target = self.rng.choice(&scene.peers)?;
                let millis = self.lasts(now, PAUSE_MAX, Action::PauseReading(target.peer, false));
                let what = format!("{}: not read for {millis} ms", target.name);
                (Action::PauseReading(target.peer, true), what)
            }
            FaultKind::Delay => {
                let target = self.rng.choice(&scene.peers)?;
                let late = self.rng.u64(1..=LATE_MAX);
                let millis = self.lasts(now, LATE_FOR_MAX, Action::Delay(target.peer, 0));
                let what = format!("{}: for {millis} ms, what it is sent is {late} ms late", target.name);
                (Action::Delay(target.peer, late), what)
            }
            FaultKind::RefuseConnects => {
                let count = self.rng.u32(1..=NEXT_MAX);
                (Action::Refuse(count), format!("the next connects are refused: {count}"))
            }
            FaultKind::Nack => {
                let count = self.rng.u32(1..=NEXT_MAX);
                (Action::Nack(count), format!("the next publishes are nacked: {count}"))
            }
            FaultKind::Return => {
                let count = self.rng.u32(1..=NEXT_MAX);
                (Action::Return(count), format!("the next publishes are returned: {count}"))
            }
            FaultKind::CancelConsumers => {
                let (vhost, queue) = self.rng.choice(&scene.consumed)?.clone();
                let what = format!("queue '{queue}' of '{vhost}': its consumers are cancelled");
                (Action::Cancel(vhost, queue), what)
            }
            FaultKind::Block => {
                let reason = self.rng.choice(ALARMS)?;
                let millis = self.lasts(now, PAUSE_MAX, Action::Alarm(None));
                (Action::Alarm(Some(reason)), format!("publishers are blocked for {millis} ms, {reason}"))
            }
            FaultKind::Restart => (Action::Restart, "a restart with what is durable".into()),
            FaultKind::RestartEmpty => (Action::RestartEmpty, "a restart with nothing".into()),
        })
    }

    /// Chooses how long something lasts that `end` ends.
    fn lasts(&mut self, now: Time, most: u64, end: Action) -> u64 {
        let millis = self.rng.u64(1..=most);
        // Instead of an earlier end of the same.
        self.lasting.retain(|(_, action)| *action != end);
        self.lasting.push((now.after_millis(millis), end));
        millis
    }
}

fn is_possible(kind: FaultKind, scene: &Scene) -> bool {
    match kind {
        FaultKind::Cut | FaultKind::StopReading | FaultKind::Delay => !scene.peers.is_empty(),
        FaultKind::Close | FaultKind::InternalError => scene.peers.iter().any(|target| target.open.is_some()),
        FaultKind::CancelConsumers => !scene.consumed.is_empty(),
        FaultKind::RefuseConnects
        | FaultKind::Nack
        | FaultKind::Return
        | FaultKind::Block
        | FaultKind::Restart
        | FaultKind::RestartEmpty => true,
    }
}
