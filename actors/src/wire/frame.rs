//! Frames and batches of frames.
//!
//! ```text
//!  0      1         3             7                  size+7      size+8
//!  +------+---------+-------------+---------------------+-----------+
//!  | type | channel |    size     |  payload            | end = CE  |
//!  +------+---------+-------------+---------------------+-----------+
//! ```
//!
//! A [`FrameBatch`] holds consecutive frames of one channel as a single view of the read buffer. The decoder
//! in `frame_decoder.rs` checks frames; the iterators here read frames that were checked.

use bytes::{Buf, Bytes};

/// The octet that ends every frame.
pub const FRAME_END: u8 = 0xCE;
/// The number of octets of a frame around its payload.
pub const FRAME_OVERHEAD: usize = 8;
/// The number of octets of a frame before its payload: type, channel, size.
pub const HEAD_LEN: usize = 7;
/// The smallest `frame_max` that a peer may negotiate.
pub const FRAME_MIN_SIZE: u32 = 4096;

/// The octet of [`FrameKind::Method`].
pub(super) const METHOD: u8 = 1;
/// The octet of [`FrameKind::Header`].
pub(super) const HEADER: u8 = 2;
/// The octet of [`FrameKind::Body`].
pub(super) const BODY: u8 = 3;
/// The octet of [`FrameKind::Heartbeat`].
pub(super) const HEARTBEAT: u8 = 8;

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Type 1: a method and its arguments.
    Method,
    /// Type 2: the size and the properties of a content.
    Header,
    /// Type 3: a part of the body of a content.
    Body,
    /// Type 8: a heartbeat.
    Heartbeat,
}

impl FrameKind {
    #[inline]
    pub(super) fn of(octet: u8) -> Option<Self> {
        match octet {
            METHOD => Some(Self::Method),
            HEADER => Some(Self::Header),
            BODY => Some(Self::Body),
            HEARTBEAT => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// A frame, with its payload as a view of the read buffer.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The type of the frame.
    pub kind: FrameKind,
    /// The channel of the frame, 0 for the connection.
    pub channel: u16,
    /// The octets between the head and the end octet.
    pub payload: Bytes,
}

/// Consecutive complete frames of one channel, checked.
#[derive(Clone, Debug)]
pub struct FrameBatch {
    /// The channel of all frames.
    pub channel: u16,
    /// The frames, heads and end octets included.
    pub bytes: Bytes,
    /// The number of frames.
    pub frames: usize,
}

impl FrameBatch {
    /// Returns an iterator over the frames.
    pub fn iter(&self) -> Frames {
        Frames { bytes: self.bytes.clone() }
    }

    /// Returns an iterator over borrowed frames, which does not touch the reference count of the read buffer.
    /// To keep a payload, call `bytes.slice_ref`.
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

/// An iterator over the frames of a [`FrameBatch`].
#[derive(Clone, Debug)]
pub struct Frames {
    bytes: Bytes,
}

impl Frames {
    /// Returns the bytes of the remaining frames.
    pub(crate) fn rest(self) -> Bytes {
        self.bytes
    }
}

impl Iterator for Frames {
    type Item = Frame;

    #[inline]
    fn next(&mut self) -> Option<Frame> {
        let head = FrameHead::read(&self.bytes)?;
        if self.bytes.len() < head.len {
            return None;
        }
        let kind = FrameKind::of(head.kind)?;
        let payload = self.bytes.slice(HEAD_LEN..head.len - 1);
        self.bytes.advance(head.len);
        Some(Frame { kind, channel: head.channel, payload })
    }
}

/// A frame that borrows its payload from the batch.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// The type of the frame.
    pub kind: FrameKind,
    /// The channel of the frame, 0 for the connection.
    pub channel: u16,
    /// The octets between the head and the end octet.
    pub payload: &'a [u8],
}

/// An iterator over borrowed frames.
#[derive(Clone, Debug)]
pub struct FrameViews<'a> {
    bytes: &'a [u8],
}

impl<'a> FrameViews<'a> {
    /// Creates an iterator over the frames in `bytes`, which must have been checked by the decoder.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Returns the number of bytes of the remaining frames.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a> Iterator for FrameViews<'a> {
    type Item = FrameView<'a>;

    #[inline]
    fn next(&mut self) -> Option<FrameView<'a>> {
        let head = FrameHead::read(self.bytes)?;
        let (frame, rest) = self.bytes.split_at_checked(head.len)?;
        let payload = frame.get(HEAD_LEN..frame.len() - 1)?;
        self.bytes = rest;
        Some(FrameView { kind: FrameKind::of(head.kind)?, channel: head.channel, payload })
    }
}

/// The decoded head of a frame, unchecked.
pub(super) struct FrameHead {
    pub(super) kind: u8,
    pub(super) channel: u16,
    /// Length of the whole frame.
    pub(super) len: usize,
}

impl FrameHead {
    /// Decodes a head, or returns `None` if `bytes` has fewer than [`HEAD_LEN`] octets.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let ([kind, c1, c0, s3, s2, s1, s0], _) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let size = u32::from_be_bytes([*s3, *s2, *s1, *s0]);
        Some(Self {
            kind: *kind,
            channel: u16::from_be_bytes([*c1, *c0]),
            len: usize::try_from(size).unwrap_or(usize::MAX).saturating_add(FRAME_OVERHEAD),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_views_read_the_same() {
        let bytes = Bytes::from_static(b"\x01\0\x01\0\0\0\x01m\xce\x03\0\x01\0\0\0\x01x\xce");
        let batch = FrameBatch { channel: 1, bytes, frames: 2 };
        let frames: Vec<_> = batch.iter().map(|frame| (frame.kind, frame.channel, frame.payload)).collect();
        assert_eq!(frames, [(FrameKind::Method, 1, "m".into()), (FrameKind::Body, 1, "x".into())]);
        let mut views = batch.views();
        let kinds: Vec<_> = views.by_ref().map(|frame| (frame.kind, frame.payload)).collect();
        assert_eq!(kinds, [(FrameKind::Method, &b"m"[..]), (FrameKind::Body, b"x")]);
        assert_eq!(views.remaining(), 0);
    }
}
