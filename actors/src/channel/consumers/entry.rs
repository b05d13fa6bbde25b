//! One consumer of a channel: what it consumes, where its deliveries go, and what reports its end.

use std::sync::Arc;

use actix::Recipient;
use tokio::sync::watch;

use super::{ChannelAcker, ConnectionFaults, ConsumerPhase};
use crate::{
    channel::reduce_prefetch::Reduced,
    error::Result,
    internal::TrialConsume,
    log_schedule::LogSchedule,
    message::{
        Consumed, ConsumerEnd, ConsumerState, Delivery, DeliveryParts, DeliverySink, Leave,
        OversizedDelivery, QueueType, StreamOffset, Unhandled, methods,
    },
    wire::{AMQPClass, Table},
};

#[derive(Debug)]
pub(in crate::channel) struct ConsumerEntry {
    pub(in crate::channel) acker: Arc<ChannelAcker>,
    pub(in crate::channel) sink: Arc<dyn DeliverySink>,
    pub(in crate::channel) phase: ConsumerPhase,
    pub(in crate::channel) subscription: Subscription,
    pub(in crate::channel) faults: ConnectionFaults,
    pub(in crate::channel) watcher: Option<Recipient<ConsumerEnd>>,
    pub(in crate::channel) ended: watch::Sender<Option<ConsumerEnd>>,
    pub(in crate::channel) handle: ConsumerState,
    /// What becomes of unhandled deliveries when it is cancelled.
    pub(in crate::channel) unhandled: Unhandled,
    /// Deliveries that were not read.
    pub(in crate::channel) skips: LogSchedule,
    /// Deliveries of the frame batch that is read now.
    pub(in crate::channel) batch: Vec<Delivery>,
    pub(in crate::channel) volume: Volume,
}

/// What is known of the bytes of its deliveries.
#[derive(Debug, Default)]
pub(in crate::channel) struct Volume {
    /// The average size of some deliveries.
    pub(in crate::channel) average: usize,
    /// Deliveries from this tag on belong to its last start.
    pub(in crate::channel) since: u64,
    /// How many were unsettled then.
    pub(in crate::channel) carried: usize,
    /// They come from a stream.
    pub(in crate::channel) of_stream: bool,
    /// What arrives returns to the queue.
    pub(in crate::channel) returns: bool,
    /// The broker sends more than the prefetch allows.
    pub(in crate::channel) beyond: bool,
    /// Its prefetch is smaller than that of the application.
    pub(in crate::channel) reduced: Option<Reduced>,
}

/// The arguments of its `basic.consume`.
#[derive(Debug)]
pub(in crate::channel) struct Subscription {
    pub(in crate::channel) queue: String,
    pub(in crate::channel) no_ack: bool,
    pub(in crate::channel) exclusive: bool,
    pub(in crate::channel) arguments: Table,
    pub(in crate::channel) prefetch: u16,
    /// The consumer starts again when the channel recovers.
    pub(in crate::channel) recovers: bool,
    /// The type of the queue, if it is known.
    pub(in crate::channel) queue_type: Option<QueueType>,
    /// The queue is known to go with its last consumer.
    pub(in crate::channel) auto_delete: bool,
    pub(in crate::channel) oversized: OversizedDelivery,
}

impl ConsumerEntry {
    pub(in crate::channel) fn id(&self) -> u32 {
        self.acker.consumer
    }

    pub(in crate::channel) fn tag(&self) -> &Arc<str> {
        &self.acker.tag
    }

    /// Builds its `basic.consume`.
    pub(in crate::channel) fn method(&self) -> Result<AMQPClass> {
        let Subscription { queue, no_ack, exclusive, .. } = &self.subscription;
        methods::basic_consume(queue, self.tag(), *no_ack, *exclusive, &self.arguments_now())
    }

    /// Returns what the supervisor tries elsewhere before this channel starts the consumer.
    pub(in crate::channel) fn trial(&self, shared_prefetch: Option<u16>) -> TrialConsume {
        TrialConsume {
            tag: self.tag().clone(),
            queue: self.subscription.queue.clone(),
            exclusive: self.subscription.exclusive,
            arguments: self.arguments_now(),
            shared_prefetch,
        }
    }

    /// Returns the arguments; the consumer of a stream continues behind what it has settled.
    fn arguments_now(&self) -> Table {
        let mut arguments = self.subscription.arguments.clone();
        if let Some(next) = self.acker.offsets.as_ref().and_then(|offsets| offsets.next()) {
            arguments.insert("x-stream-offset", StreamOffset::Offset(next));
        }
        arguments
    }

    pub(in crate::channel) fn consumed(&self) -> Consumed {
        Consumed { tag: self.tag().clone(), state: self.handle.clone() }
    }

    /// Adds a delivery to its batch.
    #[inline]
    pub(in crate::channel) fn stage(&mut self, parts: DeliveryParts) {
        if let Some(credit) = &self.acker.credit {
            credit.take(parts.size());
        }
        let tag = parts.tag;
        let delivery = Delivery::new(self.acker.clone(), parts);
        if let Some(offsets) = &self.acker.offsets
            && let Some(offset) = delivery.stream_offset()
        {
            offsets.delivered(tag, offset);
        }
        self.batch.push(delivery);
    }

    /// Sends its batch to the sink.
    pub(in crate::channel) fn flush(&mut self) {
        if let Some(last) = self.batch.last() {
            let (before, size) = (self.volume.average, last.size());
            self.volume.average = if before == 0 { size } else { (7 * before + size) / 8 };
        }
        if self.volume.returns {
            return self.batch.drain(..).for_each(Delivery::hand_back);
        }
        // The next batch is likely to be as large as this one.
        let next = Vec::with_capacity(self.batch.len());
        self.sink.batch(std::mem::replace(&mut self.batch, next));
    }

    /// Discards deliveries that the target has not received: the broker requeues them.
    pub(in crate::channel) fn discard(&mut self) {
        self.sink.epoch_ended();
        if self.subscription.no_ack {
            return;
        }
        self.batch.drain(..).for_each(Delivery::discard);
        self.sink.discard();
        if let Some(offsets) = &self.acker.offsets {
            offsets.reset();
        }
    }

    /// It is being cancelled; `cancel` of its phase was called.
    pub(in crate::channel) fn leave(&self) {
        let (unhandled, leave) = match self.unhandled {
            // A target that has stopped or is too slow gets nothing more.
            _ if self.phase.end().is_some() => (Unhandled::Requeue, Leave::AtOnce),
            Unhandled::Requeue => (Unhandled::Requeue, Leave::HandBack),
            Unhandled::Process => (Unhandled::Process, Leave::Process),
        };
        self.acker.leave(unhandled);
        self.sink.leave(leave);
    }

    /// Ends it for good.
    pub(in crate::channel) fn end(self, end: ConsumerEnd) {
        self.acker.leave(Unhandled::Process);
        self.ended.send_replace(Some(end.clone()));
        if let Some(watcher) = &self.watcher {
            watcher.do_send(end.clone());
        }
        self.sink.end(end);
    }
}
