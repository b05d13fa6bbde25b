//! Looking at what is there, for assertions.

use super::{
    Core,
    keys::{ConnectionId, QueueKey, VhostKey},
    session::{ConnectionInfo, Ending},
    topology::Destination,
    views::{BindingView, ConsumerView, ExchangeView, MessageView, QueueView, StoredState},
};

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
                    let state = StoredState::Unacked { connection, channel: *number, delivery_tag };
                    views.push(MessageView::new(stored, state));
                }
            }
        }
        let ready = queue.queue.iter().map(|stored| (StoredState::Ready, stored));
        let delayed = queue.queue.delayed().map(|(at, stored)| (StoredState::Delayed(at), stored));
        let dead = queue.kept.iter().map(|kept| (StoredState::Dead, &kept.dead.stored));
        let others = ready.chain(delayed).chain(dead);
        views.extend(others.map(|(state, stored)| MessageView::new(stored, state)));
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
}
