//! Credit in bytes between the socket and consumers whose deliveries the broker does not bound (`no_ack`, or a
//! prefetch of 0): when too much waits for user code, the connection stops reading its socket.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
};

/// The budget of one connection for deliveries that only its own memory bounds.
pub(crate) struct ReadCredit {
    limit: usize,
    used: AtomicUsize,
    paused: AtomicBool,
    reader: Mutex<Option<Waker>>,
    accounts: Mutex<Vec<Weak<CreditAccount>>>,
}

/// What one consumer uses of it.
pub(crate) struct CreditAccount {
    credit: Arc<ReadCredit>,
    channel: u16,
    consumer: u32,
    used: AtomicUsize,
    written_off: AtomicBool,
}

impl CreditAccount {
    pub(crate) fn open(credit: &Arc<ReadCredit>, channel: u16, consumer: u32) -> Arc<Self> {
        let account = Arc::new(Self {
            credit: credit.clone(),
            channel,
            consumer,
            used: AtomicUsize::new(0),
            written_off: AtomicBool::new(false),
        });
        let mut accounts = credit.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|account| account.strong_count() > 0);
        accounts.push(Arc::downgrade(&account));
        account
    }

    pub(crate) fn take(&self, bytes: usize) {
        if !self.written_off.load(Ordering::Relaxed) {
            self.used.fetch_add(bytes, Ordering::SeqCst);
            self.credit.take(bytes);
        }
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        // What was written off is back already.
        let less = |used: usize| Some(used.saturating_sub(bytes));
        if let Ok(used) = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            self.credit.give_back(bytes.min(used));
        }
    }

    /// Counts the consumer no more; called by whoever takes for it.
    pub(crate) fn write_off(&self) {
        self.written_off.store(true, Ordering::Relaxed);
        self.credit.give_back(self.used.swap(0, Ordering::SeqCst));
    }
}

impl fmt::Debug for CreditAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreditAccount").field("consumer", &self.consumer).field("used", &self.used).finish()
    }
}

impl ReadCredit {
    /// Makes a budget of `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            reader: Mutex::new(None),
            accounts: Mutex::default(),
        }
    }

    /// Counts the bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Names the channel and the consumer that use most of it.
    pub(crate) fn greediest(&self) -> Option<(u16, u32)> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = accounts.iter().filter_map(Weak::upgrade);
        let used = alive.map(|account| (account.used.load(Ordering::SeqCst), account));
        let most = used.filter(|(used, _)| *used > 0).max_by_key(|(used, _)| *used);
        most.map(|(_, account)| (account.channel, account.consumer))
    }

    fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back, and wakes the reader once half of the budget is free again.
    fn give_back(&self, bytes: usize) {
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

impl fmt::Debug for ReadCredit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadCredit").field("limit", &self.limit).field("used", &self.used()).finish()
    }
}
