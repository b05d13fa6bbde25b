//! What has cost a connection: declarations and consumers for which the broker closed it, and consumers whose
//! deliveries could not be read. They are left out when the connection recovers.
//!
//! Each is tried on a short-lived connection of its own, one at a time, with pauses that double. After a
//! success it goes back to where it belongs. What only works on the connection itself is tried there, once
//! all else has recovered; see `fatal_trials.rs`. No actix and no clock here.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{
    fatal_entity::{FatalEntity, FatalState},
    missing::EntityKey,
};
use crate::error::Error;

#[derive(Debug, Default)]
pub(super) struct FatalEntities {
    pub(super) known: BTreeMap<EntityKey, FatalEntity>,
    /// The number of the trial that is under way, and what it tries.
    pub(super) running: Option<(u64, EntityKey)>,
    /// The number of the last trial.
    pub(super) trials: u64,
    /// No trial starts before this time.
    pub(super) not_before: Option<Instant>,
    /// The epoch of the last connection that was lost.
    pub(super) lost_epoch: u64,
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
        let earlier = self.known.remove(&key).filter(|known| !known.has_stood(now));
        let losses = earlier.map_or(0, |known| known.losses).saturating_add(1);
        let ready = !matches!(key, EntityKey::Consumer { .. });
        let known = FatalEntity::new(error, losses, self.lost_epoch, FatalState::Withheld { ready }, now);
        self.known.insert(key, known);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        error::CloseReason,
        internal::TrialResult,
        options::Recovery,
        supervisor::{
            fatal_entity::{FIRST_PAUSE, STOOD},
            fatal_trials::{BETWEEN, TrialEnd, TrialPlace},
            missing::TryLimits,
        },
    };

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
