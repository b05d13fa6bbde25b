//! Administration: what `rabbitmqctl` and the management plug-in do.

use super::{
    Core,
    admin_vhosts::SYSTEM_EXCHANGES,
    error::Close,
    keys::{ConnectionId, ExchangeKey, QueueKey, VhostKey},
    time::Time,
};

/// What a restart leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Durable entities and persistent messages.
    Durable,
    /// Users and virtual hosts, as after the loss of the disk.
    Nothing,
}

impl Core {
    /// Closes a connection with 320, as the management plug-in does. Returns false if it is not open.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{ConnectionId, Core, CoreConfig, Time};
    /// let mut core = Core::new(CoreConfig::default());
    /// assert!(!core.kill_connection(Time::ZERO, ConnectionId::default(), "Closed via management plugin"));
    /// ```
    pub fn kill_connection(&mut self, now: Time, connection: ConnectionId, text: &str) -> bool {
        self.arrive(now);
        let is_open = self.connections.contains_key(connection);
        self.close_connection_with(connection, Close::new(320, text.to_owned()));
        self.run();
        is_open
    }

    pub(super) fn close_connections(&mut self, text: &str, of: impl Fn(&super::ConnectionInfo) -> bool) {
        let closed: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter_map(|(key, connection)| of(&connection.info).then_some(key))
            .collect();
        for connection in closed {
            self.close_connection_with(connection, Close::new(320, text.to_owned()));
        }
        self.run();
    }

    /// Deletes a queue with its messages, and cancels its consumers. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig, Time};
    /// assert!(!Core::new(CoreConfig::default()).delete_queue(Time::ZERO, "/", "q"));
    /// ```
    pub fn delete_queue(&mut self, now: Time, vhost: &str, name: &str) -> bool {
        self.arrive(now);
        let queue = self.topology.vhost(vhost).and_then(|vhost| self.topology.queue(vhost, name));
        if let Some(queue) = queue {
            self.remove_queue(queue);
        }
        self.run();
        queue.is_some()
    }

    /// Deletes an exchange with its bindings. Returns whether there was one; those that each virtual host has stay.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig, Time};
    /// assert!(!Core::new(CoreConfig::default()).delete_exchange(Time::ZERO, "/", "amq.topic"));
    /// ```
    pub fn delete_exchange(&mut self, now: Time, vhost: &str, name: &str) -> bool {
        self.arrive(now);
        let is_of_system = SYSTEM_EXCHANGES.iter().any(|(system, _)| *system == name);
        let exchange = self.topology.vhost(vhost).and_then(|vhost| self.topology.exchange(vhost, name));
        let Some(exchange) = exchange.filter(|_| !is_of_system) else { return false };
        self.remove_exchange(exchange);
        self.run();
        true
    }

    /// Cancels all consumers of a queue, as if it moved to another node. Returns how many there were.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig, Time};
    /// assert_eq!(Core::new(CoreConfig::default()).cancel_consumers(Time::ZERO, "/", "q"), 0);
    /// ```
    pub fn cancel_consumers(&mut self, now: Time, vhost: &str, queue: &str) -> usize {
        self.arrive(now);
        let queue = self.topology.vhost(vhost).and_then(|vhost| self.topology.queue(vhost, queue));
        let Some((key, queue)) = queue.and_then(|key| Some((key, self.topology.queues.get(key)?))) else {
            return 0;
        };
        let consumers: Vec<_> = queue.roster.iter().collect();
        let count = consumers.len();
        self.leave_rounds(consumers.iter().copied());
        self.cancel_all(consumers);
        if count > 0 {
            self.consumer_left(key);
        }
        self.run();
        count
    }

    /// Restarts the node: closes all connections with 320, and keeps what a restart leaves.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig, Keep, Time};
    /// Core::new(CoreConfig::default()).restart(Time::ZERO, Keep::Durable);
    /// ```
    pub fn restart(&mut self, now: Time, keep: Keep) {
        self.arrive(now);
        self.close_connections("broker forced connection closure with reason 'shutdown'", |_| true);
        let keeps_transient = !self.rules.restart_deletes_transient_exchanges;
        let vhosts: Vec<VhostKey> = self.topology.by_name.values().copied().collect();
        for vhost in vhosts {
            let is_durable = keep == Keep::Durable;
            self.clear_vhost(
                vhost,
                |queue| is_durable && queue.durable,
                |exchange| is_durable && (exchange.durable || keeps_transient),
            );
            if !is_durable {
                if let Some(vhost) = self.topology.vhosts.get_mut(vhost) {
                    vhost.policies.clear();
                }
                self.add_system_exchanges(vhost);
            }
        }
        let queues: Vec<QueueKey> = self.topology.queues.keys().collect();
        for key in queues {
            if let Some(queue) = self.topology.queues.get_mut(key) {
                queue.queue.restart(self.now, false);
            }
            self.watch_messages(key);
            self.use_queue(key);
        }
        self.run();
    }

    /// Removes what is not kept from a virtual host.
    pub(super) fn clear_vhost(
        &mut self,
        vhost: VhostKey,
        keeps_queue: impl Fn(&super::topology::QueueRecord) -> bool,
        keeps_exchange: impl Fn(&super::topology::Exchange) -> bool,
    ) {
        let Some(record) = self.topology.vhosts.get(vhost) else { return };
        let queues: Vec<QueueKey> = record.queues.values().copied().collect();
        let exchanges: Vec<ExchangeKey> = record.exchanges.values().copied().collect();
        for key in queues {
            if self.topology.queues.get(key).is_some_and(|queue| !keeps_queue(queue)) {
                self.remove_queue(key);
            }
        }
        for key in exchanges {
            if self.topology.exchanges.get(key).is_some_and(|exchange| !keeps_exchange(exchange)) {
                self.remove_exchange(key);
            }
        }
    }
}
