//! The arguments of declarations and consumers: what is refused, with which text, and what the others mean.
//!
//! A declaration checks the arguments that its kind of queue takes, and refuses those that only other kinds take. All
//! others may have any value.

mod checks;
mod equivalence;
mod keys;
mod options;

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use actix_pika_actors::{Table, Value};

use self::{
    checks::{QUEUE_CHECKS, Refusal, age, bad_offset, boolean, check_queue_argument, integer, not_negative},
    keys::Keys,
    options::{QueueTerms, count_of},
};
pub(crate) use self::{
    equivalence::{same_arguments, same_queue},
    options::{Fixed, Kind, QueueOptions},
};
use super::{Failure, Line, QueueSettings, queue::OffsetSpec};

const LARGEST_SEGMENT: i64 = 3_000_000_000;
/// The octets of the filter that a chunk of a stream may have.
const FILTER_SIZES: RangeInclusive<i64> = 16..=255;

/// What a declaration says beside its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueFlags {
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
}

/// The arguments of a declaration that may be carried out.
#[derive(Clone, Debug)]
pub(crate) struct CheckedQueue {
    pub(crate) fixed: Fixed,
    /// What a policy may add to.
    pub(crate) options: QueueOptions,
}

impl CheckedQueue {
    /// Returns what the queue does that has these arguments and a policy.
    pub(crate) fn terms(&self, line: Line, policy: &QueueOptions) -> QueueTerms {
        self.options.or(policy).terms(line, self.fixed)
    }
}

/// The arguments of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerArguments {
    pub(crate) priority: i64,
    pub(crate) offset: OffsetSpec,
    /// `x-consumer-timeout` in milliseconds.
    pub(crate) timeout: Option<u64>,
}

/// Returns whether a text is an age, such as `1h`.
pub(crate) fn is_age(text: &[u8]) -> bool {
    age(text).is_ok()
}

fn refused(key: &str, resource: &str, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Reason(reason) => {
            Failure::channel(406, format!("invalid arg '{key}' for {resource}: {reason}"))
        }
        Refusal::Internal => Failure::connection(541, ""),
    }
}

