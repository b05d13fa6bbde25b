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
    /// A channel has consumed from a queue with a tag that it has consumed from it with before.
    has_consumed_again: bool,
    /// The type of each queue that was declared last, and whether it has priorities.
    kinds: BTreeMap<String, (Option<AMQPValue>, bool)>,
    /// One was declared with another type, or with priorities where it had none.
    has_changed: bool,
    has_single_active: bool,
    limit: DeliveryLimit,
}

/// How far a sequence has come with the limit of deliveries of a queue.
#[derive(Clone, Copy, PartialEq)]
enum DeliveryLimit {
    None,
    Set,
    MayBeReached,
}

impl Excuses {
    pub(crate) fn new(line: Line) -> Self {
        Self {
            line,
            limited: BTreeSet::new(),
            consumers: BTreeSet::new(),
            has_consumed_again: false,
            kinds: BTreeMap::new(),
            has_changed: false,
            has_single_active: false,
            limit: DeliveryLimit::None,
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
                let kind = arguments.get("x-queue-type").cloned();
                let kind = (kind, arguments.contains_key("x-max-priority"));
                let before = self.kinds.insert(declare.queue.to_string(), kind.clone());
                self.has_changed |= before.is_some_and(|before| before != kind);
                if arguments.contains_key("x-delivery-limit") && self.limit == DeliveryLimit::None {
                    self.limit = DeliveryLimit::Set;
                }
            }
            _ if returns(operation).is_some() && self.limit == DeliveryLimit::Set => {
                self.limit = DeliveryLimit::MayBeReached;
            }
            AMQPClass::Basic(basic::AMQPMethod::Qos(qos)) if qos.global => {
                self.limited.insert(*at);
            }
            AMQPClass::Basic(basic::AMQPMethod::Consume(consume)) => {
                let consumer = (*at, consume.queue.to_string(), consume.consumer_tag.to_string());
                self.has_consumed_again |= !self.consumers.insert(consumer);
            }
            _ => {}
        }
    }

    /// Why the node may answer something else.
    pub(crate) fn of_answers(&self, operation: &Operation, node: &[Answer]) -> Option<Rule> {
        let fails =
            |answer: &Answer| matches!(&answer.said, Said::ConnectionClosed(text) if text.starts_with("541"));
        if self.line == Line::V3_10 && self.has_changed && node.iter().any(fails) {
            return Some(Rule::OtherQueue);
        }
        match returns(operation) {
            Some(at) if self.limited.contains(&at) => Some(Rule::SharedLimit),
            _ => self.of_states(operation),
        }
    }

    /// Why the node may have something else in its queues.
    pub(crate) fn of_states(&self, operation: &Operation) -> Option<Rule> {
        if self.has_consumed_again {
            return Some(Rule::TagAgain);
        }
        if self.line == Line::V3_10 && self.limit == DeliveryLimit::MayBeReached {
            return Some(Rule::LimitReached);
        }
        let Operation::Method(_, AMQPClass::Basic(method)) = operation else { return None };
        match method {
            basic::AMQPMethod::Cancel(_) if self.line == Line::V3_10 && self.has_single_active => {
                Some(Rule::ActiveCancelled)
            }
            _ if returns(operation).is_none() => None,
            _ if self.has_changed => Some(Rule::OtherQueue),
            _ => (self.line == Line::V4_0 && self.has_single_active).then_some(Rule::ActiveReturned),
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
