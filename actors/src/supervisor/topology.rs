//! What has been declared over the connection, to be declared again: exchanges, queues and bindings, once each, in the
//! order in which they came.
//!
//! What deletes itself is forgotten when its last user goes, along whole chains, as the broker does it.

use std::collections::{BTreeMap, HashMap};

use super::redeclare_steps::RecoveryStep;
use crate::{
    message::{
        BindExchange, BindQueue, DeclareExchange, DeclareQueue, EntityKind, QueueName,
        internal::{Change, Entity, Removal},
    },
    wire::Table,
};

#[derive(Debug, Default)]
pub(super) struct Topology {
    next: u64,
    exchanges: HashMap<String, Placed<DeclareExchange>>,
    queues: HashMap<String, Placed<RecordedQueue>>,
    bindings: BTreeMap<Ends, Vec<Placed<Table>>>,
    /// By channel and tag: the queue.
    consumers: HashMap<(u16, String), String>,
    /// Queues about to be deleted, and how many times.
    deleting: HashMap<String, usize>,
}

/// What is declared together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopologyGroup {
    Exchanges,
    ExchangeBindings,
    Queues,
    QueueBindings,
}

#[derive(Debug)]
struct Placed<T> {
    place: u64,
    what: T,
}

#[derive(Debug)]
struct RecordedQueue {
    declare: DeclareQueue,
    name: QueueName,
}

/// What a binding connects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    to_queue: bool,
    source: String,
    destination: String,
    routing_key: String,
}

