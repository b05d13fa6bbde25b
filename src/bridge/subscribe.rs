//! What a subscriber wants.

use super::Lagging;

/// The pattern of a subscription, how many messages may wait, and what happens to others.
///
/// # Examples
/// ```
/// use actix_pika::bridge::{Lagging, Subscribe};
///
/// let subscribe = Subscribe::new("orders.*.at", 64).lagging(Lagging::DropNewest);
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until they are passed to a call"]
pub struct Subscribe {
    pub(super) pattern: String,
    pub(super) max: usize,
    pub(super) lagging: Lagging,
}

impl Subscribe {
    /// Creates options with a pattern and the number of messages that may wait (at least 1).
    ///
    /// In the pattern, `*` matches one word between dots, `#` any number of words. A pattern over 255 bytes fails with
    /// `Limit`. For a direct exchange, the pattern is the exact key. An actor has up to 16 messages in its mailbox in
    /// addition.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::bridge::Subscribe;
    ///
    /// let everything = Subscribe::new("#", 256);
    /// ```
    pub fn new(pattern: impl Into<String>, max: usize) -> Self {
        Self { pattern: pattern.into(), max, lagging: Lagging::default() }
    }

    /// Sets what happens to a message when `max` messages wait. [`Lagging::DropOldest`] unless set.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::bridge::{Lagging, Subscribe};
    ///
    /// let strict = Subscribe::new("orders.#", 1024).lagging(Lagging::Disconnect);
    /// ```
    pub fn lagging(mut self, lagging: Lagging) -> Self {
        self.lagging = lagging;
        self
    }
}
