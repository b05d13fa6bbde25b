//! Encoding and decoding of the properties in a content header.
//!
//! A content header has one or more words of flags, then the properties that the flags announce, in the order
//! of the flags. Properties to be sent must pass [`check_properties`] first. Properties that cannot be
//! decoded do not affect the connection, and a field that cannot be decoded does not affect the others.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    cursor::Cursor,
    encode_error::EncodeError,
    fault::Fault,
    field::{check_table, decode_table, put_table, table_len},
    properties::{DeliveryMode, MoreProperties, Properties},
    property_field::{Expiration, Headers, PropertyText, Timestamp},
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
/// The properties of [`MoreProperties`].
const BOXED: u16 = 0xFFFC & !(DELIVERY_MODE | PRIORITY);
/// Another word of flags follows, for properties that AMQP 0-9-1 does not have.
const CONTINUED: u16 = 1;

/// Checks that properties can be encoded.
///
/// # Errors
/// [`EncodeError`] for the first property that is too long, too deep or not a finite number.
#[inline]
pub fn check_properties(properties: &Properties) -> Result<(), EncodeError> {
    match &properties.more {
        None => Ok(()),
        Some(more) => more.check(),
    }
}

/// Returns the length of encoded properties, flags included.
#[inline]
pub fn properties_len(properties: &Properties) -> usize {
    let inline =
        2 + usize::from(properties.delivery_mode.is_some()) + usize::from(properties.priority.is_some());
    match &properties.more {
        None => inline,
        Some(more) => inline + more.encoded_len(),
    }
}

/// Returns the flags and the octet of the delivery mode, if that is the only property.
#[inline]
pub fn only_delivery_mode(properties: &Properties) -> Option<([u8; 2], u8)> {
    match properties {
        Properties { delivery_mode: Some(mode), priority: None, more: None } => {
            Some((DELIVERY_MODE.to_be_bytes(), (*mode).into()))
        }
        _ => None,
    }
}

/// Appends the flags and the properties. Properties that [`check_properties`] refuses are truncated.
#[inline]
pub fn put_properties(buf: &mut BytesMut, properties: &Properties) {
    let mut flags = 0;
    if properties.delivery_mode.is_some() {
        flags |= DELIVERY_MODE;
    }
    if properties.priority.is_some() {
        flags |= PRIORITY;
    }
    match &properties.more {
        None => {
            buf.put_u16(flags);
            put_inline(buf, properties);
        }
        Some(more) => {
            buf.put_u16(flags | more.flags());
            more.put_before(buf);
            put_inline(buf, properties);
            more.put_after(buf);
        }
    }
}

#[inline]
fn put_inline(buf: &mut BytesMut, properties: &Properties) {
    if let Some(mode) = properties.delivery_mode {
        buf.put_u8(mode.into());
    }
    if let Some(priority) = properties.priority {
        buf.put_u8(priority);
    }
}

/// Decodes the flags and the properties of a content header. Octets after the last property are ignored, and
/// a property that cannot be decoded is kept as bytes.
///
/// # Errors
/// [`Fault`] with 502 for bytes that end too early.
pub fn decode_properties(bytes: &[u8]) -> Result<Properties, Fault> {
    let mut reader = PropertyReader::new(bytes)?;
    let mut more = reader.has_more().then(Box::<MoreProperties>::default);
    if let Some(more) = &mut more {
        more.read_before(&mut reader)?;
    }
    let delivery_mode = reader.octet(DELIVERY_MODE, "delivery-mode")?.map(DeliveryMode::from);
    let priority = reader.octet(PRIORITY, "priority")?;
    if let Some(more) = &mut more {
        more.read_after(&mut reader)?;
    }
    Ok(Properties { delivery_mode, priority, more })
}

impl MoreProperties {
    /// Decodes the properties before the inline ones.
    fn read_before(&mut self, reader: &mut PropertyReader<'_>) -> Result<(), Fault> {
        self.content_type = reader.text(CONTENT_TYPE, "content-type")?;
        self.content_encoding = reader.text(CONTENT_ENCODING, "content-encoding")?;
        self.headers = reader.headers()?;
        Ok(())
    }

    /// Decodes the properties after the inline ones.
    fn read_after(&mut self, reader: &mut PropertyReader<'_>) -> Result<(), Fault> {
        self.correlation_id = reader.text(CORRELATION_ID, "correlation-id")?;
        self.reply_to = reader.text(REPLY_TO, "reply-to")?;
        self.expiration = reader.expiration()?;
        self.message_id = reader.text(MESSAGE_ID, "message-id")?;
        self.timestamp = reader.longlong(TIMESTAMP, "timestamp")?.map(Timestamp::Seconds);
        self.message_type = reader.text(TYPE, "type")?;
        self.user_id = reader.text(USER_ID, "user-id")?;
        self.app_id = reader.text(APP_ID, "app-id")?;
        self.cluster_id = reader.text(CLUSTER_ID, "cluster-id")?;
        Ok(())
    }

