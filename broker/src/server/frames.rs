//! Frames as RabbitMQ reads them: where one ends, and what is wrong with it.
//!
//! The decoder of the client is not used: RabbitMQ allows frames that are eight octets too long, and its texts name what
//! was received.

use bytes::{Buf, Bytes, BytesMut};

use crate::core::{Close, print_binary};

/// The types of frames.
pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;
/// The last octet of each.
pub(super) const END: u8 = 0xCE;
/// The class of contents.
pub(super) const BASIC: u16 = 60;
/// The octets of a content header in front of the flags.
pub(super) const HEADER_FIXED: usize = 12;
/// The octets in front of a payload.
const HEAD: usize = 7;

/// A frame, with a payload that was not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) channel: u16,
    pub(super) payload: Bytes,
}

/// Takes the next frame off `input`, or returns None if it is not complete. `max` is the `frame_max` of the connection,
/// or 0 for none.
///
/// # Errors
/// 501 for a frame that is too long or does not end as it should. Nothing can be read after it.
pub(super) fn next_frame(input: &mut BytesMut, max: u32) -> Result<Option<Frame>, Close> {
    let Some(&[kind, c1, c0, s3, s2, s1, s0]) = input.first_chunk::<HEAD>() else { return Ok(None) };
    let size = u32::from_be_bytes([s3, s2, s1, s0]);
    // A frame of `max` has eight octets around its payload; as many more are tolerated.
    if max != 0 && size > max {
        let text =
            format!("type {kind}, all octets = <<>>: {{frame_too_large,{size},{}}}", i64::from(max) - 8);
        return Err(Close::new(501, text));
    }
    let size = size as usize;
    let Some(&end) = input.get(HEAD + size) else {
        input.reserve((HEAD + size + 1 - input.len()).min(MOST_RESERVED));
        return Ok(None);
    };
    input.advance(HEAD);
    let payload = input.split_to(size).freeze();
    input.advance(1);
    if end != END {
        let reason = format!("{{invalid_frame_end_marker,{end}}}");
        return Err(Close::new(501, format!("{}: {reason}", describe(kind, &payload))));
    }
    Ok(Some(Frame { kind, channel: u16::from_be_bytes([c1, c0]), payload }))
}

/// What is reserved for a frame before it is there.
const MOST_RESERVED: usize = 128 * 1024;

/// Describes a frame as RabbitMQ's errors do.
pub(super) fn describe(kind: u8, payload: &[u8]) -> String {
    match payload.get(..16) {
        Some(first) if payload.len() > 16 => {
            format!("type {kind}, first 16 octets = {}", print_binary(first))
        }
        _ => format!("type {kind}, all octets = {}", print_binary(payload)),
    }
}

/// Returns the class and the method of the payload of a method frame.
pub(super) fn ids(payload: &[u8]) -> (u16, u16) {
    match payload.first_chunk::<4>() {
        Some(&[c1, c0, m1, m0]) => (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])),
        None => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], max: u32) -> Result<Option<Frame>, String> {
        next_frame(&mut BytesMut::from(bytes), max).map_err(|close| close.to_string())
    }

    #[test]
    fn a_frame_is_read_when_it_is_complete() {
        let whole = b"\x08\x01\x02\0\0\0\x02ab\xce";
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut], 4096), Ok(None), "{cut}");
        }
        let frame = Frame { kind: 8, channel: 0x102, payload: Bytes::from_static(b"ab") };
        assert_eq!(read(whole, 4096), Ok(Some(frame)));
    }

    /// PRO-06, PRO-07: broker.md 15
    #[test]
    fn what_is_wrong_with_a_frame_is_told_as_rabbitmq_does() {
        let end = "FRAME_ERROR - type 1, all octets = <<0,5>>: {invalid_frame_end_marker,0}";
        assert_eq!(read(b"\x01\0\0\0\0\0\x02\0\x05\0", 4096), Err(end.into()));
        let long = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}";
        assert_eq!(read(b"\x03\0\x01\0\0\x10\x01", 4096), Err(long.into()));
        assert_eq!(read(b"\x03\0\x01\0\0\x10\0", 4096), Ok(None), "eight octets too long");
        assert_eq!(describe(8, b""), "type 8, all octets = <<>>");
        assert_eq!(describe(4, &[1; 17]), "type 4, first 16 octets = <<1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1>>");
    }
}
