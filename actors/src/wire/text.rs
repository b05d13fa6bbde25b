//! [`Text`]: a string from the wire that is usually UTF-8, but need not be.
//!
//! RabbitMQ relays the keys and long strings of message headers unchecked, so a consumer receives whatever
//! bytes a publisher wrote.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use bytes::Bytes;

use super::peer_text::Escaping;

/// A key or a long string of a [`Table`](crate::Table): usually UTF-8, but any bytes are allowed.
///
/// RabbitMQ does not check the encoding of headers, so a received text can be in another encoding. `Display`
/// and `Debug` escape control characters, so that a text forges no line of a log; [`as_str`](Self::as_str) and
/// [`to_string_lossy`](Self::to_string_lossy) return the text as it is.
///
/// # Examples
/// ```
/// # use actix_pika_actors::Text;
/// let text = Text::from("png");
/// assert_eq!((text.as_str(), text.len()), (Some("png"), 3));
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    /// Returns the text, or `None` if it is not UTF-8.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Text;
    /// assert_eq!(Text::from(vec![0xff]).as_str(), None);
    /// ```
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Returns the bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Text;
    /// assert_eq!(Text::from("png").as_bytes(), b"png");
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the text, with invalid UTF-8 replaced by U+FFFD.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Text;
    /// assert_eq!(Text::from(vec![0xff]).to_string_lossy(), "\u{fffd}");
    /// ```
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// Converts the text into its bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Text;
    /// assert_eq!(Text::from("png").into_bytes(), "png");
    /// ```
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Returns the length in bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Text;
    /// assert_eq!(Text::from("caf\u{e9}").len(), 5);
    /// ```
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the text has no bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Text;
    /// assert!(Text::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Bytes::from(bytes))
    }
}

impl From<Bytes> for Text {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_str() {
            Some(text) => fmt::Debug::fmt(text, f),
            None => write!(f, "b\"{}\"", self.0.escape_ascii()),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaping(f).write_str(&self.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_kept() {
        let text = Text::from(&b"caf\xe9"[..]);
        assert_eq!(text.as_str(), None);
        assert_eq!(text.as_bytes(), b"caf\xe9");
        assert_eq!(text.to_string(), "caf\u{fffd}");
        assert_eq!(format!("{text:?}"), "b\"caf\\xe9\"");
        assert_eq!(Text::from("caf"), "caf");
        assert_eq!(Text::from("a\n\u{1b}[0m").to_string(), r"a\n\u{1b}[0m");
    }
}
