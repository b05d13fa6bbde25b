//! The record of the topology that was declared over the connection: exchanges, queues, bindings and
//! consumers, once each, with the order of their first declarations.
//!
//! An auto-delete queue or exchange is forgotten with its last user, along whole chains, as the broker
//! deletes it. The steps that declare the record again are in `topology_steps.rs`.

use std::collections::{BTreeMap, HashMap};

use super::missing::EntityKey;
use crate::{
    error::Error,
    internal::{Change, Entity, Removal},
    message::{DeclareExchange, DeclareQueue, EntityKind, QueueName},
    wire::Table,
};

#[derive(Debug, Default)]
pub(super) struct Topology {
    next_order: u64,
    pub(super) exchanges: HashMap<String, Recorded<DeclareExchange>>,
    pub(super) queues: HashMap<String, Recorded<QueueRecord>>,
    pub(super) bindings: BTreeMap<BindingKey, Vec<Recorded<Table>>>,
    /// The queue, by channel and consumer tag.
    consumers: HashMap<(u16, String), String>,
    /// Exchanges and queues whose deletes are unanswered.
    deleting: BTreeMap<EntityKey, Deleting>,
}

#[derive(Debug, Default)]
struct Deleting {
    times: usize,
    /// The broker has named it as gone meanwhile.
    gone: Option<Error>,
}

#[derive(Debug)]
pub(super) struct Recorded<T> {
    /// Counts first declarations.
    pub(super) order: u64,
    pub(super) entity: T,
}

#[derive(Debug)]
pub(super) struct QueueRecord {
    pub(super) declare: DeclareQueue,
    pub(super) name: QueueName,
}

/// What identifies a binding, besides its arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BindingKey {
    pub(super) to_queue: bool,
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) routing_key: String,
}

