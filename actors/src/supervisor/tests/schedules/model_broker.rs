//! A model of what a broker has, for random schedules: exchanges, queues and bindings. What is auto-delete
//! goes with its last consumer or binding.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::{CloseReason, Error, Result},
    internal::Entity,
    supervisor::{missing::EntityKey, redeclare_steps::RecoveryStep, topology::BindingKey},
};

#[derive(Debug, Default)]
pub(super) struct ModelBroker {
    /// Whether they are auto-delete.
    exchanges: BTreeMap<String, bool>,
    queues: BTreeMap<String, bool>,
    bindings: BTreeSet<BindingKey>,
    /// The queues with consumers.
    consumed: BTreeSet<String>,
    /// The queue of the trial consumer.
    tried: Option<String>,
}

impl ModelBroker {
    pub(super) fn has(&self, key: &EntityKey) -> bool {
        match key {
            EntityKey::Exchange(name) => self.exchanges.contains_key(name),
            EntityKey::Queue(name) => self.queues.contains_key(name),
            EntityKey::Binding(binding) => self.bindings.contains(binding),
            EntityKey::Consumer { .. } | EntityKey::Channel(_) | EntityKey::Prefetch(_) => true,
        }
    }

    /// Another client declares an exchange or a queue.
    pub(super) fn declared_by_others(&mut self, key: &EntityKey) {
        match key {
            EntityKey::Exchange(name) => drop(self.exchanges.entry(name.clone()).or_default()),
            EntityKey::Queue(name) => drop(self.queues.entry(name.clone()).or_default()),
            EntityKey::Binding(_)
            | EntityKey::Consumer { .. }
            | EntityKey::Channel(_)
            | EntityKey::Prefetch(_) => {}
        }
    }

    /// An exchange or a queue is deleted, and its bindings with it.
    pub(super) fn delete(&mut self, key: &EntityKey) {
        match key {
            EntityKey::Exchange(name) => self.exchanges.remove(name),
            EntityKey::Queue(name) => self.queues.remove(name),
            EntityKey::Binding(_)
            | EntityKey::Consumer { .. }
            | EntityKey::Channel(_)
            | EntityKey::Prefetch(_) => None,
        };
        let gone: Vec<_> =
            self.bindings.iter().filter(|binding| binding.ends().contains(key)).cloned().collect();
        self.bindings.retain(|binding| !gone.contains(binding));
        for BindingKey { source, .. } in gone {
            let is_bound = self.bindings.iter().any(|binding| binding.source == source);
            if !is_bound && self.exchanges.get(&source) == Some(&true) {
                self.delete(&EntityKey::Exchange(source));
            }
        }
    }

    /// These queues have consumers now.
    pub(super) fn set_consumed(&mut self, queues: BTreeSet<String>) {
        let before = std::mem::replace(&mut self.consumed, queues);
        before.iter().for_each(|queue| self.unconsumed(queue));
    }

    fn unconsumed(&mut self, queue: &str) {
        if !self.consumed.contains(queue) && self.queues.get(queue) == Some(&true) {
            self.delete(&EntityKey::Queue(queue.to_owned()));
        }
    }

    pub(super) fn consume(&self, queue: &str) -> Result<()> {
        match self.queues.contains_key(queue) {
            true => Ok(()),
            false => Err(not_found("basic.consume", &EntityKey::Queue(queue.to_owned()))),
        }
    }

    /// Does what a step asks for.
    pub(super) fn run(&mut self, step: &RecoveryStep) -> Result<()> {
        let key = EntityKey::of_step(step);
        match step {
            RecoveryStep::Exchange(declare) if !declare.passive => {
                let auto_delete = *self.exchanges.entry(declare.name.clone()).or_insert(declare.auto_delete);
                check_equivalent(step, auto_delete == declare.auto_delete)?;
            }
            RecoveryStep::Queue { declare, name } if !declare.passive => {
                let auto_delete = *self.queues.entry(name.as_str().to_owned()).or_insert(declare.auto_delete);
                check_equivalent(step, auto_delete == declare.auto_delete)?;
            }
            RecoveryStep::Exchange(_) | RecoveryStep::Queue { .. } => {
                if let Some(key) = key.filter(|key| !self.has(key)) {
                    return Err(not_found(step.method_name(), &key));
                }
            }
            RecoveryStep::BindQueue(_) | RecoveryStep::BindExchange(_) => {
                let Some(EntityKey::Binding(binding)) = key else { panic!("no binding: {step:?}") };
                if let Some(end) = binding.ends().into_iter().find(|end| !self.has(end)) {
                    return Err(not_found(step.method_name(), &end));
                }
                self.bindings.insert(binding);
            }
            RecoveryStep::TrialConsume(trial) => {
                self.consume(&trial.queue)?;
                self.tried = Some(trial.queue.clone());
            }
            RecoveryStep::TrialCancel(_) => {
                if let Some(queue) = self.tried.take() {
                    self.unconsumed(&queue);
                }
            }
        }
        Ok(())
    }

    /// Declares what a channel or the application declares.
    pub(super) fn declare(&mut self, entity: &Entity) -> Result<()> {
        match entity {
            Entity::Exchange(declare) => self.run(&RecoveryStep::Exchange(declare.clone())),
            Entity::Queue { declare, name } => self.run(&RecoveryStep::of_queue(declare, name)),
            Entity::QueueBinding(bind) => self.run(&RecoveryStep::BindQueue(bind.clone())),
            Entity::ExchangeBinding(bind) => self.run(&RecoveryStep::BindExchange(bind.clone())),
            Entity::Consumer { queue, .. } => self.consume(queue),
        }
    }
}

/// A broker refuses to declare again what exists with other arguments.
fn check_equivalent(step: &RecoveryStep, is_equivalent: bool) -> Result<()> {
    let text = format!("PRECONDITION_FAILED - inequivalent arg 'auto_delete' for {}", step.name());
    let refused = || Error::refused(step.method_name(), CloseReason::new(406, text, 50, 10));
    if is_equivalent { Ok(()) } else { Err(refused()) }
}

fn not_found(method: &'static str, key: &EntityKey) -> Error {
    let text = format!("NOT_FOUND - no {} '{}' in vhost '/'", key.kind(), key.name());
    Error::refused(method, CloseReason::new(404, text, 50, 20))
}