    // Short strings in the order of the flags: before the inline properties, then those before and after
    // `message-id`.

    fn before(&self) -> [(u16, &'static str, &Option<PropertyText>); 2] {
        [
            (CONTENT_TYPE, "content-type", &self.content_type),
            (CONTENT_ENCODING, "content-encoding", &self.content_encoding),
        ]
    }

    fn middle(&self) -> [(u16, &'static str, &Option<PropertyText>); 2] {
        [(CORRELATION_ID, "correlation-id", &self.correlation_id), (REPLY_TO, "reply-to", &self.reply_to)]
    }

    fn after(&self) -> [(u16, &'static str, &Option<PropertyText>); 4] {
        [
            (TYPE, "type", &self.message_type),
            (USER_ID, "user-id", &self.user_id),
            (APP_ID, "app-id", &self.app_id),
            (CLUSTER_ID, "cluster-id", &self.cluster_id),
        ]
    }

    fn texts(&self) -> impl Iterator<Item = (u16, &'static str, &[u8])> {
        let message_id = (MESSAGE_ID, "message-id", &self.message_id);
        let texts = self.before().into_iter().chain(self.middle()).chain([message_id]).chain(self.after());
        texts.filter_map(|(flag, name, text)| Some((flag, name, text.as_ref()?.as_bytes())))
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

    fn check(&self) -> Result<(), EncodeError> {
        if self.undecodable {
            return Err(EncodeError::Undecodable);
        }
        for (_, name, text) in self.texts() {
            if text.len() > 255 {
                return Err(EncodeError::LongProperty { name, len: text.len() });
            }
        }
        if matches!(self.expiration, Some(Expiration::Millis(millis)) if millis > u32::MAX.into()) {
            return Err(EncodeError::Expiration);
        }
        if self.timestamp == Some(Timestamp::BeforeEpoch) {
            return Err(EncodeError::BeforeEpoch);
        }
        match &self.headers {
            Some(Headers::Table(table)) => {
                check_table(table).map_err(|error| EncodeError::Header(error.into()))
            }
            Some(Headers::Undecodable { .. }) | None => Ok(()),
        }
    }

    fn encoded_len(&self) -> usize {
        let texts = self.texts().map(|(_, _, text)| 1 + text.len().min(255)).sum::<usize>();
        let headers = self.headers.as_ref().map_or(0, Headers::encoded_len);
        let expiration = self.expiration.as_ref().map_or(0, Expiration::encoded_len);
        let timestamp = self.timestamp.map_or(0, |_| 8);
        texts + headers + expiration + timestamp
    }

    fn put_before(&self, buf: &mut BytesMut) {
        self.before().into_iter().for_each(|(_, _, text)| put_text(buf, text));
        match &self.headers {
            Some(Headers::Table(table)) => put_table(buf, table),
            Some(Headers::Undecodable { bytes, .. }) => buf.put_slice(bytes),
            None => {}
        }
    }

    fn put_after(&self, buf: &mut BytesMut) {
        self.middle().into_iter().for_each(|(_, _, text)| put_text(buf, text));
        match &self.expiration {
            Some(Expiration::Millis(millis)) => put_short(buf, DecimalDigits::of(*millis).as_bytes()),
            Some(Expiration::Raw(bytes)) => put_short(buf, bytes),
            None => {}
        }
        put_text(buf, &self.message_id);
        if let Some(timestamp) = self.timestamp {
            buf.put_u64(timestamp.seconds().unwrap_or_default());
        }
        self.after().into_iter().for_each(|(_, _, text)| put_text(buf, text));
    }
}

impl Expiration {
    fn encoded_len(&self) -> usize {
        1 + match self {
            Self::Millis(millis) => DecimalDigits::of(*millis).as_bytes().len(),
            Self::Raw(bytes) => bytes.len().min(255),
        }
    }
}

impl Headers {
    fn encoded_len(&self) -> usize {
        match self {
            Self::Table(table) => table_len(table),
            Self::Undecodable { bytes, .. } => bytes.len(),
        }
    }
}

fn put_text(buf: &mut BytesMut, text: &Option<PropertyText>) {
    if let Some(text) = text {
        put_short(buf, text.as_bytes());
    }
}

fn put_short(buf: &mut BytesMut, octets: &[u8]) {
    let octets = octets.get(..255).unwrap_or(octets);
    buf.put_u8(octets.len() as u8);
    buf.put_slice(octets);
}

/// A number in decimal digits, without an allocation.
struct DecimalDigits {
    digits: [u8; 20],
    start: usize,
}

impl DecimalDigits {
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

    fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

/// A reader of encoded properties, in the order of the flags.
struct PropertyReader<'a> {
    cursor: Cursor<'a>,
    flags: u16,
    bytes: &'a [u8],
}

impl<'a> PropertyReader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut cursor = Cursor::new(bytes);
        let flags = cursor.short().ok_or_else(|| properties_cut_short("flags"))?;
        let mut word = flags;
        while word & CONTINUED != 0 {
            word = cursor.short().ok_or_else(|| properties_cut_short("flags"))?;
        }
        Ok(Self { cursor, flags, bytes })
    }

    /// Returns whether the flags announce more than the inline properties.
    fn has_more(&self) -> bool {
        self.flags & BOXED != 0
    }

    fn short(&mut self, flag: u16, name: &'static str) -> Result<Option<&'a [u8]>, Fault> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        self.cursor.shortstr().map(Some).ok_or_else(|| properties_cut_short(name))
    }

    fn text(&mut self, flag: u16, name: &'static str) -> Result<Option<PropertyText>, Fault> {
        Ok(self.short(flag, name)?.map(|octets| PropertyText::from_bytes(octets.to_vec())))
    }

    fn expiration(&mut self) -> Result<Option<Expiration>, Fault> {
        let Some(octets) = self.short(EXPIRATION, "expiration")? else { return Ok(None) };
        let number: Option<u64> = std::str::from_utf8(octets).ok().and_then(|text| text.parse().ok());
        let number = number.filter(|millis| DecimalDigits::of(*millis).as_bytes() == octets);
        Ok(Some(number.map_or_else(|| Expiration::Raw(octets.to_vec()), Expiration::Millis)))
    }

    fn octet(&mut self, flag: u16, name: &'static str) -> Result<Option<u8>, Fault> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        self.cursor.octet().map(Some).ok_or_else(|| properties_cut_short(name))
    }

    fn longlong(&mut self, flag: u16, name: &'static str) -> Result<Option<u64>, Fault> {
        if self.flags & flag == 0 {
            return Ok(None);
        }
        self.cursor.longlong().map(Some).ok_or_else(|| properties_cut_short(name))
    }

    fn headers(&mut self) -> Result<Option<Headers>, Fault> {
        if self.flags & HEADERS == 0 {
            return Ok(None);
        }
        let rest = self.bytes.get(self.cursor.at()..).unwrap_or_default();
        let body = self.cursor.longstr().ok_or_else(|| properties_cut_short("headers"))?;
        let bytes = rest.get(..4 + body.len()).unwrap_or(rest);
        Ok(Some(match decode_table(bytes) {
            Ok((table, _)) => Headers::Table(table),
            Err(fault) => Headers::Undecodable {
                bytes: Bytes::copy_from_slice(bytes),
                error: Fault::syntax(format!("property headers: {}", fault.text)).into(),
            },
        }))
    }
}

#[cold]
fn properties_cut_short(name: &'static str) -> Fault {
    Fault::syntax(format!("properties end within {name}"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::wire::table::Table;

    fn encoded(properties: &Properties) -> BytesMut {
        let mut buf = BytesMut::new();
        put_properties(&mut buf, properties);
        assert_eq!(buf.len(), properties_len(properties));
        buf
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
        assert_eq!(decode_properties(&encoded(&all)), Ok(all));
    }

    /// MSG-04
    #[test]
    fn expiration_is_decimal_milliseconds() {
        let properties = Properties::new().with_expiration(Duration::from_millis(1500));
        assert_eq!(encoded(&properties)[..], *b"\x01\0\x041500");
        assert_eq!(
            decode_properties(&encoded(&properties)).unwrap().expiration(),
            Some(Duration::from_millis(1500))
        );
        for bytes in [&b"\x01\0\x03abc"[..], b"\x01\0\x02-1", b"\x01\0\x02\xc3\x28"] {
            let properties = decode_properties(bytes).unwrap();
            assert_eq!((properties.expiration(), properties.invalid_expiration()), (None, Some(&bytes[3..])));
            assert_eq!(encoded(&properties), bytes);
        }
        let after = |micros| Properties::new().with_expiration(Duration::from_micros(micros)).expiration();
        assert_eq!([0, 1, 1000, 1001].map(after), [0, 1, 1, 2].map(|ms| Some(Duration::from_millis(ms))));
        let long = Properties::new().with_expiration(Duration::MAX);
        assert_eq!(check_properties(&long), Err(EncodeError::Expiration));
        encoded(&long);
    }

    #[test]
    fn a_time_before_1970_is_refused() {
        let time = SystemTime::UNIX_EPOCH - Duration::from_nanos(1);
        let properties = Properties::new().with_timestamp(time);
        assert_eq!(properties.timestamp(), None);
        assert_eq!(check_properties(&properties), Err(EncodeError::BeforeEpoch));
        assert_eq!(check_properties(&Properties::new().with_timestamp(SystemTime::UNIX_EPOCH)), Ok(()));
        let header = Properties::new().with_header("at", time);
        let at = EncodeError::Entry { path: "at".into(), why: Box::new(EncodeError::BeforeEpoch) };
        assert_eq!(check_properties(&header), Err(EncodeError::Header(Box::new(at))));
    }

    #[test]
    fn every_number_is_sent_as_it_came() {
        for seconds in [0, 1 << 63, u64::MAX] {
            let mut bytes = b"\0\x40".to_vec();
            bytes.extend(u64::to_be_bytes(seconds));
            let properties = decode_properties(&bytes).unwrap();
            assert_eq!(properties.timestamp_seconds(), Some(seconds));
            assert_eq!((check_properties(&properties), &encoded(&properties)[..]), (Ok(()), &bytes[..]));
            assert_eq!(Properties::new().with_timestamp_seconds(seconds), properties);
        }
        for bytes in [&b"\x01\0\x0200"[..], b"\x01\0\x03+15", b"\x01\0\x03015"] {
            let properties = decode_properties(bytes).unwrap();
            assert!(properties.expiration().is_some() && properties.invalid_expiration().is_none());
            assert_eq!((check_properties(&properties), &encoded(&properties)[..]), (Ok(()), bytes));
        }
    }

    #[test]
    fn an_absent_property_is_not_an_empty_one() {
        let empty = Properties::new().with_content_type("");
        assert_eq!(decode_properties(&encoded(&empty)).unwrap().content_type(), Some(""));
        assert_eq!(decode_properties(b"\0\0").unwrap().content_type(), None);
    }

    #[test]
    fn a_fault_names_the_property() {
        for (bytes, name) in [
            (&b"\x04\0\x02a"[..], "end within correlation-id"),
            (b"\x20\0\0\0\0\x05\x01kZx", "end within headers"),
            (b"\0\x01", "end within flags"),
            (b"", "end within flags"),
        ] {
            let fault = decode_properties(bytes).unwrap_err();
            assert!(fault.code == 502 && fault.text.contains(name), "{fault}");
        }
    }

    #[test]
    fn a_field_that_cannot_be_decoded_hides_no_other() {
        // Every property but the priority: headers with an unknown type, and texts that are not UTF-8.
        let mut bytes = b"\xf7\xfc\x02\xc3\x28\x01e\0\0\0\x04\x01kZx\x02".to_vec();
        bytes.extend(b"\x01\xfe\x05reply\x03\xff\xff\xff\x01m\0\0\0\0\0\0\0\x07\x01\x80\x01u\x01\x81\x01c");
        let properties = decode_properties(&bytes).unwrap();
        assert_eq!(
            (properties.content_type(), properties.content_type_bytes()),
            (None, Some(&b"\xc3\x28"[..]))
        );
        assert_eq!(properties.content_encoding(), Some("e"));
        assert_eq!(properties.headers(), None);
        let error = properties.headers_error().unwrap().to_string();
        assert!(error.contains("property headers: field table holds the unknown type 'Z'"), "{error}");
        assert_eq!(properties.delivery_mode(), Some(DeliveryMode::Persistent));
        assert_eq!(
            (properties.correlation_id(), properties.correlation_id_bytes()),
            (None, Some(&[0xfe][..]))
        );
        assert_eq!(properties.reply_to(), Some("reply"));
        assert_eq!(properties.invalid_expiration(), Some(&[0xff; 3][..]));
        assert_eq!(properties.message_id(), Some("m"));
        assert!(properties.timestamp().is_some());
        assert_eq!(properties.message_type_bytes(), Some(&[0x80][..]));
        assert_eq!((properties.user_id(), properties.cluster_id()), (Some("u"), Some("c")));
        assert_eq!(properties.app_id_bytes(), Some(&[0x81][..]));
        // It is sent on as it came.
        assert_eq!(check_properties(&properties), Ok(()));
        assert_eq!(encoded(&properties), bytes);
        let mended = properties.with_header("k", 1);
        assert_eq!((mended.headers_error(), mended.headers().map(|table| table.len())), (None, Some(1)));
    }

    #[test]
    fn padding_and_unknown_flags_are_ignored() {
        let properties = decode_properties(b"\x10\0\x02padding").unwrap();
        assert_eq!(properties.delivery_mode(), Some(DeliveryMode::Persistent));
        let properties = decode_properties(b"\x10\x01\x80\0\x09future").unwrap();
        assert_eq!(properties.delivery_mode(), Some(DeliveryMode::Other(9)));
        assert_eq!(decode_properties(b"\0\x02?"), Ok(Properties::new()));
    }
}
