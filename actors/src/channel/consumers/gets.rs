//! What settles the deliveries of `basic.get`: those of one queue belong together, as those of a consumer do.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use super::ChannelAcker;
use crate::{message::QueueName, outbox::Outbox};

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
    queue: QueueName,
    /// Held by the deliveries.
    acker: Weak<ChannelAcker>,
}

impl Gets {
    /// Returns what settles the deliveries that were got from `queue` and are still held, if there are any.
    pub(super) fn held(&self, queue: &str) -> Option<Arc<ChannelAcker>> {
        self.by_queue.get(queue)?.acker.upgrade()
    }

    /// Returns what settles the next deliveries of a queue from which messages were got before.
    pub(super) fn again(&mut self, queue: &str, outbox: &Arc<Outbox>) -> Option<Arc<ChannelAcker>> {
        let got = self.by_queue.get_mut(queue)?;
        let acker = Arc::new(ChannelAcker::of_gets(outbox.clone(), got.id, got.queue.clone()));
        got.acker = Arc::downgrade(&acker);
        Some(acker)
    }

    pub(super) fn is_used(&self, id: u32) -> bool {
        self.by_queue.values().any(|got| got.id == id)
    }

    /// Returns what settles the deliveries of another queue, under an id that is not used.
    pub(super) fn first(&mut self, id: u32, queue: &str, outbox: &Arc<Outbox>) -> Arc<ChannelAcker> {
        if self.by_queue.len() >= self.forget_at.max(KEPT) {
            self.by_queue.retain(|_, got| got.acker.strong_count() > 0);
            self.forget_at = 2 * self.by_queue.len();
        }
        let name = QueueName::new(queue);
        let acker = Arc::new(ChannelAcker::of_gets(outbox.clone(), id, name.clone()));
        let got = Got { id, queue: name, acker: Arc::downgrade(&acker) };
        self.by_queue.insert(queue.to_owned(), got);
        acker
    }

    /// The broker has renamed a queue.
    pub(super) fn rename(&mut self, old: &str, new: &str) {
        if let Some(mut got) = self.by_queue.remove(old) {
            // Deliveries that are held follow; later ones do not refer to earlier names.
            got.queue.rename(new);
            got.queue = got.queue.latest();
            got.acker = Weak::new();
            self.by_queue.insert(new.to_owned(), got);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::Consumers, *};
    use crate::outbox::{Outbox, OutboxConfig};

    fn outbox() -> Arc<Outbox> {
        let deadline = Duration::from_secs(30);
        let (window, window_bytes) = (1, 1);
        Arc::new(Outbox::new(OutboxConfig { channel: 1, confirms: false, window, window_bytes, deadline }))
    }

    #[test]
    fn messages_of_one_queue_share_an_id() {
        let (mut consumers, outbox) = (Consumers::default(), outbox());
        let a = consumers.get_acker("a", &outbox);
        let b = consumers.get_acker("b", &outbox);
        assert!(Arc::ptr_eq(&a, &consumers.get_acker("a", &outbox)));
        assert_ne!(a.consumer, b.consumer);
        assert!(a.consumer != 0 && b.consumer != 0);
        let id = a.consumer;
        drop(a);
        assert_eq!(consumers.get_acker("a", &outbox).consumer, id);
        consumers.ids = u32::MAX;
        let next = consumers.next_id();
        assert!(next != 0 && next != id && next != b.consumer);
    }

    #[test]
    fn queues_without_deliveries_are_forgotten() {
        let (mut consumers, outbox) = (Consumers::default(), outbox());
        let held: Vec<_> = (0..10).map(|n| consumers.get_acker(&format!("held{n}"), &outbox)).collect();
        for n in 0..10_000 {
            consumers.get_acker(&format!("q{n}"), &outbox);
        }
        assert!(consumers.gets.by_queue.len() <= KEPT);
        for (n, acker) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(acker, &consumers.get_acker(&format!("held{n}"), &outbox)));
        }
    }

    #[test]
    fn a_message_that_is_held_follows_the_name_of_its_queue() {
        let (mut consumers, outbox) = (Consumers::default(), outbox());
        let first = consumers.get_acker("amq.gen-1", &outbox);
        consumers.rename("amq.gen-1", "amq.gen-2");
        let second = consumers.get_acker("amq.gen-2", &outbox);
        consumers.rename("amq.gen-2", "amq.gen-3");
        assert_eq!((first.queue.as_str(), second.queue.as_str()), ("amq.gen-3", "amq.gen-3"));
        assert_eq!(first.consumer, second.consumer);
        assert!(!Arc::ptr_eq(&first, &second));
    }
}
