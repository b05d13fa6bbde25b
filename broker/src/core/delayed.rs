//! Messages that exchanges of type `x-delayed-message` hold back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Core, keys::ExchangeKey, message::Message, properties::sorted, time::Time, timers::Timer};

/// The header with the milliseconds.
const DELAY: &str = "x-delay";
/// The most that a message may be held back, as in the plug-in: 2^32 - 1 milliseconds.
const MAX_DELAY: i64 = 0xFFFF_FFFF;

/// Messages by the time when they are due.
#[derive(Debug, Default)]
pub(crate) struct Delayed {
    messages: BTreeMap<Place, (ExchangeKey, Arc<Message>)>,
    places: BTreeMap<ExchangeKey, BTreeSet<Place>>,
    held: u64,
}

/// When a message is due, and its number.
type Place = (Time, u64);

impl Delayed {
    pub(super) fn of(&self, exchange: ExchangeKey) -> usize {
        self.places.get(&exchange).map_or(0, BTreeSet::len)
    }

    /// Returns whether a message is due at a time.
    pub(super) fn holds_until(&self, at: Time) -> bool {
        self.messages.range((at, 0)..=(at, u64::MAX)).next().is_some()
    }

    fn hold(&mut self, until: Time, exchange: ExchangeKey, message: Arc<Message>) {
        self.held += 1;
        let place = (until, self.held);
        self.messages.insert(place, (exchange, message));
        self.places.entry(exchange).or_default().insert(place);
    }

    fn take_due(&mut self, now: Time) -> Option<(ExchangeKey, Arc<Message>)> {
        let first = self.messages.first_entry().filter(|first| first.key().0 <= now)?;
        let (place, (exchange, message)) = first.remove_entry();
        if let Some(places) = self.places.get_mut(&exchange) {
            places.remove(&place);
            if places.is_empty() {
                self.places.remove(&exchange);
            }
        }
        Some((exchange, message))
    }

    /// Gives up the messages of an exchange that is gone.
    pub(super) fn forget(&mut self, exchange: ExchangeKey) {
        for place in self.places.remove(&exchange).unwrap_or_default() {
            self.messages.remove(&place);
        }
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
        self.delayed.hold(at, exchange, Arc::new(passed));
        self.timers.set(at, Timer::Delayed);
        true
    }

    /// Routes the messages that are due.
    pub(super) fn release_delayed(&mut self) {
        while let Some((exchange, message)) = self.delayed.take_due(self.now) {
            for queue in self.route(exchange, &message) {
                self.enqueue(queue, &message);
            }
        }
    }
}
