//! Users, virtual hosts and their limits: what `rabbitmqctl` does.

use std::time::Duration;

use super::handle::{Broker, millis};
use crate::core::InvalidPermissions;

impl Broker {
    /// Adds a user without permissions, or changes a password.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().add_user("app", "secret");
    /// ```
    pub fn add_user(&self, name: &str, password: &str) {
        self.shared.change(|state| state.core.add_user(name, password));
    }

    /// Removes a user and closes the user's connections with 320. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().remove_user("nobody"));
    /// ```
    pub fn remove_user(&self, name: &str) -> bool {
        self.shared.change(|state| state.core.remove_user(state.clock.core(), name))
    }

    /// Returns whether there is a user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().has_user("guest"));
    /// ```
    #[must_use]
    pub fn has_user(&self, name: &str) -> bool {
        self.shared.look(|state| state.core.has_user(name))
    }

    /// Sets the patterns of names that a user may configure, write and read in a virtual host.
    ///
    /// # Errors
    /// For a user or a virtual host that is not there, and a pattern that is no regular expression.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().set_permissions("guest", "/", ["^orders", ".*", ".*"]).unwrap();
    /// ```
    pub fn set_permissions(
        &self,
        user: &str,
        vhost: &str,
        patterns: [&str; 3],
    ) -> Result<(), InvalidPermissions> {
        self.in_vhost(vhost).set_permissions(user, patterns)
    }

    /// Takes the permissions of a user in a virtual host, who may then not open a connection to it any more. Returns whether
    /// there were any.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().clear_permissions("guest", "/"));
    /// ```
    pub fn clear_permissions(&self, user: &str, vhost: &str) -> bool {
        self.in_vhost(vhost).clear_permissions(user)
    }

    /// Lets a user publish under the name of another one (the tag `impersonator`), or not: without it, a publish whose
    /// property `user_id` is not the user closes its channel with 406. Returns false if there is no such user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().user("gateway", "secret").start().unwrap();
    /// assert!(broker.set_impersonator("gateway", true));
    /// ```
    pub fn set_impersonator(&self, user: &str, impersonator: bool) -> bool {
        self.shared.change(|state| state.core.set_impersonator(user, impersonator))
    }

    /// Adds a virtual host, which `guest` may use. Returns false if it is there.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().add_vhost("orders"));
    /// ```
    pub fn add_vhost(&self, name: &str) -> bool {
        self.shared.change(|state| state.core.add_vhost(name))
    }

    /// Removes a virtual host with all that is in it, and closes its connections with 320. Returns whether there was
    /// one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().remove_vhost("orders"));
    /// ```
    pub fn remove_vhost(&self, name: &str) -> bool {
        self.shared.change(|state| state.core.remove_vhost(state.clock.core(), name))
    }

    /// Limits the connections of a virtual host, or ends the limit: one more is refused with 530. Those that are open
    /// stay. Returns false if there is no such virtual host.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// assert!(broker.limit_connections_of_vhost("/", Some(1)));
    /// assert!(!broker.limit_connections_of_vhost("none", Some(1)));
    /// ```
    pub fn limit_connections_of_vhost(&self, vhost: &str, max: Option<u32>) -> bool {
        self.shared.change(|state| state.core.limit_connections_of_vhost(vhost, max))
    }

    /// Limits the queues of a virtual host, or ends the limit: the declaration of one more closes its channel with 406.
    /// Those that are there stay. Returns false if there is no such virtual host.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().limit_queues_of_vhost("/", Some(1)));
    /// ```
    pub fn limit_queues_of_vhost(&self, vhost: &str, max: Option<u32>) -> bool {
        self.shared.change(|state| state.core.limit_queues_of_vhost(vhost, max))
    }

    /// Limits the connections of a user, or ends the limit: one more is refused with 530. Those that are open stay.
    /// Returns false if there is no such user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().limit_connections_of_user("guest", Some(1)));
    /// ```
    pub fn limit_connections_of_user(&self, user: &str, max: Option<u32>) -> bool {
        self.shared.change(|state| state.core.limit_connections_of_user(user, max))
    }

    /// Limits the channels of a user, or ends the limit: one more closes its connection with 530. Those that are open
    /// stay. Returns false if there is no such user.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().limit_channels_of_user("guest", Some(1)));
    /// ```
    pub fn limit_channels_of_user(&self, user: &str, max: Option<u32>) -> bool {
        self.shared.change(|state| state.core.limit_channels_of_user(user, max))
    }

    /// Sets how long a delivery may stay without an ack, on channels that are opened from now on; `None` is for ever.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().set_consumer_timeout(Some(std::time::Duration::from_secs(60)));
    /// ```
    pub fn set_consumer_timeout(&self, timeout: Option<Duration>) {
        self.shared.change(|state| state.core.set_consumer_timeout(timeout.map(millis)));
    }

    /// Sets the largest body from now on: a larger one closes its channel with 406.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().set_max_message_size(1 << 20);
    /// ```
    pub fn set_max_message_size(&self, bytes: u64) {
        self.shared.change(|state| state.core.set_message_max(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_for_nobody_is_told() {
        let broker = Broker::start().unwrap();
        let no_user = Err(InvalidPermissions::NoUser("nobody".to_owned()));
        let no_vhost = Err(InvalidPermissions::NoVirtualHost("none".to_owned()));
        assert_eq!(broker.set_permissions("nobody", "/", [".*"; 3]), no_user);
        assert_eq!(broker.set_permissions("guest", "none", [".*"; 3]), no_vhost);
        assert_eq!(broker.in_vhost("/").set_topic_permissions("nobody", "amq.topic", [".*"; 2]), no_user);
        assert_eq!(broker.in_vhost("none").set_topic_permissions("guest", "amq.topic", [".*"; 2]), no_vhost);
        let done = [
            broker.clear_permissions("nobody", "/"),
            broker.clear_permissions("guest", "none"),
            broker.set_impersonator("nobody", true),
            broker.limit_connections_of_vhost("none", Some(1)),
            broker.limit_queues_of_vhost("none", Some(1)),
            broker.limit_connections_of_user("nobody", Some(1)),
            broker.limit_channels_of_user("nobody", Some(1)),
            broker.in_vhost("none").set_default_queue_type(Some("quorum")),
            broker.in_vhost("/").set_default_queue_type(Some("mirrored")),
        ];
        assert_eq!(done, [false; 9]);
        // Nothing was made on the way.
        assert!(!broker.has_user("nobody") && !broker.in_vhost("none").exists());
    }

    #[test]
    fn what_is_set_for_somebody_is_done() {
        let broker = Broker::builder().user("app", "secret").vhost("shop").start().unwrap();
        let done = [
            broker.clear_permissions("app", "shop"),
            broker.set_permissions("app", "shop", [".*"; 3]).is_ok(),
            broker.set_impersonator("app", true),
            broker.limit_connections_of_vhost("shop", None),
            broker.limit_queues_of_vhost("shop", None),
            broker.limit_connections_of_user("app", None),
            broker.limit_channels_of_user("app", None),
            broker.in_vhost("shop").set_default_queue_type(Some("stream")),
            broker.in_vhost("shop").set_default_queue_type(None),
        ];
        assert_eq!(done, [true; 9]);
        assert!(broker.clear_permissions("app", "shop") && !broker.clear_permissions("app", "shop"));
    }
}
