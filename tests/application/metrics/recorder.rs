//! A recorder that tests read.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// What was recorded of one metric with its labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Of a counter or a gauge.
    pub value: f64,
    /// Of a histogram.
    pub values: Vec<f64>,
}

/// A recorder that keeps everything. Clones are the same one.
#[derive(Clone, Default)]
pub struct Recorded {
    series: Arc<Mutex<BTreeMap<String, Arc<Handle>>>>,
    described: Arc<Mutex<BTreeMap<String, String>>>,
}

#[derive(Default)]
struct Handle(Mutex<Series>);

impl Handle {
    fn change(&self, change: impl FnOnce(&mut Series)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Recorded {
    /// Returns the value of a counter or a gauge, by its name and labels as in `name{queue=jobs}`.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.get(series).map(|series| series.value)
    }

    /// Returns the values of a histogram.
    pub fn values(&self, series: &str) -> Vec<f64> {
        self.get(series).map(|series| series.values).unwrap_or_default()
    }

    /// Returns all series that have this label.
    pub fn with_label(&self, label: &str) -> Vec<String> {
        let all = self.series.lock().unwrap();
        all.keys().filter(|series| series.contains(label)).cloned().collect()
    }

    /// Returns what was said of a metric.
    pub fn description(&self, name: &str) -> Option<String> {
        self.described.lock().unwrap().get(name).cloned()
    }

    fn get(&self, series: &str) -> Option<Series> {
        let handle = self.series.lock().unwrap().get(series)?.clone();
        let series = handle.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(series.clone())
    }

    fn handle(&self, key: &Key) -> Arc<Handle> {
        let labels: Vec<String> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let series = format!("{}{{{}}}", key.name(), labels.join(","));
        self.series.lock().unwrap().entry(series).or_default().clone()
    }

    fn describe(&self, name: &KeyName, meaning: &SharedString) {
        self.described.lock().unwrap().insert(name.as_str().to_owned(), meaning.to_string());
    }
}

impl CounterFn for Handle {
    fn increment(&self, by: u64) {
        self.change(|series| series.value += by as f64);
    }

    fn absolute(&self, value: u64) {
        self.change(|series| {
            assert!(value as f64 >= series.value, "a counter went from {} to {value}", series.value);
            series.value = value as f64;
        });
    }
}

impl GaugeFn for Handle {
    fn increment(&self, by: f64) {
        self.change(|series| series.value += by);
    }

    fn decrement(&self, by: f64) {
        self.change(|series| series.value -= by);
    }

    fn set(&self, value: f64) {
        self.change(|series| series.value = value);
    }
}

impl HistogramFn for Handle {
    fn record(&self, value: f64) {
        self.change(|series| series.values.push(value));
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.describe(&name, &meaning);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.describe(&name, &meaning);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.describe(&name, &meaning);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.handle(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle(key))
    }
}
