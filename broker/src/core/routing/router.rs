//! [`Router`]: the bindings of one exchange, and which of them a message matches.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::DefaultHasher},
    hash::{BuildHasherDefault, Hash, Hasher},
};

use actix_pika_actors::{Table, Value};

use super::{
    consistent_hash::{self, HashRing},
    erlang_hash,
    headers::{self, HeadersPattern, SortedHeaders},
    topic::{self, Topics},
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
pub(super) type FixedMap<K, V> = HashMap<K, V, FixedHasher>;
/// Builds hashers that hash the same in every run.
pub(super) type FixedHasher = BuildHasherDefault<DefaultHasher>;

/// Returns the same for arguments that are [the same](same_arguments).
fn digest(arguments: &Table) -> u64 {
    arguments.iter().fold(0, |sum: u64, (key, value)| {
        let mut hasher = DefaultHasher::new();
        key.as_bytes().hash(&mut hasher);
        hash_value(value, &mut hasher);
        sum.wrapping_add(hasher.finish())
    })
}

fn hash_value(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::LongString(text) => text.as_bytes().hash(hasher),
        Value::ByteArray(octets) => octets.hash(hasher),
        // Both zeros are equal.
        Value::Float(value) => (value + 0.0).to_bits().hash(hasher),
        Value::Double(value) => (value + 0.0).to_bits().hash(hasher),
        Value::Array(values) => values.iter().for_each(|value| hash_value(value, hasher)),
        Value::Table(table) => digest(table).hash(hasher),
        other => (other.as_i64(), other.as_bool()).hash(hasher),
    }
}

/// The bindings of an exchange.
#[derive(Debug)]
pub(crate) struct Router<D> {
    rules: &'static Rules,
    /// By number, in the order of their creation.
    bindings: BTreeMap<u64, Binding<D>>,
    /// Destination, key, [`digest`] of the arguments and number of each binding.
    places: BTreeSet<(D, Name, u64, u64)>,
    /// The number of the last binding.
    last: u64,
    index: Index<D>,
}

/// Finds the bindings that a message matches.
#[derive(Debug)]
enum Index<D> {
    Direct(Keys<D>),
    /// All of them.
    Fanout,
    Topic(Topics<D>),
    /// By the number of the binding.
    Headers(BTreeMap<u64, HeadersPattern>),
    ConsistentHash(HashRing<D>),
    /// One of them after the other: the number of the last one. RabbitMQ draws.
    LocalRandom(Cell<u64>),
    /// One of them by the routing key.
    ModulusHash,
}

/// The destinations of each key of a direct exchange.
#[derive(Debug)]
struct Keys<D> {
    destinations: FixedMap<Name, Marked<BTreeSet<D>>>,
    /// How many messages were routed.
    walks: Cell<u64>,
}

/// A value that a message with several keys takes once.
#[derive(Debug)]
struct Marked<T> {
    value: T,
    /// The last walk that has taken it.
    taken: Cell<u64>,
}

impl<D: Copy + Ord> Keys<D> {
    fn insert(&mut self, key: &Name, destination: D) {
        let empty = || Marked { value: BTreeSet::new(), taken: Cell::new(0) };
        self.destinations.entry(key.clone()).or_insert_with(empty).value.insert(destination);
    }

    fn remove(&mut self, key: &Name, destination: D) {
        if let Some(destinations) = self.destinations.get_mut(key) {
            destinations.value.remove(&destination);
            if destinations.value.is_empty() {
                self.destinations.remove(key);
            }
        }
    }

    fn route<'a>(&self, keys: impl Iterator<Item = &'a str>, out: &mut Vec<D>) {
        let walk = self.walks.get() + 1;
        self.walks.set(walk);
        for key in keys {
            if let Some(destinations) = self.destinations.get(key)
                && destinations.taken.replace(walk) != walk
            {
                out.extend(&destinations.value);
            }
        }
    }
}

