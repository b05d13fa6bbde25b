//! Splits a read buffer into frames.
//!
//! The seven octets of a head are checked before any octet of the payload is waited for. RabbitMQ splits
//! bodies by `frame_max`, but neither methods nor headers: a header that was published within `frame_max`
//! exceeds it once the broker adds `x-death` to it. So these frames have a limit of their own.

use bytes::BytesMut;

use super::{
    fault::Fault,
    frame::{
        BODY, FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, FrameBatch, FrameHead, FrameKind, HEARTBEAT, METHOD,
    },
};

/// The longest method or header frame that is accepted on an open connection, in bytes, if `frame_max` is
/// lower.
pub const METHOD_MAX: usize = 1 << 20;

/// Splits a read buffer into batches of frames.
///
/// Source: AMQP 0-9-1 section 4.2.3
#[derive(Debug)]
pub struct FrameDecoder {
    /// The longest body frame.
    frame_max: usize,
    /// The longest method or header frame.
    method_max: usize,
    /// Length of the incomplete frame at the front, whose head was checked; 0 if unknown.
    front: usize,
    missing: usize,
}

impl FrameDecoder {
    /// Creates a decoder that refuses body frames longer than `frame_max`, which is raised to
    /// [`FRAME_MIN_SIZE`], and method and header frames that are also longer than [`METHOD_MAX`].
    pub fn new(frame_max: u32) -> Self {
        let mut decoder = Self::for_handshake(frame_max);
        decoder.set_frame_max(frame_max);
        decoder
    }

    /// Creates a decoder that refuses every frame longer than `limit`: before the login, a peer is not
    /// trusted with more.
    pub fn for_handshake(limit: u32) -> Self {
        let limit = octets(limit);
        Self { frame_max: limit, method_max: limit, front: 0, missing: 0 }
    }

    /// Sets the longest frames that are accepted, for heads that were not checked yet.
    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = octets(frame_max);
        self.method_max = self.frame_max.max(METHOD_MAX);
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
            self.set_missing(self.front - buf.len());
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
            match check(&head, rest, self.limit(head.kind)) {
                Ok(true) => {}
                Ok(false) if frames > 0 => break,
                Ok(false) => {
                    self.front = head.len;
                    self.set_missing(head.len - rest.len());
                    return Ok(None);
                }
                Err(_) if frames > 0 => break,
                Err(error) => {
                    return Err(error.fault(&head, self.limit(head.kind)).on_channel(head.channel));
                }
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

    /// Returns how many bytes to read next for the frame at the front: those that it misses, at most
    /// `frame_max`; 0 if unknown.
    ///
    /// So no head makes a reader reserve more than a body frame may have.
    pub fn missing_bytes(&self) -> usize {
        self.missing
    }

    fn set_missing(&mut self, bytes: usize) {
        self.missing = bytes.min(self.frame_max);
    }

    #[inline]
    fn limit(&self, kind: u8) -> usize {
        if kind == BODY { self.frame_max } else { self.method_max }
    }
}

/// Raises a limit to [`FRAME_MIN_SIZE`].
fn octets(limit: u32) -> usize {
    usize::try_from(limit.max(FRAME_MIN_SIZE)).unwrap_or(usize::MAX)
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
    fn fault(self, head: &FrameHead, limit: usize) -> Fault {
        match self {
            Self::Kind => Fault::frame(format!("unknown frame type {}", head.kind)),
            Self::Size if head.kind == BODY => {
                Fault::frame(format!("body frame of {} octets over frame_max {limit}", head.len))
            }
            Self::Size => {
                let what = if head.kind == METHOD { "method" } else { "header" };
                Fault::frame(format!("{what} frame of {} octets over the limit of {limit}", head.len))
            }
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
fn check(head: &FrameHead, bytes: &[u8], limit: usize) -> Result<bool, FrameError> {
    if FrameKind::of(head.kind).is_none() {
        return Err(FrameError::Kind);
    }
    if head.kind == HEARTBEAT && (head.channel != 0 || head.len != FRAME_OVERHEAD) {
        return Err(FrameError::Heartbeat);
    }
    if head.len > limit {
        return Err(FrameError::Size);
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
            (
                &[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF][..],
                "method frame of 4294967303 octets over the limit of 1048576",
            ),
            (&[1, 0, 1, 0, 0x0F, 0xFF, 0xF9], "method frame of 1048577 octets over the limit of 1048576"),
            (&[2, 0, 1, 0, 0x0F, 0xFF, 0xF9], "header frame of 1048577 octets over the limit of 1048576"),
            (&[3, 0, 1, 0, 0, 0x0F, 0xF9], "body frame of 4097 octets over frame_max 4096"),
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
        for longest in
            [[1, 0, 1, 0, 0x0F, 0xFF, 0xF8], [2, 0, 1, 0, 0x0F, 0xFF, 0xF8], [3, 0, 1, 0, 0, 0x0F, 0xF8]]
        {
            assert!(decode(&longest).unwrap().is_none(), "{longest:?}");
        }
    }

    #[test]
    fn a_header_above_frame_max_is_taken_in_full() {
        let bytes = frame(2, 1, &vec![0; METHOD_MAX - FRAME_OVERHEAD]);
        let mut decoder = FrameDecoder::new(FRAME_MIN_SIZE);
        let mut buf = BytesMut::new();
        for piece in bytes.chunks(100_000) {
            assert!(decoder.next_batch(&mut buf).unwrap().is_none());
            // Nothing is reserved for what only the head announces.
            assert!(decoder.missing_bytes() <= FRAME_MIN_SIZE as usize);
            buf.extend_from_slice(piece);
        }
        assert_eq!(decoder.next_batch(&mut buf).unwrap().unwrap().bytes, bytes);
        // A larger `frame_max` holds for all frames.
        let decoder = FrameDecoder::new(4 << 20);
        assert_eq!((decoder.limit(METHOD), decoder.limit(BODY)), (4 << 20, 4 << 20));
    }

    #[test]
    fn a_handshake_has_one_limit_until_frame_max_is_set() {
        let mut decoder = FrameDecoder::for_handshake(FRAME_MIN_SIZE);
        let head = [1, 0, 0, 0, 0, 0x0F, 0xF9];
        assert_eq!(decoder.next_batch(&mut BytesMut::from(&head[..])).unwrap_err().code, 501);
        decoder.set_frame_max(FRAME_MIN_SIZE);
        assert!(decoder.next_batch(&mut BytesMut::from(&head[..])).unwrap().is_none());
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
