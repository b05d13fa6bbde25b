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
    routing::{self, Router},
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
}
