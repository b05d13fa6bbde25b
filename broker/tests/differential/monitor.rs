//! What queues hold, asked after each operation: what a queue does without an answer shows there, and shows when it is done.

use std::collections::{BTreeMap, BTreeSet};

use amq_protocol::{
    protocol::{AMQPClass, basic, queue},
    types::{AMQPValue, FieldTable},
};

use super::{
    answer::Said,
    names::QUEUES,
    operation::{At, Operation},
    side::{MONITOR, SPARE, Side},
};

/// What is known of a queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    Missing,
    /// It is another connection's.
    Locked,
    /// Ready messages and consumers, as `declared q 2 1`.
    Counts(String),
    /// Messages that a stream has had. A node does not count them in time.
    Stream(u64),
    Unknown(String),
}

/// The queues of a sequence, by name.
#[derive(Default)]
pub(crate) struct Monitor {
    queues: BTreeMap<&'static str, Watched>,
}

struct Watched {
    /// The connection that may ask.
    owner: Option<char>,
    is_stream: bool,
    is_single_active: bool,
}

/// The queues as one side has them.
pub(crate) type States = BTreeMap<&'static str, State>;

impl Monitor {
    /// Takes note of an operation that may declare a queue.
    pub(crate) fn note(&mut self, operation: &Operation, text: &str) {
        let Operation::Method(at, AMQPClass::Queue(queue::AMQPMethod::Declare(declare))) = operation else {
            return;
        };
        let name = text.split(' ').nth(2).and_then(|name| QUEUES.into_iter().find(|known| *known == name));
        let Some(name) = name.filter(|_| !declare.passive) else { return };
        let has = |key, value| declare.arguments.inner().get(key) == Some(&value);
        let is_single_active = has("x-queue-type", AMQPValue::LongString("quorum".into()))
            && has("x-single-active-consumer", AMQPValue::Boolean(true));
        let is_stream = has("x-queue-type", AMQPValue::LongString("stream".into()));
        let owner = declare.exclusive.then_some(at.connection);
        self.queues.entry(name).or_insert(Watched { owner, is_stream, is_single_active });
    }

    /// The names of streams.
    pub(crate) fn streams(&self) -> Vec<&'static str> {
        self.queues.iter().filter(|(_, watched)| watched.is_stream).map(|(name, _)| *name).collect()
    }

    /// Whether all queues that differ are quorum queues with a single active consumer.
    pub(crate) fn are_single_active(&self, ours: &States, node: &States) -> bool {
        let mut differing = self.queues.iter().filter(|(name, _)| ours.get(*name) != node.get(*name));
        differing.all(|(_, watched)| watched.is_single_active)
    }

    /// Forgets queues that both sides do not have.
    pub(crate) fn settle(&mut self, states: &States) {
        self.queues.retain(|name, _| states.get(name) != Some(&State::Missing));
    }

    /// Asks a side. `watching` has the streams that it reads from there.
    pub(crate) async fn ask(&self, side: &mut Side, watching: &mut BTreeSet<&'static str>) -> States {
        let places: Vec<(&'static str, At)> =
            self.queues.iter().map(|(name, watched)| (*name, watched.place(name, side))).collect();
        let mut questions = Vec::new();
        for (name, at) in &places {
            if self.queues[name].is_stream && watching.insert(*name) {
                let name = side.names().full(name);
                side.ask(vec![(*at, qos())]).await;
                questions.push((*at, consume(&name)));
            }
        }
        side.ask(questions).await;
        let questions = places.iter().map(|(name, at)| (*at, passive(&side.names().full(name)))).collect();
        let answers = side.ask(questions).await;
        let mut states = States::new();
        for ((name, at), answer) in places.into_iter().zip(answers) {
            let state = match answer {
                Said::ChannelClosed(text) if text.starts_with("404") => State::Missing,
                Said::ChannelClosed(text) if text.starts_with("405") => State::Locked,
                Said::Reply(text) if text.starts_with("declared") && self.queues[name].is_stream => {
                    State::Stream(side.delivered(at))
                }
                Said::Reply(text) if text.starts_with("declared") => State::Counts(text),
                other => State::Unknown(format!("{other:?}")),
            };
            if state == State::Missing {
                watching.remove(name);
            }
            states.insert(name, state);
        }
        states
    }
}

impl Watched {
    fn place(&self, name: &str, side: &Side) -> At {
        let number = QUEUES.iter().position(|known| *known == name).unwrap_or_default() as u16;
        let connection = self.owner.filter(|owner| side.is_connected(*owner)).unwrap_or(MONITOR);
        At { connection, channel: SPARE + 1 + number }
    }
}

fn passive(name: &str) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: name.into(),
        passive: true,
        ..queue::Declare::default()
    }))
}

fn qos() -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos { prefetch_count: 10_000, global: false }))
}

fn consume(name: &str) -> AMQPClass {
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: name.into(),
        arguments,
        ..basic::Consume::default()
    }))
}
