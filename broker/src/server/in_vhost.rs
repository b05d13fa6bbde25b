//! Looking at one virtual host, and changing what is in it.

use super::{handle::Broker, look::list, state::State};
use crate::core::{
    BindingView, ConsumerView, Core, ExchangeView, InvalidPermissions, MessageView, QueueView, Time,
};

/// A virtual host of a broker: see [`Broker::in_vhost`].
///
/// # Examples
/// ```
/// # use actix_pika_broker::Broker;
/// let broker = Broker::builder().vhost("shop").start().unwrap();
/// let shop = broker.in_vhost("shop");
/// shop.set_permissions("guest", ["", "^orders$", "^orders$"]).unwrap();
/// assert!(shop.queues().is_empty() && shop.queue("orders").is_none());
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "it does nothing by itself"]
pub struct InVhost<'a> {
    broker: &'a Broker,
    name: &'a str,
}

/// A virtual host in the state of a broker at one moment: see [`BrokerState::in_vhost`](crate::BrokerState::in_vhost).
///
/// # Examples
/// ```
/// # use actix_pika_broker::Broker;
/// let broker = Broker::builder().vhost("shop").start().unwrap();
/// let left = broker.look(|state| {
///     let shop = state.in_vhost("shop");
///     shop.ready("orders") + shop.unacked("orders")
/// });
/// assert_eq!(left, 0);
/// ```
#[derive(Clone, Copy)]
#[must_use = "it does nothing by itself"]
pub struct VhostState<'a> {
    state: &'a State,
    name: &'a str,
}

impl Broker {
    /// Returns a view of a virtual host. One that is not there is empty.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().vhost("orders").start().unwrap();
    /// assert!(broker.in_vhost("orders").queues().is_empty());
    /// ```
    pub fn in_vhost<'a>(&'a self, name: &'a str) -> InVhost<'a> {
        InVhost { broker: self, name }
    }
}

