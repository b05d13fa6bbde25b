//! The unsettled deliveries of a channel, and how each is settled: `basic.ack`, `basic.nack`, `basic.reject`.
//!
//! A delivery tag that is not outstanding never becomes a frame. The frames are in
//! [`ack_frames`](super::ack_frames).

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
};

use super::{Outbox, counters::OutcomeCounts, delayed_requeues::DelayedRequeues, held_back::HeldBack};
use crate::{
    error::{Error, Result},
    message::Outcome,
};

/// The most tags between the lowest unsettled one and the newest. Older unsettled ones move to `stragglers`.
pub(super) const RING: usize = 32 * 1024;

/// The consumer of deliveries that have none.
pub(crate) const NOBODY: u32 = 0;

/// Deliveries with consecutive tags, and the consumer that must settle them, if one must.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeliveredTags {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) consumer: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckState {
    Outstanding,
    /// Returned, and requeued once its consumer has ended or its time has come.
    HeldBack,
    /// To be acked in the next frames.
    Acked,
    Settled,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TagEntry {
    consumer: u32,
    pub(super) state: AckState,
}

#[derive(Debug)]
pub(super) struct Acks {
    /// The tag of `ring[0]`.
    pub(super) base: u64,
    pub(super) ring: VecDeque<TagEntry>,
    /// Tags below `base` that are not settled.
    pub(super) stragglers: BTreeMap<u64, TagEntry>,
    /// To be acked, in the order in which they were marked.
    pub(super) acked: Vec<u64>,
    /// To be rejected or nacked.
    pub(super) refused: Vec<(u64, Outcome)>,
    /// To be nacked, because they have no consumer.
    pub(super) returned: Vec<u64>,
    pub(super) held_back: HeldBack,
    /// Deliveries whose processing has failed again.
    pub(super) delayed: DelayedRequeues,
    outstanding: usize,
    /// The tags that were settled since the last commit, on a channel with transactions.
    pub(super) uncommitted: Option<Vec<RangeInclusive<u64>>>,
    pub(super) outcomes: OutcomeCounts,
}

impl Outbox {
    /// Marks a delivery as settled; the frame leaves with the next flush.
    pub(crate) fn settle(&self, channel_epoch: u32, tag: u64, consumer: u32, outcome: Outcome) -> Result<()> {
        self.settle_each(channel_epoch, std::iter::once(tag), consumer, outcome)
    }

    /// Marks deliveries as settled under one lock. After an error the rest is settled nevertheless.
    ///
    /// On a connection whose thread was blocked for so long that the broker has given it up, they return to
    /// the queue: a late acknowledgement would not arrive.
    ///
    /// # Errors
    /// The first one: `StaleDelivery`, or the error that closed the outbox.
    #[inline]
    pub(crate) fn settle_each(
        &self,
        channel_epoch: u32,
        tags: impl Iterator<Item = u64>,
        consumer: u32,
        outcome: Outcome,
    ) -> Result<()> {
        self.with(|state, effects| {
            let result = if let Some(error) = state.attachment.closed() {
                Err(error.clone())
            } else if channel_epoch != state.channel_epoch {
                Err(Error::stale("the delivery is stale, the broker delivers it again"))
            } else if state.stands_still()
                && let Some(returned) = outcome.returned_instead()
            {
                for tag in tags {
                    let _ = state.acks.mark(tag, consumer, returned);
                }
                Err(Error::stale(
                    "the arbiter of the connection stood still for longer than heartbeats allow, so that the \
                     connection counts as lost; the broker delivers the message again",
                ))
            } else {
                let mut result = Ok(());
                for tag in tags {
                    result = result.and(state.acks.mark(tag, consumer, outcome));
                }
                result
            };
            if state.acks.is_dirty() {
                state.request_flush(self.config.channel, effects);
            }
            result
        })
    }

    /// Returns whether a delivery of `channel_epoch` can no longer be settled; a tag of 0 is that of one that
    /// needs no settling.
    pub(crate) fn is_stale(&self, channel_epoch: u32, tag: u64) -> bool {
        let mut state = self.lock();
        channel_epoch != state.channel_epoch
            || state.attachment.closed().is_some()
            || (tag != 0 && !state.acks.is_outstanding(tag))
    }

