//! The fourteen properties of a content.
//!
//! Most messages have a delivery mode and little else, so a [`Properties`] is two small fields and a box for the
//! rest that is there only when something is in it. What is to be sent must pass [`Properties::check`] first;
//! what was received is decoded on demand, and properties that cannot be decoded are an error of their own that
//! leaves the connection alone.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, BytesMut};

use super::{
    cursor::Cursor,
    fault::Fault,
    field,
    table::{Refused, Table},
    text::Text,
    value::{Value, seconds_of, time_of},
};

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
/// The properties that need the box.
const BOXED: u16 = 0xFFFC & !(DELIVERY_MODE | PRIORITY);
/// Another word of flags follows, of properties that AMQP 0-9-1 does not have.
const CONTINUED: u16 = 1;

/// Whether a message survives a restart of the broker, in a queue that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryMode {
    /// 1: kept in memory.
    Transient,
    /// 2: written to disk.
    Persistent,
    /// What a peer sent that is neither.
    Other(u8),
}

/// Properties of a message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties {
    delivery_mode: Option<DeliveryMode>,
    priority: Option<u8>,
    rest: Option<Box<Rest>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Rest {
    content_type: Option<String>,
    content_encoding: Option<String>,
    headers: Option<Table>,
    correlation_id: Option<String>,
    reply_to: Option<String>,
    expiration: Option<u64>,
    message_id: Option<String>,
    timestamp: Option<u64>,
    message_type: Option<String>,
    user_id: Option<String>,
    app_id: Option<String>,
    cluster_id: Option<String>,
}

