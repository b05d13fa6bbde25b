//! The broker's reason for closing a connection or a channel.

use std::fmt;

use crate::wire::method_name;

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
    pub text: String,
    /// Method that caused the close, such as `queue.declare`; empty if no method did.
    pub method: &'static str,
}

impl CloseReason {
    pub(crate) fn new(code: u16, text: impl Into<String>, class_id: u16, method_id: u16) -> Self {
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

    /// Parses the name of the exchange or queue from a text such as `no exchange 'orders' in vhost '/'`.
    pub(crate) fn entity(&self) -> Option<&str> {
        let end_of = |prefix: &str| Some(self.text.find(prefix)? + prefix.len());
        let at = [end_of("exchange '"), end_of("queue '")].into_iter().flatten().min()?;
        let (name, _) = self.text.get(at..)?.split_once("' in vhost '")?;
        (!name.is_empty()).then_some(name)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)?;
        if !self.method.is_empty() {
            write!(f, " (caused by {})", self.method)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
