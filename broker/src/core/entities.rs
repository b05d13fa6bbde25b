//! How many queues, exchanges, bindings and consumers a broker may have, and what they may take.
//!
//! An entity that a client has declared holds a [`Counted`], which takes it off the counts when it is dropped with the
//! entity. What the broker adds itself, as the exchanges of a virtual host, is not counted.

use std::{
    mem::size_of,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actix_pika_actors::{Table, Text, Value};

use super::{Core, error::Failure};

/// How many entities clients may declare, in all virtual hosts together. One more closes its connection with 506.
///
/// RabbitMQ has no such limits. They keep a client that only declares from taking all memory.
///
/// # Examples
/// ```
/// # use actix_pika_broker::EntityLimits;
/// let limits = EntityLimits { queues: 10, ..EntityLimits::default() };
/// assert_eq!((limits.queues, limits.bindings), (10, 100_000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityLimits {
    /// The most queues. 100,000 unless set otherwise.
    pub queues: u64,
    /// The most exchanges beside those that each virtual host has. 100,000 unless set otherwise.
    pub exchanges: u64,
    /// The most bindings beside those of the default exchange. 100,000 unless set otherwise.
    pub bindings: u64,
    /// The most consumers. 100,000 unless set otherwise.
    pub consumers: u64,
    /// The most octets that names and arguments of all of them take, and the words of topic bindings. 256 MiB unless set
    /// otherwise.
    pub octets: u64,
}

impl Default for EntityLimits {
    fn default() -> Self {
        Self { queues: 100_000, exchanges: 100_000, bindings: 100_000, consumers: 100_000, octets: 256 << 20 }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entity {
    Queue,
    Exchange,
    Binding,
    Consumer,
}

impl Entity {
    fn limit(self, limits: &EntityLimits) -> (u64, &'static str) {
        match self {
            Self::Queue => (limits.queues, "queues"),
            Self::Exchange => (limits.exchanges, "exchanges"),
            Self::Binding => (limits.bindings, "bindings"),
            Self::Consumer => (limits.consumers, "consumers"),
        }
    }
}

/// The counts of the entities of a broker.
#[derive(Debug, Default)]
pub(crate) struct Entities {
    counts: [AtomicU64; 4],
    octets: AtomicU64,
}

impl Entities {
    pub(crate) fn count(&self, entity: Entity) -> u64 {
        self.counts[entity as usize].load(Ordering::Relaxed)
    }

    /// The octets that their names and arguments take.
    pub(crate) fn octets(&self) -> u64 {
        self.octets.load(Ordering::Relaxed)
    }
}

/// An entity among those that are counted.
#[derive(Debug)]
pub(crate) struct Counted {
    among: Arc<Entities>,
    entity: Entity,
    octets: u64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.among.counts[self.entity as usize].fetch_sub(1, Ordering::Relaxed);
        self.among.octets.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

impl Core {
    /// Counts one entity more with its name, or key, and its arguments.
    ///
    /// # Errors
    /// 506 if there would be too many, or if they would take too much.
    pub(super) fn count_entity(
        &self,
        entity: Entity,
        name: &str,
        arguments: &Table,
    ) -> Result<Counted, Failure> {
        self.count_more(entity, name, arguments, 0)
    }

    /// Counts one that takes more octets than those of its name and arguments.
    pub(super) fn count_more(
        &self,
        entity: Entity,
        name: &str,
        arguments: &Table,
        more: u64,
    ) -> Result<Counted, Failure> {
        let limits = &self.config.entity_limits;
        let (max, name_of_all) = entity.limit(limits);
        if self.entities.count(entity) >= max {
            let text = format!("the limit of {name_of_all} of this broker ({max}) is reached");
            return Err(Failure::connection(506, text));
        }
        let octets = name.len() as u64 + table_octets(arguments) + more;
        if self.entities.octets().saturating_add(octets) > limits.octets {
            let text = format!(
                "the limit of octets of names and arguments of this broker ({}) is reached",
                limits.octets
            );
            return Err(Failure::connection(506, text));
        }
        self.entities.counts[entity as usize].fetch_add(1, Ordering::Relaxed);
        self.entities.octets.fetch_add(octets, Ordering::Relaxed);
        Ok(Counted { among: self.entities.clone(), entity, octets })
    }
}

/// What a table takes in memory, which may be far more than on the wire.
fn table_octets(table: &Table) -> u64 {
    table
        .iter()
        .map(|(key, value)| (size_of::<(Text, Value)>() + key.as_bytes().len()) as u64 + value_octets(value))
        .sum()
}

fn value_octets(value: &Value) -> u64 {
    match value {
        Value::LongString(text) => text.as_bytes().len() as u64,
        Value::ByteArray(octets) => octets.len() as u64,
        Value::Array(values) => {
            values.iter().map(|value| size_of::<Value>() as u64 + value_octets(value)).sum()
        }
        Value::Table(table) => table_octets(table),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_octets_take_their_place() {
        let value = size_of::<Value>() as u64;
        let entry = size_of::<(Text, Value)>() as u64;
        let array = Value::Array(vec![Value::Void; 1000]);
        assert_eq!(value_octets(&array), 1000 * value);
        let inner = Table::from([("ab", "cde")]);
        assert_eq!(table_octets(&inner), entry + 5);
        assert_eq!(table_octets(&Table::new().with("f", Value::Table(inner))), entry + 1 + entry + 5);
    }
}
