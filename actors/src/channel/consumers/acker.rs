//! Connects a delivery to its channel: how it is settled, and what is released when it ends.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use super::offsets::Offsets;
use crate::{
    error::Result,
    message::{Acker, DeliverySink, Outcome},
    outbox::Outbox,
    transport::CreditAccount,
};

/// Shared by all deliveries of one consumer.
#[derive(Debug)]
pub(in crate::channel) struct ChannelAcker {
    pub(in crate::channel) outbox: Arc<Outbox>,
    pub(in crate::channel) consumer: u32,
    pub(in crate::channel) tag: Arc<str>,
    /// Set if the broker does not limit the deliveries: the read credit of the connection does.
    pub(in crate::channel) credit: Option<Arc<CreditAccount>>,
    /// The sink, where it counts permits.
    pub(in crate::channel) sink: Option<Arc<dyn DeliverySink>>,
    /// A delivery was dropped unsettled, and that is logged.
    pub(in crate::channel) warned: AtomicBool,
    /// Of a stream: where to continue after a reconnect.
    pub(in crate::channel) offsets: Option<Arc<Offsets>>,
    /// Dropped with the last delivery, which ends the wait for it.
    pub(in crate::channel) deliveries: Option<Arc<watch::Sender<()>>>,
}

impl ChannelAcker {
    /// Returns the acker of the same consumer on another connection.
    pub(in crate::channel) fn with_credit(&self, credit: Option<Arc<CreditAccount>>) -> Self {
        Self {
            outbox: self.outbox.clone(),
            consumer: self.consumer,
            tag: self.tag.clone(),
            credit,
            sink: self.sink.clone(),
            warned: AtomicBool::new(self.warned.load(Ordering::Relaxed)),
            offsets: self.offsets.clone(),
            deliveries: self.deliveries.clone(),
        }
    }

    fn note_offsets(&self, tags: &mut dyn Iterator<Item = u64>, outcome: Outcome) {
        if let Some(offsets) = &self.offsets {
            tags.for_each(|tag| offsets.settled(tag, outcome));
        }
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

    fn is_stale(&self, channel_epoch: u32) -> bool {
        self.outbox.is_stale(channel_epoch)
    }

    fn consumer_tag(&self) -> &str {
        &self.tag
    }

    fn ended(&self, size: usize, unsettled: bool) {
        if unsettled && !self.warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "channel {}: consumer {:?}: a delivery was dropped unsettled and is requeued",
                self.outbox.config().channel,
                self.tag
            );
        }
        if let Some(credit) = &self.credit {
            credit.give_back(size);
        }
        if let Some(sink) = &self.sink {
            sink.ended();
        }
    }
}
