//! What the broker hands back when it cannot route a mandatory publish.

use bytes::Bytes;

use crate::wire::{Fault, Properties};

/// Holds a publish that the broker handed back with `basic.return`, because it was mandatory and no queue got
/// it.
///
/// With confirms it is the cause of an error of kind [`Unroutable`](crate::ErrorKind::Unroutable); without,
/// it comes as [`ChannelEvent::Returned`](crate::ChannelEvent::Returned).
///
/// Source: AMQP 0-9-1 section 1.8.3.8; <https://www.rabbitmq.com/docs/publishers#unroutable>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Error;
/// fn log(error: &Error) {
///     if let Some(returned) = error.returned() {
///         eprintln!("{} {}: {:?}", returned.code, returned.text, returned.routing_key);
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Return {
    /// Why, as a reply code: 312 `NO_ROUTE` in practice.
    pub code: u16,
    /// Why, in the broker's words.
    pub text: String,
    /// The exchange that was published to; empty for the default exchange.
    pub exchange: String,
    /// The routing key that led nowhere.
    pub routing_key: String,
    /// The properties of the publish as they came back, or why they cannot be read.
    pub properties: Result<Properties, Fault>,
    /// The body of the publish.
    pub body: Bytes,
}
