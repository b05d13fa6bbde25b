//! Policies, set and removed by the test.

use super::{handle::Broker, in_vhost::InVhost};
use crate::core::{By, InvalidPolicy, Policy};

impl Broker {
    /// Sets a policy of the virtual host `/`, as `rabbitmqctl set_policy` does. It applies to what is there at once.
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
    /// broker.set_policy("limited", &limited).unwrap();
    /// ```
    pub fn set_policy(&self, name: &str, policy: &Policy) -> Result<(), InvalidPolicy> {
        self.in_vhost("/").set_policy(name, policy)
    }

    /// Removes a policy of the virtual host `/`. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().clear_policy("limited"));
    /// ```
    pub fn clear_policy(&self, name: &str) -> bool {
        self.in_vhost("/").clear_policy(name)
    }
}

impl InVhost<'_> {
    /// Sets a policy, as `rabbitmqctl set_policy` does. It applies to what is there at once.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for what RabbitMQ refuses, with its text.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::{Broker, Policy};
    /// let broker = Broker::builder().vhost("shop").start().unwrap();
    /// broker.in_vhost("shop").set_policy("short", &Policy::new("^orders").set("max-length", 100)).unwrap();
    /// ```
    pub fn set_policy(&self, name: &str, policy: &Policy) -> Result<(), InvalidPolicy> {
        self.put_policy(By::User, name, policy)
    }

    /// Removes a policy. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().in_vhost("/").clear_policy("short"));
    /// ```
    pub fn clear_policy(&self, name: &str) -> bool {
        self.remove_policy(By::User, name)
    }

    /// Sets an operator policy, as `rabbitmqctl set_operator_policy` does: of its numbers and those of a policy the
    /// smaller ones hold.
    ///
    /// # Errors
    /// [`InvalidPolicy`] for what RabbitMQ refuses, with its text.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::{Broker, Policy};
    /// let broker = Broker::start().unwrap();
    /// let at_most = Policy::new("").set("max-length", 1000);
    /// broker.in_vhost("/").set_operator_policy("at-most", &at_most).unwrap();
    /// ```
    pub fn set_operator_policy(&self, name: &str, policy: &Policy) -> Result<(), InvalidPolicy> {
        self.put_policy(By::Operator, name, policy)
    }

    /// Removes an operator policy. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().in_vhost("/").clear_operator_policy("at-most"));
    /// ```
    pub fn clear_operator_policy(&self, name: &str) -> bool {
        self.remove_policy(By::Operator, name)
    }

    fn put_policy(&self, by: By, name: &str, policy: &Policy) -> Result<(), InvalidPolicy> {
        self.change(|core, now, vhost| core.set_policy(now, by, vhost, name, policy))
    }

    fn remove_policy(&self, by: By, name: &str) -> bool {
        self.change(|core, now, vhost| core.clear_policy(now, by, vhost, name))
    }
}
