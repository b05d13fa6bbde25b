//! The contents of a connection that are not complete: which frame each channel waits for.

use std::collections::BTreeMap;

use actix_pika_actors::wire::method::{AMQPClass, basic::AMQPMethod as Basic, read_method};
use bytes::{Bytes, BytesMut};

use super::{
    frames::{Frame, describe},
    layout::{Misfit, check},
};
use crate::core::{ChannelState, Close, print_binary};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

const BASIC: u16 = 60;
const PUBLISH: u16 = 40;
/// The octets of a content header in front of the flags.
const HEADER_FIXED: usize = 12;
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

fn cannot_decode(payload: &[u8]) -> Close {
    let (class_id, method_id) = ids(payload);
    let fields = payload.get(4..).unwrap_or_default();
    Close::new(501, format!("cannot decode {}", print_binary(fields))).at(class_id, method_id)
}

fn ids(payload: &[u8]) -> (u16, u16) {
    match payload.first_chunk::<4>() {
        Some(&[c1, c0, m1, m0]) => (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])),
        None => (0, 0),
    }
}

fn decode(payload: &[u8]) -> Result<Event, Close> {
    match check(payload) {
        Ok(()) if let [0, 60, 0, method @ (200 | 201), ..] = payload => {
            // basic.credit and its reply, which only RabbitMQ has.
            return Err(Close::new(503, "unimplemented method").at(BASIC, u16::from(*method)));
        }
        Ok(()) => {}
        Err(Misfit::Text) => return Err(Close::new(501, "Malformed UTF-8 in shortstr")),
        Err(Misfit::Length) => return Err(cannot_decode(payload)),
        // Its process ends.
        Err(Misfit::Table) => return Ok(Event::Reset),
    }
    // The decoder drops the size.
    if let Some(&[0, 60, 0, 10, s3, s2, s1, s0]) = payload.first_chunk()
        && let size @ 1.. = u32::from_be_bytes([s3, s2, s1, s0])
    {
        return Err(Close::new(540, format!("prefetch_size!=0 ({size})")).at(BASIC, 10));
    }
    match read_method(payload) {
        Ok(method) => Ok(Event::Method(method)),
        Err(fault) if fault.code == 503 => Ok(Event::Reset),
        Err(_) => Err(cannot_decode(payload)),
    }
}

/// A method of a channel that the broker has closed. Publishes are dropped with their contents.
fn closing_method(payload: &[u8]) -> Result<Event, Close> {
    if ids(payload) == (BASIC, PUBLISH) { Ok(Event::None) } else { decode(payload) }
}

fn read_publish(payload: &Bytes) -> Option<Published> {
    let rest = payload.get(6..)?;
    let (exchange, rest) = read_short(rest)?;
    let (routing_key, rest) = read_short(rest)?;
    let &[bits] = rest else { return None };
    Some(Published {
        exchange: payload.slice_ref(exchange),
        routing_key: payload.slice_ref(routing_key),
        mandatory: bits & 1 != 0,
        immediate: bits & 2 != 0,
        properties: Bytes::new(),
        body: Bytes::new(),
    })
}

