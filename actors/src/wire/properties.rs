//! [`Properties`]: the fourteen properties of a message.
//!
//! Most messages have a delivery mode and few other properties, so [`Properties`] keeps two small fields
//! inline and the rest in a box that exists only when needed. Encoding and decoding are in
//! `property_codec.rs`.

use std::time::{Duration, SystemTime};

use super::{
    decode_error::DecodeError,
    property_field::{Expiration, Headers, PropertyText, Timestamp},
    table::Table,
    text::Text,
    value::Value,
};

/// Whether a message in a durable queue survives a restart of the broker.
///
/// Source: AMQP 0-9-1 section 1.8 (class basic); <https://www.rabbitmq.com/docs/persistence-conf>
///
/// # Examples
/// ```
/// # use actix_pika_actors::DeliveryMode;
/// assert_eq!(u8::from(DeliveryMode::Persistent), 2);
/// assert_eq!(DeliveryMode::from(1), DeliveryMode::Transient);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeliveryMode {
    /// 1: the message may be kept in memory only.
    Transient,
    /// 2: the message is written to disk.
    Persistent,
    /// Any other value that a peer sent.
    Other(u8),
}

/// The properties of a message, which are sent in its content header.
///
/// A text property has at most 255 bytes. Publishing a longer one fails with
/// [`Codec`](crate::ErrorKind::Codec).
///
/// RabbitMQ relays properties unchecked. A received text that is not UTF-8 is `None`, and its bytes can be
/// read and set beside it: [`correlation_id_bytes`](Self::correlation_id_bytes) and
/// [`with_correlation_id_bytes`](Self::with_correlation_id_bytes), and so for every text. Headers or an
/// expiration that cannot be decoded are `None` too ([`headers_error`](Self::headers_error)). Publishing these
/// properties again sends every field as it came.
///
/// Source: AMQP 0-9-1 section 1.8 (class basic); section 4.2.6.1;
/// <https://www.rabbitmq.com/docs/publishers#message-properties>
///
/// # Examples
/// ```
/// # use actix_pika_actors::{DeliveryMode, Properties};
/// let properties = Properties::new()
///     .with_content_type("application/json")
///     .with_delivery_mode(DeliveryMode::Persistent)
///     .with_header("attempt", 1);
/// assert_eq!(properties.content_type(), Some("application/json"));
/// assert_eq!(properties.header("attempt").and_then(|value| value.as_i64()), Some(1));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    pub(super) delivery_mode: Option<DeliveryMode>,
    pub(super) priority: Option<u8>,
    pub(super) more: Option<Box<MoreProperties>>,
}

// The destructor of the boxed ones is not inlined where there are none.
impl Drop for Properties {
    #[inline]
    fn drop(&mut self) {
        if let Some(more) = self.more.take() {
            more.end();
        }
    }
}

/// The properties that are boxed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MoreProperties {
    pub(super) content_type: Option<PropertyText>,
    pub(super) content_encoding: Option<PropertyText>,
    pub(super) headers: Option<Headers>,
    pub(super) correlation_id: Option<PropertyText>,
    pub(super) reply_to: Option<PropertyText>,
    pub(super) expiration: Option<Expiration>,
    pub(super) message_id: Option<PropertyText>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) message_type: Option<PropertyText>,
    pub(super) user_id: Option<PropertyText>,
    pub(super) app_id: Option<PropertyText>,
    pub(super) cluster_id: Option<PropertyText>,
    /// They stand for properties that could not be decoded, and must not be sent.
    pub(super) undecodable: bool,
}