    /// Records deliveries that are about to be handed out, of which `redelivered` were delivered before, and returns
    /// how many are unsettled. Tags count up from 1; `Err` has one that does not.
    pub(crate) fn delivered(&self, batch: &[DeliveredTags], redelivered: u64) -> Result<usize, u64> {
        let mut state = self.lock();
        let mut count = 0;
        for tags in batch {
            state.acks.delivered(*tags).map_err(|()| tags.first)?;
            count += tags.last.wrapping_sub(tags.first).wrapping_add(1);
        }
        // The counters of a closed channel do not change.
        if state.attachment.closed().is_none() {
            state.delivered += count;
            state.redelivered += redelivered;
        }
        state.render_many_acks(self.config.channel);
        Ok(state.acks.outstanding())
    }

    /// Returns the lowest tag that the next delivery may have.
    pub(crate) fn next_delivery(&self) -> u64 {
        let state = self.lock();
        state.acks.base + state.acks.ring.len() as u64
    }

    /// Returns how many deliveries of `consumer` with this tag or a higher one are unsettled.
    pub(crate) fn unsettled_since(&self, tag: u64, consumer: u32) -> usize {
        self.lock().acks.unsettled_since(tag, consumer)
    }

    /// Holds back returned deliveries of `consumer`, instead of requeueing them, until
    /// [`release`](Self::release).
    pub(crate) fn hold_back(&self, consumer: u32) {
        self.lock().acks.hold_back(consumer);
    }

    /// The broker has cancelled `consumer` and taken back what it had not settled: that can no longer be settled.
    pub(crate) fn take_back(&self, consumer: u32) {
        self.lock().acks.take_back(consumer);
    }

    /// Requeues what was held back for `consumer`.
    pub(crate) fn release(&self, consumer: u32) {
        self.with(|state, effects| {
            state.acks.release(consumer);
            if state.acks.is_dirty() {
                state.request_flush(self.config.channel, effects);
            }
        });
    }
}

impl Default for Acks {
    fn default() -> Self {
        Self {
            base: 1,
            ring: VecDeque::new(),
            stragglers: BTreeMap::new(),
            acked: Vec::new(),
            refused: Vec::new(),
            returned: Vec::new(),
            held_back: HeldBack::default(),
            delayed: DelayedRequeues::default(),
            outstanding: 0,
            uncommitted: None,
            outcomes: OutcomeCounts::default(),
        }
    }
}

impl Acks {
    /// Returns whether there are frames to write.
    #[inline]
    pub(super) fn is_dirty(&self) -> bool {
        !self.acked.is_empty() || !self.refused.is_empty() || !self.returned.is_empty()
    }

    #[inline]
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The channel is opened again: the broker counts from 1 and has requeued what was not settled.
    pub(super) fn reset(&mut self) {
        *self = Self { outcomes: self.outcomes, ..Self::default() };
    }

    /// Records deliveries; `Err` if their tags are not the next ones.
    pub(super) fn delivered(&mut self, tags: DeliveredTags) -> Result<(), ()> {
        // Deliveries that need no settling are not counted: RabbitMQ gives a direct reply the next tag, and
        // the same tag to the delivery after it.
        let Some(consumer) = tags.consumer else { return Ok(()) };
        let next = self.base + self.ring.len() as u64;
        if tags.first < next || tags.last < tags.first || tags.last == u64::MAX {
            return Err(());
        }
        self.skip(tags.first - next);
        let count = tags.last - tags.first + 1;
        self.outstanding += count as usize;
        self.push(TagEntry { consumer, state: AckState::Outstanding }, count);
        Ok(())
    }

    /// Treats the next tags as settled. A gap of any width costs no more than what is outstanding.
    fn skip(&mut self, count: u64) {
        if count > 0 && count <= RING as u64 && !self.ring.is_empty() {
            self.push(TagEntry { consumer: 0, state: AckState::Settled }, count);
        } else if count > 0 {
            for entry in self.ring.drain(..) {
                if entry.state != AckState::Settled {
                    self.stragglers.insert(self.base, entry);
                }
                self.base += 1;
            }
            self.base += count;
        }
    }

    fn push(&mut self, entry: TagEntry, count: u64) {
        self.ring.extend(std::iter::repeat_n(entry, count as usize));
        while self.ring.len() > RING {
            let Some(oldest) = self.ring.pop_front() else { break };
            if oldest.state != AckState::Settled {
                self.stragglers.insert(self.base, oldest);
            }
            self.base += 1;
        }
    }

