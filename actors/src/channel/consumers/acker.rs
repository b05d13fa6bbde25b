//! Connects a delivery to its channel: how it is settled, and what is released when it ends.

use std::sync::Arc;

use tokio::{sync::watch, time::Instant};

use super::{drops::Drops, offsets::Offsets};
use crate::{
    error::Result,
    message::{Acker, DeliverySink, Failures, Outcome, QueueName, Unhandled, Unsettled},
    outbox::{Outbox, RequeueLater},
    transport::CreditAccount,
};

/// Shared by all deliveries of one consumer.
#[derive(Clone, Debug)]
pub(in crate::channel) struct ChannelAcker {
    pub(in crate::channel) outbox: Arc<Outbox>,
    pub(in crate::channel) consumer: u32,
    pub(in crate::channel) tag: Arc<str>,
    pub(in crate::channel) queue: QueueName,
    /// Set if the broker does not limit the deliveries: the read credit of the connection does.
    pub(in crate::channel) credit: Option<Arc<CreditAccount>>,
    /// The sink, where it counts permits.
    pub(in crate::channel) sink: Option<Arc<dyn DeliverySink>>,
    /// The state of the consumer that decides on dropped deliveries; unset for those of `basic.get`.
    pub(in crate::channel) drops: Option<Arc<Drops>>,
    /// Of a stream: where to continue after a reconnect.
    pub(in crate::channel) offsets: Option<Arc<Offsets>>,
    /// Dropped with the last delivery, which ends the wait for it.
    pub(in crate::channel) _deliveries: Option<Arc<watch::Sender<()>>>,
}

impl ChannelAcker {
    /// Returns the acker of the messages that are got from a queue.
    pub(super) fn of_gets(outbox: Arc<Outbox>, id: u32, queue: QueueName) -> Self {
        Self {
            outbox,
            consumer: id,
            tag: Arc::from(""),
            queue,
            credit: None,
            sink: None,
            drops: None,
            offsets: None,
            _deliveries: None,
        }
    }

    /// Returns the acker of the same consumer on another connection.
    pub(in crate::channel) fn with_credit(&self, credit: Option<Arc<CreditAccount>>) -> Self {
        Self { credit, ..self.clone() }
    }

    /// The consumer is being cancelled.
    pub(in crate::channel) fn leave(&self, unhandled: Unhandled) {
        match &self.drops {
            Some(drops) if unhandled == Unhandled::Requeue => drops.hand_back(),
            Some(drops) => drops.leave(),
            None => {}
        }
    }

    /// The broker has renamed the queue: earlier deliveries tell the new name, too. Returns the acker of later
    /// ones, which does not refer to earlier names.
    pub(in crate::channel) fn renamed(&self, name: &str) -> Self {
        self.queue.rename(name);
        let mut renamed = self.with_credit(self.credit.clone());
        renamed.queue = self.queue.latest();
        renamed
    }

    fn note_offsets(&self, tags: &mut dyn Iterator<Item = u64>, outcome: Outcome) {
        if let Some(offsets) = &self.offsets {
            tags.for_each(|tag| offsets.settled(tag, outcome));
        }
    }

    /// Requeues a delivery whose processing has failed; later, if it has failed before.
    fn requeue_failed(&self, channel_epoch: u32, tag: u64, failures: Failures) -> Result<()> {
        let now = Instant::now();
        let failures = match &self.drops {
            Some(drops) if !drops.is_leaving() => match failures {
                Failures::Counted(0) if drops.first_failure(now) => Failures::Uncounted,
                failures => failures,
            },
            _ => Failures::Counted(0),
        };
        if failures == Failures::Counted(0) {
            return self.settle(channel_epoch, tag, Outcome::Failed);
        }
        let why = RequeueLater::Failed(failures);
        self.outbox.requeue_later(channel_epoch, tag, self.consumer, why, now)?;
        self.note_offsets(&mut std::iter::once(tag), Outcome::Failed);
        Ok(())
    }

    fn warn_of_drop(&self) {
        let Some(dropped) = self.drops.as_ref().and_then(|drops| drops.count(Instant::now())) else { return };
        log::warn!(
            "channel {}: consumer {:?}: a delivery was dropped unsettled and is requeued{dropped}",
            self.outbox.config().channel,
            self.tag
        );
    }
}

impl Acker for ChannelAcker {
    fn settle(&self, channel_epoch: u32, tag: u64, outcome: Outcome) -> Result<()> {
        self.outbox.settle(channel_epoch, tag, self.consumer, outcome)?;
        self.note_offsets(&mut std::iter::once(tag), outcome);
        Ok(())
    }

    fn settle_all(
        &self,
        channel_epoch: u32,
        tags: &mut dyn Iterator<Item = u64>,
        outcome: Outcome,
    ) -> Result<()> {
        if self.offsets.is_none() {
            return self.outbox.settle_each(channel_epoch, tags, self.consumer, outcome);
        }
        let tags: Vec<u64> = tags.collect();
        self.outbox.settle_each(channel_epoch, tags.iter().copied(), self.consumer, outcome)?;
        self.note_offsets(&mut tags.into_iter(), outcome);
        Ok(())
    }

    fn return_unsettled(&self, channel_epoch: u32, tag: u64, why: Unsettled) -> Result<()> {
        match why {
            Unsettled::NotBegun => self.settle(channel_epoch, tag, Outcome::NotBegun),
            Unsettled::Failed(failures) => self.requeue_failed(channel_epoch, tag, failures),
            Unsettled::Dropped(_)
                if self
                    .drops
                    .as_ref()
                    .is_some_and(|drops| drops.is_taken_back(tag) || !drops.has_target()) =>
            {
                self.settle(channel_epoch, tag, Outcome::NotBegun)
            }
            Unsettled::Dropped(failures) => {
                self.requeue_failed(channel_epoch, tag, failures)?;
                self.warn_of_drop();
                Ok(())
            }
        }
    }

    fn is_stale(&self, channel_epoch: u32, tag: u64) -> bool {
        self.outbox.is_stale(channel_epoch, tag)
    }

    fn consumer_tag(&self) -> &Arc<str> {
        &self.tag
    }

    fn queue(&self) -> &QueueName {
        &self.queue
    }

    fn ended(&self, size: usize) {
        if let Some(credit) = &self.credit {
            credit.give_back(size);
        }
        if let Some(sink) = &self.sink {
            sink.ended();
        }
    }
}
