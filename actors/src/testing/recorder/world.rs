//! What a recorder knows beside its channels: messages to deliver, answers to give, what was published and
//! called.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Weak,
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    publish::{Answer, Inner, RecordedPublish},
    shared::Shared,
};
use crate::{
    testing::{Settlement, TestContent, TestDelivery},
    wire::Properties,
};

pub(super) struct World {
    shared: Weak<Shared>,
    pub(super) answer: Answer,
    pub(super) next_answers: VecDeque<Answer>,
    pub(super) published: Vec<RecordedPublish>,
    pub(super) calls: Vec<String>,
    pub(super) queues: BTreeMap<String, VecDeque<Queued>>,
    names: u64,
    /// How often a channel was opened, on all connections.
    openings: u64,
}

/// A message that waits for a consumer.
pub(super) struct Queued {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) redelivered: bool,
    pub(super) properties: Properties,
    pub(super) body: Bytes,
    pub(super) settled: watch::Sender<Option<Settlement>>,
}

impl Queued {
    pub(super) fn new(delivery: TestDelivery, settled: watch::Sender<Option<Settlement>>) -> Self {
        let TestContent { message, exchange, routing_key, redelivered, .. } = delivery.content;
        let (properties, body) = (message.properties, message.body);
        Self { exchange, routing_key, redelivered, properties, body, settled }
    }
}

impl World {
    pub(super) fn new(shared: Weak<Shared>) -> Self {
        Self {
            shared,
            answer: Answer::Ack,
            next_answers: VecDeque::new(),
            published: Vec::new(),
            calls: Vec::new(),
            queues: BTreeMap::new(),
            names: 0,
            openings: 0,
        }
    }

    pub(super) fn next_answer(&mut self) -> Answer {
        self.next_answers.pop_front().unwrap_or_else(|| self.answer.clone())
    }

    pub(super) fn publish(&mut self, inner: Inner) {
        self.published.push(RecordedPublish::new(inner, self.shared.clone()));
    }

    /// Returns what no opening of a channel was before.
    pub(super) fn next_opening(&mut self) -> u64 {
        self.openings += 1;
        self.openings
    }

    /// Returns the name that a client has given, or a new one.
    pub(super) fn name(&mut self, given: &str, prefix: &str) -> String {
        if !given.is_empty() {
            return given.to_owned();
        }
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// Returns the number of messages that wait for a consumer of a queue.
    pub(super) fn waiting(&self, queue: &str) -> u32 {
        let waiting = self.queues.get(queue).map_or(0, VecDeque::len);
        u32::try_from(waiting).unwrap_or(u32::MAX)
    }
}
