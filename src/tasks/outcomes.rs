//! Outcomes that came too late to settle their delivery: the broker delivers the message again, and that copy gets the
//! outcome instead of a second run.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::Arc,
};

use super::verdict::Next;
use crate::{
    message::{Content, Properties, Value},
    retry,
};

/// What a late handler has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// `basic.ack`
    Ack,
    /// `basic.reject`, without requeueing
    Reject,
    /// `basic.reject`, with requeueing; later, if the message has failed before. Not remembered.
    Requeue,
    /// `basic.reject`, with requeueing, after a pause. Not remembered.
    Return,
}

impl Outcome {
    /// Returns whether the message leaves its queue.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Ack | Self::Reject)
    }
}

/// What is remembered of a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Late {
    /// Its copy gets this outcome.
    Outcome(Outcome),
    /// Its task has failed, with this cause. Its copy goes to the ladder.
    Failed(Next, Arc<str>),
}

/// By what a copy of a message is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    hash: u64,
    /// Without a message id, two messages may be equal and not the same.
    has_id: bool,
}

/// The last outcomes that came too late.
#[derive(Debug)]
pub(crate) struct Outcomes {
    hasher: RandomState,
    capacity: usize,
    outcomes: HashMap<u64, Late>,
    /// Their hashes, the oldest first.
    order: VecDeque<u64>,
}

impl Outcomes {
    pub(crate) fn new(capacity: usize) -> Self {
        let (outcomes, order) = (HashMap::new(), VecDeque::new());
        Self { hasher: RandomState::new(), capacity, outcomes, order }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Identifies a message by its id, queue, body and number of attempts; without an id, by exchange and routing key in
    /// its place. A retry has another number, and a dead letter that returns a count of that, so that they
    /// always run.
    pub(crate) fn identify(&self, content: &Content) -> Identity {
        let id = content.properties().ok().and_then(|properties| properties.message_id());
        let mut hasher = self.hasher.build_hasher();
        match id {
            Some(id) => id.hash(&mut hasher),
            None => (content.exchange(), content.routing_key()).hash(&mut hasher),
        }
        (
            content.queue(),
            content.body(),
            retry::attempts(content),
            retry::redriven_times(content),
            deaths(content),
        )
            .hash(&mut hasher);
        Identity { hash: hasher.finish(), has_id: id.is_some() }
    }

    /// Remembers an outcome, in place of the oldest one if there are too many.
    pub(crate) fn remember(&mut self, identity: Identity, outcome: Outcome) {
        if outcome.is_final() {
            self.insert(identity, Late::Outcome(outcome));
        }
    }

    /// Remembers that a task has failed.
    pub(crate) fn remember_failure(&mut self, identity: Identity, next: Next, cause: &str) {
        self.insert(identity, Late::Failed(next, retry::cut_cause(cause).into()));
    }

    fn insert(&mut self, identity: Identity, late: Late) {
        if !identity.has_id || self.capacity == 0 {
            return;
        }
        if self.outcomes.insert(identity.hash, late).is_some() {
            return;
        }
        self.order.push_back(identity.hash);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
    }

    /// Returns what is remembered of a message that was delivered before.
    pub(crate) fn recall(&self, identity: Identity) -> Option<Late> {
        self.outcomes.get(&identity.hash).cloned()
    }
}

/// Returns how often the broker has dead-lettered a message.
fn deaths(content: &Content) -> i64 {
    let headers = content.properties().ok().and_then(Properties::headers);
    let deaths = headers.and_then(|headers| headers.get("x-death")?.as_array()).unwrap_or_default();
    let count = |death: &Value| death.as_table()?.get("count")?.as_i64();
    deaths.iter().filter_map(count).fold(0, i64::saturating_add)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{Publishing, message::Table, testing::TestContent};

    fn content(message: Publishing, queue: &str) -> Content {
        TestContent::new(message).queue(queue).build()
    }

    #[test]
    fn a_copy_has_the_same_id_queue_body_and_attempt() {
        let mut outcomes = Outcomes::new(4);
        let message = || Publishing::new("a").message_id("1");
        let identity = outcomes.identify(&content(message(), "q"));
        outcomes.remember(identity, Outcome::Ack);
        let recall = |content: &Content| outcomes.recall(outcomes.identify(content));
        let acked = Some(Late::Outcome(Outcome::Ack));
        assert_eq!(recall(&content(message(), "q")), acked);
        assert_eq!(recall(&content(message().header("x-delivery-count", 1), "q")), acked);
        assert_eq!(recall(&content(message(), "r")), None);
        assert_eq!(recall(&content(Publishing::new("b").message_id("1"), "q")), None);
        assert_eq!(recall(&content(Publishing::new("a").message_id("2"), "q")), None);
        assert_eq!(recall(&content(message().header("retry-attempt", 1), "q")), None);
        assert_eq!(recall(&content(message().header("retry-redriven", 1), "q")), None);
        let death = Table::new().with("queue", "q").with("count", 1);
        assert_eq!(recall(&content(message().header("x-death", vec![Value::from(death)]), "q")), None);
        assert_eq!(recall(&content(message().header("x-death", "many"), "q")), acked);
    }

    #[test]
    fn the_last_that_is_known_of_a_message_counts() {
        let mut outcomes = Outcomes::new(1);
        let identity = outcomes.identify(&content(Publishing::new("a").message_id("1"), "q"));
        outcomes.remember_failure(identity, Next::Step(None), &"x".repeat(5_000));
        let failed = Late::Failed(Next::Step(None), "x".repeat(1_024).into());
        assert_eq!(outcomes.recall(identity), Some(failed.clone()));
        outcomes.remember(identity, Outcome::Requeue);
        assert_eq!(outcomes.recall(identity), Some(failed));
        outcomes.remember(identity, Outcome::Ack);
        assert_eq!(outcomes.recall(identity), Some(Late::Outcome(Outcome::Ack)));
        assert_eq!((outcomes.outcomes.len(), outcomes.order.len()), (1, 1));
    }

    #[test]
    fn nothing_is_remembered_of_messages_without_an_id() {
        let mut outcomes = Outcomes::new(4);
        let identity = outcomes.identify(&content(Publishing::new("a"), "q"));
        outcomes.remember(identity, Outcome::Ack);
        assert!(outcomes.is_empty());
    }

    #[test]
    fn the_oldest_of_too_many_outcomes_is_forgotten() {
        let mut outcomes = Outcomes::new(2);
        let identities: Vec<Identity> = ["1", "2", "3"]
            .map(|id| outcomes.identify(&content(Publishing::new("a").message_id(id), "q")))
            .to_vec();
        for identity in &identities {
            outcomes.remember(*identity, Outcome::Reject);
        }
        assert_eq!(
            identities.iter().map(|one| outcomes.recall(*one)).collect::<Vec<_>>(),
            [None, Some(Late::Outcome(Outcome::Reject)), Some(Late::Outcome(Outcome::Reject))]
        );
        assert_eq!((outcomes.outcomes.len(), outcomes.order.len()), (2, 2));
    }
}