macro_rules! texts {
    ($($(#[$doc:meta])* $get:ident, $with:ident, $bytes:ident, $with_bytes:ident;)*) => { $(
        $(#[$doc])*
        ///
        /// # Examples
        /// ```
        /// # use actix_pika_actors::Properties;
        #[doc = concat!("assert_eq!(Properties::new().", stringify!($get), "(), None);")]
        /// ```
        pub fn $get(&self) -> Option<&str> {
            self.more.as_ref()?.$get.as_ref()?.as_str()
        }

        #[doc = concat!("Returns the bytes of [`", stringify!($get), "`](Self::", stringify!($get), "),")]
        /// which are not UTF-8 if that is `None`.
        ///
        /// # Examples
        /// ```
        /// # use actix_pika_actors::Properties;
        #[doc = concat!("let properties = Properties::new().", stringify!($with), "(\"x\");")]
        #[doc = concat!("assert_eq!(properties.", stringify!($bytes), "(), Some(&b\"x\"[..]));")]
        /// ```
        pub fn $bytes(&self) -> Option<&[u8]> {
            Some(self.more.as_ref()?.$get.as_ref()?.as_bytes())
        }

        #[doc = concat!("Sets [`", stringify!($get), "`](Self::", stringify!($get), "), at most 255 bytes.")]
        ///
        /// # Examples
        /// ```
        /// # use actix_pika_actors::Properties;
        #[doc = concat!("let properties = Properties::new().", stringify!($with), "(\"x\");")]
        #[doc = concat!("assert_eq!(properties.", stringify!($get), "(), Some(\"x\"));")]
        /// ```
        #[must_use]
        pub fn $with(mut self, value: impl Into<String>) -> Self {
            self.more_mut().$get = Some(PropertyText::Utf8(value.into()));
            self
        }

        #[doc = concat!("Sets [`", stringify!($get), "`](Self::", stringify!($get), ") to bytes that need not be")]
        /// UTF-8, at most 255.
        ///
        /// # Examples
        /// ```
        /// # use actix_pika_actors::Properties;
        #[doc = concat!("let properties = Properties::new().", stringify!($with_bytes), "([0xff]);")]
        #[doc = concat!("assert_eq!(properties.", stringify!($get), "(), None);")]
        #[doc = concat!("assert_eq!(properties.", stringify!($bytes), "(), Some(&[0xff][..]));")]
        /// ```
        #[must_use]
        pub fn $with_bytes(mut self, value: impl Into<Vec<u8>>) -> Self {
            self.more_mut().$get = Some(PropertyText::from_bytes(value.into()));
            self
        }
    )* };
}

impl Properties {
    /// Creates an empty set of properties.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new(), Properties::default());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    texts! {
        /// Returns the MIME type of the body (`content-type`).
        content_type, with_content_type, content_type_bytes, with_content_type_bytes;
        /// Returns the MIME encoding of the body, such as `gzip` (`content-encoding`).
        content_encoding, with_content_encoding, content_encoding_bytes, with_content_encoding_bytes;
        /// Returns the id of the request that this message replies to (`correlation-id`).
        correlation_id, with_correlation_id, correlation_id_bytes, with_correlation_id_bytes;
        /// Returns the destination for replies, usually the name of a queue (`reply-to`).
        reply_to, with_reply_to, reply_to_bytes, with_reply_to_bytes;
        /// Returns the id of the message, chosen by the publisher (`message-id`).
        message_id, with_message_id, message_id_bytes, with_message_id_bytes;
        /// Returns the kind of the message, chosen by the application (`type`).
        #[doc(alias = "type")]
        message_type, with_message_type, message_type_bytes, with_message_type_bytes;
        /// Returns the user that published the message (`user-id`).
        ///
        /// The broker refuses a publish with a user other than that of the connection with 406, which closes
        /// the channel.
        user_id, with_user_id, user_id_bytes, with_user_id_bytes;
        /// Returns the application that published the message (`app-id`).
        app_id, with_app_id, app_id_bytes, with_app_id_bytes;
        /// Returns the `cluster-id`, which has no meaning in AMQP 0-9-1.
        cluster_id, with_cluster_id, cluster_id_bytes, with_cluster_id_bytes;
    }

    /// Returns whether the message survives a restart of the broker (`delivery-mode`).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeliveryMode, Properties};
    /// assert_eq!(Properties::new().delivery_mode(), None);
    /// ```
    #[inline]
    pub fn delivery_mode(&self) -> Option<DeliveryMode> {
        self.delivery_mode
    }

    /// Sets [`delivery_mode`](Self::delivery_mode).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{DeliveryMode, Properties};
    /// let properties = Properties::new().with_delivery_mode(DeliveryMode::Persistent);
    /// assert_eq!(properties.delivery_mode(), Some(DeliveryMode::Persistent));
    /// ```
    #[inline]
    #[must_use]
    pub fn with_delivery_mode(mut self, mode: DeliveryMode) -> Self {
        self.delivery_mode = Some(mode);
        self
    }

    /// Returns the priority (`priority`). A priority queue delivers messages with a higher priority first.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().priority(), None);
    /// ```
    #[inline]
    pub fn priority(&self) -> Option<u8> {
        self.priority
    }

    /// Sets [`priority`](Self::priority).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().with_priority(5).priority(), Some(5));
    /// ```
    #[inline]
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Returns the headers (`headers`), which an application chooses freely and headers exchanges match.
    ///
    /// `None` also for received headers that cannot be decoded: [`headers_error`](Self::headers_error).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert!(Properties::new().headers().is_none());
    /// ```
    pub fn headers(&self) -> Option<&Table> {
        match self.more.as_ref()?.headers.as_ref()? {
            Headers::Table(table) => Some(table),
            Headers::Undecodable { .. } => None,
        }
    }

    /// Returns whether there is more than a delivery mode and a priority, which have no limit of length.
    #[inline]
    pub(crate) fn has_more(&self) -> bool {
        self.more.is_some()
    }

    /// Returns whether there are headers, decoded or not.
    #[inline]
    pub(crate) fn has_headers(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.headers.is_some())
    }

    /// Returns why the received headers cannot be decoded, if they cannot.
    ///
    /// The other properties can be read. RabbitMQ refuses such headers.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert!(Properties::new().headers_error().is_none());
    /// ```
    pub fn headers_error(&self) -> Option<&DecodeError> {
        match self.more.as_ref()?.headers.as_ref()? {
            Headers::Table(_) => None,
            Headers::Undecodable { error, .. } => Some(error),
        }
    }

    /// Returns the value of one header.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Properties, Value};
    /// let properties = Properties::new().with_header("format", "png");
    /// assert_eq!(properties.header("format").and_then(Value::as_str), Some("png"));
    /// ```
    pub fn header(&self, key: &str) -> Option<&Value> {
        self.headers()?.get(key)
    }

    /// Sets [`headers`](Self::headers) and replaces all earlier ones.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Properties, Table};
    /// let properties = Properties::new().with_headers(Table::from([("format", "png")]));
    /// assert_eq!(properties.headers().map(Table::len), Some(1));
    /// ```
    #[must_use]
    pub fn with_headers(mut self, headers: Table) -> Self {
        self.more_mut().headers = Some(Headers::Table(headers));
        self
    }

    /// Sets one header.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// let properties = Properties::new().with_header("format", "png").with_header("attempt", 1);
    /// ```
    #[must_use]
    pub fn with_header(mut self, key: impl Into<Text>, value: impl Into<Value>) -> Self {
        self.headers_mut().insert(key, value);
        self
    }

    /// Returns the headers for modification. Creates an empty table if there are none, or if those received
    /// cannot be decoded.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// let mut properties = Properties::new();
    /// properties.headers_mut().insert("attempt", 2);
    /// ```
    pub fn headers_mut(&mut self) -> &mut Table {
        self.more_mut().headers.get_or_insert_with(Headers::default).table_mut()
    }

    /// Returns the time in a queue after which the message is dropped or dead-lettered (`expiration`).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().expiration(), None);
    /// ```
    pub fn expiration(&self) -> Option<Duration> {
        self.more.as_ref()?.expiration.as_ref()?.millis().map(Duration::from_millis)
    }

    /// Returns the bytes of a received `expiration` that is not a number of milliseconds. RabbitMQ refuses
    /// such a one with 406; to publish it fails with [`Refused`](crate::ErrorKind::Refused).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().invalid_expiration(), None);
    /// ```
    pub fn invalid_expiration(&self) -> Option<&[u8]> {
        match self.more.as_ref()?.expiration.as_ref()? {
            Expiration::Raw(bytes) if self.expiration().is_none() => Some(bytes),
            Expiration::Raw(_) | Expiration::Millis(_) => None,
        }
    }

    /// Returns the bytes of a received `expiration` that is not plain digits.
    pub(crate) fn raw_expiration(&self) -> Option<&[u8]> {
        match self.more.as_ref()?.expiration.as_ref()? {
            Expiration::Raw(bytes) => Some(bytes),
            Expiration::Millis(_) => None,
        }
    }

    /// Returns the `expiration` as it is on the wire.
    pub(crate) fn expiration_octets(&self) -> Option<Vec<u8>> {
        Some(match self.more.as_ref()?.expiration.as_ref()? {
            Expiration::Raw(bytes) => bytes.clone(),
            Expiration::Millis(millis) => millis.to_string().into_bytes(),
        })
    }

    /// Sets [`expiration`](Self::expiration), rounded up to whole milliseconds.
    ///
    /// With zero the message expires unless it can be delivered immediately. The limit is 2^32 - 1
    /// milliseconds; publishing with a longer expiration fails with [`Codec`](crate::ErrorKind::Codec).
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::Properties;
    /// let properties = Properties::new().with_expiration(Duration::from_secs(5));
    /// assert_eq!(properties.expiration(), Some(Duration::from_secs(5)));
    /// let shortest = Properties::new().with_expiration(Duration::from_nanos(1));
    /// assert_eq!(shortest.expiration(), Some(Duration::from_millis(1)));
    /// ```
    #[must_use]
    pub fn with_expiration(mut self, after: Duration) -> Self {
        let up = u128::from(!after.subsec_nanos().is_multiple_of(1_000_000));
        let millis = u64::try_from(after.as_millis() + up).unwrap_or(u64::MAX);
        self.more_mut().expiration = Some(Expiration::Millis(millis));
        self
    }

    /// Returns the time at which the publisher created the message, in whole seconds (`timestamp`).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().timestamp(), None);
    /// ```
    pub fn timestamp(&self) -> Option<SystemTime> {
        self.more.as_ref()?.timestamp.and_then(Timestamp::time)
    }

    /// Sets [`timestamp`](Self::timestamp), truncated to whole seconds.
    ///
    /// AMQP has no times before 1970: publishing one fails with [`Codec`](crate::ErrorKind::Codec).
    ///
    /// # Examples
    /// ```
    /// # use std::time::{Duration, SystemTime};
    /// # use actix_pika_actors::Properties;
    /// let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(43_200);
    /// assert_eq!(Properties::new().with_timestamp(noon).timestamp(), Some(noon));
    /// ```
    #[must_use]
    pub fn with_timestamp(mut self, time: SystemTime) -> Self {
        self.more_mut().timestamp = Some(time.into());
        self
    }

    /// Returns the `timestamp` as it is on the wire, in seconds since 1970.
    ///
    /// Some clients send negative numbers for times before 1970, which are large ones here;
    /// [`timestamp`](Self::timestamp) is `None` for what `SystemTime` cannot represent.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// let properties = Properties::new().with_timestamp_seconds(u64::MAX);
    /// assert_eq!((properties.timestamp(), properties.timestamp_seconds()), (None, Some(u64::MAX)));
    /// ```
    pub fn timestamp_seconds(&self) -> Option<u64> {
        self.more.as_ref()?.timestamp.and_then(Timestamp::seconds)
    }

    /// Sets the `timestamp` in seconds since 1970: see [`timestamp_seconds`](Self::timestamp_seconds).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().with_timestamp_seconds(7).timestamp_seconds(), Some(7));
    /// ```
    #[must_use]
    pub fn with_timestamp_seconds(mut self, seconds: u64) -> Self {
        self.more_mut().timestamp = Some(Timestamp::Seconds(seconds));
        self
    }

    /// Creates properties in place of those that cannot be decoded. They cannot be sent.
    pub(crate) fn undecodable() -> Self {
        let more = MoreProperties { undecodable: true, ..MoreProperties::default() };
        Self { more: Some(Box::new(more)), ..Self::default() }
    }

    fn more_mut(&mut self) -> &mut MoreProperties {
        self.more.get_or_insert_default()
    }
}

impl MoreProperties {
    #[inline(never)]
    fn end(self: Box<Self>) {
        drop(self);
    }
}

impl From<u8> for DeliveryMode {
    fn from(octet: u8) -> Self {
        match octet {
            1 => Self::Transient,
            2 => Self::Persistent,
            other => Self::Other(other),
        }
    }
}

impl From<DeliveryMode> for u8 {
    #[inline]
    fn from(mode: DeliveryMode) -> Self {
        match mode {
            DeliveryMode::Transient => 1,
            DeliveryMode::Persistent => 2,
            DeliveryMode::Other(octet) => octet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_small() {
        assert!(size_of::<Properties>() <= 16);
    }
}
