//! The memory of the deliveries of one connection, and two limits of it.
//!
//! A delivery is a view of the block that it came in, and keeps all of the block. Nothing is counted for each
//! delivery: the reader knows which blocks are referred to, and each channel knows how many deliveries are
//! unsettled, and about how large they are. A body that came in several frames has a buffer of its own, which
//! is counted exactly.
//!
//! - Small deliveries are copied out of their blocks while the blocks have more than [`FREE_BLOCKS`] and more
//!   than [`WORTH`] times the bytes of small deliveries.
//! - A consumer with a prefetch is given a smaller one while unsettled deliveries have more than the bound.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

/// Up to so many bytes of blocks are kept, however little of them is in use.
const FREE_BLOCKS: usize = 4 << 20;
/// Above that, blocks have at most so many times the bytes of the small deliveries in them.
const WORTH: usize = 4;
/// A delivery of fewer bytes is small.
pub(crate) const SMALL: usize = 4096;
/// What a delivery costs in queues in addition to its bytes.
const OVERHEAD: usize = 256;

pub(crate) struct DeliveryMemory {
    /// The most bytes of unsettled deliveries of consumers with a prefetch.
    bound: usize,
    /// Of blocks that are referred to.
    blocks: AtomicUsize,
    /// Of bodies that were joined from several frames.
    joined: AtomicUsize,
    /// The sums of all channels.
    views: AtomicUsize,
    small: AtomicUsize,
    unsettled: AtomicUsize,
    shares: Mutex<Vec<Weak<ChannelShare>>>,
    /// The bytes that were used when the first channel was asked to reduce a prefetch, and when the last was; 0 if
    /// none was asked since they were below the bound.
    first_ask: AtomicUsize,
    last_ask: AtomicUsize,
}

/// The part of one channel.
pub(crate) struct ChannelShare {
    memory: Arc<DeliveryMemory>,
    channel: u16,
    joined: AtomicUsize,
    /// About how many bytes of blocks its unsettled deliveries have.
    views: AtomicUsize,
    /// The same, if all of them were small.
    small: AtomicUsize,
    unsettled: AtomicUsize,
    /// It was asked to reduce a prefetch.
    asked: AtomicBool,
    /// A call has no reply.
    awaits_reply: AtomicBool,
}

/// How large the deliveries of a channel are: the average of those in views of blocks, and of the small ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    all: usize,
    small: usize,
}

impl Sizes {
    /// Counts in a delivery of this many bytes.
    pub(crate) fn sample(&mut self, bytes: usize) {
        let average = |before: usize| if before == 0 { bytes } else { (7 * before + bytes) / 8 };
        self.all = average(self.all);
        if bytes < SMALL {
            self.small = average(self.small);
        }
    }
}

/// The buffer of a joined body, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct JoinedBytes {
    share: Arc<ChannelShare>,
    bytes: usize,
}

impl DeliveryMemory {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            blocks: AtomicUsize::new(0),
            joined: AtomicUsize::new(0),
            views: AtomicUsize::new(0),
            small: AtomicUsize::new(0),
            unsettled: AtomicUsize::new(0),
            shares: Mutex::default(),
            first_ask: AtomicUsize::new(0),
            last_ask: AtomicUsize::new(0),
        }
    }

    /// Returns the most bytes of unsettled deliveries.
    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    /// Sets the bytes of blocks that are referred to.
    pub(crate) fn set_blocks(&self, bytes: usize) {
        self.blocks.store(bytes, Relaxed);
    }

    /// Returns whether small deliveries are to be copied; `others` are the bytes of deliveries that are not
    /// settled.
    pub(crate) fn copies_small(&self, others: usize) -> bool {
        let blocks = self.blocks.load(Relaxed);
        blocks > FREE_BLOCKS && blocks - FREE_BLOCKS > WORTH * (self.small.load(Relaxed) + others)
    }

    /// Returns the bytes of unsettled deliveries.
    pub(crate) fn used(&self) -> usize {
        // Blocks are also kept by views of the application, which no smaller prefetch helps against.
        let views = self.blocks.load(Relaxed).min(self.views.load(Relaxed));
        self.joined.load(Relaxed) + views + OVERHEAD * self.unsettled.load(Relaxed)
    }

    /// Returns the channel that is to reduce a prefetch, if deliveries use too much: the one with the most bytes.
    ///
    /// What a target has in its mailbox is free only once it gets there. So another channel is asked only when
    /// deliveries use an eighth more, and the same one when they use half of the bound more.
    #[inline]
    pub(crate) fn channel_over_bound(&self) -> Option<u16> {
        let used = self.used();
        if used > self.bound {
            self.ask_largest(used)
        } else {
            self.first_ask.store(0, Relaxed);
            None
        }
    }

    #[cold]
    fn ask_largest(&self, used: usize) -> Option<u16> {
        let (first, last) = (self.first_ask.load(Relaxed), self.last_ask.load(Relaxed));
        let is_first = first == 0 || used > first + self.bound / 2;
        if !is_first && used <= last + self.bound / 8 {
            return None;
        }
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let shares: Vec<_> = shares.iter().filter_map(Weak::upgrade).collect();
        self.last_ask.store(used, Relaxed);
        if is_first {
            self.first_ask.store(used, Relaxed);
            shares.iter().for_each(|share| share.asked.store(false, Relaxed));
        }
        let shares = shares.iter().filter(|share| !share.asked.load(Relaxed));
        let largest = shares.max_by_key(|share| share.used()).filter(|share| share.used() > 0)?;
        largest.asked.store(true, Relaxed);
        Some(largest.channel)
    }
}

