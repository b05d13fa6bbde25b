//! What waits to be taken: publishes, methods and settles as frames, in the order in which they were written.
//!
//! Small bodies are copied behind their headers, larger ones chained as they are. Every chunk with content begins
//! with the method frame of a publish, or is the rest of the publish that its predecessor began.

use std::{collections::VecDeque, ops::RangeInclusive};

use bytes::{BufMut, Bytes, BytesMut};

use super::{CHAIN_FROM, Outgoing, kept::Kept, settles::Settles};
use crate::wire::{
    FRAME_END, FRAME_OVERHEAD, header_len, put_body, put_body_head, put_header, put_publish, put_reject,
};

/// A chunk of copied frames is closed at this size.
const CHUNK: usize = 64 * 1024;
const SMALLEST: usize = 1024;
/// `basic.reject` as a frame.
const SETTLE_LEN: usize = 21;

#[derive(Debug, Default)]
pub(super) struct Queue {
    chunks: VecDeque<Chunk>,
    tail: BytesMut,
    open: Range,
    /// Bytes that the last closed chunk had, to size the next buffer.
    last_len: usize,
}

/// The publishes that a chunk holds, or holds a part of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) messages: usize,
    pub(super) cost: usize,
}

impl Range {
    fn add(&mut self, sequence: u64, cost: usize) {
        if self.messages == 0 {
            self.first = sequence;
        }
        self.last = sequence;
        self.messages += 1;
        self.cost += cost;
    }
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    kind: Kind,
    range: Range,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Content,
    Method,
    Settles,
}

/// Publishes that one take handed over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) messages: usize,
    pub(super) cost: usize,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    pub(super) fn publish(&mut self, channel: u16, frame_max: usize, sequence: u64, outgoing: Outgoing<'_>) {
        let body = outgoing.body;
        let most = frame_max - FRAME_OVERHEAD;
        let copied = body.len() < CHAIN_FROM && body.len() <= most;
        let head = FRAME_OVERHEAD * 3
            + 9
            + outgoing.exchange.len()
            + outgoing.routing_key.len()
            + header_len(outgoing.properties);
        self.reserve(if copied { head + body.len() } else { head });
        put_publish(&mut self.tail, channel, outgoing.exchange, outgoing.routing_key, outgoing.mandatory);
        put_header(&mut self.tail, channel, body.len() as u64, outgoing.properties);
        self.open.add(sequence, outgoing.cost());
        if body.is_empty() {
        } else if copied {
            put_body(&mut self.tail, channel, body);
        } else {
            self.chain(channel, most, sequence, body);
        }
        if self.tail.len() >= CHUNK {
            self.close(Kind::Content);
        }
    }

    fn chain(&mut self, channel: u16, most: usize, sequence: u64, body: &Bytes) {
        let rest = Range { first: sequence, last: sequence, messages: 0, cost: 0 };
        let mut at = 0;
        while at < body.len() {
            let end = body.len().min(at + most);
            put_body_head(&mut self.tail, channel, (end - at) as u32);
            self.close(Kind::Content);
            self.chunks.push_back(Chunk { bytes: body.slice(at..end), kind: Kind::Content, range: rest });
            self.open = rest;
            if end < body.len() {
                self.reserve(FRAME_OVERHEAD);
                self.tail.put_u8(FRAME_END);
            } else {
                // An end of its own keeps the next publish at the beginning of a chunk.
                let bytes = Bytes::from_static(&[FRAME_END]);
                self.chunks.push_back(Chunk { bytes, kind: Kind::Content, range: rest });
                self.open = Range::default();
            }
            at = end;
        }
    }

    /// Appends one method frame.
    pub(super) fn method(&mut self, frame: Bytes) {
        self.close(Kind::Content);
        self.chunks.push_back(Chunk { bytes: frame, kind: Kind::Method, range: Range::default() });
    }

    /// Renders what is to be settled, behind everything that was written before.
    pub(super) fn settles(&mut self, channel: u16, settles: &mut Settles) {
        if settles.is_dirty() {
            self.close(Kind::Content);
            self.reserve(settles.rendered_len());
            settles.render(channel, &mut self.tail);
            self.close(Kind::Settles);
        }
    }

    /// Appends the requeue of deliveries one by one, whatever else is outstanding.
    pub(super) fn requeue(&mut self, channel: u16, tags: Vec<RangeInclusive<u64>>) {
        self.close(Kind::Content);
        for tag in tags.into_iter().flatten() {
            self.reserve_for(Kind::Settles, SETTLE_LEN);
            put_reject(&mut self.tail, channel, tag, true);
        }
        self.close(Kind::Settles);
    }

    /// Hands over whole chunks until `budget` is spent; content goes to `kept` as well, if that is given.
    pub(super) fn take(
        &mut self,
        budget: usize,
        mut kept: Option<&mut Kept>,
        out: &mut Vec<Bytes>,
    ) -> Written {
        let mut written = Written::default();
        let mut spent = 0;
        if self.chunks.is_empty() {
            self.close(Kind::Content);
        }
        while spent < budget {
            let Some(chunk) = self.chunks.pop_front() else { break };
            spent += chunk.bytes.len();
            written.messages += chunk.range.messages;
            written.cost += chunk.range.cost;
            if let (Kind::Content, Some(kept)) = (chunk.kind, kept.as_deref_mut()) {
                kept.push(chunk.bytes.clone(), chunk.range);
            }
            out.push(chunk.bytes);
            if self.chunks.is_empty() && spent < budget {
                self.close(Kind::Content);
            }
        }
        written
    }

    /// Closes the open chunk.
    fn close(&mut self, kind: Kind) {
        if !self.tail.is_empty() {
            self.last_len = self.tail.len();
            let bytes = self.tail.split().freeze();
            self.chunks.push_back(Chunk { bytes, kind, range: std::mem::take(&mut self.open) });
        }
    }

    /// Makes room without moving what is written: a full buffer is closed and a new one begun.
    fn reserve(&mut self, more: usize) {
        self.reserve_for(Kind::Content, more);
    }

    fn reserve_for(&mut self, kind: Kind, more: usize) {
        if self.tail.capacity() - self.tail.len() >= more {
            return;
        }
        self.close(kind);
        let size = (self.last_len * 2).clamp(SMALLEST, CHUNK + CHAIN_FROM).max(more);
        self.tail = BytesMut::with_capacity(size);
    }
}