impl Topology {
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Record(entity) => self.record(entity),
            Change::Forget(gone) => self.forget(gone),
        }
    }

    fn place<T>(&mut self, what: T) -> Placed<T> {
        self.next += 1;
        Placed { place: self.next, what }
    }

    fn record(&mut self, entity: Entity) {
        match entity {
            Entity::Exchange(declare) => {
                // To look at what is recorded does not make it one that is only looked at.
                if !declare.passive || !self.exchanges.contains_key(&declare.name) {
                    let name = declare.name.clone();
                    let placed = self.place(declare);
                    let place = self.exchanges.get(&name).map_or(placed.place, |known| known.place);
                    self.exchanges.insert(name, Placed { place, ..placed });
                }
            }
            Entity::Queue { declare, name } => {
                let key = name.as_str().to_owned();
                let known = self.queues.get(&key);
                if known.is_some_and(|known| declare.passive || known.what.declare.name.is_empty()) {
                    return;
                }
                let place = known.map(|known| known.place);
                let name = known.map_or(name, |known| known.what.name.clone());
                let placed = self.place(RecordedQueue { declare, name });
                let place = place.unwrap_or(placed.place);
                self.queues.insert(key, Placed { place, ..placed });
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
        let placed = self.place(arguments);
        let bound = self.bindings.entry(Ends { to_queue, source, destination, routing_key }).or_default();
        if bound.iter().all(|known| known.what != placed.what) {
            bound.push(placed);
        }
    }

    fn forget(&mut self, gone: Removal) {
        match gone {
            Removal::Exchange(name) => self.forget_exchange(&name),
            Removal::Queue(name) => {
                self.deleting(&name, false);
                self.forget_queue(&name);
            }
            Removal::QueueBinding(unbind) => {
                let ends = Ends {
                    to_queue: true,
                    source: unbind.exchange,
                    destination: unbind.queue,
                    routing_key: unbind.routing_key,
                };
                self.unbind(&ends, &unbind.arguments);
            }
            Removal::ExchangeBinding(unbind) => {
                let ends = Ends {
                    to_queue: false,
                    source: unbind.source,
                    destination: unbind.destination,
                    routing_key: unbind.routing_key,
                };
                self.unbind(&ends, &unbind.arguments);
            }
            Removal::Consumer { channel, tag } => self.forget_consumer(channel, &tag),
            Removal::LostConsumer { channel, tag } => {
                drop(self.consumers.remove(&(channel, tag.to_string())))
            }
        }
    }

    fn unbind(&mut self, ends: &Ends, arguments: &Table) {
        let Some(bound) = self.bindings.get_mut(ends) else { return };
        let before = bound.len();
        bound.retain(|known| known.what != *arguments);
        let changed = bound.len() < before;
        if bound.is_empty() {
            self.bindings.remove(ends);
        }
        if changed {
            self.binding_gone(&ends.source);
        }
    }

    fn forget_exchange(&mut self, name: &str) {
        self.exchanges.remove(name);
        let feeds = |ends: &Ends| !ends.to_queue && ends.destination == name;
        let sources: Vec<String> =
            self.bindings.keys().filter(|ends| feeds(ends)).map(|ends| ends.source.clone()).collect();
        self.bindings.retain(|ends, _| ends.source != name && !feeds(ends));
        sources.iter().for_each(|source| self.binding_gone(source));
    }

    fn forget_queue(&mut self, name: &str) {
        self.queues.remove(name);
        self.consumers.retain(|_, queue| queue != name);
        let to_it = |ends: &Ends| ends.to_queue && ends.destination == name;
        let sources: Vec<String> =
            self.bindings.keys().filter(|ends| to_it(ends)).map(|ends| ends.source.clone()).collect();
        self.bindings.retain(|ends, _| !to_it(ends));
        sources.iter().for_each(|source| self.binding_gone(source));
    }

    /// One binding less leads away from this exchange: it may have been its last one.
    fn binding_gone(&mut self, source: &str) {
        let deletes_itself = self.exchanges.get(source).is_some_and(|known| known.what.auto_delete);
        if deletes_itself && self.bindings.keys().all(|ends| ends.source != source) {
            self.forget_exchange(source);
        }
    }

    fn forget_consumer(&mut self, channel: u16, tag: &str) {
        let Some(queue) = self.consumers.remove(&(channel, tag.to_owned())) else { return };
        let deletes_itself = self.queues.get(&queue).is_some_and(|known| known.what.declare.auto_delete);
        if deletes_itself && self.consumers.values().all(|other| *other != queue) {
            self.forget_queue(&queue);
        }
    }

    /// The channel is closed, and its consumers with it.
    pub(super) fn forget_channel(&mut self, channel: u16) {
        let of_it = |(number, _): &&(u16, String)| *number == channel;
        let tags: Vec<String> = self.consumers.keys().filter(of_it).map(|(_, tag)| tag.clone()).collect();
        tags.iter().for_each(|tag| self.forget_consumer(channel, tag));
    }

    /// A queue is about to be deleted, or that was refused: meanwhile its consumers must not bring it back.
    pub(super) fn deleting(&mut self, queue: &str, is: bool) {
        if is {
            *self.deleting.entry(queue.to_owned()).or_default() += 1;
        } else if let Some(times) = self.deleting.get_mut(queue) {
            *times -= 1;
            if *times == 0 {
                self.deleting.remove(queue);
            }
        }
    }

    pub(super) fn is_deleting(&self, queue: &str) -> bool {
        self.deleting.contains_key(queue)
    }

    /// No delete outlives its connection.
    pub(super) fn forget_deletes(&mut self) {
        self.deleting.clear();
    }

    /// The broker has named a queue anew; tells the old name.
    pub(super) fn rename(&mut self, queue: &QueueName, new: &str) -> Option<String> {
        let old = queue.as_str().to_owned();
        if old == new {
            return None;
        }
        queue.rename(new);
        if let Some(record) = self.queues.remove(&old) {
            self.queues.insert(new.to_owned(), record);
        }
        for ends in self
            .bindings
            .keys()
            .filter(|ends| ends.to_queue && ends.destination == old)
            .cloned()
            .collect::<Vec<_>>()
        {
            if let Some(arguments) = self.bindings.remove(&ends) {
                self.bindings.insert(Ends { destination: new.to_owned(), ..ends }, arguments);
            }
        }
        self.consumers.values_mut().filter(|queue| **queue == old).for_each(|queue| new.clone_into(queue));
        Some(old)
    }

    /// Returns the steps that declare a group again, in the order of the first declarations.
    pub(super) fn steps(&self, group: TopologyGroup) -> Vec<RecoveryStep> {
        match group {
            TopologyGroup::Exchanges => in_order(self.exchanges.values())
                .map(|known| RecoveryStep::Exchange(known.what.clone()))
                .collect(),
            TopologyGroup::ExchangeBindings => self.bindings_where(|ends| !ends.to_queue),
            TopologyGroup::Queues => in_order(self.queues.values())
                .map(|known| RecoveryStep::of_queue(&known.what.declare, &known.what.name))
                .collect(),
            TopologyGroup::QueueBindings => self.bindings_where(|ends| ends.to_queue),
        }
    }

    fn bindings_where(&self, which: impl Fn(&Ends) -> bool) -> Vec<RecoveryStep> {
        let those = self.bindings.iter().filter(|(ends, _)| which(ends));
        let mut steps: Vec<(u64, RecoveryStep)> = those
            .flat_map(|(ends, tables)| tables.iter().map(move |table| (table.place, ends.step(&table.what))))
            .collect();
        steps.sort_by_key(|(place, _)| *place);
        steps.into_iter().map(|(_, step)| step).collect()
    }

    /// How a queue was declared, if it was, and its bindings.
    pub(super) fn queue(&self, name: &str) -> Option<(&DeclareQueue, &QueueName, Vec<RecoveryStep>)> {
        let known = self.queues.get(name)?;
        let bindings = self.bindings_where(|ends| ends.to_queue && ends.destination == name);
        Some((&known.what.declare, &known.what.name, bindings))
    }

    /// Returns whether the queue is recorded and was named by the broker.
    pub(super) fn is_server_named(&self, name: &str) -> bool {
        self.queues.get(name).is_some_and(|known| known.what.declare.name.is_empty())
    }

    /// The queue that is to be declared once more before a binding of it that was refused: one that deletes itself may
    /// have been the dead connection's when it was declared, and have gone with that.
    pub(super) fn vanished_queue(&self, step: &RecoveryStep) -> Option<RecoveryStep> {
        let RecoveryStep::BindQueue(bind) = step else { return None };
        let known = self.queues.get(&bind.queue)?;
        let declare = &known.what.declare;
        let deletes_itself = declare.auto_delete && !declare.name.is_empty() && !declare.passive;
        deletes_itself.then(|| RecoveryStep::of_queue(declare, &known.what.name))
    }

    /// What must be there before this queue can be bound, and may have gone with it: exchanges that delete themselves,
    /// and what feeds them.
    pub(super) fn sources_of(&self, queue: &str) -> Vec<RecoveryStep> {
        let mut names: Vec<&str> = Vec::new();
        let to_it = self.bindings.keys().filter(|ends| ends.to_queue && ends.destination == queue);
        let mut next: Vec<&str> = to_it.map(|ends| ends.source.as_str()).collect();
        while let Some(name) = next.pop() {
            let deletes_itself = self.exchanges.get(name).is_some_and(|known| known.what.auto_delete);
            if deletes_itself && !names.contains(&name) {
                names.push(name);
                let to_it = self.bindings.keys().filter(|ends| !ends.to_queue && ends.destination == name);
                next.extend(to_it.map(|ends| ends.source.as_str()));
            }
        }
        let those = names.iter().filter_map(|name| self.exchanges.get(*name));
        let exchanges = in_order(those).map(|known| RecoveryStep::Exchange(known.what.clone()));
        let between =
            self.bindings_where(|ends| !ends.to_queue && names.contains(&ends.destination.as_str()));
        exchanges.chain(between).collect()
    }

    /// Tells whether something of this kind and name is recorded.
    pub(super) fn knows(&self, kind: EntityKind, name: &str) -> bool {
        match kind {
            EntityKind::Exchange => self.exchanges.contains_key(name),
            EntityKind::Queue => self.queues.contains_key(name),
            EntityKind::Binding => self
                .bindings
                .iter()
                .any(|(ends, tables)| tables.iter().any(|table| ends.step(&table.what).name() == name)),
            EntityKind::Consumer => self.consumers.keys().any(|(_, tag)| tag == name),
            EntityKind::Channel => true,
        }
    }

    pub(super) fn has_consumer(&self, channel: u16, tag: &str) -> bool {
        self.consumers.contains_key(&(channel, tag.to_owned()))
    }

    /// Counts exchanges, queues, bindings and consumers.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn counts(&self) -> [usize; 4] {
        let bindings = self.bindings.values().map(Vec::len).sum();
        [self.exchanges.len(), self.queues.len(), bindings, self.consumers.len()]
    }
}

