//! Administration of virtual hosts.

use std::collections::BTreeMap;

use super::{
    Core, keys::VhostKey, message::Name, policies::Policies, routing::ExchangeType, time::Time,
    topology::VirtualHost,
};

/// The exchanges that each virtual host has.
pub(super) const SYSTEM_EXCHANGES: [(&str, ExchangeType); 7] = [
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

impl Core {
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

    pub(super) fn add_system_exchanges(&mut self, vhost: VhostKey) {
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
}
