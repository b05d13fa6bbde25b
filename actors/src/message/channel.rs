//! What is said to a channel about itself.

use actix::Message;

use crate::error::Result;

/// Sets the prefetch (`basic.qos`): deliveries that a consumer may have unsettled.
///
/// Applies to consumers that start afterwards, each for itself. 0 means no bound.
/// Source: RabbitMQ, "Consumer Prefetch".
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Qos {
    pub(crate) prefetch_count: u16,
    pub(crate) global: bool,
}

impl Qos {
    /// Bounds each new consumer to `prefetch_count` unsettled deliveries.
    pub fn new(prefetch_count: u16) -> Self {
        Self { prefetch_count, global: false }
    }

    /// Shares the bound between all consumers of the channel; quorum queues refuse that (connection error 540).
    ///
    /// Each consumer keeps its own bound beside it. Set that one first: RabbitMQ lifts a shared bound for a moment when
    /// it is told another one for each consumer.
    pub fn global(mut self) -> Self {
        self.global = true;
        self
    }
}

impl Message for Qos {
    type Result = Result<()>;
}

/// Closes the channel (`channel.close`), after the publishes under way are confirmed or their deadline has passed.
///
/// What consumers of the channel have not settled goes back into its queues. Closing twice is fine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CloseChannel {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl CloseChannel {
    /// Closes with reply code 200.
    pub fn new() -> Self {
        Self { code: 200, text: "closed by the application".into() }
    }

    /// Gives the broker another reason; the text is cut to 255 bytes.
    pub fn reason(mut self, code: u16, text: impl Into<String>) -> Self {
        self.code = code;
        self.text = text.into();
        self
    }
}

impl Default for CloseChannel {
    fn default() -> Self {
        Self::new()
    }
}

impl Message for CloseChannel {
    type Result = Result<()>;
}

/// Tells the Channel actor that the last handle is gone: it closes when nothing else needs it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct ReleaseChannel;

impl Message for ReleaseChannel {
    type Result = ();
}
