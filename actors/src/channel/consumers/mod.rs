//! The consumers of a channel, by tag and by id. The lookup of a delivery's consumer is on the hot path.

mod acker;
mod drops;
mod entry;
mod faults;
mod gets;
mod offsets;
mod phase;

use std::{collections::HashMap, sync::Arc};

use self::gets::Gets;
pub(super) use self::{
    acker::ChannelAcker,
    drops::Drops,
    entry::{ConsumerEntry, Subscription, Volume},
    faults::ConnectionFaults,
    phase::ConsumerPhase,
};
use crate::{
    error::Error,
    message::{ConsumerEnd, Delivery, DeliveryParts},
    outbox::Outbox,
    transport::Sizes,
};

#[derive(Debug, Default)]
pub(super) struct Consumers {
    /// By consumer tag, as in `basic.deliver`.
    positions: HashMap<Box<[u8]>, usize>,
    entries: Vec<Option<ConsumerEntry>>,
    /// The position of the last delivery's consumer; mostly that of the next one, too.
    last: usize,
    /// Positions whose batch is not empty.
    staged: Vec<usize>,
    ids: u32,
    gets: Gets,
}

impl Consumers {
    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn next_id(&mut self) -> u32 {
        loop {
            self.ids = self.ids.wrapping_add(1);
            // 0 is that of deliveries for no consumer.
            let id = self.ids;
            if id != 0 && self.by_id(id).is_none() && !self.gets.is_used(id) {
                return id;
            }
        }
    }

    /// Returns what settles the deliveries that are got from a queue.
    pub(super) fn get_acker(&mut self, queue: &str, outbox: &Arc<Outbox>) -> Arc<ChannelAcker> {
        if let Some(acker) = self.gets.held(queue) {
            return acker;
        }
        if let Some(acker) = self.gets.again(queue, outbox) {
            return acker;
        }
        let id = self.next_id();
        self.gets.first(id, queue, outbox)
    }

    pub(super) fn insert(&mut self, entry: ConsumerEntry) {
        let at = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        if at == self.entries.len() {
            self.entries.push(None);
        }
        if let Some(free) = self.entries.get_mut(at) {
            self.positions.insert(entry.tag().as_bytes().into(), at);
            *free = Some(entry);
        }
    }

    pub(super) fn get(&self, tag: &str) -> Option<&ConsumerEntry> {
        self.positions.get(tag.as_bytes()).and_then(|&at| self.entries.get(at)?.as_ref())
    }

    pub(super) fn get_mut(&mut self, tag: &str) -> Option<&mut ConsumerEntry> {
        self.positions.get(tag.as_bytes()).and_then(|&at| self.entries.get_mut(at)?.as_mut())
    }

    pub(super) fn remove(&mut self, tag: &str) -> Option<ConsumerEntry> {
        let at = self.positions.remove(tag.as_bytes())?;
        self.entries.get_mut(at)?.take()
    }

    /// Returns whether a delivery that is a stream's was added.
    pub(super) fn note_streams(&mut self) {
        for &at in &self.staged {
            if let Some(Some(entry)) = self.entries.get_mut(at)
                && entry.batch.last().is_some_and(|last| last.stream_offset().is_some())
            {
                entry.volume.of_stream = true;
            }
        }
    }

    pub(super) fn by_id(&mut self, id: u32) -> Option<&mut ConsumerEntry> {
        self.entries.iter_mut().flatten().find(|entry| entry.id() == id)
    }

