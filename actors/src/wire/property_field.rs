//! Properties as they are kept: decoded, or as bytes if they cannot be decoded.
//!
//! RabbitMQ relays the texts of a message unchecked. A field that cannot be decoded is kept as it came, so that
//! it hides no other field and can be sent on.

use std::{fmt, time::SystemTime};

use bytes::Bytes;

use super::{
    decode_error::DecodeError,
    table::Table,
    value::{seconds_since_epoch, time_of},
};

/// A text property: usually UTF-8, but any bytes are allowed.
#[derive(Clone, PartialEq)]
pub(super) enum PropertyText {
    Utf8(String),
    /// Bytes that are not UTF-8.
    Raw(Vec<u8>),
}

/// The `expiration`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expiration {
    Millis(u64),
    /// A text that is not a number of milliseconds, or one with a sign or leading zeros.
    Raw(Vec<u8>),
}

/// The `timestamp`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Timestamp {
    /// Seconds since the Unix epoch.
    Seconds(u64),
    /// Such a time cannot be sent: AMQP timestamps have no sign.
    BeforeEpoch,
}

/// The `headers`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Headers {
    Table(Table),
    Undecodable {
        /// The table as it came, its length included.
        bytes: Bytes,
        error: DecodeError,
    },
}

impl Expiration {
    pub(super) fn millis(&self) -> Option<u64> {
        match self {
            Self::Millis(millis) => Some(*millis),
            Self::Raw(octets) => std::str::from_utf8(octets).ok()?.parse().ok(),
        }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        seconds_since_epoch(time).map_or(Self::BeforeEpoch, Self::Seconds)
    }
}

impl Timestamp {
    pub(super) fn seconds(self) -> Option<u64> {
        match self {
            Self::Seconds(seconds) => Some(seconds),
            Self::BeforeEpoch => None,
        }
    }

    pub(super) fn time(self) -> Option<SystemTime> {
        self.seconds().and_then(time_of)
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self::Table(Table::new())
    }
}

impl Headers {
    /// Returns the table, an empty one in place of headers that cannot be decoded.
    pub(super) fn table_mut(&mut self) -> &mut Table {
        if let Self::Undecodable { .. } = self {
            *self = Self::default();
        }
        match self {
            Self::Table(table) => table,
            Self::Undecodable { .. } => self.table_mut(),
        }
    }
}

impl PropertyText {
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes).map_or_else(|error| Self::Raw(error.into_bytes()), Self::Utf8)
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        if let Self::Utf8(text) = self { Some(text) } else { None }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Utf8(text) => text.as_bytes(),
            Self::Raw(bytes) => bytes,
        }
    }
}

impl From<String> for PropertyText {
    fn from(text: String) -> Self {
        Self::Utf8(text)
    }
}

impl fmt::Debug for PropertyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Utf8(text) => text.fmt(f),
            Self::Raw(bytes) => write!(f, "b\"{}\"", bytes.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_text_where_they_can_be() {
        assert_eq!(PropertyText::from_bytes(b"ab".to_vec()), PropertyText::from("ab".to_owned()));
        let raw = PropertyText::from_bytes(b"a\xff".to_vec());
        assert_eq!((raw.as_str(), raw.as_bytes()), (None, &b"a\xff"[..]));
        assert_eq!(format!("{raw:?}"), r#"b"a\xff""#);
    }
}
