//! The check of each argument. A reason is printed as the Erlang term that RabbitMQ prints.

use actix_pika_actors::{Table, Value};

use crate::core::{
    Line,
    term::{print, print_typed, type_name},
    time::LONGEST_MILLIS,
};

/// Why a value is refused.
pub(super) enum Refusal {
    /// The reason, behind the colon of the text.
    Reason(String),
    /// The server fails: 541 without a text.
    Internal,
}

type Checked<T = ()> = Result<T, Refusal>;

fn refuse<T>(reason: impl Into<String>) -> Checked<T> {
    Err(Refusal::Reason(reason.into()))
}

/// Checks one argument of a declaration; `arguments` are all of them.
pub(super) fn check_queue_argument(key: &str, value: &Value, arguments: &Table, line: Line) -> Checked {
    match key {
        "x-queue-type" if line.rules().empty_type_is_none && value.as_str() == Some("") => Ok(()),
        "x-queue-type" => one_of(value, &["classic", "quorum", "stream"], |text| {
            format!("\"unsupported queue type '{text}'\"")
        }),
        "x-expires" => match integer(value)? {
            0 => refuse("{value_zero,0}"),
            millis => time(millis),
        },
        "x-message-ttl" => time(integer(value)?),
        "x-dead-letter-exchange" => text(value).map(drop),
        "x-dead-letter-routing-key" => {
            text(value)?;
            match arguments.get("x-dead-letter-exchange") {
                None => refuse("routing_key_but_no_dlx_defined"),
                Some(_) => Ok(()),
            }
        }
        "x-dead-letter-strategy" => {
            one_of(value, &["at-most-once", "at-least-once"], |_| "invalid_dlx_strategy".to_owned())
        }
        "x-max-length"
        | "x-max-length-bytes"
        | "x-max-in-memory-length"
        | "x-max-in-memory-bytes"
        | "x-stream-max-segment-size-bytes"
        | "x-stream-filter-size-bytes"
        | "x-consumer-timeout" => not_negative(value).map(drop),
        "x-max-priority" => match not_negative(value)? {
            priority @ 256.. => refuse(format!("{{max_value_exceeded,{priority}}}")),
            _ => Ok(()),
        },
        "x-overflow" => one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"], |_| {
            "invalid_overflow".to_owned()
        }),
        "x-queue-mode" if line.rules().queue_mode_ignored => Ok(()),
        "x-queue-mode" => {
            one_of(value, &["default", "lazy"], |text| format!("\"unsupported queue mode '{text}'\""))
        }
        "x-queue-version" => match not_negative(value)? {
            2 => Ok(()),
            1 if !line.rules().classic_v1_refused => Ok(()),
            version => refuse(format!("\"unsupported queue version '{version}'\"")),
        },
        "x-single-active-consumer" => boolean(value),
        "x-quorum-initial-group-size" | "x-initial-cluster-size" => match not_negative(value)? {
            0 => refuse("{value_zero,0}"),
            _ => Ok(()),
        },
        "x-max-age" => match age(text(value)?) {
            Err(Refusal::Internal) if line.rules().max_age_in_millis => refuse("invalid_max_age"),
            checked => checked.map(drop),
        },
        "x-queue-leader-locator" => {
            let known = ["client-local", "balanced", "random", "least-leaders"];
            one_of(value, &known, |_| "invalid_queue_locator_arg".to_owned())
        }
        // It is looked at when the queue is placed, and a senseless one breaks that.
        "x-queue-master-locator" if line < Line::V4_0 => {
            let known = ["min-masters", "client-local", "random"];
            match value.as_str().filter(|_| matches!(value, Value::LongString(_))) {
                Some(text) if known.contains(&text) => Ok(()),
                _ => Err(Refusal::Internal),
            }
        }
        _ => Ok(()),
    }
}

/// The arguments of a declaration that are checked, in the order of the checks.
pub(super) const QUEUE_CHECKS: [&str; 22] = [
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-quorum-initial-group-size",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
    "x-consumer-timeout",
    "x-queue-master-locator",
];

/// Returns an integer of any type but a timestamp.
pub(super) fn integer(value: &Value) -> Checked<i64> {
    match value.as_i64() {
        Some(integer) => Ok(integer),
        None => refuse(format!("\"expected integer, got {}\"", type_name(value))),
    }
}

pub(super) fn not_negative(value: &Value) -> Checked<i64> {
    match integer(value)? {
        negative @ ..0 => refuse(format!("{{value_negative,{negative}}}")),
        integer => Ok(integer),
    }
}

fn time(millis: i64) -> Checked {
    match u64::try_from(millis) {
        Err(_) => refuse(format!("{{value_negative,{millis}}}")),
        Ok(..=LONGEST_MILLIS) => Ok(()),
        Ok(_) => refuse(format!("{{value_too_large,{millis}}}")),
    }
}

fn wrong_type<T>(value: &Value) -> Checked<T> {
    refuse(format!("{{unacceptable_type,{}}}", type_name(value)))
}

pub(super) fn boolean(value: &Value) -> Checked {
    if matches!(value, Value::Boolean(_)) { Ok(()) } else { wrong_type(value) }
}

fn text(value: &Value) -> Checked<&[u8]> {
    if let Value::LongString(text) = value { Ok(text.as_bytes()) } else { wrong_type(value) }
}

fn one_of(value: &Value, known: &[&str], refusal: impl Fn(&str) -> String) -> Checked {
    let text = text(value)?;
    if known.iter().any(|known| known.as_bytes() == text) {
        return Ok(());
    }
    refuse(refusal(&print(value)))
}

/// Reads an age, such as `1h`, in milliseconds.
pub(super) fn age(text: &[u8]) -> Checked<u64> {
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        // It makes a number of the empty text.
        return Err(Refusal::Internal);
    }
    let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
    let seconds: u64 = match unit {
        b"Y" => 365 * 86400,
        b"M" => 30 * 86400,
        b"D" => 86400,
        b"h" => 3600,
        b"m" => 60,
        b"s" => 1,
        _ => return refuse("invalid_max_age"),
    };
    if number == 0 {
        return refuse("invalid_max_age");
    }
    Ok(number.saturating_mul(seconds).saturating_mul(1000))
}

/// The reason why a stream offset is refused.
pub(super) fn bad_offset(value: &Value) -> Refusal {
    Refusal::Reason(format!("{{invalid_stream_offset_arg,{}}}", print_typed(value)))
}
