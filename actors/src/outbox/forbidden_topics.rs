//! The topics that the broker does not permit (403).

use std::collections::HashMap;

use tokio::time::Instant;

use super::{forbidden_place::Candidate, refusing::Refusing};
use crate::error::Error;

/// The most topics to remember.
pub(super) const MOST_TOPICS: usize = 1024;

/// The forbidden topics, by exchange and routing key.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_exchange: HashMap<String, HashMap<String, Refusing>>,
    len: usize,
}

impl Topics {
    pub(super) fn get(&self, publish: &Candidate<'_>) -> Option<&Refusing> {
        self.by_exchange.get(publish.exchange)?.get(publish.routing_key)
    }

    pub(super) fn get_mut(&mut self, publish: &Candidate<'_>) -> Option<&mut Refusing> {
        self.by_exchange.get_mut(publish.exchange)?.get_mut(publish.routing_key)
    }

    pub(super) fn insert(&mut self, exchange: String, routing_key: String, error: Error, now: Instant) {
        let topics = self.by_exchange.entry(exchange).or_default();
        let known = topics.remove(&routing_key);
        self.len -= usize::from(known.is_some());
        topics.insert(routing_key, Refusing::new(known, error, now));
        self.len += 1;
        if self.len > MOST_TOPICS {
            self.forget_one();
        }
    }

    /// Forgets the topic to which nobody has published for the longest time.
    fn forget_one(&mut self) {
        let all = self.by_exchange.iter().flat_map(|(exchange, topics)| {
            topics.iter().map(move |(routing_key, refusing)| (refusing.used, exchange, routing_key))
        });
        let oldest = all.min_by_key(|(used, ..)| *used);
        let Some((exchange, routing_key)) = oldest.map(|(_, one, other)| (one.clone(), other.clone())) else {
            return;
        };
        if let Some(topics) = self.by_exchange.get_mut(&exchange) {
            topics.remove(&routing_key);
            self.len -= 1;
            if topics.is_empty() {
                self.by_exchange.remove(&exchange);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Refusing) -> bool) {
        self.by_exchange.retain(|_, topics| {
            topics.retain(|_, refusing| keep(refusing));
            !topics.is_empty()
        });
        self.len = self.by_exchange.values().map(HashMap::len).sum();
    }
}
