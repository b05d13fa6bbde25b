//! Policies, set and removed by the test.

use super::handle::Broker;
use crate::core::{InvalidPolicy, Policy};

impl Broker {
    /// Sets a policy of a virtual host, as `rabbitmqctl set_policy` does. It applies to what is there at once.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for what RabbitMQ refuses, with its text.
    ///
    /// # Examples
    /// ```
    /// use actix_pika_broker::{Broker, Policy};
    ///
    /// let broker = Broker::start().unwrap();
    /// let limited = Policy::new("^orders").set("max-length", 100).set("overflow", "reject-publish");
    /// broker.set_policy("/", "limited", &limited).unwrap();
    /// ```
    pub fn set_policy(&self, vhost: &str, name: &str, policy: &Policy) -> Result<(), InvalidPolicy> {
        self.shared.change(|state| state.core.set_policy(state.clock.core(), vhost, name, policy))
    }

    /// Removes a policy of a virtual host. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().clear_policy("/", "limited"));
    /// ```
    pub fn clear_policy(&self, vhost: &str, name: &str) -> bool {
        self.shared.change(|state| state.core.clear_policy(state.clock.core(), vhost, name))
    }

    /// Sets an operator policy of a virtual host: of its numbers and those of a policy the smaller ones hold.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for what RabbitMQ refuses, with its text.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::{Broker, Policy};
    /// let broker = Broker::start().unwrap();
    /// broker.set_operator_policy("/", "at-most", &Policy::new("").set("max-length", 1000)).unwrap();
    /// ```
    pub fn set_operator_policy(&self, vhost: &str, name: &str, policy: &Policy) -> Result<(), InvalidPolicy> {
        self.shared.change(|state| state.core.set_operator_policy(state.clock.core(), vhost, name, policy))
    }

    /// Removes an operator policy of a virtual host. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().clear_operator_policy("/", "at-most"));
    /// ```
    pub fn clear_operator_policy(&self, vhost: &str, name: &str) -> bool {
        self.shared.change(|state| state.core.clear_operator_policy(state.clock.core(), vhost, name))
    }
}
