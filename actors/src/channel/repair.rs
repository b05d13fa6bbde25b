//! Consumers that cannot start: the supervisor repairs what they need, then they start again, or are lost.

use tokio::time::Instant;

use super::{ChannelMachine, PendingReply, machine::Request, state::ConsumersAt};
use crate::{
    error::Error,
    internal::{Entity, SupervisorMessage},
    message::{ChannelEvent, ConsumerEnd, EntityKind, Skipped, methods::Method},
};

impl ChannelMachine {
    /// The supervisor has repaired what a suspended consumer needs, or could not.
    pub(super) fn consumer_repaired(&mut self, consumer: u32, result: Result<(), ConsumerEnd>, now: Instant) {
        let Some(entry) = self.consumers.by_id(consumer).filter(|entry| entry.phase.is_suspended()) else {
            return;
        };
        if let Err(end) = result {
            self.lose_consumer(consumer, end);
            return self.continue_closing(now);
        }
        entry.phase.repaired();
        if self.state.is_open_or_reopened() {
            self.state.unskip(consumer);
            self.restart_consumer(consumer, now);
            self.outputs.request_tick();
        }
    }

    /// Declares what a cancelled consumer needs, and starts it again. A refusal closes this channel once; then
    /// the supervisor tries it elsewhere.
    pub(super) fn start_cancelled(&mut self, consumer: u32, declare: Vec<Entity>, now: Instant) {
        let Some(entry) = self.consumers.by_id(consumer).filter(|entry| entry.phase.is_suspended()) else {
            return;
        };
        let trial = entry.trial();
        if !self.state.is_open_or_reopened() || !self.can_reopen() {
            let (epoch, channel, cause) = (self.epoch(), self.number(), ConsumerEnd::CancelledByBroker);
            let again = SupervisorMessage::RepairConsumer { epoch, channel, consumer, trial, cause };
            return self.report(again);
        }
        for entity in declare {
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
        let (epoch, channel) = (self.epoch(), self.number());
        let (mut missing, mut repairs) = (Vec::new(), Vec::new());
        for (consumer, error) in skipped {
            let Some(entry) = self.consumers.by_id(consumer) else { continue };
            if !entry.subscription.recovers {
                self.lose_consumer(consumer, ConsumerEnd::Closed(error));
                continue;
            }
            let (name, trial) = (entry.tag().to_string(), entry.trial());
            let cause = ConsumerEnd::Closed(error.clone());
            repairs.push(SupervisorMessage::RepairConsumer { epoch, channel, consumer, trial, cause });
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

    /// Ends the consumer whose restart closed the connection: it would close every connection.
    pub(super) fn end_consumer_of_failed_call(&mut self, error: &Error) {
        let failed = error.close_reason().and_then(|reason| self.replies.restart_that_closed(reason));
        if let Some(consumer) = failed {
            self.lose_consumer(consumer, ConsumerEnd::Closed(error.clone()));
        }
    }
}
