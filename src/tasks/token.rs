//! Tells the runner how far a handler got with a task, and which task was being handled when a handler panicked.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

/// Shows to the consumer that a task is being handled ([`Task::into_parts`](super::Task::into_parts)).
///
/// Of the tasks of an actor that panics, the one whose token is the first to be dropped while the thread is panicking
/// is the one that failed; the others were only in its mailbox, or ran beside it.
///
/// # Examples
/// ```
/// # use actix_pika::tasks::{Done, Task};
/// async fn store(task: Task<String>) -> Done {
///     let (text, _content, token) = task.into_parts();
///     println!("{}", text.to_uppercase());
///     drop(token); // from here on, a panic is not blamed on this task
///     Ok(())
/// }
/// ```
pub struct TaskToken {
    state: Arc<AtomicU8>,
}

/// How far a handler got with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Progress {
    /// It was not looked at.
    Waiting,
    /// The handler has looked at it.
    Begun,
    /// It was dropped before the handler looked at it.
    DroppedWaiting,
    /// It was dropped after the handler looked at it.
    DroppedBegun,
    /// It was dropped while its thread was panicking, before the handler looked at it.
    PanickedWaiting,
    /// It was dropped while its thread was panicking, after the handler looked at it.
    PanickedBegun,
}

/// What the runner keeps of a task.
#[allow(dead_code)]
pub(crate) struct Progressing {
    state: Arc<AtomicU8>,
}

impl TaskToken {
    pub(crate) fn new() -> (Self, Progressing) {
        let state = Arc::new(AtomicU8::new(Progress::Waiting as u8));
        (Self { state: state.clone() }, Progressing { state })
    }

    #[inline]
    pub(crate) fn begin(&self) {
        // Only the owner of the token writes, so that no exchange is needed.
        if self.state.load(Ordering::Relaxed) == Progress::Waiting as u8 {
            self.state.store(Progress::Begun as u8, Ordering::Release);
        }
    }
}

impl Drop for TaskToken {
    fn drop(&mut self) {
        let begun = self.state.load(Ordering::Relaxed) == Progress::Begun as u8;
        let state = match (begun, std::thread::panicking()) {
            (false, false) => Progress::DroppedWaiting,
            (true, false) => Progress::DroppedBegun,
            (false, true) => Progress::PanickedWaiting,
            (true, true) => Progress::PanickedBegun,
        };
        self.state.store(state as u8, Ordering::Release);
    }
}

#[allow(dead_code)]
impl Progressing {
    pub(crate) fn get(&self) -> Progress {
        const ALL: [Progress; 6] = [
            Progress::Waiting,
            Progress::Begun,
            Progress::DroppedWaiting,
            Progress::DroppedBegun,
            Progress::PanickedWaiting,
            Progress::PanickedBegun,
        ];
        ALL[usize::from(self.state.load(Ordering::Acquire))]
    }
}

impl fmt::Debug for TaskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskToken").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_token_tells_how_it_was_dropped() {
        let (token, progress) = TaskToken::new();
        assert_eq!(progress.get(), Progress::Waiting);
        drop(token);
        assert_eq!(progress.get(), Progress::DroppedWaiting);

        let (token, progress) = TaskToken::new();
        token.begin();
        assert_eq!(progress.get(), Progress::Begun);
        drop(token);
        assert_eq!(progress.get(), Progress::DroppedBegun);
    }

    #[test]
    fn a_token_that_a_panic_drops_tells_it() {
        for (begun, expected) in [(false, Progress::PanickedWaiting), (true, Progress::PanickedBegun)] {
            let (token, progress) = TaskToken::new();
            let panicking = catch_unwind(AssertUnwindSafe(|| {
                if begun {
                    token.begin();
                }
                let _token = token;
                panic!("a handler panics in this test");
            }));
            assert!(panicking.is_err());
            assert_eq!(progress.get(), expected);
        }
    }
}
