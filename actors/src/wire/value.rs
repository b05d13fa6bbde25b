//! [`Value`]: a value of a field table, of every type that RabbitMQ supports.
//!
//! Each variant documents the octet that marks its type on the wire.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{table::Table, text::Text};

/// A value of a [`Table`], of one of the types that RabbitMQ supports.
///
/// `From` converts a Rust type to the AMQP type of the same width. `u64` and `usize` have no conversion,
/// because RabbitMQ has no unsigned 64-bit type. Floats have to be finite and times not before 1970: sending
/// another one fails with [`Codec`](crate::ErrorKind::Codec).
///
/// The letter of each variant is its type octet on the wire.
///
/// Source: AMQP 0-9-1 section 4.2.1; <https://www.rabbitmq.com/amqp-0-9-1-errata#section_3>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Value;
/// assert_eq!(Value::from("png").as_str(), Some("png"));
/// assert_eq!(Value::from(7), Value::LongInt(7));
/// assert_eq!(Value::from(7i64), Value::LongLongInt(7));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `t`
    Boolean(bool),
    /// `b`
    ShortShortInt(i8),
    /// `B`
    ShortShortUint(u8),
    /// `s`
    ShortInt(i16),
    /// `u`
    ShortUint(u16),
    /// `I`
    LongInt(i32),
    /// `i`
    LongUint(u32),
    /// `l`
    LongLongInt(i64),
    /// `f`
    Float(f32),
    /// `d`
    Double(f64),
    /// `D`: `value` divided by 10 to the power of `scale`.
    Decimal {
        /// Number of digits after the decimal point.
        scale: u8,
        /// The unscaled value.
        value: i32,
    },
    /// `S`
    LongString(Text),
    /// `A`
    Array(Vec<Value>),
    /// `T`: seconds since the Unix epoch.
    Timestamp(u64),
    /// `F`
    Table(Table),
    /// `x`
    ByteArray(Bytes),
    /// `V`
    Void,
}

