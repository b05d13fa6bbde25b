//! The settings of policies: which line knows them, which values they take, which kinds of queues they are for.

use actix_pika_actors::{Table, Value};

use super::By;
use crate::core::{
    Line,
    arguments::{Kind, is_age},
    term::print_bare,
};

/// A setting.
#[derive(Debug)]
pub(super) struct Setting {
    name: &'static str,
    since: Line,
    /// The first line without it.
    until: Option<Line>,
    /// The first line in which operator policies have it.
    operator: Option<Line>,
    kinds: Kinds,
    values: Values,
    /// What a wrong value is not.
    what: &'static str,
}

/// Which kinds of queues a setting is for.
#[derive(Clone, Copy, Debug)]
enum Kinds {
    All,
    ClassicAndQuorum,
    Classic,
    Quorum,
    Stream,
    QuorumAndClassicUpTo3,
    AllButClassicUpTo3,
}

/// The values of a setting.
#[derive(Clone, Copy, Debug)]
enum Values {
    NotNegative,
    Positive,
    UpTo(u64),
    /// A negative one is none from 4.0 on.
    Limit,
    Between(i64, i64),
    Text,
    OneOf(&'static [&'static str]),
    Age,
    Any,
}

impl Setting {
    pub(super) fn is_for(&self, kind: Kind, line: Line) -> bool {
        let is_classic = matches!(kind, Kind::Classic { .. });
        match self.kinds {
            Kinds::All => true,
            Kinds::ClassicAndQuorum => kind != Kind::Stream,
            Kinds::Classic => is_classic,
            Kinds::Quorum => kind == Kind::Quorum,
            Kinds::Stream => kind == Kind::Stream,
            Kinds::QuorumAndClassicUpTo3 => kind == Kind::Quorum || is_classic && line < Line::V4_0,
            Kinds::AllButClassicUpTo3 => !is_classic || line >= Line::V4_0,
        }
    }

    fn is_known(&self, line: Line, by: By) -> bool {
        self.since <= line
            && self.until.is_none_or(|until| line < until)
            && (by == By::User || self.operator.is_some_and(|since| since <= line))
    }

    fn takes(&self, value: &Value, line: Line) -> bool {
        let text = if let Value::LongString(text) = value { Some(text.as_bytes()) } else { None };
        let integer = value.as_i64();
        match self.values {
            Values::NotNegative => integer.is_some_and(|integer| integer >= 0),
            Values::Positive => integer.is_some_and(|integer| integer > 0),
            Values::UpTo(max) => {
                integer.is_some_and(|integer| u64::try_from(integer).is_ok_and(|it| it <= max))
            }
            Values::Limit => integer.is_some_and(|integer| integer >= 0 || line >= Line::V4_0),
            Values::Between(min, max) => integer.is_some_and(|integer| (min..=max).contains(&integer)),
            Values::Text => text.is_some(),
            Values::OneOf(known) => text.is_some_and(|text| known.iter().any(|it| it.as_bytes() == text)),
            Values::Age => text.is_some_and(is_age),
            Values::Any => true,
        }
    }
}

/// Checks a definition. The error is RabbitMQ's reason.
pub(super) fn check(definition: &Table, line: Line, by: By) -> Result<Vec<&'static Setting>, String> {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for (name, value) in definition.iter() {
        match SETTINGS.iter().find(|setting| setting.name == name.to_string_lossy()) {
            Some(setting) if setting.is_known(line, by) => found.push((setting, value)),
            _ => unknown.push(format!("{{<<\"{}\">>,{}}}", name.to_string_lossy(), print_bare(value))),
        }
    }
    if !unknown.is_empty() {
        return Err(format!("[{}] are not recognised policy settings", unknown.join(",")));
    }
    for (setting, value) in &found {
        if !setting.takes(value, line) {
            return Err(format!("{} is not a valid {}", print_bare(value), setting.what));
        }
    }
    let has = |name| definition.contains_key(name);
    if has("delayed-retry-type") && !has("delayed-retry-min") {
        let kind = definition.get("delayed-retry-type").and_then(Value::as_str).unwrap_or_default();
        if kind != "disabled" {
            return Err(format!("delayed-retry-min is required when delayed-retry-type is {kind}"));
        }
    }
    if ["ha-params", "ha-sync-mode", "ha-promote-on-shutdown"].into_iter().any(has) && !has("ha-mode") {
        return Err(
            "ha-mode must be specified to specify ha-params, ha-sync-mode or ha-promote-on-shutdown".into()
        );
    }
    Ok(found.into_iter().map(|(setting, _)| setting).collect())
}

const fn setting(name: &'static str, kinds: Kinds, values: Values, what: &'static str) -> Setting {
    Setting { name, since: Line::V3_10, until: None, operator: None, kinds, values, what }
}

impl Setting {
    const fn since(mut self, line: Line) -> Self {
        self.since = line;
        self
    }

    const fn until(mut self, line: Line) -> Self {
        self.until = Some(line);
        self
    }

