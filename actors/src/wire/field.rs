//! The octets of field tables and field values.
//!
//! Writing descends into a value that a program made, reading into bytes that a peer sent: both stop at
//! [`MAX_DEPTH`]. Reading copies the table once and lets all its strings be views of that copy, so that no length
//! a peer claims is ever allocated, and a header that is kept does not keep the read buffer.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    cursor::Cursor,
    fault::Fault,
    table::{MAX_DEPTH, Refused, Table},
    text::Text,
    value::Value,
};

pub(super) fn check_table(table: &Table, depth: usize) -> Result<(), Refused> {
    for (key, value) in table.iter() {
        if key.len() > 255 {
            return Err(Refused::LongKey { len: key.len() });
        }
        check_value(value, depth)?;
    }
    Ok(())
}

fn check_value(value: &Value, depth: usize) -> Result<(), Refused> {
    match value {
        Value::Float(value) if !value.is_finite() => Err(Refused::NotFinite),
        Value::Double(value) if !value.is_finite() => Err(Refused::NotFinite),
        Value::Array(_) | Value::Table(_) if depth >= MAX_DEPTH => Err(Refused::Depth),
        Value::Array(values) => values.iter().try_for_each(|value| check_value(value, depth + 1)),
        Value::Table(table) => check_table(table, depth + 1),
        _ => Ok(()),
    }
}

/// Length with the four octets in front; of what [`put_table`] writes, whether it was checked or not.
pub(super) fn table_len(table: &Table, depth: usize) -> usize {
    4 + table.iter().map(|(key, value)| 1 + key.len().min(255) + value_len(value, depth)).sum::<usize>()
}

fn value_len(value: &Value, depth: usize) -> usize {
    1 + match value {
        Value::Boolean(_) | Value::ShortShortInt(_) | Value::ShortShortUint(_) => 1,
        Value::ShortInt(_) | Value::ShortUint(_) => 2,
        Value::LongInt(_) | Value::LongUint(_) | Value::Float(_) => 4,
        Value::Decimal { .. } => 5,
        Value::LongLongInt(_) | Value::Double(_) | Value::Timestamp(_) => 8,
        Value::LongString(text) => 4 + text.len(),
        Value::ByteArray(bytes) => 4 + bytes.len(),
        Value::Array(_) | Value::Table(_) if depth >= MAX_DEPTH => 0,
        Value::Array(values) => 4 + values.iter().map(|value| value_len(value, depth + 1)).sum::<usize>(),
        Value::Table(table) => table_len(table, depth + 1),
        Value::Void => 0,
    }
}

/// Writes a table that was checked. One that was not comes out well-formed but clipped: long keys are cut, and
/// void stands for what nests too deep.
pub(super) fn put_table(table: &Table, buf: &mut BytesMut, depth: usize) {
    with_len(buf, |buf| {
        for (key, value) in table.iter() {
            let key = key.as_bytes();
            let key = key.get(..255).unwrap_or(key);
            buf.put_u8(key.len() as u8);
            buf.put_slice(key);
            put_value(value, buf, depth);
        }
    });
}

fn put_value(value: &Value, buf: &mut BytesMut, depth: usize) {
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
        Value::Array(_) | Value::Table(_) if depth >= MAX_DEPTH => buf.put_u8(b'V'),
        Value::Array(values) => {
            buf.put_u8(b'A');
            with_len(buf, |buf| values.iter().for_each(|value| put_value(value, buf, depth + 1)));
        }
        Value::Table(table) => {
            buf.put_u8(b'F');
            put_table(table, buf, depth + 1);
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

/// Writes four octets of length in front of what `write` appends.
fn with_len(buf: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let at = buf.len();
    buf.put_u32(0);
    write(buf);
    let len = (buf.len() - at - 4) as u32;
    if let Some(place) = buf.get_mut(at..at + 4) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

/// Reads the table at the front and answers how many bytes it took.
pub(super) fn read_table(bytes: &[u8]) -> Result<(Table, usize), Fault> {
    let body = Cursor::new(bytes).longstr().ok_or_else(cut_short)?;
    let table = table_of(&Bytes::copy_from_slice(body), 0)?;
    Ok((table, 4 + body.len()))
}

fn table_of(body: &Bytes, depth: usize) -> Result<Table, Fault> {
    let mut cursor = Cursor::new(body);
    let mut table = Table::new();
    while !cursor.is_done() {
        let key = cursor.shortstr().ok_or_else(cut_short)?;
        let key = Text::from(body.slice_ref(key));
        table.push(key, value_of(&mut cursor, body, depth)?);
    }
    Ok(table)
}

fn array_of(body: &Bytes, depth: usize) -> Result<Vec<Value>, Fault> {
    let mut cursor = Cursor::new(body);
    let mut values = Vec::new();
    while !cursor.is_done() {
        values.push(value_of(&mut cursor, body, depth)?);
    }
    Ok(values)
}

fn value_of(cursor: &mut Cursor<'_>, body: &Bytes, depth: usize) -> Result<Value, Fault> {
    let kind = cursor.octet().ok_or_else(cut_short)?;
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
            if depth >= MAX_DEPTH {
                return Err(too_deep());
            }
            let inner = body.slice_ref(cursor.longstr().ok_or_else(cut_short)?);
            return if kind == b'A' {
                array_of(&inner, depth + 1).map(Value::Array)
            } else {
                table_of(&inner, depth + 1).map(Value::Table)
            };
        }
        b'V' => Some(Value::Void),
        _ => return Err(unknown_type(kind)),
    };
    value.ok_or_else(cut_short)
}

#[cold]
pub(super) fn cut_short() -> Fault {
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
