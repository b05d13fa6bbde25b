//! Publishing by message, and what comes of a publish.

use actix::Message;

use super::Publishing;
use crate::error::Result;

/// Publishes (`basic.publish`) by a message to the Channel actor, for people who speak in messages. Handles do the
/// same without a mailbox in the way.
///
/// Answered when the broker has taken responsibility, or at once on a channel without confirms.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Publish {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) content: Publishing,
}

impl Publish {
    /// Publishes to an exchange; an empty name is the default exchange, which routes to the queue named by the key.
    pub fn new(
        exchange: impl Into<String>,
        routing_key: impl Into<String>,
        content: impl Into<Publishing>,
    ) -> Self {
        Self { exchange: exchange.into(), routing_key: routing_key.into(), content: content.into() }
    }
}

impl Message for Publish {
    type Result = Result<Confirmation>;
}

/// The broker has taken responsibility for a publish, or was not asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmation {
    pub(crate) sequence: u64,
}

impl Confirmation {
    #[doc(hidden)]
    pub fn new(sequence: u64) -> Self {
        Self { sequence }
    }

    /// Tells the number of the publish on its channel, from 1 on; `None` on a channel without confirms, where the
    /// publish is only on its way.
    pub fn sequence(&self) -> Option<u64> {
        (self.sequence > 0).then_some(self.sequence)
    }

    /// Tells whether the broker confirmed it.
    pub fn is_confirmed(&self) -> bool {
        self.sequence > 0
    }
}
