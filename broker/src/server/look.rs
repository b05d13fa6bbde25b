//! Looking at a broker, and waiting for what is to be seen.

use std::fmt;

use super::{handle::Broker, in_vhost::VhostState, peer::Peer, state::State};
use crate::core::{BindingView, ConnectionId, ConsumerView, MessageView, Published, QueueView};

/// A connection as it is now.
///
/// # Examples
/// ```no_run
/// # async fn wait(broker: actix_pika_broker::Broker) {
/// let before = broker.connections()[0].id;
/// broker.cut_after(before, 100);
/// // Ids are never used twice: this stays true.
/// broker.until(|state| state.connections().iter().all(|connection| connection.id != before)).await;
/// broker.until(|state| state.connections().iter().any(|connection| connection.name == "billing")).await;
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionView {
    /// Its number. It is never used twice.
    pub id: ConnectionId,
    /// The name that the client gave, or its address.
    pub name: String,
    /// The user.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
    /// Whether it is blocked by an alarm.
    pub blocked: bool,
    /// The addresses of its socket, `client -> broker`.
    pub address: String,
    /// The mechanism of its login, such as `PLAIN`.
    pub mechanism: String,
    /// The numbers of its open channels.
    pub channels: Vec<u16>,
}

/// The state of a broker at one moment, for [`Broker::until`] and [`Broker::look`]. Names are of the virtual host `/`, unless
/// another one is looked at by [`in_vhost`](Self::in_vhost).
///
/// # Examples
/// ```
/// # use actix_pika_broker::{Broker, BrokerState};
/// fn are_done(state: &BrokerState<'_>) -> bool {
///     state.ready("orders") + state.unacked("orders") == 0 && state.in_vhost("shop").ready("bills") == 3
/// }
///
/// let broker = Broker::builder().vhost("shop").start().unwrap();
/// assert!(!broker.look(are_done));
/// ```
pub struct BrokerState<'a>(&'a State);

