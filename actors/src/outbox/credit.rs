//! Credit in bytes between the socket and consumers whose deliveries the broker does not bound (`no_ack`, or a
//! prefetch of 0): when too much waits for user code, the connection stops reading its socket.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
};

/// The budget of one connection for deliveries that only its own memory bounds.
pub(crate) struct Credit {
    limit: usize,
    used: AtomicUsize,
    paused: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Credit {
    /// Makes a budget of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), paused: AtomicBool::new(false), reader: Mutex::new(None) }
    }

    /// Counts the bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back, and wakes the reader once half of the budget is free again.
    pub(crate) fn give_back(&self, bytes: usize) {
        let left = self.used.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        if left <= self.limit / 2 && self.paused.swap(false, Ordering::SeqCst) {
            let waker = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Tells whether reading must pause, and if so wakes `reader` when it need not any more.
    pub(crate) fn must_pause(&self, reader: &Waker) -> bool {
        let used = self.used.load(Ordering::SeqCst);
        let paused = self.paused.load(Ordering::SeqCst);
        if used <= self.limit && !paused {
            return false;
        }
        let mut place = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let old = place.replace(reader.clone());
        self.paused.store(true, Ordering::SeqCst);
        // Whoever gave back between the first look and the store saw no pause, so look again.
        let free = self.used.load(Ordering::SeqCst) <= self.limit / 2;
        if free {
            self.paused.store(false, Ordering::SeqCst);
        }
        drop(place);
        drop(old);
        !free
    }
}

impl fmt::Debug for Credit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit").field("limit", &self.limit).field("used", &self.used()).finish()
    }
}