impl Value {
    /// Returns the boolean, or `None` for another type.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Value;
    /// assert_eq!(Value::from(true).as_bool(), Some(true));
    /// ```
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Boolean(value) = *self { Some(value) } else { None }
    }

    /// Returns the integer, of any width, or `None` for another type.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Value;
    /// assert_eq!((Value::from(7u8).as_i64(), Value::from(-7).as_i64()), (Some(7), Some(-7)));
    /// assert_eq!(Value::from("7").as_i64(), None);
    /// ```
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::ShortShortInt(value) => Some(value.into()),
            Self::ShortShortUint(value) => Some(value.into()),
            Self::ShortInt(value) => Some(value.into()),
            Self::ShortUint(value) => Some(value.into()),
            Self::LongInt(value) => Some(value.into()),
            Self::LongUint(value) => Some(value.into()),
            Self::LongLongInt(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the float or double, or `None` for another type.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Value;
    /// assert_eq!(Value::from(1.5).as_f64(), Some(1.5));
    /// ```
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Float(value) => Some(value.into()),
            Self::Double(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the long string, or `None` for another type or a string that is not UTF-8.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Value;
    /// assert_eq!(Value::from("png").as_str(), Some("png"));
    /// ```
    pub fn as_str(&self) -> Option<&str> {
        if let Self::LongString(text) = self { text.as_str() } else { None }
    }

    /// Returns the bytes of a byte array or a long string, or `None` for another type.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Value;
    /// assert_eq!(Value::from(vec![1, 2]).as_bytes(), Some(&[1, 2][..]));
    /// ```
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::ByteArray(bytes) => Some(bytes),
            Self::LongString(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// Returns the array, or `None` for another type.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Value;
    /// let value = Value::from(vec![Value::from(1), Value::from("two")]);
    /// assert_eq!(value.as_array().map(<[Value]>::len), Some(2));
    /// ```
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }

    /// Returns the table, or `None` for another type.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Table, Value};
    /// assert!(Value::from(Table::new()).as_table().is_some());
    /// ```
    pub fn as_table(&self) -> Option<&Table> {
        if let Self::Table(table) = self { Some(table) } else { None }
    }

    /// Returns the timestamp, or `None` for another type or a time that `SystemTime` cannot represent.
    ///
    /// # Examples
    /// ```
    /// # use std::time::SystemTime;
    /// # use actix_pika_actors::Value;
    /// assert_eq!(Value::Timestamp(0).as_time(), Some(SystemTime::UNIX_EPOCH));
    /// ```
    pub fn as_time(&self) -> Option<SystemTime> {
        if let Self::Timestamp(seconds) = *self { time_of(seconds) } else { None }
    }
}

/// Converts seconds since the Unix epoch; `None` if `SystemTime` cannot represent them.
pub(super) fn time_of(seconds: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Stands for every time before 1970: AMQP timestamps have no sign. Encoding it fails.
///
/// It is the lowest signed number, so that it is none of those that other clients send for such times.
pub(super) const BEFORE_EPOCH: u64 = 1 << 63;

/// Returns whole seconds since the Unix epoch, [`BEFORE_EPOCH`] for earlier times.
pub(super) fn seconds_of(time: SystemTime) -> u64 {
    seconds_since_epoch(time).unwrap_or(BEFORE_EPOCH)
}

/// Returns whole seconds since the Unix epoch, `None` for earlier times.
pub(super) fn seconds_since_epoch(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

macro_rules! from {
    ($($from:ty => $variant:ident),* $(,)?) => { $(
        impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )* };
}

from! {
    bool => Boolean,
    i8 => ShortShortInt,
    u8 => ShortShortUint,
    i16 => ShortInt,
    u16 => ShortUint,
    i32 => LongInt,
    u32 => LongUint,
    i64 => LongLongInt,
    f32 => Float,
    f64 => Double,
    &str => LongString,
    String => LongString,
    Text => LongString,
    Vec<u8> => ByteArray,
    Bytes => ByteArray,
    Vec<Value> => Array,
    Table => Table,
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::ByteArray(Bytes::copy_from_slice(bytes))
    }
}

impl From<SystemTime> for Value {
    fn from(time: SystemTime) -> Self {
        Self::Timestamp(seconds_of(time))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
            Self::Decimal { scale, value } => write!(f, "{value}e-{scale}"),
            Self::LongString(text) => write!(f, "{text:?}"),
            Self::Array(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Timestamp(seconds) => write!(f, "@{seconds}"),
            Self::Table(table) => table.fmt(f),
            Self::ByteArray(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
            Self::Void => f.write_str("void"),
            integer => write!(f, "{}", integer.as_i64().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_converts_to_the_type_of_the_same_width() {
        assert_eq!(Value::from(7i32), Value::LongInt(7));
        assert_eq!(Value::from("a"), Value::LongString("a".into()));
        assert_eq!(Value::from(vec![1u8]), Value::ByteArray(Bytes::from_static(&[1])));
        assert_eq!(Value::from(SystemTime::UNIX_EPOCH + Duration::from_secs(9)), Value::Timestamp(9));
        let before = Value::from(SystemTime::UNIX_EPOCH - Duration::from_nanos(1));
        assert_eq!((before.as_time(), before), (None, Value::Timestamp(BEFORE_EPOCH)));
    }

    #[test]
    fn a_time_out_of_range_is_none() {
        assert_eq!(Value::Timestamp(u64::MAX).as_time(), None);
        assert_eq!(Value::Timestamp(1).as_time(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
    }

    #[test]
    fn as_i64_reads_integers_of_all_widths() {
        for value in [Value::from(5i8), 5u8.into(), 5i16.into(), 5u16.into(), 5u32.into(), 5i64.into()] {
            assert_eq!(value.as_i64(), Some(5));
            assert_eq!(value.to_string(), "5");
        }
        assert_eq!(Value::from(5.0).as_i64(), None);
    }
}
