//! Connections: opened, closed by either side, and when their sockets are full.

use std::collections::{BTreeMap, BTreeSet};

use actix_pika_actors::wire::method::AMQPClass;

use super::{
    ChannelAt, Core, Outgoing,
    error::Close,
    keys::ConnectionId,
    output::Output,
    queue::Return,
    session::{Connection, ConnectionInfo},
    time::Time,
};

/// The ids of `connection.open`.
pub(super) const OPEN: (u16, u16) = (10, 40);

impl Core {
    /// Returns whether a user has a password.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// assert!(!Core::new(CoreConfig::default()).authenticate("guest", "wrong"));
    /// ```
    pub fn authenticate(&self, user: &str, password: &str) -> bool {
        self.users.password_is(user, password)
    }

    /// Opens a connection to a virtual host: what `connection.open` asks for.
    ///
    /// # Errors
    /// 530 for a virtual host that is not there or that the user may not use.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{ConnectionInfo, Core, CoreConfig, Time};
    /// let mut core = Core::new(CoreConfig::default());
    /// let info = ConnectionInfo {
    ///     user: "guest".into(),
    ///     vhost: "/no".into(),
    ///     cancel_notify: true,
    ///     channel_max: 2047,
    ///     name: "test".into(),
    /// };
    /// let refused = core.open_connection(Time::ZERO, info).unwrap_err();
    /// assert_eq!(refused.to_string(), "NOT_ALLOWED - vhost /no not found");
    /// ```
    pub fn open_connection(&mut self, now: Time, info: ConnectionInfo) -> Result<ConnectionId, Close> {
        self.arrive(now);
        let (class, method) = OPEN;
        let Some(vhost) = self.topology.vhost(&info.vhost) else {
            return Err(Close::new(530, format!("vhost {} not found", info.vhost)).at(class, method));
        };
        self.check_connection_limits(&info)?;
        if !self.users.may_open(&info.user, &info.vhost) {
            let text = format!("access to vhost '{}' refused for user '{}'", info.vhost, info.user);
            return Err(Close::new(530, text).at(class, method));
        }
        let connection = Connection {
            info,
            vhost,
            channels: BTreeMap::new(),
            exclusive: BTreeSet::new(),
            writable: true,
            pending: 0,
            pending_octets: 0,
            is_throttled: false,
        };
        Ok(self.connections.insert(connection))
    }

    /// Ends a connection: the client has closed it (before `close-ok` is sent, so that its exclusive queues are
    /// gone then), or its socket is gone. One that the core has ended is ignored.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{ConnectionId, Core, CoreConfig, Time};
    /// let mut core = Core::new(CoreConfig::default());
    /// core.close_connection(Time::ZERO, ConnectionId::default());
    /// ```
    pub fn close_connection(&mut self, now: Time, connection: ConnectionId) {
        self.arrive(now);
        self.end_connection(connection);
        self.run();
    }

    /// The broker closes a connection.
    pub(super) fn close_connection_with(&mut self, connection: ConnectionId, close: Close) {
        if !self.connections.contains_key(connection) {
            return;
        }
        self.end_connection(connection);
        self.outputs.push_back(Outgoing { connection, channel: 0, output: Output::CloseConnection(close) });
    }

    /// Sends a method on channel 0, after what was said before.
    pub(crate) fn answer(&mut self, connection: ConnectionId, method: AMQPClass) {
        self.outputs.push_back(Outgoing { connection, channel: 0, output: Output::Method(method) });
    }

    /// Returns whether a connection is open: it is not any more once it was closed by either side.
    pub(crate) fn is_open(&self, connection: ConnectionId) -> bool {
        self.connections.contains_key(connection)
    }

    fn end_connection(&mut self, key: ConnectionId) {
        let Some(connection) = self.connections.get(key) else { return };
        let ends: Vec<ChannelAt> =
            connection.channels.keys().map(|number| ChannelAt { connection: key, number: *number }).collect();
        self.end_channels(&ends, Return::ConnectionLost);
        let Some(connection) = self.connections.remove(key) else { return };
        for queue in connection.exclusive {
            self.remove_queue(queue);
        }
    }

    /// Says whether the socket of a connection takes what is sent. While it does not, its consumers get nothing.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{ConnectionId, Core, CoreConfig, Time};
    /// let mut core = Core::new(CoreConfig::default());
    /// core.set_writable(Time::ZERO, ConnectionId::default(), false);
    /// ```
    pub fn set_writable(&mut self, now: Time, connection: ConnectionId, writable: bool) {
        self.arrive(now);
        let Some(record) = self.connections.get_mut(connection) else { return };
        record.writable = writable;
        self.review_connection(connection);
        self.run();
    }

    pub(super) fn review_connection(&mut self, connection: ConnectionId) {
        let Some(record) = self.connections.get(connection) else { return };
        let numbers: Vec<u16> = record.channels.keys().copied().collect();
        for number in numbers {
            self.review_consumers(ChannelAt { connection, number });
        }
    }

    /// A delivery was taken from the outputs.
    pub(super) fn delivery_taken(&mut self, connection: ConnectionId) {
        let Some(record) = self.connections.get_mut(connection) else { return };
        record.pending = record.pending.saturating_sub(1);
        if record.pending > 0 {
            return;
        }
        record.pending_octets = 0;
        if record.is_throttled {
            record.is_throttled = false;
            self.review_connection(connection);
            self.run();
        }
    }
}
