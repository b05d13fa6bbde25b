//! Short strings: texts with one octet of length.
//!
//! `amq-protocol` panics on a text longer than 255 bytes, so every text of a user is checked here first.

use std::{error, fmt};

use amq_protocol::types::ShortString;

/// The longest short string, in bytes.
pub const SHORT_MAX: usize = 255;

/// A text is too long for a short string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// What the text is, such as `"routing key"`.
    pub what: &'static str,
    /// Length in bytes.
    pub len: usize,
}

/// Converts `value` to a short string; `what` names it in the error.
///
/// # Errors
/// [`TooLong`] for more than 255 bytes.
pub fn short(what: &'static str, value: &str) -> Result<ShortString, TooLong> {
    ShortString::try_new(value).map_err(|_| TooLong { what, len: value.len() })
}

/// Why the name of a queue or exchange is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameError {
    /// It is too long for a short string.
    TooLong(TooLong),
    /// It contains CR or LF.
    LineBreak {
        /// What it is the name of, such as `"queue name"`.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// Converts the name of a queue or exchange to a short string; `what` names it in the error.
///
/// RabbitMQ removes CR and LF from these names in declare, delete, bind and unbind, but not in consume, get,
/// purge and publish. So `declare` of such a name makes an entity that has another one, and whatever is
/// recorded under the first one is not what the broker has. Routing keys, consumer tags, exchange types,
/// virtual hosts and arguments are kept as they are.
///
/// # Errors
/// [`NameError`] for more than 255 bytes, and for a name with CR or LF.
pub fn name(what: &'static str, value: &str) -> Result<ShortString, NameError> {
    if value.contains(['\r', '\n']) {
        return Err(NameError::LineBreak { what, name: value.to_owned() });
    }
    short(what, value).map_err(NameError::TooLong)
}

/// Checks that [`short`] accepts `value`, without allocating.
///
/// # Errors
/// [`TooLong`] for more than 255 bytes.
#[inline]
pub fn check_short(what: &'static str, value: &str) -> Result<(), TooLong> {
    if value.len() > SHORT_MAX { Err(TooLong { what, len: value.len() }) } else { Ok(()) }
}

/// Converts `value` to a short string, truncated to 255 bytes at a character boundary.
pub fn short_truncated(value: &str) -> ShortString {
    let end = (0..=SHORT_MAX.min(value.len())).rev().find(|&at| value.is_char_boundary(at)).unwrap_or(0);
    ShortString::try_new(value.get(..end).unwrap_or_default()).unwrap_or_default()
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has {} bytes, AMQP allows {SHORT_MAX}", self.what, self.len)
    }
}

impl error::Error for TooLong {}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(error) => error.fmt(f),
            Self::LineBreak { what, name } => {
                write!(f, "{what} {name:?} contains CR or LF, which RabbitMQ would remove")
            }
        }
    }
}

impl error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_255_bytes() {
        let long = "k".repeat(256);
        assert_eq!(short("key", &long[..255]).unwrap().as_str().len(), 255);
        assert_eq!(check_short("key", &long[..255]), Ok(()));
        let error = short("routing key", &long).unwrap_err();
        assert_eq!(check_short("routing key", &long), Err(error));
        assert_eq!(error.to_string(), "routing key has 256 bytes, AMQP allows 255");
    }

    #[test]
    fn a_name_has_no_line_break() {
        assert_eq!(name("queue name", "a\tb").unwrap().as_str(), "a\tb");
        for wrong in ["a\nb", "\r", "a\r\nb", "a\n"] {
            let error = name("queue name", wrong).unwrap_err();
            assert_eq!(error, NameError::LineBreak { what: "queue name", name: wrong.into() });
        }
        let text = name("queue name", "a\nb").unwrap_err().to_string();
        assert_eq!(text, r#"queue name "a\nb" contains CR or LF, which RabbitMQ would remove"#);
        assert!(matches!(name("queue name", &"k".repeat(256)), Err(NameError::TooLong(_))));
    }

    #[test]
    fn a_text_is_truncated_at_a_character_boundary() {
        assert_eq!(short_truncated(&"\u{e4}".repeat(200)).as_str(), "\u{e4}".repeat(127));
        assert_eq!(short_truncated("jobs").as_str(), "jobs");
    }
}
