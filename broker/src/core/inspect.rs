//! Looking at what is there, for assertions.

use std::{collections::VecDeque, sync::Arc};

use actix_pika_actors::Table;

use super::{
    Core,
    keys::{ConnectionId, QueueKey, VhostKey},
    message::{Message, Name},
    routing::topic_matches,
    session::{ConnectionInfo, Ending},
    settings::QueueSettings,
    time::Time,
    topology::Destination,
};

/// A queue as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QueueView {
    /// The name.
    pub name: Name,
    /// Whether it outlives a restart.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// The connection that it belongs to.
    pub owner: Option<ConnectionId>,
    /// The arguments that it was declared with.
    pub arguments: Table,
    /// The policy that applies to it.
    pub policy: Option<Name>,
    /// The operator policy that applies to it.
    pub operator_policy: Option<Name>,
    /// What arguments and policies say.
    pub settings: QueueSettings,
    /// How many messages are ready.
    pub ready: usize,
    /// The size of the ready messages, as it counts for a limit in bytes.
    pub ready_bytes: u64,
    /// How many messages are delivered and not acked.
    pub unacked: usize,
    /// How many consumers there are.
    pub consumers: usize,
}

/// A message in a queue, or on its way.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MessageView {
    /// The message.
    pub message: Arc<Message>,
    /// Where it is.
    pub state: StoredState,
    /// Whether its next delivery says so, or its last one did.
    pub redelivered: bool,
    /// How many deliveries of a quorum queue failed.
    pub delivery_count: u32,
}

/// Where a message of a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredState {
    /// In the queue.
    Ready,
    /// Delivered and not acked.
    Unacked {
        /// The connection that has it.
        connection: ConnectionId,
        /// The channel that has it.
        channel: u16,
        /// The delivery tag.
        delivery_tag: u64,
    },
    /// Returned to a quorum queue that delays it, and not ready before this time.
    Delayed(Time),
    /// Dead, and kept until its dead letters are taken.
    Dead,
}

/// A consumer as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerView {
    /// The connection.
    pub connection: ConnectionId,
    /// The channel.
    pub channel: u16,
    /// The tag.
    pub tag: Name,
    /// The queue.
    pub queue: Name,
    /// Its limit of unacked deliveries, 0 for none.
    pub prefetch: u16,
    /// How many deliveries it has not acked.
    pub unacked: u32,
    /// Whether it acks nothing.
    pub no_ack: bool,
    /// Whether it allows no others.
    pub exclusive: bool,
    /// Its priority.
    pub priority: i64,
    /// Whether it gets messages: not one that waits behind a single active consumer.
    pub active: bool,
    /// The arguments that it was started with.
    pub arguments: Table,
}

/// An exchange as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExchangeView {
    /// The name; that of the default exchange is empty.
    pub name: Name,
    /// The type.
    pub kind: Name,
    /// Whether it outlives a restart.
    pub durable: bool,
    /// Whether it goes with its last binding.
    pub auto_delete: bool,
    /// Whether only other exchanges publish to it.
    pub internal: bool,
    /// The arguments that it was declared with.
    pub arguments: Table,
}

/// A binding as it is now, those of the default exchange included.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BindingView {
    /// The exchange.
    pub source: Name,
    /// The queue or exchange that it leads to.
    pub destination: Name,
    /// Whether that is a queue.
    pub to_queue: bool,
    /// The routing key.
    pub key: Name,
    /// The arguments.
    pub arguments: Table,
}

/// A publish that the broker took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// When.
    pub at: Time,
    /// By whom.
    pub connection: ConnectionId,
    /// What.
    pub message: Arc<Message>,
}

/// The most octets of bodies that the log keeps from being freed.
const LOGGED_BYTES: usize = 64 << 20;

/// The last publishes, within limits of their number and size.
#[derive(Debug)]
pub(crate) struct PublishLog {
    max: usize,
    bytes: usize,
    entries: VecDeque<Published>,
}

impl PublishLog {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, bytes: 0, entries: VecDeque::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn record(&mut self, at: Time, connection: ConnectionId, message: &Arc<Message>) {
        let size = message.body.len();
        if self.max == 0 || size > LOGGED_BYTES {
            return;
        }
        while self.entries.len() >= self.max || self.bytes + size > LOGGED_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.message.body.len();
        }
        self.bytes += size;
        self.entries.push_back(Published { at, connection, message: Arc::clone(message) });
    }
}

