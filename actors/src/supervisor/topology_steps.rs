//! The steps that declare the recorded topology again.

use super::{
    redeclare_steps::RecoveryStep,
    topology::{BindingKey, Recorded, Topology},
};
use crate::{
    message::{BindExchange, BindQueue, DeclareQueue, EntityKind, QueueName},
    wire::Table,
};

/// The parts of the topology that are declared one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopologyGroup {
    Exchanges,
    ExchangeBindings,
    Queues,
    QueueBindings,
}

impl Topology {
    /// Returns the steps that declare a group again, in the order of the first declarations.
    pub(super) fn steps(&self, group: TopologyGroup) -> Vec<RecoveryStep> {
        match group {
            TopologyGroup::Exchanges => in_order(self.exchanges.values())
                .map(|known| RecoveryStep::Exchange(known.entity.clone()))
                .collect(),
            TopologyGroup::ExchangeBindings => self.bindings_where(|key| !key.to_queue),
            TopologyGroup::Queues => in_order(self.queues.values())
                .map(|known| RecoveryStep::of_queue(&known.entity.declare, &known.entity.name))
                .collect(),
            TopologyGroup::QueueBindings => self.bindings_where(|key| key.to_queue),
        }
    }

    /// Returns the steps that declare an exchange or queue again, and then its bindings.
    pub(super) fn entity_steps(&self, kind: EntityKind, name: &str) -> Vec<RecoveryStep> {
        let declare = match kind {
            EntityKind::Exchange => {
                self.exchanges.get(name).map(|known| RecoveryStep::Exchange(known.entity.clone()))
            }
            EntityKind::Queue => self
                .queues
                .get(name)
                .map(|known| RecoveryStep::of_queue(&known.entity.declare, &known.entity.name)),
            _ => None,
        };
        let Some(declare) = declare else { return Vec::new() };
        let is_queue = kind == EntityKind::Queue;
        let of_it = |key: &BindingKey| {
            (key.to_queue == is_queue && key.destination == name) || (!is_queue && key.source == name)
        };
        let mut steps = vec![declare];
        steps.extend(self.bindings_where(of_it));
        steps
    }

    fn bindings_where(&self, which: impl Fn(&BindingKey) -> bool) -> Vec<RecoveryStep> {
        let those = self.bindings.iter().filter(|(key, _)| which(key));
        let mut steps: Vec<(u64, RecoveryStep)> = those
            .flat_map(|(key, tables)| tables.iter().map(move |table| (table.order, key.step(&table.entity))))
            .collect();
        steps.sort_by_key(|(order, _)| *order);
        steps.into_iter().map(|(_, step)| step).collect()
    }

    /// Returns how a queue was declared, and its bindings.
    pub(super) fn queue(&self, name: &str) -> Option<(&DeclareQueue, &QueueName, Vec<RecoveryStep>)> {
        let known = self.queues.get(name)?;
        let bindings = self.bindings_where(|key| key.to_queue && key.destination == name);
        Some((&known.entity.declare, &known.entity.name, bindings))
    }

    /// Returns the queue to declare once more before a binding of it that was refused. The broker may have
    /// deleted an auto-delete queue with the consumers of the dead connection after the redeclaration found
    /// it.
    pub(super) fn vanished_queue(&self, step: &RecoveryStep) -> Option<RecoveryStep> {
        let RecoveryStep::BindQueue(bind) = step else { return None };
        let known = self.queues.get(&bind.queue)?;
        let declare = &known.entity.declare;
        let is_auto_delete = declare.auto_delete && !declare.name.is_empty() && !declare.passive;
        is_auto_delete.then(|| RecoveryStep::of_queue(declare, &known.entity.name))
    }

    /// Returns the exchanges that a binding of this queue needs, and that the broker may have deleted with
    /// the queue: auto-delete exchanges, and those that they are bound to.
    pub(super) fn sources_of(&self, queue: &str) -> Vec<RecoveryStep> {
        let mut names: Vec<&str> = Vec::new();
        let to_it = self.bindings.keys().filter(|key| key.to_queue && key.destination == queue);
        let mut next: Vec<&str> = to_it.map(|key| key.source.as_str()).collect();
        while let Some(name) = next.pop() {
            let is_auto_delete = self.exchanges.get(name).is_some_and(|known| known.entity.auto_delete);
            if is_auto_delete && !names.contains(&name) {
                names.push(name);
                let to_it = self.bindings.keys().filter(|key| !key.to_queue && key.destination == name);
                next.extend(to_it.map(|key| key.source.as_str()));
            }
        }
        let those = names.iter().filter_map(|name| self.exchanges.get(*name));
        let exchanges = in_order(those).map(|known| RecoveryStep::Exchange(known.entity.clone()));
        let between = self.bindings_where(|key| !key.to_queue && names.contains(&key.destination.as_str()));
        exchanges.chain(between).collect()
    }
}

impl BindingKey {
    pub(super) fn step(&self, arguments: &Table) -> RecoveryStep {
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

fn in_order<'a, T: 'a>(all: impl Iterator<Item = &'a Recorded<T>>) -> impl Iterator<Item = &'a Recorded<T>> {
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|recorded| recorded.order);
    all.into_iter()
}
