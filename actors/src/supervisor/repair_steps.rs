//! The steps that repair one consumer: its queue is declared and bound as recorded, and a trial consumer is
//! started and cancelled again.

use super::{redeclare_steps::RecoveryStep, topology::Topology};
use crate::internal::TrialConsume;

/// What a repair does about a queue that the broker has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerNamed {
    /// Looks whether it still exists, with a passive declare.
    Check,
    /// Declares another one in its place.
    Replace,
}

pub(super) fn repair_steps(
    topology: &Topology,
    trial: &TrialConsume,
    server_named: ServerNamed,
) -> Vec<RecoveryStep> {
    let start_and_cancel =
        [RecoveryStep::TrialConsume(trial.clone()), RecoveryStep::TrialCancel(trial.tag.clone())];
    let Some((declare, name, bindings)) = topology.queue(&trial.queue) else {
        return start_and_cancel.into();
    };
    let mut declare = declare.clone();
    let is_server_named = declare.name.is_empty();
    let is_auto_delete = declare.auto_delete;
    if is_server_named && server_named == ServerNamed::Check {
        // Declared without a name, it would be another queue.
        name.as_str().clone_into(&mut declare.name);
        declare.passive = true;
        let mut steps = vec![RecoveryStep::of_queue(&declare, name)];
        if !is_auto_delete {
            steps.extend(start_and_cancel);
        }
        return steps;
    }
    let mut queue = vec![RecoveryStep::of_queue(&declare, name)];
    for mut step in bindings {
        if let RecoveryStep::BindQueue(bind) = &mut step
            && is_server_named
        {
            // Without a name, the binding is for the queue declared last.
            bind.queue.clear();
        }
        queue.push(step);
    }
    let mut steps = topology.sources_of(&trial.queue);
    if is_server_named {
        // No trial: a new queue has no other consumer that could be in the way.
        steps.extend(queue);
        return steps;
    }
    steps.extend(queue.iter().cloned());
    steps.extend(start_and_cancel);
    if is_auto_delete {
        // The broker may have deleted it with the trial consumer.
        steps.extend(queue);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        internal::{Change, Entity},
        message::{BindQueue, DeclareExchange, DeclareQueue, QueueName},
    };

    fn steps(declare: DeclareQueue, name: &str, server_named: ServerNamed) -> Vec<String> {
        let mut topology = Topology::default();
        for entity in [
            Entity::Exchange(DeclareExchange::fanout("events").auto_delete(true)),
            Entity::Queue { declare, name: QueueName::new(name) },
            Entity::QueueBinding(BindQueue::new(name, "events", "")),
        ] {
            topology.change(Change::Record(entity));
        }
        let trial = TrialConsume {
            tag: "tag".into(),
            queue: name.to_owned(),
            exclusive: false,
            arguments: Default::default(),
        };
        repair_steps(&topology, &trial, server_named).iter().map(describe).collect()
    }

    fn describe(step: &RecoveryStep) -> String {
        match step {
            RecoveryStep::Exchange(_) => "exchange".into(),
            RecoveryStep::Queue { declare, .. } if declare.passive => format!("check {}", declare.name),
            RecoveryStep::Queue { declare, .. } => format!("declare {:?}", declare.name),
            RecoveryStep::BindQueue(bind) => format!("bind {:?}", bind.queue),
            RecoveryStep::BindExchange(_) => "bind exchange".into(),
            RecoveryStep::TrialConsume(_) => "consume".into(),
            RecoveryStep::TrialCancel(_) => "cancel".into(),
        }
    }

    #[test]
    fn a_named_queue_is_declared_and_bound_before_the_trial() {
        let steps = steps(DeclareQueue::new("jobs"), "jobs", ServerNamed::Check);
        assert_eq!(steps, ["exchange", "declare \"jobs\"", "bind \"jobs\"", "consume", "cancel"]);
    }

    #[test]
    fn an_auto_delete_queue_is_declared_once_more_after_the_trial() {
        let steps = steps(DeclareQueue::new("jobs").auto_delete(true), "jobs", ServerNamed::Check);
        let twice = ["exchange", "declare \"jobs\"", "bind \"jobs\"", "consume", "cancel"];
        assert_eq!(steps, [&twice[..], &["declare \"jobs\"", "bind \"jobs\""]].concat());
    }

    #[test]
    fn a_server_named_queue_is_checked_and_only_then_replaced() {
        let named = || DeclareQueue::new("");
        assert_eq!(steps(named(), "amq.gen-1", ServerNamed::Check), ["check amq.gen-1", "consume", "cancel"]);
        assert_eq!(steps(named().auto_delete(true), "amq.gen-1", ServerNamed::Check), ["check amq.gen-1"]);
        let replaced = steps(named(), "amq.gen-1", ServerNamed::Replace);
        assert_eq!(replaced, ["exchange", "declare \"\"", "bind \"\""]);
    }

    #[test]
    fn a_queue_that_is_not_recorded_is_only_tried() {
        let trial = TrialConsume {
            tag: "tag".into(),
            queue: "other".into(),
            exclusive: false,
            arguments: Default::default(),
        };
        let steps = repair_steps(&Topology::default(), &trial, ServerNamed::Check);
        assert_eq!(steps.iter().map(describe).collect::<Vec<_>>(), ["consume", "cancel"]);
    }
}
