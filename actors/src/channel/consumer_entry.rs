//! One consumer of a channel: what the broker was asked for, where its deliveries go, and who waits for its end.

use std::sync::Arc;

use actix::Recipient;
use tokio::sync::watch;

use super::{acker::ChannelAcker, consumer_phase::ConsumerPhase};
use crate::{
    error::Result,
    message::{
        Consumed, ConsumerEnd, ConsumerState, Delivery, DeliveryParts, DeliverySink, StreamOffset,
        internal::TrialConsume, methods,
    },
    wire::{AMQPClass, Table},
};

#[derive(Debug)]
pub(super) struct ConsumerEntry {
    pub(super) acker: Arc<ChannelAcker>,
    pub(super) sink: Arc<dyn DeliverySink>,
    pub(super) phase: ConsumerPhase,
    pub(super) subscription: Subscription,
    pub(super) watcher: Option<Recipient<ConsumerEnd>>,
    pub(super) ended: watch::Sender<Option<ConsumerEnd>>,
    pub(super) handle: ConsumerState,
    /// Deliveries of the frame batch that is read now.
    pub(super) batch: Vec<Delivery>,
}

/// What the broker was asked for.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) queue: String,
    pub(super) no_ack: bool,
    pub(super) exclusive: bool,
    pub(super) arguments: Table,
    pub(super) prefetch: u16,
    /// The consumer starts again when the channel recovers.
    pub(super) recovers: bool,
}

impl ConsumerEntry {
    pub(super) fn id(&self) -> u32 {
        self.acker.consumer
    }

    pub(super) fn tag(&self) -> &Arc<str> {
        &self.acker.tag
    }

    /// Builds its `basic.consume`.
    pub(super) fn method(&self) -> Result<AMQPClass> {
        let Subscription { queue, no_ack, exclusive, .. } = &self.subscription;
        methods::basic_consume(queue, self.tag(), *no_ack, *exclusive, &self.arguments_now())
    }

    /// Returns what the supervisor tries in its place before the channel does.
    pub(super) fn trial(&self) -> TrialConsume {
        TrialConsume {
            tag: self.tag().clone(),
            queue: self.subscription.queue.clone(),
            exclusive: self.subscription.exclusive,
            arguments: self.arguments_now(),
        }
    }

    /// Returns the arguments; a stream's consumer goes on behind what it has settled.
    fn arguments_now(&self) -> Table {
        let mut arguments = self.subscription.arguments.clone();
        if let Some(next) = self.acker.offsets.as_ref().and_then(|offsets| offsets.next()) {
            arguments.insert("x-stream-offset", StreamOffset::Offset(next));
        }
        arguments
    }

    pub(super) fn consumed(&self) -> Consumed {
        Consumed { tag: self.tag().clone(), state: self.handle.clone() }
    }

    /// Adds a delivery to its batch.
    #[inline]
    pub(super) fn stage(&mut self, parts: DeliveryParts) {
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
    pub(super) fn flush(&mut self) {
        // The next batch is likely to be as large as this one.
        let next = Vec::with_capacity(self.batch.len());
        self.sink.batch(std::mem::replace(&mut self.batch, next));
    }

    /// Discards deliveries that the target has not received: the broker requeues them.
    pub(super) fn discard(&mut self) {
        if self.subscription.no_ack {
            return;
        }
        self.batch.drain(..).for_each(Delivery::discard);
        self.sink.discard();
        if let Some(offsets) = &self.acker.offsets {
            offsets.reset();
        }
    }

    /// Ends it for good.
    pub(super) fn end(self, end: ConsumerEnd) {
        self.ended.send_replace(Some(end.clone()));
        if let Some(watcher) = &self.watcher {
            watcher.do_send(end.clone());
        }
        self.sink.end(end);
    }
}
