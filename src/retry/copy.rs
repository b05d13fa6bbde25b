//! The copies of a message that a ladder publishes: which properties and headers they have. Plain decisions.

use std::time::SystemTime;

use crate::{
    Publishing,
    message::{Content, DeliveryMode, Properties, Table},
};

/// Counts the tries that have failed. Not `x-`: such headers belong to the broker.
pub(super) const ATTEMPT: &str = "retry-attempt";
/// Why the last try has failed.
pub(super) const CAUSE: &str = "retry-cause";
/// The job queue of a dead letter.
pub(super) const QUEUE: &str = "retry-queue";
/// When a message became a dead letter.
pub(super) const TIME: &str = "retry-time";
/// How often a dead letter was moved back.
pub(super) const REDRIVEN: &str = "retry-redriven";

/// Bytes of a cause.
const LONGEST_CAUSE: usize = 1024;

/// Headers that are not copied: they route the copy elsewhere, or tell of deliveries of the original. A copy with the
/// deaths of the original would be taken for one that goes in a circle, and dropped.
const NOT_COPIED: [&str; 12] = [
    "CC",
    "BCC",
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-delivery-count",
    "x-acquired-count",
    "x-stream-offset",
];

/// How much a copy tells of its failure. Some messages have no room for more headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Full,
    /// Only what the ladder needs.
    Least,
}

/// Returns the properties of the copy for a step, after `attempt` tries.
pub(super) fn retried(content: &Content, attempt: u32, cause: &str, detail: Detail) -> Properties {
    let mut properties = carried(content);
    let headers = properties.headers_mut();
    headers.insert(ATTEMPT, i64::from(attempt));
    if detail == Detail::Full {
        headers.insert(CAUSE, cut_cause(cause));
    }
    properties
}

/// Returns the properties of the copy for the queue of dead letters, after `attempt` tries.
pub(super) fn dead(
    content: &Content,
    attempt: u32,
    cause: &str,
    now: SystemTime,
    detail: Detail,
) -> Properties {
    let mut properties = carried(content);
    let headers = properties.headers_mut();
    headers.insert(ATTEMPT, i64::from(attempt));
    if detail == Detail::Full {
        headers.insert(CAUSE, cut_cause(cause));
        headers.insert(QUEUE, content.queue());
        headers.insert(TIME, now);
    }
    properties
}

/// Returns the properties of a dead letter that is moved back: its tries are counted from the beginning.
pub(crate) fn redriven(content: &Content) -> Properties {
    let mut properties = carried(content);
    let headers = properties.headers_mut();
    for header in [ATTEMPT, CAUSE, QUEUE, TIME] {
        headers.remove(header);
    }
    let times = times_of(headers);
    headers.insert(REDRIVEN, times.saturating_add(1));
    properties
}

/// Returns how many tries of a message have failed before it was published to its queue.
pub(crate) fn attempts(content: &Content) -> u32 {
    let headers = content.properties().ok().and_then(Properties::headers);
    let attempts = headers.and_then(|headers| headers.get(ATTEMPT)?.as_i64()).unwrap_or(0);
    u32::try_from(attempts.max(0)).unwrap_or(u32::MAX)
}

/// Returns how often a message was a dead letter that was moved back.
pub(crate) fn redriven_times(content: &Content) -> i64 {
    content.properties().ok().and_then(Properties::headers).map_or(0, times_of)
}

fn times_of(headers: &Table) -> i64 {
    headers.get(REDRIVEN).and_then(|times| times.as_i64()).unwrap_or(0).max(0)
}

/// Returns the message with the body of the original. The broker returns it if it has nowhere to keep it.
pub(crate) fn message(content: &Content, properties: Properties) -> Publishing {
    Publishing::new(content.body_bytes()).properties(properties).mandatory(true)
}

/// Returns what a copy keeps: all but the expiration, which would end the delay, the user id, which is that of
/// another publisher, and what cannot be decoded.
fn carried(content: &Content) -> Properties {
    let mut copy = Properties::new().with_delivery_mode(DeliveryMode::Persistent);
    let Ok(from) = content.properties() else { return copy };
    macro_rules! texts {
        ($($get:ident, $with:ident;)*) => { $(
            if let Some(value) = from.$get() {
                copy = copy.$with(value);
            }
        )* };
    }
    texts! {
        content_type_bytes, with_content_type_bytes;
        content_encoding_bytes, with_content_encoding_bytes;
        correlation_id_bytes, with_correlation_id_bytes;
        reply_to_bytes, with_reply_to_bytes;
        message_id_bytes, with_message_id_bytes;
        message_type_bytes, with_message_type_bytes;
        app_id_bytes, with_app_id_bytes;
        timestamp_seconds, with_timestamp_seconds;
        priority, with_priority;
    }
    match from.headers() {
        Some(headers) => copy.with_headers(carried_headers(headers)),
        None => copy,
    }
}

