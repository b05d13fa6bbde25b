//! Encoding and decoding of field tables and field values.
//!
//! Both directions recurse into nested values and stop at [`MAX_DEPTH`], or at the depth that is left. The decoder copies
//! the table once and makes every string a view of that copy: a length that a peer claims is never allocated, and a table
//! that is kept does not keep the read buffer alive.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    cursor::Cursor,
    encode_error::EncodeError,
    fault::Fault,
    table::{MAX_DEPTH, Table},
    text::Text,
    value::{BEFORE_EPOCH, Value},
};

/// Checks that a table can be encoded.
///
/// # Errors
/// [`EncodeError`] for the first entry that is too long, too deep or not a finite number.
pub fn check_table(table: &Table) -> Result<(), EncodeError> {
    check_entries(table, MAX_DEPTH)?;
    if u32::try_from(table_len(table)).is_err() { Err(EncodeError::Size) } else { Ok(()) }
}

/// Returns the length of an encoded table, with the four octets of length in front.
pub fn table_len(table: &Table) -> usize {
    len_of_table(table, MAX_DEPTH)
}

/// Checks a table and appends it to `buf`, with its length in front. On an error `buf` is left unchanged.
///
/// # Errors
/// Those of [`check_table`].
#[cfg(any(test, feature = "unstable-wire"))]
pub fn encode_table(buf: &mut BytesMut, table: &Table) -> Result<(), EncodeError> {
    check_table(table)?;
    put_table(buf, table);
    Ok(())
}

/// Appends a table that was [checked](check_table).
///
/// An unchecked table is still encoded as valid bytes: long keys are truncated, and values that nest too deep
/// become void.
pub(super) fn put_table(buf: &mut BytesMut, table: &Table) {
    put_entries(table, buf, MAX_DEPTH);
}

/// Decodes the table at the front of `bytes` and returns it with the number of bytes it takes.
///
/// # Errors
/// [`Fault`] with 502 for wrong lengths, unknown types, or containers that nest more than [`MAX_DEPTH`] deep.
pub fn decode_table(bytes: &[u8]) -> Result<(Table, usize), Fault> {
    decode_within(bytes, MAX_DEPTH)
}

/// As [`decode_table`] with containers that nest up to `depth` deep, as brokers allow.
///
/// # Errors
/// Those of [`decode_table`].
#[cfg(feature = "unstable-wire")]
pub fn decode_table_within(bytes: &[u8], depth: usize) -> Result<(Table, usize), Fault> {
    decode_within(bytes, depth)
}

/// Appends a table as it is, with values that nest up to `depth` deep. Deeper ones become void.
#[cfg(feature = "unstable-wire")]
pub fn put_table_within(buf: &mut BytesMut, table: &Table, depth: usize) {
    put_entries(table, buf, depth);
}

fn decode_within(bytes: &[u8], depth: usize) -> Result<(Table, usize), Fault> {
    let body = Cursor::new(bytes).longstr().ok_or_else(table_cut_short)?;
    let table = table_of(&Bytes::copy_from_slice(body), depth)?;
    Ok((table, 4 + body.len()))
}

fn check_entries(table: &Table, left: usize) -> Result<(), EncodeError> {
    for (key, value) in table.iter() {
        if key.len() > 255 {
            return Err(EncodeError::LongKey { len: key.len() }.under(key));
        }
        check_value(value, left).map_err(|error| error.under(key))?;
    }
    Ok(())
}

fn check_value(value: &Value, left: usize) -> Result<(), EncodeError> {
    match value {
        Value::Float(value) if !value.is_finite() => Err(EncodeError::NotFinite),
        Value::Double(value) if !value.is_finite() => Err(EncodeError::NotFinite),
        Value::Timestamp(BEFORE_EPOCH) => Err(EncodeError::BeforeEpoch),
        Value::Array(_) | Value::Table(_) if left == 0 => Err(EncodeError::Depth),
        Value::Array(values) => {
            let mut values = values.iter().enumerate();
            values.try_for_each(|(at, value)| check_value(value, left - 1).map_err(|error| error.at(at)))
        }
        Value::Table(table) => check_entries(table, left - 1),
        _ => Ok(()),
    }
}

fn len_of_table(table: &Table, left: usize) -> usize {
    4 + table.iter().map(|(key, value)| 1 + key.len().min(255) + value_len(value, left)).sum::<usize>()
}

