//! The steps that the utility channel sends, and how replies and refusals are assigned to them.
//!
//! Steps are sent one after the other without waiting for replies. The broker closes the utility channel
//! because of a step that it refuses. The channel is opened again then, and continues with the next step.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    error::{CloseReason, Error, Result},
    internal::TrialConsume,
    message::{
        BindExchange, BindQueue, DeclareExchange, DeclareQueue, Qos, QueueName,
        methods::{self, Method},
    },
    wire::{AMQPClass, ids},
};

#[derive(Clone, Debug)]
pub(super) enum RecoveryStep {
    Exchange(DeclareExchange),
    Queue {
        declare: DeclareQueue,
        name: QueueName,
    },
    BindQueue(BindQueue),
    BindExchange(BindExchange),
    /// Starts a consumer, to see whether the broker accepts it.
    TrialConsume(TrialConsume),
    /// Cancels it. Sent after the consumer has started, because RabbitMQ 3.10 closes the connection
    /// otherwise.
    TrialCancel(Arc<str>),
}

impl RecoveryStep {
    pub(super) fn of_queue(declare: &DeclareQueue, name: &QueueName) -> Self {
        Self::Queue { declare: declare.clone(), name: name.clone() }
    }

    fn methods(&self) -> Result<Vec<AMQPClass>> {
        Ok(match self {
            Self::Exchange(declare) => vec![declare.method()?],
            Self::Queue { declare, .. } => vec![declare.method()?],
            Self::BindQueue(bind) => vec![bind.method()?],
            Self::BindExchange(bind) => vec![bind.method()?],
            Self::TrialConsume(trial) => {
                // Its deliveries are requeued when the channel closes: at most one, and none without ack.
                let shared = trial.shared_prefetch.map(|count| Qos::new(count).global(true));
                let prefetch = std::iter::once(Qos::new(1)).chain(shared).map(|qos| qos.method());
                let mut methods: Vec<_> = prefetch.collect::<Result<_>>()?;
                let TrialConsume { tag, queue, exclusive, arguments, .. } = trial;
                methods.push(methods::basic_consume(queue, tag, false, *exclusive, arguments)?);
                methods
            }
            Self::TrialCancel(tag) => vec![methods::basic_cancel(tag)?],
        })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Exchange(declare) => declare.name.clone(),
            Self::Queue { name, .. } => name.as_str().to_owned(),
            Self::BindQueue(bind) => format!("{} -> {} ({})", bind.exchange, bind.queue, bind.routing_key),
            Self::BindExchange(bind) => {
                format!("{} -> {} ({})", bind.source, bind.destination, bind.routing_key)
            }
            Self::TrialConsume(trial) => trial.tag.to_string(),
            Self::TrialCancel(tag) => tag.to_string(),
        }
    }

    fn is_of_consumer(&self) -> bool {
        matches!(self, Self::TrialConsume(_) | Self::TrialCancel(_))
    }

    pub(super) fn method_name(&self) -> &'static str {
        match self {
            Self::Exchange(_) => "exchange.declare",
            Self::Queue { .. } => "queue.declare",
            Self::BindQueue(_) => "queue.bind",
            Self::BindExchange(_) => "exchange.bind",
            Self::TrialConsume(_) => "basic.consume",
            Self::TrialCancel(_) => "basic.cancel",
        }
    }
}

/// The result of a step; for a queue, the name that the broker returned.
pub(super) type StepResult = Result<Option<String>>;

/// Assigns replies to steps. No actix and no clock: it is fed with what the channel reads.
#[derive(Debug)]
pub(super) struct RecoverySteps {
    steps: Vec<RecoveryStep>,
    results: Vec<StepResult>,
    /// The steps and the replies that they expect, in the order in which they were sent.
    expected: VecDeque<(usize, (u16, u16))>,
}

impl RecoverySteps {
    pub(super) fn new(steps: Vec<RecoveryStep>) -> Self {
        Self { steps, results: Vec::new(), expected: VecDeque::new() }
    }

    /// Sends steps that have no result yet, as many as may be sent now. A step that cannot be encoded fails
    /// here.
    pub(super) fn send_pending(&mut self, mut send: impl FnMut(&AMQPClass) -> Result<()>) {
        self.expected.clear();
        let first = self.results.len();
        for at in first..self.steps.len() {
            let Some(step) = self.steps.get(at) else { break };
            // Replies to other methods may overtake those to a consumer's.
            let behind_consumer =
                at > first && self.steps.get(at - 1).is_some_and(RecoveryStep::is_of_consumer);
            if !self.expected.is_empty() && (matches!(step, RecoveryStep::TrialCancel(_)) || behind_consumer)
            {
                break;
            }
            let sent = step.methods().and_then(|methods| {
                for method in &methods {
                    send(method)?;
                    let (class_id, method_id) = ids(method);
                    self.expected.push_back((at, (class_id, method_id + 1)));
                }
                Ok(())
            });
            if let Err(error) = sent {
                if self.expected.is_empty() {
                    self.results.push(Err(error));
                    continue;
                }
                // The rest is sent after the replies to these.
                break;
            }
        }
    }

