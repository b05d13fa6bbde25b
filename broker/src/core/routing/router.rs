//! [`Router`]: the bindings of one exchange, and which of them a message matches.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::BuildHasherDefault,
    sync::atomic::{AtomicUsize, Ordering},
};

use actix_pika_actors::Table;

use super::{
    consistent_hash::{self, HashRing},
    erlang_hash,
    headers::{self, HeadersPattern, SortedHeaders},
    topic::Topics,
};
use crate::core::{Message, Name, Rules, entities::Counted};

/// The type of an exchange. `x-delayed-message` has one of these inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeType {
    Direct,
    Fanout,
    Topic,
    Headers,
    ConsistentHash,
    LocalRandom,
    ModulusHash,
}

impl ExchangeType {
    /// Reads the name of a type.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "direct" => Some(Self::Direct),
            "fanout" => Some(Self::Fanout),
            "topic" => Some(Self::Topic),
            "headers" => Some(Self::Headers),
            "x-consistent-hash" => Some(Self::ConsistentHash),
            "x-local-random" => Some(Self::LocalRandom),
            "x-modulus-hash" => Some(Self::ModulusHash),
            _ => None,
        }
    }

    /// Returns whether a line has the type.
    pub(crate) fn is_of(self, rules: &Rules) -> bool {
        match self {
            Self::LocalRandom => rules.local_random,
            Self::ModulusHash => rules.modulus_hash,
            _ => true,
        }
    }

    /// Returns the name of the type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Fanout => "fanout",
            Self::Topic => "topic",
            Self::Headers => "headers",
            Self::ConsistentHash => "x-consistent-hash",
            Self::LocalRandom => "x-local-random",
            Self::ModulusHash => "x-modulus-hash",
        }
    }

    /// Checks the arguments of a declaration of this type. The error is the text of a 406.
    pub(crate) fn check(self, arguments: &Table) -> Result<(), String> {
        match self {
            Self::ConsistentHash => consistent_hash::check_exchange(arguments),
            _ => Ok(()),
        }
    }
}

/// A binding. Destination, key and arguments are its identity.
#[derive(Debug)]
pub(crate) struct Binding<D> {
    pub(crate) destination: D,
    pub(crate) key: Name,
    pub(crate) arguments: Table,
    /// None for those of the default exchange.
    pub(crate) _counted: Option<Counted>,
}

impl<D: PartialEq> Binding<D> {
    fn is(&self, destination: &D, key: &str, arguments: &Table) -> bool {
        self.destination == *destination && *self.key == *key && same_arguments(&self.arguments, arguments)
    }
}

/// Compares without the order of the keys.
fn same_arguments(left: &Table, right: &Table) -> bool {
    let by_key = |table: &Table| {
        let mut entries: Vec<_> = table.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        entries
    };
    left == right || (left.len() == right.len() && by_key(left) == by_key(right))
}

/// A map that hashes the same in every run. Its order is not looked at.
pub(super) type FixedMap<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// The bindings of an exchange.
#[derive(Debug)]
pub(crate) struct Router<D> {
    rules: &'static Rules,
    /// In the order of their creation.
    bindings: Vec<Binding<D>>,
    index: Index<D>,
}

/// Finds the bindings that a message matches.
#[derive(Debug)]
enum Index<D> {
    Direct(FixedMap<Name, Vec<D>>),
    /// All of them.
    Fanout,
    Topic(Topics<D>),
    /// In the order of the bindings.
    Headers(Vec<HeadersPattern>),
    ConsistentHash(HashRing<D>),
    /// One of them after the other. RabbitMQ draws.
    LocalRandom(AtomicUsize),
    /// One of them by the routing key.
    ModulusHash,
}

impl<D: Copy + Ord> Router<D> {
    /// Creates a router without bindings, with the arguments of the exchange.
    pub(crate) fn new(kind: ExchangeType, rules: &'static Rules, arguments: &Table) -> Self {
        let index = match kind {
            ExchangeType::Direct => Index::Direct(FixedMap::default()),
            ExchangeType::Fanout => Index::Fanout,
            ExchangeType::Topic => Index::Topic(Topics::default()),
            ExchangeType::Headers => Index::Headers(Vec::new()),
            ExchangeType::ConsistentHash => Index::ConsistentHash(HashRing::new(arguments)),
            ExchangeType::LocalRandom => Index::LocalRandom(AtomicUsize::new(0)),
            ExchangeType::ModulusHash => Index::ModulusHash,
        };
        Self { rules, bindings: Vec::new(), index }
    }

