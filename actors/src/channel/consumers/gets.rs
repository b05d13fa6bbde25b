//! What settles the deliveries of `basic.get`: those of one queue belong together, as those of a consumer do.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use super::ChannelAcker;

/// How many queues are kept before those without deliveries are forgotten.
const KEPT: usize = 64;

/// By queue.
#[derive(Debug, Default)]
pub(super) struct Gets {
    by_queue: HashMap<String, Got>,
    /// At this many queues, those without deliveries are forgotten.
    forget_at: usize,
}

/// Messages that were got from one queue.
#[derive(Debug)]
struct Got {
    /// In place of the id of a consumer.
    id: u32,
    /// Held by the deliveries.
    acker: Weak<ChannelAcker>,
}

impl Gets {
    /// Returns what settles the deliveries that were got from `queue` and are still held, if there are any.
    pub(super) fn held(&self, queue: &str) -> Option<Arc<ChannelAcker>> {
        self.by_queue.get(queue)?.acker.upgrade()
    }

    /// Returns the id under which messages were got from `queue` before.
    pub(super) fn id(&self, queue: &str) -> Option<u32> {
        self.by_queue.get(queue).map(|got| got.id)
    }

    pub(super) fn is_used(&self, id: u32) -> bool {
        self.by_queue.values().any(|got| got.id == id)
    }

    /// Keeps what settles the deliveries of a queue from now on.
    pub(super) fn insert(&mut self, queue: &str, acker: &Arc<ChannelAcker>) {
        if self.by_queue.len() >= self.forget_at.max(KEPT) {
            self.by_queue.retain(|_, got| got.acker.strong_count() > 0);
            self.forget_at = 2 * self.by_queue.len();
        }
        let got = Got { id: acker.consumer, acker: Arc::downgrade(acker) };
        self.by_queue.insert(queue.to_owned(), got);
    }

    /// The broker has renamed a queue.
    pub(super) fn rename(&mut self, old: &str, new: &str) {
        if let Some(got) = self.by_queue.remove(old)
            && let Some(acker) = got.acker.upgrade()
        {
            acker.queue.rename(new);
        }
    }
}
