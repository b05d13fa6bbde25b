//! Putting contents together: a method, a header, and as many body frames as it takes.
//!
//! One [`Assembler`] belongs to one channel, on which contents follow one another without mixing. A body that came
//! in one frame is that frame's payload, uncopied; a longer one is joined in a buffer that grows with what arrives,
//! never with what was announced.

use bytes::{Bytes, BytesMut};

use super::{
    fault::Fault,
    hot::{self, ContentHeader, Deliver, GetOk, ReturnHead},
};

/// Body frames without a single octet that one content may have.
pub const EMPTY_FRAMES: u32 = 64;

/// The most that is allocated on a peer's word.
const ANNOUNCED: u64 = 1 << 20;

/// The method that a content came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentMethod {
    /// `basic.deliver`
    Deliver(Deliver),
    /// `basic.get-ok`
    GetOk(GetOk),
    /// `basic.return`
    Return(ReturnHead),
}

/// A whole content.
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
#[derive(Debug)]
pub struct Assembler {
    body_limit: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Header { method: ContentMethod, payload: Bytes },
    Body { method: ContentMethod, payload: Bytes, header: ContentHeader, body: Body },
}

impl Assembler {
    /// Starts idle; a content whose header announces more than `body_limit` is refused.
    pub fn new(body_limit: u64) -> Self {
        Self { body_limit, stage: Stage::Idle }
    }

    /// Whether no content is under way.
    #[inline]
    pub fn idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// A method that carries content arrived.
    #[inline]
    pub fn begin(&mut self, method: ContentMethod, payload: Bytes) -> Result<(), Fault> {
        if !self.idle() {
            return Err(Fault::unexpected("method within a content").with_method(hot::BASIC, method.id()));
        }
        self.stage = Stage::Header { method, payload };
        Ok(())
    }

    /// A header frame arrived; a body of no size is whole at once.
    #[inline]
    pub fn header(&mut self, payload: &Bytes) -> Result<Option<Content>, Fault> {
        let Stage::Header { method, payload: method_payload } = self.take() else {
            return Err(Fault::unexpected("content header without a method"));
        };
        let id = method.id();
        let header = hot::parse_header(payload).map_err(|fault| fault.with_method(hot::BASIC, id))?;
        if header.body_size > self.body_limit {
            let text = format!("body of {} octets over the limit of {}", header.body_size, self.body_limit);
            return Err(Fault::resource(text).with_method(hot::BASIC, id));
        }
        if header.body_size == 0 {
            return Ok(Some(Content { method, payload: method_payload, header, body: Bytes::new() }));
        }
        self.stage = Stage::Body { method, payload: method_payload, header, body: Body::default() };
        Ok(None)
    }

    /// A body frame arrived.
    #[inline]
    pub fn body(&mut self, payload: Bytes) -> Result<Option<Content>, Fault> {
        let Stage::Body { method, payload: method_payload, header, mut body } = self.take() else {
            return Err(Fault::unexpected("content body without a header"));
        };
        match body.append(payload, header.body_size) {
            Ok(None) => {
                self.stage = Stage::Body { method, payload: method_payload, header, body };
                Ok(None)
            }
            Ok(Some(body)) => Ok(Some(Content { method, payload: method_payload, header, body })),
            Err(fault) => Err(fault.with_method(hot::BASIC, method.id())),
        }
    }

    /// Forgets a content that is under way.
    pub fn reset(&mut self) {
        self.stage = Stage::Idle;
    }

    #[inline]
    fn take(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Idle)
    }
}

impl ContentMethod {
    /// Method id within `basic`.
    pub fn id(&self) -> u16 {
        match self {
            Self::Deliver(_) => 60,
            Self::GetOk(_) => 71,
            Self::Return(_) => 50,
        }
    }
}

/// As much of a body as has arrived.
#[derive(Debug, Default)]
struct Body {
    /// The first frame, until a second one comes.
    first: Bytes,
    joined: BytesMut,
    empty_frames: u32,
}

impl Body {
    #[inline]
    fn append(&mut self, piece: Bytes, size: u64) -> Result<Option<Bytes>, Fault> {
        if piece.is_empty() {
            self.empty_frames += 1;
            if self.empty_frames > EMPTY_FRAMES {
                return Err(Fault::unexpected(format!("more than {EMPTY_FRAMES} empty body frames")));
            }
            return Ok(None);
        }
        let have = self.first.len() + self.joined.len();
        let total = (have + piece.len()) as u64;
        if total > size {
            return Err(Fault::unexpected(format!("body of {total} octets where {size} were announced")));
        }
        if have == 0 {
            self.first = piece;
        } else {
            self.join(&piece, size);
        }
        if total < size {
            return Ok(None);
        }
        if self.joined.is_empty() {
            return Ok(Some(std::mem::take(&mut self.first)));
        }
        Ok(Some(std::mem::take(&mut self.joined).freeze()))
    }

    fn join(&mut self, piece: &Bytes, size: u64) {
        if self.joined.is_empty() {
            let first = std::mem::take(&mut self.first);
            let announced = usize::try_from(size.min(ANNOUNCED)).unwrap_or_default();
            self.joined.reserve(announced.max(first.len() + piece.len()));
            self.joined.extend_from_slice(&first);
        }
        self.joined.extend_from_slice(piece);
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
