//! Consumers of a channel that recovers which have ended though the application did not give them up: their
//! actor has stopped, they were too slow, or their channel has ended. Nothing but the application can start them
//! again, so that they are missing until it gives them up.
//!
//! A plain machine.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::{ChannelMachine, consumers::ConsumerPhase};
use crate::{
    error::Error,
    internal::{EndedChannel, Entity, Removal, SupervisorMessage},
    message::{ConsumerEnd, TargetLost},
};

/// The most that are kept; after that the oldest is given up.
const MAX: usize = 1024;

#[derive(Clone, Debug)]
struct Lost {
    tag: Arc<str>,
    queue: String,
    error: Error,
}

#[derive(Debug, Default)]
pub(super) struct LostConsumers {
    missing: VecDeque<Lost>,
    /// Consumers whose first start has no reply yet, and why they will be missing.
    starting: Vec<(Arc<str>, Error)>,
    /// The channel ends, though the application has not closed it.
    with_channel: bool,
}

impl LostConsumers {
    /// Adds a consumer. Returns the tag of one that is given up for it.
    fn insert(&mut self, tag: Arc<str>, queue: String, error: Error) -> Option<Arc<str>> {
        self.remove(&tag);
        self.missing.push_back(Lost { tag, queue, error });
        (self.missing.len() > MAX).then(|| self.missing.pop_front()).flatten().map(|lost| lost.tag)
    }

    /// Takes why a consumer is missing that has started now.
    pub(super) fn started(&mut self, tag: &str) -> Option<Error> {
        let at = self.starting.iter().position(|(other, _)| &**other == tag)?;
        Some(self.starting.swap_remove(at).1)
    }

    /// Consumers that had not started have ended with their calls.
    pub(super) fn end_starting(&mut self) {
        self.starting.clear();
    }

    /// Removes a consumer; returns whether it was there.
    pub(super) fn remove(&mut self, tag: &str) -> bool {
        self.started(tag);
        let at = self.missing.iter().position(|lost| &*lost.tag == tag);
        at.is_some_and(|at| self.missing.remove(at).is_some())
    }

    pub(super) fn contains(&self, tag: &str) -> bool {
        self.missing.iter().any(|lost| &*lost.tag == tag)
    }
}

impl ChannelMachine {
    /// The target of a consumer is gone.
    pub(super) fn target_lost(&mut self, lost: TargetLost, now: Instant) {
        if let Some(error) = lost.why.error() {
            self.consumer_is_missing(lost.consumer, error);
        }
        self.cancel_because(lost.consumer, ConsumerEnd::TargetGone, now);
    }

    /// A consumer keeps the connection from reading.
    pub(super) fn cancel_slow_consumer(&mut self, consumer: u32, now: Instant) {
        let error = Error::limit("its waiting deliveries kept the connection from reading for too long");
        self.consumer_is_missing(consumer, error);
        self.cancel_because(consumer, ConsumerEnd::TooSlow, now);
    }

    /// A consumer is about to end, though the application wants it.
    pub(super) fn consumer_is_missing(&mut self, consumer: u32, error: Error) {
        let Some(entry) = self.consumers.by_id(consumer) else { return };
        if !entry.subscription.recovers || entry.phase.is_cancelling() {
            return;
        }
        let (tag, queue) = (entry.tag().clone(), entry.subscription.queue.clone());
        let error = error.on(&*tag);
        match entry.phase {
            // The broker may refuse it, or the caller give up.
            ConsumerPhase::Starting => self.lost.starting.push((tag, error)),
            _ => self.mark_missing(tag, queue, error),
        }
    }

    /// A consumer has started that had lost its target before.
    pub(super) fn started_without_target(&mut self, tag: &Arc<str>, queue: String) {
        if let Some(error) = self.lost.started(tag) {
            let channel = self.number();
            self.record(Entity::Consumer { channel, tag: tag.clone(), queue: queue.clone() });
            self.mark_missing(tag.clone(), queue, error);
        }
    }

    fn mark_missing(&mut self, tag: Arc<str>, queue: String, error: Error) {
        let channel = self.number();
        if let Some(oldest) = self.lost.insert(tag.clone(), queue, error.clone()) {
            self.forget_missing(oldest);
        }
        self.report(SupervisorMessage::ConsumerMissing { channel, tag, error });
    }

