//! The unsettled deliveries of a channel, and what is to be said of them.
//!
//! A tag that is not outstanding here never becomes a frame. Acks are merged: the lowest run of settled tags goes out
//! as one `multiple` ack, and only when everything below it, over all consumers and gets, is settled.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::BytesMut;

use crate::{
    error::{Error, Result},
    wire::{put_ack, put_nack, put_reject},
};

/// Tags between the lowest unsettled one and the newest, before the oldest are set aside one by one.
const RING: usize = 32 * 1024;
/// A broker counts tags up by one; a jump beyond this is not believed.
const LARGEST_GAP: u64 = 1 << 20;
const ACK_LEN: usize = 21;

/// What is said of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `basic.ack`
    Ack,
    /// `basic.ack` for this delivery and all older ones of its consumer.
    AckAll,
    /// `basic.nack`
    Nack {
        /// Back into its queue, or dropped or dead-lettered.
        requeue: bool,
    },
    /// `basic.nack` for this delivery and all older ones of its consumer.
    NackAll {
        /// Back into their queue, or dropped or dead-lettered.
        requeue: bool,
    },
    /// `basic.reject`
    Reject {
        /// Back into its queue, or dropped or dead-lettered.
        requeue: bool,
    },
    /// Nobody said anything: requeue, or hold back while its consumer goes.
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Outstanding,
    /// Dropped, and to be requeued when its consumer is gone.
    Held,
    Acked,
    Settled,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    consumer: u32,
    mark: Mark,
}

#[derive(Debug)]
pub(super) struct Settles {
    /// The tag of `ring[0]`.
    base: u64,
    ring: VecDeque<Entry>,
    /// Outstanding, held or acked tags below `base`.
    stragglers: BTreeMap<u64, Entry>,
    acks: Vec<u64>,
    refusals: Vec<(u64, Verdict)>,
    held: HashMap<u32, Vec<u64>>,
    outstanding: usize,
}

impl Default for Settles {
    fn default() -> Self {
        Self {
            base: 1,
            ring: VecDeque::new(),
            stragglers: BTreeMap::new(),
            acks: Vec::new(),
            refusals: Vec::new(),
            held: HashMap::new(),
            outstanding: 0,
        }
    }
}