impl Ends {
    fn step(&self, arguments: &Table) -> RecoveryStep {
        let (source, routing_key) = (self.source.clone(), self.routing_key.clone());
        if self.to_queue {
            let mut bind = BindQueue::new(self.destination.clone(), source, routing_key);
            bind.arguments = arguments.clone();
            RecoveryStep::BindQueue(bind)
        } else {
            let mut bind = BindExchange::new(self.destination.clone(), source, routing_key);
            bind.arguments = arguments.clone();
            RecoveryStep::BindExchange(bind)
        }
    }
}

fn in_order<'a, T: 'a>(all: impl Iterator<Item = &'a Placed<T>>) -> impl Iterator<Item = &'a Placed<T>> {
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|placed| placed.place);
    all.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{UnbindExchange, UnbindQueue};

    impl Topology {
        fn has(&mut self, entity: Entity) -> &mut Self {
            self.change(Change::Record(entity));
            self
        }

        fn lost(&mut self, gone: Removal) -> &mut Self {
            self.change(Change::Forget(gone));
            self
        }

        /// What is declared and bound, in this order.
        fn said(&self) -> Vec<String> {
            let groups = [
                TopologyGroup::Exchanges,
                TopologyGroup::ExchangeBindings,
                TopologyGroup::Queues,
                TopologyGroup::QueueBindings,
            ];
            groups.into_iter().flat_map(|group| self.steps(group)).map(|step| step.name()).collect()
        }
    }

    fn exchange(name: &str) -> Entity {
        Entity::Exchange(DeclareExchange::fanout(name))
    }

    fn queue(declare: DeclareQueue) -> Entity {
        let name = QueueName::new(declare.name.clone());
        Entity::Queue { declare, name }
    }

    fn bind(queue: &str, exchange: &str) -> Entity {
        Entity::QueueBinding(BindQueue::new(queue, exchange, ""))
    }

    fn between(destination: &str, source: &str) -> Entity {
        Entity::ExchangeBinding(BindExchange::new(destination, source, ""))
    }

    fn consumer(channel: u16, tag: &str, queue: &str) -> Entity {
        Entity::Consumer { channel, tag: tag.into(), queue: queue.to_owned() }
    }

    fn cancelled(channel: u16, tag: &str) -> Removal {
        Removal::Consumer { channel, tag: tag.into() }
    }

    fn sample() -> Topology {
        let mut topology = Topology::default();
        topology.has(exchange("front")).has(exchange("back")).has(between("back", "front"));
        topology.has(queue(DeclareQueue::new("jobs"))).has(queue(DeclareQueue::new("log")));
        topology.has(bind("jobs", "back")).has(bind("log", "back")).has(bind("jobs", "front"));
        topology.has(consumer(1, "a", "jobs")).has(consumer(2, "a", "jobs")).has(consumer(2, "b", "log"));
        topology
    }

    /// TOP-46: a queue takes its bindings and consumers along, and nothing else.
    #[test]
    fn a_queue_takes_its_bindings_and_consumers_along() {
        let mut topology = sample();
        assert_eq!(topology.counts(), [2, 2, 4, 3]);
        topology.lost(Removal::Queue("jobs".to_owned()));
        assert_eq!(topology.counts(), [2, 1, 2, 1]);
        assert_eq!(topology.said(), ["front", "back", "front -> back ()", "log", "back -> log ()"]);
        assert!(topology.has_consumer(2, "b") && !topology.has_consumer(2, "a"));
    }

    /// TOP-46: an exchange takes the bindings of both of its sides along.
    #[test]
    fn an_exchange_takes_the_bindings_of_both_sides_along() {
        let mut topology = sample();
        topology.has(exchange("end")).has(between("end", "back"));
        topology.lost(Removal::Exchange("back".to_owned()));
        assert_eq!(topology.said(), ["front", "end", "jobs", "log", "front -> jobs ()"]);
        assert_eq!(topology.counts(), [2, 2, 1, 3]);
    }

    /// TOP-46: to remove what is not known changes nothing.
    #[test]
    fn unknown_removals_change_nothing() {
        let mut topology = sample();
        let before = topology.said();
        topology.lost(Removal::Queue("none".to_owned())).lost(Removal::Exchange("none".to_owned()));
        topology.lost(Removal::QueueBinding(UnbindQueue::new("jobs", "back", "another key")));
        topology.lost(Removal::QueueBinding(UnbindQueue::new("jobs", "back", "").argument("x", 1)));
        topology.lost(Removal::ExchangeBinding(UnbindExchange::new("front", "back", "")));
        topology.lost(cancelled(3, "a")).lost(Removal::LostConsumer { channel: 1, tag: "b".into() });
        topology.forget_channel(9);
        topology.deleting("none", false);
        assert_eq!((topology.said(), topology.counts()), (before, [2, 2, 4, 3]));
    }

    /// TOP-46: what several channels declare is there once, in its first place; what was taken from it stays as it was.
    #[test]
    fn what_is_said_again_is_there_once() {
        let mut topology = sample();
        let before = topology.said();
        topology.has(bind("log", "back")).has(queue(DeclareQueue::new("jobs"))).has(exchange("front"));
        topology.has(between("back", "front")).has(consumer(1, "a", "jobs"));
        assert_eq!((topology.said(), topology.counts()), (before, [2, 2, 4, 3]));
        let snapshot = topology.steps(TopologyGroup::Queues);
        topology.lost(Removal::Queue("jobs".to_owned())).lost(Removal::Exchange("front".to_owned()));
        assert_eq!((snapshot.len(), topology.steps(TopologyGroup::Queues).len()), (2, 1));
    }

    /// REC-16: a queue that deletes itself goes with its last consumer, and not with one that was only lost.
    #[test]
    fn a_queue_goes_with_its_last_consumer() {
        let mut topology = sample();
        topology.has(queue(DeclareQueue::new("own").auto_delete(true))).has(bind("own", "back"));
        topology
            .has(consumer(1, "zeroth", "own"))
            .has(consumer(1, "first", "own"))
            .has(consumer(2, "second", "own"));
        assert_eq!(topology.counts(), [2, 3, 5, 6]);
        topology.lost(cancelled(1, "zeroth"));
        topology.lost(cancelled(1, "first"));
        assert_eq!(topology.counts(), [2, 3, 5, 4]);
        topology.lost(Removal::LostConsumer { channel: 2, tag: "second".into() });
        assert_eq!(topology.counts(), [2, 3, 5, 3], "it comes back without it");
        topology.has(consumer(2, "third", "own"));
        topology.forget_channel(2);
        assert_eq!(topology.counts(), [2, 2, 4, 1]);
    }
}