impl DeliveryMemory {
    /// Returns whether a call on any channel has no reply.
    pub(crate) fn awaits_reply(&self) -> bool {
        let shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.iter().filter_map(Weak::upgrade).any(|share| share.awaits_reply.load(Relaxed))
    }
}

impl ChannelShare {
    pub(super) fn open(memory: &Arc<DeliveryMemory>, channel: u16) -> Arc<Self> {
        let share = Arc::new(Self {
            memory: memory.clone(),
            channel,
            joined: AtomicUsize::new(0),
            views: AtomicUsize::new(0),
            small: AtomicUsize::new(0),
            unsettled: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
            awaits_reply: AtomicBool::new(false),
        });
        let mut shares = memory.shares.lock().unwrap_or_else(PoisonError::into_inner);
        shares.retain(|share| share.strong_count() > 0);
        shares.push(Arc::downgrade(&share));
        share
    }

    fn used(&self) -> usize {
        self.joined.load(Relaxed) + self.views.load(Relaxed) + OVERHEAD * self.unsettled.load(Relaxed)
    }

    /// Sets how many deliveries are unsettled, and how large they are.
    pub(crate) fn set_unsettled(&self, unsettled: usize, sizes: Sizes) {
        let change = |own: &AtomicUsize, sum: &AtomicUsize, new: usize| {
            let old = own.swap(new, Relaxed);
            sum.fetch_add(new.wrapping_sub(old), Relaxed);
        };
        change(&self.unsettled, &self.memory.unsettled, unsettled);
        change(&self.views, &self.memory.views, unsettled.saturating_mul(sizes.all));
        change(&self.small, &self.memory.small, unsettled.saturating_mul(sizes.small));
    }

    /// The broker has taken back what was unsettled.
    pub(crate) fn forget_unsettled(&self) {
        self.set_unsettled(0, Sizes::default());
    }

    /// Returns whether the deliveries of all channels use too much.
    pub(crate) fn is_over_bound(&self) -> bool {
        self.memory.used() > self.memory.bound
    }

    /// Sets whether a call has no reply.
    pub(crate) fn set_awaits_reply(&self, awaits: bool) {
        self.awaits_reply.store(awaits, Relaxed);
    }

    /// Counts the buffer of a body until the value is dropped.
    pub(crate) fn joined(self: &Arc<Self>, bytes: usize) -> JoinedBytes {
        self.joined.fetch_add(bytes, Relaxed);
        self.memory.joined.fetch_add(bytes, Relaxed);
        JoinedBytes { share: self.clone(), bytes }
    }
}

impl Drop for JoinedBytes {
    fn drop(&mut self) {
        self.share.joined.fetch_sub(self.bytes, Relaxed);
        self.share.memory.joined.fetch_sub(self.bytes, Relaxed);
    }
}

impl fmt::Debug for DeliveryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryMemory")
            .field("bound", &self.bound)
            .field("blocks", &self.blocks)
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ChannelShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelShare").field("channel", &self.channel).field("used", &self.used()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(samples: impl IntoIterator<Item = usize>) -> Sizes {
        let mut sizes = Sizes::default();
        samples.into_iter().for_each(|bytes| sizes.sample(bytes));
        sizes
    }

    fn memory(bound: usize) -> Arc<DeliveryMemory> {
        Arc::new(DeliveryMemory::new(bound))
    }

    /// PRO-19: deliveries of 100 bytes between larger ones that are settled: each keeps its block.
    #[test]
    fn small_deliveries_that_keep_blocks_are_copied() {
        let memory = memory(usize::MAX);
        let share = ChannelShare::open(&memory, 1);
        let sizes = sizes([100, 62_000, 100, 62_000]);
        for held in 1..=64 {
            share.set_unsettled(held, sizes);
            memory.set_blocks(held * (64 << 10));
            assert!(!memory.copies_small(0), "{held}");
        }
        share.set_unsettled(70, sizes);
        memory.set_blocks(70 * (64 << 10));
        assert!(memory.copies_small(0));
        assert!(!memory.copies_small(1 << 20), "others are held, too");
    }

    #[test]
    fn blocks_full_of_deliveries_are_not_copied() {
        let memory = memory(usize::MAX);
        let share = ChannelShare::open(&memory, 1);
        for held in (1000..1_000_000).step_by(1000) {
            share.set_unsettled(held, sizes([100]));
            memory.set_blocks(held * 100);
            assert!(!memory.copies_small(0), "{held}");
        }
    }

    #[test]
    fn what_deliveries_use_is_the_sum_of_all_channels() {
        let memory = memory(10_000);
        let (one, other) = (ChannelShare::open(&memory, 1), ChannelShare::open(&memory, 2));
        one.set_unsettled(2, sizes([1000]));
        other.set_unsettled(1, sizes([3000]));
        memory.set_blocks(1 << 20);
        assert_eq!(memory.used(), 5000 + 3 * OVERHEAD);
        let body = other.joined(8000);
        assert!(one.is_over_bound());
        assert_eq!((memory.channel_over_bound(), memory.channel_over_bound()), (Some(2), None));
        let more = other.joined(2000);
        assert_eq!((memory.channel_over_bound(), memory.channel_over_bound()), (Some(1), None));
        let half = other.joined(4000);
        assert_eq!((memory.channel_over_bound(), memory.channel_over_bound()), (Some(2), None));
        drop(half);
        drop((body, more));
        assert_eq!(memory.channel_over_bound(), None);
        other.forget_unsettled();
        assert_eq!(memory.used(), 2000 + 2 * OVERHEAD);
        memory.set_blocks(1500);
        assert_eq!(memory.used(), 1500 + 2 * OVERHEAD, "they have no more than their blocks");
    }
}
