//! Cutting what a socket delivered into frames.
//!
//! ```text
//!  0      1         3             7                  size+7      size+8
//!  +------+---------+-------------+---------------------+-----------+
//!  | type | channel |    size     |  payload            | end = CE  |
//!  +------+---------+-------------+---------------------+-----------+
//! ```
//!
//! Neighbouring frames of one channel are handed on together, as a [`FrameBatch`]: one view of the read buffer.
//! The seven octets of a head are checked before one octet of its payload is waited for.

use bytes::{Buf, Bytes, BytesMut};

use super::fault::Fault;

pub use super::greeting::other_protocol_detected;

/// Ends every frame.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::FRAME_END;
/// assert_eq!(FRAME_END, 0xce);
/// ```
pub const FRAME_END: u8 = 0xCE;
/// Counts the octets of a frame around its payload.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::{FRAME_OVERHEAD, HEAD_LEN};
/// assert_eq!(FRAME_OVERHEAD, HEAD_LEN + 1);
/// ```
pub const FRAME_OVERHEAD: usize = 8;
/// Counts the octets of a frame before its payload.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::HEAD_LEN;
/// assert_eq!(HEAD_LEN, 7); // type, channel, size
/// ```
pub const HEAD_LEN: usize = 7;
/// Bounds from below the `frame_max` that a peer may ask for.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::FRAME_MIN_SIZE;
/// assert_eq!(FRAME_MIN_SIZE, 4096);
/// ```
pub const FRAME_MIN_SIZE: u32 = 4096;

/// Names the type of a frame.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::{FrameKind, FrameBatch};
/// fn has_content(run: &FrameBatch) -> bool {
///     run.iter().any(|frame| matches!(frame.kind, FrameKind::Header | FrameKind::Body))
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Type 1: a method and its arguments.
    Method,
    /// Type 2: size and properties of a content.
    Header,
    /// Type 3: a piece of the body of a content.
    Body,
    /// Type 8: a sign of life.
    Heartbeat,
}

impl FrameKind {
    #[inline]
    pub(super) fn of(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Method),
            2 => Some(Self::Header),
            3 => Some(Self::Body),
            8 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// Holds one frame of a run, its payload a view of the read buffer.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The frame's type.
    pub kind: FrameKind,
    /// The channel it belongs to, 0 for the connection.
    pub channel: u16,
    /// What is between head and end octet.
    pub payload: Bytes,
}

/// Holds whole frames of one channel that arrived next to one another, checked.
///
/// # Examples
/// ```
/// # use bytes::Bytes;
/// # use actix_pika_actors::wire::{FrameKind, FrameBatch};
/// let run = FrameBatch { channel: 0, bytes: Bytes::from_static(b"\x08\0\0\0\0\0\0\xce"), frames: 1 };
/// assert_eq!(run.iter().next().map(|frame| frame.kind), Some(FrameKind::Heartbeat));
/// ```
#[derive(Clone, Debug)]
pub struct FrameBatch {
    /// The channel all frames belong to.
    pub channel: u16,
    /// The frames, heads and end octets included.
    pub bytes: Bytes,
    /// How many they are.
    pub frames: usize,
}

impl FrameBatch {
    /// Walks over the frames, in order.
    ///
    /// # Examples
    /// ```
    /// # use bytes::Bytes;
    /// # use actix_pika_actors::wire::FrameBatch;
    /// let run = FrameBatch { channel: 0, bytes: Bytes::from_static(b"\x08\0\0\0\0\0\0\xce"), frames: 1 };
    /// assert_eq!(run.iter().count(), run.frames);
    /// ```
    pub fn iter(&self) -> Frames {
        Frames { bytes: self.bytes.clone() }
    }

    /// Walks over the frames, in order, without a count of references for each: `bytes.slice_ref` makes one where it is
    /// kept.
    ///
    /// # Examples
    /// ```
    /// # use bytes::Bytes;
    /// # use actix_pika_actors::wire::FrameBatch;
    /// let run = FrameBatch { channel: 0, bytes: Bytes::from_static(b"\x08\0\0\0\0\0\0\xce"), frames: 1 };
    /// assert!(run.views().all(|frame| frame.payload.is_empty()));
    /// ```
    pub fn views(&self) -> FrameViews<'_> {
        FrameViews { bytes: &self.bytes }
    }
}

