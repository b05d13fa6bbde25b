//! The error of a publish: its cause, and whether the publish may have arrived.
//!
//! A publish may have arrived once a connection has taken a part of its bytes, whatever ends it later. This is
//! decided here alone: every error of a publish with a sequence number is made by [`Cause::of`].

use super::{unconfirmed::Unconfirmed, written_publish::WrittenPublish};
use crate::{error::Error, wire::decode_properties};

/// Up to where publishes were taken by a connection. They are taken in the order of their sequence numbers,
/// and so are those that are sent again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// One more than the last publish that a connection has taken, at least in part.
    below: u64,
    /// The same at the end of the last channel epoch.
    below_earlier: u64,
}

impl Default for Taken {
    fn default() -> Self {
        Self { below: 1, below_earlier: 1 }
    }
}

impl Taken {
    /// A connection has taken publishes, or will take them, up to one below `end`.
    #[inline]
    pub(super) fn below(&mut self, end: u64) {
        self.below = self.below.max(end);
    }

    /// What is taken from now on is taken in the next channel epoch.
    pub(super) fn end_epoch(&mut self) {
        self.below_earlier = self.below;
    }

    /// The broker has dropped what it got in the channel epoch that ended, from `read` on. `before` is from
    /// before the end.
    pub(super) fn drop_from(&mut self, read: u64, before: Self) {
        self.below = self.below.min(read).max(before.below_earlier);
        self.below_earlier = self.below_earlier.min(self.below);
    }

    pub(super) fn has(&self, sequence: u64) -> bool {
        sequence < self.below
    }

    fn had_earlier(&self, sequence: u64) -> bool {
        sequence < self.below_earlier
    }
}

/// What ends publishes without success. Publishes that end for the same reason share their errors.
pub(super) struct Cause {
    error: Error,
    arrival: Arrival,
    /// The error of a publish that may have arrived.
    in_flight: Option<Error>,
}

/// What the cause says about the arrival of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// It may have arrived if it was written.
    IfWritten,
    /// It did not arrive this time, but may have arrived in an earlier channel epoch.
    IfResent,
}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Self { error, arrival: Arrival::IfWritten, in_flight: None }
    }
}

impl Cause {
    /// The broker has returned the publish.
    pub(super) fn returned(error: Error) -> Self {
        Self { error, arrival: Arrival::IfResent, in_flight: None }
    }

    /// Returns the error of one publish.
    pub(super) fn of(&mut self, sequence: u64, taken: &Taken) -> Error {
        let may_have_arrived = match self.arrival {
            Arrival::IfWritten => taken.has(sequence),
            Arrival::IfResent => taken.had_earlier(sequence),
        };
        if may_have_arrived {
            self.in_flight.get_or_insert_with(|| self.error.in_flight()).clone()
        } else {
            self.error.clone()
        }
    }
}

impl Unconfirmed {
    /// Returns the error of a publish that the broker has nacked.
    #[cold]
    pub(super) fn nacked(&self, sequence: u64) -> Error {
        self.find(sequence).map_or_else(Error::nacked, |publish| publish.name(Error::nacked()))
    }
}

impl WrittenPublish<'_> {
    /// Names the publish in an error.
    pub(super) fn name(&self, error: Error) -> Error {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let properties = decode_properties(self.properties).ok();
        let message_id = properties.as_ref().and_then(|properties| properties.message_id());
        error.of_publish(text(self.exchange), text(self.routing_key), message_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_may_have_arrived_once_it_was_taken() {
        let mut taken = Taken::default();
        let mut lost = Cause::from(Error::connection_closed("lost", None));
        assert!(!lost.of(1, &taken).may_have_arrived());
        taken.below(2);
        taken.below(1);
        assert!(lost.of(1, &taken).may_have_arrived());
        assert!(!lost.of(2, &taken).may_have_arrived());
    }

    #[test]
    fn what_the_broker_dropped_may_have_arrived_only_in_an_earlier_channel_epoch() {
        let mut taken = Taken::default();
        taken.below(3);
        taken.end_epoch();
        taken.below(9);
        let before = taken;
        taken.end_epoch();
        taken.drop_from(5, before);
        assert!(taken.has(4) && !taken.has(5) && taken.had_earlier(4));
        let mut taken = before;
        taken.drop_from(2, before);
        assert!(taken.has(2) && !taken.has(3));
    }

    #[test]
    fn what_comes_back_may_have_arrived_only_in_an_earlier_channel_epoch() {
        let mut taken = Taken::default();
        let mut returned = Cause::returned(Error::limit("no queue"));
        taken.below(2);
        assert!(!returned.of(1, &taken).may_have_arrived());
        taken.end_epoch();
        taken.below(3);
        assert!(returned.of(1, &taken).may_have_arrived());
        assert!(!returned.of(2, &taken).may_have_arrived());
    }
}
