//! What a broker is started with.

use super::line::Line;

/// What a [`Core`](super::Core) is started with.
///
/// # Examples
/// ```
/// # use actix_pika_broker::core::{CoreConfig, Line};
/// let config = CoreConfig { line: Line::V4_0, seed: 7, ..CoreConfig::default() };
/// assert_eq!(config.consumer_timeout, Some(1_800_000));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreConfig {
    /// The line of RabbitMQ.
    pub line: Line,
    /// What generated names depend on.
    pub seed: u64,
    /// The milliseconds within which a delivery has to be acked. 30 minutes unless set otherwise.
    pub consumer_timeout: Option<u64>,
    /// The largest body, if not that of the line.
    pub message_max: Option<u64>,
    /// The seconds of the Unix time at [`Time::ZERO`](super::Time::ZERO), for the times in `x-death`.
    pub unix_start: u64,
    /// How many publishes are remembered for inspection.
    pub publish_log: usize,
}

impl Default for CoreConfig {
    fn default() -> Self {
        Self {
            line: Line::default(),
            seed: 0,
            consumer_timeout: Some(30 * 60 * 1000),
            message_max: None,
            unix_start: 1_700_000_000,
            publish_log: 1000,
        }
    }
}
