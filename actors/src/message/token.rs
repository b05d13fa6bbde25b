//! The second part of a delivery that was split: the right to settle it. The other part is
//! [`Content`](super::Content).

use std::fmt;

use super::Delivery;
use crate::error::Result;

/// The right to settle a delivery once ([`Delivery::split`]).
///
/// It settles as [`Delivery`] does: the methods consume it, and dropping it unsettled returns the message to
/// its queue.
///
/// **Over a reconnect**: a token from before can no longer settle its delivery ([`is_stale`](Self::is_stale)).
/// The broker delivers the message again.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Result, Token};
/// fn settle(token: Token, done: bool) -> Result<()> {
///     if done { token.ack() } else { token.nack(true) }
/// }
/// ```
#[must_use = "a delivery whose token is dropped unsettled returns to its queue"]
pub struct Token(Delivery);

impl Token {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self(delivery)
    }

    /// Acknowledges the delivery (`basic.ack`): the broker removes the message.
    ///
    /// # Errors
    /// Those of [`Delivery::ack`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Result, Token};
    /// fn finish(token: Token) -> Result<()> {
    ///     token.ack()
    /// }
    /// ```
    pub fn ack(self) -> Result<()> {
        self.0.ack()
    }

    /// Acknowledges the delivery and all older unsettled ones of the same consumer (`basic.ack`).
    ///
    /// # Errors
    /// Those of [`Delivery::ack_all`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Result, Token};
    /// fn finish_all(last: Token) -> Result<()> {
    ///     last.ack_all()
    /// }
    /// ```
    pub fn ack_all(self) -> Result<()> {
        self.0.ack_all()
    }

    /// Refuses the delivery (`basic.nack`).
    ///
    /// # Errors
    /// Those of [`Delivery::nack`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Result, Token};
    /// fn retry_later(token: Token) -> Result<()> {
    ///     token.nack(true)
    /// }
    /// ```
    pub fn nack(self, requeue: bool) -> Result<()> {
        self.0.nack(requeue)
    }

    /// Refuses the delivery and all older unsettled ones of the same consumer (`basic.nack`).
    ///
    /// # Errors
    /// Those of [`Delivery::nack_all`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Result, Token};
    /// fn return_all(last: Token) -> Result<()> {
    ///     last.nack_all(true)
    /// }
    /// ```
    pub fn nack_all(self, requeue: bool) -> Result<()> {
        self.0.nack_all(requeue)
    }

    /// Rejects the delivery (`basic.reject`).
    ///
    /// # Errors
    /// Those of [`Delivery::reject`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Result, Token};
    /// fn discard(token: Token) -> Result<()> {
    ///     token.reject(false)
    /// }
    /// ```
    pub fn reject(self, requeue: bool) -> Result<()> {
        self.0.reject(requeue)
    }

    /// Returns whether the delivery can no longer be settled. See [`Delivery::is_stale`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Token;
    /// fn should_process(token: &Token) -> bool {
    ///     !token.is_stale()
    /// }
    /// ```
    pub fn is_stale(&self) -> bool {
        self.0.is_stale()
    }

    /// Returns whether the delivery needs no settling (`no_ack`). Settling it anyway sends nothing.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Token;
    /// fn needs_settling(token: &Token) -> bool {
    ///     !token.is_no_ack()
    /// }
    /// ```
    pub fn is_no_ack(&self) -> bool {
        self.0.is_no_ack()
    }

    /// Returns the delivery tag. See [`Delivery::delivery_tag`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Token;
    /// fn print(token: &Token) {
    ///     println!("delivery {}", token.delivery_tag());
    /// }
    /// ```
    pub fn delivery_tag(&self) -> u64 {
        self.0.delivery_tag()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.delivery_tag()).finish()
    }
}
