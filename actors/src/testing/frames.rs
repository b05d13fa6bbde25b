//! [`RawFrame`]: kind, channel, payload. Nothing is checked, so that a test can build wrong frames.

use std::fmt;

use amq_protocol::{
    frame::{WriteContext, parsing::parse_content_header},
    protocol::{AMQPClass, BasicProperties, basic::gen_properties, constants, gen_class, parse_class},
};

use super::method::{self, Method};

/// One frame, received from the client or built by a test. Nothing is checked.
///
/// ```text
/// 0      1         3             7                  size+7 size+8
/// +------+---------+-------------+  +------------+  +-----------+
/// | kind | channel |     size    |  |  payload   |  | 0xCE      |
/// +------+---------+-------------+  +------------+  +-----------+
/// ```
/// Source: AMQP 0-9-1 section 4.2.3
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::RawFrame;
/// assert_eq!(RawFrame::heartbeat().to_bytes(), [8, 0, 0, 0, 0, 0, 0, 0xce]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// The kind: 1 method, 2 content header, 3 content body, 8 heartbeat.
    pub kind: u8,
    /// The channel number, 0 for the connection.
    pub channel: u16,
    /// The bytes between the length and the end octet.
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// The kind of a method frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// assert_eq!(RawFrame::METHOD, 1);
    /// ```
    pub const METHOD: u8 = constants::FRAME_METHOD;
    /// The kind of a content header frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// assert_eq!(RawFrame::HEADER, 2);
    /// ```
    pub const HEADER: u8 = constants::FRAME_HEADER;
    /// The kind of a content body frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// assert_eq!(RawFrame::BODY, 3);
    /// ```
    pub const BODY: u8 = constants::FRAME_BODY;
    /// The kind of a heartbeat.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// assert_eq!(RawFrame::HEARTBEAT, 8);
    /// ```
    pub const HEARTBEAT: u8 = constants::FRAME_HEARTBEAT;

    /// Builds a frame of any kind.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// let unknown = RawFrame::new(99, 1, *b"?");
    /// ```
    pub fn new(kind: u8, channel: u16, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, channel, payload: payload.into() }
    }

    /// Builds a method frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{RawFrame, protocol::channel};
    /// assert!(RawFrame::method(1, channel::Open::default()).is::<channel::Open>());
    /// ```
    pub fn method<M: Method>(channel: u16, method: M) -> Self {
        Self::new(Self::METHOD, channel, encode(&method.into_class()))
    }

    /// Builds a content header frame of class `basic` that announces `size` bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{RawFrame, protocol::BasicProperties};
    /// let header = RawFrame::header(1, 5, &BasicProperties::default());
    /// ```
    pub fn header(channel: u16, size: u64, properties: &BasicProperties) -> Self {
        Self::raw_header(channel, size, &encode_properties(properties))
    }

    /// Builds a content header frame whose property flags and values are given as bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// let header = RawFrame::raw_header(1, 5, &[0, 0]);
    /// ```
    pub fn raw_header(channel: u16, size: u64, properties: &[u8]) -> Self {
        let mut payload = vec![0, 60, 0, 0]; // class basic, weight
        payload.extend(size.to_be_bytes());
        payload.extend(properties);
        Self::new(Self::HEADER, channel, payload)
    }

    /// Builds a content body frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// assert_eq!(RawFrame::body(1, *b"hello").payload, b"hello");
    /// ```
    pub fn body(channel: u16, part: impl Into<Vec<u8>>) -> Self {
        Self::new(Self::BODY, channel, part)
    }

    /// Builds a heartbeat.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// assert!(RawFrame::heartbeat().is_heartbeat());
    /// ```
    pub fn heartbeat() -> Self {
        Self::new(Self::HEARTBEAT, 0, [])
    }

    /// Returns the bytes of the whole frame, header and end octet included.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// assert_eq!(RawFrame::body(1, *b"x").to_bytes(), [3, 0, 1, 0, 0, 0, 1, b'x', 0xce]);
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 8);
        bytes.push(self.kind);
        bytes.extend(self.channel.to_be_bytes());
        bytes.extend((self.payload.len() as u32).to_be_bytes());
        bytes.extend(&self.payload);
        bytes.push(constants::FRAME_END);
        bytes
    }

    /// Decodes the method; `None` if this is not a method frame, is malformed, or has bytes left over.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{RawFrame, protocol::channel};
    /// assert!(RawFrame::method(1, channel::Open::default()).class().is_some());
    /// assert!(RawFrame::body(1, *b"x").class().is_none());
    /// ```
    pub fn class(&self) -> Option<AMQPClass> {
        if self.kind != Self::METHOD {
            return None;
        }
        parse_class(&self.payload[..]).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, class)| class)
    }

    /// Returns whether it is a correct heartbeat: on channel 0, without a payload.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::RawFrame;
    /// assert!(!RawFrame::new(RawFrame::HEARTBEAT, 1, []).is_heartbeat());
    /// ```
    pub fn is_heartbeat(&self) -> bool {
        self.kind == Self::HEARTBEAT && self.channel == 0 && self.payload.is_empty()
    }

    /// Returns whether it is the method `M`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{RawFrame, protocol::{channel, queue}};
    /// assert!(!RawFrame::method(1, channel::Open::default()).is::<queue::Declare>());
    /// ```
    pub fn is<M: Method>(&self) -> bool {
        self.class().is_some_and(|class| method::name(&class) == M::NAME)
    }
}

