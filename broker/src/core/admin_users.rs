//! Administration of users.

use super::{Core, time::Time, users::InvalidPermissions};

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
}