    /// Marks a delivery as settled.
    ///
    /// # Errors
    /// `StaleDelivery` if it is settled already, unless it was only dropped.
    pub(super) fn mark(&mut self, tag: u64, consumer: u32, outcome: Outcome) -> Result<()> {
        if !self.is_outstanding(tag) {
            let returned = matches!(outcome, Outcome::NotBegun | Outcome::Failed);
            let stale = || Error::stale("the delivery is already settled, or the broker has taken it back");
            return if returned { Ok(()) } else { Err(stale()) };
        }
        match outcome {
            Outcome::Ack => self.ack(tag),
            Outcome::AckAll => {
                for tag in self.outstanding_up_to(tag, consumer) {
                    self.ack(tag);
                }
            }
            Outcome::NackAll { requeue } => {
                for tag in self.outstanding_up_to(tag, consumer) {
                    self.refuse(tag, Outcome::Nack { requeue });
                }
            }
            Outcome::NotBegun if consumer == NOBODY => {
                if self.refused_tag(tag, Outcome::Nack { requeue: true }) {
                    self.returned.push(tag);
                }
            }
            Outcome::NotBegun => self.requeue(tag, consumer, Outcome::Nack { requeue: true }),
            Outcome::Failed => self.requeue(tag, consumer, Outcome::Reject { requeue: true }),
            Outcome::Nack { .. } | Outcome::Reject { .. } => self.refuse(tag, outcome),
        }
        Ok(())
    }

    fn ack(&mut self, tag: u64) {
        if let Some(entry) = self.entry(tag) {
            entry.state = AckState::Acked;
            self.outstanding -= 1;
            self.acked.push(tag);
            self.outcomes.acked += 1;
        }
    }

    pub(super) fn refuse(&mut self, tag: u64, outcome: Outcome) {
        if self.refused_tag(tag, outcome) {
            self.refused.push((tag, outcome));
        }
    }

    /// Notes that a tag is settled. Returns whether it was not.
    fn refused_tag(&mut self, tag: u64, outcome: Outcome) -> bool {
        let Some(entry) = self.entry(tag) else { return false };
        entry.state = AckState::Settled;
        self.outstanding -= 1;
        self.outcomes.refused(outcome);
        if tag < self.base {
            self.stragglers.remove(&tag);
        }
        true
    }

    /// Holds back a tag: neither its delivery, which is gone, nor an `AckAll` of a later one settles it.
    pub(super) fn keep_back(&mut self, tag: u64) {
        if let Some(entry) = self.entry(tag) {
            entry.state = AckState::HeldBack;
        }
    }

    #[inline]
    pub(super) fn is_outstanding(&mut self, tag: u64) -> bool {
        self.entry(tag).is_some_and(|entry| entry.state == AckState::Outstanding)
    }

    fn outstanding_up_to(&self, tag: u64, consumer: u32) -> Vec<u64> {
        let mine = |entry: &TagEntry| entry.consumer == consumer && entry.state == AckState::Outstanding;
        let old = self.stragglers.range(..=tag).filter(|(_, entry)| mine(entry)).map(|(&tag, _)| tag);
        let new = (self.base..=tag).zip(&self.ring).filter(|(_, entry)| mine(entry)).map(|(tag, _)| tag);
        old.chain(new).collect()
    }

    fn unsettled_since(&self, tag: u64, consumer: u32) -> usize {
        let mine = |entry: &TagEntry| {
            entry.consumer == consumer && matches!(entry.state, AckState::Outstanding | AckState::HeldBack)
        };
        let old = self.stragglers.range(tag..).filter(|(_, entry)| mine(entry));
        let new = (self.base..).zip(&self.ring).filter(|(at, entry)| *at >= tag && mine(entry));
        old.count() + new.count()
    }

    /// Removes the outstanding deliveries of `consumer`. Those already marked are still settled.
    pub(super) fn take_back(&mut self, consumer: u32) {
        let Self { ring, stragglers, outstanding, held_back, delayed, .. } = self;
        let mut taken = |entry: &TagEntry| {
            let taken = entry.consumer == consumer
                && matches!(entry.state, AckState::Outstanding | AckState::HeldBack);
            *outstanding -= usize::from(taken);
            taken
        };
        for entry in ring {
            if taken(entry) {
                entry.state = AckState::Settled;
            }
        }
        stragglers.retain(|_, entry| !taken(entry));
        held_back.forget(consumer);
        delayed.remove_consumer(consumer).for_each(drop);
    }

    /// Removes all outstanding deliveries, which the broker requeues. Tags count on.
    pub(super) fn forget_all(&mut self) {
        self.base += self.ring.len() as u64;
        self.ring.clear();
        self.stragglers.clear();
        self.held_back.forget_all();
        self.delayed.clear();
        self.outstanding = 0;
    }

    #[inline]
    pub(super) fn entry(&mut self, tag: u64) -> Option<&mut TagEntry> {
        match tag.checked_sub(self.base) {
            Some(at) => self.ring.get_mut(usize::try_from(at).ok()?),
            None => self.stragglers.get_mut(&tag),
        }
    }
}
