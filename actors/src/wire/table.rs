//! Field tables: arguments of methods, headers of messages, properties of peers.
//!
//! A [`Table`] keeps the order and, from the network, also keys that occur twice (the first one counts) and keys
//! that are not UTF-8, so that what was received can be sent on unchanged. Containers nest at most [`MAX_DEPTH`]
//! deep; deeper ones are refused before anything descends into them.

use std::{error, fmt};

use bytes::BytesMut;

pub use super::scan::scan;
use super::{fault::Fault, field, text::Text, value::Value};

/// Bounds how many tables and arrays may lie inside one another within the outermost table.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::table::MAX_DEPTH;
/// assert_eq!(MAX_DEPTH, 32);
/// ```
pub const MAX_DEPTH: usize = 32;

/// Holds an ordered list of named values: the arguments of methods, the headers of messages, the properties of
/// peers.
///
/// A key has 255 bytes at most, and tables and arrays lie at most [`MAX_DEPTH`] deep inside one another; what
/// does not keep to it is `Codec` when it is sent.
///
/// Source: AMQP 0-9-1 section 4.2.5.5; <https://www.rabbitmq.com/amqp-0-9-1-errata#section_3>
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Table, Value};
/// let table = Table::new().with("x-match", "all").with("format", "png").with("pages", 7);
/// assert_eq!(table.get("pages").and_then(Value::as_i64), Some(7));
/// assert_eq!(table.len(), 3);
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Table {
    entries: Vec<(Text, Value)>,
}

/// Tells why a table or a property cannot be sent.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::{Refused, Table};
/// assert_eq!(Table::new().with("ratio", f64::NAN).check(), Err(Refused::NotFinite));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// A float or double that is NaN or infinite: RabbitMQ would close the connection with 541.
    NotFinite,
    /// A key of more than 255 bytes.
    LongKey {
        /// How many bytes it has.
        len: usize,
    },
    /// A key that is not UTF-8, where it has to be.
    KeyNotUtf8,
    /// Tables and arrays inside one another, more than [`MAX_DEPTH`] deep.
    Depth,
    /// Strings, arrays or tables of 4 GiB or more.
    Size,
    /// A property of more than 255 bytes.
    LongProperty {
        /// The property.
        name: &'static str,
        /// How many bytes it has.
        len: usize,
    },
    /// An expiration of more than 4,294,967,295 milliseconds.
    Expiration,
}

impl Table {
    /// Starts with an empty table.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert!(Table::new().is_empty());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows the value of `key`; the first one if the key occurs more than once.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Table, Value};
    /// let table = Table::from([("format", "png")]);
    /// assert_eq!(table.get("format").and_then(Value::as_str), Some("png"));
    /// ```
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Tells whether there is a value of `key`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert!(!Table::new().contains_key("format"));
    /// ```
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of `key`, in place if there is one, else at the end; answers what it replaced.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Table, Value};
    /// let mut table = Table::new();
    /// assert_eq!(table.insert("attempt", 1), None);
    /// assert_eq!(table.insert("attempt", 2), Some(Value::LongInt(1)));
    /// ```
    pub fn insert(&mut self, key: impl Into<Text>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|(name, _)| *name == key) {
            Some((_, old)) => Some(std::mem::replace(old, value)),
            None => {
                self.entries.push((key, value));
                None
            }
        }
    }

    /// Like [`insert`](Self::insert), for writing a table in one expression.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// let table = Table::new().with("x-match", "any").with("format", "png");
    /// ```
    #[must_use]
    pub fn with(mut self, key: impl Into<Text>, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// Removes `key`, all of them; answers the first value.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// let mut table = Table::from([("format", "png")]);
    /// assert!(table.remove("format").is_some() && table.is_empty());
    /// ```
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let mut removed = None;
        let entries = std::mem::take(&mut self.entries);
        self.entries = entries
            .into_iter()
            .filter_map(|(name, value)| {
                if name != key {
                    return Some((name, value));
                }
                removed.get_or_insert(value);
                None
            })
            .collect();
        removed
    }

    /// Walks over the entries, in order.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// let table = Table::from([("a", 1), ("b", 2)]);
    /// let keys: Vec<_> = table.iter().map(|(key, _)| key.to_string()).collect();
    /// assert_eq!(keys, ["a", "b"]);
    /// ```
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&Text, &Value)> + ExactSizeIterator {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// Counts the entries.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert_eq!(Table::from([("a", 1), ("b", 2)]).len(), 2);
    /// ```
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there are none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert!(Table::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends the table as the wire has it, with its length in front; leaves `buf` as it was when it refuses.
    ///
    /// # Errors
    /// [`Refused`] for what cannot be sent.
    ///
    /// # Examples
    /// ```
    /// # use bytes::BytesMut;
    /// # use actix_pika_actors::Table;
    /// let mut buf = BytesMut::new();
    /// Table::from([("a", true)]).encode(&mut buf)?;
    /// assert_eq!(&buf[..], b"\0\0\0\x04\x01at\x01");
    /// # Ok::<(), actix_pika_actors::wire::Refused>(())
    /// ```
    pub fn encode(&self, buf: &mut BytesMut) -> Result<(), Refused> {
        self.check()?;
        field::put_table(self, buf, 0);
        Ok(())
    }

    /// Tells how many bytes [`encode`](Self::encode) appends.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert_eq!(Table::new().encoded_len(), 4);
    /// ```
    pub fn encoded_len(&self) -> usize {
        field::table_len(self, 0)
    }

    /// Refuses what cannot be sent.
    ///
    /// # Errors
    /// [`Refused`] with the first that is too long, too deep or not a finite number.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert!(Table::new().with("k".repeat(256), 1).check().is_err());
    /// ```
    pub fn check(&self) -> Result<(), Refused> {
        field::check_table(self, 0)?;
        if u32::try_from(self.encoded_len()).is_err() { Err(Refused::Size) } else { Ok(()) }
    }

    /// Reads a table that starts with its length; what follows it is not looked at.
    ///
    /// # Errors
    /// [`Fault`] with 502 for lengths that lie, unknown types, or more than [`MAX_DEPTH`] containers inside
    /// one another.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Table, Value};
    /// let table = Table::decode(b"\0\0\0\x04\x01at\x01")?;
    /// assert_eq!(table.get("a").and_then(Value::as_bool), Some(true));
    /// # Ok::<(), actix_pika_actors::wire::Fault>(())
    /// ```
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        Self::decode_front(bytes).map(|(table, _)| table)
    }

    /// Reads the table at the front of `bytes` and answers how many bytes it took.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// let (table, taken) = Table::decode_front(b"\0\0\0\0rest")?;
    /// assert_eq!((table.len(), taken), (0, 4));
    /// # Ok::<(), actix_pika_actors::wire::Fault>(())
    /// ```
    pub fn decode_front(bytes: &[u8]) -> Result<(Self, usize), Fault> {
        field::read_table(bytes)
    }

    /// Appends without looking for the key.
    pub(super) fn push(&mut self, key: Text, value: Value) {
        self.entries.push((key, value));
    }
}

