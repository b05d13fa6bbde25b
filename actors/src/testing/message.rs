//! Messages in both directions: those that the client publishes, and those that the peer delivers, returns,
//! or sends for `basic.get`.

use bytes::{Bytes, BytesMut};

use super::{
    PeerSocket, RawFrame, TestError,
    frames::{encode_properties, parse_header},
    protocol::{BasicProperties, basic},
};
use crate::{
    error,
    message::Publishing,
    wire::{DecodeError, Properties, decode_properties, put_properties},
};

/// A message from the client: `basic.publish`, its header, and its body.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket};
/// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
/// let publish = socket.expect_publish(1).await?;
/// assert_eq!((publish.exchange.as_str(), publish.routing_key.as_str()), ("", "jobs"));
/// assert_eq!(publish.body, "resize 7.png");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Published {
    /// The exchange, empty for the default one.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Whether the client wants it returned if no queue takes it.
    pub mandatory: bool,
    /// The flag `immediate`, which RabbitMQ refuses.
    pub immediate: bool,
    /// The properties as amq-protocol decodes them; [`decoded`](Self::decoded) returns those of this library.
    pub properties: BasicProperties,
    /// The property flags and values as bytes.
    pub raw_properties: Bytes,
    /// The body.
    pub body: Bytes,
    /// The length of each body frame.
    pub frame_lengths: Vec<usize>,
}

impl Published {
    /// Returns the properties as a consumer gets them, decoded by this library.
    ///
    /// # Errors
    /// `Codec` if they cannot be decoded.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let publish = socket.expect_publish(1).await?;
    /// assert_eq!(publish.decoded().unwrap().content_type(), Some("text/plain"));
    /// # Ok(()) }
    /// ```
    pub fn decoded(&self) -> error::Result<Properties> {
        decode_properties(&self.raw_properties).map_err(|fault| DecodeError::from(fault).into())
    }
}

/// A message to the client, which may be wrong in many ways.
///
/// A [`Publishing`] is a message with that body and these properties from the default exchange, encoded by this
/// library. So is everything that converts to bytes, without properties.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket, PeerMessage};
/// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
/// socket.deliver(1, "ctag", 1, "hello").await?;
/// socket.deliver(1, "ctag", 2, PeerMessage::from("again").published_to("logs", "info").redelivered(true)).await?;
/// // The header announces more bytes than follow, in frames of one byte.
/// socket.deliver(1, "ctag", 3, PeerMessage::from("short").announced_size(1 << 63).body_frame_size(1)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerMessage {
    exchange: String,
    routing_key: String,
    redelivered: bool,
    properties: Option<Vec<u8>>,
    body: Bytes,
    announced: Option<u64>,
    cut: Option<usize>,
}

impl PeerMessage {
    /// Sets the exchange and the routing key with which it was published.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerMessage;
    /// let message = PeerMessage::from("hello").published_to("logs", "info");
    /// ```
    #[must_use]
    pub fn published_to(mut self, exchange: &str, routing_key: &str) -> Self {
        (self.exchange, self.routing_key) = (exchange.to_owned(), routing_key.to_owned());
        self
    }

    /// Sets whether it is marked as redelivered. Off by default.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerMessage;
    /// let message = PeerMessage::from("again").redelivered(true);
    /// ```
    #[must_use]
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Sets the properties.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{PeerMessage, protocol::BasicProperties};
    /// let message = PeerMessage::from("x").properties(&BasicProperties::default().with_priority(5));
    /// ```
    #[must_use]
    pub fn properties(self, properties: &BasicProperties) -> Self {
        self.raw_properties(encode_properties(properties))
    }

    /// Sets property flags and values as bytes, which need not be correct.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerMessage;
    /// let message = PeerMessage::from("x").raw_properties([0xff, 0xff]); // flags without values
    /// ```
    #[must_use]
    pub fn raw_properties(mut self, properties: impl Into<Vec<u8>>) -> Self {
        self.properties = Some(properties.into());
        self
    }

    /// Sets the body size in the header to another one than the body has.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerMessage;
    /// let message = PeerMessage::from("short").announced_size(1 << 63);
    /// ```
    #[must_use]
    pub fn announced_size(mut self, size: u64) -> Self {
        self.announced = Some(size);
        self
    }

    /// Sets the number of body bytes in each frame, at least 1. By default it follows from the negotiated
    /// `frame_max`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerMessage;
    /// assert_eq!(PeerMessage::from("abc").body_frame_size(1).frames(1, 4096).len(), 4);
    /// ```
    #[must_use]
    pub fn body_frame_size(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes.max(1));
        self
    }

    /// Returns the content header and body frames, without the method before them.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{PeerMessage, RawFrame};
    /// let frames = PeerMessage::from("hello").frames(1, 4096);
    /// assert_eq!((frames.len(), frames[0].kind, frames[1].kind), (2, RawFrame::HEADER, RawFrame::BODY));
    /// ```
    pub fn frames(&self, channel: u16, frame_max: u32) -> Vec<RawFrame> {
        let properties = self.properties.as_deref().unwrap_or(&[0, 0]);
        let size = self.announced.unwrap_or(self.body.len() as u64);
        let cut = self.cut.unwrap_or((frame_max as usize).saturating_sub(8).max(1));
        let header = RawFrame::raw_header(channel, size, properties);
        let parts = self.body.chunks(cut).map(|part| RawFrame::body(channel, part));
        std::iter::once(header).chain(parts).collect()
    }
}

impl From<Publishing> for PeerMessage {
    fn from(message: Publishing) -> Self {
        let mut properties = BytesMut::new();
        put_properties(&mut properties, &message.properties);
        Self { properties: Some(properties.into()), body: message.body, ..Self::default() }
    }
}

