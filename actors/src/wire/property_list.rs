//! All properties but the two that every message has, and their octets.
//!
//! A content header holds a word of flags, then the properties that the flags announce, in the order of the flags.

use bytes::{BufMut, BytesMut};

use super::{
    cursor::Cursor,
    fault::Fault,
    field,
    table::{Refused, Table},
};

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
pub(super) const DELIVERY_MODE: u16 = 1 << 12;
pub(super) const PRIORITY: u16 = 1 << 11;
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

/// What a [`Properties`](super::properties::Properties) keeps in its box.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rest {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) headers: Option<Table>,
    pub(super) correlation_id: Option<String>,
    pub(super) reply_to: Option<String>,
    pub(super) expiration: Option<u64>,
    pub(super) message_id: Option<String>,
    pub(super) timestamp: Option<u64>,
    pub(super) message_type: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) app_id: Option<String>,
    pub(super) cluster_id: Option<String>,
}

impl Rest {
    /// Reads what stands in front of delivery mode and priority.
    pub(super) fn read_before(&mut self, list: &mut List<'_>) -> Result<(), Fault> {
        self.content_type = list.text(CONTENT_TYPE, "content-type")?;
        self.content_encoding = list.text(CONTENT_ENCODING, "content-encoding")?;
        self.headers = list.table(HEADERS, "headers")?;
        Ok(())
    }

    /// Reads what stands behind delivery mode and priority.
    pub(super) fn read_after(&mut self, list: &mut List<'_>) -> Result<(), Fault> {
        self.correlation_id = list.text(CORRELATION_ID, "correlation-id")?;
        self.reply_to = list.text(REPLY_TO, "reply-to")?;
        self.expiration = list.milliseconds(EXPIRATION, "expiration")?;
        self.message_id = list.text(MESSAGE_ID, "message-id")?;
        self.timestamp = list.longlong(TIMESTAMP, "timestamp")?;
        self.message_type = list.text(TYPE, "type")?;
        self.user_id = list.text(USER_ID, "user-id")?;
        self.app_id = list.text(APP_ID, "app-id")?;
        self.cluster_id = list.text(CLUSTER_ID, "cluster-id")?;
        Ok(())
    }

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

    pub(super) fn flags(&self) -> u16 {
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

    pub(super) fn check(&self) -> Result<(), Refused> {
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

    pub(super) fn encoded_len(&self) -> usize {
        let texts = self.texts().map(|(_, _, text)| 1 + text.len().min(255)).sum::<usize>();
        let headers = self.headers.as_ref().map_or(0, Table::encoded_len);
        let expiration = self.expiration.map_or(0, |after| 1 + Decimal::of(after).digits().len());
        let timestamp = self.timestamp.map_or(0, |_| 8);
        texts + headers + expiration + timestamp
    }

    pub(super) fn put_before(&self, buf: &mut BytesMut) {
        self.before().into_iter().for_each(|(_, _, text)| put_text(buf, text));
        if let Some(headers) = &self.headers {
            field::put_table(headers, buf, 0);
        }
    }

    pub(super) fn put_after(&self, buf: &mut BytesMut) {
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

/// The property bytes of a content header; reads what the flags announce, in order.
pub(super) struct List<'a> {
    cursor: Cursor<'a>,
    flags: u16,
    bytes: &'a [u8],
}

impl<'a> List<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut cursor = Cursor::new(bytes);
        let flags = cursor.short().ok_or_else(|| cut_short("flags"))?;
        let mut word = flags;
        while word & CONTINUED != 0 {
            word = cursor.short().ok_or_else(|| cut_short("flags"))?;
        }
        Ok(Self { cursor, flags, bytes })
    }

    /// Whether there is more than delivery mode and priority.
    pub(super) fn has_rest(&self) -> bool {
        self.flags & BOXED != 0
    }

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

    pub(super) fn octet(&mut self, flag: u16, name: &'static str) -> Result<Option<u8>, Fault> {
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
