//! What identifies something that is missing.

use crate::{
    internal::Entity,
    message::EntityKind,
    supervisor::{redeclare_steps::RecoveryStep, topology::BindingKey},
};

/// Sorted by kind, in the order in which kinds are declared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::supervisor) enum EntityKey {
    Exchange(String),
    Queue(String),
    /// All bindings of this key, whatever their arguments are.
    Binding(BindingKey),
    Consumer {
        channel: u16,
        tag: String,
    },
    Channel(u16),
    /// The one that the consumers of this channel share.
    Prefetch(u16),
}

impl EntityKey {
    pub(in crate::supervisor) fn consumer(channel: u16, tag: &str) -> Self {
        Self::Consumer { channel, tag: tag.to_owned() }
    }

    /// Returns the key of an exchange or a queue.
    pub(in crate::supervisor) fn declared(kind: EntityKind, name: &str) -> Option<Self> {
        match kind {
            EntityKind::Exchange => Some(Self::Exchange(name.to_owned())),
            EntityKind::Queue => Some(Self::Queue(name.to_owned())),
            EntityKind::Binding | EntityKind::Consumer | EntityKind::Channel | EntityKind::Prefetch => None,
        }
    }

    /// Returns the key of what a step declares; `None` for a trial consumer.
    pub(in crate::supervisor) fn of_step(step: &RecoveryStep) -> Option<Self> {
        match step {
            RecoveryStep::Exchange(declare) => Some(Self::Exchange(declare.name.clone())),
            RecoveryStep::Queue { name, .. } => Some(Self::Queue(name.as_str().to_owned())),
            RecoveryStep::BindQueue(bind) => Some(Self::Binding(BindingKey::of_queue(bind))),
            RecoveryStep::BindExchange(bind) => Some(Self::Binding(BindingKey::of_exchange(bind))),
            RecoveryStep::TrialConsume(_) | RecoveryStep::TrialCancel(_) => None,
        }
    }

    pub(in crate::supervisor) fn of_entity(entity: &Entity) -> Self {
        match entity {
            Entity::Exchange(declare) => Self::Exchange(declare.name.clone()),
            Entity::Queue { name, .. } => Self::Queue(name.as_str().to_owned()),
            Entity::QueueBinding(bind) => Self::Binding(BindingKey::of_queue(bind)),
            Entity::ExchangeBinding(bind) => Self::Binding(BindingKey::of_exchange(bind)),
            Entity::Consumer { channel, tag, .. } => Self::consumer(*channel, tag),
        }
    }

    pub(in crate::supervisor) fn kind(&self) -> EntityKind {
        match self {
            Self::Exchange(_) => EntityKind::Exchange,
            Self::Queue(_) => EntityKind::Queue,
            Self::Binding(_) => EntityKind::Binding,
            Self::Consumer { .. } => EntityKind::Consumer,
            Self::Channel(_) => EntityKind::Channel,
            Self::Prefetch(_) => EntityKind::Prefetch,
        }
    }

    /// Returns the name that applications see.
    pub(in crate::supervisor) fn name(&self) -> String {
        match self {
            Self::Exchange(name) | Self::Queue(name) => name.clone(),
            Self::Binding(key) => key.name(),
            Self::Consumer { tag, .. } => tag.clone(),
            Self::Channel(number) | Self::Prefetch(number) => number.to_string(),
        }
    }

    pub(in crate::supervisor) fn rename_queue(&mut self, old: &str, new: &str) {
        match self {
            Self::Queue(name) if name == old => new.clone_into(name),
            Self::Binding(binding) if binding.to_queue && binding.destination == old => {
                new.clone_into(&mut binding.destination);
            }
            _ => {}
        }
    }

    /// Returns whether it belongs to this channel.
    pub(in crate::supervisor) fn is_of_channel(&self, number: u16) -> bool {
        match self {
            Self::Consumer { channel, .. } | Self::Prefetch(channel) => *channel == number,
            _ => false,
        }
    }
}
