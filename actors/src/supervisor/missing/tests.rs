//! The entries against a model of a broker that deletes the queues of a dead connection late.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{Missing, Scope};
use crate::{
    error::{CloseReason, Error},
    internal::{Change, Entity},
    message::{BindExchange, BindQueue, DeclareExchange, DeclareQueue, EntityKind, NextTry, QueueName},
    options::Recovery,
    supervisor::{
        redeclare::{Next, Redeclare},
        redeclare_steps::{RecoveryStep, StepResult},
        topology::{BindingKey, Topology},
    },
};

fn refusal(code: u16, text: &str) -> Error {
    Error::refused("queue.declare", CloseReason::new(code, text, 50, 10))
}

/// A broker with auto-delete exchanges, and exclusive queues of a connection that it still believes alive.
#[derive(Default)]
struct Broker {
    /// Whether they are auto-delete.
    exchanges: BTreeMap<String, bool>,
    /// Whether they belong to the dead connection.
    queues: BTreeMap<String, bool>,
    bindings: BTreeSet<BindingKey>,
    /// How many steps it has seen, and after which one it notices the dead connection.
    steps: usize,
    notices_after: usize,
    /// The text of a 404 does not name what is missing.
    is_terse: bool,
}

impl Broker {
    /// The state in which the lost connection leaves the broker.
    fn left_by(topology: &Topology) -> Self {
        let mut broker = Self::default();
        for (name, known) in &topology.exchanges {
            broker.exchanges.insert(name.clone(), known.entity.auto_delete);
        }
        broker.queues = topology.queues.keys().map(|name| (name.clone(), true)).collect();
        broker.bindings = topology.bindings.keys().cloned().collect();
        broker
    }

    fn notice_dead_connection(&mut self) {
        let dead: Vec<_> =
            self.queues.iter().filter(|(_, dead)| **dead).map(|(name, _)| name.clone()).collect();
        for name in dead {
            self.queues.remove(&name);
            self.unbind(&|key| key.to_queue && key.destination == name);
        }
    }

    /// Removes bindings, and the auto-delete exchanges that had no others.
    fn unbind(&mut self, which: &dyn Fn(&BindingKey) -> bool) {
        let gone: Vec<_> = self.bindings.iter().filter(|key| which(key)).cloned().collect();
        self.bindings.retain(|key| !which(key));
        for BindingKey { source, .. } in gone {
            let is_unused = self.bindings.iter().all(|key| key.source != source);
            if is_unused && self.exchanges.get(&source) == Some(&true) {
                self.exchanges.remove(&source);
                self.unbind(&|key| key.source == source || (!key.to_queue && key.destination == source));
            }
        }
    }

    fn not_found(&self, kind: EntityKind, name: &str) -> Error {
        match self.is_terse {
            true => refusal(404, "NOT_FOUND"),
            false => refusal(404, &format!("NOT_FOUND - no {kind} '{name}' in vhost '/'")),
        }
    }

    fn step(&mut self, step: &RecoveryStep) -> StepResult {
        if self.steps == self.notices_after {
            self.notice_dead_connection();
        }
        self.steps += 1;
        match step {
            RecoveryStep::Exchange(declare) => {
                self.exchanges.entry(declare.name.clone()).or_insert(declare.auto_delete);
            }
            RecoveryStep::Queue { name, .. } => {
                if self.queues.get(name.as_str()) == Some(&true) {
                    return Err(refusal(405, "RESOURCE_LOCKED"));
                }
                self.queues.insert(name.as_str().to_owned(), false);
            }
            RecoveryStep::BindQueue(bind) => self.bind(BindingKey::of_queue(bind))?,
            RecoveryStep::BindExchange(bind) => self.bind(BindingKey::of_exchange(bind))?,
            RecoveryStep::TrialConsume(_) | RecoveryStep::TrialCancel(_) => {}
        }
        Ok(None)
    }

    fn bind(&mut self, key: BindingKey) -> Result<(), Error> {
        if !self.exchanges.contains_key(&key.source) {
            return Err(self.not_found(EntityKind::Exchange, &key.source));
        }
        if key.to_queue && !self.queues.contains_key(&key.destination) {
            return Err(self.not_found(EntityKind::Queue, &key.destination));
        }
        if !key.to_queue && !self.exchanges.contains_key(&key.destination) {
            return Err(self.not_found(EntityKind::Exchange, &key.destination));
        }
        self.bindings.insert(key);
        Ok(())
    }
}

