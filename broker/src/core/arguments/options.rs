//! What arguments or a policy say of a queue, and what a queue does that has both.

use actix_pika_actors::Value;

use super::checks::age;
use crate::core::{
    DelayedRetry, Line, Name, Overflow, QueueKind, QueueSettings, octets::text_of, topology::DeadLetterTo,
};

/// The size of a segment of a stream where nothing is said.
const SEGMENT_BYTES: u64 = 500_000_000;

/// The options that an argument as well as a policy may set. Times are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueOptions {
    pub(crate) message_ttl: Option<u64>,
    pub(crate) expires: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) overflow: Option<Overflow>,
    pub(crate) dead_letter_exchange: Option<Name>,
    pub(crate) dead_letter_key: Option<Name>,
    /// A negative one is none.
    pub(crate) delivery_limit: Option<i64>,
    pub(crate) max_age: Option<u64>,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) consumer_timeout: Option<u64>,
    pub(crate) at_least_once: Option<bool>,
    pub(crate) retry: Option<RetryType>,
    pub(crate) retry_min: Option<u64>,
    pub(crate) retry_max: Option<u64>,
}

/// Which messages come back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryType {
    All,
    Failed,
    Returned,
    Disabled,
}

/// What a queue does with its messages, and how long it stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueTerms {
    pub(crate) settings: QueueSettings,
    pub(crate) expires: Option<u64>,
    pub(crate) dead_letter: Option<DeadLetterTo>,
}

/// What no policy changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fixed {
    pub(crate) kind: Kind,
    pub(crate) single_active: bool,
}

/// The kind of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Classic { max_priority: Option<u8> },
    Quorum,
    Stream,
}

/// Reads a number that is not negative.
pub(super) fn count_of(value: &Value) -> Option<u64> {
    u64::try_from(value.as_i64()?).ok()
}

impl QueueOptions {
    /// Reads options; `get` finds them by their names in a policy. Values of other types are none.
    pub(crate) fn read<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Self {
        let integer = |key: &str| get(key).and_then(Value::as_i64);
        let count = |key: &str| get(key).and_then(count_of);
        let text = |key: &str| match get(key) {
            Some(Value::LongString(text)) => Some(Name::from(&*text_of(text.as_bytes()))),
            _ => None,
        };
        Self {
            message_ttl: count("message-ttl"),
            expires: count("expires"),
            max_length: count("max-length"),
            max_bytes: count("max-length-bytes"),
            overflow: text("overflow").and_then(|text| match &*text {
                "drop-head" => Some(Overflow::DropHead),
                "reject-publish" => Some(Overflow::RejectPublish),
                "reject-publish-dlx" => Some(Overflow::RejectPublishDeadLetter),
                _ => None,
            }),
            dead_letter_exchange: text("dead-letter-exchange"),
            dead_letter_key: text("dead-letter-routing-key"),
            delivery_limit: integer("delivery-limit"),
            max_age: text("max-age").and_then(|text| age(text.as_bytes()).ok()),
            segment_bytes: count("stream-max-segment-size-bytes"),
            consumer_timeout: count("consumer-timeout"),
            at_least_once: text("dead-letter-strategy").map(|strategy| &*strategy == "at-least-once"),
            retry: text("delayed-retry-type").map(|kind| match &*kind {
                "all" => RetryType::All,
                "failed" => RetryType::Failed,
                "returned" => RetryType::Returned,
                _ => RetryType::Disabled,
            }),
            retry_min: count("delayed-retry-min"),
            retry_max: count("delayed-retry-max"),
        }
    }

    /// Returns these options, and what they do not say from others. Of two limits the smaller one holds.
    pub(crate) fn or(&self, others: &Self) -> Self {
        Self {
            message_ttl: smaller(self.message_ttl, others.message_ttl),
            expires: smaller(self.expires, others.expires),
            max_length: smaller(self.max_length, others.max_length),
            max_bytes: smaller(self.max_bytes, others.max_bytes),
            overflow: self.overflow.or(others.overflow),
            dead_letter_exchange: self
                .dead_letter_exchange
                .clone()
                .or_else(|| others.dead_letter_exchange.clone()),
            dead_letter_key: self.dead_letter_key.clone().or_else(|| others.dead_letter_key.clone()),
            delivery_limit: match (self.delivery_limit, others.delivery_limit) {
                (Some(one), Some(other)) if one < 0 || other < 0 => Some(one.max(other)),
                (one, other) => smaller(one, other),
            },
            max_age: smaller(self.max_age, others.max_age),
            segment_bytes: self.segment_bytes.or(others.segment_bytes),
            consumer_timeout: smaller(self.consumer_timeout, others.consumer_timeout),
            at_least_once: self.at_least_once.or(others.at_least_once),
            retry: self.retry.or(others.retry),
            retry_min: smaller(self.retry_min, others.retry_min),
            retry_max: smaller(self.retry_max, others.retry_max),
        }
    }

    /// Returns what a queue does that has these options.
    pub(crate) fn terms(&self, line: Line, fixed: Fixed) -> QueueTerms {
        let kind = match fixed.kind {
            Kind::Classic { max_priority } => QueueKind::Classic { max_priority },
            Kind::Quorum => QueueKind::Quorum {
                delivery_limit: match self.delivery_limit {
                    Some(..0) if line.rules().negative_limit_is_zero => Some(0),
                    Some(limit) => u32::try_from(limit).ok(),
                    None => line.rules().default_delivery_limit,
                },
            },
            Kind::Stream => QueueKind::Stream {
                max_age: self.max_age,
                segment_bytes: self.segment_bytes.unwrap_or(SEGMENT_BYTES),
            },
        };
        let settings = QueueSettings {
            line,
            kind,
            message_ttl: self.message_ttl,
            max_length: self.max_length,
            max_bytes: self.max_bytes,
            overflow: self.overflow.unwrap_or_default(),
            single_active: fixed.single_active,
            consumer_timeout: self.consumer_timeout,
            delayed_retry: self.delayed_retry(line, fixed.kind),
            at_least_once: self.at_least_once == Some(true)
                && fixed.kind == Kind::Quorum
                && self.dead_letter_exchange.is_some()
                && self.overflow == Some(Overflow::RejectPublish),
        };
        let key = self.dead_letter_key.clone();
        let dead_letter = self.dead_letter_exchange.clone().map(|exchange| DeadLetterTo { exchange, key });
        QueueTerms { settings, expires: self.expires, dead_letter }
    }

    fn delayed_retry(&self, line: Line, kind: Kind) -> Option<DelayedRetry> {
        let min = self.retry_min.filter(|min| *min > 0 && kind == Kind::Quorum && line >= Line::V4_3)?;
        let (failed, returned) = match self.retry? {
            RetryType::All => (true, true),
            RetryType::Failed => (true, false),
            RetryType::Returned => (false, true),
            RetryType::Disabled => return None,
        };
        Some(DelayedRetry { failed, returned, min, max: self.retry_max.unwrap_or(min) })
    }
}

fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
