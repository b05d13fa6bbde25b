//! Between our [`Table`] and the `FieldTable` of `amq-protocol`, for the arguments of methods.
//!
//! A `FieldTable` is sorted by key and knows neither twice the same key nor keys that are not UTF-8.

use amq_protocol::types::{AMQPValue, DecimalValue, FieldTable};

use super::{
    short::short,
    table::{Refused, Table},
    text::Text,
    value::Value,
};

impl Table {
    /// Makes the table that `amq-protocol` wants as the arguments of a method.
    ///
    /// # Errors
    /// [`Refused`] for what cannot be sent, and for keys that are not UTF-8.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert!(Table::from([("x-priority", 1)]).to_field_table().is_ok());
    /// ```
    pub fn to_field_table(&self) -> Result<FieldTable, Refused> {
        self.check()?;
        field_table(self)
    }

    /// Makes a table of one that `amq-protocol` read.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Table, wire::FieldTable};
    /// assert!(Table::from_field_table(&FieldTable::default()).is_empty());
    /// ```
    pub fn from_field_table(table: &FieldTable) -> Self {
        let mut own = Self::new();
        for (key, value) in table {
            own.push(Text::from(key.as_str()), own_value(value));
        }
        own
    }
}

fn field_table(table: &Table) -> Result<FieldTable, Refused> {
    let mut fields = FieldTable::default();
    for (key, value) in table.iter() {
        let name = key.as_str().ok_or(Refused::KeyNotUtf8)?;
        if !fields.contains_key(name) {
            let name = short("key", name).map_err(|refused| Refused::LongKey { len: refused.len })?;
            fields.insert(name, field_value(value)?);
        }
    }
    Ok(fields)
}

fn field_value(value: &Value) -> Result<AMQPValue, Refused> {
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
        // Has no mark on the wire, so it is never read from there.
        AMQPValue::ShortString(text) => Value::LongString(Text::from(text.as_str())),
        AMQPValue::LongString(text) => Value::LongString(Text::from(text.as_bytes())),
        AMQPValue::FieldArray(values) => Value::Array(values.as_slice().iter().map(own_value).collect()),
        AMQPValue::Timestamp(seconds) => Value::Timestamp(*seconds),
        AMQPValue::FieldTable(table) => Value::Table(Table::from_field_table(table)),
        AMQPValue::ByteArray(bytes) => Value::from(bytes.as_slice()),
        AMQPValue::Void => Value::Void,
    }
}
