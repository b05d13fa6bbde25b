//! Returned messages of a quorum queue that are delayed.

use std::collections::BTreeMap;

use super::{Lines, Queue, Return, Stored};
use crate::core::Time;

/// Messages by the time when they come back, those of one time in the order of their return.
#[derive(Debug, Default)]
pub(super) struct Delays {
    messages: BTreeMap<(Time, u64), Stored>,
    delayed: u64,
}

impl Delays {
    /// Returns when the first one comes back.
    pub(super) fn next(&self) -> Option<Time> {
        self.messages.first_key_value().map(|((at, _), _)| *at)
    }
}

impl Queue {
    /// Returns how long a returned message is delayed, in milliseconds.
    pub(super) fn delay(&self, stored: &Stored, why: Return) -> Option<u64> {
        let retry = self.settings.delayed_retry?;
        let applies = if why.is_failure() { retry.failed } else { retry.returned };
        let millis = retry.min.saturating_mul(stored.delivery_count.max(1).into());
        applies.then_some(millis.min(retry.max)).filter(|millis| *millis > 0)
    }

    /// Delays a message.
    pub(super) fn delay_until(&mut self, at: Time, stored: Stored) {
        self.add_aside(&stored.message);
        self.delays.delayed += 1;
        self.delays.messages.insert((at, self.delays.delayed), stored);
    }

    /// Puts delayed messages back that are due, in front of the others.
    pub(crate) fn end_delays(&mut self, now: Time) {
        while let Some(first) = self.delays.messages.first_entry().filter(|first| first.key().0 <= now) {
            let stored = first.remove();
            self.move_to_ready(&stored.message);
            if let Lines::Quorum(lines) = &mut self.lines {
                lines.put_back(stored);
            }
        }
    }

    /// Returns the delayed messages, the next one first, and when they come back.
    pub(crate) fn delayed(&self) -> impl Iterator<Item = (Time, &Stored)> {
        self.delays.messages.iter().map(|((at, _), stored)| (*at, stored))
    }

    /// Removes the delayed messages, and returns how many there were.
    pub(crate) fn purge_delayed(&mut self) -> usize {
        let delayed = std::mem::take(&mut self.delays.messages);
        for stored in delayed.values() {
            self.remove_aside(&stored.message);
        }
        delayed.len()
    }
}
