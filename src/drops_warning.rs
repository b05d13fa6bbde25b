//! A default of the broker that loses messages, and that nobody asked for.

use std::sync::atomic::{AtomicBool, Ordering};

use actix_pika_actors::facade;

use crate::{
    Channel, DeclareQueue,
    events::BrokerRules,
    message::{Table, Value},
};

/// Warns once if the broker drops messages of a quorum queue after a number of redeliveries, without dead letters: the
/// default of RabbitMQ 4.
pub(crate) fn warn_of_drops(channel: &Channel, declare: &DeclareQueue) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    let arguments = facade::queue_arguments(declare);
    let Some(limit) = drops_after(arguments, channel.connection().rules().as_ref()) else { return };
    if !WARNED.swap(true, Ordering::Relaxed) {
        log::warn!(
            "quorum queue {:?} has no dead-letter exchange: unless a policy sets one, RabbitMQ drops a message after \
             {limit} redeliveries. Set DeclareQueue::dead_letter_exchange or delivery_limit, or use \
             Channel::declare_jobs. Other queues are not warned of.",
            declare.name()
        );
    }
}

/// Returns after how many redeliveries the broker drops a message of a queue, if it does.
fn drops_after(arguments: &Table, rules: Option<&BrokerRules>) -> Option<i64> {
    let is_quorum = arguments.get("x-queue-type").and_then(Value::as_str) == Some("quorum");
    if !is_quorum || arguments.contains_key("x-dead-letter-exchange") {
        return None;
    }
    let limit = match arguments.get("x-delivery-limit") {
        Some(limit) => limit.as_i64()?,
        None => rules?.delivery_limit?.into(),
    };
    // Only the default is a surprise.
    (limit >= 0 && !arguments.contains_key("x-delivery-limit")).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(version: &str) -> Option<BrokerRules> {
        BrokerRules::of("RabbitMQ", version)
    }

    #[test]
    fn only_the_default_limit_of_quorum_queues_is_warned_of() {
        let quorum = || Table::new().with("x-queue-type", "quorum");
        let [old, new] = ["3.13.7", "4.0.5"].map(rules);
        assert_eq!(drops_after(&quorum(), new.as_ref()), Some(20));
        assert_eq!(drops_after(&quorum(), old.as_ref()), None);
        assert_eq!(drops_after(&Table::new(), new.as_ref()), None);
        assert_eq!(drops_after(&quorum().with("x-delivery-limit", 5), new.as_ref()), None);
        assert_eq!(drops_after(&quorum().with("x-dead-letter-exchange", ""), new.as_ref()), None);
    }
}
