//! Assembly of contents from a method, a header and body frames.
//!
//! An [`Assembler`] belongs to one channel, where the frames of different contents never interleave. A body
//! in one frame is a view of that frame, not a copy. A longer body is joined in a buffer that grows with what
//! arrives, not with the size that the header announces ([`partial_body`](super::partial_body)). A body over a
//! limit is skipped: its frames are counted and dropped, and the next content is read as ever.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    basic_decode::{ContentHeader, Deliver, GetOk, ReturnHead, parse_header},
    basic_ids::{BASIC, DELIVER, GET_OK, RETURN},
    fault::Fault,
    partial_body::{BodyPart, PartialBodies, PartialBody, SkippedBody},
};

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

/// A content whose frames have all arrived.
#[derive(Clone, Debug)]
pub struct AssembledContent {
    /// The method.
    pub method: ContentMethod,
    /// The payload of the method frame, which the spans of `method` refer to.
    pub payload: Bytes,
    /// The body size and the encoded properties.
    pub header: ContentHeader,
    /// The body, whose length is the body size; or why it was skipped.
    pub body: Result<Bytes, SkippedBody>,
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
    detached: Detached,
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

/// What of an incomplete content is a copy, and no view of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detached {
    Nothing,
    Method,
    /// And the method.
    Header,
}

impl Assembler {
    /// Creates an idle assembler that skips bodies larger than `body_limit` octets.
    pub fn new(body_limit: u64) -> Self {
        Self::sharing(body_limit, Arc::new(PartialBodies::new(usize::MAX)))
    }

    /// Creates an idle assembler that shares a limit of incomplete bodies with the other channels of its
    /// connection.
    pub fn sharing(body_limit: u64, bodies: Arc<PartialBodies>) -> Self {
        Self {
            body_limit,
            expected: ExpectedFrame::Method,
            method: None,
            payload: Bytes::new(),
            header: ContentHeader { body_size: 0, properties: Bytes::new() },
            body: PartialBody::new(bodies),
            detached: Detached::Nothing,
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
    /// [`Fault`] for a header that is out of order or is cut short.
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
        if size == 0 {
            return Ok(self.complete(Ok(Bytes::new())));
        }
        if size > self.body_limit {
            self.body.skip(SkippedBody::TooLarge { size, limit: self.body_limit });
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
        if payload.len() as u64 == size && self.body.is_unstarted() {
            return Ok(self.complete(Ok(payload)));
        }
        match self.body.append(&payload, size) {
            Ok(BodyPart::More) => {
                // A joined body keeps no block.
                self.copy_head();
                Ok(None)
            }
            Ok(BodyPart::Last(body)) => Ok(self.complete(body)),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Copies what an incomplete content keeps of the block that was read, so that it does not keep all of it.
    #[inline]
    pub fn detach(&mut self) {
        if !self.idle() {
            self.copy_head();
        }
    }

    #[cold]
    fn copy_head(&mut self) {
        if self.detached == Detached::Nothing {
            self.payload = Bytes::copy_from_slice(&self.payload);
            self.detached = Detached::Method;
        }
        if self.detached == Detached::Method && self.expected == ExpectedFrame::Body {
            self.header.properties = Bytes::copy_from_slice(&self.header.properties);
            self.detached = Detached::Header;
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
        *self = Self::sharing(self.body_limit, self.body.shared().clone());
    }

    #[inline]
    fn complete(&mut self, body: Result<Bytes, SkippedBody>) -> Option<AssembledContent> {
        self.expected = ExpectedFrame::Method;
        self.body.restart();
        self.detached = Detached::Nothing;
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

#[cfg(test)]
mod tests {
    use super::{super::partial_body::EMPTY_FRAMES, *};

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
        assert_eq!(content.body.unwrap().as_ptr(), frame.as_ptr());
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
        assert_eq!(assembler.body("e".into()).unwrap().unwrap().body.unwrap(), "abcde");
    }

    #[test]
    fn an_empty_body_has_no_frames() {
        let mut assembler = started();
        assert!(assembler.header(&header(0)).unwrap().unwrap().body.unwrap().is_empty());
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
    fn a_body_over_the_limit_is_skipped() {
        for size in [(1 << 20) + 1, 1 << 63] {
            let mut assembler = started();
            assert!(assembler.header(&header(size)).unwrap().is_none());
            assert!(assembler.body(vec![0; 1 << 20].into()).unwrap().is_none());
            if size == (1 << 20) + 1 {
                let content = assembler.body("x".into()).unwrap().unwrap();
                assert_eq!(content.body.unwrap_err(), SkippedBody::TooLarge { size, limit: 1 << 20 });
                assert!(assembler.idle());
                assembler.begin(method(), Bytes::new()).unwrap();
                assembler.header(&header(1)).unwrap();
                assert_eq!(assembler.body("x".into()).unwrap().unwrap().body.unwrap(), "x");
            }
        }
        let mut assembler = started();
        assembler.header(&header((1 << 20) + 1)).unwrap();
        let one_frame = assembler.body(vec![0; (1 << 20) + 1].into()).unwrap().unwrap();
        assert!(one_frame.body.is_err());
    }

    #[test]
    fn frames_of_a_skipped_body_are_counted() {
        let mut assembler = started();
        assembler.header(&header((1 << 20) + 1)).unwrap();
        assembler.body(vec![0; 1 << 20].into()).unwrap();
        assert_eq!(assembler.begin(method(), Bytes::new()).unwrap_err().code, 505);
        let mut assembler = started();
        assembler.header(&header((1 << 20) + 1)).unwrap();
        assembler.body(vec![0; 1 << 20].into()).unwrap();
        assert_eq!(assembler.body("xx".into()).unwrap_err().code, 505);
        assert!(assembler.idle());
    }

    #[test]
    fn an_incomplete_content_keeps_no_block_once_detached() {
        let mut assembler = Assembler::new(1 << 20);
        let block = Bytes::from(vec![7; 1000]);
        assembler.begin(method(), block.slice(0..10)).unwrap();
        assembler.detach();
        assert!(block.is_unique());
        let headers: Bytes = [&header(4)[..], &block].concat().into();
        assembler.header(&headers).unwrap();
        assembler.detach();
        assert!(headers.is_unique());
        assembler.body("bo".into()).unwrap();
        let content = assembler.body("dy".into()).unwrap().unwrap();
        assert_eq!(content.payload, block[..10]);
        assert_eq!(content.header.properties, [&[0, 0][..], &block].concat());
        assert_eq!(content.body.unwrap(), "body");
    }

    #[test]
    fn a_content_with_a_joined_body_keeps_no_block() {
        let mut assembler = Assembler::new(1 << 20);
        let block: Bytes = [&[7; 10], &header(4)[..], b"body"].concat().into();
        assembler.begin(method(), block.slice(..10)).unwrap();
        assembler.header(&block.slice(10..24)).unwrap();
        assembler.body(block.slice(24..26)).unwrap();
        let content = assembler.body(block.slice(26..)).unwrap().unwrap();
        assert!(block.is_unique());
        assert_eq!((content.payload, content.body.unwrap()), (vec![7; 10].into(), "body".into()));
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
