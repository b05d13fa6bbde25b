//! The fourteen properties of a content.
//!
//! Most messages have a delivery mode and little else, so a [`Properties`] is two small fields and a box for the
//! rest that is there only when something is in it. What is to be sent must pass [`Properties::check`] first;
//! what was received is decoded on demand, and properties that cannot be decoded are an error of their own that
//! leaves the connection alone.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, BytesMut};

use super::{
    fault::Fault,
    property_list::{DELIVERY_MODE, List, PRIORITY, Rest},
    table::{Refused, Table},
    text::Text,
    value::{Value, seconds_of, time_of},
};

/// Says whether a message survives a restart of the broker, in a queue that does.
///
/// Source: AMQP 0-9-1 section 1.8; <https://www.rabbitmq.com/docs/persistence-conf>
///
/// # Examples
/// ```
/// # use actix_pika_actors::DeliveryMode;
/// assert_eq!(u8::from(DeliveryMode::Persistent), 2);
/// assert_eq!(DeliveryMode::from(1), DeliveryMode::Transient);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryMode {
    /// 1: kept in memory.
    Transient,
    /// 2: written to disk.
    Persistent,
    /// What a peer sent that is neither.
    Other(u8),
}

/// Holds the properties of a message: what stands in its content header beside the size.
///
/// Each text has 255 bytes at most; a longer one is refused when it is published (`Codec`).
///
/// Source: AMQP 0-9-1 section 1.8 and 4.2.6.1; <https://www.rabbitmq.com/docs/publishers#message-properties>
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
    delivery_mode: Option<DeliveryMode>,
    priority: Option<u8>,
    rest: Option<Box<Rest>>,
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
            self.rest.as_ref()?.$get.as_deref()
        }

        #[doc = concat!("Sets [`", stringify!($get), "`](Self::", stringify!($get), "), 255 bytes at most.")]
        ///
        /// # Examples
        /// ```
        /// # use actix_pika_actors::Properties;
        #[doc = concat!("let properties = Properties::new().", stringify!($with), "(\"x\");")]
        #[doc = concat!("assert_eq!(properties.", stringify!($get), "(), Some(\"x\"));")]
        /// ```
        #[must_use]
        pub fn $with(mut self, value: impl Into<String>) -> Self {
            self.rest_mut().$get = Some(value.into());
            self
        }
    )* };
}

