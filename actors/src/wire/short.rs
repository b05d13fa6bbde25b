//! Short strings: what AMQP gives one octet of length.
//!
//! `amq-protocol` panics when a text is longer than 255 bytes, so every text of a user passes here first.

use std::{error, fmt};

use amq_protocol::types::ShortString;

/// Bounds the bytes of a short string.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::short::SHORT_MAX;
/// assert_eq!(SHORT_MAX, 255);
/// ```
pub const SHORT_MAX: usize = 255;

/// Reports a text that does not fit a short string.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::check_short;
/// let refused = check_short("routing key", &"k".repeat(256)).unwrap_err();
/// assert_eq!(refused.to_string(), "routing key has 256 bytes, AMQP allows 255");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// What the text was to be, such as `"routing key"`.
    pub what: &'static str,
    /// How many bytes it has.
    pub len: usize,
}

/// Makes a short string of `value`; `what` says in the error what it was to be.
///
/// # Errors
/// [`TooLong`] for more than 255 bytes.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::short;
/// assert_eq!(short("queue name", "jobs")?.as_str(), "jobs");
/// # Ok::<(), actix_pika_actors::wire::TooLong>(())
/// ```
pub fn short(what: &'static str, value: &str) -> Result<ShortString, TooLong> {
    ShortString::try_new(value).map_err(|_| TooLong { what, len: value.len() })
}

/// Refuses what [`short`] would refuse, without making anything.
///
/// # Errors
/// [`TooLong`] for more than 255 bytes.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::check_short;
/// assert!(check_short("queue name", "jobs").is_ok());
/// ```
#[inline]
pub fn check_short(what: &'static str, value: &str) -> Result<(), TooLong> {
    if value.len() > SHORT_MAX { Err(TooLong { what, len: value.len() }) } else { Ok(()) }
}

/// Makes a short string of as much of `value` as fits, whole characters only.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::cut_short;
/// assert_eq!(cut_short(&"ä".repeat(200)).as_str().len(), 254);
/// ```
pub fn cut_short(value: &str) -> ShortString {
    let end = (0..=SHORT_MAX.min(value.len())).rev().find(|&at| value.is_char_boundary(at)).unwrap_or(0);
    ShortString::try_new(value.get(..end).unwrap_or_default()).unwrap_or_default()
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has {} bytes, AMQP allows {SHORT_MAX}", self.what, self.len)
    }
}

impl error::Error for TooLong {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_255_bytes() {
        let long = "k".repeat(256);
        assert_eq!(short("key", &long[..255]).unwrap().as_str().len(), 255);
        assert_eq!(check_short("key", &long[..255]), Ok(()));
        let refused = short("routing key", &long).unwrap_err();
        assert_eq!(check_short("routing key", &long), Err(refused));
        assert_eq!(refused.to_string(), "routing key has 256 bytes, AMQP allows 255");
    }
}
