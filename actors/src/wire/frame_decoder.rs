//! Splits a read buffer into frames.
//!
//! The seven octets of a head are checked before any octet of the payload is waited for.

use bytes::BytesMut;

use super::{
    fault::Fault,
    frame::{FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, FrameBatch, FrameHead, FrameKind, HEARTBEAT},
};

/// Splits a read buffer into batches of frames.
///
/// Source: AMQP 0-9-1 section 4.2.3
#[derive(Debug)]
pub struct FrameDecoder {
    frame_max: usize,
    /// Length of the incomplete frame at the front, whose head was checked; 0 if unknown.
    front: usize,
    missing: usize,
}

impl FrameDecoder {
    /// Creates a decoder that refuses frames longer than `frame_max`, which is raised to [`FRAME_MIN_SIZE`].
    pub fn new(frame_max: u32) -> Self {
        let mut decoder = Self { frame_max: 0, front: 0, missing: 0 };
        decoder.set_frame_max(frame_max);
        decoder
    }

    /// Sets the longest frame that is accepted, for heads that were not checked yet.
    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = usize::try_from(frame_max.max(FRAME_MIN_SIZE)).unwrap_or(usize::MAX);
    }

    /// Removes the next batch of complete frames from the front of `buf`, or returns `None` if more bytes are
    /// needed.
    ///
    /// Valid frames before an invalid one are returned first, so that a `connection.close` followed by
    /// garbage is seen.
    ///
    /// # Errors
    /// [`Fault`] with 501 for a frame that has an unknown type, is too long, or lacks its end octet.
    pub fn next_batch(&mut self, buf: &mut BytesMut) -> Result<Option<FrameBatch>, Fault> {
        if buf.len() < self.front {
            self.missing = self.front - buf.len();
            return Ok(None);
        }
        let bytes = &buf[..];
        let (mut end, mut frames, mut channel) = (0, 0, 0);
        self.front = 0;
        self.missing = 0;
        while let Some(rest) = bytes.get(end..) {
            let head = match FrameHead::read(rest) {
                Some(head) => head,
                None if frames > 0 => break,
                None => return check_type(rest).map(|()| None),
            };
            if frames > 0 && (head.channel != channel || head.kind == HEARTBEAT) {
                break;
            }
            match check(&head, rest, self.frame_max) {
                Ok(true) => {}
                Ok(false) if frames > 0 => break,
                Ok(false) => {
                    self.front = head.len;
                    self.missing = head.len - rest.len();
                    return Ok(None);
                }
                Err(_) if frames > 0 => break,
                Err(error) => return Err(error.fault(&head, self.frame_max)),
            }
            channel = head.channel;
            end += head.len;
            frames += 1;
            if head.kind == HEARTBEAT {
                break;
            }
        }
        if frames == 0 {
            return Ok(None);
        }
        Ok(Some(FrameBatch { channel, bytes: buf.split_to(end).freeze(), frames }))
    }

    /// Returns the number of bytes missing from the frame at the front, 0 if unknown.
    pub fn missing_bytes(&self) -> usize {
        self.missing
    }
}

/// Why a frame is invalid. It fits in a register; [`fault`](Self::fault) formats the text.
enum FrameError {
    Kind,
    Size,
    Heartbeat,
    End,
}

impl FrameError {
    #[cold]
    fn fault(self, head: &FrameHead, frame_max: usize) -> Fault {
        match self {
            Self::Kind => Fault::frame(format!("unknown frame type {}", head.kind)),
            Self::Size => Fault::frame(format!("frame of {} octets over frame_max {frame_max}", head.len)),
            Self::Heartbeat if head.channel != 0 => {
                Fault::frame(format!("heartbeat on channel {}", head.channel))
            }
            Self::Heartbeat => Fault::frame("heartbeat with a payload"),
            Self::End => Fault::frame(format!("frame on channel {} without its end octet", head.channel)),
        }
    }
}

/// Checks the frame at the front of `bytes` and returns whether it is complete.
#[inline]
fn check(head: &FrameHead, bytes: &[u8], frame_max: usize) -> Result<bool, FrameError> {
    if FrameKind::of(head.kind).is_none() {
        return Err(FrameError::Kind);
    }
    if head.len > frame_max {
        return Err(FrameError::Size);
    }
    if head.kind == HEARTBEAT && (head.channel != 0 || head.len != FRAME_OVERHEAD) {
        return Err(FrameError::Heartbeat);
    }
    match bytes.get(head.len - 1) {
        Some(&FRAME_END) => Ok(true),
        Some(_) => Err(FrameError::End),
        None => Ok(false),
    }
}

