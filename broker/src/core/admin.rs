//! Administration: what `rabbitmqctl` and the management plug-in do.

use std::collections::BTreeMap;

use super::{
    Core,
    error::Close,
    keys::{ConnectionId, ExchangeKey, QueueKey, VhostKey},
    message::Name,
    policies::Policies,
    routing::ExchangeType,
    time::Time,
    topology::VirtualHost,
    users::InvalidPermissions,
};

/// The exchanges that each virtual host has.
const SYSTEM_EXCHANGES: [(&str, ExchangeType); 7] = [
    ("", ExchangeType::Direct),
    ("amq.direct", ExchangeType::Direct),
    ("amq.fanout", ExchangeType::Fanout),
    ("amq.headers", ExchangeType::Headers),
    ("amq.match", ExchangeType::Headers),
    ("amq.rabbitmq.trace", ExchangeType::Topic),
    ("amq.topic", ExchangeType::Topic),
];

/// The types that queues may have.
const QUEUE_TYPES: [&str; 3] = ["classic", "quorum", "stream"];

/// What a restart leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Durable entities and persistent messages.
    Durable,
    /// Users and virtual hosts, as after the loss of the disk.
    Nothing,
}

impl Core {
    /// Adds a user, who may not use any virtual host yet, or changes the password of one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// let mut core = Core::new(CoreConfig::default());
    /// core.add_user("u", "secret");
    /// assert!(core.authenticate("u", "secret"));
    /// ```
    pub fn add_user(&mut self, name: &str, password: &str) {
        self.users.add(name, password);
    }

    /// Lets a user publish under the name of another one, or not. Returns false if there is no such user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).set_impersonator("guest", true);
    /// ```
    pub fn set_impersonator(&mut self, name: &str, impersonator: bool) -> bool {
        self.users.set_impersonator(name, impersonator)
    }

    /// Removes a user, and closes the user's connections with 320. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig, Time};
    /// let mut core = Core::new(CoreConfig::default());
    /// assert!(core.remove_user(Time::ZERO, "guest") && !core.authenticate("guest", "guest"));
    /// ```
    pub fn remove_user(&mut self, now: Time, name: &str) -> bool {
        self.arrive(now);
        let removed = self.users.remove(name);
        let text = format!("user '{name}' is deleted");
        self.close_connections(&text, |info| &*info.user == name);
        removed
    }

    /// Sets the patterns of names that a user may configure, write and read in a virtual host.
    ///
    /// # Errors
    /// For a user or a virtual host that is not there, and a pattern that is no regular expression.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// let mut core = Core::new(CoreConfig::default());
    /// core.set_permissions("guest", "/", ["^orders", ".*", ".*"]).unwrap();
    /// ```
    pub fn set_permissions(
        &mut self,
        user: &str,
        vhost: &str,
        patterns: [&str; 3],
    ) -> Result<(), InvalidPermissions> {
        self.check_vhost(vhost)?;
        self.users.set_permissions(user, vhost, patterns)
    }

    /// Allows a user everything in a virtual host.
    pub(super) fn grant_all(&mut self, user: &str, vhost: &str) {
        // These patterns are always right, and `guest` may be removed.
        let _ = self.users.set_permissions(user, vhost, [".*"; 3]);
    }

    /// Forbids a user a virtual host. Returns whether it was allowed.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).clear_permissions("guest", "/");
    /// ```
    pub fn clear_permissions(&mut self, user: &str, vhost: &str) -> bool {
        self.users.clear_permissions(user, vhost)
    }

    /// Sets the patterns of routing keys with which a user may publish to a topic exchange and bind to it.
    ///
    /// # Errors
    /// For a user or a virtual host that is not there, and a pattern that is no regular expression.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// let mut core = Core::new(CoreConfig::default());
    /// core.set_topic_permissions("guest", "/", "amq.topic", ["^{username}\\.", ".*"]).unwrap();
    /// ```
    pub fn set_topic_permissions(
        &mut self,
        user: &str,
        vhost: &str,
        exchange: &str,
        patterns: [&str; 2],
    ) -> Result<(), InvalidPermissions> {
        self.check_vhost(vhost)?;
        self.users.set_topic_permissions(user, vhost, exchange, patterns)
    }

    fn check_vhost(&self, name: &str) -> Result<(), InvalidPermissions> {
        let vhost = self.topology.vhost(name).map(|_| ());
        vhost.ok_or_else(|| InvalidPermissions::NoVirtualHost(name.to_owned()))
    }

    /// Returns whether there is a user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert!(Core::new(CoreConfig::default()).has_user("guest"));
    /// ```
    pub fn has_user(&self, name: &str) -> bool {
        self.users.contains(name)
    }

    /// Adds a virtual host with its predefined exchanges. `guest` may use it. Returns false if it is there.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// let mut core = Core::new(CoreConfig::default());
    /// assert!(core.add_vhost("test") && !core.add_vhost("/"));
    /// ```
    pub fn add_vhost(&mut self, name: &str) -> bool {
        if self.topology.vhost(name).is_some() {
            return false;
        }
        let name: Name = name.into();
        let vhost = self.topology.vhosts.insert(VirtualHost {
            name: name.clone(),
            exchanges: BTreeMap::new(),
            queues: BTreeMap::new(),
            max_connections: None,
            max_queues: None,
            default_queue_type: self.rules.queue_type_added.then(|| "classic".into()),
            policies: Policies::default(),
        });
        self.topology.by_name.insert(name.clone(), vhost);
        self.add_system_exchanges(vhost);
        self.grant_all("guest", &name);
        true
    }

    /// Sets the type of queues in a virtual host that are declared without one: `classic`, `quorum` or `stream`. From 4.0 on
    /// it is `classic` unless set. Returns false if there is no such virtual host or type.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).set_default_queue_type("/", Some("quorum"));
    /// ```
    pub fn set_default_queue_type(&mut self, vhost: &str, kind: Option<&str>) -> bool {
        if kind.is_some_and(|kind| !QUEUE_TYPES.contains(&kind)) {
            return false;
        }
        self.vhost_mut(vhost).map(|vhost| vhost.default_queue_type = kind.map(Name::from)).is_some()
    }

    fn add_system_exchanges(&mut self, vhost: VhostKey) {
        for (name, kind) in SYSTEM_EXCHANGES {
            self.add_system_exchange(vhost, name, kind, name == "amq.rabbitmq.trace");
        }
    }

    /// Removes a virtual host with all that is in it, and closes its connections with 320. Returns whether there
    /// was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig, Time};
    /// let mut core = Core::new(CoreConfig::default());
    /// assert!(core.remove_vhost(Time::ZERO, "/") && !core.remove_vhost(Time::ZERO, "/"));
    /// ```
    pub fn remove_vhost(&mut self, now: Time, name: &str) -> bool {
        self.arrive(now);
        let Some(vhost) = self.topology.by_name.remove(name) else { return false };
        self.close_connections(&format!("vhost '{name}' is deleted"), |info| &*info.vhost == name);
        self.clear_vhost(vhost, |_| false, |_| false);
        self.topology.vhosts.remove(vhost);
        self.users.forget_vhost(name);
        true
    }

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

    fn close_connections(&mut self, text: &str, of: impl Fn(&super::ConnectionInfo) -> bool) {
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
    fn clear_vhost(
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
