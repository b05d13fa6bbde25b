//! Messages whose body is over a limit: the frames were dropped while they were read.
//!
//! The channel goes on. A delivery is settled here, and its consumer never sees it.

use std::time::Duration;

use tokio::time::Instant;

use super::ChannelMachine;
use crate::{
    error::Error,
    message::{ChannelEvent, Outcome, OversizedDelivery, QueueType, SkippedDelivery},
    outbox::RequeueLater,
    wire::{Deliver, Fault, SkippedBody, basic_decode::GetOk},
};

/// How long a delivery that is too large stays unsettled before it returns to its queue. RabbitMQ closes the
/// channel of one that is unsettled for 30 minutes.
const OVERSIZED_WAIT: Duration = Duration::from_secs(600);
/// How long a delivery waits that did not fit beside others.
const CROWDED_WAIT: Duration = Duration::from_secs(1);

/// How a delivery is settled that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    Now(Outcome),
    Later(Duration),
}

impl Settling {
    fn of(skipped: SkippedBody, oversized: OversizedDelivery, queue_type: Option<QueueType>) -> Self {
        match (skipped, oversized) {
            // A stream keeps its messages, and requeues nothing.
            _ if queue_type == Some(QueueType::Stream) => Self::Now(Outcome::NotBegun),
            (SkippedBody::Crowded { .. }, _) => Self::Later(CROWDED_WAIT),
            (SkippedBody::TooLarge { .. }, OversizedDelivery::Requeue) => Self::Later(OVERSIZED_WAIT),
            (SkippedBody::TooLarge { .. }, OversizedDelivery::Reject) => {
                Self::Now(Outcome::Reject { requeue: false })
            }
        }
    }

    /// Returns what becomes of the message.
    fn text(self) -> String {
        match self {
            Self::Now(Outcome::Reject { .. }) => "rejected".to_owned(),
            Self::Now(_) => "passed over".to_owned(),
            Self::Later(wait) => format!("requeued in {wait:?}"),
        }
    }
}

impl ChannelMachine {
    /// A delivery was not read.
    pub(super) fn delivery_skipped(
        &mut self,
        head: &Deliver,
        payload: &[u8],
        skipped: SkippedBody,
        now: Instant,
    ) -> Result<(), Fault> {
        let (channel, channel_epoch, tag) = (self.number(), self.channel_epoch, head.delivery_tag);
        self.inbox.redelivered += u64::from(head.redelivered);
        let consumer_tag = head.consumer_tag.of(payload);
        let Some(id) = self.consumers.find(consumer_tag).map(|(_, entry)| entry.id()) else {
            self.inbox.note_unknown(tag);
            return Ok(());
        };
        let Some(entry) = self.consumers.by_id(id) else { return Ok(()) };
        let no_ack = entry.subscription.no_ack;
        if self.basic_recovers > 0 && !no_ack {
            self.inbox.note(tag, None);
            return Ok(());
        }
        let settling = Settling::of(skipped, entry.subscription.oversized, entry.subscription.queue_type);
        let report = SkippedDelivery {
            consumer_tag: entry.tag().clone(),
            queue: entry.subscription.queue.clone(),
            exchange: String::from_utf8_lossy(head.exchange.of(payload)).into_owned(),
            routing_key: String::from_utf8_lossy(head.routing_key.of(payload)).into_owned(),
            size: skipped.size(),
            error: error(skipped).on(entry.subscription.queue.clone()),
        };
        if let Some(so_far) = entry.skips.count(now) {
            let SkippedDelivery { consumer_tag, routing_key, error, .. } = &report;
            let fate = if no_ack { "lost (no_ack)".to_owned() } else { settling.text() };
            log::warn!(
                "channel {channel}: consumer {consumer_tag:?}: a message with routing key {routing_key:?} is \
                 not read and {fate}: {error}{so_far}"
            );
        }
        self.inbox.note(tag, (!no_ack).then_some(id));
        self.flush_deliveries(&|| now)?;
        if !no_ack {
            // An error means that the broker returns the message to its queue anyway.
            let _ = match settling {
                Settling::Now(outcome) => self.outbox.settle(channel_epoch, tag, id, outcome),
                Settling::Later(wait) => {
                    self.outbox.requeue_later(channel_epoch, tag, id, RequeueLater::Unread(wait), now)
                }
            };
        }
        self.notify(ChannelEvent::DeliverySkipped(report));
        Ok(())
    }

    /// The reply to `basic.get` was not read: the call fails.
    pub(super) fn get_skipped(
        &mut self,
        head: &GetOk,
        skipped: SkippedBody,
        now: &impl Fn() -> Instant,
    ) -> Result<(), Fault> {
        let got = self.take_got(head, now)?;
        if got.is_unsettled() {
            let consumer = got.acker.consumer;
            let _ = self.outbox.settle(self.channel_epoch, head.delivery_tag, consumer, Outcome::Failed);
        }
        let _ = got.responder.send(Err(error(skipped).on(got.queue)));
        Ok(())
    }
}

fn error(skipped: SkippedBody) -> Error {
    Error::limit(match skipped {
        SkippedBody::TooLarge { size, limit } => {
            format!("a body of {size} bytes is over the limit of {limit} (body_max)")
        }
        SkippedBody::Crowded { size, limit } => format!(
            "a body of {size} bytes was the largest when the incomplete bodies of the connection had more than \
             {limit} bytes (partial_body_max)"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_that_is_too_large_is_settled_as_the_consumer_has_it() {
        let large = SkippedBody::TooLarge { size: 2, limit: 1 };
        let crowded = SkippedBody::Crowded { size: 2, limit: 1 };
        let (requeue, reject) = (OversizedDelivery::Requeue, OversizedDelivery::Reject);
        assert_eq!(Settling::of(large, requeue, None), Settling::Later(OVERSIZED_WAIT));
        let dropped = Settling::Now(Outcome::Reject { requeue: false });
        assert_eq!(Settling::of(large, reject, None), dropped);
        assert_eq!(Settling::of(large, reject, Some(QueueType::Quorum)), dropped);
        for oversized in [requeue, reject] {
            assert_eq!(Settling::of(crowded, oversized, None), Settling::Later(CROWDED_WAIT));
            let stream = Settling::of(large, oversized, Some(QueueType::Stream));
            assert_eq!(stream, Settling::Now(Outcome::NotBegun), "it stays in the stream");
        }
    }
}
