//! The replay of a topology, with its utility channel and trials, against a server that sends anything: see
//! `testing/hostile.rs`.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::time::Instant;

use super::{
    effect::Effect, missing::Repair, redeclare_steps::RecoveryStep, supervision::Supervision,
    utility_dialogue::UtilityDialogue,
};
use crate::{
    error::{CloseReason, Error, Result},
    internal::{Change, Entity, Removal, TrialConsume, TrialResult},
    message::{
        BindExchange, BindQueue, CloseConnection, ConnectionEvent, ConsumerEnd, DeclareExchange,
        DeclareQueue, EntityKind, OpenChannel, Opened, QueueName,
    },
    options::{Address, ConnectionOptions, Recovery},
    script::{Script, put_frame, right_reply},
    wire::{AMQPClass, Fault, FrameDecoder, FrameKind, Negotiated, Table, put_method, read_method},
};

const FRAME_MAX: u32 = 4096;

pub(crate) struct HostileRecovery {
    supervision: Supervision,
    now: Instant,
    dials: bool,
    utility: Option<(u16, Dialogue)>,
    trial: Option<(u64, Dialogue)>,
    channels: Vec<u16>,
    is_over: bool,
    /// How often a recovery was complete.
    recovered: u32,
}

/// A dialogue, and the right replies to what it has sent.
struct Dialogue {
    machine: UtilityDialogue,
    replies: VecDeque<Vec<u8>>,
}

impl HostileRecovery {
    /// Runs a script to its end. Panics where the recovery does. Returns how often a recovery was complete.
    pub(crate) fn run(bytes: &[u8]) -> u32 {
        let mut script = Script::new(bytes);
        let recovery = Recovery::fixed(Duration::from_secs(1));
        let options = ConnectionOptions { recovery, ..Default::default() };
        let mut hostile = Self {
            supervision: Supervision::new(Arc::new(options)),
            now: Instant::now(),
            dials: false,
            utility: None,
            trial: None,
            channels: Vec::new(),
            is_over: false,
            recovered: 0,
        };
        // Most scripts begin with a connection that is dialled again, and has something to recover.
        if script.below(8) > 0 {
            hostile.begin(&mut script);
        }
        while !script.is_over() && !hostile.is_over {
            hostile.effects();
            hostile.step(&mut script);
        }
        hostile.effects();
        hostile.recovered
    }

    /// Opens the connection, has the application make something, and loses the connection.
    fn begin(&mut self, script: &mut Script<'_>) {
        self.open();
        for _ in 0..=script.below(8) {
            self.application(script);
            self.effects();
        }
        self.lose(Error::connection_closed("reset", None));
        self.now += Duration::from_secs(2);
        self.supervision.time_passed(self.now);
        self.effects();
    }

    fn step(&mut self, script: &mut Script<'_>) {
        if self.dials && script.below(4) > 0 {
            return self.connect(script);
        }
        match script.below(18) {
            0..6 => self.utility(script),
            16 | 17 => self.recover(script),
            6 | 7 => self.trial(script),
            8..11 => self.application(script),
            11 | 12 => self.channel(script),
            13 => {
                let millis = [10, 300, 2000, 40_000].get(script.below(4)).copied().unwrap_or(1);
                self.now += Duration::from_millis(millis);
                self.supervision.time_passed(self.now);
            }
            14 => {
                let now = self.now;
                self.supervision.set_blocked(script.choice().then(|| "memory".into()), now);
            }
            _ => {
                let code = [320, 504, 530, 541].get(script.below(4)).copied().unwrap_or(320);
                let (class_id, method_id) = if script.choice() { (50, 10) } else { (20, 10) };
                let reason = CloseReason::new(code, "closed", class_id, method_id);
                self.lose(Error::connection_closed("the broker closed the connection", Some(reason)));
            }
        }
    }

    fn connect(&mut self, script: &mut Script<'_>) {
        if script.below(4) == 0 {
            return self.lose(Error::connection_closed("reset", None));
        }
        self.open();
    }

    fn open(&mut self) {
        self.dials = false;
        let negotiated = Negotiated {
            channel_max: 8,
            frame_max: FRAME_MAX,
            heartbeat: 10,
            server_properties: Table::new(),
        };
        let addr = ([127, 0, 0, 1], 5672).into();
        let opened = Opened {
            negotiated: negotiated.into(),
            address: Address::new("127.0.0.1", 5672),
            local_addr: addr,
            peer_addr: addr,
            blocked: None,
        };
        self.supervision.connection_opened(opened, self.now);
    }

