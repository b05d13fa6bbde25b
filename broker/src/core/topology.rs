//! Virtual hosts and what is in them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use actix_pika_actors::Table;
use slotmap::SlotMap;

use super::{
    arguments::CheckedQueue,
    entities::Counted,
    keys::{ConnectionId, ConsumerKey, ExchangeKey, QueueKey, VhostKey},
    message::Name,
    policies::{Applied, Policies},
    queue::{Dead, Queue, Roster},
    routing::{self, Binding, Router},
    time::Time,
};

/// Where a binding leads.
pub(crate) type Destination = routing::Destination<ExchangeKey, QueueKey>;

/// A virtual host.
#[derive(Debug)]
pub(crate) struct VirtualHost {
    pub(crate) name: Name,
    pub(crate) exchanges: BTreeMap<Name, ExchangeKey>,
    pub(crate) queues: BTreeMap<Name, QueueKey>,
    pub(crate) max_connections: Option<u32>,
    pub(crate) max_queues: Option<u32>,
    /// The type of queues that name none.
    pub(crate) default_queue_type: Option<Name>,
    pub(crate) policies: Policies,
}

/// An exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) name: Name,
    pub(crate) vhost: VhostKey,
    /// The type as it was declared.
    pub(crate) kind: Name,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Table,
    /// The alternate exchange of the arguments.
    pub(crate) declared_alternate: Option<Name>,
    /// That, or the one of a policy.
    pub(crate) alternate: Option<Name>,
    pub(crate) router: Router<Destination>,
    /// Holds messages back until their `x-delay` is over.
    pub(crate) delays: bool,
    /// Topic permissions apply.
    pub(crate) is_topic: bool,
    /// None for those that each virtual host has.
    pub(crate) _counted: Option<Counted>,
}

/// A queue.
#[derive(Debug)]
pub(crate) struct QueueRecord {
    pub(crate) name: Name,
    /// Rises with each queue.
    pub(crate) serial: u64,
    pub(crate) vhost: VhostKey,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// The connection of an exclusive queue.
    pub(crate) owner: Option<ConnectionId>,
    pub(crate) arguments: Table,
    /// What the arguments say, without a policy.
    pub(crate) declared: CheckedQueue,
    pub(crate) policy: Applied,
    pub(crate) queue: Queue,
    pub(crate) roster: Roster<ConsumerKey>,
    pub(crate) had_consumer: bool,
    /// The consumer that allows no others.
    pub(crate) exclusive_consumer: Option<ConsumerKey>,
    /// `x-expires`, or that of a policy.
    pub(crate) expires: Option<u64>,
    /// When it expires unless it is used.
    pub(crate) idle_until: Option<Time>,
    /// When the timer for that comes.
    pub(crate) idle_timer: Option<Time>,
    /// Where dead letters go.
    pub(crate) dead_letter: Option<DeadLetterTo>,
    /// Dead messages that stay until their dead letters are taken.
    pub(crate) kept: VecDeque<KeptDead>,
    /// When these are tried again.
    pub(crate) kept_timer: Option<Time>,
    /// When its messages are looked at next.
    pub(crate) timer: Option<Time>,
    /// It is in the list of queues to deliver from.
    pub(crate) is_due: bool,
    pub(crate) _counted: Counted,
}

/// A dead message whose dead letters are not all taken.
#[derive(Debug)]
pub(crate) struct KeptDead {
    pub(crate) dead: Dead,
    /// The queues that have its dead letter.
    pub(crate) taken: BTreeSet<QueueKey>,
}

/// The dead-letter exchange of a queue, and its routing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetterTo {
    pub(crate) exchange: Name,
    pub(crate) key: Option<Name>,
}

/// All virtual hosts, exchanges and queues.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    pub(crate) by_name: BTreeMap<Name, VhostKey>,
    pub(crate) vhosts: SlotMap<VhostKey, VirtualHost>,
    pub(crate) exchanges: SlotMap<ExchangeKey, Exchange>,
    pub(crate) queues: SlotMap<QueueKey, QueueRecord>,
    /// The serial of the last queue.
    pub(crate) last_queue: u64,
    /// The exchanges with bindings to a queue or an exchange, without default exchanges.
    sources: BTreeMap<Destination, BTreeSet<ExchangeKey>>,
}

impl Topology {
    pub(crate) fn vhost(&self, name: &str) -> Option<VhostKey> {
        self.by_name.get(name).copied()
    }

    /// The name of a virtual host, for texts.
    pub(crate) fn vhost_name(&self, vhost: VhostKey) -> Name {
        self.vhosts.get(vhost).map_or_else(|| "".into(), |vhost| vhost.name.clone())
    }

    pub(crate) fn exchange(&self, vhost: VhostKey, name: &str) -> Option<ExchangeKey> {
        self.vhosts.get(vhost)?.exchanges.get(name).copied()
    }

    pub(crate) fn queue(&self, vhost: VhostKey, name: &str) -> Option<QueueKey> {
        self.vhosts.get(vhost)?.queues.get(name).copied()
    }

    /// Adds a binding to an exchange that is not a default one.
    pub(crate) fn bind(&mut self, source: ExchangeKey, binding: Binding<Destination>) {
        if let Some(exchange) = self.exchanges.get_mut(source) {
            self.sources.entry(binding.destination).or_default().insert(source);
            exchange.router.bind(binding);
        }
    }

    /// Removes a binding, and returns whether it was there.
    pub(crate) fn unbind(
        &mut self,
        source: ExchangeKey,
        destination: Destination,
        key: &str,
        arguments: &Table,
    ) -> bool {
        let Some(exchange) = self.exchanges.get_mut(source) else { return false };
        let was_there = exchange.router.unbind(destination, key, arguments);
        if was_there && !exchange.router.leads_to(destination) {
            self.forget_source(source, destination);
        }
        was_there
    }

    /// Removes all bindings to an entity of a virtual host. Returns the exchanges that had any, without the default one.
    pub(crate) fn unbind_all(&mut self, vhost: VhostKey, destination: Destination) -> BTreeSet<ExchangeKey> {
        let sources = self.sources.remove(&destination).unwrap_or_default();
        for source in self.exchange(vhost, "").iter().chain(&sources) {
            if let Some(exchange) = self.exchanges.get_mut(*source) {
                exchange.router.unbind_all(destination);
            }
        }
        sources
    }

    /// Removes an exchange with its bindings, and leaves those to it.
    pub(crate) fn take_exchange(&mut self, key: ExchangeKey) -> Option<Exchange> {
        let exchange = self.exchanges.remove(key)?;
        if let Some(vhost) = self.vhosts.get_mut(exchange.vhost) {
            vhost.exchanges.remove(&exchange.name);
        }
        for destination in exchange.router.destinations() {
            self.forget_source(key, destination);
        }
        Some(exchange)
    }

    fn forget_source(&mut self, source: ExchangeKey, destination: Destination) {
        if let Some(sources) = self.sources.get_mut(&destination) {
            sources.remove(&source);
            if sources.is_empty() {
                self.sources.remove(&destination);
            }
        }
    }

    /// Returns where exchanges with bindings to an entity are kept, for checks.
    #[cfg(test)]
    pub(crate) fn sources(&self) -> impl Iterator<Item = (Destination, ExchangeKey)> {
        self.sources.iter().flat_map(|(to, sources)| sources.iter().map(|source| (*to, *source)))
    }
}
