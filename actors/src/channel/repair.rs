//! Consumers that cannot start: the supervisor repairs what they need, then they start again, or are lost.

use std::sync::Arc;

use tokio::time::Instant;

use super::{ChannelMachine, PendingReply, machine::Request, state::ConsumersAt};
use crate::{
    error::Error,
    internal::{Entity, RepairPlace, SupervisorMessage},
    message::{ChannelEvent, ConsumerEnd, EntityKind, Skipped, methods::Method},
};

impl ChannelMachine {
    /// The supervisor has repaired what a suspended consumer needs, or could not.
    pub(super) fn consumer_repaired(&mut self, consumer: u32, result: Result<(), ConsumerEnd>, now: Instant) {
        if !self.consumers.by_id(consumer).is_some_and(|entry| entry.phase.is_suspended()) {
            return;
        }
        if let Err(end) = result {
            self.lose_consumer(consumer, end);
            return self.continue_closing(now);
        }
        if self.awaits_commit() {
            return self.waiting.push_restart(consumer, now);
        }
        let Some(entry) = self.consumers.by_id(consumer) else { return };
        entry.phase.repaired();
        entry.faults.tried();
        self.state.unskip(consumer);
        if self.state.is_open_or_reopened() {
            self.restart_consumer(consumer, now);
            self.outputs.request_tick();
        }
    }

    /// Declares what a cancelled consumer needs, and starts it again. A refusal closes this channel once; then
    /// the supervisor tries it elsewhere.
    pub(super) fn start_cancelled(&mut self, consumer: u32, declare: Vec<Entity>, now: Instant) {
        let shared = self.prefetch.shared_count();
        let Some(entry) = self.consumers.by_id(consumer).filter(|entry| entry.phase.is_suspended()) else {
            return;
        };
        let trial = entry.trial(shared);
        if !self.state.is_open_or_reopened() || !self.can_reopen() {
            let (epoch, channel, cause) = (self.epoch(), self.number(), ConsumerEnd::CancelledByBroker);
            let place = RepairPlace::UtilityChannel;
            let again = SupervisorMessage::RepairConsumer { epoch, channel, consumer, trial, cause, place };
            return self.report(again);
        }
        for entity in declare {
            if let Entity::QueueBinding(bind) = &entity
                && self.outbox.missing().is_missing(&bind.exchange)
            {
                // It was reported after the repair had begun, and its bindings are repaired with it.
                continue;
            }
            let (name, method) = match entity {
                Entity::Exchange(declare) => (declare.name.clone(), declare.method()),
                Entity::Queue { declare, name } => (name.as_str().to_owned(), declare.method()),
                Entity::QueueBinding(bind) => (bind.queue.clone(), bind.method()),
                Entity::ExchangeBinding(bind) => (bind.destination.clone(), bind.method()),
                Entity::Consumer { .. } => continue,
            };
            // One that cannot be encoded was not recorded.
            if let Ok(method) = method {
                self.ask(Request::new(method, PendingReply::ForConsumer(consumer)).on(name), now);
            }
        }
        self.consumer_repaired(consumer, Ok(()), now);
    }

    /// Returns what is missing because consumers were not started with the channel, and the messages that ask
    /// the supervisor to repair them. These follow the message that the channel has recovered.
    pub(super) fn repairs(&mut self, skipped: Vec<(u32, Error)>) -> (Vec<Skipped>, Vec<SupervisorMessage>) {
        let (epoch, channel, shared) = (self.epoch(), self.number(), self.prefetch.shared_count());
        let (mut missing, mut repairs) = (Vec::new(), Vec::new());
        for (consumer, error) in skipped {
            let Some(entry) = self.consumers.by_id(consumer) else { continue };
            if !entry.subscription.recovers {
                self.lose_consumer(consumer, ConsumerEnd::Closed(error));
                continue;
            }
            let (name, trial) = (entry.tag().to_string(), entry.trial(shared));
            let place = match entry.faults.cost() {
                Some(_) => RepairPlace::OwnConnection,
                None => RepairPlace::UtilityChannel,
            };
            let cause = ConsumerEnd::Closed(error.clone());
            let repair = SupervisorMessage::RepairConsumer { epoch, channel, consumer, trial, cause, place };
            repairs.push(repair);
            missing.push(Skipped { kind: EntityKind::Consumer, name, error });
        }
        (missing, repairs)
    }

