//! One connection as a plain machine: bytes and the time go in, bytes come out.

mod alarm;
mod channel_0;
mod deadlines;
mod ending;
mod opening;
mod output;

use std::collections::VecDeque;

use actix_pika_actors::wire::method::{self, AMQPClass};
use bytes::BytesMut;

use super::{
    contents::{Contents, Event, Published},
    frames::{Frame, next_frame},
    handshake::{Client, Limits},
};
use crate::core::{
    ChannelState, Close, ConnectionId, Core, Failure, Publish, Share, Time, text_of, too_many_channels,
};

/// How long RabbitMQ waits for the next step of a handshake.
const HANDSHAKE_MILLIS: u64 = 10_000;
/// How long it is silent before it ends a connection that it does not tell why.
const SILENT_MILLIS: u64 = 3_000;
/// How long it waits for `close-ok`, or for the client to end its socket, unless the heartbeat is shorter.
const CLOSING_MILLIS: u64 = 30_000;
/// How long a socket may take to write what is left when its connection has ended.
const LINGER_MILLIS: u64 = 3_000;
/// The type of heartbeat frames.
const HEARTBEAT: u8 = 8;
/// The octets of answers that wait in the core before they are taken, and what is read goes on.
const ANSWERED_MAX: usize = 1 << 18;

/// How far a connection is.
#[derive(Debug)]
enum Phase {
    /// The protocol header is awaited.
    Greeting,
    Starting,
    Tuning(Client),
    Opening(Client, Limits),
    Running(ConnectionId),
    /// Either side has sent `close`: the client's `close-ok`, or the end of its socket, is awaited.
    Closing,
    /// Nothing is read or said any more; the connection ends at its deadline.
    Silent,
    Ended,
}

/// How the socket of a connection ends, when all that is to be sent before is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As after a close that both sides agreed on.
    Close,
    /// By a reset.
    Reset,
}

/// What a connection needs to know of the broker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now<'a> {
    /// The time of queues and messages.
    pub(super) core: Time,
    /// The time of sockets.
    pub(super) net: Time,
    /// The reason for which publishers are blocked.
    pub(super) alarm: Option<&'a str>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    address: String,
    /// That of the login, when it is done.
    mechanism: String,
    phase: Phase,
    /// The connection of the core, once it was opened. It may have ended since.
    connection: Option<ConnectionId>,
    input: BytesMut,
    out: BytesMut,
    /// The octets that are being written.
    in_flight: usize,
    /// What both take of the broker's memory.
    share: Share,
    contents: Contents,
    frame_max: u32,
    channel_max: u16,
    heartbeat: u64,
    last_read: Time,
    last_written: Time,
    deadline: Option<Time>,
    /// It has published while an alarm was on: nothing of it is read.
    blocked: bool,
    tells_blocked: bool,
    writable: bool,
    /// It has so much to read that it is not read.
    full: bool,
    end: Option<End>,
    /// What waits to be written is given up.
    abandoned: bool,
    /// The octets that are written before the connection is cut.
    cut_after: Option<u64>,
    /// The octets that are read before the connection is cut.
    cut_input_after: Option<u64>,
    /// The frames, heartbeats aside, that were handled since they were counted.
    handled: u64,
    /// How many more frames are handled until somebody looks at the broker.
    budget: u64,
    /// Frames may wait because of that.
    over_budget: bool,
    /// Nothing is read, on order.
    read_paused: bool,
    /// What is written waits this long, on order.
    pub(super) delay: u64,
    /// Which part of the output waits until when.
    delayed: VecDeque<(Time, usize)>,
    /// The sum of these parts.
    held: usize,
}

impl Peer {
    pub(super) fn new(address: String, core: &Core, now: Time) -> Self {
        let rules = core.config().line.rules();
        Self {
            address,
            mechanism: String::new(),
            phase: Phase::Greeting,
            connection: None,
            input: BytesMut::new(),
            out: BytesMut::new(),
            in_flight: 0,
            share: Share::of(core.memory()),
            contents: Contents::new(rules.long_body_checked),
            // Of the first frame, which is start-ok.
            frame_max: rules.start_ok_max,
            channel_max: 0,
            heartbeat: 0,
            last_read: now,
            last_written: now,
            deadline: Some(now.after_millis(HANDSHAKE_MILLIS)),
            blocked: false,
            tells_blocked: false,
            writable: true,
            full: false,
            end: None,
            abandoned: false,
            cut_after: None,
            cut_input_after: None,
            handled: 0,
            budget: u64::MAX,
            over_budget: false,
            read_paused: false,
            delay: 0,
            delayed: VecDeque::new(),
            held: 0,
        }
    }

