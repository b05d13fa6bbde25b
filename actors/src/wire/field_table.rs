//! Conversion between [`Table`] and the `FieldTable` of `amq-protocol`, for the arguments of methods.
//!
//! A `FieldTable` is sorted by key and has neither duplicate keys nor keys that are not UTF-8.

use amq_protocol::types::{AMQPValue, DecimalValue, FieldTable};

use super::{
    encode_error::EncodeError, field::check_table, short::short, table::Table, text::Text, value::Value,
};

/// Converts a table to the arguments of a method.
///
/// # Errors
/// [`EncodeError`] for what [`check_table`] refuses, and for keys that are not UTF-8.
pub fn to_field_table(table: &Table) -> Result<FieldTable, EncodeError> {
    check_table(table)?;
    field_table(table)
}

/// Converts a table that `amq-protocol` decoded.
pub fn from_field_table(fields: &FieldTable) -> Table {
    let mut table = Table::new();
    for (key, value) in fields {
        table.push(Text::from(key.as_str()), own_value(value));
    }
    table
}

fn field_table(table: &Table) -> Result<FieldTable, EncodeError> {
    let mut fields = FieldTable::default();
    for (key, value) in table.iter() {
        let name = key.as_str().ok_or_else(|| EncodeError::KeyNotUtf8.under(key))?;
        if !fields.contains_key(name) {
            let name = short("key", name).map_err(|error| EncodeError::LongKey { len: error.len })?;
            fields.insert(name, field_value(value)?);
        }
    }
    Ok(fields)
}

fn field_value(value: &Value) -> Result<AMQPValue, EncodeError> {
    Ok(match value {
        Value::Boolean(value) => AMQPValue::Boolean(*value),
        Value::ShortShortInt(value) => AMQPValue::ShortShortInt(*value),
        Value::ShortShortUint(value) => AMQPValue::ShortShortUInt(*value),
        Value::ShortInt(value) => AMQPValue::ShortInt(*value),
        Value::ShortUint(value) => AMQPValue::ShortUInt(*value),
        Value::LongInt(value) => AMQPValue::LongInt(*value),
        Value::LongUint(value) => AMQPValue::LongUInt(*value),
        Value::LongLongInt(value) => AMQPValue::LongLongInt(*value),
        Value::Float(value) => AMQPValue::Float(*value),
        Value::Double(value) => AMQPValue::Double(*value),
        Value::Decimal { scale, value } => {
            AMQPValue::DecimalValue(DecimalValue { scale: *scale, value: *value as u32 })
        }
        Value::LongString(text) => AMQPValue::LongString(text.as_bytes().into()),
        Value::Array(values) => {
            AMQPValue::FieldArray(values.iter().map(field_value).collect::<Result<Vec<_>, _>>()?.into())
        }
        Value::Timestamp(seconds) => AMQPValue::Timestamp(*seconds),
        Value::Table(table) => AMQPValue::FieldTable(field_table(table)?),
        Value::ByteArray(bytes) => AMQPValue::ByteArray(bytes.as_ref().into()),
        Value::Void => AMQPValue::Void,
    })
}

fn own_value(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => Value::Boolean(*value),
        AMQPValue::ShortShortInt(value) => Value::ShortShortInt(*value),
        AMQPValue::ShortShortUInt(value) => Value::ShortShortUint(*value),
        AMQPValue::ShortInt(value) => Value::ShortInt(*value),
        AMQPValue::ShortUInt(value) => Value::ShortUint(*value),
        AMQPValue::LongInt(value) => Value::LongInt(*value),
        AMQPValue::LongUInt(value) => Value::LongUint(*value),
        AMQPValue::LongLongInt(value) => Value::LongLongInt(*value),
        AMQPValue::Float(value) => Value::Float(*value),
        AMQPValue::Double(value) => Value::Double(*value),
        AMQPValue::DecimalValue(decimal) => {
            Value::Decimal { scale: decimal.scale, value: decimal.value as i32 }
        }
        // Has no type octet of its own, so it is never received.
        AMQPValue::ShortString(text) => Value::LongString(Text::from(text.as_str())),
        AMQPValue::LongString(text) => Value::LongString(Text::from(text.as_bytes())),
        AMQPValue::FieldArray(values) => Value::Array(values.as_slice().iter().map(own_value).collect()),
        AMQPValue::Timestamp(seconds) => Value::Timestamp(*seconds),
        AMQPValue::FieldTable(table) => Value::Table(from_field_table(table)),
        AMQPValue::ByteArray(bytes) => Value::from(bytes.as_slice()),
        AMQPValue::Void => Value::Void,
    }
}