impl<T: Into<Bytes>> From<T> for PeerMessage {
    fn from(body: T) -> Self {
        Self { body: body.into(), ..Self::default() }
    }
}

impl PeerSocket {
    /// Waits for a whole message on a channel: `basic.publish`, its header, and its body.
    ///
    /// # Errors
    /// The same as [`expect`](Self::expect). Besides, [`Unexpected`](super::TestErrorKind::Unexpected) for a
    /// header that is not of class `basic`, has a weight, or malformed properties; for a body longer than
    /// announced; and for an empty body frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let publish = socket.expect_publish(1).await?;
    /// socket.confirm(1, 1, false).await?;
    /// # Ok(()) }
    /// ```
    pub async fn expect_publish(&mut self, channel: u16) -> Result<Published, TestError> {
        let publish: basic::Publish = self.expect(channel).await?;
        let awaited = format!("the content header of a publish on channel {channel}");
        let frame = self.frame_on(channel, &awaited).await?;
        let header = parse_header(&frame).ok_or_else(|| self.unexpected(&awaited, &frame))?;

        let (mut body, mut frame_lengths) = (Vec::new(), Vec::new());
        while (body.len() as u64) < header.size {
            let rest = header.size - body.len() as u64;
            let awaited = format!("a body frame of 1 to {rest} bytes on channel {channel}");
            let frame = self.frame_on(channel, &awaited).await?;
            let length = frame.payload.len();
            if frame.kind != RawFrame::BODY || length == 0 || length as u64 > rest {
                return Err(self.unexpected(&awaited, &frame));
            }
            frame_lengths.push(length);
            body.extend(frame.payload);
        }
        Ok(Published {
            exchange: publish.exchange.into(),
            routing_key: publish.routing_key.into(),
            mandatory: publish.mandatory,
            immediate: publish.immediate,
            properties: header.properties,
            raw_properties: header.raw_properties.into(),
            body: body.into(),
            frame_lengths,
        })
    }

    /// Sends a message to a consumer with `basic.deliver`.
    ///
    /// # Errors
    /// [`Disconnected`](super::TestErrorKind::Disconnected) when the client has closed the connection,
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when it does not read.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.deliver(1, "ctag", 1, "hello").await?;
    /// # Ok(()) }
    /// ```
    pub async fn deliver(
        &mut self,
        channel: u16,
        consumer_tag: &str,
        delivery_tag: u64,
        message: impl Into<PeerMessage>,
    ) -> Result<(), TestError> {
        let message = message.into();
        let method = basic::Deliver {
            consumer_tag: consumer_tag.into(),
            delivery_tag,
            redelivered: message.redelivered,
            exchange: message.exchange.as_str().into(),
            routing_key: message.routing_key.as_str().into(),
        };
        self.send_message(RawFrame::method(channel, method), &message).await
    }

    /// Sends a message with `basic.get-ok`, the reply to `basic.get`. `message_count` is the number of
    /// messages left in the queue.
    ///
    /// # Errors
    /// The same as [`deliver`](Self::deliver).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, protocol::basic};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.expect::<basic::Get>(1).await?;
    /// socket.get_ok(1, 1, 0, "the last one").await?;
    /// # Ok(()) }
    /// ```
    pub async fn get_ok(
        &mut self,
        channel: u16,
        delivery_tag: u64,
        message_count: u32,
        message: impl Into<PeerMessage>,
    ) -> Result<(), TestError> {
        let message = message.into();
        let method = basic::GetOk {
            delivery_tag,
            redelivered: message.redelivered,
            exchange: message.exchange.as_str().into(),
            routing_key: message.routing_key.as_str().into(),
            message_count,
        };
        self.send_message(RawFrame::method(channel, method), &message).await
    }

    /// Returns a message to the client with `basic.return`, such as 312 `NO_ROUTE`.
    ///
    /// # Errors
    /// The same as [`deliver`](Self::deliver).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let publish = socket.expect_publish(1).await?;
    /// socket.return_message(1, 312, "NO_ROUTE", publish).await?;
    /// socket.confirm(1, 1, false).await?;
    /// # Ok(()) }
    /// ```
    pub async fn return_message(
        &mut self,
        channel: u16,
        code: u16,
        text: &str,
        message: impl Into<PeerMessage>,
    ) -> Result<(), TestError> {
        let message = message.into();
        let method = basic::Return {
            reply_code: code,
            reply_text: text.into(),
            exchange: message.exchange.as_str().into(),
            routing_key: message.routing_key.as_str().into(),
        };
        self.send_message(RawFrame::method(channel, method), &message).await
    }

    async fn send_message(&mut self, method: RawFrame, message: &PeerMessage) -> Result<(), TestError> {
        let mut frames = message.frames(method.channel, self.frame_max);
        frames.insert(0, method);
        self.send_frames(&frames).await
    }
}

/// The same message in the other direction, for `basic.return` or a delivery.
impl From<Published> for PeerMessage {
    fn from(published: Published) -> Self {
        Self {
            exchange: published.exchange,
            routing_key: published.routing_key,
            properties: Some(published.raw_properties.into()),
            body: published.body,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_codecs_agree_on_a_message() {
        let message = Publishing::new("hello").message_id("7").priority(3).header("n", 7);
        let frames = PeerMessage::from(message.clone()).frames(1, 4096);
        let header = parse_header(&frames[0]).unwrap();
        assert_eq!(header.properties.message_id().as_ref().map(|id| id.as_str()), Some("7"));
        assert_eq!(*header.properties.priority(), Some(3));
        let decoded = decode_properties(&header.raw_properties).unwrap();
        assert_eq!(decoded, message.properties);
        assert_eq!(frames[1].payload, b"hello");
    }
}