    /// Returns the connection of the core, once it was opened. It may have ended since.
    pub(super) fn id(&self) -> Option<ConnectionId> {
        self.connection
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// Returns whether it waits for room in its output.
    pub(super) fn waits_for_room(&self) -> bool {
        self.full || !self.writable
    }

    /// Returns whether there is something to write, or the socket ends.
    pub(super) fn has_output(&self) -> bool {
        self.out.len() > self.held || self.cut_after == Some(0) || self.end().is_some()
    }

    /// Returns how many octets wait to be written.
    #[cfg(test)]
    pub(super) fn output_len(&self) -> usize {
        self.out.len()
    }

    /// Returns whether the socket is to end now, whatever is being written.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Returns whether bytes are to be read.
    pub(super) fn reads(&self) -> bool {
        !self.blocked && !self.read_paused && !self.full && self.end.is_none()
    }

    /// Has nothing of it read, or goes on reading. Meanwhile its heartbeats are not missed.
    pub(super) fn set_read_paused(&mut self, core: &mut Core, now: Now<'_>, read_paused: bool) {
        if std::mem::replace(&mut self.read_paused, read_paused) && !read_paused {
            self.last_read = now.net;
            self.process(core, now);
        }
    }

    /// Takes what was read.
    pub(super) fn receive(&mut self, core: &mut Core, now: Now<'_>, bytes: &[u8]) {
        self.last_read = now.net;
        if matches!(self.phase, Phase::Silent | Phase::Ended) {
            return;
        }
        let Some(left) = self.cut_input_after else {
            self.input.extend_from_slice(bytes);
            return self.process(core, now);
        };
        let before_cut = bytes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(bytes);
        self.cut_input_after = Some(left - before_cut.len() as u64);
        self.input.extend_from_slice(before_cut);
        self.process(core, now);
        if self.cut_input_after == Some(0) {
            self.reset(core, now);
        }
    }

    /// Returns how many frames were handled since this was asked.
    pub(super) fn take_handled(&mut self) -> u64 {
        std::mem::take(&mut self.handled)
    }

    /// Sets how many frames are handled at most, with those that were not counted yet.
    pub(super) fn set_budget(&mut self, frames: u64) {
        self.budget = frames.saturating_sub(self.handled);
    }

    /// Returns whether frames may wait because it has handled all that it may.
    pub(super) fn is_over_budget(&self) -> bool {
        self.over_budget
    }

    /// Handles the frames that are there, up to one that blocks the connection.
    pub(super) fn process(&mut self, core: &mut Core, now: Now<'_>) {
        if matches!(self.phase, Phase::Greeting) && !self.greet(core, now) {
            return;
        }
        self.over_budget = false;
        while !self.blocked
            && !self.read_paused
            && !self.full
            && !matches!(self.phase, Phase::Silent | Phase::Ended)
        {
            self.over_budget = self.budget == 0;
            if self.over_budget {
                break;
            }
            if core.answered() > ANSWERED_MAX {
                // Goes on when these answers are in the output.
                self.full = true;
                return;
            }
            match next_frame(&mut self.input, self.frame_max) {
                Ok(None) => break,
                Ok(Some(frame)) => self.handle(core, now, frame),
                Err(close) => {
                    self.cannot_read(core, now, close);
                    break;
                }
            }
        }
        core.flush(now.core);
    }

    /// The bytes are no frames: nothing more is read.
    fn cannot_read(&mut self, core: &mut Core, now: Now<'_>, close: Close) {
        match self.phase {
            // Its close is said in the silence.
            Phase::Running(id) if core.is_open(id) => {
                core.fail(now.core, id, 0, Failure::Connection(close));
                self.silence(now);
            }
            Phase::Opening(..) => self.refuse(now, &close),
            _ => self.finish(now, End::Reset),
        }
    }

    fn handle(&mut self, core: &mut Core, now: Now<'_>, frame: Frame) {
        if frame.kind != HEARTBEAT {
            self.handled += 1;
            self.budget = self.budget.saturating_sub(1);
        }
        match &self.phase {
            Phase::Running(id) if core.is_open(*id) => {
                let id = *id;
                self.run(core, now, id, frame);
            }
            // The core has closed it, and what it says of that is not taken yet.
            Phase::Running(id) => {
                let id = *id;
                self.answer_close(core, id, now, &frame);
            }
            Phase::Closing => self.close_on(now, &frame),
            Phase::Starting | Phase::Tuning(_) | Phase::Opening(..) => self.shake_hands(core, now, &frame),
            Phase::Greeting | Phase::Silent | Phase::Ended => {}
        }
    }

    fn run(&mut self, core: &mut Core, now: Now<'_>, id: ConnectionId, frame: Frame) {
        let channel = frame.channel;
        let state = if channel == 0 { ChannelState::Open } else { core.channel_state(id, channel) };
        match self.contents.take(frame, state, core.message_max()) {
            // RabbitMQ has a channel as soon as it has a frame of it.
            Ok(Event::None) if self.contents.len() > usize::from(self.channel_max) => {
                core.fail(now.core, id, 0, too_many_channels(self.channel_max));
            }
            Ok(Event::None | Event::Heartbeat) => {}
            Ok(Event::Method(method)) => {
                let ends = matches!(method, AMQPClass::Channel(method::channel::AMQPMethod::Close(_)));
                core.method(now.core, id, channel, method);
                if ends {
                    self.contents.forget(channel);
                }
            }
            Ok(Event::Control { class_id, method_id, payload }) => {
                self.control(core, now, id, (class_id, method_id), &payload);
            }
            Ok(Event::Published(published)) => {
                let Published { properties, body, .. } = &published;
                let (properties, body) = (properties.clone(), body.clone());
                let (exchange, key) = (text_of(&published.exchange), text_of(&published.routing_key));
                let publish = publish(&published, &exchange, &key);
                core.publish(now.core, id, channel, publish, properties, body);
                self.block(core, now);
            }
            Ok(Event::TooLarge { publish: published, size, max }) => {
                let (exchange, key) = (text_of(&published.exchange), text_of(&published.routing_key));
                let publish = publish(&published, &exchange, &key);
                core.publish_too_large(now.core, id, channel, publish, size, max);
                self.block(core, now);
            }
            Ok(Event::Content) => self.block(core, now),
            Ok(Event::Reset) => self.reset(core, now),
            Err(close) => core.fail(now.core, id, channel, Failure::Connection(close)),
        }
    }
}

fn publish<'a>(published: &Published, exchange: &'a str, routing_key: &'a str) -> Publish<'a> {
    Publish { exchange, routing_key, mandatory: published.mandatory, immediate: published.immediate }
}
