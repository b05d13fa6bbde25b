//! What the runner tells hooks of a task.

use super::{
    front::{Front, Ran},
    runner::Runner,
    schedule::Slot,
};
use crate::{
    Error,
    codec::Codec,
    hook::{Cause, HookedTask, Outcome},
    retry::Retried,
};

impl<T: 'static, C: Codec<T>, F: Front<T>> Runner<T, C, F> {
    /// Notes for the hooks how a handler has ended.
    pub(super) fn note_handled(&mut self, slot: Slot, ran: &Ran) {
        let cause = match ran {
            Ran::Done(Ok(())) => None,
            Ran::Done(Err(_)) => Some(Cause::Failed),
            Ran::Panicked => Some(Cause::Panicked),
            Ran::TimedOut => Some(Cause::TimedOut),
            Ran::Unanswered | Ran::WorkerEnded => Some(Cause::Unanswered),
        };
        if let Some(hooked) = self.hooked(slot) {
            hooked.handled(cause);
        }
    }

    /// Notes for the hooks that a message has no value.
    pub(super) fn note_undecodable(&mut self, slot: Slot, error: &Error) {
        if let Some(hooked) = self.hooked(slot) {
            hooked.handled(Some(Cause::Undecodable));
            hooked.explain(&error.to_string());
        }
    }

    /// Notes for the hooks where a ladder has put the copy of a message.
    pub(super) fn note_copied(&mut self, slot: Slot, to: Retried) {
        if let Some(hooked) = self.hooked(slot) {
            hooked.copied(match to {
                Retried::Step(_) => Outcome::Retried,
                Retried::DeadLettered => Outcome::DeadLettered,
            });
        }
    }

    fn hooked(&mut self, slot: Slot) -> Option<&mut HookedTask> {
        self.schedule.get_mut(slot)?.hooked.as_mut()
    }
}

/// Tells the hooks what has become of a message, if they have seen its task begin.
pub(super) fn tell(hooked: &mut Option<HookedTask>, outcome: Outcome) {
    if let Some(hooked) = hooked.take() {
        hooked.end(outcome);
    }
}
