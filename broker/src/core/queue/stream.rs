//! [`StreamLog`]: the messages of a stream, which stay.

use std::{collections::VecDeque, sync::Arc};

use super::stored::Stored;
use crate::core::{Message, Time};

/// Where a consumer of a stream starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffsetSpec {
    First,
    /// At the beginning of the last chunk.
    Last,
    Next,
    Number(u64),
    /// At the first chunk of this time or later, in seconds since 1970.
    Timestamp(u64),
    /// At the first chunk that is not older, in milliseconds.
    Age(u64),
}

/// The limits of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retention {
    /// In milliseconds.
    pub(super) max_age: Option<u64>,
    pub(super) max_bytes: Option<u64>,
    pub(super) segment_bytes: u64,
}

/// The messages of a stream. They are only removed by its limits: a whole segment at a time, when the next one begins.
#[derive(Debug)]
pub(crate) struct StreamLog {
    retention: Retention,
    messages: VecDeque<Stored>,
    /// The offset of the first message.
    first: u64,
    /// Where the last chunk begins: what was published in one millisecond. RabbitMQ takes what comes while it writes.
    chunk: u64,
    chunk_ended: bool,
    /// The oldest one first; the last one is being written.
    segments: VecDeque<Segment>,
    bytes: u64,
}

/// A part of a stream that is removed at once.
#[derive(Debug)]
struct Segment {
    /// The offset behind its last message.
    end: u64,
    bytes: u64,
    newest: Time,
}

impl StreamLog {
    pub(super) fn new(retention: Retention) -> Self {
        let (messages, segments) = (VecDeque::new(), VecDeque::new());
        Self { retention, messages, first: 0, chunk: 0, chunk_ended: true, segments, bytes: 0 }
    }

    pub(super) fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Appends a message.
    pub(super) fn push(&mut self, now: Time, message: Arc<Message>) {
        let offset = self.next();
        if self.chunk_ended || self.messages.back().is_none_or(|last| last.arrived != now) {
            self.chunk = offset;
            self.chunk_ended = false;
        }
        // The body and the properties; RabbitMQ encodes them anew, and adds a header to each chunk.
        let bytes = (message.body.len() + message.properties().len()) as u64;
        if self.segments.back().is_none_or(|segment| segment.bytes >= self.retention.segment_bytes) {
            self.segments.push_back(Segment { end: offset, bytes: 0, newest: now });
            self.retain(now);
        }
        if let Some(segment) = self.segments.back_mut() {
            *segment = Segment { end: offset + 1, bytes: segment.bytes + bytes, newest: now };
        }
        self.bytes += bytes;
        self.messages.push_back(Stored {
            message,
            place: offset,
            expires_at: None,
            arrived: now,
            delivery_count: 0,
            losses: 0,
            acquired_count: 0,
            redelivered: false,
        });
    }

    /// Ends the chunk: the next message begins another one.
    pub(super) fn end_chunk(&mut self) {
        self.chunk_ended = true;
    }

    /// Removes the oldest segments that are too old or too much.
    fn retain(&mut self, now: Time) {
        let Retention { max_age, max_bytes, .. } = self.retention;
        while self.segments.len() > 1 {
            let Some(oldest) = self.segments.front() else { return };
            let too_old = max_age.is_some_and(|age| oldest.newest.after_millis(age) < now);
            if !too_old && max_bytes.is_none_or(|max| self.bytes <= max) {
                return;
            }
            let removed = (oldest.end - self.first) as usize;
            self.messages.drain(..removed);
            self.first = oldest.end;
            self.bytes -= oldest.bytes;
            self.segments.pop_front();
        }
    }

    /// Returns the offset that the next message will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.messages.len() as u64
    }

    /// Returns where a consumer starts, which may be an offset that no message has yet. [`Time::ZERO`] is `unix_start`
    /// seconds after 1970.
    pub(crate) fn start(&self, offset: OffsetSpec, now: Time, unix_start: u64) -> u64 {
        match offset {
            OffsetSpec::First => self.first,
            OffsetSpec::Last if self.messages.is_empty() => self.next(),
            OffsetSpec::Last => self.chunk,
            OffsetSpec::Next => self.next(),
            OffsetSpec::Number(offset) => offset.max(self.first),
            OffsetSpec::Timestamp(seconds) => {
                let millis = seconds.saturating_sub(unix_start).saturating_mul(1000);
                self.not_before(Time::from_millis(millis))
            }
            OffsetSpec::Age(age) => self.not_before(Time::from_millis(now.as_millis().saturating_sub(age))),
        }
    }

    fn not_before(&self, time: Time) -> u64 {
        self.first + self.messages.partition_point(|stored| stored.arrived < time) as u64
    }

    /// Returns the message at an offset, or the first one if that is gone. `None` behind the last one.
    pub(crate) fn read(&self, offset: u64) -> Option<&Stored> {
        let at = offset.saturating_sub(self.first);
        self.messages.get(usize::try_from(at).ok()?)
    }

    /// Returns the messages from an offset on.
    pub(super) fn read_on(&self, offset: u64) -> impl Iterator<Item = &Stored> {
        let at = usize::try_from(offset.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.messages.range(at.min(self.messages.len())..)
    }

    /// Returns the offset of the first message in the chunk of one: what arrived at the same time.
    pub(super) fn chunk_of(&self, stored: &Stored) -> u64 {
        self.not_before(stored.arrived)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stored> {
        self.messages.iter()
    }
}
