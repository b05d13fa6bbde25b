//! What waits to be taken by the connection: publishes, methods and acks as frames, in the order in which
//! they were written.
//!
//! Small bodies are copied behind their headers, larger ones are chained without a copy. A chunk of content
//! begins with the method frame of a publish, or continues the publish that the chunk before it began. What
//! is taken at a time ends with a whole frame, since other channels write next.

use std::{collections::VecDeque, ops::RangeInclusive};

use bytes::{Bytes, BytesMut};

use super::{
    acks::Acks,
    answers::WaitingAnswers,
    unconfirmed::{PublishRange, Unconfirmed},
};
use crate::{
    message::Outgoing,
    wire::{
        FRAME_END, FRAME_OVERHEAD, HEAD_LEN, header_len, put_body, put_body_head, put_header, put_publish,
        put_reject,
    },
};

/// Bodies below this size are copied, larger ones are chained.
pub(super) const COPY_BELOW: usize = 4096;

/// A chunk of copied frames is closed at this size.
const CHUNK_SIZE: usize = 64 * 1024;
const CHUNK_MIN: usize = 1024;
/// The size of a frame with `basic.reject`.
const REJECT_LEN: usize = 21;
/// What a chunk costs beside its bytes.
const CHUNK_COST: usize = size_of::<Chunk>() + 32;

#[derive(Debug, Default)]
pub(super) struct FrameQueue {
    pub(super) chunks: VecDeque<Chunk>,
    /// The open chunk: copied frames.
    pub(super) tail: BytesMut,
    /// The publishes in the open chunk.
    pub(super) open: PublishRange,
    /// The size of the last closed chunk, to size the next buffer.
    last_len: usize,
    /// A publish was taken in part; the rest is at the front.
    partially_written: bool,
    /// The memory of the chunks that the peer has caused, and of settled deliveries.
    answers: WaitingAnswers,
}

#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) kind: ChunkKind,
    pub(super) range: PublishRange,
    pub(super) end: ChunkEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkKind {
    Content,
    Method,
    /// Deliveries that the application has settled.
    Acks,
    /// Replies to methods of the peer, and returned deliveries that have no consumer.
    Answer,
}

impl Chunk {
    fn answers(&self) -> WaitingAnswers {
        let cost = self.bytes.len() + CHUNK_COST;
        match self.kind {
            ChunkKind::Content | ChunkKind::Method => WaitingAnswers::default(),
            ChunkKind::Acks => WaitingAnswers { settled: cost, ..Default::default() },
            ChunkKind::Answer => WaitingAnswers { caused: cost, ..Default::default() },
        }
    }
}

/// What ends at the end of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkEnd {
    /// Nothing: a frame continues.
    InFrame,
    /// A frame: other channels may write next.
    Frame,
    /// A method or the content of a publish: anything may follow on this channel.
    Content,
}

/// Publishes that one take has moved.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    pub(super) messages: usize,
    pub(super) cost: usize,
    /// One more than the last of them, or the last of which a part was moved.
    pub(super) end: u64,
}

