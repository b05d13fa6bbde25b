//! Decoding of the most common delivery in one step: `basic.deliver`, its header and at most one body frame,
//! adjacent in one batch.
//!
//! Every other delivery, valid or not, is left to the [assembler](super::content), which reports what is
//! wrong.

use super::{
    basic_decode::{Deliver, Inbound, parse_method},
    basic_ids::{BASIC, CONTENT_HEADER_LEN},
    frame::{FRAME_OVERHEAD, FrameKind, FrameView, FrameViews, HEAD_LEN},
    span::LongSpan,
};

/// A delivery in adjacent frames. All spans are relative to the start of the method payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleFrameDelivery {
    /// The method.
    pub deliver: Deliver,
    /// The encoded properties.
    pub properties: LongSpan,
    /// The body.
    pub body: LongSpan,
    /// The number of bytes of all its frames.
    pub len: usize,
}

/// Decodes the delivery at the front of checked frames, or returns `None` if it does not have this form or
/// its body exceeds `body_limit`.
#[inline]
pub fn single_frame_delivery(bytes: &[u8], body_limit: u64) -> Option<SingleFrameDelivery> {
    let mut frames = FrameViews::new(bytes);
    let method = frames.next().filter(|frame| frame.kind == FrameKind::Method)?;
    let Ok(Inbound::Deliver(deliver)) = parse_method(method.payload) else { return None };
    let header = frames.next().filter(|frame| frame.kind == FrameKind::Header)?;
    let (fixed, properties) = header.payload.split_first_chunk::<CONTENT_HEADER_LEN>()?;
    let [c1, c0, _, _, size @ ..] = *fixed;
    let size = u64::from_be_bytes(size);
    if u16::from_be_bytes([c1, c0]) != BASIC || size > body_limit {
        return None;
    }
    let header_at = method.payload.len() + FRAME_OVERHEAD;
    let properties = LongSpan {
        start: u32::try_from(header_at + CONTENT_HEADER_LEN).ok()?,
        len: u32::try_from(properties.len()).ok()?,
    };
    let mut len = HEAD_LEN + header_at + header.payload.len() + 1;
    let mut body = LongSpan { start: u32::try_from(len).ok()?, len: 0 };
    if size > 0 {
        let FrameView { kind: FrameKind::Body, payload, .. } = frames.next()? else { return None };
        if payload.len() as u64 != size {
            return None;
        }
        body.len = u32::try_from(payload.len()).ok()?;
        len += payload.len() + FRAME_OVERHEAD;
    }
    Some(SingleFrameDelivery { deliver, properties, body, len })
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};

    use super::*;
    use crate::wire::{
        basic_encode::{put_body, put_header},
        content::{Assembler, ContentMethod},
        frame::FrameBatch,
        frame_decoder::FrameDecoder,
        properties::Properties,
    };

    fn deliver_frame(buf: &mut BytesMut, tag: u64) {
        let mut payload = vec![0, 60, 0, 60, 4];
        payload.extend_from_slice(b"ctag");
        payload.extend_from_slice(&tag.to_be_bytes());
        payload.extend_from_slice(&[1, 2, b'e', b'x', 3, b'k', b'e', b'y']);
        buf.put_slice(&[1, 0, 1]);
        buf.put_u32(payload.len() as u32);
        buf.put_slice(&payload);
        buf.put_u8(0xCE);
    }

    fn batch(bodies: &[&[u8]]) -> FrameBatch {
        let mut buf = BytesMut::new();
        for (tag, body) in (1..).zip(bodies) {
            deliver_frame(&mut buf, tag);
            put_header(&mut buf, 1, body.len() as u64, &Properties::new().with_content_type("text/plain"));
            if !body.is_empty() {
                put_body(&mut buf, 1, body);
            }
        }
        FrameDecoder::new(131_072).next_batch(&mut buf).unwrap().unwrap()
    }

    #[test]
    fn the_result_is_that_of_the_assembler() {
        let batch = batch(&[b"first", b"", b"third"]);
        let mut at = 0;
        for (tag, body) in [(1, &b"first"[..]), (2, b""), (3, b"third")] {
            let rest = batch.bytes.slice(at..);
            let delivery = single_frame_delivery(&rest, 100).unwrap();
            let payload = rest.slice(HEAD_LEN..);
            assert_eq!((delivery.deliver.delivery_tag, delivery.deliver.redelivered), (tag, true));
            assert_eq!(delivery.deliver.consumer_tag.of(&payload), b"ctag");
            assert_eq!(delivery.deliver.exchange.of(&payload), b"ex");
            assert_eq!(delivery.deliver.routing_key.of(&payload), b"key");
            assert_eq!(delivery.body.of(&payload), body);

            let mut assembler = Assembler::new(100);
            let mut frames = FrameBatch { channel: 1, bytes: rest.clone(), frames: 3 }.into_iter();
            assembler
                .begin(ContentMethod::Deliver(delivery.deliver), frames.next().unwrap().payload)
                .unwrap();
            let header = frames.next().unwrap().payload;
            let content = match assembler.header(&header).unwrap() {
                Some(content) => content,
                None => assembler.body(frames.next().unwrap().payload).unwrap().unwrap(),
            };
            assert_eq!(content.body.unwrap(), Bytes::copy_from_slice(body));
            assert_eq!(delivery.properties.of(&payload), &content.header.properties[..]);
            at += delivery.len;
        }
        assert_eq!(at, batch.bytes.len());
    }

    #[test]
    fn other_deliveries_are_not_decoded() {
        let batch = batch(&[b"body"]);
        for end in 0..batch.bytes.len() {
            assert_eq!(single_frame_delivery(&batch.bytes[..end], 100), None, "cut at {end}");
        }
        assert_eq!(single_frame_delivery(&batch.bytes, 3), None, "over the limit");
        let mut other = BytesMut::from(&batch.bytes[..]);
        other[10] = 71;
        assert_eq!(single_frame_delivery(&other, 100), None, "another method");
    }
}
