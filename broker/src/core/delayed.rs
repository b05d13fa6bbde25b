//! Messages that exchanges of type `x-delayed-message` hold back.

use std::{collections::BTreeMap, sync::Arc};

use super::{Core, keys::ExchangeKey, message::Message, properties::sorted, time::Time, timers::Timer};

/// The header with the milliseconds.
const DELAY: &str = "x-delay";
/// The most that a message may be held back, as in the plug-in: 2^32 - 1 milliseconds.
const MAX_DELAY: i64 = 0xFFFF_FFFF;

/// Messages by the time when they are due.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    messages: BTreeMap<(Time, u64), (ExchangeKey, Arc<Message>)>,
    held: u64,
}

impl Delayed {
    pub(super) fn of(&self, exchange: ExchangeKey) -> usize {
        self.messages.values().filter(|(of, _)| *of == exchange).count()
    }

    /// Returns whether a message is due at a time.
    pub(super) fn holds_until(&self, at: Time) -> bool {
        self.messages.range((at, 0)..=(at, u64::MAX)).next().is_some()
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
    }
}

impl Core {
    /// Holds a message back that has a delay. Returns whether it has one.
    pub(super) fn delay(&mut self, exchange: ExchangeKey, message: &Message) -> bool {
        let delay = message.headers().and_then(|headers| headers.get(DELAY)).and_then(|delay| {
            delay
                .as_i64()
                .or_else(|| delay.as_f64().map(|delay| delay as i64))
                .or_else(|| delay.as_str()?.parse().ok())
        });
        let Some(delay) = delay.filter(|delay| (1..=MAX_DELAY).contains(delay)) else { return false };
        // The message is delivered with its delay negated, so that it is not held back again.
        let mut headers = message.headers().cloned().unwrap_or_default();
        headers.insert(DELAY, -delay);
        let passed = message.copy().with_headers(&sorted(headers));
        let at = self.now.after_millis(delay.unsigned_abs());
        self.delayed.held += 1;
        self.delayed.messages.insert((at, self.delayed.held), (exchange, Arc::new(passed)));
        self.timers.set(at, Timer::Delayed);
        true
    }

    /// Routes the messages that are due.
    pub(super) fn release_delayed(&mut self) {
        while let Some(first) = self.delayed.messages.first_entry() {
            if first.key().0 > self.now {
                break;
            }
            let (exchange, message) = first.remove();
            for queue in self.route(exchange, &message) {
                self.enqueue(queue, &message);
            }
        }
    }
}
