//! What a channel reads while it opens or recovers. Behind a channel that the broker has closed, another one opens
//! with the same number on the same connection, and RabbitMQ goes on to send what was under way: deliveries,
//! confirms, replies. Their tags count from the start of the channel before, so that they would be taken for others.
//!
//! RabbitMQ works off the two channels side by side, so that some may come behind `channel.open-ok` too.

use tokio::time::Instant;

use super::{ChannelMachine, consumers::ConsumerPhase, state::Reading};
use crate::wire::{Fault, Frame, FrameKind, Inbound, parse_method};

impl ChannelMachine {
    /// Reads a frame of a channel that opens or recovers, unless it is of the channel before.
    pub(super) fn read_while_opening(
        &mut self,
        frame: Frame,
        reading: Reading,
        now: &impl Fn() -> Instant,
    ) -> Result<(), Fault> {
        if frame.kind == FrameKind::Method {
            self.inbox.is_stale = match reading {
                Reading::Recovery => self.is_stale(&frame.payload)?,
                _ => !opens_or_closes(&frame.payload)?,
            };
        }
        if self.inbox.is_stale && frame.kind != FrameKind::Heartbeat {
            return Ok(());
        }
        self.read_frame(frame, now)
    }

    /// Returns whether a method that comes behind `channel.open-ok` is of the channel before.
    fn is_stale(&mut self, payload: &[u8]) -> Result<bool, Fault> {
        Ok(match parse_method(payload)? {
            // Nothing is published before the last reply to what opens the channel.
            Inbound::Ack { .. } | Inbound::Nack { .. } => true,
            // `basic.consume-ok` comes before the deliveries.
            Inbound::Deliver(head) => {
                let found = self.consumers.find(head.consumer_tag.of(payload));
                !found.is_some_and(|(_, entry)| {
                    matches!(entry.phase, ConsumerPhase::Active | ConsumerPhase::Cancelling { .. })
                })
            }
            _ => false,
        })
    }
}

fn opens_or_closes(payload: &[u8]) -> Result<bool, Fault> {
    Ok(matches!(parse_method(payload)?, Inbound::Other { class_id: 20, method_id: 11 | 40 | 41 }))
}
