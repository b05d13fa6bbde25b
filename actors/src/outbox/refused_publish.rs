//! Which publishes the broker refused: it closes the channel with a reason, and names no delivery tag.
//!
//! The broker works in order. What was written before the refused publish may have arrived without its
//! confirm; what was written behind it was dropped.

use super::written_publish::WrittenPublish;
use crate::{
    error::CloseReason,
    wire::{Value, decode_properties},
};

/// What the refused publishes have in common, by the text of the broker's reason.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RefusedPublish<'a> {
    /// The exchange is missing, internal, or not permitted. The broker cuts texts, and a name with them.
    Exchange {
        name: &'a str,
        is_cut: bool,
    },
    /// The topic is not permitted.
    Topic {
        exchange: &'a str,
        routing_key: &'a str,
    },
    /// The body is larger than this.
    BodyAbove(usize),
    Expiration(&'a str),
    UserId(&'a str),
    /// A `reply_to` address without a consumer.
    ReplyTo,
    /// The headers that name more routing keys have values of another type.
    CopyHeaders,
}

impl<'a> RefusedPublish<'a> {
    /// Reads the reason; `None` for a text of which the publish cannot be told.
    pub(crate) fn of(reason: &'a CloseReason) -> Option<Self> {
        let text = reason.text.as_str();
        let behind = |mark: &str| text.find(mark).and_then(|at| text.get(at + mark.len()..));
        if let Some(rest) = behind("message size ") {
            let number = |text: &str| text.split(' ').next().and_then(|number| number.parse::<usize>().ok());
            let limit = rest.split_once("max size ").and_then(|(_, limit)| number(limit));
            // Without the limit, all that is as large.
            return limit.or_else(|| number(rest)?.checked_sub(1)).map(Self::BodyAbove);
        }
        if let Some(rest) = behind("access to topic '") {
            let (routing_key, rest) = rest.split_once("' in exchange '")?;
            let (exchange, _) = rest.split_once("' in vhost '")?;
            return Some(Self::Topic { exchange: own_name(exchange), routing_key });
        }
        if let Some(rest) = behind("invalid expiration '") {
            return rest.split_once('\'').map(|(value, _)| Self::Expiration(value));
        }
        if let Some(rest) = behind("user_id property set to '") {
            return rest.split_once("' but ").map(|(value, _)| Self::UserId(value));
        }
        if text.contains("fast reply consumer") {
            return Some(Self::ReplyTo);
        }
        if text.contains("unacceptable_type_in_header") {
            return Some(Self::CopyHeaders);
        }
        let rest = behind("exchange '")?;
        Some(match rest.split_once("' in vhost '") {
            Some((name, _)) => Self::Exchange { name: own_name(name), is_cut: false },
            None => Self::Exchange { name: rest.trim_end_matches("..."), is_cut: true },
        })
    }

    /// Returns whether the broker refuses this publish for the same reason.
    pub(super) fn is(&self, publish: &WrittenPublish<'_>) -> bool {
        let properties = || decode_properties(publish.properties).ok();
        match self {
            Self::Exchange { name, is_cut: false } => publish.exchange == name.as_bytes(),
            Self::Exchange { name, is_cut: true } => is_cut_of(name.as_bytes(), publish.exchange),
            Self::Topic { exchange, routing_key } => {
                publish.exchange == exchange.as_bytes() && publish.routing_key == routing_key.as_bytes()
            }
            Self::BodyAbove(limit) => publish.body_len() > *limit,
            Self::Expiration(value) => properties()
                .and_then(|properties| properties.expiration())
                .is_some_and(|after| after.as_millis().to_string() == *value),
            Self::UserId(value) => {
                properties().is_some_and(|properties| properties.user_id() == Some(*value))
            }
            Self::ReplyTo => {
                properties().is_some_and(|properties| properties.reply_to() == Some("amq.rabbitmq.reply-to"))
            }
            Self::CopyHeaders => properties().is_some_and(|properties| {
                let is_other =
                    |key| properties.header(key).is_some_and(|value| !matches!(value, Value::Array(_)));
                is_other("CC") || is_other("BCC")
            }),
        }
    }

    /// Returns whether the broker would have refused the publish at any time: it depends on nothing that
    /// others can change meanwhile.
    pub(super) fn is_fixed(&self) -> bool {
        !matches!(self, Self::Exchange { .. } | Self::Topic { .. })
    }
}

/// Returns whether the broker may have cut a text with this exchange in the name, or right behind it.
fn is_cut_of(cut: &[u8], exchange: &[u8]) -> bool {
    exchange.starts_with(cut)
        || cut.strip_prefix(exchange).is_some_and(|behind| b"' in vhost '".starts_with(behind))
}

/// The broker has a name of its own for the default exchange.
fn own_name(exchange: &str) -> &str {
    if exchange == "amq.default" { "" } else { exchange }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_text_belongs_to_the_exchange_whose_name_it_begins() {
        assert!(
            is_cut_of(b"lon", b"long") && is_cut_of(b"long", b"long") && is_cut_of(b"long' in vh", b"long")
        );
        assert!(!is_cut_of(b"long", b"lon") && !is_cut_of(b"long", b"") && !is_cut_of(b"long's", b"long"));
    }

    fn of(code: u16, text: &str) -> String {
        format!("{:?}", RefusedPublish::of(&CloseReason::new(code, text.to_owned(), 60, 40)))
    }

    #[test]
    fn the_reason_tells_which_publishes_are_refused() {
        let exchange = |name: &str| format!("Some(Exchange {{ name: {name:?}, is_cut: false }})");
        assert_eq!(of(404, "NOT_FOUND - no exchange 'it's' in vhost '/'"), exchange("it's"));
        assert_eq!(
            of(403, "ACCESS_REFUSED - write access to exchange 'x' in vhost 'v' refused for user 'u'"),
            exchange("x")
        );
        assert_eq!(
            of(403, "ACCESS_REFUSED - access to exchange 'amq.default' in vhost 'v' refused for user 'u'"),
            exchange("")
        );
        assert_eq!(
            of(403, "ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost 'v'"),
            exchange("x")
        );
        assert_eq!(
            of(
                403,
                "ACCESS_REFUSED - write access to topic 'a.b' in exchange 'x' in vhost 'v' refused for user 'u'"
            ),
            "Some(Topic { exchange: \"x\", routing_key: \"a.b\" })"
        );
        assert_eq!(
            of(404, "NOT_FOUND - no exchange 'long..."),
            "Some(Exchange { name: \"long\", is_cut: true })"
        );
        for text in ["larger than configured max size 5", "larger than max size 5"] {
            let text = format!("PRECONDITION_FAILED - message size 9 is {text}");
            assert_eq!(of(406, &text), "Some(BodyAbove(5))");
        }
        assert_eq!(of(406, "PRECONDITION_FAILED - message size 9 is too much"), "Some(BodyAbove(8))");
        assert_eq!(
            of(406, "PRECONDITION_FAILED - invalid expiration '9': {value_too_large,9}"),
            "Some(Expiration(\"9\"))"
        );
        assert_eq!(
            of(406, "PRECONDITION_FAILED - user_id property set to 'no' but authenticated user was 'guest'"),
            "Some(UserId(\"no\"))"
        );
        assert_eq!(of(406, "PRECONDITION_FAILED - fast reply consumer does not exist"), "Some(ReplyTo)");
        assert_eq!(
            of(406, "invalid message: {unacceptable_type_in_header,\"CC\",longstr}"),
            "Some(CopyHeaders)"
        );
        assert_eq!(of(406, "PRECONDITION_FAILED - something else"), "None");
    }
}
