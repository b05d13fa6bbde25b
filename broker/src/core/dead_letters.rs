//! The way of dead letters: from the queue that they died in to its dead-letter exchange.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Core, DeadLetterCounts, dead_letter,
    keys::{ExchangeKey, QueueKey},
    message::Message,
    queue::{Dead, Reason},
    settings::QueueKind,
    timers::Timer,
    topology::KeptDead,
};

/// After how many milliseconds a dead letter that was not taken is published again.
const RETRY_MILLIS: u64 = 180_000;

impl Core {
    /// Publishes a dead letter. Without a dead-letter exchange, or without a queue behind it, it is dropped, unless the
    /// queue keeps it until it is taken.
    pub(super) fn dead_letter(&mut self, key: QueueKey, dead: Dead) {
        let Some(queue) = self.topology.queues.get(key) else { return };
        if queue.queue.settings().at_least_once {
            let kept = KeptDead { dead, taken: BTreeSet::new() };
            return self.dead_letter_surely(key, kept);
        }
        let Some((exchange, message)) = self.next_dead_letter(key, &dead) else { return };
        let delays = self.topology.exchanges.get(exchange).is_some_and(|exchange| exchange.delays);
        if delays && self.delay(exchange, &message) {
            return;
        }
        if to_default(&message) {
            self.deliver_replies(&message);
        }
        for queue in self.dead_letter_targets(exchange, &message) {
            self.enqueue(queue, &message);
        }
    }

    /// Publishes a dead letter to the queues that have not taken it yet. It stays until there is one, and all have.
    fn dead_letter_surely(&mut self, key: QueueKey, mut kept: KeptDead) {
        let mut is_done = false;
        if let Some((exchange, message)) = self.next_dead_letter(key, &kept.dead) {
            let targets = self.dead_letter_targets(exchange, &message);
            is_done = !targets.is_empty();
            for target in targets {
                if kept.taken.contains(&target) {
                    continue;
                }
                if self.enqueue(target, &message) {
                    kept.taken.insert(target);
                } else {
                    is_done = false;
                }
            }
        }
        if is_done {
            return;
        }
        let retry = self.now.after_millis(RETRY_MILLIS);
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        queue.queue.keep(&kept.dead.stored);
        queue.kept.push_back(kept);
        if queue.kept.len() == 1 {
            self.timers.set(retry, Timer::DeadLetters(key));
        }
    }

    /// The timer of dead letters that were not taken.
    pub(super) fn retry_dead_letters(&mut self, key: QueueKey) {
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        for kept in std::mem::take(&mut queue.kept) {
            if let Some(queue) = self.topology.queues.get_mut(key) {
                queue.queue.release(&kept.dead.stored);
            }
            self.dead_letter_surely(key, kept);
        }
    }

    fn next_dead_letter(&self, key: QueueKey, dead: &Dead) -> Option<(ExchangeKey, Arc<Message>)> {
        let queue = self.topology.queues.get(key)?;
        let to = queue.dead_letter.as_ref()?;
        let exchange = self.topology.exchange(queue.vhost, &to.exchange)?;
        let seconds = self.config.unix_start + self.now.as_millis() / 1000;
        let mut message =
            dead_letter::next_message(self.rules, dead, &queue.name, &to.exchange, to.key.as_ref(), seconds);
        let is_quorum = matches!(queue.queue.settings().kind, QueueKind::Quorum { .. });
        let rejections = u32::from(is_quorum && dead.reason == Reason::Rejected);
        message.failures = match self.rules.dead_letter_counts {
            DeadLetterCounts::None => 0,
            DeadLetterCounts::Rejections => dead.stored.message.failures + rejections,
            DeadLetterCounts::Failures => dead.stored.delivery_count,
        };
        Some((exchange, Arc::new(message)))
    }

    /// Returns the queues that a dead letter goes to: not those that it comes back to in a cycle.
    fn dead_letter_targets(&mut self, exchange: ExchangeKey, message: &Message) -> Vec<QueueKey> {
        let mut queues = self.route(exchange, message);
        queues.retain(|queue| {
            let queue = self.topology.queues.get(*queue);
            queue.is_some_and(|queue| {
                let is_lost = self.rules.stream_drops_nested && queue.queue.stream().is_some();
                !is_lost && !dead_letter::is_cycle(message, &queue.name)
            })
        });
        queues
    }
}

fn to_default(message: &Message) -> bool {
    message.exchange.is_empty()
}
