//! A limit in bytes for deliveries that the broker does not limit (`no_ack`, or a prefetch of 0).
//!
//! When more than the limit waits for application code, the connection stops reading its socket until half of
//! it is free again.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
};

use tokio::time::Instant;

use super::{
    IoClock,
    delivery_memory::{ChannelShare, DeliveryMemory},
};

/// The bytes of unlimited deliveries on one connection.
pub(crate) struct ReadCredit {
    limit: usize,
    used: AtomicUsize,
    paused: AtomicBool,
    /// Woken when reading may continue.
    reader: Mutex<Option<Waker>>,
    accounts: Mutex<Vec<Weak<CreditAccount>>>,
    io_clock: Arc<IoClock>,
    memory: Arc<DeliveryMemory>,
}

/// The bytes that wait for one consumer.
pub(crate) struct CreditAccount {
    credit: Arc<ReadCredit>,
    channel: u16,
    consumer: u32,
    used: AtomicUsize,
    /// The consumer has ended and uses no more credit.
    closed: AtomicBool,
    /// It acknowledges, so that a prefetch can limit it.
    limitable: AtomicBool,
}

impl CreditAccount {
    /// Opens the account of a consumer; of one that acknowledges (`limitable`), a prefetch can take its place.
    pub(crate) fn open(credit: &Arc<ReadCredit>, channel: u16, consumer: u32, limitable: bool) -> Arc<Self> {
        let account = Arc::new(Self {
            credit: credit.clone(),
            channel,
            consumer,
            used: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            limitable: AtomicBool::new(limitable),
        });
        let mut accounts = credit.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|account| account.strong_count() > 0);
        accounts.push(Arc::downgrade(&account));
        account
    }

    pub(crate) fn take(&self, bytes: usize) {
        if !self.closed.load(Ordering::Relaxed) {
            self.used.fetch_add(bytes, Ordering::SeqCst);
            self.credit.take(bytes);
        }
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        // The bytes of a closed account are given back already.
        let less = |used: usize| Some(used.saturating_sub(bytes));
        if let Ok(used) = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            self.credit.give_back(bytes.min(used));
        }
    }

    /// No prefetch can take its place.
    pub(crate) fn set_unlimitable(&self) {
        self.limitable.store(false, Ordering::Relaxed);
    }

    /// Gives back all bytes and takes no more. Must not be called while another thread calls
    /// [`take`](Self::take).
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.credit.give_back(self.used.swap(0, Ordering::SeqCst));
    }
}

impl fmt::Debug for CreditAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreditAccount").field("consumer", &self.consumer).field("used", &self.used).finish()
    }
}

impl ReadCredit {
    /// Creates a credit of `limit` bytes, and of `prefetched` bytes for deliveries with a prefetch.
    pub(crate) fn new(limit: usize, prefetched: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            reader: Mutex::new(None),
            accounts: Mutex::default(),
            io_clock: Arc::new(IoClock::new(Instant::now())),
            memory: Arc::new(DeliveryMemory::new(prefetched)),
        }
    }

    /// Returns the clock of the connection whose reading this limits.
    pub(crate) fn io_clock(&self) -> &Arc<IoClock> {
        &self.io_clock
    }

    /// Returns the memory of the deliveries of the connection.
    pub(crate) fn memory(&self) -> &DeliveryMemory {
        &self.memory
    }

    /// Opens the part of a channel of that memory.
    pub(crate) fn share(&self, channel: u16) -> Arc<ChannelShare> {
        ChannelShare::open(&self.memory, channel)
    }

    /// Returns whether small deliveries are to be copied out of the blocks that they keep.
    pub(crate) fn copies_small(&self) -> bool {
        self.memory.copies_small(self.used())
    }

    /// Returns the bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Returns the consumer to limit by a prefetch, so that reading need not pause: of those that acknowledge the
    /// one with the most bytes, if the others alone are within the credit.
    pub(crate) fn limitable_consumer(&self) -> Option<(u16, u32)> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = accounts.iter().filter_map(Weak::upgrade);
        let (limitable, others): (Vec<_>, Vec<_>) =
            alive.partition(|account| account.limitable.load(Ordering::Relaxed));
        let used = |account: &Arc<CreditAccount>| account.used.load(Ordering::SeqCst);
        if others.iter().map(used).sum::<usize>() > self.limit {
            return None;
        }
        let most =
            limitable.iter().filter(|account| used(account) > 0).max_by_key(|account| used(account))?;
        Some((most.channel, most.consumer))
    }

    /// Returns the most bytes that may wait.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the channel and the consumer with the most bytes.
    pub(crate) fn largest_consumer(&self) -> Option<(u16, u32)> {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = accounts.iter().filter_map(Weak::upgrade);
        let used = alive.map(|account| (account.used.load(Ordering::SeqCst), account));
        let most = used.filter(|(used, _)| *used > 0).max_by_key(|(used, _)| *used);
        most.map(|(_, account)| (account.channel, account.consumer))
    }

    fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back, and wakes the reader once half of the limit is free.
    fn give_back(&self, bytes: usize) {
        let left = self.used.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        if left <= self.limit / 2 && self.paused.swap(false, Ordering::SeqCst) {
            let waker = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Returns whether reading must pause; if so, `reader` is woken when it may continue.
    pub(crate) fn must_pause(&self, reader: &Waker) -> bool {
        let used = self.used.load(Ordering::SeqCst);
        let paused = self.paused.load(Ordering::SeqCst);
        if used <= self.limit && !paused {
            return false;
        }
        let mut waiting = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let old = waiting.replace(reader.clone());
        self.paused.store(true, Ordering::SeqCst);
        // Bytes that were given back between the first check and the store saw no pause, so check again.
        let free = self.used.load(Ordering::SeqCst) <= self.limit / 2;
        if free {
            self.paused.store(false, Ordering::SeqCst);
        }
        drop(waiting);
        drop(old);
        !free
    }
}

impl fmt::Debug for ReadCredit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadCredit").field("limit", &self.limit).field("used", &self.used()).finish()
    }
}
