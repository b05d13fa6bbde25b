//! What happens after the lock of an outbox is released.

use std::{sync::Arc, task::Waker};

use actix::Recipient;

use super::signals::{Flush, Tick};

/// Collects wakes and messages while the lock is held.
#[derive(Default)]
#[must_use]
pub(super) struct DeferredEffects {
    pub(super) flush: Option<(Arc<Recipient<Flush>>, Flush)>,
    pub(super) tick: Option<Arc<Recipient<Tick>>>,
    pub(super) wakers: Vec<Waker>,
    /// Not woken, only dropped: the last reference to a task runs the destructors of all that it owns.
    pub(super) dropped: Vec<Waker>,
}

impl DeferredEffects {
    // Inlined into each change, so that what a change cannot ask for costs nothing.
    #[inline(always)]
    pub(super) fn run(self) {
        if let Some((to, flush)) = self.flush {
            to.do_send(flush);
        }
        if let Some(to) = self.tick {
            to.do_send(Tick);
        }
        if !self.wakers.is_empty() {
            wake(self.wakers);
        }
    }
}

#[inline(never)]
fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
