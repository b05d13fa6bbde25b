//! Which of the tasks that an actor did not answer has failed, and which were only beside it. A plain decision.

use super::token::{PanicOrder, Progress};

/// What an unanswered task did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It failed: its handler panicked, or dropped it without an answer.
    Guilty,
    /// It was being handled when its actor ended.
    CutOff,
    /// The same, and one of those that were being handled has failed, nobody knows which.
    Suspect,
    /// It was in the mailbox of an actor that ended.
    NotBegun,
}

/// Returns the blame of a task whose supervised worker has ended. Only what panicked was dropped while the thread was
/// panicking.
pub(crate) fn blame_of_ended(progress: Progress) -> Blame {
    match progress {
        Progress::PanickedWaiting | Progress::PanickedBegun => Blame::Guilty,
        Progress::Begun | Progress::DroppedBegun => Blame::CutOff,
        Progress::Waiting | Progress::DroppedWaiting => Blame::NotBegun,
    }
}

/// Returns the blame of each task, in order. `alive` is whether their actor is.
///
/// A panic unwinds the stack first, which drops the task that is being handled. Only then the actor is dropped with its
/// mailbox, on the same thread, which still is panicking.
pub(crate) fn blame(tasks: &[(Progress, Option<PanicOrder>)], alive: bool) -> Vec<Blame> {
    if alive {
        return vec![Blame::Guilty; tasks.len()];
    }
    let orders = || tasks.iter().filter_map(|(_, order)| *order);
    let is_first =
        |order: &PanicOrder| !orders().any(|one| one.thread == order.thread && one.nth < order.nth);
    // Its token was dropped before the panic, so that the first one that was dropped by it may be another.
    let is_hidden = |progress| matches!(progress, Progress::Begun | Progress::DroppedBegun);
    let ambiguous = tasks.iter().any(|(progress, _)| is_hidden(*progress));
    tasks
        .iter()
        .map(|(progress, order)| match progress {
            _ if !ambiguous && order.as_ref().is_some_and(is_first) => Blame::Guilty,
            Progress::Waiting | Progress::DroppedWaiting | Progress::PanickedWaiting => Blame::NotBegun,
            _ if ambiguous => Blame::Suspect,
            _ => Blame::CutOff,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panicked(progress: Progress, thread: u32, nth: u32) -> (Progress, Option<PanicOrder>) {
        (progress, Some(PanicOrder { thread, nth }))
    }

    #[test]
    fn the_first_task_that_a_panic_dropped_has_failed() {
        let tasks = [
            panicked(Progress::PanickedBegun, 1, 8),
            panicked(Progress::PanickedWaiting, 1, 9),
            panicked(Progress::PanickedBegun, 1, 7),
        ];
        assert_eq!(blame(&tasks, false), [Blame::CutOff, Blame::NotBegun, Blame::Guilty]);
    }

    #[test]
    fn a_handler_that_panics_before_it_looks_at_its_task_has_failed() {
        let tasks = [panicked(Progress::PanickedWaiting, 1, 7), panicked(Progress::PanickedWaiting, 1, 8)];
        assert_eq!(blame(&tasks, false), [Blame::Guilty, Blame::NotBegun]);
    }

    #[test]
    fn each_thread_has_a_failure_of_its_own() {
        let tasks = [panicked(Progress::PanickedBegun, 1, 7), panicked(Progress::PanickedBegun, 2, 8)];
        assert_eq!(blame(&tasks, false), [Blame::Guilty, Blame::Guilty]);
    }

    #[test]
    fn all_unanswered_tasks_of_an_actor_that_is_alive_have_failed() {
        let tasks = [panicked(Progress::PanickedBegun, 1, 7), (Progress::DroppedBegun, None)];
        assert_eq!(blame(&tasks, true), [Blame::Guilty, Blame::Guilty]);
    }

    #[test]
    fn a_token_that_was_dropped_early_makes_all_that_had_begun_suspects() {
        let tasks = [
            (Progress::DroppedBegun, None),
            panicked(Progress::PanickedBegun, 1, 7),
            panicked(Progress::PanickedWaiting, 1, 8),
            (Progress::DroppedWaiting, None),
        ];
        assert_eq!(blame(&tasks, false), [Blame::Suspect, Blame::Suspect, Blame::NotBegun, Blame::NotBegun]);
    }
}
