//! What passes once per message: publish, settle, deliver and their frames, written and read by hand.
//!
//! Writers append whole frames to a buffer and allocate nothing but its growth. Reading makes no string either:
//! a [`Span`] says where one lies in the payload, which stays with whoever holds the frame.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    cursor::Cursor,
    fault::Fault,
    frame::{FRAME_END, FRAME_OVERHEAD, HEAD_LEN},
    properties::Properties,
};

/// Names the class id of `basic`, the only class that carries content.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::basic_frames::BASIC;
/// assert_eq!(BASIC, 60);
/// ```
pub const BASIC: u16 = 60;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

const PUBLISH: u16 = 40;
const RETURN: u16 = 50;
const DELIVER: u16 = 60;
const GET_OK: u16 = 71;
const GET_EMPTY: u16 = 72;
const ACK: u16 = 80;
const REJECT: u16 = 90;
const NACK: u16 = 120;

/// Octets of a content header in front of its properties: class, weight, body size.
const HEADER_FIXED: usize = 12;

/// Appends the frame of `basic.publish`. The names must have been checked: more than 255 bytes are cut off.
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::put_publish;
/// let mut buf = BytesMut::new();
/// put_publish(&mut buf, 1, "ex", "key", true);
/// assert_eq!(buf.len(), 7 + 14 + 1);
/// ```
#[inline]
pub fn put_publish(buf: &mut BytesMut, channel: u16, exchange: &str, routing_key: &str, mandatory: bool) {
    let (exchange, routing_key) = (clip(exchange), clip(routing_key));
    let payload = 9 + exchange.len() + routing_key.len();
    buf.reserve(payload + FRAME_OVERHEAD);
    let [c1, c0] = channel.to_be_bytes();
    let [s3, s2, s1, s0] = (payload as u32).to_be_bytes();
    let (class, method) = (BASIC as u8, PUBLISH as u8);
    buf.put_slice(&[METHOD, c1, c0, s3, s2, s1, s0, 0, class, 0, method, 0, 0, exchange.len() as u8]);
    buf.put_slice(exchange);
    buf.put_u8(routing_key.len() as u8);
    buf.put_slice(routing_key);
    buf.put_slice(&[u8::from(mandatory), FRAME_END]);
}

/// Appends the header frame of a content. The properties must have been [checked](Properties::check).
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::{Properties, wire::{header_len, put_header}};
/// let (mut buf, properties) = (BytesMut::new(), Properties::new().with_priority(5));
/// put_header(&mut buf, 1, 5, &properties);
/// assert_eq!(buf.len(), header_len(&properties));
/// ```
#[inline]
pub fn put_header(buf: &mut BytesMut, channel: u16, body_size: u64, properties: &Properties) {
    let payload = HEADER_FIXED + properties.encoded_len();
    buf.reserve(payload + FRAME_OVERHEAD);
    put_head(buf, HEADER, channel, payload as u32);
    buf.put_slice(&[0, BASIC as u8, 0, 0]);
    buf.put_u64(body_size);
    properties.encode(buf);
    buf.put_u8(FRAME_END);
}

/// Appends a header frame whose payload was written before.
pub fn put_header_again(buf: &mut BytesMut, channel: u16, payload: &[u8]) {
    buf.reserve(payload.len() + FRAME_OVERHEAD);
    put_head(buf, HEADER, channel, payload.len() as u32);
    buf.put_slice(payload);
    buf.put_u8(FRAME_END);
}

/// Tells the length of the frame that [`put_header`] appends.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Properties, wire::header_len};
/// assert_eq!(header_len(&Properties::new()), 22);
/// ```
#[inline]
pub fn header_len(properties: &Properties) -> usize {
    FRAME_OVERHEAD + HEADER_FIXED + properties.encoded_len()
}

/// Appends the seven octets in front of `len` octets of body; the caller adds those and [`FRAME_END`].
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::put_body_head;
/// let mut buf = BytesMut::new();
/// put_body_head(&mut buf, 1, 5);
/// assert_eq!(&buf[..], b"\x03\0\x01\0\0\0\x05");
/// ```
#[inline]
pub fn put_body_head(buf: &mut BytesMut, channel: u16, len: u32) {
    put_head(buf, BODY, channel, len);
}

