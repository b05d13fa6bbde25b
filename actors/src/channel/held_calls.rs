//! Calls that wait behind publishes. When the broker has closed a channel for a call, the publishes that it left
//! without a confirm are sent again, and the next calls wait until they have one: an application that makes
//! wrong calls all the time would cost them their confirms each time, and the broker would get them ever again.

use tokio::time::Instant;

use super::ChannelMachine;
use crate::outbox::HELD_BACK_FOR;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HeldCalls {
    #[default]
    No,
    /// The channel is closed for a call.
    WhenReopened,
    /// Until the publishes below `end` have their outcome, or the time is over.
    Behind { end: u64, until: Instant },
}

impl HeldCalls {
    /// The broker has closed the channel, for a call or not.
    pub(super) fn closed(&mut self, by_call: bool) {
        *self = if by_call { Self::WhenReopened } else { Self::No };
    }

    /// The channel is open again, and has sent publishes below `end`.
    pub(super) fn opened(&mut self, end: u64, now: Instant) {
        *self = match self {
            Self::WhenReopened => Self::Behind { end, until: now + HELD_BACK_FOR },
            _ => Self::No,
        };
    }
}

impl ChannelMachine {
    /// Returns whether calls wait for the outcome of publishes.
    pub(super) fn holds_calls(&self) -> bool {
        matches!(self.held_calls, HeldCalls::Behind { end, .. } if !self.outbox.is_resolved_below(end))
    }

    /// Makes the calls whose time to wait is over.
    pub(super) fn release_held_calls(&mut self, now: Instant) {
        let HeldCalls::Behind { until, .. } = self.held_calls else { return };
        if now >= until || !self.holds_calls() {
            self.held_calls = HeldCalls::No;
            self.make_waiting();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_wait_only_after_a_close_for_a_call() {
        let (mut held, now) = (HeldCalls::default(), Instant::now());
        held.opened(5, now);
        assert_eq!(held, HeldCalls::No);
        held.closed(true);
        held.opened(5, now);
        assert_eq!(held, HeldCalls::Behind { end: 5, until: now + HELD_BACK_FOR });
        held.closed(false);
        held.opened(9, now);
        assert_eq!(held, HeldCalls::No);
    }
}
