//! What waits to be taken: publishes, methods and settles as frames, in the order in which they were written.
//!
//! Small bodies are copied behind their headers, larger ones chained as they are. Every chunk with content begins
//! with the method frame of a publish, or is the rest of the publish that its predecessor began. What is taken at a time
//! ends with a frame: other channels write next.

use std::{
    collections::{HashMap, VecDeque},
    ops::RangeInclusive,
};

use bytes::{Bytes, BytesMut};

use super::{
    CHAIN_FROM, Outgoing, PUBLISH_COST,
    acks::Acks,
    unconfirmed::{Publish, Range, Unconfirmed},
};
use crate::wire::{
    FRAME_END, FRAME_OVERHEAD, HEAD_LEN, header_len, put_body, put_body_head, put_encoded_header, put_header,
    put_publish, put_reject,
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
    /// A content was handed over in part.
    begun: bool,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    kind: Kind,
    range: Range,
    ends: Ends,
}

/// What ends where a chunk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Nothing,
    /// Other channels may write next.
    Frame,
    /// Anything may follow on this channel.
    Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Content,
    Method,
    Acks,
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
        for at in (0..body.len()).step_by(most) {
            let end = body.len().min(at + most);
            self.reserve(HEAD_LEN);
            put_body_head(&mut self.tail, channel, (end - at) as u32);
            self.close_at(Kind::Content, Ends::Nothing);
            let ends = if end < body.len() { Ends::Frame } else { Ends::Content };
            let chunk = |bytes, ends| Chunk { bytes, kind: Kind::Content, range: rest, ends };
            self.chunks.push_back(chunk(body.slice(at..end), Ends::Nothing));
            self.chunks.push_back(chunk(Bytes::from_static(&[FRAME_END]), ends));
            self.open = rest;
        }
        self.open = Range::default();
    }

    /// Appends one method frame.
    pub(super) fn method(&mut self, frame: Bytes) {
        self.close(Kind::Content);
        let range = Range::default();
        self.chunks.push_back(Chunk { bytes: frame, kind: Kind::Method, range, ends: Ends::Content });
    }

    /// Renders what is to be settled, behind everything that was written before.
    pub(super) fn settles(&mut self, channel: u16, settles: &mut Acks) {
        if settles.is_dirty() {
            self.close(Kind::Content);
            self.reserve(settles.rendered_len());
            settles.render(channel, &mut self.tail);
            self.close(Kind::Acks);
        }
    }

    /// Appends the requeue of deliveries one by one, whatever else is outstanding.
    pub(super) fn requeue(&mut self, channel: u16, tags: Vec<RangeInclusive<u64>>) {
        self.close(Kind::Content);
        for tag in tags.into_iter().flatten() {
            self.reserve_for(Kind::Acks, SETTLE_LEN);
            put_reject(&mut self.tail, channel, tag, true);
        }
        self.close(Kind::Acks);
    }

    /// Hands over whole frames until `budget` is spent; content goes to `kept` as well, if that is given.
    pub(super) fn take(
        &mut self,
        budget: usize,
        mut kept: Option<&mut Unconfirmed>,
        out: &mut Vec<Bytes>,
    ) -> Written {
        let mut written = Written::default();
        let mut spent = 0;
        let mut ends = Ends::Content;
        if self.chunks.is_empty() {
            self.close(Kind::Content);
        }
        while spent < budget || ends == Ends::Nothing {
            let Some(chunk) = self.chunks.pop_front() else { break };
            ends = chunk.ends;
            self.begun = ends != Ends::Content;
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

    /// Leaves nothing but the rest of a content that was handed over in part: the broker takes no method before it,
    /// not even the answer to `channel.close`. Gives back the rest, to be dropped.
    pub(super) fn abandon(&mut self) -> Self {
        let mut left = Self::default();
        while self.begun {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.begun = chunk.ends != Ends::Content;
            left.chunks.push_back(chunk);
        }
        left.begun = !left.chunks.is_empty();
        std::mem::replace(self, left)
    }

    /// Gives all content to `kept`, as if it had been handed over.
    pub(super) fn keep(mut self, kept: &mut Unconfirmed) {
        self.close(Kind::Content);
        for chunk in self.chunks.into_iter().filter(|chunk| chunk.kind == Kind::Content) {
            kept.push(chunk.bytes, chunk.range);
        }
    }

    /// Gives the rest of a content that was begun to `kept`, and leaves it here to be taken.
    pub(super) fn keep_begun(&mut self, kept: &mut Unconfirmed) {
        // In a life that is interrupted twice, it is kept already.
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.kind == Kind::Content) {
            kept.push(chunk.bytes.clone(), chunk.range);
            chunk.kind = Kind::Method;
        }
    }

    /// Forgets methods and settles.
    pub(super) fn only_content(&mut self) {
        self.close(Kind::Content);
        self.chunks.retain(|chunk| chunk.kind == Kind::Content);
    }

    pub(super) fn append(&mut self, mut more: Self) {
        self.close(Kind::Content);
        more.close(Kind::Content);
        self.chunks.append(&mut more.chunks);
    }

    /// Writes a publish of an earlier life again, cut for this one; tells what it costs in the window.
    pub(super) fn again(
        &mut self,
        channel: u16,
        frame_max: usize,
        publish: &Publish<'_>,
        renamed: &HashMap<String, String>,
    ) -> usize {
        let most = frame_max - FRAME_OVERHEAD;
        let len = publish.body_len();
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let (exchange, routing_key) = (text(publish.exchange), text(publish.routing_key));
        let new_name = if exchange.is_empty() { renamed.get(routing_key) } else { None };
        let routing_key = new_name.map_or(routing_key, String::as_str);
        // A batch holds numbers in a row.
        if self.open.messages > 0 && self.open.last + 1 != publish.sequence {
            self.close(Kind::Content);
        }
        let copied = len < CHAIN_FROM && len <= most;
        let head = FRAME_OVERHEAD * 3 + 9 + exchange.len() + routing_key.len() + publish.header.len();
        self.reserve(if copied { head + len } else { head });
        put_publish(&mut self.tail, channel, exchange, routing_key, publish.mandatory);
        put_encoded_header(&mut self.tail, channel, publish.header);
        let cost = exchange.len() + routing_key.len() + len + PUBLISH_COST;
        self.open.add(publish.sequence, cost);
        if len == 0 {
        } else if copied {
            put_body_head(&mut self.tail, channel, len as u32);
            publish.body().for_each(|part| self.tail.extend_from_slice(&part));
            self.tail.extend_from_slice(&[FRAME_END]);
        } else {
            self.chain_again(channel, most, publish);
        }
        if self.tail.len() >= CHUNK {
            self.close(Kind::Content);
        }
        cost
    }

    /// What is published next begins a batch of its own: its number need not be the next one.
    pub(super) fn end_batch(&mut self) {
        self.close(Kind::Content);
    }

    fn chain_again(&mut self, channel: u16, most: usize, publish: &Publish<'_>) {
        let rest = Range { first: publish.sequence, last: publish.sequence, messages: 0, cost: 0 };
        let chunk = |bytes, ends| Chunk { bytes, kind: Kind::Content, range: rest, ends };
        let mut left = publish.body_len();
        let mut parts = publish.body();
        let mut part = Bytes::new();
        while left > 0 {
            let mut frame = left.min(most);
            left -= frame;
            self.reserve(HEAD_LEN);
            put_body_head(&mut self.tail, channel, frame as u32);
            self.close_at(Kind::Content, Ends::Nothing);
            while frame > 0 {
                if part.is_empty() {
                    let Some(next) = parts.next() else { break };
                    part = next;
                    continue;
                }
                let piece = part.split_to(part.len().min(frame));
                frame -= piece.len();
                self.chunks.push_back(chunk(piece, Ends::Nothing));
            }
            let ends = if left > 0 { Ends::Frame } else { Ends::Content };
            self.chunks.push_back(chunk(Bytes::from_static(&[FRAME_END]), ends));
            self.open = rest;
        }
        self.open = Range::default();
    }

    /// Closes the open chunk.
    fn close(&mut self, kind: Kind) {
        self.close_at(kind, Ends::Content);
    }

    fn close_at(&mut self, kind: Kind, ends: Ends) {
        if !self.tail.is_empty() {
            self.last_len = self.tail.len();
            let bytes = self.tail.split().freeze();
            self.chunks.push_back(Chunk { bytes, kind, range: std::mem::take(&mut self.open), ends });
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
