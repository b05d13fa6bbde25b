//! Whether a declaration says the same as the one before.

use actix_pika_actors::{Table, Value};

use super::{checks::age, keys::Keys};
use crate::core::{
    Failure, QueueSettings,
    term::{Numbers, print, same_term, type_name},
};

const MAX_AGE: &str = "x-max-age";

/// Compares the arguments of a queue that its kind takes.
pub(crate) fn same_queue(
    current: &Table,
    received: &Table,
    settings: &QueueSettings,
    resource: &str,
) -> Result<(), Failure> {
    let keys = Keys::of(&settings.kind, settings.line).queue;
    let ages = [current, received].map(|table| table.contains_key(MAX_AGE));
    if settings.line.rules().max_age_in_millis && keys.contains(&MAX_AGE) && ages != [false; 2] {
        return same_arguments(&in_millis(current), &in_millis(received), keys, resource);
    }
    same_arguments(current, received, keys, resource)
}

/// Returns the arguments with the age in milliseconds, if it can be read.
fn in_millis(arguments: &Table) -> Table {
    let mut arguments = arguments.clone();
    let millis = arguments.get(MAX_AGE).and_then(Value::as_str).and_then(|text| age(text.as_bytes()).ok());
    if let Some(millis) = millis {
        arguments.insert(MAX_AGE, millis.to_string());
    }
    arguments
}

/// Compares the arguments `keys`, and names the first one that differs.
pub(crate) fn same_arguments(
    current: &Table,
    received: &Table,
    keys: &[&str],
    resource: &str,
) -> Result<(), Failure> {
    for &key in keys {
        let (current, received) = (current.get(key), received.get(key));
        let (current, received) = match (current, received) {
            (None, None) => continue,
            (Some(current), Some(received)) if same_term(current, received, Numbers::Strict) => continue,
            (Some(value), None) | (None, Some(value))
                if key == "x-queue-type" && value.as_str() == Some("classic") =>
            {
                continue;
            }
            (Some(Value::Decimal { .. }), Some(_)) | (Some(_), Some(Value::Decimal { .. })) => {
                return Err(Failure::connection(541, ""));
            }
            (Some(current), Some(received)) => (alone(current), alone(received)),
            (current, received) => (with_type(current), with_type(received)),
        };
        let text =
            format!("inequivalent arg '{key}' for {resource}: received {received} but current is {current}");
        return Err(Failure::channel(406, text));
    }
    Ok(())
}

/// A value as it stands in the text if both sides have one.
fn alone(value: &Value) -> String {
    if matches!(value, Value::Void) { "none".to_owned() } else { format!("'{}'", print(value)) }
}

/// A value as it stands in the text if the other side has none.
fn with_type(value: Option<&Value>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| format!("the value '{}' of type '{}'", print(value), type_name(value)),
    )
}