/// Reads a short string. RabbitMQ does not look at those of a publish.
fn read_short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(len.into())?;
    Some((text, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, channel: u16, payload: &[u8]) -> Frame {
        Frame { kind, channel, payload: Bytes::copy_from_slice(payload) }
    }

    const MAX: u64 = 10;
    const PUBLISH_HELLO: &[u8] = b"\0\x3c\0\x28\0\0\x01x\x01k\x01";
    const QOS: &[u8] = b"\0\x3c\0\x0a\0\0\0\0\0\x05\0";

    fn header(size: u64) -> Vec<u8> {
        let mut header = b"\0\x3c\0\0".to_vec();
        header.extend(size.to_be_bytes());
        header.extend([0, 0]);
        header
    }

    fn contents() -> Contents {
        Contents::new(true)
    }

    fn refused(contents: &mut Contents, frame: Frame) -> (u16, u16, String) {
        let close = contents.take(frame, ChannelState::Open, MAX).unwrap_err();
        (close.class_id, close.method_id, close.to_string())
    }

    fn open(contents: &mut Contents, kind: u8, payload: &[u8]) -> Event {
        contents.take(frame(kind, 1, payload), ChannelState::Open, MAX).unwrap()
    }

    #[test]
    fn a_content_is_complete_with_its_last_octet() {
        let mut contents = contents();
        assert_eq!(open(&mut contents, METHOD, PUBLISH_HELLO), Event::None);
        assert_eq!(open(&mut contents, HEADER, &header(5)), Event::Content);
        for part in [&b"he"[..], b"", b"l"] {
            assert_eq!(open(&mut contents, BODY, part), Event::Content);
        }
        let Event::Published(publish) = open(&mut contents, BODY, b"lo") else { panic!() };
        assert_eq!((&publish.exchange[..], &publish.routing_key[..]), (&b"x"[..], &b"k"[..]));
        assert_eq!((&publish.body[..], publish.mandatory, publish.immediate), (&b"hello"[..], true, false));
        assert_eq!(open(&mut contents, METHOD, PUBLISH_HELLO), Event::None);
        let Event::Published(publish) = open(&mut contents, HEADER, &header(0)) else { panic!() };
        assert_eq!(&publish.properties[..], [0, 0]);
    }

    #[test]
    fn contents_of_channels_mix() {
        let mut contents = contents();
        for channel in [1, 2] {
            contents.take(frame(METHOD, channel, PUBLISH_HELLO), ChannelState::Open, MAX).unwrap();
            contents.take(frame(HEADER, channel, &header(2)), ChannelState::Open, MAX).unwrap();
        }
        for channel in [2, 1] {
            let event = contents.take(frame(BODY, channel, b"ab"), ChannelState::Open, MAX).unwrap();
            assert!(matches!(event, Event::Published(_)));
        }
    }

    /// PRO-08: broker.md 15, the texts of 505
    #[test]
    fn a_frame_out_of_turn_is_a_505_with_the_method_that_waits() {
        let waiting = "UNEXPECTED_FRAME - expected content header for class 60, got";
        let mut one = contents();
        open(&mut one, METHOD, PUBLISH_HELLO);
        let text = format!("{waiting} non content header frame instead");
        assert_eq!(refused(&mut one, frame(METHOD, 1, QOS)), (60, 40, text.clone()));
        assert_eq!(refused(&mut one, frame(BODY, 1, b"a")), (60, 40, text));
        let mut queue = header(1);
        queue[1] = 50;
        let text = format!("{waiting} one for class 50 instead");
        assert_eq!(refused(&mut one, frame(HEADER, 1, &queue)), (60, 40, text));
        open(&mut one, HEADER, &header(3));
        let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead".to_owned();
        assert_eq!(refused(&mut one, frame(HEADER, 1, &header(1))), (60, 40, text.clone()));
        assert_eq!(refused(&mut one, frame(METHOD, 1, QOS)), (60, 40, text));
        let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead".to_owned();
        assert_eq!(refused(&mut contents(), frame(BODY, 1, b"a")), (0, 0, text));
    }

    /// broker.md 15
    #[test]
    fn a_body_that_is_too_long_is_noticed_by_some_lines() {
        for (checks, noticed) in [(true, true), (false, false)] {
            let mut contents = Contents::new(checks);
            open(&mut contents, METHOD, PUBLISH_HELLO);
            open(&mut contents, HEADER, &header(1));
            let taken = contents.take(frame(BODY, 1, b"ab"), ChannelState::Open, MAX);
            assert_eq!(taken.is_err(), noticed);
        }
    }

    #[test]
    fn a_body_that_is_too_large_is_not_kept() {
        let mut contents = contents();
        open(&mut contents, METHOD, PUBLISH_HELLO);
        open(&mut contents, HEADER, &header(30));
        for _ in 0..2 {
            open(&mut contents, BODY, &[7; 10]);
        }
        let Event::TooLarge { publish, size, max } = open(&mut contents, BODY, &[7; 10]) else { panic!() };
        assert_eq!((publish.body.len(), size, max), (0, 30, MAX));
    }

    /// Whether a body is kept is decided once: the limit may change while it comes.
    #[test]
    fn the_limit_of_a_body_is_that_of_its_header() {
        for (at_header, at_body) in [(10, 40), (40, 10)] {
            let mut contents = contents();
            let mut take = |kind, payload: &[u8], max| {
                contents.take(frame(kind, 1, payload), ChannelState::Open, max).unwrap()
            };
            take(METHOD, PUBLISH_HELLO, at_header);
            take(HEADER, &header(30), at_header);
            take(BODY, &[7; 20], at_body);
            match take(BODY, &[7; 10], at_body) {
                Event::Published(publish) => assert_eq!((at_header, &publish.body[..]), (40, &[7; 30][..])),
                event => {
                    let Event::TooLarge { size: 30, max: 10, .. } = event else { panic!("{event:?}") };
                    assert_eq!(at_header, 10);
                }
            }
        }
    }

    /// broker.md 15
    #[test]
    fn what_no_frame_should_be() {
        let unknown = "FRAME_ERROR - type 4, all octets = <<>>: unknown_frame".to_owned();
        assert_eq!(refused(&mut contents(), frame(4, 1, b"")), (0, 0, unknown));
        let heartbeat = "UNEXPECTED_FRAME - type 8, all octets = <<>>".to_owned();
        assert_eq!(refused(&mut contents(), frame(HEARTBEAT, 1, b"")), (0, 0, heartbeat));
        assert_eq!(open(&mut contents(), METHOD, b"\0\x3c\0\xd2"), Event::Reset);
        let cut = "FRAME_ERROR - cannot decode <<0,0,5,97>>".to_owned();
        assert_eq!(refused(&mut contents(), frame(METHOD, 1, b"\0\x32\0\x0a\0\0\x05a")), (50, 10, cut));
    }

    /// broker.md 1: a method on a channel that the server has closed is dropped, publishes with their content
    #[test]
    fn a_channel_that_the_broker_closed_hears_no_publish() {
        let mut contents = contents();
        let mut closing =
            |kind, payload: &[u8]| contents.take(frame(kind, 1, payload), ChannelState::Closing, MAX);
        assert_eq!(closing(METHOD, PUBLISH_HELLO), Ok(Event::None));
        assert_eq!(closing(HEADER, &header(1)), Ok(Event::None));
        assert_eq!(closing(BODY, b"a"), Ok(Event::None));
        assert!(matches!(closing(METHOD, QOS), Ok(Event::Method(_))));
    }
}