/// Appends one body frame. What is larger than `frame_max` must have been divided.
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::put_body;
/// let mut buf = BytesMut::new();
/// put_body(&mut buf, 1, b"x");
/// assert_eq!(&buf[..], b"\x03\0\x01\0\0\0\x01x\xce");
/// ```
#[inline]
pub fn put_body(buf: &mut BytesMut, channel: u16, body: &[u8]) {
    buf.reserve(body.len() + FRAME_OVERHEAD);
    put_head(buf, BODY, channel, body.len() as u32);
    buf.put_slice(body);
    buf.put_u8(FRAME_END);
}

/// Appends the frame of `basic.ack`.
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::{Inbound, parse_method, put_ack};
/// let mut buf = BytesMut::new();
/// put_ack(&mut buf, 1, 7, true);
/// assert_eq!(parse_method(&buf[7..20])?, Inbound::Ack { tag: 7, multiple: true });
/// # Ok::<(), actix_pika_actors::wire::Fault>(())
/// ```
#[inline]
pub fn put_ack(buf: &mut BytesMut, channel: u16, tag: u64, multiple: bool) {
    put_settle(buf, channel, ACK, tag, u8::from(multiple));
}

/// Appends the frame of `basic.nack`.
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::{Inbound, parse_method, put_nack};
/// let mut buf = BytesMut::new();
/// put_nack(&mut buf, 1, 7, false, true);
/// assert_eq!(parse_method(&buf[7..20])?, Inbound::Nack { tag: 7, multiple: false, requeue: true });
/// # Ok::<(), actix_pika_actors::wire::Fault>(())
/// ```
#[inline]
pub fn put_nack(buf: &mut BytesMut, channel: u16, tag: u64, multiple: bool, requeue: bool) {
    put_settle(buf, channel, NACK, tag, u8::from(multiple) | u8::from(requeue) << 1);
}

/// Appends the frame of `basic.reject`.
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::put_reject;
/// let mut buf = BytesMut::new();
/// put_reject(&mut buf, 1, 7, false);
/// assert_eq!(buf.len(), 21);
/// ```
#[inline]
pub fn put_reject(buf: &mut BytesMut, channel: u16, tag: u64, requeue: bool) {
    put_settle(buf, channel, REJECT, tag, u8::from(requeue));
}

/// Appends a heartbeat.
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::put_heartbeat;
/// let mut buf = BytesMut::new();
/// put_heartbeat(&mut buf);
/// assert_eq!(&buf[..], b"\x08\0\0\0\0\0\0\xce");
/// ```
#[inline]
pub fn put_heartbeat(buf: &mut BytesMut) {
    buf.put_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Marks a place in a method payload.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::Span;
/// assert_eq!(Span { start: 1, len: 3 }.of(b"\x03key"), b"key");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub start: u16,
    /// How many bytes it has.
    pub len: u8,
}

impl Span {
    /// Shows the bytes there, none if the payload is shorter than the one the span was made for.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Span;
    /// assert_eq!(Span { start: 1, len: 3 }.of(b"\x03"), b"");
    /// ```
    #[inline]
    pub fn of(self, payload: &[u8]) -> &[u8] {
        let start = usize::from(self.start);
        payload.get(start..start + usize::from(self.len)).unwrap_or_default()
    }
}

/// Names what the hot path reads by hand; everything else is `Other`.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::{Inbound, parse_method};
/// assert_eq!(parse_method(b"\0\x3c\0\x48\0")?, Inbound::GetEmpty);
/// # Ok::<(), actix_pika_actors::wire::Fault>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// `basic.deliver`; content follows.
    Deliver(Deliver),
    /// `basic.get-ok`; content follows.
    GetOk(GetOk),
    /// `basic.get-empty`
    GetEmpty,
    /// `basic.return`; content follows.
    Return(ReturnHead),
    /// `basic.ack`: the broker took responsibility.
    Ack {
        /// The publish it is about.
        tag: u64,
        /// Whether it is about all up to `tag`.
        multiple: bool,
    },
    /// `basic.nack`: the broker could not take responsibility.
    Nack {
        /// The publish it is about.
        tag: u64,
        /// Whether it is about all up to `tag`.
        multiple: bool,
        /// Of no meaning from a broker.
        requeue: bool,
    },
    /// A method for [`read_method`](super::method::read_method).
    Other {
        /// Its class.
        class_id: u16,
        /// Its number within the class.
        method_id: u16,
    },
}

/// Holds a `basic.deliver`, as places in the method payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// What to settle it by.
    pub delivery_tag: u64,
    /// Whether it was handed out before.
    pub redelivered: bool,
    /// The consumer it is for.
    pub consumer_tag: Span,
    /// Where it was published.
    pub exchange: Span,
    /// The key it was published with.
    pub routing_key: Span,
}