    const fn operator(mut self, since: Line) -> Self {
        self.operator = Some(since);
        self
    }
}

const OVERFLOWS: &[&str] = &["drop-head", "reject-publish", "reject-publish-dlx"];
const STRATEGIES: &[&str] = &["at-most-once", "at-least-once"];
const RETRIES: &[&str] = &["all", "failed", "returned", "disabled"];
const LOCATORS: &[&str] = &["client-local", "balanced", "random", "least-leaders"];
const LARGEST_SEGMENT: u64 = 3_000_000_000;

/// All settings that a queue or exchange may have here; those without effect too, which a production policy has.
static SETTINGS: &[Setting] = &[
    setting("message-ttl", Kinds::ClassicAndQuorum, Values::NotNegative, "message TTL").operator(Line::V3_10),
    setting("expires", Kinds::ClassicAndQuorum, Values::Positive, "queue expiry").operator(Line::V3_10),
    setting("max-length", Kinds::ClassicAndQuorum, Values::NotNegative, "maximum length")
        .operator(Line::V3_10),
    setting("max-length-bytes", Kinds::All, Values::NotNegative, "maximum length in bytes")
        .operator(Line::V3_10),
    setting("overflow", Kinds::ClassicAndQuorum, Values::OneOf(OVERFLOWS), "overflow value")
        .operator(Line::V3_13),
    setting("dead-letter-exchange", Kinds::ClassicAndQuorum, Values::Text, "dead letter exchange name"),
    setting("dead-letter-routing-key", Kinds::ClassicAndQuorum, Values::Text, "dead letter routing key"),
    setting("dead-letter-strategy", Kinds::Quorum, Values::OneOf(STRATEGIES), "dead letter strategy"),
    setting("delivery-limit", Kinds::Quorum, Values::Limit, "delivery limit").operator(Line::V3_10),
    setting("max-age", Kinds::Stream, Values::Age, "max age"),
    setting("alternate-exchange", Kinds::All, Values::Text, "alternate exchange name"),
    setting("consumer-timeout", Kinds::All, Values::NotNegative, "consumer timeout").since(Line::V3_13),
    setting(
        "delayed-retry-type",
        Kinds::All,
        Values::OneOf(RETRIES),
        "delayed retry type. Must be one of: all, failed, returned, disabled",
    )
    .since(Line::V4_3)
    .operator(Line::V4_3),
    setting(
        "delayed-retry-min",
        Kinds::All,
        Values::Positive,
        "delayed retry minimum delay. Must be a positive integer",
    )
    .since(Line::V4_3)
    .operator(Line::V4_3),
    setting(
        "delayed-retry-max",
        Kinds::All,
        Values::Positive,
        "delayed retry maximum delay. Must be a positive integer",
    )
    .since(Line::V4_3)
    .operator(Line::V4_3),
    setting("stream-max-segment-size-bytes", Kinds::Stream, Values::UpTo(LARGEST_SEGMENT), "segment size"),
    setting(
        "stream-filter-size-bytes",
        Kinds::All,
        Values::Between(16, 255),
        "filter size. Valid range is 16-255",
    )
    .since(Line::V3_13),
    setting("queue-mode", Kinds::Classic, Values::OneOf(&["default", "lazy"]), "queue-mode value"),
    setting("queue-version", Kinds::All, Values::Between(1, 2), "queue-version value").operator(Line::V3_13),
    setting("ha-mode", Kinds::Classic, Values::OneOf(&["all", "exactly", "nodes"]), "ha-mode value")
        .until(Line::V4_0),
    setting("ha-params", Kinds::Classic, Values::Any, "").until(Line::V4_0),
    setting("ha-sync-mode", Kinds::Classic, Values::Any, "").until(Line::V4_0),
    setting("ha-sync-batch-size", Kinds::Classic, Values::Any, "").until(Line::V4_0),
    setting("ha-promote-on-shutdown", Kinds::Classic, Values::Any, "").until(Line::V4_0),
    setting("ha-promote-on-failure", Kinds::Classic, Values::Any, "").until(Line::V4_0),
    setting(
        "max-in-memory-length",
        Kinds::QuorumAndClassicUpTo3,
        Values::NotNegative,
        "maximum memory in bytes",
    )
    .operator(Line::V3_10),
    setting(
        "max-in-memory-bytes",
        Kinds::QuorumAndClassicUpTo3,
        Values::NotNegative,
        "maximum memory in bytes",
    )
    .operator(Line::V3_10),
    setting(
        "queue-leader-locator",
        Kinds::AllButClassicUpTo3,
        Values::OneOf(LOCATORS),
        "queue leader locator value",
    ),
    setting("initial-cluster-size", Kinds::Stream, Values::NotNegative, "cluster size"),
    setting("target-group-size", Kinds::Quorum, Values::Positive, "qq target count value")
        .since(Line::V3_13)
        .operator(Line::V3_13),
];
