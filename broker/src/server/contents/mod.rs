//! The contents of a connection that are not complete: which frame each channel waits for.

mod layout;
mod method;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use actix_pika_actors::wire::method::{AMQPClass, basic::AMQPMethod as Basic};
use bytes::{Bytes, BytesMut};

use self::method::{PUBLISH, cannot_decode, closing_method, decode, read_publish};
use super::frames::{BASIC, BODY, Frame, HEADER, HEADER_FIXED, HEARTBEAT, METHOD, describe, ids};
use crate::core::{ChannelState, Close};

/// What all begun bodies of a connection may have together, above one of the largest. RabbitMQ has no such limit.
const BEGUN_MAX: u64 = 256 << 20;
/// What is smaller is copied out of the block that was read.
const COPIED: usize = 16 * 1024;
/// How many times the first part of a body is reserved for before the rest is there.
const RESERVED: usize = 4;

/// A publish with its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) exchange: Bytes,
    pub(super) routing_key: Bytes,
    pub(super) mandatory: bool,
    pub(super) immediate: bool,
    pub(super) properties: Bytes,
    pub(super) body: Bytes,
}

/// What a frame brings.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    /// Nothing yet, or nothing any more.
    None,
    Heartbeat,
    /// A method without a content.
    Method(AMQPClass),
    /// A method of channel 0, not decoded.
    Control {
        class_id: u16,
        method_id: u16,
        payload: Bytes,
    },
    Published(Published),
    /// A publish whose body is larger than a message could be when it began, and was not kept.
    TooLarge {
        publish: Published,
        size: u64,
        max: u64,
    },
    /// A header or body of a content: the moment at which a blocked connection is told.
    Content,
    /// RabbitMQ's reader ends without a word.
    Reset,
}

/// A content that is not complete.
#[derive(Debug)]
struct Partial {
    publish: Published,
    /// A method of the server's, which has a content too.
    other: Option<AMQPClass>,
    state: State,
}

#[derive(Debug)]
enum State {
    Header,
    /// The size that was announced, what has come of it, and what is kept of that.
    Body {
        size: u64,
        received: u64,
        chunks: BytesMut,
        /// The largest body of its time, if this one is larger: then only the size counts.
        exceeds: Option<u64>,
    },
}

/// What each channel waits for.
#[derive(Debug)]
pub(super) struct Contents {
    partial: BTreeMap<u16, Partial>,
    /// A body that is longer than announced is an error at once.
    checks_length: bool,
    /// The octets of the bodies that are begun.
    begun: u64,
}

impl Contents {
    pub(super) fn new(checks_length: bool) -> Self {
        Self { partial: BTreeMap::new(), checks_length, begun: 0 }
    }

    /// Returns how many channels have begun a content.
    pub(super) fn len(&self) -> usize {
        self.partial.len()
    }

    /// Takes a frame of an open connection. `state` is that of its channel, `max` the largest body that is kept now.
    ///
    /// # Errors
    /// 501 and 505 as RabbitMQ's reader has them.
    pub(super) fn take(&mut self, frame: Frame, state: ChannelState, max: u64) -> Result<Event, Close> {
        let Frame { kind, channel, payload } = frame;
        let is_known = match kind {
            METHOD => payload.len() >= 4,
            HEADER => payload.len() >= HEADER_FIXED,
            BODY => true,
            HEARTBEAT => payload.is_empty(),
            _ => false,
        };
        if !is_known {
            return Err(Close::new(501, format!("{}: unknown_frame", describe(kind, &payload))));
        }
        match (kind, channel) {
            (HEARTBEAT, 0) => Ok(Event::Heartbeat),
            (METHOD, 0) => {
                let (class_id, method_id) = ids(&payload);
                Ok(Event::Control { class_id, method_id, payload })
            }
            (HEARTBEAT, _) | (_, 0) => Err(Close::new(505, describe(kind, &payload))),
            _ if state == ChannelState::Closing => {
                self.forget(channel);
                if kind == METHOD { closing_method(&payload) } else { Ok(Event::None) }
            }
            (METHOD, _) => self.method(channel, payload),
            (HEADER, _) => self.header(channel, &payload, max),
            _ => self.body(channel, &payload, max),
        }
    }

    /// Forgets what a channel has begun: it is closed.
    pub(super) fn forget(&mut self, channel: u16) {
        self.remove(channel);
    }

    fn remove(&mut self, channel: u16) -> Option<Partial> {
        let partial = self.partial.remove(&channel)?;
        if let State::Body { chunks, .. } = &partial.state {
            self.begun -= chunks.len() as u64;
        }
        Some(partial)
    }

    /// Forgets all: nothing more is read.
    pub(super) fn clear(&mut self) {
        self.partial.clear();
        self.begun = 0;
    }

