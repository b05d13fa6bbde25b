//! Assembly of contents from a method, a header and body frames.
//!
//! An [`Assembler`] belongs to one channel, where the frames of different contents never interleave. A body
//! in one frame is a view of that frame, not a copy. A longer body is joined in a buffer that grows with what
//! arrives, not with the size that the header announces.

use bytes::{Bytes, BytesMut};

use super::{
    basic_decode::{ContentHeader, Deliver, GetOk, ReturnHead, parse_header},
    basic_ids::{BASIC, DELIVER, GET_OK, RETURN},
    fault::Fault,
};

/// The highest number of empty body frames in one content.
pub const EMPTY_FRAMES: u32 = 64;

/// The highest number of octets that are allocated before they arrive.
const PREALLOCATED: u64 = 1 << 20;

/// The method that a content belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentMethod {
    /// `basic.deliver`
    Deliver(Deliver),
    /// `basic.get-ok`
    GetOk(GetOk),
    /// `basic.return`
    Return(ReturnHead),
}

/// A complete content.
#[derive(Clone, Debug)]
pub struct AssembledContent {
    /// The method.
    pub method: ContentMethod,
    /// The payload of the method frame, which the spans of `method` refer to.
    pub payload: Bytes,
    /// The body size and the encoded properties.
    pub header: ContentHeader,
    /// The body, whose length is the body size.
    pub body: Bytes,
}

/// Assembles the contents of one channel.
///
/// The parts are fields that stay in place: moving them between the variants of an enum would cost more than
/// the rest of the assembly.
#[derive(Debug)]
pub struct Assembler {
    body_limit: u64,
    expected: ExpectedFrame,
    method: Option<ContentMethod>,
    payload: Bytes,
    header: ContentHeader,
    body: PartialBody,
    /// The consumer tag of a delivery that failed.
    failed: Option<Bytes>,
}

/// The frame that has to come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExpectedFrame {
    Method,
    Header,
    Body,
}

impl Assembler {
    /// Creates an idle assembler that refuses bodies larger than `body_limit` octets.
    pub fn new(body_limit: u64) -> Self {
        Self {
            body_limit,
            expected: ExpectedFrame::Method,
            method: None,
            payload: Bytes::new(),
            header: ContentHeader { body_size: 0, properties: Bytes::new() },
            body: PartialBody::default(),
            failed: None,
        }
    }

    /// Returns the size of the largest body that is accepted, in octets.
    pub fn body_limit(&self) -> u64 {
        self.body_limit
    }

    /// Returns whether no content has been started.
    #[inline]
    pub fn idle(&self) -> bool {
        self.expected == ExpectedFrame::Method
    }

    /// Starts a content with its method.
    ///
    /// # Errors
    /// [`Fault`] with 505 if another content is incomplete.
    #[inline]
    pub fn begin(&mut self, method: ContentMethod, payload: Bytes) -> Result<(), Fault> {
        if !self.idle() {
            return Err(Fault::unexpected("method within a content").with_method(BASIC, method.id()));
        }
        self.method = Some(method);
        self.payload = payload;
        self.expected = ExpectedFrame::Header;
        Ok(())
    }

    /// Adds a header frame. Returns the content if its body is empty.
    ///
    /// # Errors
    /// [`Fault`] for a header that is out of order, is cut short, or announces a body over the limit.
    #[inline]
    pub fn header(&mut self, payload: &Bytes) -> Result<Option<AssembledContent>, Fault> {
        if self.expected != ExpectedFrame::Header {
            return Err(self.fail(Fault::unexpected("content header without a method")));
        }
        self.header = match parse_header(payload) {
            Ok(header) => header,
            Err(fault) => return Err(self.fail(fault)),
        };
        let size = self.header.body_size;
        if size > self.body_limit {
            let text = format!("body of {size} octets over the limit of {}", self.body_limit);
            return Err(self.fail(Fault::resource(text)));
        }
        if size == 0 {
            return Ok(self.complete(Bytes::new()));
        }
        self.expected = ExpectedFrame::Body;
        Ok(None)
    }

    /// Adds a body frame. Returns the content if this is its last frame.
    ///
    /// # Errors
    /// [`Fault`] for a body frame that is out of order, exceeds the announced size, or is one empty frame too
    /// many.
    #[inline]
    pub fn body(&mut self, payload: Bytes) -> Result<Option<AssembledContent>, Fault> {
        if self.expected != ExpectedFrame::Body {
            return Err(self.fail(Fault::unexpected("content body without a header")));
        }
        let size = self.header.body_size;
        if self.body.is_empty() && payload.len() as u64 == size {
            return Ok(self.complete(payload));
        }
        match self.body.append(&payload, size) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let body = self.body.take();
                Ok(self.complete(body))
            }
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Returns the consumer tag of the delivery that is incomplete, or that failed.
    pub fn unfinished_delivery(&self) -> Option<Bytes> {
        match &self.method {
            Some(ContentMethod::Deliver(head)) if !self.idle() => {
                Some(Bytes::copy_from_slice(head.consumer_tag.of(&self.payload)))
            }
            _ => self.failed.clone(),
        }
    }

    /// Discards an incomplete content.
    pub fn reset(&mut self) {
        *self = Self::new(self.body_limit);
    }

