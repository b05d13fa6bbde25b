//! Faults and races of nodes that the broker does not have: what a difference may come from. The sequence ends there.

use std::collections::{BTreeMap, BTreeSet};

use actix_pika_broker::Line;
use amq_protocol::{
    protocol::{AMQPClass, basic, queue},
    types::AMQPValue,
};

use super::{
    answer::{Answer, Said},
    normal::Rule,
    operation::{At, Operation},
};

/// What a sequence has said so far that a node may stumble over.
pub(crate) struct Excuses {
    line: Line,
    /// Channels whose consumers share a limit.
    limited: BTreeSet<At>,
    /// Channels, queues and tags of consumers.
    consumers: BTreeSet<(At, String, String)>,
    /// Connections that have consumed with a tag and from a queue as before.
    again: BTreeSet<char>,
    /// The queues that were declared last with priorities, or without.
    has_priorities: BTreeMap<String, bool>,
    /// Those for which that has changed.
    changed: BTreeSet<String>,
    has_single_active: bool,
}

impl Excuses {
    pub(crate) fn new(line: Line) -> Self {
        Self {
            line,
            limited: BTreeSet::new(),
            consumers: BTreeSet::new(),
            again: BTreeSet::new(),
            has_priorities: BTreeMap::new(),
            changed: BTreeSet::new(),
            has_single_active: false,
        }
    }

    /// Takes note of an operation that is about to be said.
    pub(crate) fn note(&mut self, operation: &Operation) {
        let Operation::Method(at, method) = operation else { return };
        match method {
            AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) if !declare.passive => {
                let arguments = declare.arguments.inner();
                let single = arguments.get("x-single-active-consumer") == Some(&AMQPValue::Boolean(true));
                self.has_single_active |= single;
                let (name, now) = (declare.queue.to_string(), arguments.contains_key("x-max-priority"));
                if self.has_priorities.insert(name.clone(), now).is_some_and(|before| before != now) {
                    self.changed.insert(name);
                }
            }
            AMQPClass::Basic(basic::AMQPMethod::Qos(qos)) if qos.global => {
                self.limited.insert(*at);
            }
            AMQPClass::Basic(basic::AMQPMethod::Consume(consume)) => {
                let consumer = (*at, consume.queue.to_string(), consume.consumer_tag.to_string());
                if !self.consumers.insert(consumer) {
                    self.again.insert(at.connection);
                }
            }
            _ => {}
        }
    }

    /// Why the node may answer something else.
    pub(crate) fn of_answers(&self, operation: &Operation, node: &[Answer]) -> Option<Rule> {
        let fails = |answer: &Answer| {
            matches!(&answer.said, Said::ConnectionClosed(text) if text.starts_with("541"))
                && self.again.contains(&answer.at.connection)
        };
        if self.line == Line::V3_10 && node.iter().any(fails) {
            return Some(Rule::TagAgain);
        }
        match returns(operation) {
            Some(at) if self.limited.contains(&at) => Some(Rule::SharedLimit),
            _ => self.of_states(operation),
        }
    }

    /// Why the node may have something else in its queues.
    pub(crate) fn of_states(&self, operation: &Operation) -> Option<Rule> {
        let Operation::Method(_, AMQPClass::Basic(method)) = operation else { return None };
        match method {
            basic::AMQPMethod::Cancel(_) if self.line == Line::V3_10 && self.has_single_active => {
                Some(Rule::ActiveCancelled)
            }
            _ if !self.changed.is_empty() && returns(operation).is_some() => Some(Rule::OtherQueue),
            _ => None,
        }
    }
}

/// The channel whose deliveries come back.
fn returns(operation: &Operation) -> Option<At> {
    use basic::AMQPMethod as Method;
    let Operation::Method(at, AMQPClass::Basic(method)) = operation else { return None };
    matches!(
        method,
        Method::Nack(basic::Nack { requeue: true, .. })
            | Method::Reject(basic::Reject { requeue: true, .. })
            | Method::Recover(_)
            | Method::RecoverAsync(_)
    )
    .then_some(*at)
}