fn carried_headers(headers: &Table) -> Table {
    let mut copy = headers.clone();
    for header in NOT_COPIED {
        copy.remove(header);
    }
    copy
}

/// Cuts a cause at a character.
pub(crate) fn cut_cause(cause: &str) -> &str {
    let mut end = cause.len().min(LONGEST_CAUSE);
    while !cause.is_char_boundary(end) {
        end -= 1;
    }
    cause.get(..end).unwrap_or_default()
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{message::Value, testing::TestContent};
    use std::time::Duration;

    fn job() -> Content {
        let headers = Table::new()
            .with("traceparent", "00-1")
            .with("x-tenant", "a")
            .with("CC", vec![Value::from("other")])
            .with("BCC", vec![Value::from("other")])
            .with("x-death", vec![Value::from(Table::new().with("queue", "mail"))])
            .with("x-first-death-queue", "mail")
            .with("x-delivery-count", 3);
        let properties = Properties::new()
            .with_content_type("application/json")
            .with_message_id("order-7")
            .with_correlation_id_bytes(vec![0xff])
            .with_timestamp_seconds(1_000)
            .with_expiration(Duration::from_secs(1))
            .with_user_id("somebody")
            .with_priority(4)
            .with_delivery_mode(DeliveryMode::Transient)
            .with_headers(headers);
        let message = Publishing::new("{}").properties(properties);
        TestContent::new(message).published_to("shop", "order.placed").queue("mail").build()
    }

    fn keys(properties: &Properties) -> Vec<String> {
        let mut keys: Vec<_> = properties.headers().unwrap().iter().map(|(key, _)| key.to_string()).collect();
        keys.sort();
        keys
    }

    #[test]
    fn a_copy_keeps_the_message_and_counts_the_tries() {
        let copy = retried(&job(), 2, "busy", Detail::Full);
        assert_eq!((copy.message_id(), copy.timestamp_seconds()), (Some("order-7"), Some(1_000)));
        assert_eq!((copy.content_type(), copy.priority()), (Some("application/json"), Some(4)));
        assert_eq!(copy.correlation_id_bytes(), Some(&[0xff][..]));
        assert_eq!((copy.expiration(), copy.user_id()), (None, None));
        assert_eq!(copy.delivery_mode(), Some(DeliveryMode::Persistent));
        assert_eq!(keys(&copy), ["retry-attempt", "retry-cause", "traceparent", "x-tenant"]);
        assert_eq!(copy.header("retry-attempt").and_then(|value| value.as_i64()), Some(2));
        assert_eq!(
            keys(&retried(&job(), 2, "busy", Detail::Least)),
            ["retry-attempt", "traceparent", "x-tenant"]
        );
    }

    #[test]
    fn a_dead_letter_tells_why_where_and_when() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(5_000);
        let copy = dead(&job(), 4, "no such customer", now, Detail::Full);
        let text = |header| copy.header(header).and_then(|value| value.as_str());
        assert_eq!((text(CAUSE), text(QUEUE)), (Some("no such customer"), Some("mail")));
        assert_eq!(copy.header(ATTEMPT).and_then(|value| value.as_i64()), Some(4));
        assert_eq!(copy.header(TIME).and_then(|value| value.as_time()), Some(now));
    }

    #[test]
    fn a_redriven_message_begins_again() {
        let dead = dead(&job(), 4, "no", SystemTime::UNIX_EPOCH, Detail::Full);
        let content = TestContent::new(Publishing::new("{}").properties(dead)).queue("mail.dead").build();
        let copy = redriven(&content);
        assert_eq!(keys(&copy), ["retry-redriven", "traceparent", "x-tenant"]);
        let again = TestContent::new(Publishing::new("{}").properties(copy)).build();
        assert_eq!(redriven(&again).header(REDRIVEN).and_then(|value| value.as_i64()), Some(2));
    }

    #[test]
    fn headers_of_others_are_no_obstacle() {
        let headers = Table::new().with(REDRIVEN, "many").with(ATTEMPT, Vec::<u8>::new());
        let content = TestContent::new(Publishing::new("").headers(headers)).build();
        assert_eq!(redriven(&content).header(REDRIVEN).and_then(|value| value.as_i64()), Some(1));
        let copy = retried(&content, 1, "", Detail::Full);
        assert_eq!(copy.header(ATTEMPT).and_then(|value| value.as_i64()), Some(1));
    }

    #[test]
    fn long_causes_are_cut_at_a_character() {
        assert_eq!(cut_cause("short"), "short");
        assert_eq!(cut_cause(&"x".repeat(2_000)).len(), 1_024);
        assert_eq!(cut_cause(&"\u{20ac}".repeat(1_000)).len(), 1_023);
    }
}
