//! The attribute that differs between a declare and an existing entity, parsed from the broker's text of a
//! 406.
//!
//! RabbitMQ sends `PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'jobs' in vhost '/': received
//! 'false' but current is 'true'`, cut to 255 bytes. A value of the arguments table is written as `the value
//! '5' of type 'long'`, an absent one as `none`.

use crate::error::{CloseReason, Error};

/// Describes the attribute or argument that differs between a declare and the existing entity.
///
/// RabbitMQ names only the first one that differs, and cuts its text to 255 bytes.
///
/// Source: <https://www.rabbitmq.com/docs/queues#property-equivalence>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Error;
/// fn explain(error: &Error) -> Option<String> {
///     let mismatch = error.mismatch()?;
///     Some(format!("{} is {:?} on the broker", mismatch.argument, mismatch.current))
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// Name: `durable`, `auto_delete`, `type`, `x-message-ttl` and so on.
    pub argument: String,
    /// Value of the declare; `None` if the declare did not set the argument.
    pub received: Option<String>,
    /// Value of the existing entity; `None` if it has no such argument, or if the broker's text was cut
    /// before it.
    pub current: Option<String>,
}

impl Mismatch {
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("inequivalent arg '")?;
        let (argument, rest) = rest.split_once("' for ")?;
        let (received, current) = match rest.split_once("': received ") {
            Some((_, values)) => match values.split_once(" but current is ") {
                Some((received, current)) => (value(received), value(current)),
                None => (value(values), None),
            },
            None => (None, None),
        };
        Some(Self { argument: argument.to_owned(), received, current })
    }
}

/// Parses `'x'`, `the value 'x' of type 'long'`, or `none`.
fn value(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('\'')?;
    let end = rest.rfind("' of type '").or_else(|| rest.rfind('\''))?;
    rest.get(..end).map(str::to_owned)
}

impl CloseReason {
    /// Returns the attribute that differs, if the broker refused a declare because the entity exists with
    /// different attributes (406).
    ///
    /// Returns `None` for any other code, and for a 406 with another text.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::CloseReason;
    /// fn differs(reason: &CloseReason) -> Option<String> {
    ///     reason.mismatch().map(|mismatch| mismatch.argument)
    /// }
    /// ```
    pub fn mismatch(&self) -> Option<Mismatch> {
        if self.code == 406 { Mismatch::parse(&self.text) } else { None }
    }
}

impl Error {
    /// Returns the attribute that differs, if the broker refused a declare because the entity exists with
    /// different attributes (406).
    ///
    /// Returns `None` for an error of another kind, and for a 406 with another text.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Error;
    /// fn exists_as_transient(error: &Error) -> bool {
    ///     let mismatch = error.mismatch();
    ///     mismatch.is_some_and(|it| it.argument == "durable" && it.current.as_deref() == Some("false"))
    /// }
    /// assert!(!exists_as_transient(&Error::credentials("none")));
    /// ```
    pub fn mismatch(&self) -> Option<Mismatch> {
        self.close_reason().and_then(CloseReason::mismatch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &str) -> Mismatch {
        let text = format!("PRECONDITION_FAILED - inequivalent arg 'x-a' for queue 'q' in vhost '/'{values}");
        Mismatch::parse(&text).expect("a mismatch")
    }

    fn mismatch(received: Option<&str>, current: Option<&str>) -> Mismatch {
        let [received, current] = [received, current].map(|v| v.map(str::to_owned));
        Mismatch { argument: "x-a".into(), received, current }
    }

    #[test]
    fn every_form_of_value_is_parsed() {
        assert_eq!(parse(": received 'a' but current is 'b'"), mismatch(Some("a"), Some("b")));
        assert_eq!(
            parse(": received none but current is the value '5' of type 'long'"),
            mismatch(None, Some("5"))
        );
        assert_eq!(
            parse(": received the value 'it's' of type 'longstr' but current is none"),
            mismatch(Some("it's"), None)
        );
    }

    #[test]
    fn truncated_text_yields_the_values_it_contains() {
        assert_eq!(parse(": received 'a' but cur"), mismatch(Some("a"), None));
        assert_eq!(parse(": received 'a' but current is the va"), mismatch(Some("a"), None));
        assert_eq!(parse(": rec"), mismatch(None, None));
        assert_eq!(Mismatch::parse("PRECONDITION_FAILED - unknown delivery tag 9"), None);
        assert_eq!(Mismatch::parse("inequivalent arg 'x"), None);
    }
}