    /// Checks what the type of the exchange wants of a binding. The error is the text of a 406.
    pub(crate) fn check(&self, key: &str, arguments: &Table) -> Result<(), String> {
        match &self.index {
            Index::Headers(_) => headers::check(arguments),
            Index::ConsistentHash(_) => consistent_hash::check_key(key),
            Index::LocalRandom(_) if !key.is_empty() => {
                Err(format!("Non empty binding '{key}' key not permitted"))
            }
            _ => Ok(()),
        }
    }

    /// Adds a binding, and returns whether it is new.
    pub(crate) fn bind(&mut self, binding: Binding<D>) -> bool {
        let Binding { destination, key, arguments, .. } = &binding;
        if self.contains(*destination, key, arguments) {
            return false;
        }
        match &mut self.index {
            Index::Direct(keys) => keys.entry(key.clone()).or_default().push(*destination),
            Index::Fanout | Index::LocalRandom(_) | Index::ModulusHash => {}
            Index::Topic(topics) => topics.insert(key.as_bytes(), *destination),
            Index::Headers(patterns) => patterns.push(HeadersPattern::new(arguments)),
            Index::ConsistentHash(ring) => ring.bind(key, *destination),
        }
        self.bindings.push(binding);
        true
    }

    /// Returns whether there is a binding.
    pub(crate) fn contains(&self, destination: D, key: &str, arguments: &Table) -> bool {
        // The default exchange has a binding for each queue: only those with the same key are looked at.
        if let Index::Direct(keys) = &self.index
            && !keys.get(key).is_some_and(|destinations| destinations.contains(&destination))
        {
            return false;
        }
        self.bindings.iter().any(|known| known.is(&destination, key, arguments))
    }

    /// Removes a binding, and returns whether it was there.
    pub(crate) fn unbind(&mut self, destination: D, key: &str, arguments: &Table) -> bool {
        let found = self.bindings.iter().position(|binding| binding.is(&destination, key, arguments));
        if let Some(at) = found {
            self.remove(at);
        }
        found.is_some()
    }

    /// Removes all bindings to a destination, and returns how many there were.
    pub(crate) fn unbind_all(&mut self, destination: D) -> usize {
        let before = self.bindings.len();
        for at in (0..before).rev() {
            if self.bindings[at].destination == destination {
                self.remove(at);
            }
        }
        before - self.bindings.len()
    }

    fn remove(&mut self, at: usize) {
        let Binding { destination, key, .. } = self.bindings.remove(at);
        match &mut self.index {
            Index::Direct(keys) => {
                if let Some(destinations) = keys.get_mut(&key) {
                    if let Some(at) = destinations.iter().position(|known| *known == destination) {
                        destinations.remove(at);
                    }
                    if destinations.is_empty() {
                        keys.remove(&key);
                    }
                }
            }
            Index::Fanout | Index::LocalRandom(_) | Index::ModulusHash => {}
            Index::Topic(topics) => _ = topics.remove(key.as_bytes(), &destination),
            Index::Headers(patterns) => drop(patterns.remove(at)),
            Index::ConsistentHash(ring) => ring.unbind(destination),
        }
    }

    /// Returns the bindings in the order of their creation.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Binding<D>> {
        self.bindings.iter()
    }

    /// Returns whether there are no bindings.
    pub(crate) fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Appends the destinations of a message that is routed with `key`, one for each binding that it matches.
    pub(crate) fn route(&self, key: &str, message: &Message, out: &mut Vec<D>) {
        match &self.index {
            Index::Direct(keys) => out.extend(keys.get(key).into_iter().flatten()),
            Index::Fanout => out.extend(self.bindings.iter().map(|binding| binding.destination)),
            Index::Topic(topics) => topics.each_match(key.as_bytes(), |destination| out.push(*destination)),
            Index::Headers(patterns) if patterns.is_empty() => {}
            Index::Headers(patterns) => {
                let headers = SortedHeaders::new(message.headers(), self.rules);
                let matching =
                    self.bindings.iter().zip(patterns).filter(|(_, pattern)| pattern.matches(&headers));
                out.extend(matching.map(|(binding, _)| binding.destination));
            }
            Index::ConsistentHash(ring) => out.extend(ring.choose(key, message)),
            Index::LocalRandom(turn) if !self.bindings.is_empty() => {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                out.push(self.bindings[turn % self.bindings.len()].destination);
            }
            Index::ModulusHash if !self.bindings.is_empty() => {
                let at = erlang_hash::of_binary(key.as_bytes()) as usize % self.bindings.len();
                out.push(self.bindings[at].destination);
            }
            Index::LocalRandom(_) | Index::ModulusHash => {}
        }
    }
}