impl IntoIterator for FrameBatch {
    type Item = Frame;
    type IntoIter = Frames;

    fn into_iter(self) -> Frames {
        Frames { bytes: self.bytes }
    }
}

impl IntoIterator for &FrameBatch {
    type Item = Frame;
    type IntoIter = Frames;

    fn into_iter(self) -> Frames {
        self.iter()
    }
}

/// Walks over the frames of a [`FrameBatch`].
#[derive(Clone, Debug)]
pub struct Frames {
    bytes: Bytes,
}

impl Frames {
    /// The bytes of the frames that were not shown.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }
}

impl Iterator for Frames {
    type Item = Frame;

    #[inline]
    fn next(&mut self) -> Option<Frame> {
        let head = Head::read(&self.bytes)?;
        if self.bytes.len() < head.len {
            return None;
        }
        let kind = FrameKind::of(head.kind)?;
        let payload = self.bytes.slice(HEAD_LEN..head.len - 1);
        self.bytes.advance(head.len);
        Some(Frame { kind, channel: head.channel, payload })
    }
}

/// Shows one frame of a run, its payload borrowed from the run.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// The frame's type.
    pub kind: FrameKind,
    /// The channel it belongs to, 0 for the connection.
    pub channel: u16,
    /// What is between head and end octet.
    pub payload: &'a [u8],
}

/// Walks over the frames of a [`FrameBatch`], borrowed.
#[derive(Clone, Debug)]
pub struct FrameViews<'a> {
    bytes: &'a [u8],
}

impl<'a> FrameViews<'a> {
    /// Walks over the frames in bytes that were cut and checked.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::FrameViews;
    /// assert_eq!(FrameViews::over(b"\x03\0\x01\0\0\0\x01x\xce").next().map(|frame| frame.payload), Some(&b"x"[..]));
    /// ```
    #[inline]
    pub fn over(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Counts the bytes that are left.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::FrameViews;
    /// let mut views = FrameViews::over(b"\x03\0\x01\0\0\0\x01x\xce");
    /// views.next();
    /// assert_eq!(views.left(), 0);
    /// ```
    #[inline]
    pub fn left(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a> Iterator for FrameViews<'a> {
    type Item = FrameView<'a>;

    #[inline]
    fn next(&mut self) -> Option<FrameView<'a>> {
        let head = Head::read(self.bytes)?;
        let (frame, rest) = self.bytes.split_at_checked(head.len)?;
        let payload = frame.get(HEAD_LEN..frame.len() - 1)?;
        self.bytes = rest;
        Some(FrameView { kind: FrameKind::of(head.kind)?, channel: head.channel, payload })
    }
}

/// Cuts a read buffer into runs.
///
/// Source: AMQP 0-9-1 section 4.2.3
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::FrameDecoder;
/// let mut buf = BytesMut::from(&b"\x08\0\0\0\0\0\0\xce\x08\0\0"[..]);
/// let run = FrameDecoder::new(4096).next_run(&mut buf)?.expect("one whole frame");
/// assert_eq!((run.channel, run.frames, buf.len()), (0, 1, 3));
/// # Ok::<(), actix_pika_actors::wire::Fault>(())
/// ```
#[derive(Debug)]
pub struct FrameDecoder {
    frame_max: usize,
    /// Length of the frame at the front, once its head was found good; 0 if it was not looked at yet.
    front: usize,
    missing: usize,
}

impl FrameDecoder {
    /// Starts with the largest frame that is allowed; a `frame_max` below [`FRAME_MIN_SIZE`] is raised to it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::FrameDecoder;
    /// let cutter = FrameDecoder::new(131_072);
    /// ```
    pub fn new(frame_max: u32) -> Self {
        let mut cutter = Self { frame_max: 0, front: 0, missing: 0 };
        cutter.set_frame_max(frame_max);
        cutter
    }

