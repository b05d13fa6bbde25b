//! How a delivery is settled: the channel's side of it.

use std::fmt;

use crate::error::Result;

/// How a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `basic.ack`
    Ack,
    /// `basic.ack` for this delivery and all older ones of its consumer.
    AckAll,
    /// `basic.nack`
    Nack {
        /// Back into its queue, or dropped or dead-lettered.
        requeue: bool,
    },
    /// `basic.nack` for this delivery and all older ones of its consumer.
    NackAll {
        /// Back into their queue, or dropped or dead-lettered.
        requeue: bool,
    },
    /// `basic.reject`
    Reject {
        /// Back into its queue, or dropped or dead-lettered.
        requeue: bool,
    },
    /// The delivery was dropped unsettled: requeue it, or hold it back while its consumer is cancelled.
    Dropped,
}

/// Settles the deliveries of one consumer.
pub(crate) trait Acker: Send + Sync + fmt::Debug {
    fn settle(&self, channel_epoch: u32, tag: u64, outcome: Outcome) -> Result<()>;
    /// Settles several deliveries of one channel epoch under one lock. Returns the first error, after all others
    /// are settled.
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
