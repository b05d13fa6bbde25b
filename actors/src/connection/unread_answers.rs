//! When a peer is given up that sends what has to be answered, and does not read the answers.
//!
//! A plain machine: what is read while something waits to be written counts, and now and then the answers that
//! wait are added up.

use crate::{outbox::WaitingAnswers, wire::Fault};

/// The most memory of answers that the peer alone has caused and that wait, on all channels of a connection.
const MAX_CAUSED: usize = 4 << 20;
/// The most memory of deliveries that the application has settled. That is not the peer's doing: an honest broker
/// that is out of memory reads nothing for minutes, and delivers without end to a consumer without a prefetch.
const MAX_SETTLED: usize = 64 << 20;
/// How much is read between two looks.
const LOOK_AT: usize = 128 * 1024;

#[derive(Debug, Default)]
pub(super) struct UnreadAnswers {
    /// The bytes that were read since the last look.
    read: usize,
}

impl UnreadAnswers {
    /// Notes what was read. Returns whether to look how much waits.
    #[inline]
    pub(super) fn has_read(&mut self, bytes: usize, is_written: bool) -> bool {
        self.read = if is_written { 0 } else { self.read + bytes };
        self.read >= LOOK_AT
    }

    /// Judges how much waits.
    ///
    /// # Errors
    /// 506 when it is too much.
    pub(super) fn look(&mut self, waiting: WaitingAnswers) -> Result<(), Fault> {
        self.read = 0;
        let WaitingAnswers { caused, settled } = waiting;
        for (what, bytes, max) in
            [("answers to it", caused, MAX_CAUSED), ("settled deliveries", settled, MAX_SETTLED)]
        {
            if bytes > max {
                let text = format!("the peer does not read: {bytes} bytes of {what} wait, {max} are allowed");
                return Err(Fault::resource(text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_while_something_waits_counts() {
        let mut answers = UnreadAnswers::default();
        assert!(!answers.has_read(LOOK_AT - 1, false));
        assert!(!answers.has_read(LOOK_AT, true));
        assert!(!answers.has_read(LOOK_AT - 1, false));
        assert!(answers.has_read(1, false));
    }

    /// PRO-17
    #[test]
    fn too_many_answers_are_a_resource_error() {
        let mut answers = UnreadAnswers::default();
        assert!(answers.has_read(LOOK_AT, false));
        let most = WaitingAnswers { caused: MAX_CAUSED, settled: MAX_SETTLED };
        assert_eq!(answers.look(most), Ok(()));
        assert!(!answers.has_read(1, false));
        let mut look = |waiting| answers.look(waiting).map_err(|fault| (fault.code, fault.to_string()));
        let Err((506, text)) = look(WaitingAnswers { caused: MAX_CAUSED + 1, ..most }) else { panic!() };
        assert!(text.contains("4194305 bytes of answers to it wait"), "{text}");
        let Err((506, text)) = look(WaitingAnswers { settled: MAX_SETTLED + 1, ..most }) else { panic!() };
        assert!(text.contains("67108865 bytes of settled deliveries wait"), "{text}");
    }
}