impl Settles {
    pub(super) fn is_dirty(&self) -> bool {
        !self.acks.is_empty() || !self.refusals.is_empty()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Begins a new life: the broker counts from 1 again and has requeued what was not settled.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Notes a delivery; no consumer: it needs no settling.
    pub(super) fn delivered(&mut self, tag: u64, consumer: Option<u32>) -> Result<(), ()> {
        let next = self.base + self.ring.len() as u64;
        if tag < next || tag - next > LARGEST_GAP {
            return Err(());
        }
        for _ in next..tag {
            self.push(Entry { consumer: 0, mark: Mark::Settled });
        }
        match consumer {
            Some(consumer) => {
                self.outstanding += 1;
                self.push(Entry { consumer, mark: Mark::Outstanding });
            }
            None => self.push(Entry { consumer: 0, mark: Mark::Settled }),
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) {
        if self.ring.is_empty() && entry.mark == Mark::Settled {
            self.base += 1;
            return;
        }
        self.ring.push_back(entry);
        if self.ring.len() > RING {
            if let Some(oldest) = self.ring.pop_front() {
                if oldest.mark != Mark::Settled {
                    self.stragglers.insert(self.base, oldest);
                }
                self.base += 1;
            }
        }
    }

    pub(super) fn mark(&mut self, tag: u64, consumer: u32, verdict: Verdict) -> Result<()> {
        let outstanding = self.entry(tag).is_some_and(|e| e.mark == Mark::Outstanding);
        if !outstanding {
            let known = matches!(verdict, Verdict::Dropped);
            return if known { Ok(()) } else { Err(Error::stale("the delivery is settled already")) };
        }
        match verdict {
            Verdict::Ack => self.acked(tag),
            Verdict::AckAll => {
                for tag in self.up_to(tag, consumer) {
                    self.acked(tag);
                }
            }
            Verdict::NackAll { requeue } => {
                for tag in self.up_to(tag, consumer) {
                    self.refuse(tag, Verdict::Nack { requeue });
                }
            }
            Verdict::Dropped if self.held.contains_key(&consumer) => self.keep_back(tag, consumer),
            Verdict::Dropped => self.refuse(tag, Verdict::Reject { requeue: true }),
            Verdict::Nack { .. } | Verdict::Reject { .. } => self.refuse(tag, verdict),
        }
        Ok(())
    }

    fn acked(&mut self, tag: u64) {
        if let Some(entry) = self.entry(tag) {
            entry.mark = Mark::Acked;
            self.outstanding -= 1;
            self.acks.push(tag);
        }
    }

    fn refuse(&mut self, tag: u64, verdict: Verdict) {
        if let Some(entry) = self.entry(tag) {
            entry.mark = Mark::Settled;
            self.outstanding -= 1;
            self.refusals.push((tag, verdict));
        }
        if tag < self.base {
            self.stragglers.remove(&tag);
        }
    }

    /// A held tag is nobody's to settle any more: not by its delivery, which is gone, nor by a later one for all.
    fn keep_back(&mut self, tag: u64, consumer: u32) {
        if let Some(entry) = self.entry(tag) {
            entry.mark = Mark::Held;
        }
        self.held.entry(consumer).or_default().push(tag);
    }

    /// The tags of `consumer` up to `tag` that are not settled.
    fn up_to(&self, tag: u64, consumer: u32) -> Vec<u64> {
        let mine = |e: &Entry| e.consumer == consumer && e.mark == Mark::Outstanding;
        let old = self.stragglers.range(..=tag).filter(|(_, e)| mine(e)).map(|(&tag, _)| tag);
        let new = (self.base..=tag).zip(&self.ring).filter(|(_, e)| mine(e)).map(|(tag, _)| tag);
        old.chain(new).collect()
    }

    pub(super) fn hold(&mut self, consumer: u32) {
        self.held.entry(consumer).or_default();
    }

    pub(super) fn release(&mut self, consumer: u32) {
        for tag in self.held.remove(&consumer).unwrap_or_default() {
            self.refuse(tag, Verdict::Reject { requeue: true });
        }
    }

    /// An upper bound of what [`render`](Self::render) writes.
    pub(super) fn rendered_len(&self) -> usize {
        (self.acks.len() + self.refusals.len() + 1) * ACK_LEN
    }

    /// Writes refusals first, then the lowest run as one ack, then what is acked beyond a gap one by one.
    pub(super) fn render(&mut self, channel: u16, buf: &mut BytesMut) {
        for (tag, verdict) in self.refusals.drain(..) {
            match verdict {
                Verdict::Nack { requeue } => put_nack(buf, channel, tag, false, requeue),
                Verdict::Reject { requeue } => put_reject(buf, channel, tag, requeue),
                Verdict::Ack | Verdict::AckAll | Verdict::NackAll { .. } | Verdict::Dropped => {}
            }
        }
        let (mut run, mut last) = (0, 0);
        if self.stragglers.is_empty() {
            while let Some(entry) = self.ring.front() {
                match entry.mark {
                    Mark::Outstanding | Mark::Held => break,
                    Mark::Acked => (run, last) = (run + 1, self.base),
                    Mark::Settled => {}
                }
                self.ring.pop_front();
                self.base += 1;
            }
            if run > 0 {
                put_ack(buf, channel, last, run > 1);
            }
        }
        if run == self.acks.len() {
            self.acks.clear();
            return;
        }
        let acks = std::mem::take(&mut self.acks);
        for tag in acks {
            if tag < self.base && self.stragglers.remove(&tag).is_none() {
                continue;
            }
            put_ack(buf, channel, tag, false);
            if let Some(entry) = self.entry(tag) {
                entry.mark = Mark::Settled;
            }
        }
    }

    fn entry(&mut self, tag: u64) -> Option<&mut Entry> {
        match tag.checked_sub(self.base) {
            Some(at) => self.ring.get_mut(at as usize),
            None => self.stragglers.get_mut(&tag),
        }
    }
}