/// Builds a topology: exchanges are upper case, and bound from left to right.
fn topology(chains: &[&[&str]]) -> Topology {
    let mut topology = Topology::default();
    let is_exchange = |name: &str| name.starts_with(char::is_uppercase);
    for chain in chains {
        for name in *chain {
            topology.change(Change::Record(match is_exchange(name) {
                true => Entity::Exchange(DeclareExchange::fanout(*name).auto_delete(true)),
                false => Entity::Queue {
                    declare: DeclareQueue::new(*name).exclusive(true),
                    name: QueueName::new(*name),
                },
            }));
        }
        for pair in chain.windows(2) {
            let [source, destination] = pair else { continue };
            topology.change(Change::Record(match is_exchange(destination) {
                true => Entity::ExchangeBinding(BindExchange::new(*destination, *source, "")),
                false => Entity::QueueBinding(BindQueue::new(*destination, *source, "")),
            }));
        }
    }
    topology
}

/// Redeclares and retries until nothing is missing.
fn recover(topology: &Topology, broker: &mut Broker) {
    let mut now = Instant::now();
    let mut missing = Missing::new(Recovery::default());
    let mut redeclare = Redeclare::new(now);
    while let Next::Send(steps) = redeclare.next(topology, &mut missing, now) {
        for step in &steps {
            let result = broker.step(step);
            missing.step_done(step, result.map(|_| ()), topology, now);
        }
    }
    for _ in 0..50 {
        let Some(due) = missing.deadline(Scope::All) else { break };
        now = now.max(due);
        let due = missing.due(Scope::All, now);
        assert!(!due.is_empty());
        let run = missing.begin(due, topology, Scope::All, now);
        let steps = run.steps.clone();
        let results = steps.iter().map(|step| broker.step(step)).collect();
        missing.finish(run, steps, results, topology, now);
    }
    assert!(missing.list().is_empty(), "{:?}", missing.list());
}

/// Auto-delete exchanges go with the exclusive queues of the dead connection, whenever the broker notices it.
#[test]
fn every_chain_of_auto_delete_exchanges_is_whole_in_the_end() {
    let chains: [&[&[&str]]; 6] = [
        &[&["A", "a"]],
        &[&["A", "a"], &["A", "b"], &["A", "c"]],
        &[&["A", "B", "a"]],
        &[&["A", "B", "C", "a"], &["A", "b"]],
        &[&["A", "C", "a"], &["B", "C", "b"], &["B", "a"]],
        &[&["C", "B", "A", "a"], &["B", "c"], &["C", "a"]],
    ];
    for chains in chains {
        let topology = topology(chains);
        for is_terse in [false, true] {
            for notices_after in 0..30 {
                let mut broker = Broker { notices_after, is_terse, ..Broker::left_by(&topology) };
                recover(&topology, &mut broker);
                let at = format!("{chains:?} after {notices_after}");
                broker.notice_dead_connection();
                assert_eq!(broker.exchanges.len(), topology.exchanges.len(), "{at}");
                assert_eq!(broker.queues.len(), topology.queues.len(), "{at}");
                assert_eq!(broker.bindings.len(), topology.bindings.len(), "{at}");
            }
        }
    }
}

/// A binding is tried with what it binds, and not before.
#[test]
fn a_binding_of_a_missing_queue_waits_for_it() {
    let topology = topology(&[&["A", "a"]]);
    let mut missing = Missing::new(Recovery::default());
    let now = Instant::now();
    missing.entity_gone(EntityKind::Queue, "a", &refusal(404, "no queue"), &topology, now);
    let kinds: Vec<_> = missing.list().iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [EntityKind::Queue, EntityKind::Binding]);
    let due = missing.due(Scope::All, now);
    assert_eq!(due.len(), 1);
    let run = missing.begin(due, &topology, Scope::All, now);
    let names: Vec<_> = run.steps.iter().map(RecoveryStep::name).collect();
    assert_eq!(names, ["a", "A -> a ()"]);
    let steps = run.steps.clone();
    let refused = || Err(refusal(405, "locked"));
    missing.finish(run, steps, vec![refused(), refused()], &topology, now);
    let next: Vec<_> = missing.list().iter().map(|one| one.next_try).collect();
    assert!(matches!(&next[..], [NextTry::At(queue), NextTry::At(binding)] if queue == binding));
    assert_eq!(missing.take_announcements(), []);
    let due = missing.deadline(Scope::All).unwrap();
    let keys = missing.due(Scope::All, due);
    let run = missing.begin(keys, &topology, Scope::All, due);
    let steps = run.steps.clone();
    missing.finish(run, steps, vec![Ok(None), Ok(None)], &topology, due);
    assert!(missing.list().is_empty() && missing.deadline(Scope::All).is_none());
    assert_eq!(missing.take_announcements(), [(EntityKind::Queue, "a".to_owned())]);
}

