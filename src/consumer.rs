//! The handle of a consumer.

use std::{fmt, sync::Arc};

use crate::{CancelConsumer, Channel, Result};

/// A consumer that feeds an actor. Dropping the handle does not cancel it.
#[derive(Clone)]
pub struct Consumer {
    channel: Channel,
    tag: Arc<str>,
}

impl Consumer {
    pub(crate) fn new(channel: Channel, tag: Arc<str>) -> Self {
        Self { channel, tag }
    }

    /// Tells the consumer tag.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Ends the consumer (`basic.cancel`): when it returns, nothing more comes.
    ///
    /// What the application holds can still be settled; what it has not seen goes back into the queue. Cancelling
    /// twice is fine.
    ///
    /// # Errors
    /// `Timeout` after the channel's deadline.
    pub async fn cancel(&self) -> Result<()> {
        self.channel.call(CancelConsumer::new(&*self.tag)).await
    }

    /// Hands out the channel of the handle.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("tag", &self.tag).field("channel", &self.channel.number()).finish()
    }
}