impl Broker {
    /// Looks at the state as it is at this moment.
    ///
    /// # Panics
    /// If the closure calls this broker: it is to ask the state.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// assert!(broker.look(|state| state.queue("orders").is_none()));
    /// ```
    pub fn look<T>(&self, look: impl FnOnce(&BrokerState<'_>) -> T) -> T {
        self.shared.look(|state| look(&BrokerState(state)))
    }

    /// Waits until a condition holds. Give the wait a time limit.
    ///
    /// The condition is looked at now, and whenever something has happened at the broker. Several things may have happened
    /// since the last look, and what began and ended in between is not seen: wait for what stays, as a message that is there,
    /// a number that only grows, or that the connection with a certain [id](ConnectionView::id) has gone. The condition may
    /// ask variables of the test, too, but is not looked at when only these change.
    ///
    /// # Panics
    /// If the condition calls this broker: it is to ask the state. If a part of the broker panics.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn wait(broker: actix_pika_broker::Broker) {
    /// broker.until(|state| state.ready("orders") == 0 && state.unacked("orders") == 0).await;
    /// # }
    /// ```
    pub async fn until(&self, mut condition: impl FnMut(&BrokerState<'_>) -> bool) {
        let mut happened = self.shared.watch();
        loop {
            happened.mark_unchanged();
            if self.look(&mut condition) {
                return;
            }
            if let Some(broken) = self.shared.broken() {
                panic!("{broken}");
            }
            // Its sender is in the broker.
            let _ = happened.changed().await;
        }
    }

    /// Returns the queues of the virtual host `/`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().queues().is_empty());
    /// ```
    #[must_use]
    pub fn queues(&self) -> Vec<QueueView> {
        self.in_vhost("/").queues()
    }

    /// Returns the messages of a queue of the virtual host `/`, delivered ones first.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().messages("orders").is_empty());
    /// ```
    #[must_use]
    pub fn messages(&self, queue: &str) -> Vec<MessageView> {
        self.in_vhost("/").messages(queue)
    }

    /// Returns the consumers of the virtual host `/`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().consumers().is_empty());
    /// ```
    #[must_use]
    pub fn consumers(&self) -> Vec<ConsumerView> {
        self.in_vhost("/").consumers()
    }

    /// Returns the bindings of the virtual host `/`, those of the default exchange included.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().bindings().is_empty());
    /// ```
    #[must_use]
    pub fn bindings(&self) -> Vec<BindingView> {
        self.in_vhost("/").bindings()
    }

    /// Returns the open connections. Between a cut and the reconnect of a client there is none: wait for it with
    /// [`until`](Self::until).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().connections().is_empty());
    /// ```
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionView> {
        self.look(|state| state.connections())
    }

    /// Returns the octets that messages and what waits to be written take, as [`memory_limit`](crate::Builder::memory_limit)
    /// counts them.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert_eq!(Broker::start().unwrap().memory_used(), 0);
    /// ```
    #[must_use]
    pub fn memory_used(&self) -> u64 {
        self.shared.look(|state| state.core.memory().taken())
    }

    /// Returns the publishes of late whose routing key matches a topic pattern, in their order. `#` is all.
    ///
    /// Of all publishes the last 1,000 are remembered, fewer if their bodies have more than 64 MiB together.
    /// While the broker is [low on memory](crate::Builder::memory_limit), all are forgotten.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert!(Broker::start().unwrap().published("orders.#").is_empty());
    /// ```
    #[must_use]
    pub fn published(&self, pattern: &str) -> Vec<Published> {
        self.shared.look(|state| state.core.published(pattern).cloned().collect())
    }

    /// Asserts how many messages of a queue are ready and unacked. The panic shows the first 20 that are there instead.
    ///
    /// # Panics
    /// If there are others, or the queue is not there.
    ///
    /// # Examples
    /// ```should_panic
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().assert_messages("orders", 1, 0);
    /// ```
    #[track_caller]
    pub fn assert_messages(&self, queue: &str, ready: usize, unacked: usize) {
        self.in_vhost("/").assert_messages(queue, ready, unacked);
    }
}

/// How many messages a failed assertion shows.
const SHOWN: usize = 20;

/// One line for each of the first messages.
pub(super) fn list(views: &[MessageView]) -> String {
    let mut lines: Vec<String> = views.iter().take(SHOWN).map(describe).collect();
    if views.len() > SHOWN {
        lines.push(format!("  and {} more", views.len() - SHOWN));
    }
    lines.join("\n")
}

/// One line of a message, its body cut.
fn describe(view: &MessageView) -> String {
    let body = &view.message.body;
    let shown = String::from_utf8_lossy(body.get(..60).unwrap_or(body)).into_owned();
    format!("  {:?} {:?} {:?}", view.state, &*view.message.routing_key, shown)
}

impl BrokerState<'_> {
    /// Looks at a virtual host. One that is not there is empty.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn wait(broker: actix_pika_broker::Broker) {
    /// broker.until(|state| state.in_vhost("shop").ready("orders") == 3).await;
    /// # }
    /// ```
    pub fn in_vhost<'b>(&'b self, name: &'b str) -> VhostState<'b> {
        VhostState::new(self.0, name)
    }

    /// Returns a queue.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::BrokerState;
    /// fn is_used(state: &BrokerState<'_>) -> bool {
    ///     state.queue("orders").is_some_and(|queue| queue.consumers > 0)
    /// }
    /// ```
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<QueueView> {
        self.in_vhost("/").queue(name)
    }

    /// Returns how many messages of a queue are ready.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::BrokerState;
    /// fn is_empty(state: &BrokerState<'_>) -> bool {
    ///     state.ready("orders") == 0
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
    ///     state.unacked("orders") == 0
    /// }
    /// ```
    #[must_use]
    pub fn unacked(&self, queue: &str) -> usize {
        self.queue(queue).map_or(0, |queue| queue.unacked)
    }

    /// Returns how many publishes are remembered whose routing key matches a topic pattern: see [`Broker::published`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::BrokerState;
    /// fn all_are_there(state: &BrokerState<'_>) -> bool {
    ///     state.published("orders.#") == 3
    /// }
    /// ```
    #[must_use]
    pub fn published(&self, pattern: &str) -> usize {
        self.0.core.published(pattern).count()
    }

    /// Returns the open connections.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::BrokerState;
    /// fn nobody(state: &BrokerState<'_>) -> bool {
    ///     state.connections().is_empty()
    /// }
    /// ```
    #[must_use]
    pub fn connections(&self) -> Vec<ConnectionView> {
        let views = self.0.core.connections().map(|(id, info)| {
            let peer = self.0.peer_of(id).and_then(|peer| self.0.peers.get(&peer)).map(|entry| &entry.peer);
            ConnectionView {
                id,
                name: info.name.to_string(),
                user: info.user.to_string(),
                vhost: info.vhost.to_string(),
                blocked: peer.is_some_and(Peer::is_blocked),
                address: peer.map(|peer| peer.address().to_owned()).unwrap_or_default(),
                mechanism: peer.map(|peer| peer.mechanism().to_owned()).unwrap_or_default(),
                channels: self.0.core.channels(id).collect(),
            }
        });
        views.collect()
    }
}

impl fmt::Debug for BrokerState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerState").field("queues", &self.0.core.queues("/")).finish_non_exhaustive()
    }
}

impl State {
    /// Names the consumers that are there.
    pub(super) fn left_consuming(&self) -> Vec<String> {
        let name = |consumer: ConsumerView| format!("{} of queue '{}'", consumer.tag, consumer.queue);
        self.core.vhosts().flat_map(|vhost| self.core.consumers(vhost)).map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Arc,
    };

    use super::*;
    use crate::core::{Message, StoredState};

    /// It would wait for the lock that it has itself.
    #[test]
    fn who_looks_at_a_broker_cannot_call_it() {
        let (broker, other) = (Broker::start().unwrap(), Broker::start().unwrap());
        let calls: [fn(&Broker); 3] = [
            |broker| drop(broker.queues()),
            |broker| broker.advance(std::time::Duration::ZERO),
            |broker| drop(format!("{broker:?}")),
        ];
        for call in calls {
            broker.look(|_| call(&other));
            let called = catch_unwind(AssertUnwindSafe(|| broker.look(|_| call(&broker))));
            let told = *called.unwrap_err().downcast::<&str>().unwrap();
            assert!(told.ends_with("ask the state that it is given"), "{told}");
            call(&broker);
        }
    }

    #[test]
    fn a_list_of_many_messages_is_cut() {
        // Two octets: no flags.
        let message = Message::new("".into(), "orders".into(), vec![0; 2].into(), "body".into());
        let view = MessageView {
            message: Arc::new(message.unwrap()),
            state: StoredState::Ready,
            redelivered: false,
            delivery_count: 0,
        };
        let of = |count: usize| list(&vec![view.clone(); count]);
        let line = "  Ready \"orders\" \"body\"";
        assert_eq!(of(0), "");
        assert_eq!(of(20), [line; 20].join("\n"));
        assert_eq!(of(400), [line; 20].join("\n") + "\n  and 380 more");
    }
}