impl<K: Into<Text>, V: Into<Value>> FromIterator<(K, V)> for Table {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut table = Self::new();
        table.extend(entries);
        table
    }
}

impl<K: Into<Text>, V: Into<Value>> Extend<(K, V)> for Table {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Into<Text>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Table {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl IntoIterator for Table {
    type Item = (Text, Value);
    type IntoIter = std::vec::IntoIter<(Text, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}: {value}", if at == 0 { "" } else { ", " })?;
        }
        f.write_str("}")
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite => f.write_str("a table holds a float that is NaN or infinite"),
            Self::LongKey { len } => write!(f, "a key of a table has {len} bytes, AMQP allows 255"),
            Self::KeyNotUtf8 => f.write_str("a key of a table is not UTF-8"),
            Self::Depth => write!(f, "a table nests more than {MAX_DEPTH} deep"),
            Self::Size => f.write_str("a table has 4 GiB or more"),
            Self::LongProperty { name, len } => {
                write!(f, "property {name} has {len} bytes, AMQP allows 255")
            }
            Self::Expiration => f.write_str("expiration is over 4294967295 milliseconds"),
        }
    }
}

impl error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insert_replaces_in_place() {
        let mut table = Table::from([("a", 1), ("b", 2), ("c", 3)]);
        assert_eq!(table.insert("b", "x"), Some(Value::LongInt(2)));
        assert_eq!(table.to_string(), r#"{a: 1, b: "x", c: 3}"#);
        assert_eq!(table.remove("a"), Some(Value::LongInt(1)));
        assert_eq!(table.remove("a"), None);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn the_first_of_two_equal_keys_counts() {
        let mut bytes = vec![0, 0, 0, 8];
        bytes.extend(b"\x01kt\x00\x01kt\x01");
        let mut table = Table::decode(&bytes).unwrap();
        assert_eq!(table.get("k"), Some(&Value::Boolean(false)));
        assert_eq!(table.len(), 2);
        let mut again = BytesMut::new();
        table.encode(&mut again).unwrap();
        assert_eq!(again, bytes);
        assert_eq!(table.remove("k"), Some(Value::Boolean(false)));
        assert!(table.is_empty());
    }

    #[test]
    fn what_cannot_be_sent_is_refused_and_leaves_no_trace() {
        let mut deep = Value::Void;
        for _ in 0..MAX_DEPTH + 1 {
            deep = Value::Array(vec![deep]);
        }
        for (table, refused) in [
            (Table::from([("k", f64::NAN)]), Refused::NotFinite),
            (Table::from([("k", vec![Value::Float(f32::INFINITY)])]), Refused::NotFinite),
            (Table::from([("k".repeat(256), 1)]), Refused::LongKey { len: 256 }),
            (Table::from([("k", deep)]), Refused::Depth),
        ] {
            let mut buf = BytesMut::from("before");
            assert_eq!(table.encode(&mut buf), Err(refused));
            assert_eq!(buf, "before");
        }
    }
}