    fn method(&mut self, channel: u16, payload: Bytes) -> Result<Event, Close> {
        if let Some(partial) = self.partial.get(&channel) {
            let expected = match partial.state {
                State::Header => "expected content header for class 60, got non content header frame instead",
                State::Body { .. } => "expected content body, got non content body frame instead",
            };
            return Err(Close::new(505, expected).at(BASIC, PUBLISH));
        }
        if ids(&payload) == (BASIC, PUBLISH) {
            let publish = read_publish(&payload).ok_or_else(|| cannot_decode(&payload))?;
            self.partial.insert(channel, Partial { publish, other: None, state: State::Header });
            return Ok(Event::None);
        }
        match decode(&payload)? {
            Event::Method(
                method @ AMQPClass::Basic(Basic::Return(_) | Basic::Deliver(_) | Basic::GetOk(_)),
            ) => {
                let partial =
                    Partial { publish: Published::default(), other: Some(method), state: State::Header };
                self.partial.insert(channel, partial);
                Ok(Event::None)
            }
            event => Ok(event),
        }
    }

    fn header(&mut self, channel: u16, payload: &Bytes, max: u64) -> Result<Event, Close> {
        let Some(partial) = self.partial.get_mut(&channel) else { return Err(no_method()) };
        let expected = "expected content header for class 60, got";
        if matches!(partial.state, State::Body { .. }) {
            let text = "expected content body, got non content body frame instead";
            return Err(Close::new(505, text).at(BASIC, PUBLISH));
        }
        let Some((&[c1, c0, w1, w0, size @ ..], _)) = payload.split_first_chunk::<HEADER_FIXED>() else {
            return Err(Close::new(501, format!("{}: unknown_frame", describe(HEADER, payload))));
        };
        let class_id = u16::from_be_bytes([c1, c0]);
        if [w1, w0] != [0, 0] {
            let text = format!("{expected} non content header frame instead");
            return Err(Close::new(505, text).at(BASIC, PUBLISH));
        }
        if class_id != BASIC {
            let text = format!("{expected} one for class {class_id} instead");
            return Err(Close::new(505, text).at(BASIC, PUBLISH));
        }
        partial.publish.properties = kept(payload.slice(HEADER_FIXED..));
        match u64::from_be_bytes(size) {
            0 => Ok(self.finish(channel)),
            size => {
                let exceeds = (size > max).then_some(max);
                partial.state = State::Body { size, received: 0, chunks: BytesMut::new(), exceeds };
                Ok(Event::Content)
            }
        }
    }

    fn body(&mut self, channel: u16, payload: &Bytes, max: u64) -> Result<Event, Close> {
        let Some(partial) = self.partial.get_mut(&channel) else { return Err(no_method()) };
        let State::Body { size, received, chunks, exceeds } = &mut partial.state else {
            let text = "expected content header for class 60, got non content header frame instead";
            return Err(Close::new(505, text).at(BASIC, PUBLISH));
        };
        *received = received.saturating_add(payload.len() as u64);
        if *received > *size {
            // Older lines do not notice, and wait for ever.
            self.begun -= chunks.len() as u64;
            chunks.clear();
            return match self.checks_length {
                true => {
                    Err(Close::new(501, "content body frame exceeds remaining content size")
                        .at(BASIC, PUBLISH))
                }
                false => Ok(Event::Content),
            };
        }
        let is_complete = *received == *size;
        if is_complete && payload.len() as u64 == *size && exceeds.is_none() {
            partial.publish.body = kept(payload.clone());
            return Ok(self.finish(channel));
        }
        if exceeds.is_none() {
            if chunks.is_empty() {
                chunks.reserve(usize::try_from(*size).map_or(0, |size| size.min(RESERVED * payload.len())));
            }
            chunks.extend_from_slice(payload);
            self.begun += payload.len() as u64;
            if self.begun > max.max(*size).saturating_add(BEGUN_MAX) {
                return Err(
                    Close::new(506, "too many octets of contents that are not complete").at(BASIC, PUBLISH)
                );
            }
        }
        Ok(if is_complete { self.finish(channel) } else { Event::Content })
    }

    fn finish(&mut self, channel: u16) -> Event {
        let Some(Partial { mut publish, other, state }) = self.remove(channel) else { return Event::None };
        if let Some(method) = other {
            return Event::Method(method);
        }
        match state {
            State::Body { size, exceeds: Some(max), .. } => return Event::TooLarge { publish, size, max },
            State::Body { chunks, .. } if publish.body.is_empty() => publish.body = chunks.freeze(),
            State::Body { .. } | State::Header => {}
        }
        Event::Published(publish)
    }
}

/// Copies what is small: it would keep the whole block that was read from being freed.
fn kept(part: Bytes) -> Bytes {
    if part.len() < COPIED { Bytes::copy_from_slice(&part) } else { part }
}

fn no_method() -> Close {
    Close::new(505, "expected method frame, got non method frame instead")
}
