//! [`Table`]: arguments of methods, headers of messages, properties of peers.
//!
//! A table keeps the order of its entries. A received table also keeps keys that occur twice (the first one
//! counts) and keys that are not UTF-8, so it can be sent on unchanged. Encoding and decoding are in
//! `field.rs`.

use std::fmt;

use super::{text::Text, value::Value};

/// How deep tables and arrays may nest within the outermost table.
pub const MAX_DEPTH: usize = 32;

/// An AMQP field table: an ordered list of named values.
///
/// Field tables are the arguments of methods, the headers of messages and the properties of peers. A key has
/// at most 255 bytes, and tables and arrays nest at most 32 deep. Sending a table that exceeds a limit fails
/// with [`Codec`](crate::ErrorKind::Codec).
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

impl Table {
    /// Creates an empty table.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert!(Table::new().is_empty());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the value of `key`, the first one if the key occurs more than once.
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

    /// Returns whether the table has a value for `key`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert!(!Table::new().contains_key("format"));
    /// ```
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of `key` and returns the value that it replaces.
    ///
    /// A new key is appended; an existing key keeps its position.
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

    /// Sets the value of `key` and returns the table, to build a table in one expression.
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

    /// Removes every entry of `key` and returns the value of the first one.
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

    /// Returns an iterator over the entries, in order.
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

    /// Returns the number of entries.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert_eq!(Table::from([("a", 1), ("b", 2)]).len(), 2);
    /// ```
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the table has no entries.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Table;
    /// assert!(Table::new().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Creates a table of entries, which may have a key more than once.
    #[cfg(feature = "unstable-wire")]
    #[doc(hidden)]
    pub fn from_entries(entries: Vec<(Text, Value)>) -> Self {
        Self { entries }
    }

    /// Appends an entry, even if the key exists already.
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
}
