//! Which arguments each kind of queue takes.

use crate::core::{Line, QueueKind};

/// The arguments that a kind of queue takes, in the order in which a redeclaration compares them.
pub(super) struct Keys {
    /// The name of its module, as it stands in reply texts.
    pub(super) module: &'static str,
    pub(super) queue: &'static [&'static str],
    pub(super) consumer: &'static [&'static str],
}

impl Keys {
    pub(super) fn of(kind: &QueueKind, line: Line) -> &'static Self {
        match kind {
            QueueKind::Classic { .. } if line >= Line::V4_0 => &CLASSIC_4,
            QueueKind::Classic { .. } => &CLASSIC,
            QueueKind::Quorum { .. } if line >= Line::V4_3 => &QUORUM_4_3,
            QueueKind::Quorum { .. } => &QUORUM,
            QueueKind::Stream { .. } if line >= Line::V4_3 => &STREAM_4_3,
            QueueKind::Stream { .. } if line >= Line::V3_13 => &STREAM,
            QueueKind::Stream { .. } => &STREAM_3_10,
        }
    }

    /// The kinds of a line. What one of them takes and another one does not is refused by that.
    pub(super) fn all(line: Line) -> [&'static Self; 3] {
        let quorum = QueueKind::Quorum { delivery_limit: None };
        let stream = QueueKind::Stream { max_age: None, segment_bytes: 0 };
        let classic = QueueKind::Classic { max_priority: None };
        [Self::of(&classic, line), Self::of(&quorum, line), Self::of(&stream, line)]
    }
}

static CLASSIC: Keys = Keys {
    module: "rabbit_classic_queue",
    queue: &[
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-overflow",
        "x-queue-mode",
        "x-queue-version",
        "x-single-active-consumer",
        "x-queue-type",
        "x-queue-master-locator",
    ],
    consumer: &["x-cancel-on-ha-failover", "x-priority", "x-credit"],
};

static CLASSIC_4: Keys = Keys {
    module: "rabbit_classic_queue",
    queue: &[
        "x-expires",
        "x-message-ttl",
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-priority",
        "x-overflow",
        "x-queue-mode",
        "x-queue-version",
        "x-single-active-consumer",
        "x-queue-type",
        "x-queue-master-locator",
        "x-queue-leader-locator",
    ],
    consumer: &["x-priority", "x-credit"],
};

static QUORUM: Keys = Keys {
    module: "rabbit_quorum_queue",
    queue: &[
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-overflow",
        "x-single-active-consumer",
        "x-queue-type",
        "x-quorum-initial-group-size",
        "x-delivery-limit",
        "x-message-ttl",
        "x-queue-leader-locator",
    ],
    consumer: &["x-priority", "x-credit"],
};

static QUORUM_4_3: Keys = Keys {
    module: "rabbit_quorum_queue",
    queue: &[
        "x-dead-letter-exchange",
        "x-dead-letter-routing-key",
        "x-dead-letter-strategy",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
        "x-overflow",
        "x-single-active-consumer",
        "x-queue-type",
        "x-quorum-initial-group-size",
        "x-delivery-limit",
        "x-message-ttl",
        "x-queue-leader-locator",
        "x-delayed-retry-type",
        "x-delayed-retry-min",
        "x-delayed-retry-max",
        "x-consumer-timeout",
    ],
    consumer: &["x-priority", "x-credit", "x-consumer-timeout"],
};

static STREAM_3_10: Keys = Keys {
    module: "rabbit_stream_queue",
    queue: &[
        "x-max-length-bytes",
        "x-queue-type",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-initial-cluster-size",
        "x-queue-leader-locator",
    ],
    consumer: &["x-stream-offset", "x-credit"],
};

static STREAM: Keys = Keys {
    module: "rabbit_stream_queue",
    queue: &[
        "x-max-length-bytes",
        "x-queue-type",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-initial-cluster-size",
        "x-queue-leader-locator",
    ],
    consumer: &["x-stream-offset", "x-credit", "x-stream-filter", "x-stream-match-unfiltered"],
};

static STREAM_4_3: Keys = Keys {
    module: "rabbit_stream_queue",
    queue: &[
        "x-max-length-bytes",
        "x-queue-type",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-stream-filter-size-bytes",
        "x-initial-cluster-size",
        "x-queue-leader-locator",
    ],
    consumer: &["x-stream-offset", "x-credit", "x-stream-filter", "x-stream-match-unfiltered"],
};