    /// The broker replies to everything, and all channels recover.
    fn recover(&mut self, script: &mut Script<'_>) {
        for _ in 0..4 {
            let Some((number, mut dialogue)) = self.utility.take() else { break };
            let result = dialogue.reply_all(number);
            self.utility_fed(number, dialogue, result, script);
            self.effects();
        }
        for channel in self.channels.clone() {
            self.supervision.channel_reopened(channel, Vec::new(), self.now);
        }
    }

    fn lose(&mut self, error: Error) {
        if let Some((number, mut utility)) = self.utility.take() {
            let (epoch, results) = (self.supervision.epoch, utility.machine.take_results());
            self.supervision.utility_lost(epoch, number, results, self.now);
        }
        self.dials = false;
        self.supervision.connection_ended(error, self.now);
    }

    fn utility(&mut self, script: &mut Script<'_>) {
        let Some((number, mut dialogue)) = self.utility.take() else { return };
        let result = dialogue.feed(number, script);
        self.utility_fed(number, dialogue, result, script);
    }

    fn utility_fed(
        &mut self,
        number: u16,
        mut dialogue: Dialogue,
        result: Result<(), Fault>,
        script: &mut Script<'_>,
    ) {
        match result {
            Err(fault) => {
                self.utility = Some((number, dialogue));
                self.lose(fault.into());
            }
            Ok(()) if dialogue.machine.is_closed() => {
                self.supervision.steps_done(number, dialogue.machine.take_results(), self.now);
            }
            // It has waited for too long.
            Ok(()) if script.below(32) == 0 => {
                let (epoch, results) = (self.supervision.epoch, dialogue.machine.take_results());
                self.supervision.utility_lost(epoch, number, results, self.now);
            }
            Ok(()) => self.utility = Some((number, dialogue)),
        }
    }

    fn trial(&mut self, script: &mut Script<'_>) {
        let Some((number, mut dialogue)) = self.trial.take() else { return };
        let result = match dialogue.feed(1, script) {
            Err(fault) => TrialResult::Refused(fault.into()),
            Ok(()) if dialogue.machine.is_closed() => {
                match dialogue.machine.take_results().into_iter().find_map(Result::err) {
                    Some(error) => TrialResult::Refused(error),
                    None => TrialResult::Accepted,
                }
            }
            Ok(()) => {
                self.trial = Some((number, dialogue));
                return;
            }
        };
        self.supervision.trial_done(number, result, self.now);
    }

    fn application(&mut self, script: &mut Script<'_>) {
        let (name, other) = (script.name(), script.name());
        let change = match script.below(10) {
            0 => Change::Record(Entity::Exchange(DeclareExchange::direct(name))),
            1 | 2 => {
                let declare =
                    if script.choice() { DeclareQueue::new(name) } else { DeclareQueue::server_named() };
                Change::Record(Entity::Queue { declare, name: QueueName::new(name) })
            }
            3 => Change::Record(Entity::QueueBinding(BindQueue::new(name, other, "key"))),
            4 => Change::Record(Entity::ExchangeBinding(BindExchange::new(name, other, "key"))),
            5 => {
                let channel = script.below(3) as u16;
                Change::Record(Entity::Consumer { channel, tag: name.into(), queue: other.into() })
            }
            6 => Change::Forget(Removal::Queue(name.into())),
            7 => Change::Forget(Removal::Exchange(name.into())),
            8 => {
                if let Ok(number) = self.supervision.open_channel(&OpenChannel::new().confirms(false)) {
                    self.channels.push(number);
                }
                return;
            }
            _ if script.below(16) == 0 => {
                return self.supervision.close(CloseConnection::new().reason(200, "bye"), self.now);
            }
            _ => {
                self.supervision.give_up(EntityKind::Queue, name);
                return;
            }
        };
        self.supervision.topology_changed(change, self.now);
    }

    /// What the channels report.
    fn channel(&mut self, script: &mut Script<'_>) {
        let (now, name) = (self.now, script.name());
        let Some(&channel) = self.channels.get(script.below(3)) else { return };
        let reason = CloseReason::new(404, "NOT_FOUND - no queue 'jobs' in vhost '/'", 50, 10);
        let error = Error::refused("queue.declare", reason);
        match script.below(9) {
            0 => self.supervision.channel_opened(channel),
            1 | 2 => self.supervision.channel_reopened(channel, Vec::new(), now),
            3 => {
                let until = script.choice().then(|| now + Duration::from_secs(1));
                self.supervision.channel_backing_off(channel, error, until, now);
            }
            4 => self.supervision.entity_gone(EntityKind::Queue, name, &error, now),
            5 => self.supervision.entity_gone(EntityKind::Exchange, name, &error, now),
            6 => {
                let trial = TrialConsume {
                    tag: name.into(),
                    queue: "jobs".into(),
                    exclusive: false,
                    arguments: Table::new(),
                    shared_prefetch: None,
                };
                let cause = ConsumerEnd::CancelledByBroker;
                self.supervision.repair(Repair { channel, consumer: 1, trial, cause }, now);
            }
            7 => self.supervision.consumer_recovered(channel, name, now),
            _ => {
                self.channels.retain(|open| *open != channel);
                self.supervision.channel_closed(channel, script.choice(), now);
            }
        }
    }

