//! One connection as a plain machine: bytes and the time go in, bytes come out.

mod opening;
mod output;

use std::collections::VecDeque;

use actix_pika_actors::wire::{
    basic_encode::put_heartbeat,
    method::{AMQPClass, connection, read_method},
    short::short_truncated,
};
use bytes::BytesMut;

use super::{
    contents::{Contents, Event, Published},
    frames::{Frame, next_frame},
    handshake::{self, Client, Limits},
};
use crate::core::{ChannelState, Close, ConnectionId, Core, Failure, Publish, Time, too_many_channels};

/// How long RabbitMQ waits for the next step of a handshake.
const HANDSHAKE_MILLIS: u64 = 10_000;
/// How long it is silent before it ends a connection that it does not tell why.
const SILENT_MILLIS: u64 = 3_000;
/// How long it waits for `close-ok`.
const CLOSING_MILLIS: u64 = 30_000;
/// How long a socket may take to write what is left when its connection has ended.
const LINGER_MILLIS: u64 = 3_000;
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
    /// The broker has sent `close`; `close-ok` is awaited.
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
    phase: Phase,
    input: BytesMut,
    out: BytesMut,
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
        let keep = core.config().message_max.unwrap_or(rules.message_max);
        Self {
            address,
            phase: Phase::Greeting,
            input: BytesMut::new(),
            out: BytesMut::new(),
            contents: Contents::new(rules.long_body_checked, keep),
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
            read_paused: false,
            delay: 0,
            delayed: VecDeque::new(),
            held: 0,
        }
    }

    /// Returns the connection of the core, if it is open.
    pub(super) fn id(&self) -> Option<ConnectionId> {
        match self.phase {
            Phase::Running(id) => Some(id),
            _ => None,
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn address(&self) -> &str {
        &self.address
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
        self.input.extend_from_slice(bytes);
        self.process(core, now);
    }

    /// The client will send nothing more. What it was answered is still written.
    pub(super) fn finished(&mut self, core: &mut Core, now: Now<'_>) {
        if let Phase::Running(id) = self.phase {
            core.close_connection(now.core, id);
        }
        self.finish(now, End::Close);
    }

    /// The socket has ended.
    pub(super) fn lost(&mut self, core: &mut Core, now: Now<'_>) {
        if let Phase::Running(id) = self.phase {
            core.close_connection(now.core, id);
        }
        self.phase = Phase::Ended;
        self.end.get_or_insert(End::Reset);
        self.clear_output();
    }

    /// Ends the socket by a reset after what waits to be written. For the core it is lost.
    pub(super) fn reset(&mut self, core: &mut Core, now: Now<'_>) {
        if let Phase::Running(id) = self.phase {
            core.close_connection(now.core, id);
        }
        self.finish(now, End::Reset);
    }

    /// Cuts the connection when `octets` more are written.
    pub(super) fn cut_after(&mut self, octets: u64) {
        self.cut_after = Some(octets);
    }

    fn finish(&mut self, now: Now<'_>, end: End) {
        self.phase = Phase::Ended;
        self.end.get_or_insert(end);
        let lingers = self.delayed.back().map_or(now.net, |(at, _)| now.net.max(*at));
        self.deadline = Some(lingers.after_millis(LINGER_MILLIS));
        self.input = BytesMut::new();
        self.contents.clear();
    }

    fn clear_output(&mut self) {
        self.out.clear();
        self.delayed.clear();
        self.held = 0;
    }

    fn silence(&mut self, now: Now<'_>) {
        self.phase = Phase::Silent;
        self.input = BytesMut::new();
        self.contents.clear();
        self.deadline = Some(now.net.after_millis(SILENT_MILLIS));
    }

    /// Handles the frames that are there, up to one that blocks the connection.
    fn process(&mut self, core: &mut Core, now: Now<'_>) {
        if matches!(self.phase, Phase::Greeting) && !self.greet(core, now) {
            return;
        }
        while !self.blocked
            && !self.read_paused
            && !self.full
            && !matches!(self.phase, Phase::Silent | Phase::Ended)
        {
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
        match self.contents.take(frame, state) {
            // RabbitMQ has a channel as soon as it has a frame of it.
            Ok(Event::None) if self.contents.len() > usize::from(self.channel_max) => {
                core.fail(now.core, id, 0, too_many_channels(self.channel_max));
            }
            Ok(Event::None | Event::Heartbeat) => {}
            Ok(Event::Method(method)) => {
                let ends = matches!(
                    method,
                    AMQPClass::Channel(actix_pika_actors::wire::method::channel::AMQPMethod::Close(_))
                );
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
                core.publish(now.core, id, channel, publish(&published), properties, body);
                self.block(now);
            }
            Ok(Event::TooLarge(published, size)) => {
                core.publish_too_large(now.core, id, channel, publish(&published), size);
                self.block(now);
            }
            Ok(Event::Content) => self.block(now),
            Ok(Event::Reset) => self.reset(core, now),
            Err(close) => core.fail(now.core, id, channel, Failure::Connection(close)),
        }
    }

    /// A method of channel 0.
    fn control(
        &mut self,
        core: &mut Core,
        now: Now<'_>,
        id: ConnectionId,
        (class_id, method_id): (u16, u16),
        payload: &[u8],
    ) {
        use connection::AMQPMethod as Method;
        match (class_id, method_id) {
            (10, 50) => {
                core.close_connection(now.core, id);
                core.answer(id, AMQPClass::Connection(Method::CloseOk(connection::CloseOk {})));
                self.finish(now, End::Close);
            }
            (10, 70) if read_method(payload).is_ok() => {
                let ok = Method::UpdateSecretOk(connection::UpdateSecretOk {});
                core.answer(id, AMQPClass::Connection(ok));
            }
            _ if read_method(payload).is_err_and(|fault| fault.code == 503) => self.reset(core, now),
            _ => {
                let close = Close::new(504, "unexpected method in connection state running");
                core.fail(now.core, id, 0, Failure::Connection(close.at(class_id, method_id)));
            }
        }
    }

    /// A frame behind the one that made the core close the connection.
    fn answer_close(&mut self, core: &mut Core, id: ConnectionId, now: Now<'_>, frame: &Frame) {
        if frame.kind != 1 || frame.channel != 0 {
            return;
        }
        match frame.payload.first_chunk::<4>() {
            Some([0, 10, 0, 50]) => {
                let ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
                core.answer(id, AMQPClass::Connection(ok));
            }
            Some([0, 10, 0, 51]) => self.finish(now, End::Close),
            _ => {}
        }
    }

    /// A frame after the broker's `close`.
    fn close_on(&mut self, now: Now<'_>, frame: &Frame) {
        if frame.kind != 1 || frame.channel != 0 {
            return;
        }
        match frame.payload.first_chunk::<4>() {
            Some([0, 10, 0, 50]) => {
                let ok = connection::AMQPMethod::CloseOk(connection::CloseOk {});
                self.write_method(now, 0, &AMQPClass::Connection(ok));
            }
            Some([0, 10, 0, 51]) => self.finish(now, End::Close),
            _ => {}
        }
    }

    fn close_with(&mut self, now: Now<'_>, close: &Close) {
        self.write_method(now, 0, &handshake::close_method(close));
        self.phase = Phase::Closing;
        self.deadline = Some(now.net.after_millis(CLOSING_MILLIS));
    }

    /// A content has come: while an alarm is on, the publisher is told, and not read any more.
    fn block(&mut self, now: Now<'_>) {
        let Some(reason) = now.alarm else { return };
        if self.blocked || !matches!(self.phase, Phase::Running(_)) {
            return;
        }
        self.blocked = true;
        if self.tells_blocked {
            let reason = short_truncated(reason);
            let blocked = connection::AMQPMethod::Blocked(connection::Blocked { reason });
            self.write_method(now, 0, &AMQPClass::Connection(blocked));
        }
    }

    /// The alarm is over: goes on with what was sent meanwhile.
    pub(super) fn unblock(&mut self, core: &mut Core, now: Now<'_>) {
        if !self.blocked {
            return;
        }
        self.blocked = false;
        self.last_read = now.net;
        if self.tells_blocked && matches!(self.phase, Phase::Running(_)) {
            let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
            self.write_method(now, 0, &AMQPClass::Connection(unblocked));
        }
        self.process(core, now);
    }

    /// Returns when [`tick`](Self::tick) has something to do.
    pub(super) fn next_tick(&self) -> Option<Time> {
        let heartbeats = match self.phase {
            Phase::Running(_) if self.heartbeat > 0 => {
                let silent = self.reads().then(|| self.last_read.after_millis(3 * self.heartbeat));
                let idle = self.last_written.after_millis(self.heartbeat / 2);
                Some(silent.map_or(idle, |silent| silent.min(idle)))
            }
            _ => None,
        };
        let delayed = self.delayed.front().map(|(at, _)| *at);
        [heartbeats, self.deadline, delayed].into_iter().flatten().min()
    }

    /// Does what is due: heartbeats, and the end of who is silent.
    pub(super) fn tick(&mut self, core: &mut Core, now: Now<'_>) {
        self.release(now.net);
        if self.deadline.is_some_and(|at| at <= now.net) {
            if matches!(self.phase, Phase::Ended) {
                self.abandoned = true;
                self.deadline = None;
                self.clear_output();
            } else {
                self.finish(now, End::Reset);
            }
            return;
        }
        let Phase::Running(_) = self.phase else { return };
        if self.heartbeat == 0 {
            return;
        }
        // Two intervals were missed, and the third has ended.
        if self.reads() && self.last_read.after_millis(3 * self.heartbeat) <= now.net {
            self.reset(core, now);
        } else if self.last_written.after_millis(self.heartbeat / 2) <= now.net {
            let before = self.out.len();
            put_heartbeat(&mut self.out);
            self.written(now, before);
        }
    }
}

fn publish(published: &Published) -> Publish<'_> {
    Publish {
        // They were checked when they were read.
        exchange: std::str::from_utf8(&published.exchange).unwrap_or_default(),
        routing_key: std::str::from_utf8(&published.routing_key).unwrap_or_default(),
        mandatory: published.mandatory,
        immediate: published.immediate,
    }
}
