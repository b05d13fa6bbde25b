//! The second part of a delivery that was split: the right to settle it. The other part is
//! [`Content`](super::Content).

use std::fmt;

use super::{Delivery, Outcome, Processing, Requeue, settle_many::settle_many};
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

    /// Starts processing the delivery: returns a guard that settles it in every case, also on an early return or a
    /// panic. See [`Delivery::process`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Requeue, Result, Token};
    /// # async fn resize() -> std::io::Result<()> { Ok(()) }
    /// async fn work(token: Token) -> Result<(), Box<dyn std::error::Error>> {
    ///     let job = token.process(Requeue::OnceThenDrop);
    ///     resize().await?; // an error or a panic rejects the delivery
    ///     Ok(job.done()?)
    /// }
    /// ```
    pub fn process(self, requeue: Requeue) -> Processing {
        self.0.process(requeue)
    }

    /// Acknowledges many deliveries (`basic.ack`), and sends the frames together. See [`Delivery::ack_many`].
    ///
    /// # Errors
    /// The first error; the others are settled nevertheless. The errors are those of [`Delivery::ack`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Result, Token};
    /// fn store(tokens: Vec<Token>) -> Result<()> {
    ///     Token::ack_many(tokens)
    /// }
    /// ```
    pub fn ack_many(tokens: impl IntoIterator<Item = Self>) -> Result<()> {
        settle_many(tokens.into_iter().map(|token| token.0), Outcome::Ack)
    }

    /// Refuses many deliveries (`basic.nack`), and sends the frames together. See [`Delivery::nack_many`].
    ///
    /// # Errors
    /// Those of [`ack_many`](Self::ack_many).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::{Result, Token};
    /// fn give_back(tokens: Vec<Token>) -> Result<()> {
    ///     Token::nack_many(tokens, true)
    /// }
    /// ```
    pub fn nack_many(tokens: impl IntoIterator<Item = Self>, requeue: bool) -> Result<()> {
        settle_many(tokens.into_iter().map(|token| token.0), Outcome::Nack { requeue })
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

    /// Returns the tag of the consumer that received the delivery; empty for one of [`Get`](super::Get).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Token;
    /// fn came_from_get(token: &Token) -> bool {
    ///     token.consumer_tag().is_empty()
    /// }
    /// ```
    pub fn consumer_tag(&self) -> &str {
        self.0.consumer_tag()
    }

    /// Returns the queue that delivered the message. See [`Delivery::queue`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Token;
    /// fn print(token: &Token) {
    ///     println!("delivery {} of {:?}", token.delivery_tag(), token.queue());
    /// }
    /// ```
    pub fn queue(&self) -> &str {
        self.0.queue()
    }

    pub(super) fn settle(self, outcome: Outcome) -> Result<()> {
        self.0.settle(outcome)
    }
}

/// The token of a delivery whose content is not needed any more.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Delivery, Token};
/// fn to_be_settled(deliveries: Vec<Delivery>) -> Vec<Token> {
///     deliveries.into_iter().map(Token::from).collect()
/// }
/// ```
impl From<Delivery> for Token {
    fn from(delivery: Delivery) -> Self {
        Self(delivery)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.delivery_tag()).finish()
    }
}