/// Describes the frame, without bodies and credentials.
impl fmt::Display for RawFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channel, size) = (self.channel, self.payload.len());
        match (self.kind, self.class()) {
            (_, Some(class)) => write!(f, "{} on channel {channel}", method::describe(&class)),
            (Self::METHOD, None) => {
                write!(f, "an unreadable method frame of {size} bytes on channel {channel}")
            }
            (Self::HEADER, _) => match self.payload.get(4..12) {
                Some(&[a, b, c, d, e, g, h, i]) => {
                    let body = u64::from_be_bytes([a, b, c, d, e, g, h, i]);
                    write!(f, "a content header on channel {channel} announcing {body} bytes")
                }
                _ => write!(f, "a content header of only {size} bytes on channel {channel}"),
            },
            (Self::BODY, _) => write!(f, "a content body of {size} bytes on channel {channel}"),
            (Self::HEARTBEAT, _) if self.is_heartbeat() => write!(f, "a heartbeat"),
            (Self::HEARTBEAT, _) => write!(f, "a heartbeat of {size} bytes on channel {channel}"),
            (kind, _) => write!(f, "a frame of kind {kind} with {size} bytes on channel {channel}"),
        }
    }
}

/// The parts of a content header. The properties are decoded, and kept as bytes.
#[derive(Debug)]
pub(super) struct HeaderParts {
    pub(super) size: u64,
    pub(super) raw_properties: Vec<u8>,
    pub(super) properties: BasicProperties,
}

/// Decodes a content header of class `basic` with weight 0; `None` for any other frame.
pub(super) fn parse_header(frame: &RawFrame) -> Option<HeaderParts> {
    if frame.kind != RawFrame::HEADER {
        return None;
    }
    let (rest, header) = parse_content_header(&frame.payload[..]).ok()?;
    let weightless = frame.payload[2..4] == [0, 0];
    (rest.is_empty() && header.class_id == 60 && weightless).then(|| HeaderParts {
        size: header.body_size,
        raw_properties: frame.payload[12..].to_vec(),
        properties: header.properties,
    })
}

/// Encodes the payload of a method frame. Into a `Vec`, which grows: the generator panics at the end of a
/// slice.
fn encode(class: &AMQPClass) -> Vec<u8> {
    let written = gen_class(class)(WriteContext::from(Vec::new()));
    written.expect("a Vec takes all bytes").into_inner().0
}

/// Encodes the property flags and values of a content header.
pub(super) fn encode_properties(properties: &BasicProperties) -> Vec<u8> {
    let written = gen_properties(properties)(WriteContext::from(Vec::new()));
    written.expect("a Vec takes all bytes").into_inner().0
}

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::{basic, queue};

    use super::*;

    #[test]
    fn an_ack_is_encoded_in_21_bytes() {
        let frame = RawFrame::method(3, basic::Ack { delivery_tag: 258, multiple: true });
        let bytes = [1, 0, 3, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 1, 2, 1, 0xCE];
        assert_eq!(frame.to_bytes(), bytes);
        assert!(frame.is::<basic::Ack>() && !frame.is::<basic::Nack>());
        assert_eq!(frame.to_string(), "basic.ack on channel 3");
    }

    #[test]
    fn a_method_with_bytes_left_over_is_not_decoded() {
        let mut frame = RawFrame::method(1, queue::BindOk {});
        assert!(frame.class().is_some());
        frame.payload.push(0);
        assert_eq!(frame.class(), None);
    }

    #[test]
    fn a_content_header_keeps_its_properties_as_bytes() {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let parts = parse_header(&RawFrame::header(1, 7, &properties)).expect("a header");
        assert_eq!((parts.size, parts.raw_properties), (7, vec![0x10, 0, 2]));
        assert_eq!(parts.properties, properties);
    }
}