/// Checks the type of a frame whose head is incomplete.
fn check_type(bytes: &[u8]) -> Result<(), Fault> {
    match bytes.first() {
        Some(&kind) if FrameKind::of(kind).is_none() => {
            Err(Fault::frame(format!("unknown frame type {kind}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend(channel.to_be_bytes());
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes.push(FRAME_END);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Option<FrameBatch>, Fault> {
        FrameDecoder::new(FRAME_MIN_SIZE).next_batch(&mut BytesMut::from(bytes))
    }

    #[test]
    fn a_batch_ends_where_the_channel_changes() {
        let mut buf = BytesMut::new();
        for (channel, payload) in [(3, "a"), (3, ""), (4, "b"), (3, "c")] {
            buf.extend(frame(1, channel, payload.as_bytes()));
        }
        let mut decoder = FrameDecoder::new(FRAME_MIN_SIZE);
        let mut seen = Vec::new();
        while let Some(batch) = decoder.next_batch(&mut buf).unwrap() {
            assert_eq!(batch.frames, batch.iter().count());
            seen.push((batch.channel, batch.frames));
        }
        assert_eq!(seen, [(3, 2), (4, 1), (3, 1)]);
        assert!(buf.is_empty());
    }

    #[test]
    fn a_heartbeat_is_a_batch_of_its_own() {
        let mut buf = BytesMut::new();
        buf.extend(frame(1, 0, b"x"));
        buf.extend(frame(8, 0, b""));
        buf.extend(frame(8, 0, b""));
        buf.extend(frame(1, 0, b"y"));
        let mut decoder = FrameDecoder::new(FRAME_MIN_SIZE);
        for _ in 0..4 {
            assert_eq!(decoder.next_batch(&mut buf).unwrap().unwrap().frames, 1);
        }
        assert!(decoder.next_batch(&mut buf).unwrap().is_none());
    }

    #[test]
    fn a_head_is_checked_before_its_payload_arrives() {
        for (bytes, text) in [
            (&[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF][..], "over frame_max"),
            (&[1, 0, 1, 0, 0, 0x0F, 0xF9], "over frame_max"),
            (&[7, 0, 1, 0, 0, 0, 1], "unknown frame type 7"),
            (&[7], "unknown frame type 7"),
            (&[8, 0, 1, 0, 0, 0, 0], "heartbeat on channel 1"),
            (&[8, 0, 0, 0, 0, 0, 1], "heartbeat with a payload"),
            (&[1, 0, 1, 0, 0, 0, 0, 0], "end octet"),
        ] {
            let fault = decode(bytes).unwrap_err();
            assert_eq!(fault.code, 501);
            assert!(fault.text.contains(text), "{fault}");
        }
        assert!(decode(&[1, 0, 1, 0, 0, 0x0F, 0xF8]).unwrap().is_none());
    }

    #[test]
    fn good_frames_come_before_the_fault() {
        let mut buf = BytesMut::from(&frame(1, 1, b"good")[..]);
        buf.extend_from_slice(&[9, 0, 1, 0, 0, 0, 0]);
        let mut decoder = FrameDecoder::new(FRAME_MIN_SIZE);
        assert_eq!(decoder.next_batch(&mut buf).unwrap().unwrap().frames, 1);
        assert_eq!(decoder.next_batch(&mut buf).unwrap_err().code, 501);
    }

    #[test]
    fn the_missing_bytes_of_a_frame_are_counted() {
        let bytes = frame(3, 1, &[0; 100]);
        let mut decoder = FrameDecoder::new(FRAME_MIN_SIZE);
        let mut buf = BytesMut::from(&bytes[..50]);
        assert!(decoder.next_batch(&mut buf).unwrap().is_none());
        assert_eq!(decoder.missing_bytes(), 58);
        buf.extend_from_slice(&bytes[50..60]);
        assert!(decoder.next_batch(&mut buf).unwrap().is_none());
        assert_eq!(decoder.missing_bytes(), 48);
        buf.extend_from_slice(&bytes[60..]);
        assert_eq!(decoder.next_batch(&mut buf).unwrap().unwrap().bytes, bytes);
        assert_eq!(decoder.missing_bytes(), 0);
    }
}
