//! The encoded properties of a message, of which only what the broker needs is looked at.

use actix_pika_actors::{
    Table, Text, Value,
    wire::field::{decode_table_within, put_table_within, table_len},
};
use bytes::{BufMut, Bytes, BytesMut};

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
/// Another word of flags follows.
const CONTINUED: u16 = 1;

/// How deep headers may nest. RabbitMQ has no such limit.
pub(crate) const DEPTH_MAX: usize = 256;

/// The properties that a broker looks at. The texts are positions in the encoded bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) delivery_mode: Option<u8>,
    pub(crate) priority: Option<u8>,
    pub(crate) headers: Option<Place>,
    pub(crate) reply_to: Option<Place>,
    pub(crate) expiration: Option<Place>,
    pub(crate) user_id: Option<Place>,
    cluster_id: Option<Place>,
    /// Where headers stand, or would stand.
    headers_at: u32,
}

/// Where a field stands in the encoded properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    start: u32,
    len: u32,
}

impl Place {
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        let start = self.start as usize;
        bytes.get(start..start + self.len as usize).unwrap_or_default()
    }
}

/// Properties that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl Summary {
    /// Reads the flags and the properties of a content header.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader { bytes, at: 0 };
        let flags = reader.u16()?;
        if flags & CONTINUED != 0 {
            return Err(Unreadable);
        }
        let mut summary = Self::default();
        for flag in [CONTENT_TYPE, CONTENT_ENCODING] {
            if flags & flag != 0 {
                reader.text()?;
            }
        }
        summary.headers_at = reader.at as u32;
        if flags & HEADERS != 0 {
            summary.headers = Some(reader.table()?);
        }
        if flags & DELIVERY_MODE != 0 {
            summary.delivery_mode = Some(reader.u8()?);
        }
        if flags & PRIORITY != 0 {
            summary.priority = Some(reader.u8()?);
        }
        if flags & CORRELATION_ID != 0 {
            reader.text()?;
        }
        if flags & REPLY_TO != 0 {
            summary.reply_to = Some(reader.text()?);
        }
        if flags & EXPIRATION != 0 {
            summary.expiration = Some(reader.text()?);
        }
        if flags & MESSAGE_ID != 0 {
            reader.text()?;
        }
        if flags & TIMESTAMP != 0 {
            reader.take(8)?;
        }
        if flags & TYPE != 0 {
            reader.text()?;
        }
        if flags & USER_ID != 0 {
            summary.user_id = Some(reader.text()?);
        }
        if flags & APP_ID != 0 {
            reader.text()?;
        }
        if flags & CLUSTER_ID != 0 {
            summary.cluster_id = Some(reader.text()?);
        }
        if reader.at == bytes.len() { Ok(summary) } else { Err(Unreadable) }
    }

    /// Returns the properties with other headers, and without the expiration if asked. An empty table takes the place of
    /// headers, and adds none.
    pub(crate) fn rewrite(&self, bytes: &[u8], headers: &Table, drop_expiration: bool) -> Bytes {
        let mut flags = u16::from_be_bytes([bytes[0], bytes[1]]);
        let mut buf = BytesMut::with_capacity(bytes.len() + table_len(headers));
        buf.put_u16(0);
        let at = self.headers_at as usize;
        buf.put_slice(&bytes[2..at]);
        flags &= !HEADERS;
        let has_headers = !headers.is_empty() || self.headers.is_some();
        if has_headers {
            put_table_within(&mut buf, headers, DEPTH_MAX);
            flags |= HEADERS;
        }
        let rest = at + self.headers.map_or(0, |place| place.len as usize);
        match self.expiration.filter(|_| drop_expiration) {
            Some(place) => {
                flags &= !EXPIRATION;
                // Its octet of length stands in front.
                buf.put_slice(&bytes[rest..place.start as usize - 1]);
                buf.put_slice(&bytes[(place.start + place.len) as usize..]);
            }
            None => buf.put_slice(&bytes[rest..]),
        }
        buf[..2].copy_from_slice(&flags.to_be_bytes());
        buf.freeze()
    }

    /// Returns the properties without the cluster id, and with the delivery mode 1 unless it is 2, if asked.
    pub(crate) fn in_stream(&self, bytes: &[u8], sets_mode: bool) -> Bytes {
        let mut flags = u16::from_be_bytes([bytes[0], bytes[1]]) & !CLUSTER_ID;
        let mut buf = BytesMut::with_capacity(bytes.len() + 1);
        buf.put_u16(0);
        let mode_at = (self.headers_at + self.headers.map_or(0, |place| place.len)) as usize;
        buf.put_slice(&bytes[2..mode_at]);
        let mode = (flags & DELIVERY_MODE != 0).then(|| bytes[mode_at]);
        let kept = if sets_mode { Some(mode.filter(|mode| *mode == 2).unwrap_or(1)) } else { mode };
        if let Some(mode) = kept {
            flags |= DELIVERY_MODE;
            buf.put_u8(mode);
        }
        // It is the last one, with an octet of length in front.
        let end = self.cluster_id.map_or(bytes.len(), |place| place.start as usize - 1);
        buf.put_slice(&bytes[mode_at + usize::from(mode.is_some())..end]);
        buf[..2].copy_from_slice(&flags.to_be_bytes());
        buf.freeze()
    }

    /// Returns the properties with another `reply_to`, if they have one.
    pub(crate) fn with_reply_to(&self, bytes: &[u8], address: &str) -> Bytes {
        let Some(place) = self.reply_to else { return Bytes::copy_from_slice(bytes) };
        let address = address.as_bytes().get(..255).unwrap_or(address.as_bytes());
        let mut buf = BytesMut::with_capacity(bytes.len() + address.len());
        // Its octet of length stands in front.
        buf.put_slice(&bytes[..place.start as usize - 1]);
        buf.put_u8(address.len() as u8);
        buf.put_slice(address);
        buf.put_slice(&bytes[(place.start + place.len) as usize..]);
        buf.freeze()
    }

    /// Decodes the headers.
    pub(crate) fn table(&self, bytes: &[u8]) -> Result<Option<Table>, Unreadable> {
        match self.headers {
            None => Ok(None),
            Some(place) => {
                let table = decode_table_within(place.of(bytes), DEPTH_MAX);
                table.map(|(table, _)| Some(table)).map_err(|_| Unreadable)
            }
        }
    }
}

