//! Limits of virtual hosts and users, and settings of a node that runs.

use super::{
    Core, Line,
    connections::OPEN,
    error::{Close, Failure},
    keys::VhostKey,
    session::ConnectionInfo,
    topology::VirtualHost,
    users::UserLimits,
};

impl Core {
    /// Limits the connections of a virtual host, or ends the limit. Those that are open stay. Returns false if there is no
    /// such virtual host.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).limit_connections_of_vhost("/", Some(10));
    /// ```
    pub fn limit_connections_of_vhost(&mut self, name: &str, max: Option<u32>) -> bool {
        let vhost = self.vhost_mut(name);
        vhost.map(|vhost| vhost.max_connections = max).is_some()
    }

    /// Limits the queues of a virtual host, or ends the limit. Those that are there stay. Returns false if there is no such
    /// virtual host.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).limit_queues_of_vhost("/", Some(10));
    /// ```
    pub fn limit_queues_of_vhost(&mut self, name: &str, max: Option<u32>) -> bool {
        let vhost = self.vhost_mut(name);
        vhost.map(|vhost| vhost.max_queues = max).is_some()
    }

    /// Limits the connections of a user, or ends the limit. Those that are open stay. Returns false if there is no
    /// such user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).limit_connections_of_user("guest", Some(10));
    /// ```
    pub fn limit_connections_of_user(&mut self, name: &str, max: Option<u32>) -> bool {
        self.users.limits_mut(name).map(|limits| limits.connections = max).is_some()
    }

    /// Limits the channels of a user on all connections, or ends the limit. Those that are open stay. Returns false if there is no
    /// such user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).limit_channels_of_user("guest", Some(10));
    /// ```
    pub fn limit_channels_of_user(&mut self, name: &str, max: Option<u32>) -> bool {
        self.users.limits_mut(name).map(|limits| limits.channels = max).is_some()
    }

    /// Sets the milliseconds within which deliveries have to be acked on channels that are opened from now on; `None` is no
    /// limit.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).set_consumer_timeout(Some(60_000));
    /// ```
    pub fn set_consumer_timeout(&mut self, millis: Option<u64>) {
        self.config.consumer_timeout = millis;
    }

    /// Sets the largest body from now on.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).set_message_max(1 << 20);
    /// ```
    pub fn set_message_max(&mut self, octets: u64) {
        self.config.message_max = Some(octets);
    }

    pub(super) fn vhost_mut(&mut self, name: &str) -> Option<&mut VirtualHost> {
        self.topology.vhosts.get_mut(self.topology.vhost(name)?)
    }

    /// Checks the limits that a connection has to keep before its permissions are looked at.
    pub(super) fn check_connection_limits(&self, info: &ConnectionInfo) -> Result<(), Close> {
        let (class, method) = OPEN;
        let count = |of: &dyn Fn(&ConnectionInfo) -> bool| {
            self.connections.values().filter(|connection| of(&connection.info)).count()
        };
        let vhost = self.topology.vhost(&info.vhost).and_then(|key| self.topology.vhosts.get(key));
        let UserLimits { connections: of_user, .. } = self.users.limits(&info.user);
        let text = if let Some(max) = vhost.and_then(|vhost| vhost.max_connections)
            && count(&|other| other.vhost == info.vhost) >= max as usize
        {
            format!(
                "access to vhost '{}' refused for user '{}': connection limit ({max}) is reached",
                info.vhost, info.user
            )
        } else if let Some(max) = of_user
            && count(&|other| other.user == info.user) >= max as usize
        {
            format!("connection refused for user '{}': user connection limit ({max}) is reached", info.user)
        } else {
            return Ok(());
        };
        Err(Close::new(530, text).at(class, method))
    }

    /// Checks whether a virtual host may have one queue more.
    pub(super) fn check_queue_limit(&self, vhost: VhostKey, queue: &str) -> Result<(), Failure> {
        let Some(vhost) = self.topology.vhosts.get(vhost) else { return Ok(()) };
        match vhost.max_queues {
            Some(max) if vhost.queues.len() >= max as usize => {
                let text = format!(
                    "cannot declare queue '{queue}': queue limit in vhost '{}' ({max}) is reached",
                    vhost.name
                );
                Err(Failure::channel(406, text))
            }
            _ => Ok(()),
        }
    }

    /// Checks whether a user may open one channel more.
    pub(super) fn check_channel_limit(&self, user: &str) -> Result<(), Failure> {
        let Some(max) = self.users.limits(user).channels else { return Ok(()) };
        let connections = self.connections.values().filter(|connection| &*connection.info.user == user);
        if connections.map(|connection| connection.channels.len()).sum::<usize>() < max as usize {
            return Ok(());
        }
        // 4.0 names its node instead of the user.
        let who = if self.config.line == Line::V4_0 { "actix-pika-broker@localhost" } else { user };
        let max = if self.config.line >= Line::V4_3 { max.to_string() } else { format!("({max})") };
        let text = format!(
            "number of channels opened for user '{who}' has reached the maximum allowed user limit of {max}"
        );
        Err(Failure::connection(530, text))
    }
}