impl Core {
    /// Returns the names of the virtual hosts.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert_eq!(Core::new(CoreConfig::default()).vhosts().collect::<Vec<_>>(), ["/"]);
    /// ```
    pub fn vhosts(&self) -> impl Iterator<Item = &str> {
        self.topology.by_name.keys().map(|name| &**name)
    }

    /// Returns the queues of a virtual host, by name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert_eq!(Core::new(CoreConfig::default()).queues("/").len(), 0);
    /// ```
    pub fn queues(&self, vhost: &str) -> Vec<QueueView> {
        let Some(vhost) = self.topology.vhost(vhost).and_then(|key| self.topology.vhosts.get(key)) else {
            return Vec::new();
        };
        vhost.queues.values().filter_map(|key| self.queue_view(*key)).collect()
    }

    /// Returns a queue.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert!(Core::new(CoreConfig::default()).queue("/", "q").is_none());
    /// ```
    pub fn queue(&self, vhost: &str, name: &str) -> Option<QueueView> {
        self.queue_view(self.topology.queue(self.topology.vhost(vhost)?, name)?)
    }

    fn queue_view(&self, key: QueueKey) -> Option<QueueView> {
        let queue = self.topology.queues.get(key)?;
        Some(QueueView {
            name: queue.name.clone(),
            durable: queue.durable,
            auto_delete: queue.auto_delete,
            owner: queue.owner,
            arguments: queue.arguments.clone(),
            policy: queue.policy.policy.clone(),
            operator_policy: queue.policy.operator.clone(),
            settings: queue.queue.settings().clone(),
            ready: queue.queue.ready(),
            ready_bytes: queue.queue.ready_bytes(),
            unacked: queue.queue.unacked(),
            consumers: queue.roster.len(),
        })
    }

    /// Returns the messages of a queue: the unacked ones, those that are ready, in the order of delivery, then those that
    /// are delayed or dead.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert!(Core::new(CoreConfig::default()).messages("/", "q").is_empty());
    /// ```
    pub fn messages(&self, vhost: &str, queue: &str) -> Vec<MessageView> {
        let key = self.topology.vhost(vhost).and_then(|vhost| self.topology.queue(vhost, queue));
        let Some((key, queue)) = key.and_then(|key| Some((key, self.topology.queues.get(key)?))) else {
            return Vec::new();
        };
        let mut views = Vec::new();
        for (connection, record) in &self.connections {
            for (number, channel) in &record.channels {
                for (delivery_tag, delivered) in channel.unacked.iter() {
                    let Some(stored) = delivered.stored.as_ref().filter(|_| delivered.queue == key) else {
                        continue;
                    };
                    views.push(MessageView {
                        message: Arc::clone(&stored.message),
                        state: StoredState::Unacked { connection, channel: *number, delivery_tag },
                        redelivered: stored.redelivered,
                        delivery_count: stored.delivery_count,
                    });
                }
            }
        }
        views.extend(queue.queue.iter().map(|stored| MessageView {
            message: Arc::clone(&stored.message),
            state: StoredState::Ready,
            redelivered: stored.redelivered,
            delivery_count: stored.delivery_count,
        }));
        let delayed = queue.queue.delayed().map(|(at, stored)| (StoredState::Delayed(at), stored));
        let dead = queue.kept.iter().map(|kept| (StoredState::Dead, &kept.dead.stored));
        views.extend(delayed.chain(dead).map(|(state, stored)| MessageView {
            message: Arc::clone(&stored.message),
            state,
            redelivered: stored.redelivered,
            delivery_count: stored.delivery_count,
        }));
        views
    }

    /// Returns the consumers in a virtual host.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert!(Core::new(CoreConfig::default()).consumers("/").is_empty());
    /// ```
    pub fn consumers(&self, vhost: &str) -> Vec<ConsumerView> {
        let Some(vhost) = self.topology.vhost(vhost) else { return Vec::new() };
        self.consumers
            .iter()
            .filter_map(|(key, consumer)| {
                let queue = self.topology.queues.get(consumer.queue).filter(|queue| queue.vhost == vhost)?;
                let active = !queue.queue.settings().single_active || queue.roster.active() == Some(key);
                Some(ConsumerView {
                    connection: consumer.connection,
                    channel: consumer.channel,
                    tag: consumer.tag.clone(),
                    queue: queue.name.clone(),
                    prefetch: consumer.prefetch,
                    unacked: consumer.used,
                    no_ack: consumer.no_ack,
                    exclusive: consumer.exclusive,
                    priority: consumer.priority,
                    active,
                    arguments: consumer.arguments.clone(),
                })
            })
            .collect()
    }