    /// Changes the largest frame that is allowed, for heads that were not looked at yet.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::FrameDecoder;
    /// FrameDecoder::new(4096).set_frame_max(131_072);
    /// ```
    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = usize::try_from(frame_max.max(FRAME_MIN_SIZE)).unwrap_or(usize::MAX);
    }

    /// Takes the next run of whole frames off the front of `buf`; `None`: more bytes are needed.
    ///
    /// Good frames before a bad one are handed out first, so that a `connection.close` followed by rubbish is read.
    ///
    /// # Errors
    /// [`Fault`] with 501 for a frame of an unknown type, one that is too long, or one without its end octet.
    ///
    /// # Examples
    /// ```
    /// # use bytes::BytesMut;
    /// # use actix_pika_actors::wire::FrameDecoder;
    /// let mut buf = BytesMut::from(&b"\x08\0\0\0\0\0\0\0"[..]);
    /// assert_eq!(FrameDecoder::new(4096).next_run(&mut buf).unwrap_err().code, 501);
    /// ```
    pub fn next_run(&mut self, buf: &mut BytesMut) -> Result<Option<FrameBatch>, Fault> {
        if buf.len() < self.front {
            self.missing = self.front - buf.len();
            return Ok(None);
        }
        let bytes = &buf[..];
        let (mut end, mut frames, mut channel) = (0, 0, 0);
        self.front = 0;
        self.missing = 0;
        while let Some(rest) = bytes.get(end..) {
            let head = match Head::read(rest) {
                Some(head) => head,
                None if frames > 0 => break,
                None => return refuse_early(rest).map(|()| None),
            };
            if frames > 0 && (head.channel != channel || head.kind == HEARTBEAT) {
                break;
            }
            match head.check(rest, self.frame_max) {
                Ok(true) => {}
                Ok(false) if frames > 0 => break,
                Ok(false) => {
                    self.front = head.len;
                    self.missing = head.len - rest.len();
                    return Ok(None);
                }
                Err(_) if frames > 0 => break,
                Err(wrong) => return Err(wrong.fault(&head, self.frame_max)),
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

    /// Counts the bytes still missing for the frame at the front, 0 if unknown.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::FrameDecoder;
    /// assert_eq!(FrameDecoder::new(4096).wanted(), 0);
    /// ```
    pub fn wanted(&self) -> usize {
        self.missing
    }
}

const HEARTBEAT: u8 = 8;

/// The head of a frame as it was read; `len` is that of the whole frame.
struct Head {
    kind: u8,
    channel: u16,
    len: usize,
}

/// What is wrong with a frame, in a register; its text is made where it is reported.
enum Wrong {
    Kind,
    Size,
    Heartbeat,
    End,
}

impl Head {
    #[inline]
    fn read(bytes: &[u8]) -> Option<Self> {
        let ([kind, c1, c0, s3, s2, s1, s0], _) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let size = u32::from_be_bytes([*s3, *s2, *s1, *s0]);
        Some(Self {
            kind: *kind,
            channel: u16::from_be_bytes([*c1, *c0]),
            len: usize::try_from(size).unwrap_or(usize::MAX).saturating_add(FRAME_OVERHEAD),
        })
    }

    /// Whether the frame is there to its end; an error if it never can be.
    #[inline]
    fn check(&self, bytes: &[u8], frame_max: usize) -> Result<bool, Wrong> {
        if FrameKind::of(self.kind).is_none() {
            return Err(Wrong::Kind);
        }
        if self.len > frame_max {
            return Err(Wrong::Size);
        }
        if self.kind == HEARTBEAT && (self.channel != 0 || self.len != FRAME_OVERHEAD) {
            return Err(Wrong::Heartbeat);
        }
        match bytes.get(self.len - 1) {
            Some(&FRAME_END) => Ok(true),
            Some(_) => Err(Wrong::End),
            None => Ok(false),
        }
    }
}

impl Wrong {
    #[cold]
    fn fault(self, head: &Head, frame_max: usize) -> Fault {
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

/// With less than a head there, a wrong type is wrong already.
fn refuse_early(bytes: &[u8]) -> Result<(), Fault> {
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

    fn cut(bytes: &[u8]) -> Result<Option<FrameBatch>, Fault> {
        FrameDecoder::new(FRAME_MIN_SIZE).next_run(&mut BytesMut::from(bytes))
    }

    #[test]
    fn a_run_ends_where_the_channel_changes() {
        let mut buf = BytesMut::new();
        for (channel, payload) in [(3, "a"), (3, ""), (4, "b"), (3, "c")] {
            buf.extend(frame(1, channel, payload.as_bytes()));
        }
        let mut cutter = FrameDecoder::new(FRAME_MIN_SIZE);
        let mut seen = Vec::new();
        while let Some(run) = cutter.next_run(&mut buf).unwrap() {
            assert_eq!(run.frames, run.iter().count());
            seen.push((run.channel, run.frames));
        }
        assert_eq!(seen, [(3, 2), (4, 1), (3, 1)]);
        assert!(buf.is_empty());
    }

    #[test]
    fn a_heartbeat_is_a_run_of_its_own() {
        let mut buf = BytesMut::new();
        buf.extend(frame(1, 0, b"x"));
        buf.extend(frame(8, 0, b""));
        buf.extend(frame(8, 0, b""));
        buf.extend(frame(1, 0, b"y"));
        let mut cutter = FrameDecoder::new(FRAME_MIN_SIZE);
        for _ in 0..4 {
            assert_eq!(cutter.next_run(&mut buf).unwrap().unwrap().frames, 1);
        }
        assert!(cutter.next_run(&mut buf).unwrap().is_none());
    }

    #[test]
    fn a_head_is_judged_before_its_payload() {
        for (bytes, text) in [
            (&[1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF][..], "over frame_max"),
            (&[1, 0, 1, 0, 0, 0x0F, 0xF9], "over frame_max"),
            (&[7, 0, 1, 0, 0, 0, 1], "unknown frame type 7"),
            (&[7], "unknown frame type 7"),
            (&[8, 0, 1, 0, 0, 0, 0], "heartbeat on channel 1"),
            (&[8, 0, 0, 0, 0, 0, 1], "heartbeat with a payload"),
            (&[1, 0, 1, 0, 0, 0, 0, 0], "end octet"),
        ] {
            let fault = cut(bytes).unwrap_err();
            assert_eq!(fault.code, 501);
            assert!(fault.text.contains(text), "{fault}");
        }
        assert!(cut(&[1, 0, 1, 0, 0, 0x0F, 0xF8]).unwrap().is_none());
    }

    #[test]
    fn good_frames_come_before_the_fault() {
        let mut buf = BytesMut::from(&frame(1, 1, b"good")[..]);
        buf.extend_from_slice(&[9, 0, 1, 0, 0, 0, 0]);
        let mut cutter = FrameDecoder::new(FRAME_MIN_SIZE);
        assert_eq!(cutter.next_run(&mut buf).unwrap().unwrap().frames, 1);
        assert_eq!(cutter.next_run(&mut buf).unwrap_err().code, 501);
    }

    #[test]
    fn the_rest_of_a_frame_is_asked_for() {
        let whole = frame(3, 1, &[0; 100]);
        let mut cutter = FrameDecoder::new(FRAME_MIN_SIZE);
        let mut buf = BytesMut::from(&whole[..50]);
        assert!(cutter.next_run(&mut buf).unwrap().is_none());
        assert_eq!(cutter.wanted(), 58);
        buf.extend_from_slice(&whole[50..60]);
        assert!(cutter.next_run(&mut buf).unwrap().is_none());
        assert_eq!(cutter.wanted(), 48);
        buf.extend_from_slice(&whole[60..]);
        assert_eq!(cutter.next_run(&mut buf).unwrap().unwrap().bytes, whole);
        assert_eq!(cutter.wanted(), 0);
    }
}
