//! Putting contents together: a method, a header, and as many body frames as it takes.
//!
//! One [`Assembler`] belongs to one channel, on which contents follow one another without mixing. A body that came
//! in one frame is that frame's payload, uncopied; a longer one is joined in a buffer that grows with what arrives,
//! never with what was announced.

use bytes::{Bytes, BytesMut};

use super::{
    basic_frames::{self, ContentHeader, Deliver, GetOk, ReturnHead},
    fault::Fault,
};

/// Bounds the body frames without a single octet that one content may have.
pub const EMPTY_FRAMES: u32 = 64;

/// The most that is allocated on a peer's word.
const ANNOUNCED: u64 = 1 << 20;

/// Names the method that a content came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentMethod {
    /// `basic.deliver`
    Deliver(Deliver),
    /// `basic.get-ok`
    GetOk(GetOk),
    /// `basic.return`
    Return(ReturnHead),
}

/// Holds a whole content.
#[derive(Clone, Debug)]
pub struct Content {
    /// The method it came with.
    pub method: ContentMethod,
    /// Payload of the method frame; the spans of `method` point into it.
    pub payload: Bytes,
    /// Size and raw properties.
    pub header: ContentHeader,
    /// The body, as long as the header says.
    pub body: Bytes,
}

/// Assembles the contents of one channel.
///
/// Fields in place rather than a state that moves: moving what a content needs between states costs more than all
/// the rest of it.
///
/// # Examples
/// ```
/// # use bytes::{Bytes, BytesMut};
/// # use actix_pika_actors::{Properties, wire::{Assembler, ContentMethod, GetOk, Span, hot}};
/// let ok = GetOk {
///     delivery_tag: 1,
///     redelivered: false,
///     exchange: Span::default(),
///     routing_key: Span::default(),
///     message_count: 0,
/// };
/// let mut frame = BytesMut::new();
/// basic_frames::put_header(&mut frame, 1, 5, &Properties::new());
/// let header = frame.freeze().slice(7..21);
/// let mut assembler = Assembler::new(1024);
/// assembler.begin(ContentMethod::GetOk(ok), Bytes::new())?;
/// assert!(assembler.header(&header)?.is_none());
/// let content = assembler.body(Bytes::from("hello"))?.expect("a whole content");
/// assert_eq!(content.body, "hello");
/// assert!(assembler.idle());
/// # Ok::<(), actix_pika_actors::wire::Fault>(())
/// ```
#[derive(Debug)]
pub struct Assembler {
    body_limit: u64,
    due: Due,
    method: Option<ContentMethod>,
    payload: Bytes,
    header: ContentHeader,
    body: Body,
}

/// The frame that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Method,
    Header,
    Body,
}

impl Assembler {
    /// Starts idle; a content whose header announces more than `body_limit` is refused.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Assembler;
    /// assert!(Assembler::new(1024).idle());
    /// ```
    pub fn new(body_limit: u64) -> Self {
        Self {
            body_limit,
            due: Due::Method,
            method: None,
            payload: Bytes::new(),
            header: ContentHeader { body_size: 0, properties: Bytes::new() },
            body: Body::default(),
        }
    }

    /// Tells the largest body that is taken.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Assembler;
    /// assert_eq!(Assembler::new(1024).body_limit(), 1024);
    /// ```
    pub fn body_limit(&self) -> u64 {
        self.body_limit
    }

    /// Tells whether no content is under way.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Assembler;
    /// assert!(Assembler::new(1024).idle());
    /// ```
    #[inline]
    pub fn idle(&self) -> bool {
        self.due == Due::Method
    }

    /// Takes in a method that carries content.
    ///
    /// # Errors
    /// [`Fault`] with 505 where another content is under way.
    #[inline]
    pub fn begin(&mut self, method: ContentMethod, payload: Bytes) -> Result<(), Fault> {
        if !self.idle() {
            return Err(
                Fault::unexpected("method within a content").with_method(basic_frames::BASIC, method.id())
            );
        }
        self.method = Some(method);
        self.payload = payload;
        self.due = Due::Header;
        Ok(())
    }

    /// Takes in a header frame; a body of no size is whole at once.
    ///
    /// # Errors
    /// [`Fault`] for a header out of its order or cut short, or one that announces more than the limit.
    #[inline]
    pub fn header(&mut self, payload: &Bytes) -> Result<Option<Content>, Fault> {
        if self.due != Due::Header {
            return Err(self.fail(Fault::unexpected("content header without a method")));
        }
        self.header = match basic_frames::parse_header(payload) {
            Ok(header) => header,
            Err(fault) => return Err(self.fail(fault)),
        };
        let size = self.header.body_size;
        if size > self.body_limit {
            let text = format!("body of {size} octets over the limit of {}", self.body_limit);
            return Err(self.fail(Fault::resource(text)));
        }
        if size == 0 {
            return Ok(self.whole(Bytes::new()));
        }
        self.due = Due::Body;
        Ok(None)
    }

