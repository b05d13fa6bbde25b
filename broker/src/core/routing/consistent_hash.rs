//! `x-consistent-hash`: each message goes to one destination, chosen by a hash, in proportion to the weights.

use std::collections::{BTreeMap, btree_map::Entry};

use actix_pika_actors::{Table, Value};

use super::erlang_hash;
use crate::core::{Message, octets_of, term};

/// The destinations and how many buckets each has.
#[derive(Debug)]
pub(super) struct HashRing<D> {
    hashed: Hashed,
    /// By number, in the order of their buckets.
    shares: BTreeMap<u64, (D, u64)>,
    /// The number of each destination.
    numbers: BTreeMap<D, u64>,
    last: u64,
}

/// What of a message is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hashed {
    RoutingKey,
    Header(String),
    Property(Property),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Property {
    CorrelationId,
    MessageId,
    Timestamp,
}

/// Checks the arguments of a declaration.
pub(super) fn check_exchange(arguments: &Table) -> Result<(), String> {
    match (arguments.get("hash-header"), arguments.get("hash-property")) {
        (Some(_), Some(_)) => Err("hash-header and hash-property are mutually exclusive".to_owned()),
        (None, Some(value)) if property(value).is_none() => {
            Err(format!("Unsupported property: {}", term::print(value)))
        }
        _ => Ok(()),
    }
}

/// Checks the key of a binding, which is a weight.
pub(super) fn check_key(key: &str) -> Result<(), String> {
    match weight(key) {
        None => {
            let key = term::print_binary(key.as_bytes());
            Err(format!("The binding key must be an integer: {key}"))
        }
        Some(0) => Err("The binding key must be greater than 0".to_owned()),
        Some(_) => Ok(()),
    }
}

/// Reads a weight; a negative one is 0.
fn weight(key: &str) -> Option<u64> {
    let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // Sums of weights do not overflow, and more buckets make no difference.
    let weight = digits.parse().unwrap_or(u64::MAX).min(1 << 32);
    Some(if key.starts_with('-') { 0 } else { weight })
}

fn property(value: &Value) -> Option<Property> {
    match value.as_str()? {
        "correlation_id" => Some(Property::CorrelationId),
        "message_id" => Some(Property::MessageId),
        "timestamp" => Some(Property::Timestamp),
        _ => None,
    }
}

impl<D: Copy + Ord> HashRing<D> {
    pub(super) fn new(arguments: &Table) -> Self {
        let header = arguments.get("hash-header").and_then(Value::as_str);
        let hashed = match (header, arguments.get("hash-property").and_then(property)) {
            (Some(header), _) => Hashed::Header(header.to_owned()),
            (None, Some(property)) => Hashed::Property(property),
            (None, None) => Hashed::RoutingKey,
        };
        Self { hashed, shares: BTreeMap::new(), numbers: BTreeMap::new(), last: 0 }
    }

    /// Adds the buckets of a binding. A destination that has some already gets no others.
    pub(super) fn bind(&mut self, key: &str, destination: D) {
        if let Entry::Vacant(entry) = self.numbers.entry(destination) {
            self.last += 1;
            entry.insert(self.last);
            self.shares.insert(self.last, (destination, weight(key).unwrap_or(1)));
        }
    }

    /// Removes all buckets of a destination, also if it is bound with another key, too.
    pub(super) fn unbind(&mut self, destination: D) {
        if let Some(number) = self.numbers.remove(&destination) {
            self.shares.remove(&number);
        }
    }

    pub(super) fn choose(&self, key: &str, message: &Message) -> Option<D> {
        let buckets = self.shares.values().map(|(_, weight)| weight).sum();
        let mut bucket = erlang_hash::jump(self.hash(key, message), buckets);
        for (destination, weight) in self.shares.values() {
            if bucket < *weight {
                return Some(*destination);
            }
            bucket -= weight;
        }
        None
    }

    fn hash(&self, key: &str, message: &Message) -> u64 {
        match &self.hashed {
            Hashed::RoutingKey => erlang_hash::of_binary(&octets_of(key)),
            Hashed::Header(name) => match message.headers().and_then(|headers| headers.get(name)) {
                None => erlang_hash::of_undefined(),
                // RabbitMQ hashes other values as numbers or lists: there, they may go elsewhere.
                Some(value) => {
                    let text = term::print(value);
                    erlang_hash::of_typed(term::type_name(value), value.as_bytes().unwrap_or(text.as_bytes()))
                }
            },
            Hashed::Property(property) => {
                let properties = message.decoded_properties();
                let text = |bytes: Option<&[u8]>| {
                    bytes.map_or_else(erlang_hash::of_undefined, erlang_hash::of_binary)
                };
                match property {
                    Property::CorrelationId => text(properties.correlation_id_bytes()),
                    Property::MessageId => text(properties.message_id_bytes()),
                    Property::Timestamp => {
                        let seconds = properties.timestamp_seconds().map(|seconds| seconds.to_string());
                        text(seconds.as_ref().map(String::as_bytes))
                    }
                }
            }
        }
    }
}
