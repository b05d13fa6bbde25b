//! What is wanted and missing: one entry for each exchange, queue, binding, consumer or channel.
//!
//! What was declared or consumed stays wanted until the application gives it up. An entry is made when the
//! broker refuses something or says that it is gone, and is tried again by a back-off of its own, without end
//! or until the limits of the recovery. When it is in place again the entry stays for a few seconds, so that
//! something that comes and goes is not tried at full speed.
//!
//! `entry.rs` has an entry, `backoff.rs` its pauses, `run.rs` what a run of the utility channel sends for the
//! entries that are due and what its results mean. No actix and no clock here.

mod backoff;
mod channels;
mod consumers;
mod ended;
mod entry;
mod key;
mod list;
mod probes;
mod run;
#[cfg(test)]
mod tests;
mod withheld;

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use self::{
    backoff::EntityBackoff,
    ended::EndedChannels,
    entry::{Entry, Progress},
    probes::Probes,
};
pub(super) use self::{
    backoff::{LONGEST_PAUSE, TryLimits},
    entry::{Place, Repair},
    key::EntityKey,
    run::Run,
};
use super::{
    refusal::{is_lasting, is_not_found, is_transient, may_exist},
    topology::{BindingKey, Topology},
    topology_steps::Selection,
};
use crate::{
    error::{Error, ErrorKind},
    message::{EntityKind, Skipped},
    options::Recovery,
};

#[derive(Debug)]
pub(super) struct Missing {
    entries: BTreeMap<EntityKey, Entry>,
    ended: EndedChannels,
    limits: TryLimits,
    /// The longest pause for now: shorter while the channels wait for the topology.
    longest_pause: Duration,
    /// Exchanges that are not recorded, and that publishes ask for.
    probes: Probes,
    /// What channels are to be told.
    announcements: Vec<(EntityKind, String)>,
    /// What has reached the limits and was not reported yet.
    given_up: Vec<Skipped>,
}

/// Which entries are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Exchanges, queues and bindings: the channels wait for them.
    Topology,
    All,
}

impl Missing {
    pub(super) fn new(recovery: Recovery) -> Self {
        Self {
            entries: BTreeMap::new(),
            ended: EndedChannels::default(),
            limits: TryLimits::of(recovery),
            longest_pause: LONGEST_PAUSE,
            probes: Probes::default(),
            announcements: Vec::new(),
            given_up: Vec::new(),
        }
    }

    pub(super) fn set_longest_pause(&mut self, pause: Duration) {
        self.longest_pause = pause;
    }

    pub(super) fn is_missing(&self, key: &EntityKey) -> bool {
        self.entries.get(key).is_some_and(Entry::is_missing)
    }

