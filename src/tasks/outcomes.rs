//! Outcomes that came too late to settle their delivery: the broker delivers the message again, and that copy gets the
//! outcome instead of a second run.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, Hasher, RandomState},
};

use crate::{message::Content, retry};

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
    outcomes: HashMap<u64, Outcome>,
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
    /// its place. A retry has another number, so that it always runs.
    pub(crate) fn identify(&self, content: &Content) -> Identity {
        let id = content.properties().ok().and_then(|properties| properties.message_id());
        let mut hasher = self.hasher.build_hasher();
        match id {
            Some(id) => id.hash(&mut hasher),
            None => (content.exchange(), content.routing_key()).hash(&mut hasher),
        }
        (content.queue(), content.body(), retry::attempts(content)).hash(&mut hasher);
        Identity { hash: hasher.finish(), has_id: id.is_some() }
    }

    /// Remembers an outcome, in place of the oldest one if there are too many.
    pub(crate) fn remember(&mut self, identity: Identity, outcome: Outcome) {
        if !identity.has_id || !outcome.is_final() || self.capacity == 0 {
            return;
        }
        if self.outcomes.insert(identity.hash, outcome).is_some() {
            return;
        }
        self.order.push_back(identity.hash);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
    }

    /// Returns the outcome of a message that was delivered before.
    pub(crate) fn recall(&self, identity: Identity) -> Option<Outcome> {
        self.outcomes.get(&identity.hash).copied()
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{Publishing, testing::TestContent};

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
        assert_eq!(recall(&content(message(), "q")), Some(Outcome::Ack));
        assert_eq!(recall(&content(message().header("x-delivery-count", 1), "q")), Some(Outcome::Ack));
        assert_eq!(recall(&content(message(), "r")), None);
        assert_eq!(recall(&content(Publishing::new("b").message_id("1"), "q")), None);
        assert_eq!(recall(&content(Publishing::new("a").message_id("2"), "q")), None);
        assert_eq!(recall(&content(message().header("retry-attempt", 1), "q")), None);
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
            [None, Some(Outcome::Reject), Some(Outcome::Reject)]
        );
        assert_eq!((outcomes.outcomes.len(), outcomes.order.len()), (2, 2));
    }
}
