//! A message as the queues keep it.

use std::sync::{Arc, OnceLock};

use actix_pika_actors::{Properties, Table, Text, Value, wire::property_codec::decode_properties};
use bytes::Bytes;

use super::{
    dead_letters::Chain,
    field_check::is_readable,
    memory::Share,
    properties::{self, Summary, Unreadable},
    rules::Rules,
};

/// A name of an entity, a routing key or a tag.
pub type Name = Arc<str>;

/// A message: one value, shared by all queues that hold it.
#[derive(Debug)]
pub struct Message {
    /// The exchange that it was published to.
    pub exchange: Name,
    /// The routing key that it was published with. An octet that is no UTF-8 is a character from `U+10FF80` on.
    pub routing_key: Name,
    /// The body.
    pub body: Bytes,
    /// The flags and properties of its content header.
    pub(crate) properties: Bytes,
    pub(crate) summary: Summary,
    /// The keys of its header `CC`.
    pub(crate) cc: Box<[Name]>,
    /// The keys of its header `BCC`, which is removed from the headers.
    pub(crate) bcc: Box<[Name]>,
    /// It is a dead letter, and what it says of its deaths is true.
    pub(crate) has_died: bool,
    /// What it brings along as a dead letter: see [`DeadLetterCounts`](super::DeadLetterCounts).
    pub(crate) failures: u32,
    /// The dead letters that it comes from.
    pub(super) chain: Option<Box<Chain>>,
    expiration: Option<u64>,
    headers: OnceLock<Option<Table>>,
    /// What it takes of the broker's memory.
    pub(super) share: Share,
}

impl Message {
    /// Creates a message from its encoded properties.
    pub(crate) fn new(
        exchange: Name,
        routing_key: Name,
        properties: Bytes,
        body: Bytes,
    ) -> Result<Self, Unreadable> {
        let summary = Summary::read(&properties)?;
        if summary.headers.is_some_and(|place| !is_readable(place.of(&properties))) {
            return Err(Unreadable);
        }
        let expiration = summary
            .expiration
            .and_then(|place| std::str::from_utf8(place.of(&properties)).ok()?.parse().ok());
        let (cc, bcc) = (Box::default(), Box::default());
        let headers = OnceLock::new();
        Ok(Self {
            exchange,
            routing_key,
            body,
            properties,
            summary,
            cc,
            bcc,
            has_died: false,
            failures: 0,
            chain: None,
            expiration,
            headers,
            share: Share::default(),
        })
    }

