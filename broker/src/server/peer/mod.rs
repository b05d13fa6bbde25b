//! One connection as a plain machine: bytes and the time go in, bytes come out.

mod alarm;
mod channel_0;
mod deadlines;
mod ending;
mod input;
mod opening;
mod output;

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{
    contents::Contents,
    handshake::{Client, Limits},
};
use crate::core::{ConnectionId, Core, Share, Time};

/// How long RabbitMQ waits for the next step of a handshake.
const HANDSHAKE_MILLIS: u64 = 10_000;
/// How long it is silent before it ends a connection that it does not tell why.
const SILENT_MILLIS: u64 = 3_000;
/// How long it waits for `close-ok`, or for the client to end its socket, unless the heartbeat is shorter.
const CLOSING_MILLIS: u64 = 30_000;
/// How long a socket may take to write what is left when its connection has ended.
const LINGER_MILLIS: u64 = 3_000;
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
}
