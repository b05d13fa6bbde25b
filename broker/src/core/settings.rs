//! What arguments and policies say of a queue, as its machine uses it: checked, and of Rust types.

use super::Line;

/// What a queue is, with what arguments and policies of its kind say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSettings {
    /// The line of RabbitMQ.
    pub line: Line,
    /// The kind.
    pub kind: QueueKind,
    /// `x-message-ttl` in milliseconds.
    pub message_ttl: Option<u64>,
    /// `x-max-length`
    pub max_length: Option<u64>,
    /// `x-max-length-bytes`
    pub max_bytes: Option<u64>,
    /// `x-overflow`
    pub overflow: Overflow,
    /// `x-single-active-consumer`
    pub single_active: bool,
    /// `x-consumer-timeout` in milliseconds
    pub consumer_timeout: Option<u64>,
    /// `x-delayed-retry-type` and its two times, if they delay anything.
    pub delayed_retry: Option<DelayedRetry>,
    /// Dead messages are kept until all queues have taken their dead letters.
    pub at_least_once: bool,
}

/// Which returned messages of a quorum queue come back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DelayedRetry {
    /// Those after a failed delivery.
    pub failed: bool,
    /// Those that were returned otherwise.
    pub returned: bool,
    /// The milliseconds for each failed delivery, at least for one.
    pub min: u64,
    /// The most milliseconds.
    pub max: u64,
}

/// The kind of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueKind {
    /// `x-queue-type: classic`, with `x-max-priority`.
    Classic {
        /// The highest priority, if the queue has priorities.
        max_priority: Option<u8>,
    },
    /// `x-queue-type: quorum`
    Quorum {
        /// `x-delivery-limit`, or the default of the line.
        delivery_limit: Option<u32>,
    },
    /// `x-queue-type: stream`
    Stream {
        /// `x-max-age` in milliseconds.
        max_age: Option<u64>,
        /// `x-stream-max-segment-size-bytes`
        segment_bytes: u64,
    },
}

/// What happens to a message that is too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The message at the head goes, and is dead-lettered.
    #[default]
    DropHead,
    /// The new message is refused.
    RejectPublish,
    /// The new message is refused and dead-lettered.
    RejectPublishDeadLetter,
}