impl Properties {
    /// Starts with no properties at all.
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
        /// Tells the MIME type of the body.
        content_type, with_content_type;
        /// Tells the MIME encoding of the body, such as `gzip`.
        content_encoding, with_content_encoding;
        /// Tells which request this is the answer to, by convention.
        correlation_id, with_correlation_id;
        /// Tells where to send an answer to, by convention the name of a queue.
        reply_to, with_reply_to;
        /// Tells what distinguishes this message from others, chosen by the publisher.
        message_id, with_message_id;
        /// Tells what kind of message it is, chosen by the application.
        #[doc(alias = "type")]
        message_type, with_message_type;
        /// Names the user that published it: the broker refuses any other than that of the connection (406).
        user_id, with_user_id;
        /// Names the application that published it.
        app_id, with_app_id;
        /// Shows what is of no use in AMQP 0-9-1.
        cluster_id, with_cluster_id;
    }

    /// Tells whether the message survives a restart of the broker.
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
    /// let kept = Properties::new().with_delivery_mode(DeliveryMode::Persistent);
    /// assert_eq!(kept.delivery_mode(), Some(DeliveryMode::Persistent));
    /// ```
    #[inline]
    #[must_use]
    pub fn with_delivery_mode(mut self, mode: DeliveryMode) -> Self {
        self.delivery_mode = Some(mode);
        self
    }

    /// Tells which messages of a priority queue come first: higher ones.
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

    /// Shows the application's own headers, which headers exchanges look at too.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert!(Properties::new().headers().is_none());
    /// ```
    pub fn headers(&self) -> Option<&Table> {
        self.rest.as_ref()?.headers.as_ref()
    }

    /// Shows the value of one header.
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

    /// Sets [`headers`](Self::headers), all of them.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Properties, Table};
    /// let properties = Properties::new().with_headers(Table::from([("format", "png")]));
    /// assert_eq!(properties.headers().map(Table::len), Some(1));
    /// ```
    #[must_use]
    pub fn with_headers(mut self, headers: Table) -> Self {
        self.rest_mut().headers = Some(headers);
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

    /// Hands out the headers for changing, an empty table if there were none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// let mut properties = Properties::new();
    /// properties.headers_mut().insert("attempt", 2);
    /// ```
    pub fn headers_mut(&mut self) -> &mut Table {
        self.rest_mut().headers.get_or_insert_default()
    }

    /// Tells after how long in a queue the message is dropped or dead-lettered; `None` where it is not.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().expiration(), None);
    /// ```
    pub fn expiration(&self) -> Option<Duration> {
        self.rest.as_ref()?.expiration.map(Duration::from_millis)
    }

    /// Sets [`expiration`](Self::expiration), in whole milliseconds, rounded up.
    ///
    /// Zero: what cannot be delivered at once expires; 2^32 - 1 milliseconds at most (`Codec` when it is published).
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
        self.rest_mut().expiration = Some(u64::try_from(after.as_millis() + up).unwrap_or(u64::MAX));
        self
    }

    /// Tells when the message was made, by the publisher's clock, in whole seconds.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().timestamp(), None);
    /// ```
    pub fn timestamp(&self) -> Option<SystemTime> {
        self.rest.as_ref()?.timestamp.and_then(time_of)
    }

    /// Sets [`timestamp`](Self::timestamp).
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
        self.rest_mut().timestamp = Some(seconds_of(time));
        self
    }

    /// Refuses what cannot be sent.
    ///
    /// # Errors
    /// [`Refused`] with the first that is too long, too deep or not a finite number.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert!(Properties::new().with_message_id("x".repeat(256)).check().is_err());
    /// ```
    #[inline]
    pub fn check(&self) -> Result<(), Refused> {
        match &self.rest {
            None => Ok(()),
            Some(rest) => rest.check(),
        }
    }

    /// Tells how many bytes [`encode`](Self::encode) appends.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::new().encoded_len(), 2); // the flags
    /// ```
    #[inline]
    pub fn encoded_len(&self) -> usize {
        let inline = 2 + usize::from(self.delivery_mode.is_some()) + usize::from(self.priority.is_some());
        inline + self.rest.as_ref().map_or(0, |rest| rest.encoded_len())
    }

    /// Appends flags and list as the wire has them; what [`check`](Self::check) refuses comes out clipped.
    ///
    /// # Examples
    /// ```
    /// # use bytes::BytesMut;
    /// # use actix_pika_actors::Properties;
    /// let mut buf = BytesMut::new();
    /// Properties::new().with_priority(5).encode(&mut buf);
    /// assert_eq!(Properties::decode(&buf)?.priority(), Some(5));
    /// # Ok::<(), actix_pika_actors::wire::Fault>(())
    /// ```
    #[inline]
    pub fn encode(&self, buf: &mut BytesMut) {
        let mut flags = 0;
        if self.delivery_mode.is_some() {
            flags |= DELIVERY_MODE;
        }
        if self.priority.is_some() {
            flags |= PRIORITY;
        }
        match &self.rest {
            None => {
                buf.put_u16(flags);
                self.put_inline(buf);
            }
            Some(rest) => {
                buf.put_u16(flags | rest.flags());
                rest.put_before(buf);
                self.put_inline(buf);
                rest.put_after(buf);
            }
        }
    }

    /// Reads the property bytes of a content header. Octets behind the last property are not looked at.
    ///
    /// # Errors
    /// [`Fault`] with 502 for bytes that end too early or hold what no table can.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Properties;
    /// assert_eq!(Properties::decode(&[0, 0])?, Properties::new());
    /// assert_eq!(Properties::decode(&[0x80, 0]).unwrap_err().code, 502);
    /// # Ok::<(), actix_pika_actors::wire::Fault>(())
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut list = List::new(bytes)?;
        let mut rest = list.has_rest().then(Box::<Rest>::default);
        if let Some(rest) = &mut rest {
            rest.read_before(&mut list)?;
        }
        let delivery_mode = list.octet(DELIVERY_MODE, "delivery-mode")?.map(DeliveryMode::from);
        let priority = list.octet(PRIORITY, "priority")?;
        if let Some(rest) = &mut rest {
            rest.read_after(&mut list)?;
        }
        Ok(Self { delivery_mode, priority, rest })
    }

    fn rest_mut(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    #[inline]
    fn put_inline(&self, buf: &mut BytesMut) {
        if let Some(mode) = self.delivery_mode {
            buf.put_u8(mode.into());
        }
        if let Some(priority) = self.priority {
            buf.put_u8(priority);
        }
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

    fn encoded(properties: &Properties) -> BytesMut {
        let mut buf = BytesMut::new();
        properties.encode(&mut buf);
        assert_eq!(buf.len(), properties.encoded_len());
        buf
    }

    #[test]
    fn properties_are_small() {
        assert!(size_of::<Properties>() <= 16);
    }

    /// MSG-05
    #[test]
    fn flags_are_those_of_the_specification() {
        let some =
            Properties::new().with_content_type("t").with_priority(1).with_message_id("m").with_app_id("a");
        assert_eq!(encoded(&some)[..2], [0x88, 0x88]);
        let more = some.with_content_encoding("e");
        assert_eq!(encoded(&more)[..2], [0xC8, 0x88]);
        let more = more.with_timestamp(SystemTime::UNIX_EPOCH);
        assert_eq!(encoded(&more)[..2], [0xC8, 0xC8]);
        let all = more
            .with_headers(Table::new())
            .with_delivery_mode(DeliveryMode::Persistent)
            .with_correlation_id("c")
            .with_reply_to("r")
            .with_expiration(Duration::ZERO)
            .with_message_type("t")
            .with_user_id("u")
            .with_cluster_id("c");
        assert_eq!(encoded(&all)[..2], [0xFF, 0xFC]);
        assert_eq!(Properties::decode(&encoded(&all)), Ok(all));
    }

    /// MSG-04
    #[test]
    fn expiration_is_decimal_milliseconds() {
        let half = Properties::new().with_expiration(Duration::from_millis(1500));
        assert_eq!(encoded(&half)[..], *b"\x01\0\x041500");
        assert_eq!(
            Properties::decode(&encoded(&half)).unwrap().expiration(),
            Some(Duration::from_millis(1500))
        );
        let fault = Properties::decode(b"\x01\0\x03abc").unwrap_err();
        assert!(fault.text.contains("expiration"));
        let after = |micros| Properties::new().with_expiration(Duration::from_micros(micros)).expiration();
        assert_eq!([0, 1, 1000, 1001].map(after), [0, 1, 1, 2].map(|ms| Some(Duration::from_millis(ms))));
        let long = Properties::new().with_expiration(Duration::MAX);
        assert_eq!(long.check(), Err(Refused::Expiration));
        encoded(&long);
    }

    #[test]
    fn an_absent_property_is_not_an_empty_one() {
        let empty = Properties::new().with_content_type("");
        assert_eq!(Properties::decode(&encoded(&empty)).unwrap().content_type(), Some(""));
        assert_eq!(Properties::decode(b"\0\0").unwrap().content_type(), None);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (bytes, name) in [
            (&b"\x04\0\x02\xc3\x28"[..], "correlation-id is not UTF-8"),
            (b"\x04\0\x02a", "end within correlation-id"),
            (b"\x20\0\0\0\0\x04\x01kZx", "headers: field table"),
            (b"\0\x01", "end within flags"),
            (b"", "end within flags"),
        ] {
            let fault = Properties::decode(bytes).unwrap_err();
            assert!(fault.code == 502 && fault.text.contains(name), "{fault}");
        }
    }

    #[test]
    fn padding_and_flags_of_the_future_are_passed_over() {
        let properties = Properties::decode(b"\x10\0\x02padding").unwrap();
        assert_eq!(properties.delivery_mode(), Some(DeliveryMode::Persistent));
        let properties = Properties::decode(b"\x10\x01\x80\0\x09future").unwrap();
        assert_eq!(properties.delivery_mode(), Some(DeliveryMode::Other(9)));
        assert_eq!(Properties::decode(b"\0\x02?"), Ok(Properties::new()));
    }
}
