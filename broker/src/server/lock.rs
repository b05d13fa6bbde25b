//! The lock around the state of a broker. A thread that takes it twice is told so.

use std::{
    cell::RefCell,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::state::State;

thread_local! {
    /// Where the brokers are whose lock this thread has.
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The state, until the lock is given back.
pub(super) struct Locked<'s> {
    state: MutexGuard<'s, State>,
    place: usize,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = HELD.try_with(|held| held.borrow_mut().retain(|place| *place != self.place));
    }
}

/// The state of a broker, for one at a time.
#[derive(Debug)]
pub(super) struct Lock(Mutex<State>);

impl Lock {
    pub(super) fn new(state: State) -> Self {
        Self(Mutex::new(state))
    }

    /// # Panics
    /// If the thread has the lock already, as when what looks at the state calls the broker: it would wait for ever.
    pub(super) fn take(&self) -> Locked<'_> {
        let place = std::ptr::from_ref(self).addr();
        // A broker in a thread-local may be dropped after this one.
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            assert!(
                !held.contains(&place),
                "a closure that looks at a broker must not call it: ask the state that it is given"
            );
            held.push(place);
        });
        Locked { state: self.0.lock().unwrap_or_else(PoisonError::into_inner), place }
    }
}
