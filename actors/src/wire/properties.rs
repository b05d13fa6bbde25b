//! [`Properties`]: the fourteen properties of a message.
//!
//! Most messages have a delivery mode and few other properties, so [`Properties`] keeps two small fields
//! inline and the rest in a box that exists only when needed. Encoding and decoding are in
//! `property_codec.rs`.

use std::time::{Duration, SystemTime};

use super::{
    table::Table,
    text::Text,
    value::{Value, seconds_of, time_of},
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

/// The properties that are boxed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MoreProperties {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) headers: Option<Table>,
    pub(super) correlation_id: Option<String>,
    pub(super) reply_to: Option<String>,
    /// Milliseconds.
    pub(super) expiration: Option<u64>,
    pub(super) message_id: Option<String>,
    /// Seconds since the Unix epoch.
    pub(super) timestamp: Option<u64>,
    pub(super) message_type: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) app_id: Option<String>,
    pub(super) cluster_id: Option<String>,
}

macro_rules! texts {
    ($($(#[$doc:meta])* $get:ident, $with:ident;)*) => { $(
        $(#[$doc])*
        ///
        /// # Examples
        /// ```
        /// # use actix_pika_actors::Properties;
        #[doc = concat!("assert_eq!(Properties::new().", stringify!($get), "(), None);")]
        /// ```
        pub fn $get(&self) -> Option<&str> {
            self.more.as_ref()?.$get.as_deref()
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
            self.more_mut().$get = Some(value.into());
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
        content_type, with_content_type;
        /// Returns the MIME encoding of the body, such as `gzip` (`content-encoding`).
        content_encoding, with_content_encoding;
        /// Returns the id of the request that this message replies to (`correlation-id`).
        correlation_id, with_correlation_id;
        /// Returns the destination for replies, usually the name of a queue (`reply-to`).
        reply_to, with_reply_to;
        /// Returns the id of the message, chosen by the publisher (`message-id`).
        message_id, with_message_id;
        /// Returns the kind of the message, chosen by the application (`type`).
        #[doc(alias = "type")]
        message_type, with_message_type;
        /// Returns the user that published the message (`user-id`).
        ///
        /// The broker refuses a publish with a user other than that of the connection with 406, which closes
        /// the channel.
        user_id, with_user_id;
        /// Returns the application that published the message (`app-id`).
        app_id, with_app_id;
        /// Returns the `cluster-id`, which has no meaning in AMQP 0-9-1.
        cluster_id, with_cluster_id;
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
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert!(Properties::new().headers().is_none());
    /// ```
    pub fn headers(&self) -> Option<&Table> {
        self.more.as_ref()?.headers.as_ref()
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
        self.more_mut().headers = Some(headers);
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

    /// Returns the headers for modification and creates an empty table if there are none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// let mut properties = Properties::new();
    /// properties.headers_mut().insert("attempt", 2);
    /// ```
    pub fn headers_mut(&mut self) -> &mut Table {
        self.more_mut().headers.get_or_insert_default()
    }

    /// Returns the time in a queue after which the message is dropped or dead-lettered (`expiration`).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().expiration(), None);
    /// ```
    pub fn expiration(&self) -> Option<Duration> {
        self.more.as_ref()?.expiration.map(Duration::from_millis)
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
        self.more_mut().expiration = Some(u64::try_from(after.as_millis() + up).unwrap_or(u64::MAX));
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
        self.more.as_ref()?.timestamp.and_then(time_of)
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
        self.more_mut().timestamp = Some(seconds_of(time));
        self
    }

    fn more_mut(&mut self) -> &mut MoreProperties {
        self.more.get_or_insert_default()
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