    /// The application cancels a consumer. Returns whether it was missing.
    pub(super) fn give_up_lost(&mut self, tag: &str) -> bool {
        let was_lost = self.lost.remove(tag);
        if was_lost && self.state.is_closed() {
            let tag = Some(Arc::from(tag));
            self.report(SupervisorMessage::EndedChannelGivenUp { id: self.id, tag });
        } else if was_lost {
            self.forget_missing(Arc::from(tag));
        }
        was_lost
    }

    fn forget_missing(&mut self, tag: Arc<str>) {
        let channel = self.number();
        self.report(SupervisorMessage::ConsumerGivenUp { channel, tag: tag.clone() });
        self.forget(Removal::LostConsumer { channel, tag });
    }

    /// A new consumer has started in place of a missing one with its tag.
    pub(super) fn consumer_replaced(&mut self, tag: &Arc<str>) {
        if self.lost.remove(tag) {
            let channel = self.number();
            self.report(SupervisorMessage::ConsumerGivenUp { channel, tag: tag.clone() });
        }
    }

    /// The channel has recovered; the supervisor may have forgotten what is missing for good.
    pub(super) fn report_missing_consumers(&mut self) {
        let channel = self.number();
        for Lost { tag, error, .. } in self.lost.missing.clone() {
            self.report(SupervisorMessage::ConsumerMissing { channel, tag, error });
        }
    }

    /// The channel is about to end, though the application has not closed it: its consumers stay wanted.
    pub(super) fn lose_consumers(&mut self, error: &Error) {
        self.lost.with_channel = true;
        for (tag, queue) in self.consumers.wanted() {
            let error = error.clone().on(&*tag);
            if let Some(oldest) = self.lost.insert(tag, queue, error) {
                self.forget_missing(oldest);
            }
        }
    }

    /// The channel has ended. Its consumers are missing, or given up if the application closes it. A later channel may
    /// have its number, so that those that are missing are reported by its id.
    pub(super) fn end_lost_consumers(&mut self, error: &Error, is_asked: bool) {
        if is_asked || !self.lost.with_channel {
            return self.give_up_all_consumers();
        }
        let lost = &self.lost.missing;
        let consumers: Vec<_> =
            lost.iter().map(|lost| (lost.tag.clone(), lost.queue.clone(), lost.error.clone())).collect();
        if !consumers.is_empty() {
            let (id, channel, error) = (self.id, self.number(), error.clone());
            let ended = EndedChannel { id, channel, error, consumers };
            self.report(SupervisorMessage::ConsumersEnded(ended));
        }
    }

    /// The application closes a channel that has ended, or drops its last handle.
    pub(super) fn give_up_ended(&mut self) {
        if self.state.is_closed() && !std::mem::take(&mut self.lost.missing).is_empty() {
            self.report(SupervisorMessage::EndedChannelGivenUp { id: self.id, tag: None });
        }
    }

    fn give_up_all_consumers(&mut self) {
        let channel = self.number();
        for Lost { tag, .. } in std::mem::take(&mut self.lost.missing) {
            self.report(SupervisorMessage::ConsumerGivenUp { channel, tag });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> Error {
        Error::stopped("test")
    }

    #[test]
    fn a_consumer_is_lost_once_until_it_is_removed() {
        let mut lost = LostConsumers::default();
        assert!(lost.insert("one".into(), String::new(), error()).is_none());
        assert!(lost.insert("one".into(), String::new(), error()).is_none());
        assert!(lost.contains("one") && lost.remove("one"));
        assert!(!lost.contains("one") && !lost.remove("one"));
    }

    #[test]
    fn the_oldest_of_too_many_is_given_up() {
        let mut lost = LostConsumers::default();
        for n in 0..MAX {
            assert!(lost.insert(n.to_string().into(), String::new(), error()).is_none());
        }
        assert_eq!(lost.insert("one more".into(), String::new(), error()).as_deref(), Some("0"));
        assert!(lost.contains("1") && lost.contains("one more"));
    }
}
