//! Which queues a message goes to.

use super::{
    Core,
    keys::{ExchangeKey, QueueKey},
    message::Message,
    routing::{Graph, Router},
    topology::{Destination, Topology},
};

impl Graph for Topology {
    type Exchange = ExchangeKey;
    type Queue = QueueKey;

    fn router(&self, exchange: ExchangeKey) -> Option<&Router<Destination>> {
        self.exchanges.get(exchange).map(|exchange| &exchange.router)
    }

    fn alternate(&self, exchange: ExchangeKey) -> Option<ExchangeKey> {
        let exchange = self.exchanges.get(exchange)?;
        // The bindings of the default exchange count for what is published to it only.
        let alternate = exchange.alternate.as_deref().filter(|name| !name.is_empty())?;
        self.exchange(exchange.vhost, alternate)
    }
}

impl Core {
    /// Routes a message by its key and the keys of its `CC` and `BCC`. The queues are in the order in which they were
    /// declared: that of their keys depends on which ones were deleted before.
    pub(super) fn route(&mut self, exchange: ExchangeKey, message: &Message) -> Vec<QueueKey> {
        let mut queues = Vec::new();
        self.walk.route(&self.topology, exchange, message.keys().map(|key| &**key), message, &mut queues);
        if queues.len() > 1 {
            queues.sort_by_key(|key| self.topology.queues.get(*key).map(|queue| queue.serial));
        }
        queues
    }
}
