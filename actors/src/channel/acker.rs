//! What ties a delivery to its channel: the way back for its settling, and the counts that it holds.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use super::offsets::Offsets;
use crate::{
    error::Result,
    message::{Acker, DeliverySink},
    outbox::{Outbox, Outcome},
    transport::CreditAccount,
};

/// Shared by all deliveries of one consumer.
#[derive(Debug)]
pub(super) struct ChannelAcker {
    pub(super) outbox: Arc<Outbox>,
    pub(super) consumer: u32,
    pub(super) tag: Arc<str>,
    /// Where only our memory bounds what is under way.
    pub(super) credit: Option<Arc<CreditAccount>>,
    pub(super) inlet: Option<Arc<dyn DeliverySink>>,
    pub(super) warned: AtomicBool,
    /// Where a stream is, to go on from there in another life.
    pub(super) offsets: Option<Arc<Offsets>>,
    /// Told of the end of the last delivery by being dropped.
    pub(super) held: Option<Arc<watch::Sender<()>>>,
}

impl ChannelAcker {
    /// The same consumer, with another connection's budget.
    pub(super) fn with_credit(&self, credit: Option<Arc<CreditAccount>>) -> Self {
        Self {
            outbox: self.outbox.clone(),
            consumer: self.consumer,
            tag: self.tag.clone(),
            credit,
            inlet: self.inlet.clone(),
            warned: AtomicBool::new(self.warned.load(Ordering::Relaxed)),
            offsets: self.offsets.clone(),
            held: self.held.clone(),
        }
    }

    fn note_offsets(&self, tags: &mut dyn Iterator<Item = u64>, verdict: Outcome) {
        if let Some(offsets) = &self.offsets {
            tags.for_each(|tag| offsets.settled(tag, verdict));
        }
    }
}

impl Acker for ChannelAcker {
    fn settle(&self, channel_epoch: u32, tag: u64, verdict: Outcome) -> Result<()> {
        self.outbox.settle(channel_epoch, tag, self.consumer, verdict)?;
        self.note_offsets(&mut std::iter::once(tag), verdict);
        Ok(())
    }

    fn settle_all(
        &self,
        channel_epoch: u32,
        tags: &mut dyn Iterator<Item = u64>,
        verdict: Outcome,
    ) -> Result<()> {
        if self.offsets.is_none() {
            return self.outbox.settle_each(channel_epoch, tags, self.consumer, verdict);
        }
        let tags: Vec<u64> = tags.collect();
        self.outbox.settle_each(channel_epoch, tags.iter().copied(), self.consumer, verdict)?;
        self.note_offsets(&mut tags.into_iter(), verdict);
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
                "channel {}, consumer {:?}: a delivery was dropped unsettled and goes back into its queue",
                self.outbox.terms().channel,
                self.tag
            );
        }
        if let Some(credit) = &self.credit {
            credit.give_back(size);
        }
        if let Some(inlet) = &self.inlet {
            inlet.ended();
        }
    }
}
