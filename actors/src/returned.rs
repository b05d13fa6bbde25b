//! Mandatory publishes that the broker returned because it could not route them.

use bytes::Bytes;

use crate::wire::{DecodeError, PeerText, Properties};

/// Holds a publish that the broker returned (`basic.return`), because it was mandatory and reached no queue.
///
/// On a channel with confirms it is part of an error of kind [`Unroutable`](crate::ErrorKind::Unroutable). On
/// a channel without, it is sent as [`ChannelEvent::Returned`](crate::ChannelEvent::Returned).
///
/// Source: AMQP 0-9-1 section 1.8.3.8 (`basic.return`);
/// <https://www.rabbitmq.com/docs/publishers#unroutable>
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
    /// Reply code: 312 (`NO_ROUTE`) in practice.
    pub code: u16,
    /// Reply text of the broker.
    pub text: PeerText,
    /// Exchange of the publish; empty for the default exchange.
    pub exchange: String,
    /// Routing key of the publish.
    pub routing_key: String,
    /// Properties of the publish, or the error of a list that ends too early. A single property that cannot
    /// be decoded hides no other: see [`Properties`].
    pub properties: Result<Properties, DecodeError>,
    /// Body of the publish; empty if it is over a limit of what is received
    /// ([`body_max`](crate::ConnectionOptions::body_max)).
    pub body: Bytes,
}