/// Holds a `basic.get-ok`, as places in the method payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetOk {
    /// What to settle it by.
    pub delivery_tag: u64,
    /// Whether it was handed out before.
    pub redelivered: bool,
    /// Where it was published.
    pub exchange: Span,
    /// The key it was published with.
    pub routing_key: Span,
    /// How many are left in the queue.
    pub message_count: u32,
}

/// Holds a `basic.return`, as places in the method payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnHead {
    /// Why it came back, 312 if there is no route.
    pub code: u16,
    /// The same for people.
    pub text: Span,
    /// Where it was published.
    pub exchange: Span,
    /// The key it was published with.
    pub routing_key: Span,
}

/// Reads a method payload, as far as the hot path needs it.
///
/// Octets behind the last argument are not looked at. Names need not be UTF-8: RabbitMQ relays what was published.
///
/// # Errors
/// [`Fault`] with 502 for a payload that ends too early.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::{Inbound, parse_method};
/// assert_eq!(parse_method(b"\0\x32\0\x0b")?, Inbound::Other { class_id: 50, method_id: 11 });
/// assert_eq!(parse_method(b"\0").unwrap_err().code, 502);
/// # Ok::<(), actix_pika_actors::wire::Fault>(())
/// ```
#[inline]
pub fn parse_method(payload: &[u8]) -> Result<Inbound, Fault> {
    let mut cursor = Cursor::new(payload);
    let ids = cursor.short().zip(cursor.short());
    let (class_id, method_id) = ids.ok_or_else(|| Fault::syntax("method frame without class and method"))?;
    if class_id != BASIC {
        return Ok(Inbound::Other { class_id, method_id });
    }
    let inbound = match method_id {
        DELIVER => deliver(cursor).map(Inbound::Deliver),
        ACK => settle(cursor).map(|(tag, bits)| Inbound::Ack { tag, multiple: bits & 1 != 0 }),
        NACK => settle(cursor).map(|(tag, bits)| Inbound::Nack {
            tag,
            multiple: bits & 1 != 0,
            requeue: bits & 2 != 0,
        }),
        GET_OK => get_ok(cursor).map(Inbound::GetOk),
        GET_EMPTY => Some(Inbound::GetEmpty),
        RETURN => return_head(cursor).map(Inbound::Return),
        _ => Some(Inbound::Other { class_id, method_id }),
    };
    inbound.ok_or_else(|| Fault::syntax("arguments cut short").with_method(class_id, method_id))
}

/// Holds a content header: size and the raw property bytes (flags and list), not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentHeader {
    /// How many octets of body follow.
    pub body_size: u64,
    /// For [`Properties::decode`].
    pub properties: Bytes,
}

/// Reads the payload of a header frame.
///
/// # Errors
/// [`Fault`] with 502 for a payload that ends too early, 501 for another class.
///
/// # Examples
/// ```
/// # use bytes::Bytes;
/// # use actix_pika_actors::wire::basic_frames::parse_header;
/// let payload = Bytes::from_static(b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0");
/// assert_eq!(parse_header(&payload)?.body_size, 5);
/// # Ok::<(), actix_pika_actors::wire::Fault>(())
/// ```
#[inline]
pub fn parse_header(payload: &Bytes) -> Result<ContentHeader, Fault> {
    let Some(([c1, c0, _, _, size @ ..], properties)) = payload.split_first_chunk::<HEADER_FIXED>() else {
        return Err(Fault::syntax("content header cut short"));
    };
    let class_id = u16::from_be_bytes([*c1, *c0]);
    if class_id != BASIC {
        return Err(Fault::frame(format!("content header of class {class_id}")));
    }
    let properties = payload.slice_ref(properties);
    Ok(ContentHeader { body_size: u64::from_be_bytes(*size), properties })
}

#[inline]
fn put_head(buf: &mut BytesMut, kind: u8, channel: u16, size: u32) {
    let [c1, c0] = channel.to_be_bytes();
    let [s3, s2, s1, s0] = size.to_be_bytes();
    let head: [u8; HEAD_LEN] = [kind, c1, c0, s3, s2, s1, s0];
    buf.put_slice(&head);
}