macro_rules! texts {
    ($($(#[$doc:meta])* $get:ident, $with:ident;)*) => { $(
        $(#[$doc])*
        pub fn $get(&self) -> Option<&str> {
            self.rest.as_ref()?.$get.as_deref()
        }

        #[doc = concat!("Sets [`", stringify!($get), "`](Self::", stringify!($get), ").")]
        #[must_use]
        pub fn $with(mut self, value: impl Into<String>) -> Self {
            self.rest_mut().$get = Some(value.into());
            self
        }
    )* };
}

impl Properties {
    /// No properties at all.
    pub fn new() -> Self {
        Self::default()
    }

    texts! {
        /// MIME type of the body.
        content_type, with_content_type;
        /// MIME encoding of the body, such as `gzip`.
        content_encoding, with_content_encoding;
        /// Which request this is the answer to, by convention.
        correlation_id, with_correlation_id;
        /// Where to send an answer to, by convention the name of a queue.
        reply_to, with_reply_to;
        /// What tells this message from others, chosen by the publisher.
        message_id, with_message_id;
        /// What kind of message it is, chosen by the application.
        #[doc(alias = "type")]
        message_type, with_message_type;
        /// The user that published it: the broker refuses any other than that of the connection.
        user_id, with_user_id;
        /// The application that published it.
        app_id, with_app_id;
        /// Of no use in AMQP 0-9-1.
        cluster_id, with_cluster_id;
    }

    /// Whether the message survives a restart of the broker.
    #[inline]
    pub fn delivery_mode(&self) -> Option<DeliveryMode> {
        self.delivery_mode
    }

    /// Sets [`delivery_mode`](Self::delivery_mode).
    #[inline]
    #[must_use]
    pub fn with_delivery_mode(mut self, mode: DeliveryMode) -> Self {
        self.delivery_mode = Some(mode);
        self
    }

    /// Which messages of a priority queue come first.
    #[inline]
    pub fn priority(&self) -> Option<u8> {
        self.priority
    }

    /// Sets [`priority`](Self::priority).
    #[inline]
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// The application's own headers, which headers exchanges look at too.
    pub fn headers(&self) -> Option<&Table> {
        self.rest.as_ref()?.headers.as_ref()
    }

    /// The value of one header.
    pub fn header(&self, key: &str) -> Option<&Value> {
        self.headers()?.get(key)
    }

    /// Sets [`headers`](Self::headers), all of them.
    #[must_use]
    pub fn with_headers(mut self, headers: Table) -> Self {
        self.rest_mut().headers = Some(headers);
        self
    }

    /// Sets one header.
    #[must_use]
    pub fn with_header(mut self, key: impl Into<Text>, value: impl Into<Value>) -> Self {
        self.headers_mut().insert(key, value);
        self
    }

    /// The headers for changing, an empty table if there were none.
    pub fn headers_mut(&mut self) -> &mut Table {
        self.rest_mut().headers.get_or_insert_default()
    }

    /// After how long in a queue the message is dropped or dead-lettered.
    pub fn expiration(&self) -> Option<Duration> {
        self.rest.as_ref()?.expiration.map(Duration::from_millis)
    }

    /// Sets [`expiration`](Self::expiration), in whole milliseconds.
    #[must_use]
    pub fn with_expiration(mut self, after: Duration) -> Self {
        self.rest_mut().expiration = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// When the message was made, by the publisher's clock, in whole seconds.
    pub fn timestamp(&self) -> Option<SystemTime> {
        self.rest.as_ref()?.timestamp.and_then(time_of)
    }

    /// Sets [`timestamp`](Self::timestamp).
    #[must_use]
    pub fn with_timestamp(mut self, time: SystemTime) -> Self {
        self.rest_mut().timestamp = Some(seconds_of(time));
        self
    }

    /// Refuses what cannot be sent.
    #[inline]
    pub fn check(&self) -> Result<(), Refused> {
        match &self.rest {
            None => Ok(()),
            Some(rest) => rest.check(),
        }
    }

    /// How many bytes [`encode`](Self::encode) appends.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        let inline = 2 + usize::from(self.delivery_mode.is_some()) + usize::from(self.priority.is_some());
        inline + self.rest.as_ref().map_or(0, |rest| rest.encoded_len())
    }

    /// Appends flags and list as the wire has them; what [`check`](Self::check) refuses comes out clipped.
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
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let mut cursor = Cursor::new(bytes);
        let flags = cursor.short().ok_or_else(|| cut_short("flags"))?;
        let mut word = flags;
        while word & CONTINUED != 0 {
            word = cursor.short().ok_or_else(|| cut_short("flags"))?;
        }
        let mut properties = Self::default();
        if flags & BOXED != 0 {
            properties.rest = Some(Box::default());
        }
        let mut read = Reader { cursor, flags, bytes };
        // The order of the wire.
        if let Some(rest) = &mut properties.rest {
            rest.content_type = read.text(CONTENT_TYPE, "content-type")?;
            rest.content_encoding = read.text(CONTENT_ENCODING, "content-encoding")?;
            rest.headers = read.table(HEADERS, "headers")?;
        }
        properties.delivery_mode = read.octet(DELIVERY_MODE, "delivery-mode")?.map(DeliveryMode::from);
        properties.priority = read.octet(PRIORITY, "priority")?;
        if let Some(rest) = &mut properties.rest {
            rest.correlation_id = read.text(CORRELATION_ID, "correlation-id")?;
            rest.reply_to = read.text(REPLY_TO, "reply-to")?;
            rest.expiration = read.milliseconds(EXPIRATION, "expiration")?;
            rest.message_id = read.text(MESSAGE_ID, "message-id")?;
            rest.timestamp = read.longlong(TIMESTAMP, "timestamp")?;
            rest.message_type = read.text(TYPE, "type")?;
            rest.user_id = read.text(USER_ID, "user-id")?;
            rest.app_id = read.text(APP_ID, "app-id")?;
            rest.cluster_id = read.text(CLUSTER_ID, "cluster-id")?;
        }
        Ok(properties)
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

impl Rest {
    /// The short strings in the order of the wire, those before the inline properties first.
    fn before(&self) -> [(u16, &'static str, &Option<String>); 2] {
        [
            (CONTENT_TYPE, "content-type", &self.content_type),
            (CONTENT_ENCODING, "content-encoding", &self.content_encoding),
        ]
    }

    fn middle(&self) -> [(u16, &'static str, &Option<String>); 2] {
        [(CORRELATION_ID, "correlation-id", &self.correlation_id), (REPLY_TO, "reply-to", &self.reply_to)]
    }

    fn after(&self) -> [(u16, &'static str, &Option<String>); 4] {
        [
            (TYPE, "type", &self.message_type),
            (USER_ID, "user-id", &self.user_id),
            (APP_ID, "app-id", &self.app_id),
            (CLUSTER_ID, "cluster-id", &self.cluster_id),
        ]
    }

    fn texts(&self) -> impl Iterator<Item = (u16, &'static str, &str)> {
        let message_id = (MESSAGE_ID, "message-id", &self.message_id);
        let texts = self.before().into_iter().chain(self.middle()).chain([message_id]).chain(self.after());
        texts.filter_map(|(flag, name, text)| Some((flag, name, text.as_deref()?)))
    }

    fn flags(&self) -> u16 {
        let mut flags = self.texts().fold(0, |flags, (flag, _, _)| flags | flag);
        if self.headers.is_some() {
            flags |= HEADERS;
        }
        if self.expiration.is_some() {
            flags |= EXPIRATION;
        }
        if self.timestamp.is_some() {
            flags |= TIMESTAMP;
        }
        flags
    }

    fn check(&self) -> Result<(), Refused> {
        for (_, name, text) in self.texts() {
            if text.len() > 255 {
                return Err(Refused::LongProperty { name, len: text.len() });
            }
        }
        if self.expiration.is_some_and(|after| after > u32::MAX.into()) {
            return Err(Refused::Expiration);
        }
        self.headers.as_ref().map_or(Ok(()), Table::check)
    }

    fn encoded_len(&self) -> usize {
        let texts = self.texts().map(|(_, _, text)| 1 + text.len().min(255)).sum::<usize>();
        let headers = self.headers.as_ref().map_or(0, Table::encoded_len);
        let expiration = self.expiration.map_or(0, |after| 1 + Decimal::of(after).digits().len());
        let timestamp = self.timestamp.map_or(0, |_| 8);
        texts + headers + expiration + timestamp
    }

    fn put_before(&self, buf: &mut BytesMut) {
        self.before().into_iter().for_each(|(_, _, text)| put_text(buf, text));
        if let Some(headers) = &self.headers {
            field::put_table(headers, buf, 0);
        }
    }

    fn put_after(&self, buf: &mut BytesMut) {
        self.middle().into_iter().for_each(|(_, _, text)| put_text(buf, text));
        if let Some(after) = self.expiration {
            put_short(buf, Decimal::of(after).digits());
        }
        put_text(buf, &self.message_id);
        if let Some(seconds) = self.timestamp {
            buf.put_u64(seconds);
        }
        self.after().into_iter().for_each(|(_, _, text)| put_text(buf, text));
    }
}

fn put_text(buf: &mut BytesMut, text: &Option<String>) {
    if let Some(text) = text {
        put_short(buf, text.as_bytes());
    }
}

fn put_short(buf: &mut BytesMut, octets: &[u8]) {
    let octets = octets.get(..255).unwrap_or(octets);
    buf.put_u8(octets.len() as u8);
    buf.put_slice(octets);
}

/// A number in decimal digits, without a string.
struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    fn of(mut number: u64) -> Self {
        let mut decimal = Self { digits: [b'0'; 20], start: 20 };
        for (at, digit) in decimal.digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            decimal.start = at;
            if number == 0 {
                break;
            }
        }
        decimal
    }

    fn digits(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

/// Reads what the flags announce, in order.
struct Reader<'a> {
    cursor: Cursor<'a>,
    flags: u16,
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn short(&mut self, flag: u16, name: &'static str) -> Result<Option<&'a str>, Fault> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        let octets = self.cursor.shortstr().ok_or_else(|| cut_short(name))?;
        let text = std::str::from_utf8(octets);
        text.map(Some).map_err(|_| Fault::syntax(format!("property {name} is not UTF-8")))
    }

    fn text(&mut self, flag: u16, name: &'static str) -> Result<Option<String>, Fault> {
        Ok(self.short(flag, name)?.map(String::from))
    }

    fn milliseconds(&mut self, flag: u16, name: &'static str) -> Result<Option<u64>, Fault> {
        let Some(text) = self.short(flag, name)? else { return Ok(None) };
        let number = text.parse();
        number.map(Some).map_err(|_| Fault::syntax(format!("property {name} is no number of milliseconds")))
    }

    fn octet(&mut self, flag: u16, name: &'static str) -> Result<Option<u8>, Fault> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        self.cursor.octet().map(Some).ok_or_else(|| cut_short(name))
    }

    fn longlong(&mut self, flag: u16, name: &'static str) -> Result<Option<u64>, Fault> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        self.cursor.longlong().map(Some).ok_or_else(|| cut_short(name))
    }

    fn table(&mut self, flag: u16, name: &'static str) -> Result<Option<Table>, Fault> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        let rest = self.bytes.get(self.cursor.at()..).unwrap_or_default();
        let (table, len) = field::read_table(rest)
            .map_err(|fault| Fault::syntax(format!("property {name}: {}", fault.text)))?;
        self.cursor.take(len).ok_or_else(|| cut_short(name))?;
        Ok(Some(table))
    }
}

#[cold]
fn cut_short(name: &'static str) -> Fault {
    Fault::syntax(format!("properties end within {name}"))
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
