//! The entries of consumers: repairs, and consumers that only the application can start again.

use tokio::time::Instant;

use super::{EntityKey, Entry, Missing, Place, Progress, Repair};
use crate::{
    error::Error,
    internal::EndedChannel,
    message::{ConsumerEnd, EntityKind},
};

impl Missing {
    /// Consumers that waited for their queue are tried at once.
    pub(super) fn wake_consumers(&mut self, queue: &str, now: Instant) {
        for entry in self.entries.values_mut() {
            if entry.repair.as_ref().is_some_and(|repair| repair.trial.queue == queue)
                && let Progress::Waiting { due } = &mut entry.progress
            {
                *due = now;
            }
        }
    }

    /// A consumer cannot start on its channel.
    pub(in crate::supervisor) fn repair(&mut self, repair: Repair, error: Error, now: Instant) {
        let key = EntityKey::consumer(repair.channel, &repair.trial.tag);
        let entry = self.mark(key.clone(), error.clone(), now);
        entry.repair = Some(repair);
        entry.place = Place::UtilityChannel;
        let is_first = entry.backoff.is_first();
        match entry.progress {
            Progress::Starting | Progress::Detached if is_first => {
                entry.progress = Progress::Waiting { due: now };
            }
            Progress::Starting | Progress::Detached | Progress::GivenUp => self.refused(&key, error, now),
            Progress::Waiting { .. }
            | Progress::NoRoom { .. }
            | Progress::Unanswered
            | Progress::Trying
            | Progress::Back { .. } => {}
        }
    }

    /// A channel has not started this consumer with the others; its repair follows.
    pub(in crate::supervisor) fn not_started(&mut self, channel: u16, tag: &str, error: Error, now: Instant) {
        let key = EntityKey::consumer(channel, tag);
        let is_new = !self.is_missing(&key);
        let entry = self.mark(key, error, now);
        if is_new {
            entry.progress = Progress::Starting;
        }
    }

    /// A consumer delivers nothing, and only the application can change that.
    pub(in crate::supervisor) fn consumer_missing(
        &mut self,
        channel: u16,
        tag: &str,
        error: Error,
        now: Instant,
    ) {
        let entry = self.mark(EntityKey::consumer(channel, tag), error, now);
        entry.place = Place::Application;
    }

    /// Returns whether the broker has cancelled a consumer that was not tried since then.
    pub(in crate::supervisor) fn is_first_after_cancel(&self, key: &EntityKey) -> bool {
        self.entries.get(key).is_some_and(|entry| {
            let cause = entry.repair.as_ref().map(|repair| &repair.cause);
            entry.backoff.is_first() && matches!(cause, Some(ConsumerEnd::CancelledByBroker))
        })
    }

    pub(in crate::supervisor) fn repair_of(&self, key: &EntityKey) -> Option<Repair> {
        self.entries.get(key)?.repair.clone()
    }

    /// Returns whether another consumer of the same queue starts on the same channel.
    pub(in crate::supervisor) fn starts_beside(&self, key: &EntityKey) -> bool {
        let queue_of = |entry: &Entry| {
            let repair = entry.repair.as_ref()?;
            Some((repair.channel, repair.trial.queue.clone()))
        };
        let Some(queue) = self.entries.get(key).and_then(queue_of) else { return false };
        self.entries.iter().any(|(other, entry)| {
            other != key && entry.progress == Progress::Starting && queue_of(entry).as_ref() == Some(&queue)
        })
    }

    /// A consumer starts on its own channel.
    pub(in crate::supervisor) fn starting(&mut self, key: &EntityKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.progress = Progress::Starting;
            entry.backoff.tried();
        }
    }

    /// A channel has recovered on this connection: its consumers are started, except for those that it
    /// reported.
    pub(in crate::supervisor) fn channel_recovered(
        &mut self,
        channel: u16,
        skipped: &[String],
        now: Instant,
    ) {
        let is_started = |(key, entry): &(&EntityKey, &Entry)| {
            entry.progress == Progress::Detached
                && entry.place == Place::UtilityChannel
                && key.is_of_channel(channel)
                && !skipped.contains(&key.name())
        };
        let started: Vec<_> = self.entries.iter().filter(is_started).map(|(key, _)| key.clone()).collect();
        started.iter().for_each(|key| {
            self.found(key, now);
        });
    }

    /// A closed channel has no consumers.
    pub(in crate::supervisor) fn channel_closed(&mut self, channel: u16) {
        self.entries.retain(|key, _| !key.is_of_channel(channel));
    }

    /// A channel has ended though its consumers are wanted.
    pub(in crate::supervisor) fn consumers_ended(&mut self, ended: EndedChannel, now: Instant) {
        self.channel_closed(ended.channel);
        // It is listed with its consumers.
        self.remove(&EntityKey::Channel(ended.channel));
        self.ended.insert(ended, now);
    }

    /// The application gives up the consumer with this tag, or all, of a channel that has ended.
    pub(in crate::supervisor) fn give_up_ended(&mut self, id: u64, tag: Option<&str>) {
        self.ended.give_up(id, tag);
    }

    /// A consumer with this tag has started. Returns whether one of a channel that has ended had it.
    pub(in crate::supervisor) fn replaces_ended(&mut self, tag: &str) -> bool {
        self.ended.consumed(tag)
    }

    /// The application gives up what has this name. Returns whether a channel that has ended is or has it.
    pub(in crate::supervisor) fn forget_ended(&mut self, kind: EntityKind, name: &str) -> bool {
        self.ended.forget(kind, name)
    }
}
