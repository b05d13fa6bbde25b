//! The record of the topology.

use crate::{
    internal::{Change, Entity, Removal},
    message::{
        BindExchange, BindQueue, DeclareExchange, DeclareQueue, QueueName, UnbindExchange, UnbindQueue,
    },
    supervisor::{missing::EntityKey, topology::Topology, topology_steps::TopologyGroup},
};

impl Topology {
    fn record_entity(&mut self, entity: Entity) -> &mut Self {
        self.change(Change::Record(entity));
        self
    }

    fn remove(&mut self, removal: Removal) -> &mut Self {
        self.change(Change::Forget(removal));
        self
    }

    /// The names of what is declared, in this order.
    fn names(&self) -> Vec<String> {
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
    topology
        .record_entity(exchange("front"))
        .record_entity(exchange("back"))
        .record_entity(between("back", "front"));
    topology.record_entity(queue(DeclareQueue::new("jobs"))).record_entity(queue(DeclareQueue::new("log")));
    topology
        .record_entity(bind("jobs", "back"))
        .record_entity(bind("log", "back"))
        .record_entity(bind("jobs", "front"));
    topology
        .record_entity(consumer(1, "a", "jobs"))
        .record_entity(consumer(2, "a", "jobs"))
        .record_entity(consumer(2, "b", "log"));
    topology
}

/// TOP-46: a queue is removed with its bindings and consumers, and nothing else.
#[test]
fn a_queue_is_removed_with_its_bindings_and_consumers() {
    let mut topology = sample();
    assert_eq!(topology.counts(), [2, 2, 4, 3]);
    topology.remove(Removal::Queue("jobs".to_owned()));
    assert_eq!(topology.counts(), [2, 1, 2, 1]);
    assert_eq!(topology.names(), ["front", "back", "front -> back ()", "log", "back -> log ()"]);
    assert!(topology.has_consumer(2, "b") && !topology.has_consumer(2, "a"));
}

/// TOP-46: an exchange is removed with its bindings as a source and as a destination.
#[test]
fn an_exchange_is_removed_with_its_bindings_of_both_sides() {
    let mut topology = sample();
    topology.record_entity(exchange("end")).record_entity(between("end", "back"));
    topology.remove(Removal::Exchange("back".to_owned()));
    assert_eq!(topology.names(), ["front", "end", "jobs", "log", "front -> jobs ()"]);
    assert_eq!(topology.counts(), [2, 2, 1, 3]);
}

/// TOP-46: removing what is not recorded changes nothing.
#[test]
fn unknown_removals_change_nothing() {
    let mut topology = sample();
    let before = topology.names();
    topology.remove(Removal::Queue("none".to_owned())).remove(Removal::Exchange("none".to_owned()));
    topology.remove(Removal::QueueBinding(UnbindQueue::new("jobs", "back", "another key")));
    topology.remove(Removal::QueueBinding(UnbindQueue::new("jobs", "back", "").argument("x", 1)));
    topology.remove(Removal::ExchangeBinding(UnbindExchange::new("front", "back", "")));
    topology.remove(cancelled(3, "a")).remove(Removal::LostConsumer { channel: 1, tag: "b".into() });
    topology.forget_channel(9);
    topology.set_deleting(EntityKey::Queue("none".into()), false);
    assert_eq!((topology.names(), topology.counts()), (before, [2, 2, 4, 3]));
}

/// TOP-46: what several channels declare is recorded once, in its first order; steps that were taken stay as
/// they were.
#[test]
fn what_is_declared_again_is_recorded_once() {
    let mut topology = sample();
    let before = topology.names();
    topology
        .record_entity(bind("log", "back"))
        .record_entity(queue(DeclareQueue::new("jobs")))
        .record_entity(exchange("front"));
    topology.record_entity(between("back", "front")).record_entity(consumer(1, "a", "jobs"));
    assert_eq!((topology.names(), topology.counts()), (before, [2, 2, 4, 3]));
    let snapshot = topology.steps(TopologyGroup::Queues);
    topology.remove(Removal::Queue("jobs".to_owned())).remove(Removal::Exchange("front".to_owned()));
    assert_eq!((snapshot.len(), topology.steps(TopologyGroup::Queues).len()), (2, 1));
}

/// REC-16: an auto-delete queue is removed with its last consumer, but not with a lost one.
#[test]
fn an_auto_delete_queue_is_removed_with_its_last_consumer() {
    let mut topology = sample();
    topology
        .record_entity(queue(DeclareQueue::new("own").auto_delete(true)))
        .record_entity(bind("own", "back"));
    topology
        .record_entity(consumer(1, "zeroth", "own"))
        .record_entity(consumer(1, "first", "own"))
        .record_entity(consumer(2, "second", "own"));
    assert_eq!(topology.counts(), [2, 3, 5, 6]);
    topology.remove(cancelled(1, "zeroth"));
    topology.remove(cancelled(1, "first"));
    assert_eq!(topology.counts(), [2, 3, 5, 4]);
    topology.remove(Removal::LostConsumer { channel: 2, tag: "second".into() });
    assert_eq!(topology.counts(), [2, 3, 5, 3], "it is redeclared without it");
    topology.record_entity(consumer(2, "third", "own"));
    topology.forget_channel(2);
    assert_eq!(topology.counts(), [2, 2, 4, 1]);
}
