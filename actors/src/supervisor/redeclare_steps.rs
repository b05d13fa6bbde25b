//! What is declared again, one step at a time, and how the answers and refusals are assigned to the steps.
//!
//! Steps are sent one behind the other without waiting. A refusal costs the scratch channel and the step, never the
//! others: the channel opens again and goes on behind it.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    error::{CloseReason, Error, Result},
    message::{
        BindExchange, BindQueue, DeclareExchange, DeclareQueue, EntityKind, QueueName, Skipped,
        internal::TrialConsume,
    },
    wire::{AMQPClass, basic, ids, short, to_field_table},
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
    /// Starts a consumer.
    TrialConsume(TrialConsume),
    /// Cancels it again; said when it has started, because RabbitMQ 3.10 would end the connection otherwise.
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
            Self::TrialConsume(probe) => {
                let consumer_tag = short("consumer tag", &probe.tag)?;
                // What it gets goes back when the channel closes, so it must not get much, and nothing for good.
                let qos = basic::Qos { prefetch_count: 1, global: false };
                let consume = basic::Consume {
                    queue: short("queue name", &probe.queue)?,
                    consumer_tag,
                    no_local: false,
                    no_ack: false,
                    exclusive: probe.exclusive,
                    nowait: false,
                    arguments: to_field_table(&probe.arguments)?,
                };
                vec![
                    AMQPClass::Basic(basic::AMQPMethod::Qos(qos)),
                    AMQPClass::Basic(basic::AMQPMethod::Consume(consume)),
                ]
            }
            Self::TrialCancel(tag) => {
                let cancel = basic::Cancel { consumer_tag: short("consumer tag", tag)?, nowait: false };
                vec![AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel))]
            }
        })
    }

    pub(super) fn kind(&self) -> EntityKind {
        match self {
            Self::Exchange(_) => EntityKind::Exchange,
            Self::Queue { .. } => EntityKind::Queue,
            Self::BindQueue(_) | Self::BindExchange(_) => EntityKind::Binding,
            Self::TrialConsume(_) | Self::TrialCancel(_) => EntityKind::Consumer,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Exchange(declare) => declare.name.clone(),
            Self::Queue { name, .. } => name.as_str().to_owned(),
            Self::BindQueue(bind) => format!("{} -> {} ({})", bind.exchange, bind.queue, bind.routing_key),
            Self::BindExchange(bind) => {
                format!("{} -> {} ({})", bind.source, bind.destination, bind.routing_key)
            }
            Self::TrialConsume(probe) => probe.tag.to_string(),
            Self::TrialCancel(tag) => tag.to_string(),
        }
    }

    fn is_of_consumer(&self) -> bool {
        matches!(self, Self::TrialConsume(_) | Self::TrialCancel(_))
    }

    fn what(&self) -> &'static str {
        match self {
            Self::Exchange(_) => "exchange.declare",
            Self::Queue { .. } => "queue.declare",
            Self::BindQueue(_) => "queue.bind",
            Self::BindExchange(_) => "exchange.bind",
            Self::TrialConsume(_) => "basic.consume",
            Self::TrialCancel(_) => "basic.cancel",
        }
    }

    pub(super) fn skipped(&self, error: Error) -> Skipped {
        Skipped { kind: self.kind(), name: self.name(), error }
    }
}

/// What came of a step: for a queue, its name.
pub(super) type StepResult = Result<Option<String>>;

/// Assigns answers to steps.
#[derive(Debug)]
pub(super) struct RecoverySteps {
    steps: Vec<RecoveryStep>,
    outcomes: Vec<StepResult>,
    /// Which step expects which answer next.
    expected: VecDeque<(usize, (u16, u16))>,
}

impl RecoverySteps {
    pub(super) fn new(steps: Vec<RecoveryStep>) -> Self {
        Self { steps, outcomes: Vec::new(), expected: VecDeque::new() }
    }

    /// What is to be said of all steps that have no outcome yet. A step that cannot be said is refused here.
    pub(super) fn say(&mut self, mut send: impl FnMut(&AMQPClass) -> Result<()>) {
        self.expected.clear();
        let first = self.outcomes.len();
        for at in first..self.steps.len() {
            let Some(step) = self.steps.get(at) else { break };
            // Other answers may overtake those to a consumer's methods.
            let behind_consumer =
                at > first && self.steps.get(at - 1).is_some_and(RecoveryStep::is_of_consumer);
            if !self.expected.is_empty() && (matches!(step, RecoveryStep::TrialCancel(_)) || behind_consumer)
            {
                break;
            }
            let said = step.methods().and_then(|methods| {
                for method in &methods {
                    send(method)?;
                    let (class_id, method_id) = ids(method);
                    self.expected.push_back((at, (class_id, method_id + 1)));
                }
                Ok(())
            });
            if let Err(error) = said {
                if self.expected.is_empty() {
                    self.outcomes.push(Err(error));
                    continue;
                }
                // The rest is said when the answers to this much are there.
                break;
            }
        }
    }

    /// Tells whether everything that was said is answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.expected.is_empty()
    }

    pub(super) fn is_done(&self) -> bool {
        self.outcomes.len() == self.steps.len()
    }

    /// Takes in an answer; `false` for one that nobody expects.
    pub(super) fn answered(&mut self, answer: (u16, u16), name: Option<String>) -> bool {
        if self.expected.front().is_none_or(|(_, expected)| *expected != answer) {
            return false;
        }
        if let Some((at, _)) = self.expected.pop_front()
            && self.expected.front().is_none_or(|(next, _)| *next != at)
        {
            self.outcomes.push(Ok(name));
        }
        true
    }

    /// The broker has closed the channel: because of the step that is next.
    pub(super) fn refused(&mut self, reason: CloseReason) {
        if let Some(step) = self.steps.get(self.outcomes.len()) {
            self.outcomes.push(Err(Error::refused(step.what(), reason).on(step.name())));
        }
        self.expected.clear();
    }

    pub(super) fn outcomes(&mut self) -> Vec<StepResult> {
        std::mem::take(&mut self.outcomes)
    }
}
