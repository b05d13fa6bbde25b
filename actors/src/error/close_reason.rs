//! The broker's reason for closing a connection or a channel.

use std::fmt;

use super::CutText;
use crate::wire::{PeerText, method_name};

/// What follows a name in the texts of the broker.
const IN_VHOST: &str = "' in vhost '";

/// What refusals mean that depend on the configuration of the broker: parts of its text, and the words.
const EXPLANATIONS: [(&[&str], &str); 3] = [
    (
        &["`transient_nonexcl_queues`", "not permitted"],
        "the operator of the broker does not permit queues that are neither durable nor exclusive: make it one of them",
    ),
    (
        &["`", "` is deprecated", "not permitted"],
        "the operator of the broker does not permit this deprecated feature",
    ),
    (
        &["does not support global qos"],
        "consumers of quorum queues and streams cannot share a prefetch with others of their channel (Qos::global)",
    ),
];

/// Holds the broker's reason for closing a connection or a channel.
///
/// Source: AMQP 0-9-1 section 1.2 (reply codes); section 1.4.2.9 (`connection.close`);
/// section 1.5.2.5 (`channel.close`)
///
/// # Examples
/// ```
/// # use actix_pika_actors::Error;
/// fn explain(error: &Error) -> String {
///     match error.close_reason() {
///         Some(reason) => format!("{} in {:?}: {}", reason.code, reason.method, reason.text),
///         None => "the broker gave no reason".into(),
///     }
/// }
/// assert_eq!(explain(&Error::credentials("none")), "the broker gave no reason");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReason {
    /// Reply code. Codes that the specification does not list are kept as they are.
    pub code: u16,
    /// Reply text of the broker.
    pub text: PeerText,
    /// Method that caused the close, such as `queue.declare`; empty if no method did.
    pub method: &'static str,
}

impl CloseReason {
    pub(crate) fn new(code: u16, text: impl Into<PeerText>, class_id: u16, method_id: u16) -> Self {
        let method = if class_id == 0 { "" } else { method_name(class_id, method_id) };
        Self { code, text: text.into(), method }
    }

    /// Returns whether the code is one that closes only a channel (311, 312, 313, 403 to 406).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn needs_new_channel_only(error: &Error) -> bool {
    ///     error.close_reason().is_some_and(|reason| reason.is_soft())
    /// }
    /// assert!(!needs_new_channel_only(&Error::credentials("none")));
    /// ```
    pub fn is_soft(&self) -> bool {
        matches!(self.code, 311..=313 | 403..=406)
    }

    /// Returns what the broker's text means in other words, for refusals that depend on its configuration.
    ///
    /// `Display` appends it to the text.
    ///
    /// Source: <https://www.rabbitmq.com/docs/deprecated-features>
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn explain(error: &Error) -> &str {
    ///     error.close_reason().and_then(|reason| reason.explanation()).unwrap_or("see the text")
    /// }
    /// assert_eq!(explain(&Error::credentials("none")), "see the text");
    /// ```
    pub fn explanation(&self) -> Option<&'static str> {
        let matches = |signs: &[&str]| signs.iter().all(|sign| self.says(sign));
        EXPLANATIONS.iter().find(|(signs, _)| matches(signs)).map(|(_, words)| *words)
    }

    /// Returns the text up to its first name of a client, with the quotation mark.
    pub(crate) fn words(&self) -> &str {
        let text = self.text.as_str();
        text.find('\'').map_or(text, |at| text.get(..=at).unwrap_or_default())
    }

    /// Returns whether the broker says this outside of names, which it quotes: before the first one, or behind the
    /// last one if the text is not cut.
    pub(crate) fn says(&self, words: &str) -> bool {
        let behind =
            self.text.rsplit_once('\'').map(|(_, behind)| behind).filter(|text| !text.ends_with("..."));
        self.words().contains(words) || behind.is_some_and(|text| text.contains(words))
    }

    /// Returns the name of the exchange that does not exist (404).
    pub(crate) fn missing_exchange(&self) -> Option<&str> {
        self.missing("exchange '")
    }

    /// Returns the name of the queue that does not exist (404).
    pub(crate) fn missing_queue(&self) -> Option<&str> {
        self.missing("queue '")
    }

    fn missing(&self, kind: &str) -> Option<&str> {
        let text = self.text.strip_prefix("NOT_FOUND - no ").filter(|_| self.code == 404)?;
        let (name, _) = text.strip_prefix(kind)?.split_once(IN_VHOST)?;
        (!name.is_empty()).then_some(name)
    }

    /// Returns whether the text may be about this exchange or queue, of whose name the broker has cut a part.
    pub(crate) fn has_cut(&self, kind: &str, name: &str) -> bool {
        let mark = format!("{kind} '");
        let at = self.text.find(&mark).map(|at| at + mark.len());
        at.and_then(|at| self.text.get(at..)).is_some_and(|rest| {
            let rest = CutText::new(rest, IN_VHOST);
            rest.is_cut() && rest.begins_with(&[name.as_bytes(), IN_VHOST.as_bytes()])
        })
    }

    /// The same, if it does not exist (404).
    pub(crate) fn has_cut_missing(&self, kind: &str, name: &str) -> bool {
        self.code == 404
            && self.text.starts_with(&format!("NOT_FOUND - no {kind} '"))
            && self.has_cut(kind, name)
    }

