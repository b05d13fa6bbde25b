//! How a delivery is settled: the channel's side of it.

use std::{fmt, sync::Arc};

use super::QueueName;
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
    /// It returns to its queue because the application has not begun it (`basic.nack`); if its consumer is
    /// being cancelled, after that.
    NotBegun,
    /// It returns to its queue because its processing has failed (`basic.reject`); if its consumer is being
    /// cancelled, after that.
    Failed,
}

impl Outcome {
    /// Returns what takes its place when it would not reach the broker, if the application is told.
    pub(crate) fn returned_instead(self) -> Option<Self> {
        match self {
            Self::Ack | Self::Nack { .. } | Self::Reject { .. } => Some(Self::NotBegun),
            Self::AckAll | Self::NackAll { .. } => Some(Self::NackAll { requeue: true }),
            Self::NotBegun | Self::Failed => None,
        }
    }
}

/// Why a delivery returns to its queue without a decision of the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsettled {
    /// The application has not begun it.
    NotBegun,
    /// It was dropped: by a handler, or with the mailbox of an actor that has stopped.
    Dropped(Failures),
    /// The guard of its processing was dropped.
    Failed(Failures),
}

/// How often the processing of a message has failed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failures {
    /// As the queue counts them.
    Counted(u64),
    /// The message was delivered before; its queue does not count.
    Uncounted,
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
    /// Returns a delivery to its queue. One whose processing has failed before returns later.
    fn return_unsettled(&self, channel_epoch: u32, tag: u64, why: Unsettled) -> Result<()>;
    /// Returns whether the delivery can no longer be settled. A tag of 0 is that of a delivery that needs no
    /// settling.
    fn is_stale(&self, channel_epoch: u32, tag: u64) -> bool;
    fn consumer_tag(&self) -> &Arc<str>;
    /// Returns the queue that delivers, under the name that it has now.
    fn queue(&self) -> &QueueName;
    /// Called once when a delivery is settled or dropped. `size` is that of its parts.
    fn ended(&self, size: usize);
}
