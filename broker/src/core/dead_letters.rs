//! The way of dead letters: from the queue that they died in to its dead-letter exchange.

use std::sync::Arc;

use super::{Core, dead_letter, keys::QueueKey, message::Message, queue::Dead};

impl Core {
    /// Publishes a dead letter. Without a dead-letter exchange, or without a queue behind it, it is dropped.
    pub(super) fn dead_letter(&mut self, key: QueueKey, dead: Dead) {
        let Some(queue) = self.topology.queues.get(key) else { return };
        let Some(to) = &queue.dead_letter else { return };
        let Some(exchange) = self.topology.exchange(queue.vhost, &to.exchange) else { return };
        let seconds = self.config.unix_start + self.now.as_millis() / 1000;
        let message =
            dead_letter::next_message(self.rules, &dead, &queue.name, &to.exchange, to.key.as_ref(), seconds);
        let message = Arc::new(message);
        let delays = self.topology.exchanges.get(exchange).is_some_and(|exchange| exchange.delays);
        if delays && self.delay(exchange, &message) {
            return;
        }
        if to_default(&message) {
            self.deliver_replies(&message);
        }
        let redelivered = self.rules.dead_letter_redelivered && dead.stored.delivery_count > 0;
        for queue in self.route(exchange, &message) {
            let is_cycle = self
                .topology
                .queues
                .get(queue)
                .is_some_and(|queue| dead_letter::is_cycle(&message, &queue.name));
            if !is_cycle {
                self.enqueue(queue, &message, redelivered);
            }
        }
    }
}

fn to_default(message: &Message) -> bool {
    message.exchange.is_empty()
}
