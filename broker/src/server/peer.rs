//! One connection as a plain machine: bytes and the time go in, bytes come out.

use std::collections::VecDeque;

use actix_pika_actors::wire::{
    basic_encode::{put_ack, put_heartbeat, put_nack},
    method::{AMQPClass, connection, put_method, read_method},
    short::short_truncated,
};
use bytes::{Buf, Bytes, BytesMut};

use super::{
    contents::{Contents, Event, Published},
    encode::{put_content, put_deliver, put_get_ok, put_return},
    frames::{Frame, describe, next_frame},
    handshake::{self, Client, Limits, Refusal},
};
use crate::core::{
    ChannelState, Close, ConnectionId, ConnectionInfo, Core, Failure, Output, Publish, Time,
    too_many_channels,
};

const GREETING: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// That of AMQP 0-9, which is answered in the same way.
const OLDER_GREETING: &[u8; 8] = b"AMQP\x01\x01\0\x09";
/// How long RabbitMQ waits for the next step of a handshake.
const HANDSHAKE_MILLIS: u64 = 10_000;
/// How long it is silent before it ends a connection that it does not tell why.
const SILENT_MILLIS: u64 = 3_000;
/// How long it waits for `close-ok`.
const CLOSING_MILLIS: u64 = 30_000;
/// How long a socket may take to write what is left when its connection has ended.
const LINGER_MILLIS: u64 = 3_000;
/// More than this is not kept for a client that does not read: its consumers get nothing, and it is not read.
const HIGH_WATER: usize = 1 << 20;
const LOW_WATER: usize = 1 << 18;
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
    deaf: bool,
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
            deaf: false,
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
        !self.blocked && !self.deaf && !self.full && self.end.is_none()
    }

    /// Has nothing of it read, or goes on reading. Meanwhile its heartbeats are not missed.
    pub(super) fn set_deaf(&mut self, core: &mut Core, now: Now<'_>, deaf: bool) {
        if std::mem::replace(&mut self.deaf, deaf) && !deaf {
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
        while !self.blocked && !self.deaf && !self.full && !matches!(self.phase, Phase::Silent | Phase::Ended)
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

    /// Reads the protocol header. Returns whether it is the right one.
    fn greet(&mut self, core: &Core, now: Now<'_>) -> bool {
        let Some(greeting) = self.input.first_chunk::<8>() else { return false };
        if greeting != GREETING && greeting != OLDER_GREETING {
            self.write(now, GREETING);
            self.finish(now, End::Close);
            return false;
        }
        self.input.advance(GREETING.len());
        self.write_method(now, 0, &handshake::start(core.config().line));
        self.phase = Phase::Starting;
        true
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

    fn shake_hands(&mut self, core: &mut Core, now: Now<'_>, frame: &Frame) {
        use connection::AMQPMethod as Method;
        if frame.kind == 8 {
            return;
        }
        let is_opening = matches!(self.phase, Phase::Opening(..));
        let method = match read_method(&frame.payload) {
            Ok(AMQPClass::Connection(method)) if frame.kind == 1 && frame.channel == 0 => method,
            _ if is_opening && frame.channel != 0 => {
                return self.close_with(now, &Close::new(505, describe(frame.kind, &frame.payload)));
            }
            _ => return self.silence(now),
        };
        self.deadline = Some(now.net.after_millis(HANDSHAKE_MILLIS));
        match (std::mem::replace(&mut self.phase, Phase::Silent), method) {
            (Phase::Starting, Method::StartOk(start_ok)) => match handshake::log_in(core, &start_ok) {
                Ok(client) => {
                    self.write_method(now, 0, &handshake::tune());
                    self.tells_blocked = client.blocked;
                    self.phase = Phase::Tuning(client);
                }
                Err(Refusal::Told(close)) => self.refuse(now, &close),
                Err(Refusal::Silent) => self.silence(now),
            },
            (Phase::Tuning(client), Method::TuneOk(tune_ok)) => {
                match handshake::tuned(core.config().line, &tune_ok) {
                    Some(limits) => {
                        self.frame_max = limits.frame_max;
                        self.channel_max = limits.channel_max;
                        self.heartbeat = u64::from(limits.heartbeat) * 1000;
                        self.phase = Phase::Opening(client, limits);
                    }
                    None => self.silence(now),
                }
            }
            (Phase::Opening(client, limits), Method::Open(open)) => {
                let info = ConnectionInfo {
                    user: client.user.into(),
                    vhost: open.virtual_host.as_str().into(),
                    cancel_notify: client.cancel_notify,
                    channel_max: limits.channel_max,
                    name: client.name.unwrap_or_else(|| self.address.clone()).into(),
                };
                match core.open_connection(now.core, info) {
                    Ok(id) => {
                        let ok = AMQPClass::Connection(Method::OpenOk(connection::OpenOk {}));
                        self.write_method(now, 0, &ok);
                        self.deadline = None;
                        self.phase = Phase::Running(id);
                    }
                    Err(close) => self.close_with(now, &close),
                }
            }
            (Phase::Opening(..), _) => {
                let [c1, c0, m1, m0] = frame.payload.first_chunk().copied().unwrap_or_default();
                let close = Close::new(504, "unexpected method in connection state opening");
                let (class_id, method_id) = (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0]));
                self.close_with(now, &close.at(class_id, method_id));
            }
            _ => self.silence(now),
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

    /// Tells why, and ends the connection after the silence.
    fn refuse(&mut self, now: Now<'_>, close: &Close) {
        self.write_method(now, 0, &handshake::close_method(close));
        self.silence(now);
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

    /// Writes what the core says.
    pub(super) fn say(&mut self, now: Now<'_>, channel: u16, output: Output) {
        let frame_max = self.frame_max as usize;
        let out = &mut self.out;
        let before = out.len();
        match output {
            Output::Method(method) => {
                if put_method(out, channel, &method).is_err() {
                    log::error!("a method cannot be encoded: {method:?}");
                }
            }
            Output::Ack { tag, multiple } => put_ack(out, channel, tag, multiple),
            Output::Nack { tag, multiple } => put_nack(out, channel, tag, multiple, false),
            Output::Deliver { consumer_tag, delivery_tag, redelivered, properties, message } => {
                put_deliver(out, channel, &consumer_tag, delivery_tag, redelivered, &message);
                put_content(out, channel, &properties, &message.body, frame_max);
            }
            Output::GetOk { delivery_tag, redelivered, message_count, properties, message } => {
                put_get_ok(out, channel, delivery_tag, redelivered, message_count, &message);
                put_content(out, channel, &properties, &message.body, frame_max);
            }
            Output::Return { code, text, message } => {
                put_return(out, channel, code, text, &message);
                put_content(out, channel, message.properties(), &message.body, frame_max);
            }
            Output::CloseConnection(close) => {
                match self.phase {
                    Phase::Ended => {}
                    Phase::Silent => self.write_method(now, 0, &handshake::close_method(&close)),
                    _ => self.close_with(now, &close),
                }
                return;
            }
        }
        self.written(now, before);
    }

    fn write(&mut self, now: Now<'_>, bytes: &[u8]) {
        let before = self.out.len();
        self.out.extend_from_slice(bytes);
        self.written(now, before);
    }

    fn write_method(&mut self, now: Now<'_>, channel: u16, method: &AMQPClass) {
        let before = self.out.len();
        if put_method(&mut self.out, channel, method).is_err() {
            log::error!("a method cannot be encoded: {method:?}");
        }
        self.written(now, before);
    }

    fn written(&mut self, now: Now<'_>, before: usize) {
        self.last_written = now.net;
        let written = self.out.len() - before;
        if self.delay == 0 && self.delayed.is_empty() {
            return;
        }
        let at = now.net.after_millis(self.delay);
        self.held += written;
        match self.delayed.back_mut() {
            // Nothing overtakes what was said before.
            Some((last, len)) if *last >= at => *len += written,
            _ => self.delayed.push_back((at, written)),
        }
    }

    /// What was delayed until now may be written.
    fn release(&mut self, now: Time) {
        while let Some(&(at, len)) = self.delayed.front()
            && at <= now
        {
            self.delayed.pop_front();
            self.held -= len;
        }
    }

    /// Returns whether more is in the output than a client that reads leaves there.
    pub(super) fn is_flooded(&self) -> bool {
        self.writable && self.out.len() > HIGH_WATER
    }

    /// Tells the core whether more may be sent to this connection, and goes on with what was read.
    pub(super) fn watch_output(&mut self, core: &mut Core, now: Now<'_>) {
        let had_room = !self.waits_for_room();
        let has_room = if had_room { self.out.len() <= HIGH_WATER } else { self.out.len() <= LOW_WATER };
        if let Phase::Running(id) = self.phase
            && has_room != self.writable
        {
            self.writable = has_room;
            core.set_writable(now.core, id, has_room);
        }
        if self.full == has_room {
            self.full = !has_room;
            if has_room {
                self.last_read = now.net;
                self.process(core, now);
            }
        }
    }

    /// Takes the bytes to write.
    pub(super) fn take_output(&mut self, now: Time) -> Bytes {
        self.release(now);
        let ready = self.out.len() - self.held;
        if let Some(left) = &mut self.cut_after {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            if ready >= most {
                let bytes = self.out.split_to(most).freeze();
                self.clear_output();
                self.end = Some(End::Reset);
                return bytes;
            }
            *left -= ready as u64;
        }
        self.out.split_to(ready).freeze()
    }

    /// Returns how the socket ends, once there is nothing to write.
    pub(super) fn end(&self) -> Option<End> {
        self.end.filter(|_| self.out.is_empty())
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