    /// The application has given up a consumer, or its queue. The broker is told if it has the consumer.
    pub(super) fn give_up_consumer(&mut self, tag: &str, now: Instant) {
        // The supervisor has removed it from what is missing.
        self.lost.remove(tag);
        let Some(entry) = self.consumers.get(tag) else { return };
        let consumer = entry.id();
        if entry.phase.is_suspended() || self.state.consumers_at() == ConsumersAt::Client {
            self.lose_consumer(consumer, ConsumerEnd::Forgotten);
            self.continue_closing(now);
        } else {
            self.cancel_because(consumer, ConsumerEnd::Forgotten, now);
        }
    }

    /// Ends a consumer that cannot start again.
    pub(super) fn lose_consumer(&mut self, consumer: u32, end: ConsumerEnd) {
        let Some(entry) = self.consumers.remove_id(consumer) else { return };
        let tag = entry.tag().clone();
        log::warn!("channel {}: consumer {tag:?} lost: {end:?}", self.number());
        self.outbox.release(consumer);
        self.forget_lost_consumer(&entry);
        self.notify(ChannelEvent::ConsumerLost { tag, end: end.clone() });
        entry.end(end);
    }

    /// Notes the consumers that have cost the connection, by their start or by what was delivered to them.
    /// They are not started with the channel until the supervisor has tried them elsewhere.
    pub(super) fn note_consumers_at_fault(&mut self, error: &Error) {
        if let Some(fault) = error.fault() {
            if fault.channel == self.number() {
                self.note_read_fault(fault.code, error);
            }
            return;
        }
        self.consumers.lost_otherwise();
        let Some(reason) = error.close_reason() else { return };
        for consumer in self.replies.restarts_at_fault(reason) {
            let Some(entry) = self.consumers.by_id(consumer) else { continue };
            entry.faults.start_failed(error.clone());
            let tag = entry.tag().clone();
            log::warn!("channel {}: consumer {tag:?} cost the connection: {error}", self.number());
            self.report_at_fault(tag, error);
        }
    }

    /// Reports again what waits for a trial on a connection of its own: the trial has changed.
    pub(super) fn report_waiting_again(&mut self) {
        if !self.state.is_open() {
            return;
        }
        let waiting = self.consumers.waiting_at_fault();
        let (_, repairs) = self.repairs(waiting);
        repairs.into_iter().for_each(|repair| self.report(repair));
    }

    /// The supervisor has tried to start a suspended consumer, which has cost the connection.
    pub(super) fn consumer_at_fault(&mut self, consumer: u32, error: Error) {
        if let Some(entry) = self.consumers.by_id(consumer) {
            entry.faults.start_failed(error);
        }
    }

    /// The connection was lost for another reason than the start of this consumer.
    pub(super) fn consumer_not_at_fault(&mut self, tag: &str) {
        if let Some(entry) = self.consumers.get_mut(tag) {
            entry.faults.tried();
        }
    }

    /// A delivery that could not be read has cost the connection. If that happens again and again, its
    /// consumer is not started with the channel any more.
    fn note_read_fault(&mut self, code: u16, error: &Error) {
        let channel = self.number();
        let Some(tag) = self.inbox.assembler.unfinished_delivery() else { return };
        let Some(entry) = std::str::from_utf8(&tag).ok().and_then(|tag| self.consumers.get_mut(tag)) else {
            return;
        };
        let tag = entry.tag().clone();
        if entry.faults.reading_failed(code, error) {
            log::error!("channel {channel}: consumer {tag:?} cost several connections: {error}");
            self.report_at_fault(tag, error);
        } else {
            log::warn!("channel {channel}: a delivery to consumer {tag:?} cost the connection: {error}");
        }
    }

    fn report_at_fault(&mut self, tag: Arc<str>, error: &Error) {
        let (channel, error) = (self.number(), error.clone());
        self.report(SupervisorMessage::ConsumerAtFault { channel, tag, error });
    }
}