/// RabbitMQ replies to a declare while it deletes the exchange. The binding then tells that it is gone again: no
/// channel hears that it is in place before it stays.
#[test]
fn an_exchange_that_goes_again_at_once_is_not_announced() {
    let topology = topology(&[&["A", "a"]]);
    let mut missing = Missing::new(Recovery::default());
    let now = Instant::now();
    let gone = || refusal(404, "NOT_FOUND - no exchange 'A' in vhost '/'");
    missing.entity_gone(EntityKind::Exchange, "A", &gone(), &topology, now);
    let keys = missing.due(Scope::All, now);
    let run = missing.begin(keys, &topology, Scope::All, now);
    let steps = run.steps.clone();
    let names: Vec<_> = steps.iter().map(RecoveryStep::name).collect();
    assert_eq!(names, ["A", "A -> a ()"]);
    missing.finish(run, steps, vec![Ok(None), Err(gone())], &topology, now);
    assert_eq!(missing.take_announcements(), []);
    let due = missing.deadline(Scope::All).unwrap();
    let keys = missing.due(Scope::All, due);
    let run = missing.begin(keys, &topology, Scope::All, due);
    let steps = run.steps.clone();
    assert_eq!(steps.len(), 2);
    missing.finish(run, steps, vec![Ok(None), Ok(None)], &topology, due);
    assert_eq!(missing.take_announcements(), [(EntityKind::Exchange, "A".to_owned())]);
}

/// One entity that is refused for long does not slow down another one.
#[test]
fn each_entity_has_a_back_off_of_its_own() {
    let topology = topology(&[&["a"], &["b"]]);
    let mut missing = Missing::new(Recovery::default());
    let mut now = Instant::now();
    missing.entity_gone(EntityKind::Queue, "a", &refusal(404, "no queue"), &topology, now);
    for _ in 0..8 {
        now = now.max(missing.deadline(Scope::All).unwrap());
        let due = missing.due(Scope::All, now);
        let run = missing.begin(due, &topology, Scope::All, now);
        let steps = run.steps.clone();
        missing.finish(run, steps, vec![Err(refusal(405, "locked"))], &topology, now);
    }
    missing.entity_gone(EntityKind::Queue, "b", &refusal(404, "no queue"), &topology, now);
    assert_eq!(missing.due(Scope::All, now), [super::EntityKey::Queue("b".into())]);
    assert!(missing.holds_up(&topology));
}

/// What is given up while it is tried makes no new entry.
#[test]
fn a_refusal_of_what_was_given_up_is_not_missing() {
    let mut topology = topology(&[&["A", "a"]]);
    let mut missing = Missing::new(Recovery::default());
    let now = Instant::now();
    missing.entity_gone(EntityKind::Queue, "a", &refusal(404, "no queue"), &topology, now);
    let due = missing.due(Scope::All, now);
    let run = missing.begin(due, &topology, Scope::All, now);
    topology.give_up(EntityKind::Queue, "a");
    missing.retain_recorded(&topology);
    let steps = run.steps.clone();
    missing.finish(run, steps, vec![Err(refusal(405, "locked"))], &topology, now);
    assert!(missing.list().is_empty() && missing.deadline(Scope::All).is_none());
}

/// Others declare the exchange, so that it is not recorded.
#[test]
fn the_bindings_of_an_exchange_that_is_not_recorded_are_missing_with_it() {
    let mut topology = Topology::default();
    topology
        .change(Change::Record(Entity::Queue { declare: DeclareQueue::new("a"), name: QueueName::new("a") }));
    topology.change(Change::Record(Entity::QueueBinding(BindQueue::new("a", "theirs", ""))));
    let mut missing = Missing::new(Recovery::default());
    let now = Instant::now();
    let error = refusal(404, "NOT_FOUND - no exchange 'theirs' in vhost '/'");
    missing.entity_gone(EntityKind::Exchange, "theirs", &error, &topology, now);
    let names: Vec<_> = missing.list().into_iter().map(|missing| missing.name).collect();
    assert_eq!(names, ["theirs -> a ()"]);
    for result in [Err(error), Ok(None)] {
        let due = missing.deadline(Scope::Topology).expect("a try");
        let keys = missing.due(Scope::Topology, due);
        let run = missing.begin(keys, &topology, Scope::Topology, due);
        assert_eq!(run.steps.iter().map(RecoveryStep::name).collect::<Vec<_>>(), ["theirs -> a ()"]);
        let steps = run.steps.clone();
        missing.finish(run, steps, vec![result], &topology, due);
    }
    assert!(missing.list().is_empty());
}
