//! How many `connection.blocked` and `connection.unblocked` of one poll are reported: each report is a message to
//! every channel, so that a storm of them would take memory.
//!
//! A plain machine. After the first reports of a poll only the last one counts, which is reported at its end.

use crate::wire::PeerText;

/// The most reports in one poll, without that at its end.
const MOST: usize = 8;

/// Why the broker blocks the connection; `None` if it does not.
type Reason = Option<PeerText>;

#[derive(Debug, Default)]
pub(super) struct BlockReports {
    reported: usize,
    latest: Option<Reason>,
}

impl BlockReports {
    /// Returns the reason if it is reported now.
    pub(super) fn received(&mut self, reason: Reason) -> Option<Reason> {
        if self.reported < MOST {
            self.reported += 1;
            return Some(reason);
        }
        self.latest = Some(reason);
        None
    }

    /// Returns what is left to report at the end of a poll.
    #[inline]
    pub(super) fn poll_ends(&mut self) -> Option<Reason> {
        if self.reported == 0 {
            return None;
        }
        self.reported = 0;
        self.latest.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_a_few_reports_and_the_last_one() {
        let mut reports = BlockReports::default();
        for _ in 0..2 {
            let reason = |n: usize| n.is_multiple_of(2).then(|| "memory".into());
            let reported: Vec<usize> =
                (0..10_001).filter(|n| reports.received(reason(*n)).is_some()).collect();
            assert_eq!(reported, (0..MOST).collect::<Vec<_>>());
            assert_eq!(reports.poll_ends(), Some(Some("memory".into())));
            assert_eq!(reports.poll_ends(), None);
        }
    }

    #[test]
    fn few_are_all_reported() {
        let mut reports = BlockReports::default();
        assert!((0..MOST).all(|_| reports.received(None).is_some()));
        assert_eq!(reports.poll_ends(), None);
    }
}
