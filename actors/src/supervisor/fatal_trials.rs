//! The trials of what has cost a connection: which is next, and what its end means.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    fatal_entities::FatalEntities,
    fatal_entity::{FatalEntity, FatalState},
    missing::{EntityKey, TryLimits},
};
use crate::internal::TrialResult;

/// The pause between the trials of different fatal entities, after one that failed.
pub(super) const BETWEEN: Duration = Duration::from_millis(500);

/// Where a fatal entity is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrialPlace {
    OwnConnection,
    /// On the connection itself, after all else: another one has no access to an exclusive queue, would get
    /// a new queue where the broker chooses the name, and would delete an auto-delete queue with its trial
    /// consumer.
    Last,
}

/// How a trial has ended.
#[derive(Debug)]
pub(super) enum TrialEnd {
    /// What was tried goes back to where it belongs.
    Released(EntityKey),
    /// It is tried again at this time.
    Again(EntityKey, Instant),
    /// It is not tried again on this connection.
    GivenUp(EntityKey),
}

impl FatalEntities {
    /// Returns when the next trial is due.
    pub(super) fn deadline(&self, place: impl Fn(&EntityKey) -> TrialPlace) -> Option<Instant> {
        if self.running.is_some() {
            return None;
        }
        let is_ready = |(key, known): &(&EntityKey, &FatalEntity)| {
            known.state == FatalState::Withheld { ready: true } && place(key) == TrialPlace::OwnConnection
        };
        let due = self.known.iter().filter(is_ready).map(|(_, known)| known.due).min()?;
        Some(self.not_before.map_or(due, |at| due.max(at)))
    }

    pub(super) fn is_on_trial(&self) -> bool {
        self.running.is_some()
    }

    /// Takes the number of the next trial.
    pub(super) fn next_trial(&mut self) -> u64 {
        self.trials += 1;
        self.trials
    }

    /// Starts the trial that has been due longest; returns its number and what it tries.
    pub(super) fn take_due(
        &mut self,
        place: impl Fn(&EntityKey) -> TrialPlace,
        now: Instant,
    ) -> Option<(u64, EntityKey)> {
        if self.deadline(&place).is_none_or(|due| due > now) {
            return None;
        }
        let ready = self.known.iter_mut().filter(|(key, known)| {
            known.state == FatalState::Withheld { ready: true } && place(key) == TrialPlace::OwnConnection
        });
        let (key, fatal_entity) = ready.min_by_key(|(_, known)| known.due)?;
        fatal_entity.state = FatalState::OnTrial;
        self.trials += 1;
        self.running = Some((self.trials, key.clone()));
        self.running.clone()
    }

    /// A trial has ended.
    pub(super) fn trial_done(
        &mut self,
        number: u64,
        result: TrialResult,
        limits: TryLimits,
        now: Instant,
    ) -> Option<TrialEnd> {
        let (_, key) = self.running.take_if(|(running, _)| *running == number)?;
        let fatal_entity = self.known.get_mut(&key)?;
        match result {
            TrialResult::Accepted => {
                fatal_entity.state = FatalState::Released { since: now };
                self.not_before = None;
                return Some(TrialEnd::Released(key));
            }
            TrialResult::Refused(error) => {
                fatal_entity.error = error;
                fatal_entity.trials = fatal_entity.trials.saturating_add(1);
            }
            TrialResult::NotMade(error) => log::debug!("no connection for a trial: {error}"),
        }
        fatal_entity.failed(now);
        self.not_before = Some(now + BETWEEN);
        if limits.are_reached(fatal_entity.trials, fatal_entity.since, now) {
            fatal_entity.state = FatalState::GivenUp;
            return Some(TrialEnd::GivenUp(key));
        }
        Some(TrialEnd::Again(key, fatal_entity.due))
    }

    /// All else has recovered. Releases what can only be tried on the connection itself, and returns it.
    ///
    /// A reconnect that it has caused itself does not count, except for the first: it may not have been the
    /// cause.
    pub(super) fn take_last(
        &mut self,
        place: impl Fn(&EntityKey) -> TrialPlace,
        now: Instant,
    ) -> Vec<EntityKey> {
        let lost = self.lost_epoch;
        let mut released = Vec::new();
        for (key, known) in &mut self.known {
            let is_free = known.epoch < lost || known.losses == 1;
            if known.state == (FatalState::Withheld { ready: true })
                && is_free
                && place(key) == TrialPlace::Last
            {
                known.state = FatalState::Released { since: now };
                released.push(key.clone());
            }
        }
        released
    }

    /// Ends the trial that is under way; its result is not awaited any more. Returns whether there was one.
    pub(super) fn stop_trial(&mut self, now: Instant) -> bool {
        let Some((_, key)) = self.running.take() else { return false };
        if let Some(fatal_entity) = self.known.get_mut(&key) {
            fatal_entity.failed(now);
        }
        true
    }
}
