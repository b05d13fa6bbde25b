//! Content as a consumer gets it, made without a broker.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use crate::{
    message::{Content, ContentLayout, DeliveryParts, Publishing, SeparateContent},
    wire::{Span, put_header},
};

/// Builds the [`Content`] of a message that no broker has delivered, for unit tests of handlers.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Publishing, testing::TestContent};
/// let content = TestContent::new(Publishing::new("resize 7.png").message_id("7")).queue("jobs").build();
/// assert_eq!((content.body(), content.queue()), (&b"resize 7.png"[..], "jobs"));
/// assert_eq!(content.properties().unwrap().message_id(), Some("7"));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TestContent {
    pub(super) message: Publishing,
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) queue: String,
    pub(super) redelivered: bool,
}

impl TestContent {
    /// Takes body and properties of a message that would be published.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestContent;
    /// assert_eq!(TestContent::new("hello").build().body(), b"hello");
    /// ```
    pub fn new(message: impl Into<Publishing>) -> Self {
        let (exchange, routing_key, queue) = Default::default();
        Self { message: message.into(), exchange, routing_key, queue, redelivered: false }
    }

    /// Sets the exchange and the routing key that it was published with, each up to 255 bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestContent;
    /// let content = TestContent::new("hello").published_to("logs", "info").build();
    /// assert_eq!((content.exchange(), content.routing_key()), ("logs", "info"));
    /// ```
    pub fn published_to(mut self, exchange: &str, routing_key: &str) -> Self {
        (self.exchange, self.routing_key) = (exchange.to_owned(), routing_key.to_owned());
        self
    }

    /// Sets the queue that it came from.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestContent;
    /// assert_eq!(TestContent::new("hello").queue("jobs").build().queue(), "jobs");
    /// ```
    pub fn queue(mut self, queue: &str) -> Self {
        self.queue = queue.to_owned();
        self
    }

    /// Sets whether the broker may have delivered it before.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestContent;
    /// assert!(TestContent::new("hello").redelivered(true).build().redelivered());
    /// ```
    pub fn redelivered(mut self, redelivered: bool) -> Self {
        self.redelivered = redelivered;
        self
    }

    /// Returns the content.
    ///
    /// # Panics
    /// If the exchange or the routing key is longer than 255 bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::TestContent;
    /// assert!(!TestContent::new("hello").build().redelivered());
    /// ```
    pub fn build(self) -> Content {
        Content::from_parts(self.parts(), &self.queue, "")
    }

    /// Returns the parts of a delivery with this content and the tag 1.
    ///
    /// # Panics
    /// If the exchange or the routing key is longer than 255 bytes.
    pub(super) fn parts(&self) -> DeliveryParts {
        let Publishing { properties, body, .. } = &self.message;
        let mut bytes = BytesMut::new();
        let [exchange, routing_key] = [&self.exchange, &self.routing_key].map(|text| {
            let start = bytes.len() as u16;
            bytes.put_slice(text.as_bytes());
            Span { start, len: u8::try_from(text.len()).expect("a name has 255 bytes at most") }
        });
        let mut header = BytesMut::new();
        put_header(&mut header, 0, 0, properties);
        // Without the frame's head, the class, the weight and the size of the body.
        let properties = header.freeze().slice(7 + 12..);
        let properties = properties.slice(..properties.len() - 1);
        let separate = SeparateContent { properties, body: body.clone(), _counted: None };
        DeliveryParts {
            bytes: bytes.freeze(),
            content: ContentLayout::Separate(Arc::new(separate)),
            tag: 1,
            channel_epoch: 0,
            message_count: None,
            exchange,
            routing_key,
            redelivered: self.redelivered,
            no_ack: false,
        }
    }
}
