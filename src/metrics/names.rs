//! The names of the metrics, and what each of them means.

use ::metrics::{KeyName, Unit, with_recorder};

pub(super) const PUBLISHED: &str = "actix_pika_published_total";
pub(super) const CONFIRMED: &str = "actix_pika_confirmed_total";
pub(super) const NACKED: &str = "actix_pika_nacked_total";
pub(super) const RETURNED: &str = "actix_pika_returned_total";
pub(super) const DELIVERED: &str = "actix_pika_delivered_total";
pub(super) const REDELIVERED: &str = "actix_pika_redelivered_total";
pub(super) const SETTLED: &str = "actix_pika_settled_total";
pub(super) const REQUEUED: &str = "actix_pika_requeued_total";
pub(super) const RECONNECTS: &str = "actix_pika_reconnects_total";
pub(super) const BLOCKED: &str = "actix_pika_blocked_milliseconds_total";
pub(super) const UNCONFIRMED: &str = "actix_pika_unconfirmed";
pub(super) const UNCONFIRMED_BYTES: &str = "actix_pika_unconfirmed_bytes";
pub(super) const WAITING: &str = "actix_pika_publishes_waiting";
pub(super) const UNSETTLED: &str = "actix_pika_unsettled";
pub(super) const CHANNELS: &str = "actix_pika_channels";
pub(super) const CONNECTIONS: &str = "actix_pika_connections";
pub(super) const MISSING: &str = "actix_pika_missing";
pub(super) const TASKS: &str = "actix_pika_tasks_total";
pub(super) const RUNNING: &str = "actix_pika_tasks_running";
pub(super) const HANDLER: &str = "actix_pika_handler_duration_seconds";
pub(super) const AGE: &str = "actix_pika_delivery_age_seconds";
pub(super) const PUBLISH: &str = "actix_pika_publish_duration_seconds";
pub(super) const OUTBOX_LAG: &str = "actix_pika_outbox_lag_seconds";
pub(super) const OUTBOX_WAITING: &str = "actix_pika_outbox_waiting";
pub(super) const OUTBOX_PARKED: &str = "actix_pika_outbox_parked";

/// How a metric changes.
///
/// # Examples
/// ```
/// use actix_pika::metrics::{METRICS, MetricKind};
///
/// assert!(METRICS.iter().any(|metric| metric.kind == MetricKind::Gauge));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only counts up.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Values by their size.
    Histogram,
}

/// Describes one metric.
///
/// # Examples
/// ```
/// for metric in actix_pika::metrics::METRICS {
///     println!("{} {:?}: {}", metric.name, metric.labels, metric.meaning);
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it changes.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub meaning: &'static str,
    unit: Unit,
}

/// Every metric of this library. The table in the documentation of the [module](super) is the same.
///
/// # Examples
/// ```
/// use actix_pika::metrics::METRICS;
///
/// assert!(METRICS.iter().any(|metric| metric.name == "actix_pika_published_total"));
/// ```
pub const METRICS: &[Metric] = &[
    counter(PUBLISHED, "publishes that had room in the publish window, each once"),
    counter(CONFIRMED, "publishes that the broker has confirmed"),
    counter(NACKED, "publishes that the broker has nacked for good"),
    counter(RETURNED, "mandatory publishes that the broker has returned as unroutable"),
    counter(DELIVERED, "deliveries"),
    counter(REDELIVERED, "deliveries that the broker has marked as redelivered"),
    Metric {
        labels: &["connection", "outcome"],
        ..counter(SETTLED, "deliveries that were settled, by `outcome`: `ack`, `nack` or `reject`")
    },
    counter(REQUEUED, "deliveries that were nacked or rejected, and return to their queue"),
    counter(RECONNECTS, "how often a lost connection was open again"),
    Metric { unit: Unit::Milliseconds, ..counter(BLOCKED, "how long the broker has blocked publishing") },
    gauge(UNCONFIRMED, "publishes without a confirm yet"),
    Metric { unit: Unit::Bytes, ..gauge(UNCONFIRMED_BYTES, "their bytes") },
    gauge(WAITING, "publishes that wait for room in the publish window"),
    gauge(UNSETTLED, "deliveries that are not settled yet"),
    gauge(CHANNELS, "open channels"),
    Metric {
        labels: &["connection", "state"],
        ..gauge(CONNECTIONS, "connections, by `state`: `up`, `degraded` or `down`")
    },
    gauge(MISSING, "entities that were declared or consumed, and are not in place"),
    Metric { labels: &["queue", "outcome"], ..counter(TASKS, "tasks that have ended, by `outcome`") },
    Metric { labels: &["queue"], ..gauge(RUNNING, "tasks that have begun and not ended") },
    histogram(HANDLER, &["queue", "outcome"], "how long handlers took, by the `outcome` of their task"),
    histogram(AGE, &["queue"], "how old messages with a timestamp are when their task begins"),
    histogram(PUBLISH, &["exchange", "kind", "outcome"], "how long typed publishes took, with their confirm"),
    Metric {
        unit: Unit::Seconds,
        labels: &["outbox"],
        ..gauge(OUTBOX_LAG, "how long the oldest message of an outbox waits")
    },
    Metric { labels: &["outbox"], ..gauge(OUTBOX_WAITING, "messages of an outbox that are to be published") },
    Metric { labels: &["outbox"], ..gauge(OUTBOX_PARKED, "messages of an outbox that are parked") },
];

const fn counter(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, labels: &["connection"], meaning, unit: Unit::Count }
}

const fn gauge(name: &'static str, meaning: &'static str) -> Metric {
    Metric { kind: MetricKind::Gauge, ..counter(name, meaning) }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram, labels, meaning, unit: Unit::Seconds }
}

/// Tells the recorder what the metrics mean. [`watch`](super::watch) and [`Connector::metrics`] do that as well; call it
/// only if the recorder is installed later.
///
/// [`Connector::metrics`]: crate::Connector::metrics
///
/// # Examples
/// ```
/// actix_pika::metrics::describe();
/// ```
pub fn describe() {
    with_recorder(|recorder| {
        for metric in METRICS {
            let (name, unit) = (KeyName::from_const_str(metric.name), Some(metric.unit));
            let meaning = metric.meaning.into();
            match metric.kind {
                MetricKind::Counter => recorder.describe_counter(name, unit, meaning),
                MetricKind::Gauge => recorder.describe_gauge(name, unit, meaning),
                MetricKind::Histogram => recorder.describe_histogram(name, unit, meaning),
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the documentation has each metric with its kind, labels and meaning.
    #[test]
    fn the_table_of_the_documentation_is_the_list() {
        let page = include_str!("mod.rs");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("//! | `actix_pika_")).collect();
        let expected: Vec<String> = METRICS
            .iter()
            .map(|metric| {
                let kind = format!("{:?}", metric.kind).to_lowercase();
                let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
                format!("//! | `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.meaning)
            })
            .collect();
        assert_eq!(rows, expected);
    }

    /// A counter ends with `_total`, behind its unit.
    #[test]
    fn names_end_with_their_unit() {
        for metric in METRICS {
            let base = match metric.kind {
                MetricKind::Counter => metric.name.strip_suffix("_total").expect(metric.name),
                _ => metric.name,
            };
            let unit = match metric.unit {
                Unit::Seconds => "_seconds",
                Unit::Milliseconds => "_milliseconds",
                Unit::Bytes => "_bytes",
                _ => "",
            };
            assert!(base.ends_with(unit), "{}", metric.name);
        }
    }
}
