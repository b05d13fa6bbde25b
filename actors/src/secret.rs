//! Text that must not be shown: passwords and tokens.
//!
//! The memory is wiped on drop, and no `Debug` output contains the text.

use std::fmt;

use zeroize::Zeroizing;

/// Holds a password or token. `Debug` prints `***`, and the memory is wiped on drop.
///
/// Copies of the text that the caller makes are not wiped.
///
/// # Examples
/// ```
/// # use actix_pika_actors::Secret;
/// let secret = Secret::new("hunter2");
/// assert_eq!(format!("{secret:?}"), "***");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Secret;
    /// assert_eq!(Secret::new("hunter2"), Secret::from("hunter2"));
    /// ```
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the text itself.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Secret;
    /// assert_eq!(Secret::new("hunter2").expose(), "hunter2");
    /// ```
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::from("hunter2");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
    }
}
