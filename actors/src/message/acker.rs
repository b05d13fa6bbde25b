//! How a delivery is settled: the channel's side of it.

use std::fmt;

use crate::error::Result;

/// How a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Acknowledges it (`basic.ack`).
    Ack,
    /// Acknowledges it and all older ones of its consumer.
    AckAll,
    /// Refuses it (`basic.nack`).
    Nack {
        /// Whether it returns to its queue; otherwise it is dropped or dead-lettered.
        requeue: bool,
    },
    /// Refuses it and all older ones of its consumer.
    NackAll {
        /// Whether they return to their queue; otherwise they are dropped or dead-lettered.
        requeue: bool,
    },
    /// Rejects it (`basic.reject`).
    Reject {
        /// Whether it returns to its queue; otherwise it is dropped or dead-lettered.
        requeue: bool,
    },
    /// It was dropped unsettled: it returns to its queue, after its consumer is cancelled if that is under
    /// way.
    Dropped,
}

/// Settles the deliveries of one consumer.
pub(crate) trait Acker: Send + Sync + fmt::Debug {
    fn settle(&self, channel_epoch: u32, tag: u64, outcome: Outcome) -> Result<()>;
    /// Settles several deliveries of one channel epoch under one lock. Returns the first error, after all
    /// others are settled.
    fn settle_all(
        &self,
        channel_epoch: u32,
        tags: &mut dyn Iterator<Item = u64>,
        outcome: Outcome,
    ) -> Result<()>;
    fn is_stale(&self, channel_epoch: u32) -> bool;
    fn consumer_tag(&self) -> &str;
    /// Called once when a delivery is settled or dropped. `size` is that of its parts.
    fn ended(&self, size: usize, unsettled: bool);
}
