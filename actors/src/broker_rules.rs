//! What brokers do differently, by the version that they name in `connection.start`.
//!
//! One table for the whole library. What an operator can configure is here as a permission or as a default,
//! and is never the reason to refuse a call that the operator may have permitted.

/// A major and a minor version of RabbitMQ.
type Line = (u32, u32);

/// The smallest `frame_max` of AMQP 0-9-1, in bytes.
const FRAME_MIN_SIZE: u32 = 4096;

/// Tells whether the broker does something that RabbitMQ has deprecated. The handshake does not tell how its
/// operator has configured it.
///
/// Source: <https://www.rabbitmq.com/docs/deprecated-features>
///
/// # Examples
/// ```
/// # use actix_pika_actors::{BrokerRules, Permission};
/// let rules = BrokerRules::of("RabbitMQ", "4.3.6").expect("rules of this product");
/// assert_eq!(rules.shared_prefetch, Permission::IfPermitted);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Permission {
    /// Always.
    Always,
    /// Unless its operator has denied it.
    UnlessDenied,
    /// Only if its operator has permitted it, in some or all versions of the line.
    IfPermitted,
}

/// Describes what a RabbitMQ broker does that depends on its version.
///
/// [`Opened::rules`](crate::Opened::rules) returns those of a connection. Limits are the broker's defaults:
/// its operator may have set others, which the handshake does not tell.
///
/// **Over a reconnect**: another node may have another version. The rules of the new connection apply to
/// everything that is recovered on it.
///
/// Source: <https://www.rabbitmq.com/release-information>
///
/// # Examples
/// ```
/// # use actix_pika_actors::{BrokerRules, Opened};
/// fn a_drain_counts(opened: &Opened) -> bool {
///     opened.rules().is_some_and(|rules| rules.nack_counts)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BrokerRules {
    /// Version: major, minor and patch.
    pub version: (u32, u32, u32),
    /// Smallest `frame_max` in bytes that it accepts.
    pub least_frame_max: u32,
    /// Whether consumers of a channel can share a prefetch ([`Qos::global`](crate::Qos::global)). A broker
    /// that denies it answers with success and gives each new consumer that limit instead.
    pub shared_prefetch: Permission,
    /// Whether a queue can be neither durable nor exclusive. A broker that denies it closes the connection
    /// (541).
    pub transient_queues: Permission,
    /// Largest body in bytes that it accepts by default.
    pub largest_body: u64,
    /// Number of redeliveries after which a quorum queue drops or dead-letters a message by default.
    pub delivery_limit: Option<u32>,
    /// Whether `basic.nack` with requeue counts toward the delivery limit, as `basic.reject` does.
    pub nack_counts: bool,
    /// Whether a mandatory publish to a direct reply-to address is returned (312) although it is delivered.
    pub replies_are_returned: bool,
    /// What happens when a delivery is unsettled for too long. `true`: for quorum queues the broker cancels its
    /// consumer and takes its deliveries back, and the other queues have no such limit. `false`: it closes the
    /// channel (406), which a message got by `basic.get` from a quorum queue does on every line.
    pub late_delivery_cancels_consumer: bool,
    /// Whether a dead-lettered message is delivered as redelivered.
    pub dead_letter_is_redelivered: bool,
}

impl BrokerRules {
    /// Returns the rules of a product and version, as in `connection.start`; `None` unless it is a RabbitMQ
    /// with a version that can be read.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::BrokerRules;
    /// assert_eq!(BrokerRules::of("RabbitMQ", "3.13.7").map(|rules| rules.delivery_limit), Some(None));
    /// assert_eq!(BrokerRules::of("another broker", "4.3.6"), None);
    /// ```
    pub fn of(product: &str, version: &str) -> Option<Self> {
        if product != "RabbitMQ" {
            return None;
        }
        let mut numbers = version.split('.').map(leading_number);
        let (major, minor) = (numbers.next()??, numbers.next()??);
        let patch = numbers.next().flatten().unwrap_or(0);
        let since = |line: Line| (major, minor) >= line;
        let deprecated = |denied: bool| match (denied, since((3, 13))) {
            (true, _) => Permission::IfPermitted,
            (false, true) => Permission::UnlessDenied,
            (false, false) => Permission::Always,
        };
        Some(Self {
            version: (major, minor, patch),
            least_frame_max: if since((4, 1)) { 8192 } else { FRAME_MIN_SIZE },
            shared_prefetch: deprecated(since((4, 3))),
            transient_queues: deprecated(since((4, 3))),
            largest_body: if since((4, 0)) { 16 << 20 } else { 128 << 20 },
            delivery_limit: since((4, 0)).then_some(20),
            nack_counts: !since((4, 3)),
            replies_are_returned: !since((4, 2)),
            late_delivery_cancels_consumer: since((4, 3)),
            dead_letter_is_redelivered: since((4, 3)),
        })
    }
}

/// Returns the number that a part of a version begins with: 0 for `0-rc`.
fn leading_number(part: &str) -> Option<u32> {
    let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
    part.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(version: &str) -> BrokerRules {
        BrokerRules::of("RabbitMQ", version).unwrap()
    }

    #[test]
    fn versions_are_read_as_far_as_they_are_numbers() {
        assert_eq!(rules("4.3.6").version, (4, 3, 6));
        assert_eq!(rules("3.10.8").version, (3, 10, 8));
        assert_eq!(rules("4.1.0-rc.1").version, (4, 1, 0));
        assert_eq!(rules("3.13").version, (3, 13, 0));
        assert_eq!(rules("4.0.5+2").version, (4, 0, 5));
        for unreadable in ["", "4", "four.three", "%%VSN%%", "4.x", "99999999999.1"] {
            assert_eq!(BrokerRules::of("RabbitMQ", unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn another_product_has_no_rules() {
        for other in ["", "rabbitmq", "LavinMQ", "scripted peer"] {
            assert_eq!(BrokerRules::of(other, "4.3.6"), None);
        }
    }

    #[test]
    fn each_rule_changes_with_its_line() {
        use Permission::{Always, IfPermitted, UnlessDenied};
        let permissions = |version| (rules(version).shared_prefetch, rules(version).transient_queues);
        assert_eq!(permissions("3.10.8"), (Always, Always));
        assert_eq!(permissions("3.12.14"), (Always, Always));
        assert_eq!(permissions("3.13.7"), (UnlessDenied, UnlessDenied));
        assert_eq!(permissions("4.2.9"), (UnlessDenied, UnlessDenied));
        assert_eq!(permissions("4.3.0"), (IfPermitted, IfPermitted));
        assert_eq!(permissions("5.0.0"), (IfPermitted, IfPermitted));
        let limits = |version| {
            let BrokerRules { least_frame_max, largest_body, delivery_limit, .. } = rules(version);
            (least_frame_max, largest_body, delivery_limit)
        };
        assert_eq!(limits("3.13.7"), (4096, 128 << 20, None));
        assert_eq!(limits("4.0.5"), (4096, 16 << 20, Some(20)));
        assert_eq!(limits("4.1.0"), (8192, 16 << 20, Some(20)));
        let facts = |version| {
            let all = rules(version);
            (
                all.nack_counts,
                all.replies_are_returned,
                all.late_delivery_cancels_consumer,
                all.dead_letter_is_redelivered,
            )
        };
        assert_eq!(facts("4.1.8"), (true, true, false, false));
        assert_eq!(facts("4.2.0"), (true, false, false, false));
        assert_eq!(facts("4.3.6"), (false, false, true, true));
    }
}
