//! [`StreamFilter`]: which chunks of a stream a consumer wants.

use actix_pika_actors::{Table, Value};

use crate::core::Message;

/// The header with the value that a filter looks at.
const VALUE: &str = "x-stream-filter-value";

/// Which chunks of a stream a consumer wants. A chunk comes as a whole, if one of its messages is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamFilter {
    values: Vec<Vec<u8>>,
    /// Messages without a value are wanted, too.
    unfiltered: bool,
}

impl StreamFilter {
    /// Reads the arguments of a consumer.
    pub(crate) fn of(arguments: &Table) -> Option<Self> {
        let text = |value: &Value| match value {
            Value::LongString(text) => Some(text.as_bytes().to_vec()),
            _ => None,
        };
        let values: Vec<Vec<u8>> = match arguments.get("x-stream-filter")? {
            Value::Array(values) => values.iter().filter_map(text).collect(),
            value => text(value).into_iter().collect(),
        };
        let unfiltered = arguments.get("x-stream-match-unfiltered").and_then(Value::as_bool) == Some(true);
        (!values.is_empty()).then_some(Self { values, unfiltered })
    }

    pub(super) fn wants(&self, message: &Message) -> bool {
        match message.headers().and_then(|headers| headers.get(VALUE)) {
            Some(Value::LongString(value)) => self.values.iter().any(|wanted| wanted == value.as_bytes()),
            _ => self.unfiltered,
        }
    }
}
