//! What has cost a connection: it is tried on one of its own, and not here.

use tokio::time::Instant;

use super::{EntityKey, Missing, Place, Progress, Repair};
use crate::error::Error;

impl Missing {
    /// Something is left out that has cost a connection. It is tried at `next`, or else at the next reconnect.
    pub(in crate::supervisor) fn withhold(
        &mut self,
        key: &EntityKey,
        error: Error,
        next: Option<Instant>,
        now: Instant,
    ) {
        let entry = self.mark(key.clone(), error, now);
        entry.progress = Progress::Waiting { due: now };
        entry.place = Place::OwnConnection { next };
    }

    /// A channel has recovered without this consumer.
    pub(in crate::supervisor) fn consumer_withheld(&mut self, repair: Repair, error: Error, now: Instant) {
        let key = EntityKey::consumer(repair.channel, &repair.trial.tag);
        self.withhold(&key, error, None, now);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.repair = Some(repair);
        }
    }

    /// Sets when something is tried that is left out.
    pub(in crate::supervisor) fn set_next_trial(&mut self, key: &EntityKey, at: Option<Instant>) {
        if let Some(entry) = self.entries.get_mut(key)
            && let Place::OwnConnection { next } = &mut entry.place
        {
            *next = at;
        }
    }

    /// Something is not left out any more: it is due here.
    pub(in crate::supervisor) fn released(&mut self, key: &EntityKey, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key)
            && let Place::OwnConnection { .. } = entry.place
        {
            entry.place = Place::UtilityChannel;
            entry.progress = Progress::Waiting { due: now };
        }
    }
}
