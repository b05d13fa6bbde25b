//! Where a channel sends the deliveries of a consumer: a Consumer actor or a stream.

use std::{fmt, sync::Arc};

use actix::{Message, Recipient};

use super::{ConsumerEnd, Delivery};
use crate::error::Error;

/// Receives the deliveries of one consumer.
pub(crate) trait DeliverySink: Send + Sync + fmt::Debug {
    /// Connects the sink to its consumer. Called before any other method.
    fn bind(&self, registration: SinkRegistration);
    /// Takes the consumer's deliveries of one frame batch.
    fn batch(&self, deliveries: Vec<Delivery>);
    /// Called when a delivery is settled or dropped: the target may get another one.
    fn ended(&self);
    /// Hands back the deliveries that the target has not begun. Later ones go to the target.
    fn take_back(&self);
    /// Discards the deliveries that the target did not get yet. The broker delivers them again.
    fn discard(&self);
    /// The channel epoch has ended: the connection is lost, or the channel opens again.
    fn epoch_ended(&self) {}
    /// Stops or resumes passing deliveries to the target.
    fn pause(&self, paused: bool);
    /// Called while the consumer is being cancelled; what is handed back returns to the queue only after
    /// that.
    fn leave(&self, leave: Leave);
    /// Returns whether a target is there for the deliveries.
    fn has_target(&self) -> bool;
    /// Ends the sink: no more deliveries follow.
    fn end(&self, end: ConsumerEnd);
}

/// What becomes of the deliveries that the target has not begun when the consumer is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// They are handed back. A stream still yields those that are queued.
    HandBack,
    /// They are handed back, and a stream gets none any more: they may keep the connection from reading
    /// `basic.cancel-ok`, or their target is too slow.
    AtOnce,
    /// They still go to the target.
    Process,
}

/// Connects a sink to its consumer.
#[derive(Debug)]
pub(crate) struct SinkRegistration {
    pub(crate) consumer: u32,
    pub(crate) tag: Arc<str>,
    /// How many deliveries the application may hold, if the broker does not limit them.
    pub(crate) permits: Option<usize>,
    pub(crate) lost: Recipient<TargetLost>,
}

/// The target of this consumer is gone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TargetLost {
    pub(crate) consumer: u32,
    pub(crate) why: TargetEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetEnd {
    /// The application dropped the stream.
    StreamDropped,
    /// The actor has stopped or panicked.
    ActorStopped,
    /// The Consumer actor has ended: with its arbiter, or because a factory of workers has panicked.
    ConsumerStopped,
}

impl TargetEnd {
    /// Returns why the consumer is missing; `None` if the application has given it up.
    pub(crate) fn error(self) -> Option<Error> {
        match self {
            Self::StreamDropped => None,
            Self::ActorStopped => Some(Error::stopped("the actor that handles the deliveries has stopped")),
            Self::ConsumerStopped => Some(Error::stopped(
                "the arbiter of the consumer has ended, or the factory of its workers has panicked",
            )),
        }
    }
}

impl Message for TargetLost {
    type Result = ();
}
