//! The steps that declare the recorded topology again.

use std::collections::BTreeSet;

use super::{
    missing::EntityKey,
    redeclare_steps::RecoveryStep,
    topology::{BindingKey, QueueRecord, Recorded, Topology},
};
use crate::{
    error::Error,
    message::{BindExchange, BindQueue},
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

    /// Returns the steps that declare or bind one thing again, without what belongs to it.
    pub(super) fn steps_of(&self, key: &EntityKey) -> Vec<RecoveryStep> {
        match key {
            EntityKey::Exchange(name) => {
                let known = self.exchanges.get(name).into_iter();
                known.map(|known| RecoveryStep::Exchange(known.entity.clone())).collect()
            }
            EntityKey::Queue(name) => {
                let known = self.queues.get(name).into_iter();
                known.map(|known| RecoveryStep::of_queue(&known.entity.declare, &known.entity.name)).collect()
            }
            EntityKey::Binding(binding) => self.bindings_where(|key| key == binding),
            EntityKey::Consumer { .. } | EntityKey::Channel(_) | EntityKey::Prefetch(_) => Vec::new(),
        }
    }

    fn bindings_where(&self, which: impl Fn(&BindingKey) -> bool) -> Vec<RecoveryStep> {
        let those = self.bindings.iter().filter(|(key, _)| which(key));
        let mut steps: Vec<(u64, RecoveryStep)> = those
            .flat_map(|(key, tables)| tables.iter().map(move |table| (table.order, key.step(&table.entity))))
            .collect();
        steps.sort_by_key(|(order, _)| *order);
        steps.into_iter().map(|(_, step)| step).collect()
    }

    /// Returns the auto-delete exchanges that the broker may have deleted with this queue: those that it is
    /// bound to, and those that they are bound to.
    pub(super) fn auto_delete_sources(&self, queue: &str) -> Vec<&str> {
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
        names
    }

    /// Selects a queue, and the auto-delete exchanges that the broker may have deleted with it.
    pub(super) fn with_sources(&self, queue: &str) -> Selection {
        let mut selection = Selection::default();
        selection.add_queue(queue);
        self.auto_delete_sources(queue).into_iter().for_each(|name| selection.add_exchange(name));
        selection
    }

    /// Returns the steps that declare a selection again: what is selected, and all bindings of it that
    /// `is_in_place` allows.
    pub(super) fn selected_steps(
        &self,
        selection: &Selection,
        is_in_place: impl Fn(&BindingKey) -> bool,
    ) -> Vec<RecoveryStep> {
        let exchanges = selection.exchanges.iter().filter_map(|name| self.exchanges.get(name));
        let queues = selection.queues.iter().filter_map(|name| self.queues.get(name));
        let is_selected = |key: &BindingKey| selection.takes(key) && is_in_place(key);
        let mut steps: Vec<_> =
            in_order(exchanges).map(|known| RecoveryStep::Exchange(known.entity.clone())).collect();
        steps.extend(self.bindings_where(|key| !key.to_queue && is_selected(key)));
        steps.extend(in_order(queues).map(|known| {
            let QueueRecord { declare, name } = &known.entity;
            RecoveryStep::of_queue(declare, name)
        }));
        steps.extend(self.bindings_where(|key| key.to_queue && is_selected(key)));
        steps
    }
}

/// Exchanges, queues and bindings that are declared again. The bindings of selected exchanges and queues are
/// selected with them.
#[derive(Debug, Default)]
pub(super) struct Selection {
    exchanges: BTreeSet<String>,
    queues: BTreeSet<String>,
    bindings: BTreeSet<BindingKey>,
}

impl Selection {
    pub(super) fn add_exchange(&mut self, name: &str) {
        self.exchanges.insert(name.to_owned());
    }

    pub(super) fn add_queue(&mut self, name: &str) {
        self.queues.insert(name.to_owned());
    }

    pub(super) fn add_binding(&mut self, key: &BindingKey) {
        self.bindings.insert(key.clone());
    }

    /// Returns whether an exchange or a queue is selected.
    pub(super) fn has(&self, key: &EntityKey) -> bool {
        match key {
            EntityKey::Exchange(name) => self.exchanges.contains(name),
            EntityKey::Queue(name) => self.queues.contains(name),
            EntityKey::Binding(_)
            | EntityKey::Consumer { .. }
            | EntityKey::Channel(_)
            | EntityKey::Prefetch(_) => false,
        }
    }

    fn takes(&self, key: &BindingKey) -> bool {
        self.bindings.contains(key) || key.ends().iter().any(|end| self.has(end))
    }
}

impl BindingKey {
    pub(super) fn of_queue(bind: &BindQueue) -> Self {
        Self {
            to_queue: true,
            source: bind.exchange.clone(),
            destination: bind.queue.clone(),
            routing_key: bind.routing_key.clone(),
        }
    }

    pub(super) fn of_exchange(bind: &BindExchange) -> Self {
        Self {
            to_queue: false,
            source: bind.source.clone(),
            destination: bind.destination.clone(),
            routing_key: bind.routing_key.clone(),
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{} -> {} ({})", self.source, self.destination, self.routing_key)
    }

    /// Returns what is bound.
    pub(super) fn ends(&self) -> [EntityKey; 2] {
        let destination = self.destination.clone();
        let destination =
            if self.to_queue { EntityKey::Queue(destination) } else { EntityKey::Exchange(destination) };
        [EntityKey::Exchange(self.source.clone()), destination]
    }

    /// Returns the ends that the text of a refusal names, or both if it names none.
    pub(super) fn ends_named_by(&self, error: &Error) -> Vec<EntityKey> {
        let text = error.close_reason().map_or("", |reason| reason.text.as_str());
        let is_named = |end: &&EntityKey| text.contains(&format!("{} '{}' in vhost", end.kind(), end.name()));
        let ends = self.ends();
        let named: Vec<_> = ends.iter().filter(is_named).cloned().collect();
        if named.is_empty() { ends.into() } else { named }
    }

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
