//! The hook that tells the recorder of each publish and each task. Handles of the recorder are made once for each queue
//! and each exchange.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use ::metrics::{Counter, Gauge, Histogram, Key, Label, with_recorder};

use super::{METADATA, names};
use crate::hook::{Hook, Incoming, Outcome, PublishEnd, PublishKind, PublishOutcome, Span, TaskEnd};

/// The most queues, and the most exchanges, that have a label of their own.
pub(super) const MOST_NAMES: usize = 256;

const OTHERS: &str = "other";

const OUTCOMES: [Outcome; 7] = [
    Outcome::Acked,
    Outcome::Retried,
    Outcome::DeadLettered,
    Outcome::Rejected,
    Outcome::Requeued,
    Outcome::GivenBack,
    Outcome::Stale,
];

const KINDS: [PublishKind; 4] =
    [PublishKind::Message, PublishKind::Request, PublishKind::Reply, PublishKind::Retry];

const PUBLISH_OUTCOMES: [&str; 3] = ["published", "failed", "unknown"];

/// Handles by name, of which there may be many.
struct Named<H>(RwLock<HashMap<String, Arc<H>>>);

impl<H> Named<H> {
    /// Returns the handles of a name, which `make` makes for its label.
    fn get(&self, name: &str, make: impl FnOnce(&str) -> H) -> Arc<H> {
        let name = label_of(name);
        if let Some(handles) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return handles.clone();
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = if all.contains_key(name) || all.len() < MOST_NAMES { name } else { OTHERS };
        all.entry(name.to_owned()).or_insert_with(|| Arc::new(make(name))).clone()
    }
}

impl<H> Default for Named<H> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

/// Names that the broker has made change with each connection.
fn label_of(name: &str) -> &str {
    match name {
        "" => "(default)",
        _ if name.starts_with("amq.gen-") => "amq.gen",
        _ => name,
    }
}

/// The handles of a queue.
struct OfQueue {
    name: String,
    running: Gauge,
    age: OnceLock<Histogram>,
    ended: [Counter; OUTCOMES.len()],
    took: [OnceLock<Histogram>; OUTCOMES.len()],
}

impl OfQueue {
    fn new(name: &str) -> Self {
        let key = |metric, more| key(metric, "queue", name, more);
        Self {
            name: name.to_owned(),
            running: with_recorder(|to| to.register_gauge(&key(names::RUNNING, vec![]), &METADATA)),
            age: OnceLock::new(),
            ended: OUTCOMES.map(|outcome| {
                let key = key(names::TASKS, vec![Label::from_static_parts("outcome", outcome.as_str())]);
                with_recorder(|to| to.register_counter(&key, &METADATA))
            }),
            took: Default::default(),
        }
    }

    /// Without a value, a histogram has no series.
    fn age(&self) -> &Histogram {
        self.age.get_or_init(|| histogram(&key(names::AGE, "queue", &self.name, vec![])))
    }

    fn took(&self, at: usize, outcome: Outcome) -> Option<&Histogram> {
        let of_outcome = self.took.get(at)?;
        Some(of_outcome.get_or_init(|| {
            let outcome = Label::from_static_parts("outcome", outcome.as_str());
            histogram(&key(names::HANDLER, "queue", &self.name, vec![outcome]))
        }))
    }
}

/// The handles of an exchange, by the kind of publish and its outcome.
struct OfExchange {
    name: String,
    took: [[OnceLock<Histogram>; PUBLISH_OUTCOMES.len()]; KINDS.len()],
}

impl OfExchange {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), took: Default::default() }
    }

    fn took(&self, kind: PublishKind, outcome: &'static str) -> Option<&Histogram> {
        let of_kind = self.took.get(KINDS.iter().position(|known| *known == kind)?)?;
        let of_outcome = of_kind.get(PUBLISH_OUTCOMES.iter().position(|known| *known == outcome)?)?;
        Some(of_outcome.get_or_init(|| {
            let kind = Label::from_static_parts("kind", kind.as_str());
            let outcome = Label::from_static_parts("outcome", outcome);
            histogram(&key(names::PUBLISH, "exchange", &self.name, vec![kind, outcome]))
        }))
    }
}

fn key(metric: &'static str, label: &'static str, name: &str, more: Vec<Label>) -> Key {
    let labels: Vec<Label> = std::iter::once(Label::new(label, name.to_owned())).chain(more).collect();
    Key::from_parts(metric, labels)
}

fn histogram(key: &Key) -> Histogram {
    with_recorder(|to| to.register_histogram(key, &METADATA))
}

#[derive(Default)]
pub(super) struct MetricsHook {
    queues: Named<OfQueue>,
    exchanges: Named<OfExchange>,
}

impl Hook for MetricsHook {
    fn published(&self, end: &PublishEnd<'_>) {
        let outcome = match end.outcome() {
            PublishOutcome::Published(_) => "published",
            PublishOutcome::Failed(_) => "failed",
            PublishOutcome::Unknown => "unknown",
        };
        let exchange = self.exchanges.get(end.exchange(), OfExchange::new);
        if let Some(took) = exchange.took(end.kind(), outcome) {
            took.record(end.took());
        }
    }

    fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
        let queue = self.queues.get(message.queue(), OfQueue::new);
        queue.running.increment(1.0);
        if let Some(age) = message.age() {
            queue.age().record(age);
        }
        None
    }

    fn end(&self, end: &TaskEnd<'_>) {
        let queue = self.queues.get(end.message().queue(), OfQueue::new);
        queue.running.decrement(1.0);
        let outcome = end.outcome();
        let Some(at) = OUTCOMES.iter().position(|known| *known == outcome) else { return };
        if let Some(ended) = queue.ended.get(at) {
            ended.increment(1);
        }
        if let (Some(duration), Some(took)) = (end.took(), queue.took(at, outcome)) {
            took.record(duration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_over_the_limit_share_their_handles() {
        let named = Named::<String>::default();
        for n in 0..MOST_NAMES {
            assert_eq!(*named.get(&n.to_string(), str::to_owned), n.to_string());
        }
        assert_eq!(*named.get("one more", str::to_owned), OTHERS);
        assert_eq!(*named.get("another", str::to_owned), OTHERS);
        assert_eq!(*named.get("7", |_| unreachable!("it was made")), "7");
    }

    #[test]
    fn names_of_the_broker_are_one_name() {
        assert_eq!(
            ["", "amq.gen-8H2", "amq.topic", "jobs"].map(label_of),
            ["(default)", "amq.gen", "amq.topic", "jobs"]
        );
    }
}
