//! The publishes that a test may look at.

use std::{collections::VecDeque, sync::Arc};

use super::{Core, keys::ConnectionId, message::Message, routing::TopicPattern, time::Time};

/// A publish that the broker took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Published {
    /// When.
    pub at: Time,
    /// By whom.
    pub connection: ConnectionId,
    /// What.
    pub message: Arc<Message>,
}

/// The most octets of bodies that the log keeps from being freed.
const LOGGED_BYTES: usize = 64 << 20;

/// The last publishes, within limits of their number and size.
#[derive(Debug)]
pub(crate) struct PublishLog {
    max: usize,
    bytes: usize,
    entries: VecDeque<Published>,
}

impl PublishLog {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, bytes: 0, entries: VecDeque::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn record(&mut self, at: Time, connection: ConnectionId, message: &Arc<Message>) {
        let size = message.body.len();
        if self.max == 0 || size > LOGGED_BYTES {
            return;
        }
        while self.entries.len() >= self.max || self.bytes + size > LOGGED_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.message.body.len();
        }
        self.bytes += size;
        self.entries.push_back(Published { at, connection, message: Arc::clone(message) });
    }
}

impl Core {
    /// Returns the last publishes whose routing key matches a pattern of a topic exchange, oldest first.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// let core = Core::new(CoreConfig::default());
    /// assert_eq!(core.published("orders.#").count(), 0);
    /// ```
    pub fn published<'a>(&'a self, pattern: &'a str) -> impl Iterator<Item = &'a Published> {
        let pattern = TopicPattern::new(pattern);
        self.log.entries.iter().filter(move |entry| pattern.matches(&entry.message.routing_key))
    }
}
