//! Consumers that cannot start, and what is done when there is no channel for the library to work on.

use tokio::time::Instant;

use super::{
    effect::Effect,
    missing::{EntityKey, Repair},
    phase::Phase,
    redeclare_steps::RecoveryStep,
    room::Freed,
    supervision::Supervision,
    topology::BindingKey,
};
use crate::{
    error::{Error, Result},
    internal::{ChannelMessage, EndedChannel, Entity, TrialResult},
    message::{ConsumerEnd, EntityKind},
};

impl Supervision {
    /// A consumer cannot start again. The first try after the broker's cancel is made on its own channel, where
    /// it costs no other channel. The others are made on the utility channel, because a refusal would close
    /// its own.
    pub(super) fn repair(&mut self, repair: Repair, now: Instant) {
        let Repair { channel, trial, cause, .. } = &repair;
        let key = EntityKey::consumer(*channel, &trial.tag);
        if !self.topology.has(&key) || self.topology.is_deleting(&EntityKey::Queue(trial.queue.clone())) {
            let end = cause.clone();
            self.missing.remove(&key);
            self.finish_repair(&repair, Err(end));
            return self.health_changed();
        }
        let error = match cause {
            ConsumerEnd::Closed(error) => error.clone(),
            _ => Error::refused_here("the broker cancelled the consumer"),
        };
        self.missing.repair(repair, error, now);
        if matches!(self.phase, Phase::Up(_)) && self.missing.is_first_after_cancel(&key) {
            self.start_on_its_channel(&key, now);
        }
        self.health_changed();
        self.retry_when_due(now);
    }

    /// Has a channel declare the queue of a consumer, bind it, and start the consumer. Returns `false` for a
    /// queue that cannot be declared there: it is not recorded, or its name is the broker's.
    pub(super) fn start_on_its_channel(&mut self, key: &EntityKey, now: Instant) -> bool {
        let Some(Repair { channel, consumer, trial, .. }) = self.missing.repair_of(key) else { return false };
        let queue = EntityKey::Queue(trial.queue.clone());
        if !self.topology.has(&queue)
            || self.topology.is_server_named(&trial.queue)
            || self.topology.is_passive(&queue)
            || self.missing.is_missing(&queue)
        {
            return false;
        }
        // One that starts there already has brought the queue.
        let declare = match self.missing.starts_beside(key) {
            true => Vec::new(),
            false => {
                let selection = self.topology.with_sources(&trial.queue);
                // The exchange of another one may be gone as well, which would close the channel.
                let is_safe = |binding: &BindingKey| {
                    let is_known = binding.source.starts_with("amq.")
                        || self.topology.has(&EntityKey::Exchange(binding.source.clone()));
                    is_known && self.missing.are_ends_in_place(binding, &selection)
                };
                let steps = self.topology.selected_steps(&selection, is_safe);
                let others = self.topology.bindings_of(&queue).into_iter().filter(|key| !is_safe(key));
                let others: Vec<_> = others.collect();
                self.missing.bindings_missing(others, key, now);
                steps.into_iter().filter_map(entity_of).collect()
            }
        };
        self.missing.starting(key);
        let message = ChannelMessage::StartConsumer { consumer, declare };
        self.effects.push_back(Effect::SendToChannel(channel, message));
        true
    }

    /// There is no channel for what is due. Consumers are tried on their own; the others wait until a channel
    /// closes, or a probe finds room.
    pub(super) fn retry_without_room(&mut self, mut due: Vec<EntityKey>, error: &Error, now: Instant) {
        due.retain(|key| !self.start_on_its_channel(key, now));
        self.missing.no_room(&due, error, self.room.due());
        self.missing.postpone_probes(now);
        self.health_changed();
    }

    /// Takes out what waits for the next connection, because tries without a reply have cost this one many
    /// channel numbers: first what had no reply, then everything.
    pub(super) fn leave_unanswered(&mut self, due: &mut Vec<EntityKey>, now: Instant) {
        let numbers = &self.channels.numbers;
        if numbers.are_too_many_abandoned() {
            due.retain(|key| !self.missing.wait_for_reconnect(key));
            self.missing.postpone_probes(now);
        } else if numbers.are_many_abandoned() {
            due.retain(|key| !(self.missing.is_unanswered(key) && self.missing.wait_for_reconnect(key)));
        }
    }