    /// Returns whether an exchange or queue is missing, and nothing else has its name.
    fn is_absent(&self, key: &EntityKey) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.is_missing() && !may_exist(&entry.error))
    }

    /// Notes that something is missing. What is not known as missing yet is due at once, or after the pause
    /// that it had when it was missing the last time.
    fn mark(&mut self, key: EntityKey, error: Error, now: Instant) -> &mut Entry {
        let longest = self.longest_pause;
        let entry = self.entries.entry(key).or_insert_with(|| Entry::new(error.clone(), now));
        if let Progress::Back { since } = entry.progress {
            entry.backoff.missing_again(since, now);
            entry.progress = Progress::Waiting { due: entry.backoff.next(now, longest) };
        }
        entry.error = error;
        entry
    }

    /// The broker refused a try, which counts unless it was counted when it began.
    fn refused(&mut self, key: &EntityKey, error: Error, now: Instant) {
        let (longest, limits) = (self.longest_pause, self.limits);
        let entry = self.mark(key.clone(), error, now);
        if !matches!(entry.progress, Progress::Trying | Progress::Starting) {
            entry.backoff.tried();
        }
        let (kind, name, error) = (key.kind(), key.name(), &entry.error);
        if entry.backoff.is_over(&limits, now) {
            return self.reach_limits(key, now);
        }
        let may_exist = may_exist(error);
        let due = match is_lasting(error) {
            true => entry.backoff.last(now),
            false => entry.backoff.next(now, longest),
        };
        entry.progress = Progress::Waiting { due };
        if let Some(so_far) = entry.log.count(now) {
            log::warn!("{kind} {name:?} is missing, next try in {:?}{so_far}: {error}", due - now);
        } else {
            log::debug!("{kind} {name:?} is missing, next try in {:?}: {error}", due - now);
        }
        if may_exist {
            self.look_for(key, now);
        }
    }

    /// Something has reached the limits of the recovery.
    pub(super) fn reach_limits(&mut self, key: &EntityKey, now: Instant) {
        let Some(error) = self.entries.get(key).map(|entry| entry.error.clone()) else { return };
        let (kind, name) = (key.kind(), key.name());
        log::error!("{kind} {name:?}: given up by the limits of the recovery: {error}");
        self.given_up.push(Skipped { kind, name, error });
        self.give_up(key, now);
    }

    pub(super) fn take_given_up(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.given_up)
    }

    pub(super) fn limits(&self) -> TryLimits {
        self.limits
    }

    /// The broker has closed the connection because an exchange was looked for that is not recorded.
    pub(super) fn probe_cost_connection(&mut self, name: &str, now: Instant) {
        self.probes.cost_connection(name, now);
    }

    fn give_up(&mut self, key: &EntityKey, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.progress = Progress::GivenUp;
        }
        self.look_for(key, now);
    }

    /// Something cannot be declared, and may exist nevertheless, or later: an exchange to which channels refuse
    /// publishes is looked for.
    fn look_for(&mut self, key: &EntityKey, now: Instant) {
        let EntityKey::Exchange(name) = key else { return };
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.announced) else { return };
        entry.announced = false;
        if !self.probes.ask(name, now) {
            self.announcements.push((EntityKind::Exchange, name.clone()));
        }
    }

    /// A recorded exchange or queue is gone, and its bindings with it.
    fn gone(&mut self, key: &EntityKey, error: &Error, topology: &Topology, now: Instant) {
        let is_server_named = matches!(key, EntityKey::Queue(name) if topology.is_server_named(name));
        // It was in place for a moment: no channel may publish to it.
        let announcements = self.announcements.len();
        self.announcements.retain(|(kind, name)| (*kind, name) != (key.kind(), &key.name()));
        let is_unannounced = self.announcements.len() < announcements;
        let entry = self.mark(key.clone(), error.clone(), now);
        entry.replace = is_server_named;
        entry.announced |= is_unannounced;
        for binding in topology.bindings_of(key) {
            self.mark(EntityKey::Binding(binding), error.clone(), now);
        }
    }

    /// Returns whether an end of a binding is missing in this recovery, and the binding with it.
    pub(super) fn misses_end_of(&mut self, binding: &BindingKey, now: Instant) -> bool {
        let is_refused = |end: &EntityKey| {
            self.is_absent(end)
                && self.entries.get(end).is_some_and(|entry| entry.progress != Progress::Detached)
        };
        let Some(end) = binding.ends().into_iter().find(is_refused) else { return false };
        let Some(error) = self.entries.get(&end).map(|entry| entry.error.clone()) else { return false };
        self.mark(EntityKey::Binding(binding.clone()), error, now).progress = Progress::Waiting { due: now };
        true
    }

    /// A 404 of the broker named an exchange or a queue to a channel, which wants to know when it is back.
    pub(super) fn entity_gone(
        &mut self,
        kind: EntityKind,
        name: &str,
        error: &Error,
        topology: &Topology,
        now: Instant,
    ) {
        let Some(key) = EntityKey::declared(kind, name) else { return };
        if kind == EntityKind::Exchange && self.probes.ask_again(name, now) {
            return;
        }
        if topology.has(&key) && !topology.is_deleting(&key) {
            self.gone(&key, error, topology, now);
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.announced = true;
                if entry.progress == Progress::GivenUp {
                    self.give_up(&key, now);
                } else if let Some(so_far) = entry.log.count(now) {
                    log::warn!("{kind} {name:?} is gone and declared again{so_far}: {error}");
                }
            }
        } else {
            // Others declare it. Its bindings are gone with it.
            for binding in topology.bindings_of(&key).into_iter().filter(|_| !topology.has(&key)) {
                self.mark(EntityKey::Binding(binding), error.clone(), now);
            }
            if kind == EntityKind::Exchange && !self.probes.ask(name, now) {
                self.announcements.push((kind, name.to_owned()));
            }
        }
    }

    /// An exchange that is not recorded is not looked for any more.
    pub(super) fn stop_probing(&mut self, name: &str) {
        if self.probes.remove(name) {
            self.announcements.push((EntityKind::Exchange, name.to_owned()));
        }
    }

    /// Something is in place. Returns whether it was missing.
    pub(super) fn found(&mut self, key: &EntityKey, now: Instant) -> bool {
        if let EntityKey::Exchange(name) = key {
            self.stop_probing(name);
        }
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_missing()) else { return false };
        entry.progress = Progress::Back { since: now };
        (entry.place, entry.replace) = (Place::UtilityChannel, false);
        if std::mem::take(&mut entry.announced) {
            self.announcements.push((key.kind(), key.name()));
        }
        log::info!("{} {:?} is in place again", key.kind(), key.name());
        if let EntityKey::Queue(name) = key {
            self.wake_consumers(name, now);
        }
        true
    }

    /// Returns whether both ends of a binding are in place or selected.
    pub(super) fn are_ends_in_place(&self, binding: &BindingKey, selection: &Selection) -> bool {
        binding.ends().iter().all(|end| !self.is_absent(end) || selection.has(end))
    }

    pub(super) fn postpone_probes(&mut self, now: Instant) {
        self.probes.postpone(now);
    }

    /// These bindings are missing with the queue of a consumer.
    pub(super) fn bindings_missing(&mut self, bindings: Vec<BindingKey>, of: &EntityKey, now: Instant) {
        let Some(error) = self.entries.get(of).map(|entry| entry.error.clone()) else { return };
        for binding in bindings {
            self.mark(EntityKey::Binding(binding), error.clone(), now);
        }
    }

    /// Returns whether the broker did not reply to the last try.
    pub(super) fn is_unanswered(&self, key: &EntityKey) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.error.kind() == ErrorKind::Timeout)
    }

    /// It is not tried again on this connection. Returns whether it is missing.
    pub(super) fn wait_for_reconnect(&mut self, key: &EntityKey) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        log::warn!("{} {:?}: tried again at the next reconnect: {}", key.kind(), key.name(), entry.error);
        entry.progress = Progress::Unanswered;
        true
    }

    /// The connection is lost. The recovery of the next one tries everything.
    pub(super) fn detached(&mut self, now: Instant) {
        self.entries.retain(|key, _| !matches!(key, EntityKey::Channel(_) | EntityKey::Prefetch(_)));
        self.prune(now);
        let missing = self.entries.values_mut().filter(|entry| entry.is_missing());
        missing.for_each(|entry| entry.progress = Progress::Detached);
        let asked = self.probes.clear().into_iter().map(|name| (EntityKind::Exchange, name));
        self.announcements.extend(asked);
    }

    /// The recovery of the connection is complete. What it has not tried is due.
    pub(super) fn recovered(&mut self, now: Instant) {
        self.longest_pause = LONGEST_PAUSE;
        for entry in self.entries.values_mut().filter(|entry| entry.progress == Progress::Detached) {
            entry.progress = Progress::Waiting { due: now };
        }
    }

    pub(super) fn remove(&mut self, key: &EntityKey) -> Option<Repair> {
        let entry = self.entries.remove(key)?;
        if entry.announced {
            self.announcements.push((key.kind(), key.name()));
        }
        entry.repair
    }

    /// Removes what is not recorded any more, and returns the consumers among it that wait for a repair.
    pub(super) fn retain_recorded(&mut self, topology: &Topology) -> Vec<Repair> {
        let gone: Vec<_> = self.entries.keys().filter(|key| !topology.has(key)).cloned().collect();
        gone.iter().filter_map(|key| self.remove(key)).collect()
    }

    pub(super) fn rename_queue(&mut self, old: &str, new: &str) {
        self.ended.rename_queue(old, new);
        for (mut key, mut entry) in std::mem::take(&mut self.entries) {
            key.rename_queue(old, new);
            if let Some(repair) = entry.repair.as_mut().filter(|repair| repair.trial.queue == old) {
                new.clone_into(&mut repair.trial.queue);
            }
            self.entries.insert(key, entry);
        }
    }

    /// Returns whether an entry waits for another one that is missing: a binding for what it binds, a
    /// consumer for the queue that takes the place of its own.
    fn is_held(&self, key: &EntityKey, entry: &Entry) -> bool {
        self.holder(key, entry).is_some()
    }

    fn holder(&self, key: &EntityKey, entry: &Entry) -> Option<EntityKey> {
        match key {
            EntityKey::Binding(binding) => binding.ends().into_iter().find(|end| self.is_absent(end)),
            EntityKey::Consumer { .. } => {
                let queue = EntityKey::Queue(entry.repair.as_ref()?.trial.queue.clone());
                let is_replaced =
                    self.entries.get(&queue).is_some_and(|entry| entry.is_missing() && entry.replace);
                is_replaced.then_some(queue)
            }
            EntityKey::Exchange(_) | EntityKey::Queue(_) | EntityKey::Channel(_) | EntityKey::Prefetch(_) => {
                None
            }
        }
    }

    /// Returns whether the channels wait for something: for what may be in place in a moment.
    pub(super) fn holds_up(&self, topology: &Topology) -> bool {
        self.entries.iter().any(|(key, entry)| {
            let may_come = match key {
                EntityKey::Exchange(_) | EntityKey::Queue(_) => {
                    is_transient(&entry.error) || (is_not_found(&entry.error) && !topology.is_passive(key))
                }
                EntityKey::Binding(_) => is_transient(&entry.error),
                EntityKey::Consumer { .. } | EntityKey::Channel(_) | EntityKey::Prefetch(_) => false,
            };
            entry.is_missing()
                && may_come
                && entry.progress != Progress::GivenUp
                && entry.place == Place::UtilityChannel
                && !self.is_held(key, entry)
        })
    }

    fn prune(&mut self, now: Instant) {
        self.entries.retain(|_, entry| match entry.progress {
            Progress::Back { since } => !EntityBackoff::has_stood(since, now),
            _ => true,
        });
    }

    /// Returns what channels are to be told.
    pub(super) fn take_announcements(&mut self) -> Vec<(EntityKind, String)> {
        std::mem::take(&mut self.announcements)
    }
}