    #[inline]
    fn complete(&mut self, body: Bytes) -> Option<AssembledContent> {
        self.expected = ExpectedFrame::Method;
        self.body.empty_frames = 0;
        Some(AssembledContent {
            method: self.method.take()?,
            payload: std::mem::take(&mut self.payload),
            header: ContentHeader {
                body_size: self.header.body_size,
                properties: std::mem::take(&mut self.header.properties),
            },
            body,
        })
    }

    #[cold]
    fn fail(&mut self, fault: Fault) -> Fault {
        let method = self.method.as_ref().map(ContentMethod::id);
        let failed = self.unfinished_delivery();
        self.reset();
        self.failed = failed;
        match method {
            Some(id) => fault.with_method(BASIC, id),
            None => fault,
        }
    }
}

impl ContentMethod {
    /// Returns the method id within `basic`.
    pub fn id(&self) -> u16 {
        match self {
            Self::Deliver(_) => DELIVER,
            Self::GetOk(_) => GET_OK,
            Self::Return(_) => RETURN,
        }
    }
}

/// The octets received so far of a body in more than one frame.
#[derive(Debug, Default)]
struct PartialBody {
    joined: BytesMut,
    empty_frames: u32,
}

impl PartialBody {
    #[inline]
    fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.joined).freeze()
    }

    /// Appends a part and returns whether the body is complete.
    fn append(&mut self, part: &[u8], size: u64) -> Result<bool, Fault> {
        if part.is_empty() {
            self.empty_frames += 1;
            if self.empty_frames > EMPTY_FRAMES {
                return Err(Fault::unexpected(format!("more than {EMPTY_FRAMES} empty body frames")));
            }
            return Ok(false);
        }
        let total = (self.joined.len() + part.len()) as u64;
        if total > size {
            return Err(Fault::unexpected(format!("body of {total} octets where {size} were announced")));
        }
        if self.joined.is_empty() {
            let len = usize::try_from(size.min(PREALLOCATED)).unwrap_or_default();
            self.joined.reserve(len.max(part.len()));
        }
        self.joined.extend_from_slice(part);
        Ok(total == size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started() -> Assembler {
        let mut assembler = Assembler::new(1 << 20);
        assembler.begin(method(), Bytes::new()).unwrap();
        assembler
    }

    fn method() -> ContentMethod {
        ContentMethod::Deliver(Deliver {
            delivery_tag: 1,
            redelivered: false,
            consumer_tag: Default::default(),
            exchange: Default::default(),
            routing_key: Default::default(),
        })
    }

    fn header(size: u64) -> Bytes {
        let mut payload = vec![0, 60, 0, 0];
        payload.extend(size.to_be_bytes());
        payload.extend([0, 0]);
        payload.into()
    }

    #[test]
    fn a_body_of_one_frame_is_not_copied() {
        let mut assembler = started();
        assert!(assembler.header(&header(4)).unwrap().is_none());
        let frame = Bytes::from(b"body".to_vec());
        let content = assembler.body(frame.clone()).unwrap().unwrap();
        assert_eq!(content.body.as_ptr(), frame.as_ptr());
        assert!(assembler.idle());
    }

    /// PRO-10
    #[test]
    fn a_body_of_many_frames_is_joined() {
        let mut assembler = started();
        assembler.header(&header(5)).unwrap();
        for piece in ["", "a", "", "b", "c", "d"] {
            assert!(assembler.body(piece.into()).unwrap().is_none());
        }
        assert_eq!(assembler.body("e".into()).unwrap().unwrap().body, "abcde");
    }

    #[test]
    fn an_empty_body_has_no_frames() {
        let mut assembler = started();
        assert!(assembler.header(&header(0)).unwrap().unwrap().body.is_empty());
        assert_eq!(assembler.body("x".into()).unwrap_err().code, 505);
    }

    /// PRO-01
    #[test]
    fn frames_out_of_order_are_refused() {
        let mut idle = Assembler::new(9);
        assert_eq!(idle.header(&header(1)).unwrap_err().code, 505);
        assert_eq!(idle.body("x".into()).unwrap_err().code, 505);
        assert_eq!(started().body("x".into()).unwrap_err().code, 505);
        assert_eq!(started().begin(method(), Bytes::new()).unwrap_err().code, 505);
        let mut twice = started();
        twice.header(&header(1)).unwrap();
        assert_eq!(twice.header(&header(1)).unwrap_err().code, 505);
    }

    /// PRO-02
    #[test]
    fn a_body_longer_than_announced_is_refused() {
        let mut assembler = started();
        assembler.header(&header(1)).unwrap();
        let fault = assembler.body("xx".into()).unwrap_err();
        assert_eq!((fault.code, fault.class_id, fault.method_id), (505, 60, 60));
    }

    /// PRO-09
    #[test]
    fn the_limit_applies_to_the_announced_size() {
        assert_eq!(started().header(&header(1 << 63)).unwrap_err().code, 506);
        assert_eq!(started().header(&header((1 << 20) + 1)).unwrap_err().code, 506);
        assert!(started().header(&header(1 << 20)).is_ok());
    }

    #[test]
    fn the_number_of_empty_frames_is_limited() {
        let mut assembler = started();
        assembler.header(&header(1)).unwrap();
        for _ in 0..EMPTY_FRAMES {
            assembler.body(Bytes::new()).unwrap();
        }
        assert_eq!(assembler.body(Bytes::new()).unwrap_err().code, 505);
    }

    #[test]
    fn a_new_content_can_start_after_a_reset() {
        let mut assembler = started();
        assembler.reset();
        assert!(assembler.begin(method(), Bytes::new()).is_ok());
    }
}
