//! What publishes have in common that the broker refuses.

use crate::{
    message::{Outgoing, copies_of_other_type},
    wire::{DeliveryMode, Properties},
};

/// What the broker refuses, whoever publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ForbiddenPlace {
    Exchange(String),
    /// A routing key of an exchange.
    Topic {
        exchange: String,
        routing_key: String,
    },
    /// Bodies that are larger than this.
    BodyAbove(usize),
    Expiration(Vec<u8>),
    UserId(Vec<u8>),
    /// All user ids but this one.
    OtherUsers(String),
    /// Requests for direct replies on a channel that does not consume them.
    ReplyTo {
        channel: u16,
    },
    CopyHeaders,
    DeliveryMode,
}

/// A publish that may be forbidden.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) channel: u16,
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
    pub(super) body_len: usize,
    pub(super) properties: &'a Properties,
}

impl<'a> Candidate<'a> {
    pub(super) fn of(outgoing: &Outgoing<'a>, channel: u16) -> Self {
        let Outgoing { exchange, routing_key, properties, body, .. } = *outgoing;
        Self { channel, exchange, routing_key, body_len: body.len(), properties }
    }
}

impl ForbiddenPlace {
    pub(super) fn covers(&self, publish: &Candidate<'_>) -> bool {
        let properties = publish.properties;
        match self {
            Self::Exchange(name) => name == publish.exchange,
            Self::Topic { exchange, routing_key } => {
                exchange == publish.exchange && routing_key == publish.routing_key
            }
            Self::BodyAbove(limit) => publish.body_len > *limit,
            Self::Expiration(value) => {
                properties.has_more() && properties.expiration_octets().as_ref() == Some(value)
            }
            Self::UserId(value) => properties.user_id_bytes() == Some(value),
            Self::OtherUsers(user) => is_other_user(properties, user),
            Self::ReplyTo { channel } => *channel == publish.channel && is_reply_to_consumer(properties),
            Self::CopyHeaders => copies_of_other_type(properties).is_some(),
            Self::DeliveryMode => has_odd_delivery_mode(properties),
        }
    }

    /// Returns whether the other place takes the place of this one.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        matches!((self, other), (Self::BodyAbove(_), Self::BodyAbove(_))) || self == other
    }
}

pub(super) fn is_other_user(properties: &Properties, user: &str) -> bool {
    properties.user_id_bytes().is_some_and(|claimed| claimed != user.as_bytes())
}

/// Returns whether the publish asks for a direct reply.
pub(super) fn is_reply_to_consumer(properties: &Properties) -> bool {
    properties.reply_to_bytes() == Some(REPLY_TO.as_bytes())
}

/// The queue from which a channel consumes direct replies.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

pub(super) fn has_odd_delivery_mode(properties: &Properties) -> bool {
    matches!(properties.delivery_mode(), Some(DeliveryMode::Other(_)))
}

/// The broker has a name of its own for the default exchange.
pub(super) fn wire_name(exchange: &[u8]) -> &[u8] {
    if exchange.is_empty() { b"amq.default" } else { exchange }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(place: &ForbiddenPlace, properties: Properties, body_len: usize) -> bool {
        let (exchange, routing_key) = ("x", "k");
        place.covers(&Candidate { channel: 3, exchange, routing_key, body_len, properties: &properties })
    }

    #[test]
    fn a_place_covers_what_the_broker_refuses_for_the_same_reason() {
        let (none, user) = (Properties::new, |user: &str| Properties::new().with_user_id(user));
        let others = ForbiddenPlace::OtherUsers("guest".to_owned());
        assert!(covers(&others, user("a"), 0) && covers(&others, user("b"), 0));
        assert!(!covers(&others, user("guest"), 0) && !covers(&others, none(), 0));
        let one = ForbiddenPlace::UserId(b"a".to_vec());
        assert!(covers(&one, user("a"), 0) && !covers(&one, user("b"), 0));
        let above = ForbiddenPlace::BodyAbove(5);
        assert!(covers(&above, none(), 6) && !covers(&above, none(), 5));
        assert!(above.is_same(&ForbiddenPlace::BodyAbove(7)) && !above.is_same(&others));
        let expiring = |millis| Properties::new().with_expiration(std::time::Duration::from_millis(millis));
        let expiration = ForbiddenPlace::Expiration(b"70".to_vec());
        assert!(covers(&expiration, expiring(70), 0) && !covers(&expiration, expiring(7), 0));
        let mode = |mode| Properties::new().with_delivery_mode(mode);
        assert!(covers(&ForbiddenPlace::DeliveryMode, mode(DeliveryMode::Other(3)), 0));
        assert!(!covers(&ForbiddenPlace::DeliveryMode, mode(DeliveryMode::Transient), 0));
        let copies = Properties::new().with_header("BCC", "a");
        assert!(covers(&ForbiddenPlace::CopyHeaders, copies, 0));
        let request = || Properties::new().with_reply_to("amq.rabbitmq.reply-to");
        assert!(covers(&ForbiddenPlace::ReplyTo { channel: 3 }, request(), 0));
        assert!(!covers(&ForbiddenPlace::ReplyTo { channel: 4 }, request(), 0));
        assert!(!covers(&ForbiddenPlace::ReplyTo { channel: 3 }, none().with_reply_to("q"), 0));
    }
}