    /// Returns the routing key and the keys of `CC` and `BCC`.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Name> + Clone {
        std::iter::once(&self.routing_key).chain(&self.cc).chain(&self.bcc)
    }

    /// Returns whether the headers may have `CC` or `BCC`, without decoding them.
    pub(crate) fn may_have_copies(&self) -> bool {
        let headers = self.summary.headers.map(|place| place.of(&self.properties)).unwrap_or_default();
        headers.windows(3).any(|window| window == b"\x02CC" || window == b"BCC")
    }

    /// Copies the message. The body is shared.
    pub(crate) fn copy(&self) -> Self {
        Self {
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            body: self.body.clone(),
            properties: self.properties.clone(),
            summary: self.summary.clone(),
            cc: self.cc.clone(),
            bcc: self.bcc.clone(),
            has_died: self.has_died,
            failures: self.failures,
            chain: self.chain.clone(),
            expiration: self.expiration,
            headers: OnceLock::new(),
            share: self.share_of_copy(self.properties.len()),
        }
    }

    /// Creates the message that is published when this one has died: with other headers, without an expiration, and with
    /// another key, if there is one, for all of its own.
    pub(crate) fn dead_letter(&self, exchange: &Name, key: Option<&Name>, headers: &Table) -> Self {
        let properties = self.summary.rewrite(&self.properties, headers, true);
        let (cc, bcc) = match key {
            Some(_) => (Box::default(), Box::default()),
            None => (self.cc.clone(), self.bcc.clone()),
        };
        Self {
            exchange: exchange.clone(),
            routing_key: key.unwrap_or(&self.routing_key).clone(),
            body: self.body.clone(),
            summary: Summary::read(&properties).unwrap_or_default(),
            share: self.share_of_copy(properties.len()),
            properties,
            cc,
            bcc,
            has_died: true,
            failures: 0,
            chain: None,
            expiration: None,
            headers: OnceLock::new(),
        }
    }

    /// Returns the property `expiration` as it was published.
    pub(crate) fn expiration_text(&self) -> Option<Text> {
        Some(self.summary.expiration?.of(&self.properties).into())
    }

    /// Replaces the headers.
    pub(crate) fn with_headers(mut self, headers: &Table) -> Self {
        self.properties = self.summary.rewrite(&self.properties, headers, false);
        self.summary = Summary::read(&self.properties).unwrap_or_default();
        self.headers = OnceLock::new();
        self
    }

    /// Returns the message as a stream keeps it, which knows fewer properties and headers.
    pub(crate) fn in_stream(&self, rules: &Rules) -> Self {
        let is_kept = |key: &Text, value: &Value| {
            let is_simple = !matches!(value, Value::Array(_) | Value::Table(_));
            let is_annotation = key.as_bytes() == b"CC" || key.as_bytes().starts_with(b"x-");
            // A client publishes no deaths.
            let is_death = self.has_died || key.as_bytes() != b"x-death";
            if rules.stream_keeps_annotations { is_death && (is_simple || is_annotation) } else { is_simple }
        };
        let mut kept = self.copy();
        if let Some(headers) = self.headers()
            && headers.iter().any(|(key, value)| !is_kept(key, value))
        {
            kept = kept.with_headers(&properties::kept(headers, is_kept));
        }
        kept.properties = kept.summary.in_stream(&kept.properties, rules.stream_sets_mode);
        kept.summary = Summary::read(&kept.properties).unwrap_or_default();
        kept
    }

    /// Replaces the property `reply_to`, which it has.
    pub(crate) fn with_reply_to(mut self, address: &str) -> Self {
        self.properties = self.summary.with_reply_to(&self.properties, address);
        self.summary = Summary::read(&self.properties).unwrap_or_default();
        self.headers = OnceLock::new();
        self
    }

    /// Returns the headers.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::Message;
    /// fn kind(message: &Message) -> Option<&str> {
    ///     message.headers()?.get("kind")?.as_str()
    /// }
    /// ```
    pub fn headers(&self) -> Option<&Table> {
        self.headers.get_or_init(|| self.summary.table(&self.properties).ok().flatten()).as_ref()
    }

    /// Returns all properties, decoded.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::Message;
    /// fn answers(message: &Message) -> Option<String> {
    ///     message.decoded_properties().correlation_id().map(str::to_owned)
    /// }
    /// ```
    pub fn decoded_properties(&self) -> Properties {
        decode_properties(&self.properties).unwrap_or_default()
    }

    /// Returns the flags and properties as a content header has them.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::Message;
    /// fn without_properties(message: &Message) -> bool {
    ///     message.properties()[..] == [0, 0]
    /// }
    /// ```
    pub fn properties(&self) -> &Bytes {
        &self.properties
    }

    /// Returns the milliseconds of the property `expiration`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::Message;
    /// fn expires(message: &Message) -> bool {
    ///     message.expiration().is_some()
    /// }
    /// ```
    pub fn expiration(&self) -> Option<u64> {
        self.expiration
    }

    /// Returns the property `priority`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::Message;
    /// fn urgent(message: &Message) -> bool {
    ///     message.priority() > Some(4)
    /// }
    /// ```
    pub fn priority(&self) -> Option<u8> {
        self.summary.priority
    }

    /// Returns whether the delivery mode is 2.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::Message;
    /// fn lost_at_a_restart(message: &Message) -> bool {
    ///     !message.is_persistent()
    /// }
    /// ```
    pub fn is_persistent(&self) -> bool {
        self.summary.delivery_mode == Some(2)
    }
}
