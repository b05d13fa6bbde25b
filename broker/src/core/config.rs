//! What a broker is started with.

use super::{entities::EntityLimits, line::Line};

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
    /// The octets that messages may take before who publishes is blocked, with an allowance for each message. 1 GiB unless
    /// set otherwise.
    pub memory_limit: Option<u64>,
    /// How many queues, exchanges, bindings and consumers clients may declare.
    pub entity_limits: EntityLimits,
    /// The largest body, if not that of the line.
    pub message_max: Option<u64>,
    /// The `frame_max` that is offered.
    pub frame_max: u32,
    /// What the operator permits or denies, unlike the line.
    pub permits: Permits,
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
            memory_limit: Some(1 << 30),
            entity_limits: EntityLimits::default(),
            message_max: None,
            frame_max: 131_072,
            permits: Permits::default(),
            unix_start: 1_700_000_000,
            publish_log: 1000,
        }
    }
}

/// Which deprecated features the operator permits (`deprecated_features.permit.*`), where that is not as the line has it.
/// The line 3.10 knows no such setting, and ignores it.
///
/// # Examples
/// ```
/// # use actix_pika_broker::Permits;
/// assert_eq!(Permits::default().transient_queues, None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    /// `global_qos`: consumers of a channel may share a prefetch. Without, it is one of each new consumer.
    pub global_qos: Option<bool>,
    /// `transient_nonexcl_queues`: queues may be neither durable nor exclusive. Without, such a declaration closes the
    /// connection with 541.
    pub transient_queues: Option<bool>,
}

impl Permits {
    /// Returns whether consumers share a prefetch.
    pub(super) fn shares_prefetch(self, line: Line) -> bool {
        self.global_qos.filter(|_| line > Line::V3_10).unwrap_or(line.rules().shared_prefetch)
    }

    pub(super) fn denies_transient_queues(self, line: Line) -> bool {
        self.transient_queues == Some(false) && line > Line::V3_10
    }
}
