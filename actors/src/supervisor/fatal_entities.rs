//! What has cost a connection: declarations and consumers for which the broker closed it, and consumers whose
//! deliveries could not be read. They are left out when the connection recovers.
//!
//! Each is tried on a short-lived connection of its own, one at a time, with pauses that double. After a
//! success it goes back to where it belongs. What only works on the connection itself is tried there, once
//! all else has recovered; see [`TrialPlace`]. No actix and no clock here.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::missing::{EntityKey, TryLimits};
use crate::{error::Error, internal::TrialResult};

/// The pause before the first trial.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between trials that fail.
const MAX_TRIAL_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause after the connection itself was lost again and again.
const MAX_LOSS_PAUSE: Duration = Duration::from_secs(300);
/// The pause between the trials of different fatal entities, after one that failed.
const BETWEEN: Duration = Duration::from_millis(500);
/// How long a fatal entity must work on the connection to be forgotten.
const STOOD: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct FatalEntities {
    known: BTreeMap<EntityKey, FatalEntity>,
    /// The number of the trial that is under way, and what it tries.
    running: Option<(u64, EntityKey)>,
    /// The number of the last trial.
    trials: u64,
    /// No trial starts before this time.
    not_before: Option<Instant>,
    /// The epoch of the last connection that was lost.
    lost_epoch: u64,
}

#[derive(Debug)]
struct FatalEntity {
    error: Error,
    /// How many connections it has cost.
    losses: u32,
    /// The epoch of the last of them.
    epoch: u64,
    pause: Duration,
    due: Instant,
    /// When it has cost the last of them, and how many trials were refused since then.
    since: Instant,
    trials: u32,
    state: FatalState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FatalState {
    /// Left out. `ready` is whether it can be tried: a consumer, once its channel has recovered without it.
    Withheld { ready: bool },
    /// In the trial that is under way.
    OnTrial,
    /// Left out: its trials have reached the limits of the recovery. It is tried again after the next reconnect.
    GivenUp,
    /// Tried with success, and not left out any more.
    Released { since: Instant },
}

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
    /// A connection that was open is lost.
    pub(super) fn connection_lost(&mut self, epoch: u64, now: Instant) {
        self.lost_epoch = epoch;
        self.stop_trial(now);
        for (key, fatal_entity) in &mut self.known {
            let ready = !matches!(key, EntityKey::Consumer { .. });
            match fatal_entity.state {
                FatalState::GivenUp => {
                    (fatal_entity.state, fatal_entity.due) =
                        (FatalState::Withheld { ready }, now + fatal_entity.pause);
                }
                FatalState::Withheld { .. } if !ready => fatal_entity.state = FatalState::Withheld { ready },
                FatalState::Withheld { .. } | FatalState::OnTrial | FatalState::Released { .. } => {}
            }
        }
    }

    /// This has cost the last connection.
    pub(super) fn add(&mut self, key: EntityKey, error: Error, now: Instant) {
        let stood = |known: &FatalEntity| match known.state {
            FatalState::Released { since } => now.saturating_duration_since(since) >= STOOD,
            FatalState::Withheld { .. } | FatalState::OnTrial | FatalState::GivenUp => false,
        };
        let earlier = self.known.remove(&key).filter(|known| !stood(known));
        let losses = earlier.map_or(0, |known| known.losses).saturating_add(1);
        let (epoch, pause) = (self.lost_epoch, loss_pause(losses));
        let state = FatalState::Withheld { ready: !matches!(key, EntityKey::Consumer { .. }) };
        let (due, since, trials) = (now + pause, now, 0);
        self.known.insert(key, FatalEntity { error, losses, epoch, pause, due, since, trials, state });
    }

    /// The virtual host of the lost connection has gone: what the broker refused with it was not the cause.
    /// Returns what is not left out any more.
    pub(super) fn vhost_gone(&mut self, now: Instant) -> Vec<EntityKey> {
        let mut released = Vec::new();
        for (key, fatal_entity) in &mut self.known {
            // The second time it may be what the virtual host goes down from. What could not be read of the
            // deliveries to a consumer was not refused.
            let is_first = fatal_entity.epoch == self.lost_epoch && fatal_entity.losses == 1;
            if is_first && fatal_entity.is_withheld() && fatal_entity.error.close_reason().is_some() {
                fatal_entity.state = FatalState::Released { since: now };
                released.push(key.clone());
            }
        }
        released
    }

    /// Returns why something is left out, if it is.
    pub(super) fn withheld(&self, key: &EntityKey) -> Option<&Error> {
        self.known.get(key).filter(|known| known.is_withheld()).map(|known| &known.error)
    }

    /// A channel has recovered without this consumer. Returns when it is tried.
    pub(super) fn consumer_waits(&mut self, key: &EntityKey, error: &Error, now: Instant) -> Instant {
        if self.withheld(key).is_none() {
            self.add(key.clone(), error.clone(), now);
        }
        let Some(known) = self.known.get_mut(key) else { return now };
        if let FatalState::Withheld { ready } = &mut known.state {
            *ready = true;
        }
        known.due
    }

