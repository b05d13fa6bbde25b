//! Channels that are missing, and what is missing because no channel can be opened for it.

use tokio::time::Instant;

use super::{
    EntityKey, Missing, Place,
    entry::{Entry, Progress},
};
use crate::error::Error;

impl Missing {
    /// A channel cannot be attached, and is closed.
    pub(in crate::supervisor) fn channel_missing(&mut self, channel: u16, error: Error, now: Instant) {
        self.mark(EntityKey::Channel(channel), error, now).progress = Progress::GivenUp;
    }

    /// A channel was closed, and reopens at this time, or with the next connection.
    pub(in crate::supervisor) fn channel_backing_off(
        &mut self,
        channel: u16,
        error: Error,
        until: Option<Instant>,
        now: Instant,
    ) {
        let entry = self.mark(EntityKey::Channel(channel), error, now);
        let progress = until.map_or(Progress::Unanswered, |due| Progress::Waiting { due });
        (entry.place, entry.progress) = (Place::Channel, progress);
    }

    /// A channel is open again, or has ended.
    pub(in crate::supervisor) fn channel_reopened(&mut self, channel: u16) {
        let key = EntityKey::Channel(channel);
        if self.entries.get(&key).is_some_and(|entry| entry.place == Place::Channel) {
            self.remove(&key);
        }
    }

    /// The broker would ignore the prefetch that the consumers of a channel share, or not any more (`None`).
    pub(in crate::supervisor) fn prefetch_withheld(
        &mut self,
        channel: u16,
        error: Option<Error>,
        now: Instant,
    ) {
        let key = EntityKey::Prefetch(channel);
        match error {
            Some(error) => self.mark(key, error, now).place = Place::Application,
            None => {
                self.remove(&key);
            }
        }
    }

    /// There is no channel for these: they wait until one closes, or a probe at this time finds room.
    pub(in crate::supervisor) fn no_room(
        &mut self,
        keys: &[EntityKey],
        error: &Error,
        probe: Option<Instant>,
    ) {
        for key in keys {
            if let Some(entry) = self.entries.get_mut(key) {
                entry.progress = Progress::NoRoom { probe };
                entry.error = error.clone();
            }
        }
    }

    fn without_room(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.values_mut().filter(|entry| matches!(entry.progress, Progress::NoRoom { .. }))
    }

    /// Returns whether something is not tried because no channel can be opened.
    pub(in crate::supervisor) fn waits_for_room(&self) -> bool {
        let waits = |entry: &Entry| matches!(entry.progress, Progress::NoRoom { .. });
        self.entries.values().any(waits) || self.probes.deadline().is_some()
    }

    /// Sets when it is found out whether there is room.
    pub(in crate::supervisor) fn set_room_try(&mut self, at: Option<Instant>) {
        self.without_room().for_each(|entry| entry.progress = Progress::NoRoom { probe: at });
    }

    /// A channel has closed, or can be opened: what waited for room is due.
    pub(in crate::supervisor) fn room(&mut self, now: Instant) {
        self.without_room().for_each(|entry| entry.progress = Progress::Waiting { due: now });
    }
}
