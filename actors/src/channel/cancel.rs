//! What happens on `basic.cancel`, which may come from the application, the channel, or the broker.
//!
//! A consumer is cancelled once. It ends when the broker has replied, because deliveries come until then. One
//! that the broker has cancelled is repaired, if it recovers: see `repair.rs`.

use tokio::time::Instant;

use super::{
    ChannelMachine, Reply, Responder, consumers::ConsumerEntry, pending_reply::answer_all, state::ConsumersAt,
};
use crate::{
    internal::{Removal, RepairPlace, SupervisorMessage},
    message::{CancelConsumer, ChannelEvent, ConsumerEnd, QueueType},
};

impl ChannelMachine {
    /// The application cancels a consumer. One of a closed channel has ended already, which is no error.
    pub(super) fn cancel_consumer(&mut self, cancel: &CancelConsumer, now: Instant) -> Reply<()> {
        let was_lost = self.give_up_lost(&cancel.tag);
        if cancel.only_lost || was_lost && self.consumers.get(&cancel.tag).is_none() {
            return Reply::now(Ok(()));
        }
        if self.state.usable().is_err() && !self.state.is_recovering() {
            return Reply::now(Ok(()));
        }
        let (reply, responder) = Reply::later();
        // The first cancel counts.
        if let Some(entry) = self.consumers.get_mut(&cancel.tag).filter(|entry| !entry.phase.is_cancelling())
        {
            entry.unhandled = cancel.unhandled;
        }
        self.cancel(&cancel.tag, Some(responder), now);
        self.outputs.request_tick();
        reply
    }

    /// The channel cancels a consumer that cannot take deliveries.
    pub(super) fn cancel_because(&mut self, consumer: u32, why: ConsumerEnd, now: Instant) {
        let Some(entry) = self.consumers.by_id(consumer) else { return };
        entry.phase.cancel(Some(why));
        if let Some(account) = &entry.acker.credit {
            account.close();
        }
        let tag = entry.tag().clone();
        self.cancel(&tag, None, now);
        self.outputs.request_tick();
    }

    /// Sends `basic.cancel`, unless that is done already, or once the reply to `basic.consume` has come.
    pub(super) fn cancel(&mut self, tag: &str, responder: Option<Responder<()>>, now: Instant) {
        match self.state.consumers_at() {
            ConsumersAt::Broker => {}
            ConsumersAt::Client => {
                if let Some(entry) = self.consumers.remove(tag) {
                    self.finish_cancel(entry);
                }
                return answer_all(responder, &Ok(()));
            }
            ConsumersAt::Nowhere => return answer_all(responder, &Ok(())),
        }
        let entry = self.consumers.get_mut(tag);
        let consumer = entry.as_ref().map(|entry| entry.id());
        if let Some(entry) = entry {
            self.outbox.hold_back(entry.id());
            entry.phase.cancel(None);
            entry.leave();
        }
        if let Some(responders) = self.replies.cancel_once_consumed(tag) {
            responders.extend(responder);
        } else if let Some(responders) = self.replies.pending_cancel(tag, consumer) {
            responders.extend(responder);
        } else {
            self.send_cancel(tag, consumer, responder.into_iter().collect(), now);
        }
    }

    /// Sends the cancels that waited for the reply to `basic.consume`.
    pub(super) fn cancel_now(&mut self, tag: &str, waiting: Option<Vec<Responder<()>>>, now: Instant) {
        if let Some(responders) = waiting {
            self.cancel(tag, None, now);
            responders.into_iter().for_each(|responder| self.cancel(tag, Some(responder), now));
        }
    }

