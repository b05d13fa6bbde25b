//! What broker.md says of queues, one test for each fact.

mod classic;
mod model;
mod quorum;
mod roster;
mod stream;

use std::{sync::Arc, time::Duration};

use actix_pika_actors::{DeliveryMode, Properties, wire::property_codec::put_properties};
use bytes::BytesMut;

use super::*;
use crate::core::Line;

pub(super) const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];

pub(super) fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// A message with a body, and the properties that `set` sets.
pub(super) fn message_with(body: &str, set: impl FnOnce(Properties) -> Properties) -> Arc<Message> {
    let mut encoded = BytesMut::new();
    put_properties(&mut encoded, &set(Properties::new()));
    let body = body.to_owned().into_bytes().into();
    Arc::new(Message::new("".into(), "q".into(), encoded.freeze(), body).unwrap())
}

pub(super) fn message(body: &str) -> Arc<Message> {
    message_with(body, |properties| properties)
}

pub(super) fn expiring(body: &str, millis: u64) -> Arc<Message> {
    message_with(body, |properties| properties.with_expiration(Duration::from_millis(millis)))
}

pub(super) fn persistent(body: &str) -> Arc<Message> {
    message_with(body, |properties| properties.with_delivery_mode(DeliveryMode::Persistent))
}

pub(super) fn settings(line: Line, kind: QueueKind) -> QueueSettings {
    QueueSettings {
        line,
        kind,
        message_ttl: None,
        max_length: None,
        max_bytes: None,
        overflow: Overflow::DropHead,
        single_active: false,
        consumer_timeout: None,
        delayed_retry: None,
        at_least_once: false,
    }
}

/// A queue with a clock, whose dead letters are kept.
pub(super) struct Rig {
    pub(super) queue: Queue,
    pub(super) now: Time,
    dead: Vec<Dead>,
}

impl Rig {
    pub(super) fn new(settings: QueueSettings) -> Self {
        Self { queue: Queue::new(settings), now: at(0), dead: Vec::new() }
    }

    pub(super) fn classic(change: impl FnOnce(&mut QueueSettings)) -> Self {
        let mut settings = settings(Line::V4_0, QueueKind::Classic { max_priority: None });
        change(&mut settings);
        Self::new(settings)
    }

    pub(super) fn quorum(line: Line, delivery_limit: Option<u32>) -> Self {
        Self::new(settings(line, QueueKind::Quorum { delivery_limit }))
    }

    pub(super) fn push(&mut self, message: Arc<Message>) -> Pushed {
        self.queue.push(self.now, message, &mut self.dead)
    }

    /// Publishes messages whose bodies are the words of `bodies`.
    pub(super) fn publish(&mut self, bodies: &str) {
        for body in bodies.split_whitespace() {
            assert_eq!(self.push(message(body)), Pushed::Kept);
        }
    }

    pub(super) fn publish_priorities(&mut self, priorities: &[Option<u8>]) {
        for priority in priorities {
            let body = priority.map_or("none".to_owned(), |priority| priority.to_string());
            self.push(message_with(&body, |properties| match priority {
                Some(priority) => properties.with_priority(*priority),
                None => properties,
            }));
        }
    }

    pub(super) fn take(&mut self) -> Stored {
        self.queue.take(self.now, &mut self.dead).expect("a ready message")
    }

    pub(super) fn take_many(&mut self, count: usize) -> Vec<Stored> {
        (0..count).map(|_| self.take()).collect()
    }

    pub(super) fn requeue(&mut self, returned: Vec<Stored>, why: Return) {
        self.queue.requeue(self.now, returned, why, &mut self.dead);
        // There is no consumer that waits.
        self.queue.end_round(self.now, &mut self.dead);
    }

    /// Takes and settles everything, and returns the bodies.
    pub(super) fn drain(&mut self) -> String {
        let mut bodies = Vec::new();
        while let Some(stored) = self.queue.take(self.now, &mut self.dead) {
            self.queue.settle(&stored);
            bodies.push(body(&stored));
        }
        bodies.join(" ")
    }

    /// The bodies of the ready messages.
    pub(super) fn ready(&self) -> String {
        self.queue.iter().map(body).collect::<Vec<_>>().join(" ")
    }

    /// Lets time pass, and expires what is due, as the clock of the broker does.
    pub(super) fn pass_time(&mut self, millis: u64) {
        self.now = self.now.after_millis(millis);
        self.queue.expire(self.now, &mut self.dead);
    }

    /// Returns what has died since the last call, as `body:reason`.
    pub(super) fn died(&mut self) -> String {
        let dead = std::mem::take(&mut self.dead);
        let told = dead.iter().map(|dead| format!("{}:{}", body(&dead.stored), dead.reason.as_str()));
        told.collect::<Vec<_>>().join(" ")
    }
}

pub(super) fn body(stored: &Stored) -> String {
    String::from_utf8_lossy(&stored.message.body).into_owned()
}
