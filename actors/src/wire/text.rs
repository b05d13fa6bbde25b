//! Text as the wire has it: UTF-8 as a rule, any bytes at worst.
//!
//! RabbitMQ relays keys and long strings of message headers without looking at them, so a consumer gets what a
//! publisher in any language put there. A [`Text`] keeps the bytes and offers them as `str` where they are one.

use std::{borrow::Cow, fmt};

use bytes::Bytes;

/// Holds a key or a long string of a [`Table`](super::table::Table): UTF-8 as a rule, any bytes at worst.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::text::Text;
/// let text = Text::from("png");
/// assert_eq!((text.as_str(), text.len()), (Some("png"), 3));
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    /// Shows the text, if it is UTF-8.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::text::Text;
    /// assert_eq!(Text::from(vec![0xff]).as_str(), None);
    /// ```
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Shows the bytes, whatever they are.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::text::Text;
    /// assert_eq!(Text::from("png").as_bytes(), b"png");
    /// ```
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Shows the text, with what is not UTF-8 replaced.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::text::Text;
    /// assert_eq!(Text::from(vec![0xff]).to_string_lossy(), "\u{fffd}");
    /// ```
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// Gives the bytes away.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::text::Text;
    /// assert_eq!(Text::from("png").into_bytes(), "png");
    /// ```
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Counts the bytes.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::text::Text;
    /// assert_eq!(Text::from("ä").len(), 2);
    /// ```
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Tells whether there are none.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::text::Text;
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
        f.write_str(&self.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let text = Text::from(&b"caf\xe9"[..]);
        assert_eq!(text.as_str(), None);
        assert_eq!(text.as_bytes(), b"caf\xe9");
        assert_eq!(text.to_string(), "caf\u{fffd}");
        assert_eq!(format!("{text:?}"), "b\"caf\\xe9\"");
        assert_eq!(Text::from("caf"), "caf");
    }
}
