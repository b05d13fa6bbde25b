//! When a peer is given up that sends what has to be answered, and does not read the answers.
//!
//! A plain machine: what is read while something waits to be written counts, and now and then the answers that
//! wait are added up.

use crate::wire::Fault;

/// The most memory of answers that wait, on all channels of a connection.
const MAX: usize = 4 << 20;
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
    pub(super) fn look(&mut self, waiting: usize) -> Result<(), Fault> {
        self.read = 0;
        if waiting <= MAX {
            return Ok(());
        }
        Err(Fault::resource(format!(
            "the peer does not read: {waiting} bytes of answers to it wait, {MAX} are allowed"
        )))
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

    #[test]
    fn too_many_answers_are_a_resource_error() {
        let mut answers = UnreadAnswers::default();
        assert!(answers.has_read(LOOK_AT, false));
        assert_eq!(answers.look(MAX), Ok(()));
        assert!(!answers.has_read(1, false));
        assert_eq!(answers.look(MAX + 1).map_err(|fault| fault.code), Err(506));
    }
}