    /// The reply to `basic.cancel` has come: no more deliveries come, and acks that were held back are sent.
    pub(super) fn cancelled(&mut self, tag: &str, consumer: Option<u32>, now: Instant) {
        let shared = self.prefetch.shared_count();
        let Some(entry) = self.consumers.get_mut(tag) else { return };
        let id = entry.id();
        if Some(id) != consumer {
            return;
        }
        self.outbox.release(id);
        if entry.phase.reduced() {
            return self.restart_consumer(id, now);
        }
        if entry.phase.freed() {
            let trial = entry.trial(shared);
            let (epoch, channel, cause) = (self.epoch(), self.number(), ConsumerEnd::CancelledByBroker);
            return self.report(SupervisorMessage::RepairConsumer {
                epoch,
                channel,
                consumer: id,
                trial,
                cause,
                place: RepairPlace::UtilityChannel,
            });
        }
        if let Some(entry) = self.consumers.remove(tag) {
            self.finish_cancel(entry);
        }
    }

    /// Ends a consumer that was cancelled here.
    fn finish_cancel(&mut self, entry: ConsumerEntry) {
        self.forget_consumer(&entry);
        let why = entry.phase.end().cloned();
        if let Some(end) = why.clone() {
            self.notify(ChannelEvent::ConsumerLost { tag: entry.tag().clone(), end });
        }
        entry.end(why.unwrap_or(ConsumerEnd::Cancelled));
    }

    /// The broker has cancelled a consumer, because its queue was deleted or is unavailable. From 4.3 on, a
    /// RabbitMQ also does so when a delivery of a quorum queue was unsettled for too long. It has taken back all
    /// that the consumer had then: a later ack would close the channel (406).
    pub(super) fn cancelled_by_broker(&mut self, tag: &str, now: Instant) {
        if let Some(entry) = self.consumers.get(tag)
            && entry.subscription.queue_type.is_none_or(|queue_type| queue_type == QueueType::Quorum)
            && self.rules().is_some_and(|rules| rules.late_delivery_cancels_consumer)
        {
            self.outbox.take_back(entry.id());
        }
        if self.free_for_repair(tag, now) {
            return;
        }
        let Some(entry) = self.consumers.remove(tag) else { return };
        log::warn!("channel {}: consumer {tag:?} cancelled by the broker", self.number());
        let consumer = entry.id();
        self.outbox.release(consumer);
        let (tag, end) = (entry.tag().clone(), ConsumerEnd::CancelledByBroker);
        self.notify(ChannelEvent::ConsumerLost { tag: tag.clone(), end: end.clone() });
        self.forget_lost_consumer(&entry);
        entry.end(end);
        // Some brokers keep the consumer until it is cancelled here too. The others accept the cancel of an
        // unknown tag.
        if self.replies.pending_cancel(&tag, Some(consumer)).is_none() {
            self.cancel(&tag, None, now);
        }
    }

    /// Cancels a consumer that the broker has cancelled, so that it can start again under its tag. Returns
    /// `false` for one that is not repaired.
    fn free_for_repair(&mut self, tag: &str, now: Instant) -> bool {
        let Some(entry) = self.consumers.get_mut(tag) else { return false };
        if !entry.subscription.recovers || !entry.phase.cancelled_by_broker() {
            return false;
        }
        let consumer = Some(entry.id());
        log::warn!("channel {}: consumer {tag:?} cancelled by the broker, repair begins", self.number());
        // One whose prefetch is reduced is being cancelled already.
        if self.replies.pending_cancel(tag, consumer).is_none() {
            self.send_cancel(tag, consumer, Vec::new(), now);
        }
        true
    }

    /// Has the supervisor forget a consumer that was cancelled here; an auto-delete queue goes with it.
    pub(super) fn forget_consumer(&mut self, entry: &ConsumerEntry) {
        let (channel, tag) = (self.number(), entry.tag().clone());
        // One that is missing is wanted, and stays recorded.
        if !self.lost.contains(&tag) {
            self.forget(Removal::Consumer { channel, tag });
        }
    }

    /// Has the supervisor forget a consumer that was lost. The queue of one that does not recover is kept.
    pub(super) fn forget_lost_consumer(&mut self, entry: &ConsumerEntry) {
        let (channel, tag) = (self.number(), entry.tag().clone());
        self.forget(match entry.subscription.recovers {
            true => Removal::Consumer { channel, tag },
            false => Removal::LostConsumer { channel, tag },
        });
    }
}
