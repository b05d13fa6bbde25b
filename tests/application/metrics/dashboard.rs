//! The dashboard of examples/prometheus.

use std::{collections::BTreeSet, fs, path::Path};

use actix_pika::metrics::{METRICS, MetricKind};
use serde_json::Value;

/// Returns the texts of the JSON that are queries.
fn queries<'a>(json: &'a Value, found: &mut Vec<&'a str>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if ["expr", "query", "definition"].contains(&name.as_str()) => {
                        found.push(text)
                    }
                    value => queries(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

/// Returns the labels of `name{label=~"..."}` and of `by (label, ...)`.
fn labels(query: &str) -> BTreeSet<&str> {
    let selectors = query.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    let selected = selectors
        .flat_map(|(inside, _)| inside.split(','))
        .filter_map(|one| one.split_once(['=', '!']))
        .map(|(label, _)| label.trim());
    let groups = query.split(" by (").skip(1).filter_map(|rest| rest.split_once(')'));
    let grouped = groups.flat_map(|(inside, _)| inside.split(',')).map(str::trim);
    selected.chain(grouped).filter(|label| !["job", "le"].contains(label)).collect()
}

/// MET-06: each query of the dashboard names metrics that exist, with labels that they have, and each metric is in it.
#[test]
fn the_dashboard_has_the_metrics_that_exist() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/prometheus/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut found = Vec::new();
    queries(&dashboard, &mut found);
    let mut shown = BTreeSet::new();
    for query in found {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("actix_pika_")) {
            let metric = METRICS.iter().find(|metric| match metric.kind {
                MetricKind::Histogram => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|suffix| word.strip_suffix(suffix) == Some(metric.name)),
                _ => word == metric.name,
            });
            let metric = metric.unwrap_or_else(|| panic!("{word} of {query:?} does not exist"));
            for label in labels(query) {
                assert!(metric.labels.contains(&label), "{word} has no label {label:?}: {query}");
            }
            shown.insert(metric.name);
        }
    }
    let all: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(shown, all);
}