impl FrameQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.is_empty()
    }

    #[inline]
    pub(super) fn publish(&mut self, channel: u16, frame_max: usize, sequence: u64, outgoing: Outgoing<'_>) {
        let body = outgoing.body;
        let payload_max = frame_max - FRAME_OVERHEAD;
        let copied = body.len() < COPY_BELOW && body.len() <= payload_max;
        let head = FRAME_OVERHEAD * 3
            + 9
            + outgoing.exchange.len()
            + outgoing.routing_key.len()
            + header_len(outgoing.properties);
        self.reserve(if copied { head + body.len() } else { head });
        put_publish(&mut self.tail, channel, outgoing.exchange, outgoing.routing_key, outgoing.mandatory);
        put_header(&mut self.tail, channel, body.len() as u64, outgoing.properties);
        self.open.add(sequence, outgoing.cost());
        if !copied {
            self.chain(channel, payload_max, sequence, body);
        } else if !body.is_empty() {
            put_body(&mut self.tail, channel, body);
        }
        self.close_full_chunk();
    }

    fn chain(&mut self, channel: u16, payload_max: usize, sequence: u64, body: &Bytes) {
        let rest = PublishRange::rest_of(sequence);
        for at in (0..body.len()).step_by(payload_max) {
            let end = body.len().min(at + payload_max);
            self.reserve(HEAD_LEN);
            put_body_head(&mut self.tail, channel, (end - at) as u32);
            self.close_chunk_at(ChunkKind::Content, ChunkEnd::InFrame);
            let chunk_end = if end < body.len() { ChunkEnd::Frame } else { ChunkEnd::Content };
            let chunk = |bytes, end| Chunk { bytes, kind: ChunkKind::Content, range: rest, end };
            self.chunks.push_back(chunk(body.slice(at..end), ChunkEnd::InFrame));
            self.chunks.push_back(chunk(Bytes::from_static(&[FRAME_END]), chunk_end));
            self.open = rest;
        }
        self.open = PublishRange::default();
    }

    /// Appends one method frame.
    pub(super) fn method(&mut self, frame: Bytes) {
        self.method_of(ChunkKind::Method, frame);
    }

    /// Appends the reply to a method of the peer.
    pub(super) fn answer(&mut self, frame: Bytes) {
        self.method_of(ChunkKind::Answer, frame);
    }

    fn method_of(&mut self, kind: ChunkKind, frame: Bytes) {
        self.close_chunk(ChunkKind::Content);
        let (range, end) = (PublishRange::default(), ChunkEnd::Content);
        self.push(Chunk { bytes: frame, kind, range, end });
    }

    /// Appends a chunk that may be an answer.
    pub(super) fn push(&mut self, chunk: Chunk) {
        self.answers += chunk.answers();
        self.chunks.push_back(chunk);
    }

    pub(super) fn answers(&self) -> WaitingAnswers {
        self.answers
    }

    /// Appends the frames of pending acks.
    #[inline]
    pub(super) fn acks(&mut self, channel: u16, acks: &mut Acks) {
        if !acks.returned.is_empty() {
            self.close_chunk(ChunkKind::Content);
            self.reserve(acks.returned_len());
            acks.render_returned(channel, &mut self.tail);
            self.close_chunk(ChunkKind::Answer);
        }
        if acks.is_dirty() {
            self.close_chunk(ChunkKind::Content);
            self.reserve(acks.rendered_len());
            acks.render(channel, &mut self.tail);
            self.close_chunk(ChunkKind::Acks);
        }
    }

    /// Appends one `basic.reject` with requeue for each of `tags`.
    pub(super) fn requeue(&mut self, channel: u16, tags: Vec<RangeInclusive<u64>>) {
        self.close_chunk(ChunkKind::Content);
        for tag in tags.into_iter().flatten() {
            self.reserve_for(ChunkKind::Acks, REJECT_LEN);
            put_reject(&mut self.tail, channel, tag, true);
        }
        self.close_chunk(ChunkKind::Acks);
    }

    /// Moves whole frames to `out` until `budget` bytes are spent. Content is added to `unconfirmed`, if that
    /// is given.
    #[inline]
    pub(super) fn take(
        &mut self,
        budget: usize,
        mut unconfirmed: Option<&mut Unconfirmed>,
        out: &mut Vec<Bytes>,
    ) -> Moved {
        let mut moved = Moved::default();
        let mut spent = 0;
        let mut end = ChunkEnd::Content;
        if self.chunks.is_empty() {
            self.close_chunk(ChunkKind::Content);
        }
        while spent < budget || end == ChunkEnd::InFrame {
            let Some(chunk) = self.chunks.pop_front() else { break };
            end = chunk.end;
            self.partially_written = end != ChunkEnd::Content;
            spent += chunk.bytes.len();
            moved.messages += chunk.range.messages;
            moved.cost += chunk.range.cost;
            if let (ChunkKind::Content, Some(unconfirmed)) = (chunk.kind, unconfirmed.as_deref_mut()) {
                unconfirmed.push(chunk.bytes.clone(), chunk.range);
                moved.end = chunk.range.last + 1;
            } else {
                self.answers -= chunk.answers();
            }
            out.push(chunk.bytes);
            if self.chunks.is_empty() && spent < budget {
                self.close_chunk(ChunkKind::Content);
            }
        }
        moved
    }

    /// Returns whether a publish was taken in part, and its rest waits.
    pub(super) fn is_partially_written(&self) -> bool {
        self.partially_written
    }

    /// Removes everything but the rest of a partially written publish. That must be written before any
    /// method, even before `channel.close-ok`. Returns what was removed.
    pub(super) fn abandon(&mut self) -> Self {
        let mut left = Self::default();
        while self.partially_written {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.partially_written = chunk.end != ChunkEnd::Content;
            left.chunks.push_back(chunk);
        }
        left.partially_written = !left.chunks.is_empty();
        std::mem::replace(self, left)
    }

    /// Moves all content to `unconfirmed`, as if it had been written.
    pub(super) fn keep(mut self, unconfirmed: &mut Unconfirmed) {
        self.close_chunk(ChunkKind::Content);
        for chunk in self.chunks.into_iter().filter(|chunk| chunk.kind == ChunkKind::Content) {
            unconfirmed.push(chunk.bytes, chunk.range);
        }
    }

    /// Copies the rest of a partially written publish to `unconfirmed`.
    pub(super) fn keep_partially_written(&mut self, unconfirmed: &mut Unconfirmed) {
        for chunk in self.chunks.iter_mut().filter(|chunk| chunk.kind == ChunkKind::Content) {
            unconfirmed.push(chunk.bytes.clone(), chunk.range);
            // So that a second interruption does not copy it again.
            chunk.kind = ChunkKind::Method;
        }
    }

    /// Removes methods and acks.
    pub(super) fn retain_content(&mut self) {
        self.close_chunk(ChunkKind::Content);
        self.chunks.retain(|chunk| chunk.kind == ChunkKind::Content);
        self.answers = WaitingAnswers::default();
    }

    pub(super) fn append(&mut self, mut more: Self) {
        self.close_chunk(ChunkKind::Content);
        more.close_chunk(ChunkKind::Content);
        self.chunks.append(&mut more.chunks);
        self.answers += more.answers;
    }

    #[inline]
    pub(super) fn close_full_chunk(&mut self) {
        if self.tail.len() >= CHUNK_SIZE {
            self.close_chunk(ChunkKind::Content);
        }
    }

    #[inline]
    pub(super) fn close_chunk(&mut self, kind: ChunkKind) {
        self.close_chunk_at(kind, ChunkEnd::Content);
    }

    #[inline]
    pub(super) fn close_chunk_at(&mut self, kind: ChunkKind, end: ChunkEnd) {
        if !self.tail.is_empty() {
            self.last_len = self.tail.len();
            let bytes = self.tail.split().freeze();
            let range = std::mem::take(&mut self.open);
            self.push(Chunk { bytes, kind, range, end });
        }
    }

    /// Makes room without moving what is written: a full buffer is closed and a new one begun.
    #[inline]
    pub(super) fn reserve(&mut self, more: usize) {
        self.reserve_for(ChunkKind::Content, more);
    }

    #[inline]
    fn reserve_for(&mut self, kind: ChunkKind, more: usize) {
        if self.tail.capacity() - self.tail.len() >= more {
            return;
        }
        self.grow(kind, more);
    }

    #[inline(never)]
    fn grow(&mut self, kind: ChunkKind, more: usize) {
        self.close_chunk(kind);
        let size = (self.last_len * 2).clamp(CHUNK_MIN, CHUNK_SIZE + COPY_BELOW).max(more);
        self.tail = BytesMut::with_capacity(size);
    }
}