/// Returns headers sorted by name, as RabbitMQ writes those that it has changed.
pub(crate) fn sorted(headers: Table) -> Table {
    if headers.iter().is_sorted_by_key(|(name, _)| name) {
        return headers;
    }
    let mut entries: Vec<_> = headers.into_iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    without_repeated(entries)
}

/// Returns the headers that satisfy a condition, sorted by name.
pub(crate) fn kept(headers: &Table, is_kept: impl Fn(&Text, &Value) -> bool) -> Table {
    let kept = headers.iter().filter(|(name, value)| is_kept(name, value));
    let mut entries: Vec<_> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    without_repeated(entries)
}

/// Of a name that occurs more than once, the last value counts.
fn without_repeated(mut entries: Vec<(Text, Value)>) -> Table {
    entries.dedup_by(|(later, value), (name, kept)| {
        let is_repeated = later == name;
        if is_repeated {
            std::mem::swap(kept, value);
        }
        is_repeated
    });
    Table::from_entries(entries)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Result<Place, Unreadable> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(Unreadable)?;
        let place = Place { start: self.at as u32, len: len as u32 };
        self.at = end;
        Ok(place)
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        let place = self.take(1)?;
        place.of(self.bytes).first().copied().ok_or(Unreadable)
    }

    fn u16(&mut self) -> Result<u16, Unreadable> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn text(&mut self) -> Result<Place, Unreadable> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// A table, with its length in front.
    fn table(&mut self) -> Result<Place, Unreadable> {
        let start = self.at;
        let len = u32::from_be_bytes([self.u8()?, self.u8()?, self.u8()?, self.u8()?]);
        self.take(len as usize)?;
        Ok(Place { start: start as u32, len: (self.at - start) as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::is_readable;
    use actix_pika_actors::{DeliveryMode, Properties, wire::property_codec::put_properties};

    fn encoded(properties: &Properties) -> Bytes {
        let mut buf = BytesMut::new();
        put_properties(&mut buf, properties);
        buf.freeze()
    }

    #[test]
    fn what_the_broker_needs_is_found() {
        let properties = Properties::new()
            .with_content_type("text/plain")
            .with_header("a", 1)
            .with_delivery_mode(DeliveryMode::Persistent)
            .with_priority(7)
            .with_correlation_id("c")
            .with_reply_to("r")
            .with_expiration(std::time::Duration::from_millis(250))
            .with_timestamp_seconds(5)
            .with_user_id("u")
            .with_app_id("app");
        let bytes = encoded(&properties);
        let summary = Summary::read(&bytes).unwrap();
        assert_eq!((summary.delivery_mode, summary.priority), (Some(2), Some(7)));
        assert_eq!(summary.reply_to.unwrap().of(&bytes), b"r");
        assert_eq!(summary.expiration.unwrap().of(&bytes), b"250");
        assert_eq!(summary.user_id.unwrap().of(&bytes), b"u");
        assert_eq!(summary.table(&bytes).unwrap().unwrap(), Table::from([("a", 1)]));
    }

    #[test]
    fn headers_are_replaced_and_the_expiration_removed() {
        let before = Properties::new()
            .with_content_type("text/plain")
            .with_priority(7)
            .with_expiration(std::time::Duration::from_millis(250))
            .with_app_id("app");
        let table = Table::from([("x", "y")]);
        let rewritten = |properties: &Properties, table: &Table, drop| {
            let bytes = encoded(properties);
            Summary::read(&bytes).unwrap().rewrite(&bytes, table, drop)
        };
        let kept = rewritten(&before, &table, false);
        assert_eq!(kept, encoded(&before.clone().with_headers(table.clone())));
        let without = Properties::new()
            .with_content_type("text/plain")
            .with_headers(table.clone())
            .with_priority(7)
            .with_app_id("app");
        assert_eq!(rewritten(&before, &table, true), encoded(&without));
        let other = before.clone().with_header("long", "x".repeat(300));
        assert_eq!(rewritten(&other, &table, true), encoded(&without));
        let none = Properties::new().with_content_type("text/plain").with_priority(7).with_app_id("app");
        assert_eq!(rewritten(&before, &Table::new(), true), encoded(&none));
        let emptied = rewritten(&other, &Table::new(), true);
        assert_eq!(Summary::read(&emptied).unwrap().table(&emptied).unwrap(), Some(Table::new()));
    }

    #[test]
    fn the_address_for_replies_is_replaced() {
        let before = Properties::new().with_header("a", 1).with_reply_to("old").with_app_id("app");
        let bytes = encoded(&before);
        let after = Summary::read(&bytes).unwrap().with_reply_to(&bytes, "a longer one");
        assert_eq!(after, encoded(&before.with_reply_to("a longer one")));
    }

    /// Nodes keep a timestamp of 1 << 63, and tables of any depth.
    #[test]
    fn headers_that_a_client_cannot_write_are_kept() {
        let deep = |depth| (0..depth).fold(Value::Void, |inner, _| Value::Array(vec![inner]));
        for value in [Value::Timestamp(1 << 63), Value::Timestamp(u64::MAX), deep(DEPTH_MAX)] {
            let table = Table::new().with("value", value).with("a", 1);
            let rewritten = Summary::read(&[0, 0]).unwrap().rewrite(&[0, 0], &table, false);
            let summary = Summary::read(&rewritten).unwrap();
            assert!(is_readable(summary.headers.unwrap().of(&rewritten)));
            assert_eq!(summary.table(&rewritten), Ok(Some(table)));
        }
    }

    /// The last of equal names counts. 26,000 of them fit into a frame.
    #[test]
    fn headers_are_sorted_by_name() {
        let entries = |names: &[&str]| {
            let entries = names.iter().zip(0..).map(|(name, at)| (Text::from(*name), Value::LongInt(at)));
            Table::from_entries(entries.collect())
        };
        let expected = Table::from([("a", 3), ("b", 2), ("c", 0)]);
        assert_eq!(sorted(entries(&["c", "a", "b", "a"])), expected);
        assert_eq!(
            kept(&entries(&["c", "a", "b", "a"]), |name, _| *name != "b"),
            Table::from([("a", 3), ("c", 0)])
        );
        let many: Vec<String> = (0..26_000).rev().map(|n| format!("{n:05}")).collect();
        let many: Vec<&str> = many.iter().map(|name| &**name).collect();
        let all = sorted(entries(&many));
        assert!(all.iter().is_sorted_by_key(|(name, _)| name) && all.len() == 26_000);
    }

    #[test]
    fn a_stream_knows_no_cluster_id_and_may_set_the_mode() {
        let before = Properties::new().with_header("a", 1).with_priority(7).with_app_id("app");
        let plain = encoded(&before);
        let mut clustered = BytesMut::from(&plain[..]);
        clustered[1] |= CLUSTER_ID as u8;
        clustered.put_slice(b"\x01c");
        let in_stream = |bytes: &[u8], sets_mode| Summary::read(bytes).unwrap().in_stream(bytes, sets_mode);
        assert_eq!(in_stream(&clustered, false), plain);
        let with_mode = encoded(&before.clone().with_delivery_mode(1.into()));
        assert_eq!(in_stream(&clustered, true), with_mode);
        let persistent = encoded(&before.clone().with_delivery_mode(2.into()));
        assert_eq!(in_stream(&persistent, true), persistent);
        let strange = encoded(&before.with_delivery_mode(9.into()));
        assert_eq!((in_stream(&strange, false), in_stream(&strange, true)), (strange.clone(), with_mode));
    }

    #[test]
    fn properties_cut_short_are_unreadable() {
        let properties = Properties::new().with_header("a", 1).with_app_id("app");
        let bytes = encoded(&properties);
        assert!(Summary::read(&bytes).is_ok());
        for len in 0..bytes.len() {
            assert_eq!(Summary::read(&bytes[..len]), Err(Unreadable), "{len}");
        }
    }
}