    pub(super) fn due(&self, key: &EntityKey) -> Option<Instant> {
        self.known.get(key).map(|known| known.due)
    }

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

    /// Forgets something: it was declared by the application.
    pub(super) fn forget(&mut self, key: &EntityKey) {
        self.known.remove(key);
    }

    /// Forgets what is not wanted any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&EntityKey) -> bool) {
        self.known.retain(|key, _| is_wanted(key));
    }

    /// Takes the new name of a queue that the broker names.
    pub(super) fn rename_queue(&mut self, old: &str, new: &str) {
        for (mut key, fatal_entity) in std::mem::take(&mut self.known) {
            key.rename_queue(old, new);
            self.known.insert(key, fatal_entity);
        }
    }
}

impl FatalEntity {
    fn is_withheld(&self) -> bool {
        !matches!(self.state, FatalState::Released { .. })
    }

    fn failed(&mut self, now: Instant) {
        self.state = FatalState::Withheld { ready: true };
        self.pause = (self.pause * 2).min(MAX_TRIAL_PAUSE.max(loss_pause(self.losses)));
        self.due = now + self.pause;
    }
}

/// Returns how long a fatal entity waits that has cost this many connections.
fn loss_pause(losses: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << losses.saturating_sub(1).min(20)).min(MAX_LOSS_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::CloseReason, options::Recovery};

    fn queue(name: &str) -> EntityKey {
        EntityKey::Queue(name.to_owned())
    }

    fn refusal(code: u16) -> Error {
        Error::connection_closed("test", Some(CloseReason::new(code, "INTERNAL_ERROR", 50, 10)))
    }

    fn none() -> TryLimits {
        TryLimits::default()
    }

    fn own(_: &EntityKey) -> TrialPlace {
        TrialPlace::OwnConnection
    }

    fn last(_: &EntityKey) -> TrialPlace {
        TrialPlace::Last
    }

    /// Runs the next trial when it is due, and returns after how many milliseconds that was.
    fn try_next(fatal_entities: &mut FatalEntities, now: &mut Instant, result: TrialResult) -> u128 {
        let due = fatal_entities.deadline(own).expect("a trial");
        assert!(due == *now || fatal_entities.take_due(own, *now).is_none(), "too early");
        let pause = due - *now;
        *now = due;
        let (number, _) = fatal_entities.take_due(own, *now).expect("a trial");
        assert_eq!(fatal_entities.deadline(own), None, "one at a time");
        assert!(fatal_entities.take_due(own, *now).is_none());
        assert!(
            fatal_entities.trial_done(number + 1, TrialResult::Accepted, none(), *now).is_none(),
            "another trial"
        );
        fatal_entities.trial_done(number, result, none(), *now).expect("an end");
        pause.as_millis()
    }

    #[test]
    fn trials_that_fail_are_repeated_with_doubling_pauses() {
        let (mut fatal_entities, mut now) = (FatalEntities::default(), Instant::now());
        assert!(fatal_entities.withheld(&queue("q")).is_none());
        fatal_entities.add(queue("q"), refusal(541), now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push(try_next(&mut fatal_entities, &mut now, TrialResult::Refused(refusal(540))));
        }
        assert_eq!(pauses, [1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(fatal_entities.withheld(&queue("q")).and_then(Error::code), Some(540));
        try_next(&mut fatal_entities, &mut now, TrialResult::NotMade(refusal(530)));
        assert_eq!(fatal_entities.withheld(&queue("q")).and_then(Error::code), Some(540), "it says nothing");
        try_next(&mut fatal_entities, &mut now, TrialResult::Accepted);
        assert!(fatal_entities.withheld(&queue("q")).is_none());
        assert_eq!(fatal_entities.deadline(own), None);
    }

    #[test]
    fn pauses_go_on_growing_unless_it_has_stood() {
        let (mut fatal_entities, mut now) = (FatalEntities::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..11 {
            fatal_entities.add(queue("q"), refusal(541), now);
            pauses.push(try_next(&mut fatal_entities, &mut now, TrialResult::Accepted) / 1000);
            now += STOOD - Duration::from_millis(1);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        now += Duration::from_millis(1);
        fatal_entities.add(queue("q"), refusal(541), now);
        assert_eq!(try_next(&mut fatal_entities, &mut now, TrialResult::Accepted), 1000);
    }

    /// REC-57
    #[test]
    fn the_limits_of_the_recovery_end_trials_until_the_next_reconnect() {
        let limits = TryLimits::of(Recovery::default().attempts(2));
        let (mut fatal_entities, mut now) = (FatalEntities::default(), Instant::now());
        fatal_entities.add(queue("q"), refusal(541), now);
        for (result, is_over) in [
            (TrialResult::NotMade(refusal(530)), false),
            (TrialResult::Refused(refusal(541)), false),
            (TrialResult::Refused(refusal(541)), true),
        ] {
            now = fatal_entities.deadline(own).expect("a trial");
            let (number, _) = fatal_entities.take_due(own, now).expect("a trial");
            let end = fatal_entities.trial_done(number, result, limits, now);
            assert_eq!(matches!(end, Some(TrialEnd::GivenUp(_))), is_over, "{end:?}");
        }
        assert_eq!(fatal_entities.deadline(own), None);
        assert!(fatal_entities.withheld(&queue("q")).is_some(), "it is still left out");
        fatal_entities.connection_lost(2, now);
        assert!(fatal_entities.deadline(own).is_some());
    }

    #[test]
    fn no_fatal_entity_keeps_another_one_from_its_trial() {
        let (mut fatal_entities, mut now) = (FatalEntities::default(), Instant::now());
        for name in ["a", "b", "c"] {
            fatal_entities.add(queue(name), refusal(541), now);
        }
        let mut tried = Vec::new();
        for _ in 0..6 {
            now = fatal_entities.deadline(own).expect("a trial");
            let (number, key) = fatal_entities.take_due(own, now).expect("a trial");
            tried.push(key.name());
            fatal_entities.trial_done(number, TrialResult::Refused(refusal(541)), none(), now);
            assert!(fatal_entities.deadline(own).expect("a trial") >= now + BETWEEN);
        }
        tried.sort();
        assert_eq!(tried, ["a", "a", "b", "b", "c", "c"]);
    }

    #[test]
    fn a_consumer_is_tried_once_its_channel_has_recovered_without_it() {
        let (mut fatal_entities, now) = (FatalEntities::default(), Instant::now());
        let key = EntityKey::consumer(1, "tag");
        fatal_entities.add(key.clone(), refusal(541), now);
        assert_eq!(fatal_entities.deadline(own), None);
        let due = fatal_entities.consumer_waits(&key, &refusal(541), now);
        assert_eq!(fatal_entities.deadline(own), Some(due));
        fatal_entities.connection_lost(2, now);
        assert_eq!(fatal_entities.deadline(own), None);
        assert_eq!(
            fatal_entities.consumer_waits(&key, &refusal(541), now),
            due,
            "the pause is not begun anew"
        );
        fatal_entities.retain(|_| false);
        assert_eq!(fatal_entities.deadline(own), None);
    }

    #[test]
    fn a_lost_connection_ends_the_trial_as_a_failed_one() {
        let (mut fatal_entities, now) = (FatalEntities::default(), Instant::now());
        fatal_entities.add(queue("q"), refusal(541), now);
        let due = now + FIRST_PAUSE;
        let (number, _) = fatal_entities.take_due(own, due).expect("a trial");
        assert!(fatal_entities.running.is_some());
        fatal_entities.connection_lost(1, due);
        assert!(fatal_entities.running.is_none());
        assert!(
            fatal_entities.trial_done(number, TrialResult::Accepted, none(), due).is_none(),
            "its result comes too late"
        );
        assert_eq!(fatal_entities.deadline(own), Some(due + 2 * FIRST_PAUSE));
    }

    #[test]
    fn what_is_refused_while_the_virtual_host_goes_is_released_once() {
        let (mut fatal_entities, now) = (FatalEntities::default(), Instant::now());
        let keys = [queue("earlier"), queue("q"), EntityKey::consumer(1, "tag")];
        for (epoch, withheld) in [(1, [false; 3]), (2, [false; 3]), (3, [false, true, true])] {
            fatal_entities.connection_lost(epoch, now);
            let lost = if epoch == 1 { &keys[..1] } else { &keys[1..] };
            lost.iter().for_each(|key| fatal_entities.add(key.clone(), refusal(541), now));
            let released = fatal_entities.vhost_gone(now);
            assert_eq!(released.len(), [1, 2, 0][epoch as usize - 1]);
            assert!(fatal_entities.vhost_gone(now).is_empty(), "once");
            assert_eq!(keys.each_ref().map(|key| fatal_entities.withheld(key).is_some()), withheld);
        }
    }

    #[test]
    fn what_only_works_here_is_tried_at_reconnects_that_it_has_not_caused() {
        let (mut fatal_entities, now) = (FatalEntities::default(), Instant::now());
        fatal_entities.connection_lost(1, now);
        fatal_entities.add(queue("q"), refusal(541), now);
        assert_eq!(fatal_entities.deadline(last), None);
        assert_eq!(fatal_entities.take_last(last, now), [queue("q")], "it may not have been the cause");
        assert_eq!(fatal_entities.take_last(last, now), []);
        fatal_entities.connection_lost(2, now);
        fatal_entities.add(queue("q"), refusal(541), now);
        assert_eq!(fatal_entities.take_last(last, now), [], "it was the cause");
        fatal_entities.connection_lost(3, now);
        assert_eq!(fatal_entities.take_last(last, now), [queue("q")], "another cause");
        assert!(fatal_entities.withheld(&queue("q")).is_none());
    }
}
