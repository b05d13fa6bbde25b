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

/// How many dead letters may come of one message by one input at one time. RabbitMQ goes on for ever.
const CHAIN_MAX: u32 = 20_000;

/// The dead letters that have come of one message by one input at one time, as far as one of them knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    /// The number of the input.
    input: u64,
    /// How many letters there were, if each had as many copies as those before this one.
    letters: u32,
    /// How many copies there are of this one and of those beside it.
    copies: u32,
}

impl Core {
    /// Publishes a dead letter. Without a dead-letter exchange, or without a queue behind it, it is dropped, unless the
    /// queue keeps it until it is taken.
    pub(super) fn dead_letter(&mut self, key: QueueKey, dead: Dead) {
        let Some(queue) = self.topology.queues.get(key) else { return };
        if queue.queue.settings().at_least_once {
            let mut dead = KeptDead { dead, taken: BTreeSet::new() };
            if !self.dead_letter_surely(key, &mut dead) {
                if let Some(queue) = self.topology.queues.get_mut(key) {
                    queue.queue.keep(&dead.dead.stored);
                }
                self.retry_later(key, dead);
            }
            return;
        }
        let Some((exchange, mut message)) = self.next_dead_letter(key, &dead) else { return };
        let delays = self.topology.exchanges.get(exchange).is_some_and(|exchange| exchange.delays);
        if delays && self.delay(exchange, &message) {
            return;
        }
        let targets = self.dead_letter_targets(exchange, &message);
        if !self.go_on(&dead, &mut message, targets.len()) {
            return;
        }
        let message = Arc::new(message);
        if to_default(&message) {
            self.deliver_replies(&message);
        }
        for queue in targets {
            self.enqueue(queue, &message);
        }
    }

    /// Publishes a dead letter to the queues that have not taken it yet. Returns whether there is one, and all have.
    fn dead_letter_surely(&mut self, key: QueueKey, kept: &mut KeptDead) -> bool {
        let mut is_done = false;
        if let Some((exchange, mut message)) = self.next_dead_letter(key, &kept.dead) {
            let mut targets = self.dead_letter_targets(exchange, &message);
            if !self.go_on(&kept.dead, &mut message, targets.len()) {
                targets.clear();
            }
            is_done = !targets.is_empty();
            let message = Arc::new(message);
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
        is_done
    }

    fn retry_later(&mut self, key: QueueKey, kept: KeptDead) {
        let retry = self.now.after_millis(RETRY_MILLIS);
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        queue.kept.push_back(kept);
        if queue.kept_timer.is_none() {
            queue.kept_timer = Some(retry);
            self.timers.set(retry, Timer::DeadLetters(key));
        }
    }

    /// The timer of dead letters that were not taken. Those that are not taken again count for the limits all the time.
    pub(super) fn retry_dead_letters(&mut self, key: QueueKey) {
        let now = self.now;
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        if queue.kept_timer.take_if(|set| *set <= now).is_none() {
            return;
        }
        for mut kept in std::mem::take(&mut queue.kept) {
            if !self.dead_letter_surely(key, &mut kept) {
                self.retry_later(key, kept);
            } else if let Some(queue) = self.topology.queues.get_mut(key) {
                queue.queue.release(&kept.dead.stored);
            }
        }
    }

    fn next_dead_letter(&self, key: QueueKey, dead: &Dead) -> Option<(ExchangeKey, Message)> {
        let queue = self.topology.queues.get(key)?;
        let to = queue.dead_letter.as_ref()?;
        let exchange = self.topology.exchange(queue.vhost, &to.exchange)?;
        let seconds = self.config.unix_start.saturating_add(self.now.as_millis() / 1000);
        let mut message =
            dead_letter::next_message(self.rules, dead, &queue.name, &to.exchange, to.key.as_ref(), seconds);
        let is_quorum = matches!(queue.queue.settings().kind, QueueKind::Quorum { .. });
        let rejections = u32::from(is_quorum && dead.reason == Reason::Rejected);
        message.failures = match self.rules.dead_letter_counts {
            DeadLetterCounts::None => 0,
            DeadLetterCounts::RejectionsAndLosses => dead.stored.losses + rejections,
            DeadLetterCounts::Failures => dead.stored.delivery_count,
        };
        Some((exchange, message))
    }

    /// Notes what comes of a message that has died, and returns whether its dead letter may go to so many queues.
    ///
    /// Queues that drop messages at once may send a dead letter round and round, or to each other in all orders.
    fn go_on(&mut self, dead: &Dead, message: &mut Message, targets: usize) -> bool {
        let before = dead.stored.message.chain.as_deref().filter(|chain| chain.input == self.inputs);
        // One of another time begins anew, as it would in another input.
        let before = before.filter(|_| dead.stored.arrived == self.now);
        let (letters, copies) = before.map_or((0, 1), |before| (before.letters, before.copies));
        let letters = letters.saturating_add(copies);
        let copies = copies.saturating_mul(u32::try_from(targets).unwrap_or(u32::MAX));
        if before.is_some() && letters.saturating_add(copies) > CHAIN_MAX {
            if self.last_endless != self.inputs {
                self.last_endless = self.inputs;
                log::warn!(
                    "dropping dead letters: one message leads to more than {CHAIN_MAX} of them at once"
                );
            }
            return false;
        }
        message.chain = Some(Box::new(Chain { input: self.inputs, letters, copies }));
        true
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
