//! The usual delivery, read in one step: `basic.deliver`, its header and its body, if it has one, in three frames that
//! arrived next to one another.
//!
//! Whatever is not exactly that is left to the [assembler](super::content), which knows what is wrong with it.

use super::{
    basic_frames::{BASIC, Deliver, Inbound, parse_method},
    frame::{FRAME_OVERHEAD, FrameKind, FrameView, FrameViews, HEAD_LEN},
};

/// Marks a place in the bytes that a delivery was read from.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::Place;
/// assert_eq!(Place { start: 1, len: 2 }.of(b"abcd"), b"bc");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Where it begins.
    pub start: u32,
    /// How many bytes it has.
    pub len: u32,
}

impl Place {
    /// Shows the bytes there, none if there are fewer.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Place;
    /// assert_eq!(Place { start: 1, len: 9 }.of(b"abcd"), b"");
    /// ```
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// Holds a delivery whose frames are next to one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleFrameDelivery {
    /// The method, its spans counted from the method payload on.
    pub deliver: Deliver,
    /// The raw properties, counted from the method payload on.
    pub properties: Place,
    /// The body, counted from the method payload on.
    pub body: Place,
    /// Bytes of all its frames.
    pub len: usize,
}

/// Octets of a content header in front of the properties.
const HEADER_FIXED: usize = 12;

/// Reads a delivery off the front of a run of frames that were checked; `None` if it is not the usual one.
#[inline]
pub fn single_frame_delivery(run: &[u8], body_limit: u64) -> Option<SingleFrameDelivery> {
    let mut frames = FrameViews::over(run);
    let method = frames.next().filter(|frame| frame.kind == FrameKind::Method)?;
    let Ok(Inbound::Deliver(deliver)) = parse_method(method.payload) else { return None };
    let header = frames.next().filter(|frame| frame.kind == FrameKind::Header)?;
    let (fixed, properties) = header.payload.split_first_chunk::<HEADER_FIXED>()?;
    let [c1, c0, _, _, size @ ..] = *fixed;
    let size = u64::from_be_bytes(size);
    if u16::from_be_bytes([c1, c0]) != BASIC || size > body_limit {
        return None;
    }
    let header_at = method.payload.len() + FRAME_OVERHEAD;
    let properties = Place {
        start: u32::try_from(header_at + HEADER_FIXED).ok()?,
        len: u32::try_from(properties.len()).ok()?,
    };
    let mut len = HEAD_LEN + header_at + header.payload.len() + 1;
    let mut body = Place { start: u32::try_from(len).ok()?, len: 0 };
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
        basic_frames::{put_body, put_header},
        content::{Assembler, ContentMethod},
        frame::{FrameBatch, FrameDecoder},
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

    fn run(bodies: &[&[u8]]) -> FrameBatch {
        let mut buf = BytesMut::new();
        for (tag, body) in (1..).zip(bodies) {
            deliver_frame(&mut buf, tag);
            put_header(&mut buf, 1, body.len() as u64, &Properties::new().with_content_type("text/plain"));
            if !body.is_empty() {
                put_body(&mut buf, 1, body);
            }
        }
        FrameDecoder::new(131_072).next_run(&mut buf).unwrap().unwrap()
    }

    #[test]
    fn reads_what_the_assembler_reads() {
        let run = run(&[b"first", b"", b"third"]);
        let mut at = 0;
        for (tag, body) in [(1, &b"first"[..]), (2, b""), (3, b"third")] {
            let rest = run.bytes.slice(at..);
            let whole = single_frame_delivery(&rest, 100).unwrap();
            let payload = rest.slice(HEAD_LEN..);
            assert_eq!((whole.deliver.delivery_tag, whole.deliver.redelivered), (tag, true));
            assert_eq!(whole.deliver.consumer_tag.of(&payload), b"ctag");
            assert_eq!(whole.deliver.exchange.of(&payload), b"ex");
            assert_eq!(whole.deliver.routing_key.of(&payload), b"key");
            assert_eq!(whole.body.of(&payload), body);

            let mut assembler = Assembler::new(100);
            let mut frames = FrameBatch { channel: 1, bytes: rest.clone(), frames: 3 }.into_iter();
            assembler.begin(ContentMethod::Deliver(whole.deliver), frames.next().unwrap().payload).unwrap();
            let header = frames.next().unwrap().payload;
            let content = match assembler.header(&header).unwrap() {
                Some(content) => content,
                None => assembler.body(frames.next().unwrap().payload).unwrap().unwrap(),
            };
            assert_eq!(content.body, Bytes::copy_from_slice(body));
            assert_eq!(whole.properties.of(&payload), &content.header.properties[..]);
            at += whole.len;
        }
        assert_eq!(at, run.bytes.len());
    }

    #[test]
    fn leaves_everything_else_alone() {
        let run = run(&[b"body"]);
        for end in 0..run.bytes.len() {
            assert_eq!(single_frame_delivery(&run.bytes[..end], 100), None, "cut at {end}");
        }
        assert_eq!(single_frame_delivery(&run.bytes, 3), None, "over the limit");
        let mut other = BytesMut::from(&run.bytes[..]);
        other[10] = 71;
        assert_eq!(single_frame_delivery(&other, 100), None, "another method");
    }
}
