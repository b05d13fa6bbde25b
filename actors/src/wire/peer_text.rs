//! [`PeerText`]: what the broker writes for people, such as reply texts.
//!
//! A text with line breaks or escape sequences could forge lines of a log or control a terminal. So every text
//! of the peer has a type that escapes them when it is written: this one, or [`Text`](super::Text) for headers
//! and properties of the peer. What mixes such texts into longer ones writes through `Escaping`.

use std::{
    fmt::{self, Write},
    ops::Deref,
};

/// A text of the broker, such as the reply text of a close or the reason of `connection.blocked`.
///
/// It dereferences to the text as the broker sent it, for comparisons. `Display` and `Debug` escape line
/// breaks, other control characters and marks that change the direction of writing, so that it forges no line
/// of a log.
///
/// # Examples
/// ```
/// # use actix_pika_actors::PeerText;
/// let text = PeerText::from("NOT_FOUND\n[INFO] all is well");
/// assert!(text.starts_with("NOT_FOUND"));
/// assert_eq!(text.to_string(), r"NOT_FOUND\n[INFO] all is well");
/// assert_eq!(text.as_str(), "NOT_FOUND\n[INFO] all is well");
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerText(String);

impl PeerText {
    /// Returns the text as the broker sent it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::PeerText;
    /// assert_eq!(PeerText::from("low on memory").as_str(), "low on memory");
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Converts the text to a `String`, as the broker sent it.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::PeerText;
    /// assert_eq!(PeerText::from("low on memory").into_string(), "low on memory");
    /// ```
    pub fn into_string(self) -> String {
        self.0
    }
}

impl From<String> for PeerText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for PeerText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Deref for PeerText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for PeerText {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for PeerText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for PeerText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl PartialEq<String> for PeerText {
    fn eq(&self, other: &String) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaping(f).write_str(&self.0)
    }
}

impl fmt::Debug for PeerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Escapes what is written through it, in the style of Rust: `\n`, `\u{1b}`.
pub(crate) struct Escaping<W>(pub(crate) W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(is_unsafe) {
            match part.chars().next_back().filter(|&last| is_unsafe(last)) {
                Some(last) => {
                    self.0.write_str(part.strip_suffix(last).unwrap_or_default())?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// Returns whether a character controls a terminal, begins a line, or changes the direction of writing.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_forge_a_line_is_escaped() {
        for (text, shown) in [
            ("plain 'text' \\ \u{e4}", "plain 'text' \\ \u{e4}"),
            ("a\r\nb", r"a\r\nb"),
            ("\u{1b}[31mred\u{9b}0m", r"\u{1b}[31mred\u{9b}0m"),
            ("\0\t\u{7f}\u{85}", r"\u{0}\t\u{7f}\u{85}"),
            ("x\u{202e}y\u{2066}\u{2028}", r"x\u{202e}y\u{2066}\u{2028}"),
            ("", ""),
        ] {
            let text = PeerText::from(text);
            assert_eq!((text.to_string(), format!("{text:?}")), (shown.to_owned(), format!("\"{shown}\"")));
            assert_eq!(PeerText::from(shown).to_string(), shown, "escaped once");
        }
    }
}