    /// # Errors
    /// `Limit` when the utility channel cannot be opened.
    pub(super) fn check_room(&self) -> Result<()> {
        if matches!(self.phase, Phase::RedeclaringTopology(..)) {
            return Ok(());
        }
        match self.room.error() {
            // Without channels there is nothing to lose.
            Some(error) if !self.channels.is_empty() => Err(error.clone()),
            _ if self.channels.numbers.is_full() => {
                let max = self.channels.numbers.max();
                Err(Error::limit(format!("all {max} channels are open, none is free to declare it again")))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn take_utility_number(&mut self) -> Option<u16> {
        match self.phase {
            // No channel is attached yet, so that every number is free at the broker.
            Phase::RedeclaringTopology(..) => Some(self.channels.numbers.max()),
            _ => self.channels.numbers.take_last(),
        }
    }

    /// The connection is lost. Opening the utility channel may have been the cause: a user can be limited in
    /// channels, and the broker closes the connection (530) for one too many.
    pub(super) fn note_channel_limit(&mut self, error: &Error, now: Instant) {
        let is_limit =
            error.close_reason().is_some_and(|reason| reason.code == 530 && reason.method == "channel.open");
        if is_limit && self.utility.is_some() && !self.phase.is_recovering() {
            log::warn!("connection {}: its user is at the limit of channels: {error}", self.epoch);
            self.room.exceeded(error.clone(), now);
        }
    }

    /// A channel has closed: there is room for the utility channel, or it is time to look.
    pub(super) fn room(&mut self, now: Instant) {
        match self.room.freed(now) {
            Freed::Room { probing } => {
                if probing {
                    self.effects.push_back(Effect::StopTrial);
                }
                self.missing.room(now);
            }
            Freed::Probe => self.missing.set_room_try(self.room.due()),
        }
    }

    /// Returns when it is time to look for room.
    pub(super) fn room_deadline(&self) -> Option<Instant> {
        let is_wanted = matches!(self.phase, Phase::Up(_)) && self.missing.waits_for_room();
        self.room.due().filter(|_| is_wanted && !self.fatal_entities.is_on_trial())
    }

    /// Opens a channel on a connection of its own, without steps.
    pub(super) fn look_for_room_when_due(&mut self, now: Instant) {
        if self.room_deadline().is_some_and(|due| due <= now) {
            let number = self.fatal_entities.next_trial();
            self.room.probing(number);
            self.effects.push_back(Effect::StartTrial { number, steps: Vec::new() });
        }
    }

    /// A trial has ended. Returns `false` if it did not look for room.
    pub(super) fn looked_for_room(&mut self, trial: u64, result: &TrialResult, now: Instant) -> bool {
        let accepted = matches!(result, TrialResult::Accepted);
        match self.room.probed(trial, accepted, now) {
            Some(true) => {
                self.missing.room(now);
                self.retry_when_due(now);
            }
            Some(false) => {
                log::debug!("connection {}: still no room for a channel: {result:?}", self.epoch);
                self.missing.set_room_try(self.room.due());
            }
            None => return false,
        }
        true
    }

    /// A consumer has started again.
    pub(super) fn consumer_recovered(&mut self, channel: u16, tag: &str, now: Instant) {
        self.missing.found(&EntityKey::consumer(channel, tag), now);
        self.health_changed();
    }

    /// A consumer delivers nothing, and only the application can start it again.
    pub(super) fn consumer_missing(&mut self, channel: u16, tag: &str, error: Error, now: Instant) {
        // It may have been given up while this was on the way.
        if self.topology.has(&EntityKey::consumer(channel, tag)) {
            self.missing.consumer_missing(channel, tag, error, now);
            self.health_changed();
        }
    }

    /// A channel has ended, and its consumers are still wanted.
    pub(super) fn consumers_ended(&mut self, ended: EndedChannel, now: Instant) {
        let (epoch, channel, consumers) = (self.epoch, ended.channel, ended.consumers.len());
        log::warn!(
            "connection {epoch}: channel {channel} has ended, {consumers} consumers are missing: {}",
            ended.error
        );
        self.missing.consumers_ended(ended, now);
        self.health_changed();
    }

    /// The application gives up a consumer, or all, of a channel that has ended.
    pub(super) fn ended_given_up(&mut self, id: u64, tag: Option<&str>) {
        self.missing.give_up_ended(id, tag);
        self.health_changed();
    }

    /// Forgets what is missing and not recorded any more, and ends its consumers.
    pub(super) fn forget_unrecorded(&mut self) {
        let topology = &self.topology;
        self.fatal_entities.retain(|key| topology.has(key));
        // `Recovered` names everything that its recovery skipped.
        if !matches!(self.phase, Phase::Attaching(..)) {
            for repair in self.missing.retain_recorded(&self.topology) {
                let end = repair.cause.clone();
                self.finish_repair(&repair, Err(end));
            }
        }
        self.announce();
        self.health_changed();
    }

    /// The application gives something up. Returns whether it was recorded or missing.
    pub(super) fn give_up(&mut self, kind: EntityKind, name: &str) -> bool {
        let consumers = match kind {
            EntityKind::Queue => self.topology.consumers_of(name),
            EntityKind::Consumer => self.topology.consumers_named(name),
            EntityKind::Exchange | EntityKind::Binding | EntityKind::Channel | EntityKind::Prefetch => {
                Vec::new()
            }
        };
        let was_recorded = self.topology.give_up(kind, name);
        let missing = self.missing.named(kind, name);
        let was_ended = self.missing.forget_ended(kind, name);
        if kind == EntityKind::Exchange {
            self.missing.stop_probing(name);
        }
        for (channel, tag) in consumers {
            self.missing.remove(&EntityKey::consumer(channel, &tag));
            let forget = ChannelMessage::ForgetConsumer { tag };
            self.effects.push_back(Effect::SendToChannel(channel, forget));
        }
        missing.iter().for_each(|key| {
            self.missing.remove(key);
        });
        self.forget_unrecorded();
        was_recorded || was_ended || !missing.is_empty()
    }

    pub(super) fn finish_repair(&mut self, repair: &Repair, result: Result<(), ConsumerEnd>) {
        let message = ChannelMessage::ConsumerRepaired { consumer: repair.consumer, result };
        self.effects.push_back(Effect::SendToChannel(repair.channel, message));
    }
}

/// Returns what a step declares.
fn entity_of(step: RecoveryStep) -> Option<Entity> {
    match step {
        RecoveryStep::Exchange(declare) => Some(Entity::Exchange(declare)),
        RecoveryStep::Queue { declare, name } => Some(Entity::Queue { declare, name }),
        RecoveryStep::BindQueue(bind) => Some(Entity::QueueBinding(bind)),
        RecoveryStep::BindExchange(bind) => Some(Entity::ExchangeBinding(bind)),
        RecoveryStep::TrialConsume(_) | RecoveryStep::TrialCancel(_) => None,
    }
}
