//! [`Stored`]: a message in a queue, or taken out of it.

use std::sync::Arc;

use crate::core::{Message, QueueKind, QueueSettings, Time};

/// A message in a queue, or taken out of it and not settled yet.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) message: Arc<Message>,
    /// Its position in the original order of the queue; of a stream, its offset.
    pub(crate) place: u64,
    /// When it expires, by its own expiration or that of the queue.
    pub(crate) expires_at: Option<Time>,
    pub(crate) arrived: Time,
    /// How often a delivery of it failed. Before 4.3, every return to a quorum queue is a failure, and classic queues do
    /// not count.
    pub(crate) delivery_count: u32,
    /// How often a quorum queue has rejected it or lost its consumer, in all queues that it came from as a dead letter,
    /// and lost its consumer in this one: see `DeadLetterCounts`.
    pub(crate) losses: u32,
    /// How often it came back to a quorum queue.
    pub(crate) acquired_count: u32,
    /// What the next delivery says.
    pub(crate) redelivered: bool,
}

impl Stored {
    pub(super) fn is_expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|deadline| deadline <= now)
    }

    /// Returns the headers that the queue adds when it hands the message out.
    pub(crate) fn headers_to_add(
        &self,
        settings: &QueueSettings,
        by: HandOut,
    ) -> impl Iterator<Item = (&'static str, i64)> + use<> {
        let rules = settings.line.rules();
        let headers = match settings.kind {
            QueueKind::Classic { .. } => [None, None],
            QueueKind::Stream { .. } => [Some(("x-stream-offset", self.place as i64)), None],
            QueueKind::Quorum { .. } => {
                let count = |name, count: u32| (count > 0).then_some((name, i64::from(count)));
                if rules.delivery_count_zero && by == HandOut::Get {
                    [Some(("x-delivery-count", self.delivery_count.into())), None]
                } else if rules.acquired_count {
                    // That of a dead letter begins with the failures that it brings along.
                    let acquired =
                        if self.acquired_count > 0 { self.acquired_count } else { self.delivery_count };
                    [count("x-acquired-count", acquired), count("x-delivery-count", self.delivery_count)]
                } else {
                    let failures = self.message.failures;
                    let delivered = if self.delivery_count > 0 { self.delivery_count } else { failures };
                    [count("x-delivery-count", delivered), None]
                }
            }
        };
        headers.into_iter().flatten()
    }
}

/// How a message is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandOut {
    Deliver,
    Get,
}

/// Why a message leaves its queue without being consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Rejected,
    Expired,
    MaxLength,
    DeliveryLimit,
}

impl Reason {
    /// Returns the text that `x-death` has.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::MaxLength => "maxlen",
            Self::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message that is no longer in its queue, and is to be dead-lettered.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    pub(crate) stored: Stored,
    pub(crate) reason: Reason,
}

/// What a queue did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It took it. It may have dropped it at once.
    Kept,
    /// It is full, and the publish fails.
    Refused,
}

/// Why an unsettled message comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    Nack,
    Reject,
    Recover,
    ChannelClosed,
    ConnectionLost,
    TimedOut,
}

impl Return {
    /// Returns whether a line that distinguishes takes it for a failed delivery.
    pub(super) fn is_failure(self) -> bool {
        matches!(self, Self::Reject | Self::ChannelClosed | Self::ConnectionLost)
    }

    /// Returns whether the consumer was lost.
    pub(super) fn is_loss(self) -> bool {
        matches!(self, Self::ChannelClosed | Self::ConnectionLost)
    }

    /// Returns whether the client asked for it.
    pub(super) fn is_asked_for(self) -> bool {
        matches!(self, Self::Nack | Self::Reject | Self::Recover)
    }
}
