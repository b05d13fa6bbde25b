//! What the broker hands back when it cannot route a mandatory publish.

use bytes::Bytes;

use crate::wire::{Fault, Properties};

/// A publish that the broker handed back with `basic.return`.
///
/// Source: AMQP 0-9-1, class basic, method return.
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
