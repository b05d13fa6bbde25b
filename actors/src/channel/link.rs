//! What ties a delivery to its channel: the way back for its settling, and the counts that it holds.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use crate::{
    error::Result,
    message::{Inlet, Settler},
    outbox::{Account, Outbox, Verdict},
};

/// Shared by all deliveries of one consumer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) outbox: Arc<Outbox>,
    pub(super) consumer: u32,
    pub(super) tag: Arc<str>,
    /// Where only our memory bounds what is under way.
    pub(super) credit: Option<Arc<Account>>,
    pub(super) inlet: Option<Arc<dyn Inlet>>,
    pub(super) warned: AtomicBool,
    /// Told of the end of the last delivery by being dropped.
    pub(super) _held: Option<watch::Sender<()>>,
}

impl Settler for Link {
    fn settle(&self, incarnation: u32, tag: u64, verdict: Verdict) -> Result<()> {
        self.outbox.settle(incarnation, tag, self.consumer, verdict)
    }

    fn settle_all(
        &self,
        incarnation: u32,
        tags: &mut dyn Iterator<Item = u64>,
        verdict: Verdict,
    ) -> Result<()> {
        self.outbox.settle_each(incarnation, tags, self.consumer, verdict)
    }

    fn is_stale(&self, incarnation: u32) -> bool {
        self.outbox.is_stale(incarnation)
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