/// Refuses the first argument that only other kinds of queue take.
fn check_foreign(
    arguments: &Table,
    own: &[&str],
    all: impl Fn(&'static Keys) -> &'static [&'static str],
    line: Line,
    module: &str,
    resource: &str,
) -> Result<(), Failure> {
    let is_foreign =
        |key: &&str| !own.contains(key) && Keys::all(line).into_iter().any(|keys| all(keys).contains(key));
    match arguments.iter().filter_map(|(key, _)| key.as_str()).find(is_foreign) {
        None => Ok(()),
        Some(key) => {
            let text = format!("invalid arg '{key}' for {resource} of queue type {module}");
            Err(Failure::channel(406, text))
        }
    }
}

/// Checks the arguments of a declaration. What its kind of queue checks itself follows in [`check_kind`].
///
/// The type of `x-dead-letter-exchange` has been checked before: that is another text.
pub(crate) fn queue(arguments: &Table, line: Line, resource: &str) -> Result<CheckedQueue, Failure> {
    let check = |key: &str| match arguments.get(key) {
        None => Ok(()),
        Some(value) => check_queue_argument(key, value, arguments, line)
            .map_err(|refusal| refused(key, resource, refusal)),
    };
    check("x-queue-type")?;
    let integer = |key: &str| arguments.get(key).and_then(Value::as_i64);
    let kind = match arguments.get("x-queue-type").and_then(Value::as_str) {
        Some("quorum") => Kind::Quorum,
        Some("stream") => Kind::Stream,
        _ => Kind::Classic {
            max_priority: integer("x-max-priority")
                .and_then(|priority| u8::try_from(priority).ok())
                .map(|priority| priority.max(line.rules().least_max_priority)),
        },
    };
    let single_active = arguments.get("x-single-active-consumer").and_then(Value::as_bool) == Some(true);
    let fixed = Fixed { kind, single_active };
    let keys = Keys::of(&QueueOptions::default().terms(line, fixed).settings.kind, line);
    QUEUE_CHECKS.into_iter().filter(|key| keys.queue.contains(key)).try_for_each(check)?;
    check_foreign(arguments, keys.queue, |keys| keys.queue, line, keys.module, resource)?;
    // What no kind takes in this line has no meaning.
    let mut options = QueueOptions::read(|option| {
        let key = keys.queue.iter().find(|key| key.strip_prefix("x-") == Some(option))?;
        arguments.get(key)
    });
    if line.rules().timeout_by_queue && !line.rules().timeout_returns {
        // It has an effect without being checked.
        options.consumer_timeout = arguments.get("x-consumer-timeout").and_then(count_of);
    }
    Ok(CheckedQueue { fixed, options })
}

/// Checks what a kind of queue does not allow, of flags and of values that are right by themselves.
pub(crate) fn check_kind(
    kind: Kind,
    arguments: &Table,
    line: Line,
    flags: QueueFlags,
    resource: &str,
) -> Result<(), Failure> {
    check_flags(kind, flags, resource)?;
    if kind == Kind::Stream
        && arguments
            .get("x-stream-max-segment-size-bytes")
            .and_then(Value::as_i64)
            .is_some_and(|size| size > LARGEST_SEGMENT)
    {
        return Err(Failure::channel(406, "Exceeded max value for x-stream-max-segment-size-bytes"));
    }
    if kind == Kind::Stream
        && line >= Line::V3_13
        && let Some(size) = arguments.get("x-stream-filter-size-bytes")
        && !size.as_i64().is_some_and(|size| FILTER_SIZES.contains(&size))
    {
        let spaces = if line >= Line::V4_3 { " " } else { "  " };
        return Err(Failure::channel(406, format!("Invalid value for{spaces}x-stream-filter-size-bytes")));
    }
    if line.rules().master_locator_refused && arguments.contains_key("x-queue-master-locator") {
        return Err(Failure::connection(541, deprecated("queue_master_locator")));
    }
    Ok(())
}

/// What a node says of a feature that it does not permit any more. The end of it does not fit into a reply text.
fn deprecated(feature: &str) -> String {
    format!(
        "Feature `{feature}` is deprecated.\nBy default, this feature is not permitted anymore.\nThe feature will be \
         removed from a future major RabbitMQ version, regardless of the configuration; actual version to be \
         determined.\nTo continue using this feature when it is not permitted by default, it has to be configured."
    )
}

/// Quorum queues and streams are durable, not exclusive and not deleted automatically.
fn check_flags(kind: Kind, flags: QueueFlags, resource: &str) -> Result<(), Failure> {
    let wrong = match kind {
        Kind::Classic { .. } => return Ok(()),
        _ if flags.auto_delete => "auto-delete",
        _ if flags.exclusive => "exclusive-owner",
        _ if !flags.durable => "non-durable",
        _ => return Ok(()),
    };
    Err(Failure::channel(406, format!("invalid property '{wrong}' for {resource}")))
}

/// Checks the arguments of a consumer.
pub(crate) fn consumer(
    arguments: &Table,
    settings: &QueueSettings,
    resource: &str,
) -> Result<ConsumerArguments, Failure> {
    let keys = Keys::of(&settings.kind, settings.line);
    let value = |key: &str| arguments.get(key).filter(|_| keys.consumer.contains(&key));
    let mut found = ConsumerArguments { priority: 0, offset: OffsetSpec::Next, timeout: None };
    if let Some(priority) = value("x-priority") {
        found.priority = integer(priority).map_err(|refusal| refused("x-priority", resource, refusal))?;
    }
    if let Some(timeout) = value("x-consumer-timeout") {
        let millis =
            not_negative(timeout).map_err(|refusal| refused("x-consumer-timeout", resource, refusal))?;
        found.timeout = u64::try_from(millis).ok();
    }
    if let Some(cancel) = value("x-cancel-on-ha-failover") {
        boolean(cancel).map_err(|refusal| refused("x-cancel-on-ha-failover", resource, refusal))?;
    }
    if let Some(value) = value("x-stream-offset") {
        found.offset =
            offset(value, settings.line).map_err(|refusal| refused("x-stream-offset", resource, refusal))?;
    }
    let is_text = |value: &Value| matches!(value, Value::LongString(_));
    if let Some(Value::Array(filters)) = value("x-stream-filter")
        && !filters.iter().any(is_text)
    {
        return Err(Failure::connection(541, ""));
    }
    check_foreign(arguments, keys.consumer, |keys| keys.consumer, settings.line, keys.module, resource)?;
    Ok(found)
}

/// Returns whether there is an `x-credit` that is no table, or one with a credit.
pub(crate) fn has_credit(arguments: &Table) -> bool {
    arguments.get("x-credit").is_some_and(|value| match value {
        Value::Table(table) => {
            matches!(table.get("credit"), Some(Value::LongLongInt(_)))
                && matches!(table.get("drain"), Some(Value::Boolean(_)))
        }
        _ => true,
    })
}

fn offset(value: &Value, line: Line) -> Result<OffsetSpec, Refusal> {
    if let Some(offset) = value.as_i64() {
        return Ok(OffsetSpec::Number(offset.try_into().unwrap_or(0)));
    }
    let senseless = || match line.rules().bad_offset_closes_connection {
        false if matches!(value, Value::LongString(_)) => bad_offset(value),
        _ => Refusal::Internal,
    };
    match value {
        Value::Timestamp(seconds) => Ok(OffsetSpec::Timestamp(*seconds)),
        Value::LongString(_) | Value::ByteArray(_) => match value.as_bytes().unwrap_or_default() {
            b"first" => Ok(OffsetSpec::First),
            b"last" => Ok(OffsetSpec::Last),
            b"next" => Ok(OffsetSpec::Next),
            _ if matches!(value, Value::ByteArray(_)) => Err(senseless()),
            text => match age(text) {
                Ok(millis) => Ok(OffsetSpec::Age(millis)),
                Err(Refusal::Internal) => Err(senseless()),
                Err(Refusal::Reason(_)) => Err(bad_offset(value)),
            },
        },
        _ => Err(senseless()),
    }
}