fn value_len(value: &Value, left: usize) -> usize {
    1 + match value {
        Value::Boolean(_) | Value::ShortShortInt(_) | Value::ShortShortUint(_) => 1,
        Value::ShortInt(_) | Value::ShortUint(_) => 2,
        Value::LongInt(_) | Value::LongUint(_) | Value::Float(_) => 4,
        Value::Decimal { .. } => 5,
        Value::LongLongInt(_) | Value::Double(_) | Value::Timestamp(_) => 8,
        Value::LongString(text) => 4 + text.len(),
        Value::ByteArray(bytes) => 4 + bytes.len(),
        Value::Array(_) | Value::Table(_) if left == 0 => 0,
        Value::Array(values) => 4 + values.iter().map(|value| value_len(value, left - 1)).sum::<usize>(),
        Value::Table(table) => len_of_table(table, left - 1),
        Value::Void => 0,
    }
}

fn put_entries(table: &Table, buf: &mut BytesMut, left: usize) {
    with_len(buf, |buf| {
        for (key, value) in table.iter() {
            let key = key.as_bytes();
            let key = key.get(..255).unwrap_or(key);
            buf.put_u8(key.len() as u8);
            buf.put_slice(key);
            put_value(value, buf, left);
        }
    });
}

fn put_value(value: &Value, buf: &mut BytesMut, left: usize) {
    match value {
        Value::Boolean(value) => buf.put_slice(&[b't', u8::from(*value)]),
        Value::ShortShortInt(value) => put(buf, b'b', &value.to_be_bytes()),
        Value::ShortShortUint(value) => put(buf, b'B', &value.to_be_bytes()),
        Value::ShortInt(value) => put(buf, b's', &value.to_be_bytes()),
        Value::ShortUint(value) => put(buf, b'u', &value.to_be_bytes()),
        Value::LongInt(value) => put(buf, b'I', &value.to_be_bytes()),
        Value::LongUint(value) => put(buf, b'i', &value.to_be_bytes()),
        Value::LongLongInt(value) => put(buf, b'l', &value.to_be_bytes()),
        Value::Float(value) => put(buf, b'f', &value.to_be_bytes()),
        Value::Double(value) => put(buf, b'd', &value.to_be_bytes()),
        Value::Decimal { scale, value } => {
            buf.put_slice(&[b'D', *scale]);
            buf.put_i32(*value);
        }
        Value::LongString(text) => put_long(buf, b'S', text.as_bytes()),
        Value::ByteArray(bytes) => put_long(buf, b'x', bytes),
        Value::Timestamp(seconds) => put(buf, b'T', &seconds.to_be_bytes()),
        Value::Array(_) | Value::Table(_) if left == 0 => buf.put_u8(b'V'),
        Value::Array(values) => {
            buf.put_u8(b'A');
            with_len(buf, |buf| values.iter().for_each(|value| put_value(value, buf, left - 1)));
        }
        Value::Table(table) => {
            buf.put_u8(b'F');
            put_entries(table, buf, left - 1);
        }
        Value::Void => buf.put_u8(b'V'),
    }
}

fn put(buf: &mut BytesMut, kind: u8, octets: &[u8]) {
    buf.put_u8(kind);
    buf.put_slice(octets);
}

fn put_long(buf: &mut BytesMut, kind: u8, octets: &[u8]) {
    buf.put_u8(kind);
    buf.put_u32(octets.len() as u32);
    buf.put_slice(octets);
}

