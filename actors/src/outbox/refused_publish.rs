//! Which publishes the broker refused: it closes the channel with a reason, and names no delivery tag.
//!
//! The broker works in order. What was written before the refused publish may have arrived without its
//! confirm; what was written behind it was dropped.

use super::{
    forbidden_place::{
        ForbiddenPlace, has_odd_delivery_mode, is_other_user, is_reply_to_consumer, wire_name,
    },
    written_publish::WrittenPublish,
};
use crate::{
    error::{CloseReason, CutText},
    message::{copies_of_other_type, is_expiration},
    wire::{Properties, decode_properties},
};

const IN_VHOST: &str = "' in vhost '";
const IN_EXCHANGE: &str = "' in exchange '";
const BUT_USER: &str = "' but authenticated user was '";

/// What the refused publishes have in common, by the text of the broker's reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RefusedPublish<'a> {
    /// The exchange is missing, internal, or not permitted.
    Exchange(CutText<'a>),
    /// The topic is not permitted. The text has the routing key and the exchange.
    Topic(CutText<'a>),
    /// The body is larger than this.
    BodyAbove(usize),
    /// It is not a number of milliseconds, or too large a one.
    Expiration(CutText<'a>),
    /// It is not the user of the connection, whom the broker names.
    UserId { claimed: CutText<'a>, user: Option<&'a str> },
    /// A `reply_to` address without a consumer.
    ReplyTo,
    /// The headers that name more routing keys have values of another type.
    CopyHeaders,
    /// The delivery mode is neither 1 nor 2.
    DeliveryMode,
}

/// A publish that the broker refused, as far as it is known.
#[derive(Debug)]
pub(super) struct RefusedNames {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) properties: Properties,
}

/// What is known of a refusal.
#[derive(Debug, Default)]
pub(crate) struct PublishRefusal {
    /// The refused publish is known, or gone with the channel: it does not close the channel again.
    pub(crate) is_taken_out: bool,
    /// The exchange that does not exist.
    pub(crate) missing: Option<String>,
    /// What the broker would refuse again.
    pub(crate) place: Option<ForbiddenPlace>,
}

impl<'a> RefusedPublish<'a> {
    /// Reads the reason; `None` for a text of which the publish cannot be told.
    pub(super) fn of(reason: &'a CloseReason) -> Option<Self> {
        let text = reason.text.as_str();
        let fixed = reason.words();
        let behind = |mark: &str| fixed.find(mark).and_then(|at| text.get(at + mark.len()..));
        if let Some(rest) = behind("message size ") {
            let number = |text: &str| text.split(' ').next().and_then(|number| number.parse::<usize>().ok());
            let limit = rest.split_once("max size ").and_then(|(_, limit)| number(limit));
            // Without the limit, all that is as large.
            return limit.or_else(|| number(rest)?.checked_sub(1)).map(Self::BodyAbove);
        }
        if let Some(rest) = behind("access to topic '") {
            return Some(Self::Topic(CutText::new(rest, IN_VHOST)));
        }
        if let Some(rest) = behind("invalid expiration '") {
            return Some(Self::Expiration(CutText::new(rest, "': ")));
        }
        if let Some(rest) = behind("user_id property set to '") {
            let user = rest.rsplit_once(BUT_USER).and_then(|(_, user)| user.strip_suffix('\''));
            return Some(Self::UserId { claimed: CutText::new(rest, BUT_USER), user });
        }
        if fixed.contains("fast reply consumer") {
            return Some(Self::ReplyTo);
        }
        if fixed.contains("unacceptable_type_in_header") {
            return Some(Self::CopyHeaders);
        }
        if fixed.contains("delivery_mode_unknown") {
            return Some(Self::DeliveryMode);
        }
        behind("exchange '").map(|rest| Self::Exchange(CutText::new(rest, IN_VHOST)))
    }

    /// Returns whether the broker refuses publishes with these names for the same reason.
    pub(super) fn is_named(&self, exchange: &[u8], routing_key: &[u8]) -> bool {
        let exchange = wire_name(exchange);
        match self {
            Self::Exchange(text) => text.begins_with(&[exchange, IN_VHOST.as_bytes()]),
            Self::Topic(text) => {
                text.begins_with(&[routing_key, IN_EXCHANGE.as_bytes(), exchange, IN_VHOST.as_bytes()])
            }
            _ => false,
        }
    }

    /// Returns whether the broker refuses this publish for the same reason.
    pub(super) fn is(&self, publish: &WrittenPublish<'_>) -> bool {
        match self {
            Self::Exchange(_) | Self::Topic(_) => self.is_named(publish.exchange, publish.routing_key),
            Self::BodyAbove(limit) => publish.body_len() > *limit,
            _ => decode_properties(publish.properties).is_ok_and(|properties| self.has(&properties)),
        }
    }

    fn has(&self, properties: &Properties) -> bool {
        match self {
            Self::Expiration(text) => properties
                .expiration_octets()
                .is_some_and(|value| !is_expiration(&value) || text.begins_with(&[&value, b"': "])),
            Self::UserId { user: Some(user), .. } => is_other_user(properties, user),
            Self::UserId { claimed, user: None } => properties
                .user_id_bytes()
                .is_some_and(|value| claimed.begins_with(&[value, BUT_USER.as_bytes()])),
            Self::ReplyTo => is_reply_to_consumer(properties),
            Self::CopyHeaders => copies_of_other_type(properties).is_some(),
            Self::DeliveryMode => has_odd_delivery_mode(properties),
            Self::Exchange(_) | Self::Topic(_) | Self::BodyAbove(_) => false,
        }
    }

    /// Returns whether the broker refuses the exchange, whatever the routing key.
    pub(super) fn is_exchange(&self) -> bool {
        matches!(self, Self::Exchange(_))
    }

    /// Returns whether the text names an exchange, or a routing key with it, and the broker has cut it.
    pub(super) fn is_name_cut(&self) -> bool {
        matches!(self, Self::Exchange(text) | Self::Topic(text) if text.is_cut())
    }

    /// Returns whether the broker would have refused the publish at any time: it depends on nothing that
    /// others can change meanwhile.
    pub(super) fn is_fixed(&self) -> bool {
        !matches!(self, Self::Exchange(_) | Self::Topic(_))
    }

    /// Returns what the broker would refuse again on this channel. Names that it has cut are those of the
    /// refused publish.
    pub(super) fn refusal(&self, code: u16, channel: u16, publish: Option<RefusedNames>) -> PublishRefusal {
        let mut refusal = PublishRefusal::default();
        let place = match self {
            Self::Exchange(text) => {
                let whole = text.before(IN_VHOST).filter(|_| !text.is_cut());
                let whole = whole.map(|name| if name == "amq.default" { "" } else { name }.to_owned());
                let name = whole.or_else(|| publish.map(|publish| publish.exchange));
                match code {
                    404 => refusal.missing = name.filter(|name| !name.is_empty()),
                    403 => refusal.place = name.map(ForbiddenPlace::Exchange),
                    _ => {}
                }
                return refusal;
            }
            Self::Topic(_) if code != 403 => None,
            Self::Topic(text) => {
                let of_publish = publish.map(|publish| (publish.exchange, publish.routing_key));
                let of_text = || {
                    let (routing_key, rest) = text.as_str().split_once(IN_EXCHANGE)?;
                    let (exchange, _) = rest.split_once(IN_VHOST)?;
                    // Where a name has the words between them, it is not known which.
                    let is_known = !rest.contains(IN_EXCHANGE);
                    is_known.then(|| (exchange.to_owned(), routing_key.to_owned()))
                };
                let names = of_publish.or_else(of_text);
                names.map(|(exchange, routing_key)| ForbiddenPlace::Topic { exchange, routing_key })
            }
            Self::BodyAbove(limit) => Some(ForbiddenPlace::BodyAbove(*limit)),
            Self::Expiration(text) => {
                let of_publish = publish.and_then(|publish| publish.properties.expiration_octets());
                let value = of_publish.or_else(|| text.before("': ").map(|value| value.as_bytes().to_vec()));
                value.map(ForbiddenPlace::Expiration)
            }
            Self::UserId { user: Some(user), .. } => Some(ForbiddenPlace::OtherUsers((*user).to_owned())),
            Self::UserId { claimed, user: None } => {
                let of_publish =
                    publish.and_then(|publish| Some(publish.properties.user_id_bytes()?.to_vec()));
                let value = of_publish.or_else(|| Some(claimed.before(BUT_USER)?.as_bytes().to_vec()));
                value.map(ForbiddenPlace::UserId)
            }
            Self::ReplyTo => Some(ForbiddenPlace::ReplyTo { channel }),
            Self::CopyHeaders => Some(ForbiddenPlace::CopyHeaders),
            Self::DeliveryMode => Some(ForbiddenPlace::DeliveryMode),
        };
        PublishRefusal { place, ..refusal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16, text: &str) -> String {
        let reason = CloseReason::new(code, text.to_owned(), 60, 40);
        let Some(kind) = RefusedPublish::of(&reason) else { return "unknown".to_owned() };
        let refusal = kind.refusal(code, 7, None);
        refusal.missing.map_or_else(|| format!("{:?}", refusal.place), |name| format!("missing {name}"))
    }

    #[test]
    fn the_reason_tells_what_the_broker_would_refuse_again() {
        assert_eq!(refusal(404, "NOT_FOUND - no exchange 'it's' in vhost '/'"), "missing it's");
        for (text, name) in [
            ("write access to exchange 'x' in vhost 'v' refused for user 'u'", "x"),
            ("access to exchange 'amq.default' in vhost 'v' refused for user 'u'", ""),
            ("cannot publish to internal exchange 'x' in vhost 'v'", "x"),
        ] {
            let text = format!("ACCESS_REFUSED - {text}");
            assert_eq!(refusal(403, &text), format!("Some(Exchange({name:?}))"));
        }
        let text =
            "ACCESS_REFUSED - write access to topic 'a.b' in exchange 'x' in vhost 'v' refused for user 'u'";
        assert_eq!(refusal(403, text), r#"Some(Topic { exchange: "x", routing_key: "a.b" })"#);
        for text in ["message size 9 is larger than configured max size 5", "message size 9 > max size 5"] {
            assert_eq!(refusal(406, &format!("PRECONDITION_FAILED - {text}")), "Some(BodyAbove(5))");
        }
        assert_eq!(refusal(406, "PRECONDITION_FAILED - message size 9 is too much"), "Some(BodyAbove(8))");
        let text = "PRECONDITION_FAILED - invalid expiration '9': {value_too_large,9}";
        assert_eq!(refusal(406, text), "Some(Expiration([57]))");
        let text = "PRECONDITION_FAILED - user_id property set to 'no' but authenticated user was 'guest'";
        assert_eq!(refusal(406, text), r#"Some(OtherUsers("guest"))"#);
        let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
        assert_eq!(refusal(406, text), "Some(ReplyTo { channel: 7 })");
        let text = "invalid message: {unacceptable_type_in_header,\"CC\",longstr}";
        assert_eq!(refusal(406, text), "Some(CopyHeaders)");
        assert_eq!(refusal(406, "invalid message: {delivery_mode_unknown,3}"), "Some(DeliveryMode)");
        assert_eq!(refusal(406, "PRECONDITION_FAILED - something else"), "unknown");
    }

    #[test]
    fn names_of_clients_are_not_taken_for_words_of_the_broker() {
        let text = "NOT_FOUND - no exchange 'message size 9 or' in vhost '/'";
        assert_eq!(refusal(404, text), "missing message size 9 or");
        let topic = |key: &str| {
            format!(
                "ACCESS_REFUSED - write access to topic '{key}' in exchange 'x' in vhost 'v' refused for user 'u'"
            )
        };
        for key in ["message size 1 or", "delivery_mode_unknown", "invalid expiration '1"] {
            let place = format!("Some(Topic {{ exchange: \"x\", routing_key: {key:?} }})");
            assert_eq!(refusal(403, &topic(key)), place);
        }
        assert_eq!(refusal(403, &topic("k' in exchange 'y")), "None");
        let text = "PRECONDITION_FAILED - user_id property set to 'message size 1 or' but authenticated user was 'guest'";
        assert_eq!(refusal(406, text), r#"Some(OtherUsers("guest"))"#);
    }

    #[test]
    fn a_name_that_the_broker_has_cut_is_that_of_the_publish() {
        let of = |code, text: &str| {
            let reason = CloseReason::new(code, text.to_owned(), 60, 40);
            let kind = RefusedPublish::of(&reason).expect("a kind");
            assert!(kind.is_name_cut(), "{text}");
            let (exchange, routing_key) = ("exchange", "long.key");
            let other = kind.is_named(b"other", b"lo");
            assert!(kind.is_named(exchange.as_bytes(), routing_key.as_bytes()) && !other, "{text}");
            let (exchange, routing_key) = (exchange.to_owned(), routing_key.to_owned());
            let names = RefusedNames { exchange, routing_key, properties: Properties::new() };
            let refusal = kind.refusal(code, 7, Some(names));
            refusal.missing.map_or_else(|| format!("{:?}", refusal.place), |name| format!("missing {name}"))
        };
        assert_eq!(of(404, "NOT_FOUND - no exchange 'exch..."), "missing exchange");
        assert_eq!(
            of(403, "ACCESS_REFUSED - write access to exchange 'exchange..."),
            "Some(Exchange(\"exchange\"))"
        );
        let topic = r#"Some(Topic { exchange: "exchange", routing_key: "long.key" })"#;
        for cut in [
            "long.key' in exch...",
            "long.key' in exchange 'exc...",
            "long.key' in exchange 'exchange' in...",
        ] {
            assert_eq!(of(403, &format!("ACCESS_REFUSED - write access to topic '{cut}")), topic);
        }
    }

    #[test]
    fn a_user_that_the_broker_does_not_name_to_the_end_is_told_by_the_claim() {
        let text = "PRECONDITION_FAILED - user_id property set to 'no' but authenticated user was 'gue...";
        assert_eq!(refusal(406, text), "Some(UserId([110, 111]))");
        let text = "PRECONDITION_FAILED - user_id property set to 'no...";
        assert_eq!(refusal(406, text), "None");
    }
}