    /// Returns whether every step that was sent has its reply.
    pub(super) fn is_answered(&self) -> bool {
        self.expected.is_empty()
    }

    pub(super) fn is_done(&self) -> bool {
        self.results.len() == self.steps.len()
    }

    /// Takes a reply, by its class and method id. Returns `false` for one that no step expects.
    pub(super) fn replied(&mut self, reply: (u16, u16), name: Option<String>) -> bool {
        if self.expected.front().is_none_or(|(_, expected)| *expected != reply) {
            return false;
        }
        if let Some((at, _)) = self.expected.pop_front()
            && self.expected.front().is_none_or(|(next, _)| *next != at)
        {
            self.results.push(Ok(name));
        }
        true
    }

    /// The broker has closed the channel because of the first step without a result.
    pub(super) fn refused(&mut self, reason: CloseReason) {
        if let Some(step) = self.steps.get(self.results.len()) {
            self.results.push(Err(Error::refused(step.method_name(), reason).on(step.name())));
        }
        self.expected.clear();
    }

    pub(super) fn take_results(&mut self) -> Vec<StepResult> {
        std::mem::take(&mut self.results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Table;

    const DECLARE_OK: (u16, u16) = (50, 11);
    const QOS_OK: (u16, u16) = (60, 11);
    const CONSUME_OK: (u16, u16) = (60, 21);
    const CANCEL_OK: (u16, u16) = (60, 31);

    fn queue(name: &str) -> RecoveryStep {
        RecoveryStep::of_queue(&DeclareQueue::new(name), &QueueName::new(name))
    }

    fn trial(tag: &str) -> [RecoveryStep; 2] {
        let trial = TrialConsume {
            tag: tag.into(),
            queue: "jobs".into(),
            exclusive: false,
            arguments: Table::new(),
            shared_prefetch: None,
        };
        [RecoveryStep::TrialConsume(trial), RecoveryStep::TrialCancel(tag.into())]
    }

    fn send(steps: &mut RecoverySteps) -> usize {
        let mut sent = 0;
        steps.send_pending(|_| {
            sent += 1;
            Ok(())
        });
        sent
    }

    #[test]
    fn replies_are_assigned_in_the_order_of_the_steps() {
        let mut steps = RecoverySteps::new(vec![queue("a"), queue("b")]);
        assert_eq!(send(&mut steps), 2);
        assert!(!steps.replied(QOS_OK, None), "no step expects it");
        assert!(steps.replied(DECLARE_OK, Some("a".into())));
        assert!(!steps.is_answered() && !steps.is_done());
        assert!(steps.replied(DECLARE_OK, Some("b".into())));
        assert!(steps.is_answered() && steps.is_done());
        let names: Vec<_> = steps.take_results().into_iter().map(|result| result.unwrap()).collect();
        assert_eq!(names, [Some("a".into()), Some("b".into())]);
    }

    #[test]
    fn a_refusal_is_of_the_first_step_without_a_result_and_the_rest_is_sent_again() {
        let mut steps = RecoverySteps::new(vec![queue("a"), queue("b"), queue("c")]);
        send(&mut steps);
        assert!(steps.replied(DECLARE_OK, None));
        steps.refused(CloseReason::new(406, "PRECONDITION_FAILED", 50, 10));
        assert!(steps.is_answered() && !steps.is_done());
        assert_eq!(send(&mut steps), 1);
        assert!(steps.replied(DECLARE_OK, None));
        let results = steps.take_results();
        assert_eq!(results[1].as_ref().unwrap_err().entity(), Some("b"));
        assert!(results[0].is_ok() && results[2].is_ok());
    }

    #[test]
    fn a_cancel_is_sent_after_the_consumer_has_started_and_the_rest_after_the_cancel() {
        let [consume, cancel] = trial("tag");
        let mut steps = RecoverySteps::new(vec![queue("a"), consume, cancel, queue("a")]);
        assert_eq!(send(&mut steps), 3, "declare, qos, consume");
        assert!([DECLARE_OK, QOS_OK, CONSUME_OK].iter().all(|reply| steps.replied(*reply, None)));
        assert_eq!(send(&mut steps), 1, "cancel");
        assert!(steps.replied(CANCEL_OK, None));
        assert_eq!(send(&mut steps), 1, "declare");
        assert!(steps.replied(DECLARE_OK, None) && steps.is_done());
    }

    #[test]
    fn a_step_that_cannot_be_encoded_fails_without_the_broker() {
        let mut steps = RecoverySteps::new(vec![queue(&"x".repeat(256)), queue("a")]);
        assert_eq!(send(&mut steps), 1);
        assert!(steps.replied(DECLARE_OK, None));
        let results = steps.take_results();
        assert!(results[0].is_err() && results[1].is_ok());
    }
}