/// Calls `write` and puts the length of what it appends in front, in four octets.
fn with_len(buf: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let at = buf.len();
    buf.put_u32(0);
    write(buf);
    let len = (buf.len() - at - 4) as u32;
    if let Some(field) = buf.get_mut(at..at + 4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

fn table_of(body: &Bytes, left: usize) -> Result<Table, Fault> {
    let mut cursor = Cursor::new(body);
    let mut table = Table::new();
    while !cursor.is_done() {
        let key = cursor.shortstr().ok_or_else(table_cut_short)?;
        let key = Text::from(body.slice_ref(key));
        table.push(key, value_of(&mut cursor, body, left)?);
    }
    Ok(table)
}

fn array_of(body: &Bytes, left: usize) -> Result<Vec<Value>, Fault> {
    let mut cursor = Cursor::new(body);
    let mut values = Vec::new();
    while !cursor.is_done() {
        values.push(value_of(&mut cursor, body, left)?);
    }
    Ok(values)
}

fn value_of(cursor: &mut Cursor<'_>, body: &Bytes, left: usize) -> Result<Value, Fault> {
    let kind = cursor.octet().ok_or_else(table_cut_short)?;
    let value = match kind {
        b't' => cursor.octet().map(|octet| Value::Boolean(octet != 0)),
        b'b' => cursor.octet().map(|octet| Value::ShortShortInt(octet as i8)),
        b'B' => cursor.octet().map(Value::ShortShortUint),
        b's' | b'U' => cursor.short().map(|bits| Value::ShortInt(bits as i16)),
        b'u' => cursor.short().map(Value::ShortUint),
        b'I' => cursor.long().map(|bits| Value::LongInt(bits as i32)),
        b'i' => cursor.long().map(Value::LongUint),
        b'l' | b'L' => cursor.longlong().map(|bits| Value::LongLongInt(bits as i64)),
        b'f' => cursor.long().map(|bits| Value::Float(f32::from_bits(bits))),
        b'd' => cursor.longlong().map(|bits| Value::Double(f64::from_bits(bits))),
        b'D' => cursor.octet().and_then(|scale| Some(Value::Decimal { scale, value: cursor.long()? as i32 })),
        b'S' => cursor.longstr().map(|octets| Value::LongString(body.slice_ref(octets).into())),
        b'x' => cursor.longstr().map(|octets| Value::ByteArray(body.slice_ref(octets))),
        b'T' => cursor.longlong().map(Value::Timestamp),
        b'A' | b'F' => {
            if left == 0 {
                return Err(too_deep());
            }
            let inner = body.slice_ref(cursor.longstr().ok_or_else(table_cut_short)?);
            return if kind == b'A' {
                array_of(&inner, left - 1).map(Value::Array)
            } else {
                table_of(&inner, left - 1).map(Value::Table)
            };
        }
        b'V' => Some(Value::Void),
        _ => return Err(unknown_type(kind)),
    };
    value.ok_or_else(table_cut_short)
}

#[cold]
pub(super) fn table_cut_short() -> Fault {
    Fault::syntax("field table ends within a field")
}

#[cold]
pub(super) fn too_deep() -> Fault {
    Fault::syntax(format!("field table nests more than {MAX_DEPTH} deep"))
}

#[cold]
pub(super) fn unknown_type(kind: u8) -> Fault {
    Fault::syntax(format!("field table holds the unknown type '{}'", kind.escape_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_octets() {
        let mut buf = BytesMut::new();
        encode_table(&mut buf, &Table::from([("a", true)])).unwrap();
        assert_eq!(buf[..], *b"\0\0\0\x04\x01at\x01");
        assert_eq!(table_len(&Table::new()), 4);
        let (table, len) = decode_table(b"\0\0\0\x04\x01at\x01rest").unwrap();
        assert_eq!((table, len), (Table::from([("a", true)]), 8));
    }

    #[test]
    fn the_first_of_two_equal_keys_counts() {
        let mut bytes = vec![0, 0, 0, 8];
        bytes.extend(b"\x01kt\x00\x01kt\x01");
        let (mut table, _) = decode_table(&bytes).unwrap();
        assert_eq!(table.get("k"), Some(&Value::Boolean(false)));
        assert_eq!(table.len(), 2);
        let mut again = BytesMut::new();
        encode_table(&mut again, &table).unwrap();
        assert_eq!(again, bytes);
        assert_eq!(table.remove("k"), Some(Value::Boolean(false)));
        assert!(table.is_empty());
    }

    #[test]
    fn an_encode_error_leaves_the_buffer_unchanged() {
        let before = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(1);
        let mut deep = Value::Void;
        for _ in 0..MAX_DEPTH + 1 {
            deep = Value::Array(vec![deep]);
        }
        let bad = Table::from([("price", f64::NAN)]);
        for (table, text) in [
            (bad.clone(), "\"price\": a float that is NaN or infinite"),
            (
                Table::from([("k", vec![Value::Void, Value::Float(f32::INFINITY)])]),
                "\"k[1]\": a float that is NaN or infinite",
            ),
            (
                Table::from([("k", vec![Value::Array(vec![Value::Table(bad)])])]),
                "\"k[0][0].price\": a float that is NaN or infinite",
            ),
            (Table::from([("k", before)]), &format!("\"k\": {}", EncodeError::BeforeEpoch)),
            (
                Table::from([("k".repeat(256), 1)]),
                &format!("{:?}: the key has 256 bytes, AMQP allows 255", "k".repeat(80)),
            ),
        ] {
            assert_eq!(encode_table(&mut BytesMut::new(), &table).unwrap_err().to_string(), text);
        }
        for table in [Table::from([("k", f64::NAN)]), Table::from([("k", deep)])] {
            let mut buf = BytesMut::from("before");
            assert!(encode_table(&mut buf, &table).is_err());
            assert_eq!(buf, "before");
        }
    }
}