impl Topology {
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Record(entity) => self.record(entity),
            Change::Forget(removal) => self.forget(removal),
        }
    }

    fn recorded<T>(&mut self, entity: T) -> Recorded<T> {
        self.next_order += 1;
        Recorded { order: self.next_order, entity }
    }

    fn record(&mut self, entity: Entity) {
        match entity {
            Entity::Exchange(declare) => {
                // A passive declare must not replace a recorded one.
                if !declare.passive || !self.exchanges.contains_key(&declare.name) {
                    let name = declare.name.clone();
                    let recorded = self.recorded(declare);
                    let order = self.exchanges.get(&name).map_or(recorded.order, |known| known.order);
                    self.exchanges.insert(name, Recorded { order, ..recorded });
                }
            }
            Entity::Queue { declare, name } => {
                let key = name.as_str().to_owned();
                let known = self.queues.get(&key);
                if known.is_some_and(|known| declare.passive || known.entity.declare.name.is_empty()) {
                    return;
                }
                let order = known.map(|known| known.order);
                let name = known.map_or(name, |known| known.entity.name.clone());
                let recorded = self.recorded(QueueRecord { declare, name });
                let order = order.unwrap_or(recorded.order);
                self.queues.insert(key, Recorded { order, ..recorded });
            }
            Entity::QueueBinding(bind) => {
                self.bind(true, bind.exchange, bind.queue, bind.routing_key, bind.arguments);
            }
            Entity::ExchangeBinding(bind) => {
                self.bind(false, bind.source, bind.destination, bind.routing_key, bind.arguments);
            }
            Entity::Consumer { channel, tag, queue } => {
                self.consumers.insert((channel, tag.to_string()), queue);
            }
        }
    }

    fn bind(
        &mut self,
        to_queue: bool,
        source: String,
        destination: String,
        routing_key: String,
        arguments: Table,
    ) {
        let recorded = self.recorded(arguments);
        let bound =
            self.bindings.entry(BindingKey { to_queue, source, destination, routing_key }).or_default();
        if bound.iter().all(|known| known.entity != recorded.entity) {
            bound.push(recorded);
        }
    }

    fn forget(&mut self, removal: Removal) {
        match removal {
            Removal::Exchange(name) => {
                self.set_deleting(EntityKey::Exchange(name.clone()), false);
                self.forget_exchange(&name);
            }
            Removal::Queue(name) => {
                self.set_deleting(EntityKey::Queue(name.clone()), false);
                self.forget_queue(&name);
            }
            Removal::QueueBinding(unbind) => {
                let key = BindingKey {
                    to_queue: true,
                    source: unbind.exchange,
                    destination: unbind.queue,
                    routing_key: unbind.routing_key,
                };
                self.unbind(&key, &unbind.arguments);
            }
            Removal::ExchangeBinding(unbind) => {
                let key = BindingKey {
                    to_queue: false,
                    source: unbind.source,
                    destination: unbind.destination,
                    routing_key: unbind.routing_key,
                };
                self.unbind(&key, &unbind.arguments);
            }
            Removal::Consumer { channel, tag } => self.forget_consumer(channel, &tag),
            Removal::LostConsumer { channel, tag } => {
                self.consumers.remove(&(channel, tag.to_string()));
            }
        }
    }

    /// Removes everything of this kind and name. Returns whether there was something.
    pub(super) fn give_up(&mut self, kind: EntityKind, name: &str) -> bool {
        let before = self.counts();
        match kind {
            EntityKind::Exchange => self.forget_exchange(name),
            EntityKind::Queue => self.forget_queue(name),
            EntityKind::Binding => {
                let named: Vec<_> = self.bindings.keys().filter(|key| key.name() == name).cloned().collect();
                for key in named {
                    self.bindings.remove(&key);
                    self.binding_removed(&key.source);
                }
            }
            EntityKind::Consumer => {
                for (channel, tag) in self.consumers_named(name) {
                    self.forget_consumer(channel, &tag);
                }
            }
            EntityKind::Channel | EntityKind::Prefetch => {}
        }
        self.counts() != before
    }

    /// Returns channel and tag of the consumers of a queue.
    pub(super) fn consumers_of(&self, queue: &str) -> Vec<(u16, String)> {
        self.consumers.iter().filter(|(_, of)| *of == queue).map(|(key, _)| key.clone()).collect()
    }

    /// Returns channel and tag of the consumers with a tag.
    pub(super) fn consumers_named(&self, tag: &str) -> Vec<(u16, String)> {
        self.consumers.keys().filter(|(_, other)| other == tag).cloned().collect()
    }

    fn unbind(&mut self, key: &BindingKey, arguments: &Table) {
        let Some(bound) = self.bindings.get_mut(key) else { return };
        let before = bound.len();
        bound.retain(|known| known.entity != *arguments);
        let changed = bound.len() < before;
        if bound.is_empty() {
            self.bindings.remove(key);
        }
        if changed {
            self.binding_removed(&key.source);
        }
    }

    fn forget_exchange(&mut self, name: &str) {
        self.exchanges.remove(name);
        let feeds = |key: &BindingKey| !key.to_queue && key.destination == name;
        let sources: Vec<String> =
            self.bindings.keys().filter(|key| feeds(key)).map(|key| key.source.clone()).collect();
        self.bindings.retain(|key, _| key.source != name && !feeds(key));
        sources.iter().for_each(|source| self.binding_removed(source));
    }

    fn forget_queue(&mut self, name: &str) {
        self.queues.remove(name);
        self.consumers.retain(|_, queue| queue != name);
        let to_it = |key: &BindingKey| key.to_queue && key.destination == name;
        let sources: Vec<String> =
            self.bindings.keys().filter(|key| to_it(key)).map(|key| key.source.clone()).collect();
        self.bindings.retain(|key, _| !to_it(key));
        sources.iter().for_each(|source| self.binding_removed(source));
    }

    /// Forgets an auto-delete exchange with the last binding that it was the source of.
    fn binding_removed(&mut self, source: &str) {
        let is_auto_delete = self.exchanges.get(source).is_some_and(|known| known.entity.auto_delete);
        if is_auto_delete && self.bindings.keys().all(|key| key.source != source) {
            self.forget_exchange(source);
        }
    }

    fn forget_consumer(&mut self, channel: u16, tag: &str) {
        let Some(queue) = self.consumers.remove(&(channel, tag.to_owned())) else { return };
        let is_auto_delete = self.queues.get(&queue).is_some_and(|known| known.entity.declare.auto_delete);
        if is_auto_delete && self.consumers.values().all(|other| *other != queue) {
            self.forget_queue(&queue);
        }
    }

    /// A closed channel has no consumers.
    pub(super) fn forget_channel(&mut self, channel: u16) {
        let of_it = |(number, _): &&(u16, String)| *number == channel;
        let tags: Vec<String> = self.consumers.keys().filter(of_it).map(|(_, tag)| tag.clone()).collect();
        tags.iter().for_each(|tag| self.forget_consumer(channel, tag));
    }

    /// An exchange or queue is about to be deleted, or that was refused. It must not be declared again
    /// meanwhile because somebody finds that it is gone. Returns with the last refusal why it is gone, if it is.
    pub(super) fn set_deleting(&mut self, key: EntityKey, is_deleting: bool) -> Option<Error> {
        if is_deleting {
            self.deleting.entry(key).or_default().times += 1;
            return None;
        }
        let deleting = self.deleting.get_mut(&key)?;
        deleting.times -= 1;
        match deleting.times {
            0 => self.deleting.remove(&key)?.gone,
            _ => None,
        }
    }

    /// The broker has named something as gone, which may be being deleted.
    pub(super) fn gone_while_deleting(&mut self, key: &EntityKey, error: &Error) {
        if let Some(deleting) = self.deleting.get_mut(key) {
            deleting.gone = Some(error.clone());
        }
    }

    pub(super) fn is_deleting(&self, key: &EntityKey) -> bool {
        self.deleting.contains_key(key)
    }

    /// Deletes to which the broker has not replied end with the connection.
    pub(super) fn forget_deletes(&mut self) {
        self.deleting.clear();
    }

    /// Takes the new name of a queue that the broker names; returns the old one, unless it is the same.
    pub(super) fn rename(&mut self, queue: &QueueName, new: &str) -> Option<String> {
        let old = queue.as_str().to_owned();
        if old == new {
            return None;
        }
        queue.rename(new);
        if let Some(record) = self.queues.remove(&old) {
            self.queues.insert(new.to_owned(), record);
        }
        for key in self
            .bindings
            .keys()
            .filter(|key| key.to_queue && key.destination == old)
            .cloned()
            .collect::<Vec<_>>()
        {
            if let Some(arguments) = self.bindings.remove(&key) {
                self.bindings.insert(BindingKey { destination: new.to_owned(), ..key }, arguments);
            }
        }
        self.consumers.values_mut().filter(|queue| **queue == old).for_each(|queue| new.clone_into(queue));
        Some(old)
    }

    /// Returns whether the queue is recorded and was named by the broker.
    pub(super) fn is_server_named(&self, name: &str) -> bool {
        self.queues.get(name).is_some_and(|known| known.entity.declare.name.is_empty())
    }

    pub(super) fn is_auto_delete(&self, queue: &str) -> bool {
        self.queues.get(queue).is_some_and(|known| known.entity.declare.auto_delete)
    }

    /// Returns whether a queue cannot be tried on another connection: it is exclusive, or the broker would
    /// give it another name. A trial consumer (`consumes`) would delete an auto-delete queue.
    pub(super) fn is_bound_to_connection(&self, queue: &str, consumes: bool) -> bool {
        self.queues.get(queue).is_some_and(|known| {
            let declare = &known.entity.declare;
            declare.exclusive || declare.name.is_empty() || (consumes && declare.auto_delete)
        })
    }

    /// Returns whether an exchange or queue was declared passively: it is awaited, and never made.
    pub(super) fn is_passive(&self, key: &EntityKey) -> bool {
        match key {
            EntityKey::Exchange(name) => self.exchanges.get(name).is_some_and(|known| known.entity.passive),
            EntityKey::Queue(name) => self.queues.get(name).is_some_and(|known| known.entity.declare.passive),
            EntityKey::Binding(_)
            | EntityKey::Consumer { .. }
            | EntityKey::Channel(_)
            | EntityKey::Prefetch(_) => false,
        }
    }

    /// Returns whether it is recorded. Channels are not.
    pub(super) fn has(&self, key: &EntityKey) -> bool {
        match key {
            EntityKey::Exchange(name) => self.exchanges.contains_key(name),
            EntityKey::Queue(name) => self.queues.contains_key(name),
            EntityKey::Binding(key) => self.bindings.contains_key(key),
            EntityKey::Consumer { channel, tag } => self.has_consumer(*channel, tag),
            EntityKey::Channel(_) | EntityKey::Prefetch(_) => true,
        }
    }

    /// Returns the bindings of an exchange or a queue.
    pub(super) fn bindings_of(&self, end: &EntityKey) -> Vec<BindingKey> {
        self.bindings.keys().filter(|key| key.ends().contains(end)).cloned().collect()
    }

    pub(super) fn has_consumer(&self, channel: u16, tag: &str) -> bool {
        self.consumers.contains_key(&(channel, tag.to_owned()))
    }

    /// Counts exchanges, queues, bindings and consumers.
    pub(super) fn counts(&self) -> [usize; 4] {
        let bindings = self.bindings.values().map(Vec::len).sum();
        [self.exchanges.len(), self.queues.len(), bindings, self.consumers.len()]
    }
}