    pub(super) fn remove_id(&mut self, id: u32) -> Option<ConsumerEntry> {
        let tag = self.by_id(id)?.tag().clone();
        self.remove(&tag)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &ConsumerEntry> {
        self.entries.iter().flatten()
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut ConsumerEntry> {
        self.entries.iter_mut().flatten()
    }

    /// Returns tag and queue of those that recover, and that the application has not cancelled.
    pub(super) fn wanted(&self) -> Vec<(Arc<str>, String)> {
        let is_wanted = |entry: &&ConsumerEntry| {
            entry.subscription.recovers
                && !entry.phase.is_cancelling()
                && !matches!(entry.phase, ConsumerPhase::Starting)
        };
        let named = |entry: &ConsumerEntry| (entry.tag().clone(), entry.subscription.queue.clone());
        self.all().filter(is_wanted).map(named).collect()
    }

    /// Returns the ids of those that start again with the channel, oldest first.
    pub(super) fn restarting(&self) -> Vec<u32> {
        let restarting = self.all().filter(|entry| entry.phase.restarts());
        let mut ids: Vec<u32> = restarting.map(ConsumerEntry::id).collect();
        ids.sort_unstable();
        ids
    }

    /// Returns the ids of others that start again on the queue of this one.
    pub(super) fn restarting_beside(&mut self, id: u32) -> Vec<u32> {
        let Some(queue) = self.by_id(id).map(|entry| entry.subscription.queue.clone()) else {
            return Vec::new();
        };
        let those = self.all().filter(|entry| entry.subscription.queue == queue && entry.phase.restarts());
        those.map(ConsumerEntry::id).filter(|other| *other != id).collect()
    }

    /// Suspends those that would start again with the channel, and have cost a connection by that; returns
    /// them, and why.
    pub(super) fn suspend_at_fault(&mut self) -> Vec<(u32, Error)> {
        let mut suspended = Vec::new();
        for entry in self.all_mut().filter(|entry| entry.phase.restarts()) {
            if let Some(error) = entry.faults.cost().cloned() {
                entry.phase.suspend();
                suspended.push((entry.id(), error));
            }
        }
        suspended
    }

    /// Returns those that are suspended because they have cost a connection, and why.
    pub(super) fn waiting_at_fault(&self) -> Vec<(u32, Error)> {
        let suspended = self.all().filter(|entry| entry.phase.is_suspended());
        suspended.filter_map(|entry| Some((entry.id(), entry.faults.cost()?.clone()))).collect()
    }

    /// The connection is lost, and no delivery that could not be read is the reason.
    pub(super) fn lost_otherwise(&mut self) {
        self.all_mut().for_each(|entry| entry.faults.lost_otherwise());
    }

    pub(super) fn rename(&mut self, old: &str, new: &str) {
        for entry in self.all_mut().filter(|entry| entry.subscription.queue == old) {
            new.clone_into(&mut entry.subscription.queue);
            entry.acker = Arc::new(entry.acker.renamed(new));
        }
        self.gets.rename(old, new);
    }

    /// The channel is closed and reopens.
    pub(super) fn channel_closed(&mut self) {
        self.all_mut().for_each(|entry| entry.phase.channel_closed());
    }

    /// The connection is lost. Ends those that do not recover, and returns their tags.
    pub(super) fn connection_lost(&mut self, end: &ConsumerEnd) -> Vec<Arc<str>> {
        self.all_mut().for_each(|entry| entry.phase.connection_lost());
        let those = self.all().filter(|entry| !entry.subscription.recovers);
        let tags: Vec<Arc<str>> = those.map(|entry| entry.tag().clone()).collect();
        for tag in &tags {
            if let Some(entry) = self.remove(tag) {
                entry.end(end.clone());
            }
        }
        tags
    }

    /// Finds the consumer of a delivery.
    #[inline]
    pub(super) fn find(&mut self, tag: &[u8]) -> Option<(usize, &ConsumerEntry)> {
        let last = self.entries.get(self.last).and_then(Option::as_ref);
        if last.is_none_or(|entry| entry.acker.tag.as_bytes() != tag) {
            self.last = self.position(tag)?;
        }
        let entry = self.entries.get(self.last)?.as_ref()?;
        Some((self.last, entry))
    }

    /// Not inlined, so that [`find`](Self::find) is small enough to be.
    #[inline(never)]
    fn position(&self, tag: &[u8]) -> Option<usize> {
        self.positions.get(tag).copied()
    }

    /// Adds a delivery to the batch of the consumer at this position.
    #[inline]
    pub(super) fn stage(&mut self, at: usize, parts: DeliveryParts) {
        let Some(Some(entry)) = self.entries.get_mut(at) else { return };
        if entry.batch.is_empty() {
            self.staged.push(at);
        }
        entry.stage(parts);
    }

    /// Counts the sizes of some of the deliveries that were added.
    pub(super) fn sample(&self, sizes: &mut Sizes) {
        for &at in &self.staged {
            let last = self.entries.get(at).and_then(Option::as_ref).and_then(|entry| entry.batch.last());
            if let Some(bytes) = last.and_then(Delivery::view_len) {
                sizes.sample(bytes);
            }
        }
    }

    /// Sends every batch to its sink.
    pub(super) fn flush(&mut self) {
        for at in self.staged.drain(..) {
            if let Some(Some(entry)) = self.entries.get_mut(at) {
                entry.flush();
            }
        }
    }

    /// Discards deliveries that no target has received: the broker requeues them.
    pub(super) fn discard(&mut self) {
        self.all_mut().for_each(ConsumerEntry::discard);
    }

    pub(super) fn end_all(&mut self, end: impl Fn() -> ConsumerEnd) {
        self.positions.clear();
        for entry in self.entries.drain(..).flatten() {
            entry.end(end());
        }
    }
}