    /// Parses the name of the exchange or queue from a text such as `no exchange 'orders' in vhost '/'`.
    pub(crate) fn entity(&self) -> Option<&str> {
        let end_of = |prefix: &str| Some(self.text.find(prefix)? + prefix.len());
        let at = [end_of("exchange '"), end_of("queue '")].into_iter().flatten().min()?;
        let (name, _) = self.text.get(at..)?.split_once(IN_VHOST)?;
        (!name.is_empty()).then_some(name)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)?;
        if !self.method.is_empty() {
            write!(f, " (caused by {})", self.method)?;
        }
        match self.explanation() {
            Some(words) => write!(f, "; {words}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_by_configuration_are_explained() {
        let reason = |text: &str| CloseReason::new(541, text, 50, 10);
        // RabbitMQ 4.0.5 and 4.3.6 with the feature denied; cut off at 255 bytes.
        let denied = reason(
            "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.\nIts use is not permitted per the \
             configuration (overriding the default, which is permitted):\n    \
             \"deprecated_features.permit.transient_nonexcl_queues = false\"\nIts use will not be permit...",
        );
        let text = denied.to_string();
        assert!(
            text.ends_with(
                "(caused by queue.declare); the operator of the broker does not permit queues that \
             are neither durable nor exclusive: make it one of them"
            ),
            "{text}"
        );
        // RabbitMQ 4.3.0 by default.
        let by_default = reason(
            "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.\nBy default, this feature is not \
             permitted anymore.\nThe feature will be removed",
        );
        assert_eq!(by_default.explanation(), denied.explanation());
        let other = reason(
            "INTERNAL_ERROR - Feature `global_qos` is deprecated.\nBy default, this feature is not permitted anymore.",
        );
        assert_eq!(
            other.explanation(),
            Some("the operator of the broker does not permit this deprecated feature")
        );
        assert_eq!(reason("INTERNAL_ERROR").explanation(), None);
    }

    #[test]
    fn names_of_clients_are_not_words_of_the_broker() {
        let says = |text: &str| CloseReason::new(404, text, 60, 40).says("is down");
        assert!(says("vhost is down") && says("queue 'q' in vhost '/' is down or inaccessible"));
        assert!(says("node is down: 'q...") && says("queue 'it's' is down"));
        for text in ["queue 'is down' in vhost '/'", "queue 'x is down...", "no queue 'q' in vhost 'is down'"]
        {
            assert!(!says(text), "{text}");
        }
        assert_eq!(CloseReason::new(403, "access to 'a' 'b'", 0, 0).words(), "access to '");
    }

    #[test]
    fn entity_is_parsed_from_the_text_of_a_close() {
        let entity = |text: &str| CloseReason::new(404, text, 60, 40).entity().map(str::to_owned);
        assert_eq!(entity("NOT_FOUND - no exchange 'orders' in vhost '/'").as_deref(), Some("orders"));
        assert_eq!(entity("NOT_FOUND - no queue 'it's' in vhost 'v'").as_deref(), Some("it's"));
        let refused =
            "ACCESS_REFUSED - access to exchange 'e' in vhost 'v' refused for user 'queue 'q' in vhost '";
        assert_eq!(entity(refused).as_deref(), Some("e"));
        assert_eq!(entity("NOT_FOUND - no exchange '' in vhost '/'"), None);
        assert_eq!(entity("NOT_FOUND - no exchange 'cut he"), None);
        assert_eq!(entity("PRECONDITION_FAILED - unknown delivery tag 9"), None);
    }

    #[test]
    fn a_name_that_the_broker_has_cut_is_compared_as_far_as_it_goes() {
        let reason = |code, text: &str| CloseReason::new(code, text, 50, 20);
        let cut = reason(404, "NOT_FOUND - no queue 'long.na...");
        assert!(cut.has_cut_missing("queue", "long.name") && !cut.has_cut_missing("queue", "long"));
        assert!(!cut.has_cut_missing("exchange", "long.name"));
        let whole = reason(404, "NOT_FOUND - no queue 'long' in vhost '/'");
        assert!(!whole.has_cut("queue", "long") && !whole.has_cut("queue", "long' in vhost"));
        let other = reason(406, "PRECONDITION_FAILED - inequivalent arg 'x' for queue 'long.na...");
        assert!(other.has_cut("queue", "long.name") && !other.has_cut_missing("queue", "long.name"));
    }

    #[test]
    fn what_does_not_exist_is_an_exchange_or_a_queue() {
        let missing = |code, text: &str| {
            let reason = CloseReason::new(code, text, 60, 40);
            (reason.missing_exchange().map(str::to_owned), reason.missing_queue().map(str::to_owned))
        };
        assert_eq!(missing(404, "NOT_FOUND - no exchange 'x' in vhost '/'"), (Some("x".into()), None));
        assert_eq!(missing(404, "NOT_FOUND - no queue 'q' in vhost '/'"), (None, Some("q".into())));
        assert_eq!(missing(403, "NOT_FOUND - no queue 'q' in vhost '/'"), (None, None));
        let down = "NOT_FOUND - home node 'a@b' of durable queue 'q' in vhost '/' is down or inaccessible";
        assert_eq!(missing(404, down), (None, None));
    }
}