impl<D: Copy + Ord> Router<D> {
    /// Creates a router without bindings, with the arguments of the exchange.
    pub(crate) fn new(kind: ExchangeType, rules: &'static Rules, arguments: &Table) -> Self {
        let index = match kind {
            ExchangeType::Direct => {
                Index::Direct(Keys { destinations: FixedMap::default(), walks: Cell::new(0) })
            }
            ExchangeType::Fanout => Index::Fanout,
            ExchangeType::Topic => Index::Topic(Topics::default()),
            ExchangeType::Headers => Index::Headers(BTreeMap::new()),
            ExchangeType::ConsistentHash => Index::ConsistentHash(HashRing::new(arguments)),
            ExchangeType::LocalRandom => Index::LocalRandom(Cell::new(0)),
            ExchangeType::ModulusHash => Index::ModulusHash,
        };
        Self { rules, bindings: BTreeMap::new(), places: BTreeSet::new(), last: 0, index }
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

    /// Returns whether bindings may lead to classic queues only.
    pub(crate) fn wants_classic_queues(&self) -> bool {
        matches!(self.index, Index::LocalRandom(_))
    }

    /// Returns what a binding takes at most beside its key and its arguments.
    pub(crate) fn octets(&self, key: &str) -> u64 {
        match &self.index {
            Index::Topic(_) => topic::octets(key.as_bytes()),
            _ => 0,
        }
    }

    /// Adds a binding, and returns whether it is new.
    pub(crate) fn bind(&mut self, binding: Binding<D>) -> bool {
        let Binding { destination, key, arguments, .. } = &binding;
        if self.contains(*destination, key, arguments) {
            return false;
        }
        self.last += 1;
        match &mut self.index {
            Index::Direct(keys) => keys.insert(key, *destination),
            Index::Fanout | Index::LocalRandom(_) | Index::ModulusHash => {}
            Index::Topic(topics) => topics.insert(key.as_bytes(), *destination),
            Index::Headers(patterns) => _ = patterns.insert(self.last, HeadersPattern::new(arguments)),
            Index::ConsistentHash(ring) => ring.bind(key, *destination),
        }
        self.places.insert((*destination, key.clone(), digest(arguments), self.last));
        self.bindings.insert(self.last, binding);
        true
    }

    /// Returns whether there is a binding.
    pub(crate) fn contains(&self, destination: D, key: &str, arguments: &Table) -> bool {
        self.find(destination, key, arguments).is_some()
    }

    /// Returns the number of a binding. Only those with the same destination, key and digest are looked at.
    fn find(&self, destination: D, key: &str, arguments: &Table) -> Option<u64> {
        let place = |number| (destination, Name::from(key), digest(arguments), number);
        let mut alike = self.places.range(place(0)..=place(u64::MAX)).map(|(.., number)| *number);
        alike.find(|number| {
            self.bindings.get(number).is_some_and(|binding| same_arguments(&binding.arguments, arguments))
        })
    }

    /// Removes a binding, and returns whether it was there.
    pub(crate) fn unbind(&mut self, destination: D, key: &str, arguments: &Table) -> bool {
        let found = self.find(destination, key, arguments);
        if let Some(number) = found {
            self.remove(number);
        }
        found.is_some()
    }

    /// Removes all bindings to a destination, and returns how many there were.
    pub(crate) fn unbind_all(&mut self, destination: D) -> usize {
        let numbers: Vec<u64> = self.places_of(destination).map(|(.., number)| *number).collect();
        for number in &numbers {
            self.remove(*number);
        }
        numbers.len()
    }

    /// Returns whether there is a binding to a destination.
    pub(crate) fn leads_to(&self, destination: D) -> bool {
        self.places_of(destination).next().is_some()
    }

    fn places_of(&self, destination: D) -> impl Iterator<Item = &(D, Name, u64, u64)> {
        let first = (destination, Name::from(""), 0, 0);
        self.places.range(first..).take_while(move |(of, ..)| *of == destination)
    }

    fn remove(&mut self, number: u64) {
        let Some(Binding { destination, key, arguments, .. }) = self.bindings.remove(&number) else { return };
        let place = (destination, key, digest(&arguments), number);
        self.places.remove(&place);
        let (destination, key, ..) = place;
        let first = (destination, key.clone(), 0, 0);
        let is_last =
            self.places.range(first..).next().is_none_or(|(of, with, ..)| *of != destination || *with != key);
        match &mut self.index {
            // Bindings that differ in their arguments share an entry.
            Index::Direct(keys) if is_last => keys.remove(&key, destination),
            Index::Topic(topics) if is_last => _ = topics.remove(key.as_bytes(), &destination),
            Index::Direct(_) | Index::Topic(_) => {}
            Index::Fanout | Index::LocalRandom(_) | Index::ModulusHash => {}
            Index::Headers(patterns) => _ = patterns.remove(&number),
            Index::ConsistentHash(ring) => ring.unbind(destination),
        }
    }

    /// Returns the bindings in the order of their creation.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = &Binding<D>> {
        self.bindings.values()
    }

    /// Returns where the bindings lead, each destination once.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = D> {
        let mut last = None;
        let all = self.places.iter().map(|(destination, ..)| *destination);
        all.filter(move |destination| last.replace(*destination) != Some(*destination))
    }

    /// Returns whether there are no bindings.
    pub(crate) fn is_empty(&self) -> bool {
        self.bindings.is_empty()
    }

    /// Appends the destinations of a message that is routed with `keys`, of which the first one is its routing key:
    /// not more of them than there are bindings.
    ///
    /// What does not look at keys, and what chooses one destination, is asked once.
    pub(crate) fn route<'a>(
        &self,
        mut keys: impl Iterator<Item = &'a str>,
        message: &Message,
        out: &mut Vec<D>,
    ) {
        match &self.index {
            Index::Direct(by_key) => by_key.route(keys, out),
            Index::Fanout => out.extend(self.destinations()),
            Index::Topic(topics) => topics.each_match(keys, |destination| out.push(*destination)),
            Index::Headers(patterns) if patterns.is_empty() => {}
            Index::Headers(patterns) => {
                let headers = SortedHeaders::new(message.headers(), self.rules);
                let all = self.bindings.values().zip(patterns.values());
                let matching = all.filter(|(_, pattern)| pattern.matches(&headers));
                out.extend(matching.map(|(binding, _)| binding.destination));
            }
            Index::ConsistentHash(ring) => {
                out.extend(keys.next().and_then(|key| ring.choose(key, message)));
            }
            Index::LocalRandom(last) => {
                let next = self.bindings.range(last.get() + 1..).next();
                if let Some((number, binding)) = next.or_else(|| self.bindings.first_key_value()) {
                    last.set(*number);
                    out.push(binding.destination);
                }
            }
            Index::ModulusHash if !self.bindings.is_empty() => {
                let key = keys.next().unwrap_or_default();
                let at = erlang_hash::of_binary(key.as_bytes()) as usize % self.bindings.len();
                out.extend(self.bindings.values().nth(at).map(|binding| binding.destination));
            }
            Index::ModulusHash => {}
        }
    }
}
