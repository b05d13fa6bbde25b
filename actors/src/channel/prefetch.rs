//! The prefetch of a channel: which `basic.qos` are sent, and when again.
//!
//! RabbitMQ has one bound for each consumer that starts afterwards, and one that all consumers of the channel
//! share. It forgets the shared one when it gets another one for each consumer.

use crate::message::Qos;

/// How many deliveries a consumer may have unsettled unless set.
const DEFAULT: u16 = 250;

#[derive(Debug)]
pub(super) struct Prefetch {
    /// Of consumers that start from now on, unless they have their own.
    next: u16,
    /// The broker's, for consumers that start from now on.
    sent: Option<u16>,
    /// The bound that all consumers share.
    shared: Option<u16>,
}

impl Default for Prefetch {
    fn default() -> Self {
        Self { next: DEFAULT, sent: None, shared: None }
    }
}

impl Prefetch {
    /// Returns the bound of a consumer that has none of its own.
    pub(super) fn next(&self) -> u16 {
        self.next
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// The application has set a bound; returns what to send behind it.
    pub(super) fn set(&mut self, qos: Qos) -> Option<Qos> {
        let count = qos.prefetch_count;
        if qos.global {
            self.shared = (count > 0).then_some(count);
            return None;
        }
        self.next = count;
        self.sent = Some(count);
        self.shared()
    }

    /// Returns what to send before a consumer with this bound starts.
    pub(super) fn before_consumer(&mut self, count: u16) -> impl Iterator<Item = Qos> + use<> {
        // Sending the same bound again would lift the shared one for a moment.
        let known = self.is_shared() && self.sent == Some(count);
        self.sent = Some(count);
        let all = [Some(Qos::new(count)), self.shared()];
        all.into_iter().flatten().filter(move |_| !known)
    }

    /// Returns the shared bound, which is sent again behind recovered consumers.
    pub(super) fn shared(&self) -> Option<Qos> {
        self.shared.map(|shared| Qos { prefetch_count: shared, global: true })
    }

    /// The broker has forgotten all bounds.
    pub(super) fn reset(&mut self) {
        self.sent = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(qos: impl IntoIterator<Item = Qos>) -> Vec<(u16, bool)> {
        qos.into_iter().map(|qos| (qos.prefetch_count, qos.global)).collect()
    }

    #[test]
    fn each_consumer_sends_its_bound() {
        let mut prefetch = Prefetch::default();
        assert_eq!(prefetch.next(), DEFAULT);
        assert_eq!(pairs(prefetch.before_consumer(10)), [(10, false)]);
        assert_eq!(pairs(prefetch.before_consumer(10)), [(10, false)]);
    }

    #[test]
    fn the_shared_bound_is_sent_behind_each_new_one() {
        let mut prefetch = Prefetch::default();
        assert_eq!(pairs(prefetch.set(Qos { prefetch_count: 7, global: true })), []);
        assert_eq!(pairs(prefetch.set(Qos::new(3))), [(7, true)]);
        assert_eq!(prefetch.next(), 3);
        assert_eq!(pairs(prefetch.before_consumer(3)), [], "the broker has both");
        assert_eq!(pairs(prefetch.before_consumer(4)), [(4, false), (7, true)]);
        prefetch.reset();
        assert_eq!(pairs(prefetch.before_consumer(4)), [(4, false), (7, true)]);
        prefetch.set(Qos { prefetch_count: 0, global: true });
        assert!(!prefetch.is_shared());
    }
}
