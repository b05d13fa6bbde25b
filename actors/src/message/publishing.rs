//! What is published.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{
    error::Result,
    outbox::Outgoing,
    wire::{DeliveryMode, Properties, Table, Value},
};

/// A body with its properties, on its way to the broker. Persistent and mandatory unless said otherwise.
///
/// ```
/// use actix_pika_actors::Publishing;
///
/// let order = Publishing::new(r#"{"id": 7}"#).content_type("application/json").header("attempt", 1);
/// let event = Publishing::new("tick").transient().mandatory(false);
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "Message")]
pub struct Publishing {
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
    pub(crate) mandatory: bool,
}

impl Publishing {
    /// Wraps a body.
    pub fn new(body: impl IntoBody) -> Self {
        Self {
            properties: Properties::default().with_delivery_mode(DeliveryMode::Persistent),
            body: body.into_body(),
            mandatory: true,
        }
    }

    /// Sets whether the broker must hand it back when no queue gets it; without, it is dropped and confirmed.
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.mandatory = mandatory;
        self
    }

    /// Lets the broker keep it in memory only: it does not survive a restart.
    pub fn transient(self) -> Self {
        self.with(|p| p.with_delivery_mode(DeliveryMode::Transient))
    }

    /// Sets all properties at once, the delivery mode included.
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// Sets the MIME type of the body.
    pub fn content_type(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_content_type(value))
    }

    /// Sets the MIME encoding of the body.
    pub fn content_encoding(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_content_encoding(value))
    }

    /// Sets the id by which a reply names its request.
    pub fn correlation_id(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_correlation_id(value))
    }

    /// Sets the queue to reply to.
    pub fn reply_to(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_reply_to(value))
    }

    /// Sets an id of the application.
    pub fn message_id(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_message_id(value))
    }

    /// Sets the name of the message's type.
    pub fn message_type(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_message_type(value))
    }

    /// Sets the name of the publishing application.
    pub fn app_id(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_app_id(value))
    }

    /// Sets the user, which the broker checks against the login (406 if it differs).
    pub fn user_id(self, value: impl Into<String>) -> Self {
        self.with(|p| p.with_user_id(value))
    }

    /// Sets the priority, for queues with `x-max-priority`.
    pub fn priority(self, value: u8) -> Self {
        self.with(|p| p.with_priority(value))
    }

    /// Sets how long it may wait in a queue; whole milliseconds.
    pub fn expiration(self, value: Duration) -> Self {
        self.with(|p| p.with_expiration(value))
    }

    /// Sets the time of publishing; whole seconds.
    pub fn timestamp(self, value: SystemTime) -> Self {
        self.with(|p| p.with_timestamp(value))
    }

    /// Sets the headers.
    pub fn headers(self, headers: Table) -> Self {
        self.with(|p| p.with_headers(headers))
    }

    /// Sets one header.
    pub fn header(self, key: &str, value: impl Into<Value>) -> Self {
        let mut headers = self.properties.headers().cloned().unwrap_or_default();
        headers.insert(key, value);
        self.headers(headers)
    }

    /// Shows the body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    #[doc(hidden)]
    pub fn outgoing<'a>(&'a self, exchange: &'a str, routing_key: &'a str) -> Outgoing<'a> {
        Outgoing {
            exchange,
            routing_key,
            mandatory: self.mandatory,
            properties: &self.properties,
            body: &self.body,
        }
    }

    #[doc(hidden)]
    pub fn check(&self) -> Result<()> {
        Ok(self.properties.check()?)
    }

    fn with(mut self, change: impl FnOnce(Properties) -> Properties) -> Self {
        self.properties = change(std::mem::take(&mut self.properties));
        self
    }
}

/// What can be the body of a [`Publishing`].
pub trait IntoBody {
    /// Turns it into bytes, without a copy where it can.
    fn into_body(self) -> Bytes;
}

impl IntoBody for Bytes {
    fn into_body(self) -> Bytes {
        self
    }
}

impl IntoBody for &Bytes {
    fn into_body(self) -> Bytes {
        self.clone()
    }
}

impl IntoBody for Vec<u8> {
    fn into_body(self) -> Bytes {
        self.into()
    }
}

impl IntoBody for String {
    fn into_body(self) -> Bytes {
        self.into()
    }
}

impl IntoBody for &str {
    fn into_body(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoBody for &[u8] {
    fn into_body(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoBody for &[u8; N] {
    fn into_body(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<B: IntoBody> From<B> for Publishing {
    fn from(body: B) -> Self {
        Self::new(body)
    }
}
