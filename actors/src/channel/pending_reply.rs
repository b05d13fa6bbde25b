//! What a reply of the broker completes, and the caller that waits for it.

use std::sync::Arc;

use super::Responder;
use crate::{
    error::{Error, Result},
    message::{Consumed, DeclareQueue, Delivery, QueueDeclared},
};

#[derive(Debug)]
pub(super) enum PendingReply {
    Open,
    ConfirmSelect,
    Close,
    /// The channel's own method, whose reply changes nothing.
    Internal,
    /// Declares what a consumer needs that is started again.
    ForConsumer(u32),
    Done(Responder<()>),
    /// `tx.commit`
    Committed(Responder<()>),
    /// `basic.recover`: the broker requeues what it delivers until then.
    BasicRecovered(Responder<()>),
    Count(Responder<u32>),
    Declared {
        /// To be recorded once the queue has its name.
        record: Option<Box<DeclareQueue>>,
        responder: Responder<QueueDeclared>,
    },
    /// `basic.consume` of a new consumer.
    Consumed {
        tag: String,
        responder: Responder<Consumed>,
        /// Who waits for the `basic.cancel` that follows the reply, if one does: RabbitMQ 3.10 closes the
        /// connection (541) for one that comes before.
        cancel: Option<Vec<Responder<()>>>,
    },
    /// `basic.consume` of a consumer that is started again.
    Restarted {
        tag: Arc<str>,
        consumer: u32,
        cancel: Option<Vec<Responder<()>>>,
    },
    Cancelled {
        tag: String,
        /// The consumer that had the tag, if one had it. Another one may have it when the reply comes.
        consumer: Option<u32>,
        responders: Vec<Responder<()>>,
    },
    Got {
        no_ack: bool,
        queue: String,
        responder: Responder<Option<Delivery>>,
    },
}

impl PendingReply {
    /// Fails the call. Callers that wait for a cancel succeed: the consumer has ended with the channel.
    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Open | Self::ConfirmSelect | Self::Close | Self::Internal | Self::ForConsumer(_) => {}
            Self::Done(responder) | Self::Committed(responder) | Self::BasicRecovered(responder) => {
                let _ = responder.send(Err(error));
            }
            Self::Count(responder) => {
                let _ = responder.send(Err(error));
            }
            Self::Declared { responder, .. } => {
                let _ = responder.send(Err(error));
            }
            Self::Consumed { responder, cancel, .. } => {
                let _ = responder.send(Err(error));
                answer_all(cancel.into_iter().flatten(), &Ok(()));
            }
            Self::Restarted { cancel, .. } => answer_all(cancel.into_iter().flatten(), &Ok(())),
            Self::Cancelled { responders, .. } => answer_all(responders, &Ok(())),
            Self::Got { responder, .. } => {
                let _ = responder.send(Err(error));
            }
        }
    }

    /// Fails the callers at their deadline and keeps what is needed to undo a late success.
    pub(super) fn expire(&mut self, error: Error) {
        match self {
            Self::Open | Self::ConfirmSelect | Self::Close | Self::ForConsumer(_) => {}
            Self::Internal | Self::Done(_) | Self::Committed(_) | Self::Count(_) => {
                std::mem::replace(self, Self::Internal).fail(error);
            }
            Self::BasicRecovered(responder) => fail_in_place(responder, error),
            Self::Declared { responder, .. } => fail_in_place(responder, error),
            Self::Got { responder, .. } => fail_in_place(responder, error),
            Self::Consumed { responder, cancel, .. } => {
                answer_all(cancel.iter_mut().flat_map(|cancel| cancel.drain(..)), &Err(error.clone()));
                fail_in_place(responder, error);
            }
            Self::Restarted { cancel, .. } => {
                answer_all(cancel.iter_mut().flat_map(|cancel| cancel.drain(..)), &Err(error));
            }
            Self::Cancelled { responders, .. } => answer_all(responders.drain(..), &Err(error)),
        }
    }

    /// Returns the tag of the consumer, where the reply has one.
    pub(super) fn consumer_tag(&self) -> Option<&str> {
        match self {
            Self::Consumed { tag, .. } | Self::Cancelled { tag, .. } => Some(tag),
            Self::Restarted { tag, .. } => Some(tag),
            _ => None,
        }
    }

    /// Returns whether the call was not one of the application, so that it is made again.
    pub(super) fn is_of_recovery(&self) -> bool {
        self.is_vital() || matches!(self, Self::Internal | Self::ForConsumer(_) | Self::Restarted { .. })
    }

    /// Returns whether the channel is of no use without the reply.
    pub(super) fn is_vital(&self) -> bool {
        matches!(self, Self::Open | Self::ConfirmSelect | Self::Close)
    }
}

/// Replies to callers; those that gave up are skipped.
pub(super) fn answer_all(responders: impl IntoIterator<Item = Responder<()>>, answer: &Result<()>) {
    for responder in responders {
        let _ = responder.send(answer.clone());
    }
}

fn fail_in_place<T>(responder: &mut Responder<T>, error: Error) {
    let _ = std::mem::replace(responder, Responder::without_caller()).send(Err(error));
}