impl InVhost<'_> {
    /// Returns whether it is there.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().in_vhost("orders").exists());
    /// ```
    #[must_use]
    pub fn exists(&self) -> bool {
        self.broker.shared.look(|state| state.core.vhosts().any(|name| name == self.name))
    }

    /// Returns the queues.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().in_vhost("/").queues().is_empty());
    /// ```
    #[must_use]
    pub fn queues(&self) -> Vec<QueueView> {
        self.broker.shared.look(|state| state.core.queues(self.name))
    }

    /// Returns a queue.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().in_vhost("/").queue("orders").is_none());
    /// ```
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<QueueView> {
        self.broker.shared.look(|state| state.core.queue(self.name, name))
    }

    /// Returns the messages of a queue, delivered ones first.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().in_vhost("/").messages("orders").is_empty());
    /// ```
    #[must_use]
    pub fn messages(&self, queue: &str) -> Vec<MessageView> {
        self.broker.shared.look(|state| state.core.messages(self.name, queue))
    }

    /// Returns the consumers.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().in_vhost("/").consumers().is_empty());
    /// ```
    #[must_use]
    pub fn consumers(&self) -> Vec<ConsumerView> {
        self.broker.shared.look(|state| state.core.consumers(self.name))
    }

    /// Returns the exchanges, those included that each virtual host has.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let exchanges = Broker::start().unwrap().in_vhost("/").exchanges();
    /// assert!(exchanges.iter().any(|exchange| &*exchange.name == "amq.topic"));
    /// ```
    #[must_use]
    pub fn exchanges(&self) -> Vec<ExchangeView> {
        self.broker.shared.look(|state| state.core.exchanges(self.name))
    }

    /// Returns the bindings, those of the default exchange included.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().in_vhost("/").bindings().is_empty());
    /// ```
    #[must_use]
    pub fn bindings(&self) -> Vec<BindingView> {
        self.broker.shared.look(|state| state.core.bindings(self.name))
    }

    /// Deletes a queue with its messages: its consumers are cancelled. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().in_vhost("/").delete_queue("orders"));
    /// ```
    pub fn delete_queue(&self, name: &str) -> bool {
        self.change(|core, now, vhost| core.delete_queue(now, vhost, name))
    }

    /// Deletes an exchange with its bindings. Returns whether there was one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(!Broker::start().unwrap().in_vhost("/").delete_exchange("orders"));
    /// ```
    pub fn delete_exchange(&self, name: &str) -> bool {
        self.change(|core, now, vhost| core.delete_exchange(now, vhost, name))
    }

    /// Cancels all consumers of a queue, as if it moved to another node. Returns how many there were.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert_eq!(Broker::start().unwrap().in_vhost("/").cancel_consumers("orders"), 0);
    /// ```
    pub fn cancel_consumers(&self, queue: &str) -> usize {
        self.change(|core, now, vhost| core.cancel_consumers(now, vhost, queue))
    }

    /// Sets the patterns of names that a user may configure, write and read.
    ///
    /// # Errors
    /// For a user or a virtual host that is not there, and a pattern that is no regular expression.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// broker.in_vhost("/").set_permissions("guest", ["^orders", ".*", ".*"]).unwrap();
    /// ```
    pub fn set_permissions(&self, user: &str, patterns: [&str; 3]) -> Result<(), InvalidPermissions> {
        self.change(|core, _, vhost| core.set_permissions(user, vhost, patterns))
    }

    /// Takes the permissions of a user, who may then not open a connection to it any more. Returns whether there were any.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().in_vhost("/").clear_permissions("guest"));
    /// ```
    pub fn clear_permissions(&self, user: &str) -> bool {
        self.change(|core, _, vhost| core.clear_permissions(user, vhost))
    }

    /// Sets the patterns of routing keys with which a user may publish to a topic exchange and bind to it.
    ///
    /// # Errors
    /// For a user or a virtual host that is not there, and a pattern that is no regular expression.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// broker.in_vhost("/").set_topic_permissions("guest", "amq.topic", ["^{username}\\.", ".*"]).unwrap();
    /// ```
    pub fn set_topic_permissions(
        &self,
        user: &str,
        exchange: &str,
        patterns: [&str; 2],
    ) -> Result<(), InvalidPermissions> {
        self.change(|core, _, vhost| core.set_topic_permissions(user, vhost, exchange, patterns))
    }

    /// Sets the type of queues that are declared without one: `classic`, `quorum` or `stream`. `None` is as the line has it,
    /// a classic queue. Returns false if there is no such virtual host or type.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::builder().vhost("shop").start().unwrap();
    /// assert!(broker.in_vhost("shop").set_default_queue_type(Some("quorum")));
    /// assert!(!broker.in_vhost("shop").set_default_queue_type(Some("mirrored")));
    /// ```
    pub fn set_default_queue_type(&self, kind: Option<&str>) -> bool {
        self.change(|core, _, vhost| core.set_default_queue_type(vhost, kind))
    }

    /// Changes what is in the virtual host.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Core, Time, &str) -> T) -> T {
        self.broker.shared.change(|state| change(&mut state.core, state.clock.core(), self.name))
    }

    /// Asserts how many messages of a queue are ready and unacked. The panic shows the first 20 that are there instead.
    ///
    /// # Panics
    /// If there are others, or the queue is not there.
    ///
    /// # Examples
    /// ```should_panic
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().in_vhost("/").assert_messages("orders", 1, 0);
    /// ```
    #[track_caller]
    pub fn assert_messages(&self, queue: &str, ready: usize, unacked: usize) {
        // The panic comes when the lock is free.
        let wrong = self.broker.shared.look(|state| {
            let wrong = match state.core.queue(self.name, queue) {
                None => {
                    let queues = state.core.queues(self.name);
                    let names: Vec<&str> = queues.iter().map(|queue| &*queue.name).collect();
                    format!("there is no queue '{queue}'; there are: {names:?}")
                }
                Some(found) if (found.ready, found.unacked) == (ready, unacked) => return None,
                Some(found) => format!(
                    "queue '{queue}' has {} ready and {} unacked, not {ready} and {unacked}:\n{}",
                    found.ready,
                    found.unacked,
                    list(&state.core.messages(self.name, queue)),
                ),
            };
            Some(wrong + &state.describe_chaos())
        });
        if let Some(wrong) = wrong {
            panic!("{wrong}");
        }
    }
}

impl<'a> VhostState<'a> {
    pub(super) fn new(state: &'a State, name: &'a str) -> Self {
        Self { state, name }
    }

    /// Returns a queue.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::BrokerState;
    /// fn is_used(state: &BrokerState<'_>) -> bool {
    ///     state.in_vhost("shop").queue("orders").is_some_and(|queue| queue.consumers > 0)
    /// }
    /// ```
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<QueueView> {
        self.state.core.queue(self.name, name)
    }

    /// Returns how many messages of a queue are ready.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::BrokerState;
    /// fn is_empty(state: &BrokerState<'_>) -> bool {
    ///     state.in_vhost("shop").ready("orders") == 0
    /// }
    /// ```
    #[must_use]
    pub fn ready(&self, queue: &str) -> usize {
        self.queue(queue).map_or(0, |queue| queue.ready)
    }

    /// Returns how many messages of a queue are delivered and not settled.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::BrokerState;
    /// fn is_done(state: &BrokerState<'_>) -> bool {
    ///     state.in_vhost("shop").unacked("orders") == 0
    /// }
    /// ```
    #[must_use]
    pub fn unacked(&self, queue: &str) -> usize {
        self.queue(queue).map_or(0, |queue| queue.unacked)
    }
}

impl std::fmt::Debug for VhostState<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VhostState").field("name", &self.name).finish_non_exhaustive()
    }
}
