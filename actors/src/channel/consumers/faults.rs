//! What a consumer has cost: connections that ended with its start, or while its deliveries were read.

use crate::error::Error;

/// After this many connections in a row that ended with the same fault in its deliveries, a consumer is not
/// started with its channel any more.
const READ_FAULTS: u8 = 3;

#[derive(Debug, Default)]
pub(in crate::channel) struct ConnectionFaults {
    /// Why it does not start with its channel.
    cost: Option<Error>,
    /// The reply code of the last fault in its deliveries, and how many connections in a row ended with it.
    reading: Option<(u16, u8)>,
}

impl ConnectionFaults {
    /// Its start has cost the connection.
    pub(in crate::channel) fn start_failed(&mut self, error: Error) {
        self.cost = Some(error);
    }

    /// A delivery to it could not be read, which cost the connection. Returns whether it was one too many.
    pub(in crate::channel) fn reading_failed(&mut self, code: u16, error: &Error) -> bool {
        let before = self.reading.filter(|(known, _)| *known == code).map_or(0, |(_, times)| times);
        let times = before.saturating_add(1);
        self.reading = Some((code, times));
        let too_often = times >= READ_FAULTS;
        if too_often {
            self.cost = Some(error.clone());
        }
        too_often
    }

    /// The connection ended for another reason than a fault in what was read.
    pub(in crate::channel) fn lost_otherwise(&mut self) {
        if self.cost.is_none() {
            self.reading = None;
        }
    }

    /// It was tried elsewhere with success. The next fault in its deliveries counts at once.
    pub(in crate::channel) fn tried(&mut self) {
        self.cost = None;
    }

    /// Returns why it must not start with its channel.
    pub(in crate::channel) fn cost(&self) -> Option<&Error> {
        self.cost.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Error {
        Error::protocol("test")
    }

    #[test]
    fn the_same_fault_on_three_connections_in_a_row_is_one_too_many() {
        let mut faults = ConnectionFaults::default();
        assert!(!faults.reading_failed(501, &fault()));
        assert!(!faults.reading_failed(501, &fault()));
        assert!(!faults.reading_failed(505, &fault()), "another fault");
        assert!(!faults.reading_failed(501, &fault()));
        assert!(!faults.reading_failed(501, &fault()));
        faults.lost_otherwise();
        assert!(!faults.reading_failed(501, &fault()), "not in a row");
        assert!(!faults.reading_failed(501, &fault()));
        assert!(faults.cost().is_none());
        assert!(faults.reading_failed(501, &fault()) && faults.cost().is_some());
    }

    #[test]
    fn a_fault_after_a_successful_trial_counts_at_once() {
        let mut faults = ConnectionFaults::default();
        assert!((0..3).any(|_| faults.reading_failed(501, &fault())));
        faults.lost_otherwise();
        faults.tried();
        assert!(faults.cost().is_none());
        assert!(faults.reading_failed(501, &fault()), "it was tried after three");
        faults.tried();
        faults.lost_otherwise();
        assert!(!faults.reading_failed(501, &fault()), "it stood until another loss");
    }
}