    fn effects(&mut self) {
        while let Some(effect) = self.supervision.next_effect() {
            match effect {
                Effect::Dial => self.dials = true,
                Effect::StartUtility { number, steps } => {
                    self.utility = Some((number, Dialogue::open(number, steps)))
                }
                Effect::DropUtility | Effect::StopUtility(_) => self.utility = None,
                Effect::StartTrial { number, steps } => self.trial = Some((number, Dialogue::open(1, steps))),
                Effect::StopTrial => self.trial = None,
                Effect::Notify(ConnectionEvent::Recovered { .. }) => self.recovered += 1,
                Effect::CloseForGood { .. } | Effect::Stop => self.is_over = true,
                _ => {}
            }
        }
    }
}

impl Dialogue {
    fn open(channel: u16, steps: Vec<RecoveryStep>) -> Self {
        let mut dialogue = Self { machine: UtilityDialogue::new(steps), replies: VecDeque::new() };
        let Self { machine, replies } = &mut dialogue;
        machine.open(&mut sender(channel, replies));
        dialogue
    }

    /// Feeds the right reply, or anything.
    fn feed(&mut self, channel: u16, script: &mut Script<'_>) -> Result<(), Fault> {
        let mut bytes = BytesMut::new();
        match script.below(32) {
            0 => script.server_frames(channel, &mut bytes),
            1 => self.machine.skip_cancel(&mut sender(channel, &mut self.replies)),
            // The broker refuses the first step without a reply.
            2..4 => {
                self.replies.clear();
                let codes = [[1, 0x94], [1, 0x96], [1, 0x95], [1, 0x93]];
                let mut close = vec![0, 20, 0, 40];
                close.extend(codes.get(script.below(4)).copied().unwrap_or([1, 0x94]));
                close.extend(b"\x07refused\0\x32\0\x0a");
                put_frame(&mut bytes, 1, channel, &close);
            }
            _ => {
                for _ in 0..=script.below(6) {
                    let Some(reply) = self.replies.pop_front() else { break };
                    put_frame(&mut bytes, 1, channel, &reply);
                }
            }
        }
        self.read(channel, bytes)
    }

    /// Feeds the right replies until nothing is left to reply to.
    fn reply_all(&mut self, channel: u16) -> Result<(), Fault> {
        while !self.replies.is_empty() && !self.machine.is_closed() {
            let mut bytes = BytesMut::new();
            self.replies.drain(..).for_each(|reply| put_frame(&mut bytes, 1, channel, &reply));
            self.read(channel, bytes)?;
        }
        Ok(())
    }

    fn read(&mut self, channel: u16, mut bytes: BytesMut) -> Result<(), Fault> {
        let mut decoder = FrameDecoder::new(FRAME_MAX);
        while let Some(batch) = decoder.next_batch(&mut bytes)? {
            for frame in batch.iter().filter(|frame| frame.kind == FrameKind::Method) {
                if self.machine.is_closed() {
                    break;
                }
                let Self { machine, replies } = self;
                machine.read(read_method(&frame.payload)?, &mut sender(channel, replies))?;
            }
        }
        Ok(())
    }
}

/// Returns what encodes methods of the library, and notes the right replies to them.
fn sender(channel: u16, replies: &mut VecDeque<Vec<u8>>) -> impl FnMut(&AMQPClass) -> Result<()> {
    move |method| {
        let mut frame = BytesMut::new();
        put_method(&mut frame, channel, method)?;
        let payload = frame.get(7..frame.len() - 1).unwrap_or_default();
        replies.extend(right_reply(payload, &mut 0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts that end before it say little about the replay.
    #[test]
    fn half_of_the_scripts_reach_the_end_of_a_recovery() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut script = || -> Vec<u8> { (0..random.usize(1..400)).map(|_| random.u8(..)).collect() };
        let complete = (0..1000).filter(|_| HostileRecovery::run(&script()) > 0).count();
        assert!(complete > 500, "{complete} of 1000");
    }
}
