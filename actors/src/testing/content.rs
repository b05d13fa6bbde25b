//! Messages in both directions: what the client published, and what the peer delivers, returns or hands to a get.

use bytes::Bytes;

use super::{
    PeerSocket, RawFrame, TestError,
    frames::{encode_properties, parse_header},
    protocol::{BasicProperties, basic},
};

/// Holds a message as the client sent it: `basic.publish`, header and body frames put together.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket};
/// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
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
    /// Whether it is to come back when no queue takes it.
    pub mandatory: bool,
    /// The old `immediate` flag, which RabbitMQ refuses.
    pub immediate: bool,
    /// The properties.
    pub properties: BasicProperties,
    /// Property flags and values as they stood on the wire.
    pub raw_properties: Bytes,
    /// The body.
    pub body: Bytes,
    /// The length of each body frame, in order.
    pub frame_lengths: Vec<usize>,
}

/// Makes a message for the client, with all that may be wrong with it.
///
/// Anything that turns into bytes is a content with that body, no properties, and no exchange.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket, PeerMessage};
/// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
/// socket.deliver(1, "ctag", 1, "hello").await?;
/// socket.deliver(1, "ctag", 2, PeerMessage::from("again").published_to("logs", "info").redelivered(true)).await?;
/// // Announces more than follows, in frames of one byte.
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
    /// Sets the exchange it went through and the routing key.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerMessage;
    /// let content = PeerMessage::from("hello").published_to("logs", "info");
    /// ```
    #[must_use]
    pub fn published_to(mut self, exchange: &str, routing_key: &str) -> Self {
        (self.exchange, self.routing_key) = (exchange.to_owned(), routing_key.to_owned());
        self
    }

    /// Marks it as redelivered.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerMessage;
    /// let content = PeerMessage::from("again").redelivered(true);
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
    /// let content = PeerMessage::from("x").properties(&BasicProperties::default().with_priority(5));
    /// ```
    #[must_use]
    pub fn properties(self, properties: &BasicProperties) -> Self {
        self.raw_properties(encode_properties(properties))
    }

    /// Sets property flags and values as bytes, right or wrong.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerMessage;
    /// let content = PeerMessage::from("x").raw_properties([0xff, 0xff]); // flags without values
    /// ```
    #[must_use]
    pub fn raw_properties(mut self, properties: impl Into<Vec<u8>>) -> Self {
        self.properties = Some(properties.into());
        self
    }

    /// Announces another size than the body has.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::PeerMessage;
    /// let content = PeerMessage::from("short").announced_size(1 << 63);
    /// ```
    #[must_use]
    pub fn announced_size(mut self, size: u64) -> Self {
        self.announced = Some(size);
        self
    }

    /// Cuts the body into frames with so many bytes each, in place of what the handshake agreed to.
    ///
    /// At least 1.
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

    /// Makes the content header and body frames, without the method before them.
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

impl<T: Into<Bytes>> From<T> for PeerMessage {
    fn from(body: T) -> Self {
        Self { body: body.into(), ..Self::default() }
    }
}

impl PeerSocket {
    /// Awaits a whole message on this channel: `basic.publish`, its header and its body.
    ///
    /// # Errors
    ///
    /// Besides what [`expect`](Self::expect) says: a header that is not of class `basic`, or has a weight, or
    /// unreadable properties; a body that is longer than announced; an empty body frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
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

    /// Delivers a message to a consumer with `basic.deliver`.
    ///
    /// # Errors
    /// [`Disconnected`](super::TestErrorKind::Disconnected) when the client is gone,
    /// [`TimedOut`](super::TestErrorKind::TimedOut) when it does not read.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.deliver(1, "ctag", 1, "hello").await?;
    /// # Ok(()) }
    /// ```
    pub async fn deliver(
        &mut self,
        channel: u16,
        consumer_tag: &str,
        delivery_tag: u64,
        content: impl Into<PeerMessage>,
    ) -> Result<(), TestError> {
        let content = content.into();
        let method = basic::Deliver {
            consumer_tag: consumer_tag.into(),
            delivery_tag,
            redelivered: content.redelivered,
            exchange: content.exchange.as_str().into(),
            routing_key: content.routing_key.as_str().into(),
        };
        self.send_content(RawFrame::method(channel, method), &content).await
    }

    /// Answers a `basic.get` with `basic.get-ok`; `message_count` is what is left in the queue.
    ///
    /// # Errors
    /// Those of [`deliver`](Self::deliver).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, protocol::basic};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.expect::<basic::Get>(1).await?;
    /// socket.get_ok(1, 1, 0, "the last one").await?;
    /// # Ok(()) }
    /// ```
    pub async fn get_ok(
        &mut self,
        channel: u16,
        delivery_tag: u64,
        message_count: u32,
        content: impl Into<PeerMessage>,
    ) -> Result<(), TestError> {
        let content = content.into();
        let method = basic::GetOk {
            delivery_tag,
            redelivered: content.redelivered,
            exchange: content.exchange.as_str().into(),
            routing_key: content.routing_key.as_str().into(),
            message_count,
        };
        self.send_content(RawFrame::method(channel, method), &content).await
    }

    /// Gives a message back with `basic.return`, such as 312 `NO_ROUTE`.
    ///
    /// # Errors
    /// Those of [`deliver`](Self::deliver).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
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
        content: impl Into<PeerMessage>,
    ) -> Result<(), TestError> {
        let content = content.into();
        let method = basic::Return {
            reply_code: code,
            reply_text: text.into(),
            exchange: content.exchange.as_str().into(),
            routing_key: content.routing_key.as_str().into(),
        };
        self.send_content(RawFrame::method(channel, method), &content).await
    }

    async fn send_content(&mut self, method: RawFrame, content: &PeerMessage) -> Result<(), TestError> {
        let mut frames = content.frames(method.channel, self.frame_max);
        frames.insert(0, method);
        self.send_frames(&frames).await
    }
}

/// Turns a publish round, for `basic.return` and for a delivery of the same message.
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
