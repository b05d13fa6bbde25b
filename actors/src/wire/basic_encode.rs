//! Encoding of the frames that are sent once per message: `basic.publish`, settlements, content and
//! heartbeats.
//!
//! Every function appends to a buffer, and allocates only if the buffer has to grow. Client and server send
//! the same bytes.

use bytes::{BufMut, BytesMut};

use super::{
    basic_ids::{ACK, BASIC, CONTENT_HEADER_LEN, NACK, PUBLISH, REJECT},
    frame::{BODY, FRAME_END, FRAME_OVERHEAD, HEAD_LEN, HEADER, HEARTBEAT, METHOD},
    properties::Properties,
    property_codec::{only_delivery_mode, properties_len, put_properties},
};

/// Appends the frame of `basic.publish`. Names longer than 255 bytes are truncated; the caller must have
/// checked them.
#[inline]
pub fn put_publish(buf: &mut BytesMut, channel: u16, exchange: &str, routing_key: &str, mandatory: bool) {
    let (exchange, routing_key) = (clip(exchange), clip(routing_key));
    let payload = 9 + exchange.len() + routing_key.len();
    let [c1, c0] = channel.to_be_bytes();
    let [s3, s2, s1, s0] = (payload as u32).to_be_bytes();
    let (class, method) = (BASIC as u8, PUBLISH as u8);
    buf.put_slice(&[METHOD, c1, c0, s3, s2, s1, s0, 0, class, 0, method, 0, 0, exchange.len() as u8]);
    if !exchange.is_empty() {
        buf.put_slice(exchange);
    }
    buf.put_u8(routing_key.len() as u8);
    buf.put_slice(routing_key);
    buf.put_slice(&[u8::from(mandatory), FRAME_END]);
}

/// Appends the header frame of a content. The caller must have
/// [checked](super::property_codec::check_properties) the properties.
#[inline]
pub fn put_header(buf: &mut BytesMut, channel: u16, body_size: u64, properties: &Properties) {
    if let Some(([f1, f0], mode)) = only_delivery_mode(properties) {
        let ([c1, c0], class) = (channel.to_be_bytes(), BASIC as u8);
        let [b7, b6, b5, b4, b3, b2, b1, b0] = body_size.to_be_bytes();
        let [s3, s2, s1, s0] = (CONTENT_HEADER_LEN as u32 + 3).to_be_bytes();
        return buf.put_slice(&[
            HEADER, c1, c0, s3, s2, s1, s0, 0, class, 0, 0, b7, b6, b5, b4, b3, b2, b1, b0, f1, f0, mode,
            FRAME_END,
        ]);
    }
    let payload = CONTENT_HEADER_LEN + properties_len(properties);
    buf.reserve(payload + FRAME_OVERHEAD);
    put_head(buf, HEADER, channel, payload as u32);
    buf.put_slice(&[0, BASIC as u8, 0, 0]);
    buf.put_u64(body_size);
    put_properties(buf, properties);
    buf.put_u8(FRAME_END);
}

/// Appends a header frame with a payload that is already encoded.
pub fn put_encoded_header(buf: &mut BytesMut, channel: u16, payload: &[u8]) {
    buf.reserve(payload.len() + FRAME_OVERHEAD);
    put_head(buf, HEADER, channel, payload.len() as u32);
    buf.put_slice(payload);
    buf.put_u8(FRAME_END);
}

/// Returns the length of the frame that [`put_header`] appends.
#[inline]
pub fn header_len(properties: &Properties) -> usize {
    FRAME_OVERHEAD + CONTENT_HEADER_LEN + properties_len(properties)
}

/// Appends the head of a body frame with `len` octets of payload. The caller appends the payload and
/// [`FRAME_END`].
#[inline]
pub fn put_body_head(buf: &mut BytesMut, channel: u16, len: u32) {
    put_head(buf, BODY, channel, len);
}

/// Appends a body frame. The caller must have split a body that exceeds `frame_max`.
#[inline]
pub fn put_body(buf: &mut BytesMut, channel: u16, body: &[u8]) {
    buf.reserve(body.len() + FRAME_OVERHEAD);
    put_head(buf, BODY, channel, body.len() as u32);
    buf.put_slice(body);
    buf.put_u8(FRAME_END);
}

/// Appends the frame of `basic.ack`.
#[inline]
pub fn put_ack(buf: &mut BytesMut, channel: u16, tag: u64, multiple: bool) {
    put_settle(buf, channel, ACK, tag, u8::from(multiple));
}

/// Appends the frame of `basic.nack`.
#[inline]
pub fn put_nack(buf: &mut BytesMut, channel: u16, tag: u64, multiple: bool, requeue: bool) {
    put_settle(buf, channel, NACK, tag, u8::from(multiple) | u8::from(requeue) << 1);
}

/// Appends the frame of `basic.reject`.
#[inline]
pub fn put_reject(buf: &mut BytesMut, channel: u16, tag: u64, requeue: bool) {
    put_settle(buf, channel, REJECT, tag, u8::from(requeue));
}

/// Appends a heartbeat frame.
#[inline]
pub fn put_heartbeat(buf: &mut BytesMut) {
    buf.put_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

#[inline]
fn put_head(buf: &mut BytesMut, kind: u8, channel: u16, size: u32) {
    let [c1, c0] = channel.to_be_bytes();
    let [s3, s2, s1, s0] = size.to_be_bytes();
    let head: [u8; HEAD_LEN] = [kind, c1, c0, s3, s2, s1, s0];
    buf.put_slice(&head);
}

/// Appends `basic.ack`, `basic.nack` or `basic.reject`, which have the same layout.
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
        put_reject(&mut buf, 1, 7, true);
        assert_eq!(buf[..], *b"\x01\0\x01\0\0\0\x0d\0\x3c\0\x5a\0\0\0\0\0\0\0\x07\x01\xce");
        buf.clear();
        put_header(&mut buf, 1, 5, &Properties::new());
        assert_eq!(buf[..], *b"\x02\0\x01\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0\xce");
        assert_eq!(buf.len(), header_len(&Properties::new()));
        buf.clear();
        put_body_head(&mut buf, 1, 5);
        assert_eq!(buf[..], *b"\x03\0\x01\0\0\0\x05");
        buf.clear();
        put_body(&mut buf, 1, b"hi");
        assert_eq!(buf[..], *b"\x03\0\x01\0\0\0\x02hi\xce");
    }

    #[test]
    fn an_unchecked_name_does_not_break_the_frame() {
        let mut buf = BytesMut::new();
        put_publish(&mut buf, 1, &"x".repeat(300), "", false);
        assert_eq!(buf.len(), FRAME_OVERHEAD + 9 + 255);
    }
}
