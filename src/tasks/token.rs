//! Tells the runner how far a handler got with a task, and which task was being handled when a handler panicked.

use std::{
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
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
    state: Arc<AtomicU64>,
}

/// How far a handler got with a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
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

/// The bits of [`Progress`] in what a token and the runner share, and those of a thread's number.
const STATE: u64 = 0xff;
const THREAD: u32 = 0xff_ffff;

/// When a token was dropped by a panic: on which thread, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PanicOrder {
    pub(crate) thread: u32,
    pub(crate) nth: u32,
}

impl PanicOrder {
    fn next() -> Self {
        static THREADS: AtomicU32 = AtomicU32::new(0);
        static DROPS: AtomicU32 = AtomicU32::new(0);
        std::thread_local! {
            static NUMBER: u32 = THREADS.fetch_add(1, Ordering::Relaxed) & THREAD;
        }
        let thread = NUMBER.try_with(|number| *number).unwrap_or(THREAD);
        Self { thread, nth: DROPS.fetch_add(1, Ordering::Relaxed) }
    }

    fn packed(self) -> u64 {
        u64::from(self.nth) << 32 | u64::from(self.thread) << 8
    }
}

/// What the runner keeps of a task.
pub(crate) struct Progressing {
    state: Arc<AtomicU64>,
}

thread_local! {
    /// Whether panics of this thread are not those of a handler.
    static NOBODY_BLAMED: Cell<bool> = const { Cell::new(false) };
}

/// Calls `end`, which ends an actor: of the tasks that it drops, none is blamed for a panic in it.
pub(crate) fn blame_nobody(end: impl FnOnce()) {
    let outer = NOBODY_BLAMED.replace(true);
    end();
    NOBODY_BLAMED.set(outer);
}

fn is_to_blame() -> bool {
    std::thread::panicking() && !NOBODY_BLAMED.try_with(Cell::get).unwrap_or(true)
}

impl TaskToken {
    pub(crate) fn new() -> (Self, Progressing) {
        let state = Arc::new(AtomicU64::new(Progress::Waiting as u64));
        (Self { state: state.clone() }, Progressing { state })
    }

    #[inline]
    pub(crate) fn begin(&self) {
        // Only the owner of the token writes, so that no exchange is needed.
        if self.state.load(Ordering::Relaxed) == Progress::Waiting as u64 {
            self.state.store(Progress::Begun as u64, Ordering::Release);
        }
    }
}

impl Drop for TaskToken {
    fn drop(&mut self) {
        let begun = self.state.load(Ordering::Relaxed) == Progress::Begun as u64;
        let panicked = is_to_blame();
        let state = match (begun, panicked) {
            (false, false) => Progress::DroppedWaiting,
            (true, false) => Progress::DroppedBegun,
            (false, true) => Progress::PanickedWaiting,
            (true, true) => Progress::PanickedBegun,
        };
        let order = if panicked { PanicOrder::next().packed() } else { 0 };
        self.state.store(order | state as u64, Ordering::Release);
    }
}

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
        ALL[(self.state.load(Ordering::Acquire) & STATE) as usize]
    }

    /// Returns on which thread and in which order it was dropped, if that thread was panicking.
    pub(crate) fn panic_order(&self) -> Option<PanicOrder> {
        let packed = self.state.load(Ordering::Acquire);
        let order = PanicOrder { thread: (packed >> 8) as u32 & THREAD, nth: (packed >> 32) as u32 };
        matches!(self.get(), Progress::PanickedWaiting | Progress::PanickedBegun).then_some(order)
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

    #[test]
    fn a_panic_while_an_actor_ends_blames_nobody() {
        let (token, progress) = TaskToken::new();
        blame_nobody(|| {
            let panicking = catch_unwind(AssertUnwindSafe(|| {
                let _token = token;
                panic!("an actor panics in its drop in this test");
            }));
            assert!(panicking.is_err());
        });
        assert_eq!(progress.get(), Progress::DroppedWaiting);
        assert!(!NOBODY_BLAMED.get());
    }

    #[test]
    fn tokens_tell_in_which_order_a_panic_dropped_them() {
        let (tokens, progress): (Vec<_>, Vec<_>) = (0..3).map(|_| TaskToken::new()).unzip();
        let panicking = catch_unwind(AssertUnwindSafe(|| {
            let _tokens = tokens; // dropped from the first to the last
            panic!("a handler panics in this test");
        }));
        assert!(panicking.is_err());
        let orders: Vec<PanicOrder> = progress.iter().map(|one| one.panic_order().unwrap()).collect();
        assert!(orders.is_sorted() && orders.iter().all(|one| one.thread == orders[0].thread));
    }
}
