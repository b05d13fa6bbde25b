//! The connections that are watched, by the label that they have, and what those with one label have done together.
//!
//! A label has counters only once, so they are the sum of its connections, those that have ended included.

use std::{collections::BTreeMap, time::Duration};

use actix_pika_actors::facade::{Sample, Standing};
use tokio::time::Instant;

use crate::events::{ConnectionCounters, Load};

/// The most labels. The connections of further names share the label [`OTHERS`].
pub(super) const MOST_LABELS: usize = 64;

pub(super) const OTHERS: &str = "other";

/// Reads a connection.
pub(super) type Read = Box<dyn Fn(Instant) -> Sample + Send>;

/// What the connections with one label have done, and how they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) counters: ConnectionCounters,
    pub(super) load: Load,
    pub(super) channels: usize,
    pub(super) up: usize,
    pub(super) degraded: usize,
    pub(super) down: usize,
    pub(super) missing: usize,
}

#[derive(Default)]
struct Group {
    /// The sum of the connections that have ended.
    ended: ConnectionCounters,
    live: BTreeMap<u64, Read>,
    sampled: Option<Instant>,
}

/// A connection that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) label: String,
    id: u64,
}

#[derive(Default)]
pub(super) struct Groups {
    groups: BTreeMap<String, Group>,
    next: u64,
}

impl Groups {
    pub(super) const fn new() -> Self {
        Self { groups: BTreeMap::new(), next: 0 }
    }

    /// Adds a connection of this name.
    pub(super) fn add(&mut self, name: &str, read: Read) -> Watch {
        let is_known = self.groups.contains_key(name);
        let label = if is_known || self.groups.len() < MOST_LABELS { name } else { OTHERS };
        let group = self.groups.entry(label.to_owned()).or_default();
        let id = self.next;
        self.next += 1;
        group.live.insert(id, read);
        Watch { label: label.to_owned(), id }
    }

    /// A connection has ended. What it has done stays in the counters of its label.
    pub(super) fn end(&mut self, watch: &Watch, now: Instant) {
        let Some(group) = self.groups.get_mut(&watch.label) else { return };
        if let Some(read) = group.live.remove(&watch.id) {
            group.ended += read(now).counters;
        }
    }

    /// Returns the totals of a label, unless it was sampled less than `pause` ago.
    pub(super) fn sample(&mut self, label: &str, pause: Duration, now: Instant) -> Option<Totals> {
        let group = self.groups.get_mut(label)?;
        if group.sampled.is_some_and(|sampled| now.saturating_duration_since(sampled) < pause) {
            return None;
        }
        group.sampled = Some(now);
        Some(group.totals(now))
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = &String> {
        self.groups.keys()
    }
}

impl Group {
    fn totals(&self, now: Instant) -> Totals {
        let mut totals = Totals { counters: self.ended, ..Totals::default() };
        for read in self.live.values() {
            let Sample { counters, load, channels, standing, missing } = read(now);
            totals.counters += counters;
            totals.load.unconfirmed += load.unconfirmed;
            totals.load.unsettled += load.unsettled;
            totals.load.bytes += load.bytes;
            totals.load.waiting += load.waiting;
            totals.channels += channels;
            totals.missing += missing;
            match standing {
                Standing::Up => totals.up += 1,
                Standing::Degraded => totals.degraded += 1,
                Standing::Down => totals.down += 1,
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    /// A connection of which only the reconnects change.
    fn connection(standing: Standing) -> (Arc<AtomicU64>, Read) {
        let reconnects = Arc::new(AtomicU64::new(0));
        let read = reconnects.clone();
        let read: Read = Box::new(move |_| {
            let mut sample = Sample { standing, channels: 1, ..Sample::default() };
            sample.counters.reconnects = read.load(Ordering::Relaxed);
            sample
        });
        (reconnects, read)
    }

    fn now_of(groups: &mut Groups, label: &str) -> Totals {
        groups.sample(label, Duration::ZERO, Instant::now()).unwrap()
    }

    #[test]
    fn the_counters_of_a_label_go_on_after_a_connection_has_ended() {
        let mut groups = Groups::default();
        let ((first, read_first), (second, read_second)) =
            (connection(Standing::Up), connection(Standing::Degraded));
        let first_watch = groups.add("orders", read_first);
        let second_watch = groups.add("orders", read_second);
        first.store(3, Ordering::Relaxed);
        second.store(4, Ordering::Relaxed);
        let totals = now_of(&mut groups, "orders");
        assert_eq!((totals.counters.reconnects, totals.channels), (7, 2));
        assert_eq!((totals.up, totals.degraded, totals.down), (1, 1, 0));

        first.store(5, Ordering::Relaxed);
        groups.end(&first_watch, Instant::now());
        first.store(100, Ordering::Relaxed);
        groups.end(&first_watch, Instant::now());
        let totals = now_of(&mut groups, "orders");
        assert_eq!((totals.counters.reconnects, totals.channels), (9, 1), "its last value, and once");
        assert_eq!((totals.up, totals.degraded), (0, 1));

        groups.end(&second_watch, Instant::now());
        let (third, read_third) = connection(Standing::Down);
        groups.add("orders", read_third);
        third.store(1, Ordering::Relaxed);
        let totals = now_of(&mut groups, "orders");
        assert_eq!((totals.counters.reconnects, totals.down), (10, 1));
    }

    #[test]
    fn names_over_the_limit_share_a_label() {
        let mut groups = Groups::default();
        for n in 0..MOST_LABELS {
            assert_eq!(groups.add(&n.to_string(), connection(Standing::Up).1).label, n.to_string());
        }
        for n in MOST_LABELS..MOST_LABELS + 2 {
            assert_eq!(groups.add(&n.to_string(), connection(Standing::Up).1).label, OTHERS);
        }
        assert_eq!(groups.add("0", connection(Standing::Up).1).label, "0", "it is known");
        assert_eq!((now_of(&mut groups, OTHERS).up, now_of(&mut groups, "0").up), (2, 2));
        assert_eq!(groups.labels().count(), MOST_LABELS + 1);
    }

    #[test]
    fn a_label_is_sampled_once_for_all_its_connections() {
        let (mut groups, now, second) = (Groups::default(), Instant::now(), Duration::from_secs(1));
        groups.add("orders", connection(Standing::Up).1);
        assert!(groups.sample("orders", second, now).is_some());
        assert!(groups.sample("orders", second, now + second / 2).is_none());
        assert!(groups.sample("orders", second, now + second).is_some());
        assert!(groups.sample("bills", second, now).is_none());
    }
}