    /// Takes in a body frame; the content is whole with the last one.
    ///
    /// # Errors
    /// [`Fault`] for a body frame out of its order, too long, or one empty one too many.
    #[inline]
    pub fn body(&mut self, payload: Bytes) -> Result<Option<Content>, Fault> {
        if self.due != Due::Body {
            return Err(self.fail(Fault::unexpected("content body without a header")));
        }
        let size = self.header.body_size;
        if self.body.is_empty() && payload.len() as u64 == size {
            return Ok(self.whole(payload));
        }
        match self.body.append(&payload, size) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let body = self.body.take();
                Ok(self.whole(body))
            }
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Forgets a content that is under way.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Assembler;
    /// Assembler::new(1024).reset();
    /// ```
    pub fn reset(&mut self) {
        *self = Self::new(self.body_limit);
    }

    #[inline]
    fn whole(&mut self, body: Bytes) -> Option<Content> {
        self.due = Due::Method;
        self.body.empty_frames = 0;
        Some(Content {
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
        self.reset();
        match method {
            Some(id) => fault.with_method(basic_frames::BASIC, id),
            None => fault,
        }
    }
}

impl ContentMethod {
    /// Tells the method id within `basic`.
    pub fn id(&self) -> u16 {
        match self {
            Self::Deliver(_) => 60,
            Self::GetOk(_) => 71,
            Self::Return(_) => 50,
        }
    }
}

/// As much of a body as has arrived, if it came in more than one frame.
#[derive(Debug, Default)]
struct Body {
    joined: BytesMut,
    empty_frames: u32,
}

impl Body {
    #[inline]
    fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.joined).freeze()
    }

    /// Whether it is whole now.
    fn append(&mut self, piece: &[u8], size: u64) -> Result<bool, Fault> {
        if piece.is_empty() {
            self.empty_frames += 1;
            if self.empty_frames > EMPTY_FRAMES {
                return Err(Fault::unexpected(format!("more than {EMPTY_FRAMES} empty body frames")));
            }
            return Ok(false);
        }
        let total = (self.joined.len() + piece.len()) as u64;
        if total > size {
            return Err(Fault::unexpected(format!("body of {total} octets where {size} were announced")));
        }
        if self.joined.is_empty() {
            let announced = usize::try_from(size.min(ANNOUNCED)).unwrap_or_default();
            self.joined.reserve(announced.max(piece.len()));
        }
        self.joined.extend_from_slice(piece);
        Ok(total == size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun() -> Assembler {
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
        let mut assembler = begun();
        assert!(assembler.header(&header(4)).unwrap().is_none());
        let frame = Bytes::from(b"body".to_vec());
        let content = assembler.body(frame.clone()).unwrap().unwrap();
        assert_eq!(content.body.as_ptr(), frame.as_ptr());
        assert!(assembler.idle());
    }

    /// PRO-10
    #[test]
    fn a_body_of_many_frames_is_joined() {
        let mut assembler = begun();
        assembler.header(&header(5)).unwrap();
        for piece in ["", "a", "", "b", "c", "d"] {
            assert!(assembler.body(piece.into()).unwrap().is_none());
        }
        assert_eq!(assembler.body("e".into()).unwrap().unwrap().body, "abcde");
    }

    #[test]
    fn a_body_of_no_size_has_no_frames() {
        let mut assembler = begun();
        assert!(assembler.header(&header(0)).unwrap().unwrap().body.is_empty());
        assert_eq!(assembler.body("x".into()).unwrap_err().code, 505);
    }

    /// PRO-01
    #[test]
    fn frames_out_of_order_are_refused() {
        let mut idle = Assembler::new(9);
        assert_eq!(idle.header(&header(1)).unwrap_err().code, 505);
        assert_eq!(idle.body("x".into()).unwrap_err().code, 505);
        assert_eq!(begun().body("x".into()).unwrap_err().code, 505);
        assert_eq!(begun().begin(method(), Bytes::new()).unwrap_err().code, 505);
        let mut twice = begun();
        twice.header(&header(1)).unwrap();
        assert_eq!(twice.header(&header(1)).unwrap_err().code, 505);
    }

    /// PRO-02
    #[test]
    fn a_body_longer_than_announced_is_refused() {
        let mut assembler = begun();
        assembler.header(&header(1)).unwrap();
        let fault = assembler.body("xx".into()).unwrap_err();
        assert_eq!((fault.code, fault.class_id, fault.method_id), (505, 60, 60));
    }

    /// PRO-09
    #[test]
    fn the_limit_holds_for_what_is_announced() {
        assert_eq!(begun().header(&header(1 << 63)).unwrap_err().code, 506);
        assert_eq!(begun().header(&header((1 << 20) + 1)).unwrap_err().code, 506);
        assert!(begun().header(&header(1 << 20)).is_ok());
    }

    #[test]
    fn empty_frames_are_counted() {
        let mut assembler = begun();
        assembler.header(&header(1)).unwrap();
        for _ in 0..EMPTY_FRAMES {
            assembler.body(Bytes::new()).unwrap();
        }
        assert_eq!(assembler.body(Bytes::new()).unwrap_err().code, 505);
    }

    #[test]
    fn a_reset_makes_room_for_the_next() {
        let mut assembler = begun();
        assembler.reset();
        assert!(assembler.begin(method(), Bytes::new()).is_ok());
    }
}
