//! The state of a stream's queue: whether a stream takes its deliveries, and whether the consumer is being
//! cancelled.
//!
//! A plain machine. Its methods return whether the deliveries in question are kept or dropped.

use crate::message::ConsumerEnd;

#[derive(Debug, Default)]
pub(super) enum StreamState {
    /// The stream takes deliveries.
    #[default]
    Open,
    /// The consumer is being cancelled; the stream still takes deliveries.
    Cancelling,
    /// The stream is dropped. Deliveries are kept until the cancel begins: returned to the queue now, the
    /// broker would deliver them here again.
    Abandoned,
    /// The consumer is being cancelled, without a stream. Deliveries are dropped; the channel holds them back
    /// until the reply to the cancel has come.
    Dropping,
    /// Nothing more arrives.
    Ended(ConsumerEnd),
}

impl StreamState {
    /// Handles the drop of the stream. Returns whether queued deliveries are kept.
    pub(super) fn stream_dropped(&mut self) -> bool {
        match self {
            Self::Open | Self::Abandoned => {
                *self = Self::Abandoned;
                true
            }
            Self::Cancelling | Self::Dropping => {
                *self = Self::Dropping;
                false
            }
            Self::Ended(_) => false,
        }
    }

    /// Handles the start of a cancel. With `at_once` the stream takes no more. Returns whether queued
    /// deliveries are kept.
    pub(super) fn cancel_started(&mut self, at_once: bool) -> bool {
        match self {
            Self::Open | Self::Cancelling if !at_once => {
                *self = Self::Cancelling;
                true
            }
            Self::Open | Self::Cancelling | Self::Abandoned | Self::Dropping => {
                *self = Self::Dropping;
                false
            }
            Self::Ended(_) => !at_once,
        }
    }

    /// Handles the end of the consumer. The first end is kept.
    pub(super) fn consumer_ended(&mut self, end: ConsumerEnd) {
        if self.end().is_none() {
            *self = Self::Ended(end);
        }
    }

    /// Returns whether a stream is there, or may come.
    pub(super) fn has_stream(&self) -> bool {
        !matches!(self, Self::Abandoned | Self::Dropping)
    }

    #[inline]
    pub(super) fn is_dropping(&self) -> bool {
        matches!(self, Self::Dropping)
    }

    pub(super) fn end(&self) -> Option<&ConsumerEnd> {
        match self {
            Self::Ended(end) => Some(end),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_stream_keeps_deliveries_until_the_cancel() {
        let mut state = StreamState::Open;
        assert!(state.stream_dropped() && !state.has_stream() && !state.is_dropping());
        assert!(state.stream_dropped());
        assert!(!state.cancel_started(false));
        assert!(state.is_dropping());
    }

    #[test]
    fn a_stream_takes_deliveries_while_its_consumer_is_cancelled() {
        let mut state = StreamState::Open;
        assert!(state.cancel_started(false) && state.has_stream());
        assert!(!state.stream_dropped());
        assert!(state.is_dropping());
    }

    #[test]
    fn a_cancel_at_once_drops_everything() {
        let mut state = StreamState::Open;
        assert!(!state.cancel_started(true));
        assert!(state.is_dropping());
    }

    #[test]
    fn the_first_end_is_kept() {
        let mut state = StreamState::Cancelling;
        state.consumer_ended(ConsumerEnd::CancelledByBroker);
        state.consumer_ended(ConsumerEnd::Cancelled);
        assert!(matches!(state.end(), Some(ConsumerEnd::CancelledByBroker)));
        assert!(state.has_stream() && !state.stream_dropped());
    }
}