/// Ack, nack and reject have one form.
#[inline]
fn put_settle(buf: &mut BytesMut, channel: u16, method: u16, tag: u64, bits: u8) {
    let [c1, c0] = channel.to_be_bytes();
    let [t7, t6, t5, t4, t3, t2, t1, t0] = tag.to_be_bytes();
    let (class, method) = (BASIC as u8, method as u8);
    buf.put_slice(&[
        METHOD, c1, c0, 0, 0, 0, 13, 0, class, 0, method, t7, t6, t5, t4, t3, t2, t1, t0, bits, FRAME_END,
    ]);
}

#[inline]
fn clip(name: &str) -> &[u8] {
    let name = name.as_bytes();
    name.get(..255).unwrap_or(name)
}

#[inline]
fn deliver(mut cursor: Cursor<'_>) -> Option<Deliver> {
    let consumer_tag = cursor.span()?;
    Some(Deliver {
        delivery_tag: cursor.longlong()?,
        redelivered: cursor.octet()? & 1 != 0,
        consumer_tag,
        exchange: cursor.span()?,
        routing_key: cursor.span()?,
    })
}

fn get_ok(mut cursor: Cursor<'_>) -> Option<GetOk> {
    Some(GetOk {
        delivery_tag: cursor.longlong()?,
        redelivered: cursor.octet()? & 1 != 0,
        exchange: cursor.span()?,
        routing_key: cursor.span()?,
        message_count: cursor.long()?,
    })
}

fn return_head(mut cursor: Cursor<'_>) -> Option<ReturnHead> {
    Some(ReturnHead {
        code: cursor.short()?,
        text: cursor.span()?,
        exchange: cursor.span()?,
        routing_key: cursor.span()?,
    })
}

#[inline]
fn settle(mut cursor: Cursor<'_>) -> Option<(u64, u8)> {
    cursor.longlong().zip(cursor.octet())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_octets() {
        let mut buf = BytesMut::new();
        put_ack(&mut buf, 0x0102, 0x0304, true);
        assert_eq!(buf[..], *b"\x01\x01\x02\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\x03\x04\x01\xce");
        buf.clear();
        put_nack(&mut buf, 1, 1, false, true);
        assert_eq!(buf[7..], *b"\0\x3c\0\x78\0\0\0\0\0\0\0\x01\x02\xce");
        buf.clear();
        put_publish(&mut buf, 1, "ex", "key", true);
        assert_eq!(buf[..], *b"\x01\0\x01\0\0\0\x0e\0\x3c\0\x28\0\0\x02ex\x03key\x01\xce");
        buf.clear();
        put_heartbeat(&mut buf);
        assert_eq!(buf[..], *b"\x08\0\0\0\0\0\0\xce");
        buf.clear();
        put_body(&mut buf, 1, b"hi");
        assert_eq!(buf[..], *b"\x03\0\x01\0\0\0\x02hi\xce");
    }

    #[test]
    fn a_name_that_was_not_checked_does_not_break_the_frame() {
        let mut buf = BytesMut::new();
        put_publish(&mut buf, 1, &"x".repeat(300), "", false);
        assert_eq!(buf.len(), FRAME_OVERHEAD + 9 + 255);
    }

    #[test]
    fn a_deliver_is_read_in_place() {
        let payload = b"\0\x3c\0\x3c\x03tag\0\0\0\0\0\0\0\x07\x01\x00\x02\xff\xfe";
        let Inbound::Deliver(deliver) = parse_method(payload).unwrap() else { panic!() };
        assert_eq!((deliver.delivery_tag, deliver.redelivered), (7, true));
        assert_eq!(deliver.consumer_tag.of(payload), b"tag");
        assert_eq!(deliver.exchange.of(payload), b"");
        assert_eq!(deliver.routing_key.of(payload), b"\xff\xfe");
        for end in 4..payload.len() {
            let fault = parse_method(&payload[..end]).unwrap_err();
            assert_eq!((fault.code, fault.class_id, fault.method_id), (502, 60, 60));
        }
    }

    #[test]
    fn a_span_of_another_payload_is_harmless() {
        assert_eq!(Span { start: u16::MAX, len: 255 }.of(b"short"), b"");
    }

    #[test]
    fn a_header_of_another_class_is_a_frame_error() {
        let payload = Bytes::from_static(b"\0\x32\0\0\0\0\0\0\0\0\0\x05\0\0");
        assert_eq!(parse_header(&payload).unwrap_err().code, 501);
        let payload = Bytes::from_static(b"\0\x3c\xff\xff\0\0\0\0\0\0\0\x05\x80\0");
        let header = parse_header(&payload).unwrap();
        assert_eq!((header.body_size, &header.properties[..]), (5, &b"\x80\0"[..]));
    }
}
