//! Which of the steps that have no reply made the broker close the connection.

use super::redeclare_steps::RecoveryStep;
use crate::error::CloseReason;

/// Returns the place of the step for which the broker closed the connection with a code of 500 or above.
///
/// Among the steps without a reply (those from `answered` on) it is one of the method in the close reason:
/// the one whose exchange or queue the text names, or else the first, as the broker works in order. A close
/// without a method, as for a crashed channel, is assigned to any step. `None` where another method has
/// failed, as a publish.
pub(super) fn fatal_step(steps: &[RecoveryStep], answered: usize, reason: &CloseReason) -> Option<usize> {
    if reason.code < 500 {
        return None;
    }
    let of_method = |step: &RecoveryStep| reason.method.is_empty() || step.sends(reason.method);
    let mut open = steps.iter().enumerate().skip(answered).filter(|(_, step)| of_method(step));
    let named = open.clone().find(|(_, step)| step.concerns().iter().any(|name| reason.text.contains(name)));
    named.or_else(|| open.next()).map(|(at, _)| at)
}

impl RecoveryStep {
    fn sends(&self, method: &str) -> bool {
        self.method_name() == method || (matches!(self, Self::TrialConsume(_)) && method == "basic.qos")
    }

    /// Returns what it concerns, as RabbitMQ's texts have it.
    fn concerns(&self) -> Vec<String> {
        let exchange = |name: &str| format!("exchange '{name}' in vhost '");
        let queue = |name: &str| format!("queue '{name}' in vhost '");
        match self {
            Self::Exchange(declare) => vec![exchange(&declare.name)],
            Self::Queue { name, .. } => vec![queue(name.as_str())],
            Self::BindQueue(bind) => vec![queue(&bind.queue), exchange(&bind.exchange)],
            Self::BindExchange(bind) => vec![exchange(&bind.destination), exchange(&bind.source)],
            Self::TrialConsume(trial) => vec![queue(&trial.queue)],
            Self::TrialCancel(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        internal::TrialConsume,
        message::{BindQueue, DeclareExchange, DeclareQueue, QueueName},
        wire::Table,
    };

    const EXCHANGE_DECLARE: (u16, u16) = (40, 10);
    const QUEUE_DECLARE: (u16, u16) = (50, 10);
    const QUEUE_BIND: (u16, u16) = (50, 20);
    const PUBLISH: (u16, u16) = (60, 40);
    const CONSUME: (u16, u16) = (60, 20);
    const NONE: (u16, u16) = (0, 0);
    const BARE: &str = "INTERNAL_ERROR";

    fn steps() -> Vec<RecoveryStep> {
        let queue = |name: &str| RecoveryStep::of_queue(&DeclareQueue::new(name), &QueueName::new(name));
        let trial = TrialConsume {
            tag: "tag".into(),
            queue: "b".into(),
            exclusive: false,
            arguments: Table::new(),
            shared_prefetch: None,
        };
        vec![
            RecoveryStep::Exchange(DeclareExchange::fanout("e")),
            queue("a"),
            queue("b"),
            RecoveryStep::BindQueue(BindQueue::new("b", "e", "")),
            RecoveryStep::TrialConsume(trial),
            RecoveryStep::TrialCancel("tag".into()),
        ]
    }

    #[test]
    fn the_step_is_found_by_method_then_by_name_then_by_order() {
        let named =
            "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated: queue 'b' in vhost '/'";
        let expected = [
            (0, 541, QUEUE_DECLARE, BARE, Some(1)),
            (2, 541, QUEUE_DECLARE, BARE, Some(2)),
            (0, 541, QUEUE_DECLARE, named, Some(2)),
            (3, 541, QUEUE_DECLARE, named, None),
            (0, 541, EXCHANGE_DECLARE, BARE, Some(0)),
            (0, 503, EXCHANGE_DECLARE, "COMMAND_INVALID - unknown exchange type 'x'", Some(0)),
            (0, 541, QUEUE_BIND, "exchange 'e' in vhost '/'", Some(3)),
            (0, 540, CONSUME, named, Some(4)),
            (0, 541, NONE, BARE, Some(0)),
            (3, 541, NONE, BARE, Some(3)),
            (0, 541, NONE, named, Some(2)),
            (5, 541, NONE, BARE, Some(5)),
            (6, 541, NONE, BARE, None),
            (0, 541, PUBLISH, BARE, None),
            (0, 530, (20, 10), "NOT_ALLOWED - number of channels opened has reached the limit", None),
            (0, 320, NONE, "CONNECTION_FORCED", None),
            (0, 404, QUEUE_DECLARE, named, None),
        ];
        let steps = steps();
        for (answered, code, (class_id, method_id), text, step) in expected {
            let reason = CloseReason::new(code, text, class_id, method_id);
            assert_eq!(fatal_step(&steps, answered, &reason), step, "{reason} after {answered}");
        }
    }

    #[test]
    fn a_text_that_names_nothing_known_does_not_hide_the_step() {
        let dead_letters = CloseReason::new(541, "INTERNAL_ERROR - exchange 'dead' in vhost '/'", 50, 10);
        assert_eq!(fatal_step(&steps(), 0, &dead_letters), Some(1));
    }
}