    /// Returns the exchanges of a virtual host, by name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert_eq!(Core::new(CoreConfig::default()).exchanges("/").len(), 7);
    /// ```
    pub fn exchanges(&self, vhost: &str) -> Vec<ExchangeView> {
        let Some(vhost) = self.topology.vhost(vhost) else { return Vec::new() };
        let view = |exchange: &super::topology::Exchange| ExchangeView {
            name: exchange.name.clone(),
            kind: exchange.kind.clone(),
            durable: exchange.durable,
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
        };
        self.exchanges_of(vhost).map(view).collect()
    }

    /// Returns the bindings in a virtual host, by source.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert!(Core::new(CoreConfig::default()).bindings("/").is_empty());
    /// ```
    pub fn bindings(&self, vhost: &str) -> Vec<BindingView> {
        let Some(vhost) = self.topology.vhost(vhost) else { return Vec::new() };
        self.exchanges_of(vhost)
            .flat_map(|exchange| exchange.router.bindings().map(move |binding| (exchange, binding)))
            .filter_map(|(exchange, binding)| {
                let (destination, to_queue) = match binding.destination {
                    Destination::Queue(key) => (self.topology.queues.get(key)?.name.clone(), true),
                    Destination::Exchange(key) => (self.topology.exchanges.get(key)?.name.clone(), false),
                };
                Some(BindingView {
                    source: exchange.name.clone(),
                    destination,
                    to_queue,
                    key: binding.key.clone(),
                    arguments: binding.arguments.clone(),
                })
            })
            .collect()
    }

    fn exchanges_of(&self, vhost: VhostKey) -> impl Iterator<Item = &super::topology::Exchange> {
        let vhost = self.topology.vhosts.get(vhost);
        vhost
            .into_iter()
            .flat_map(|vhost| vhost.exchanges.values())
            .filter_map(|key| self.topology.exchanges.get(*key))
    }

    /// Returns whether there is an exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert!(Core::new(CoreConfig::default()).has_exchange("/", "amq.topic"));
    /// ```
    pub fn has_exchange(&self, vhost: &str, name: &str) -> bool {
        self.topology.vhost(vhost).is_some_and(|vhost| self.topology.exchange(vhost, name).is_some())
    }

    /// Returns how many messages an exchange of type `x-delayed-message` holds back.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert_eq!(Core::new(CoreConfig::default()).delayed("/", "x"), 0);
    /// ```
    pub fn delayed(&self, vhost: &str, exchange: &str) -> usize {
        let key = self.topology.vhost(vhost).and_then(|vhost| self.topology.exchange(vhost, exchange));
        key.map_or(0, |key| self.delayed.of(key))
    }

    /// Returns the open connections.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert_eq!(Core::new(CoreConfig::default()).connections().count(), 0);
    /// ```
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionId, &ConnectionInfo)> {
        self.connections.iter().map(|(key, connection)| (key, &connection.info))
    }

    /// Returns the numbers of the open channels of a connection.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{ConnectionId, Core, CoreConfig};
    /// assert_eq!(Core::new(CoreConfig::default()).channels(ConnectionId::default()).count(), 0);
    /// ```
    pub fn channels(&self, connection: ConnectionId) -> impl Iterator<Item = u16> {
        let channels = self.connections.get(connection).map(|connection| connection.channels.iter());
        channels
            .into_iter()
            .flatten()
            .filter(|(_, channel)| channel.ending == Ending::No)
            .map(|(number, _)| *number)
    }

    /// Returns what is known of an open connection.
    pub(crate) fn connection_info(&self, connection: ConnectionId) -> Option<&ConnectionInfo> {
        self.connections.get(connection).map(|connection| &connection.info)
    }

    /// Returns the last publishes whose routing key matches a pattern of a topic exchange, oldest first.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// let core = Core::new(CoreConfig::default());
    /// assert_eq!(core.published("orders.#").count(), 0);
    /// ```
    pub fn published<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = &'a Published> {
        self.log.entries.iter().filter(move |entry| topic_matches(pattern, &entry.message.routing_key))
    }
}
