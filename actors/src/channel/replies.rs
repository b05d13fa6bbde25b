//! Who waits for which answer, in the order in which the broker gives them.
//!
//! `basic.consume` and `basic.cancel` are answered by the queue, not by the broker's channel, so that answers to later
//! calls may overtake theirs; these are found by their consumer tag.
//!
//! A caller whose deadline has passed is answered, but its place is kept: its late answer must not answer the next
//! call. When the broker is silent for one more deadline, the channel is given up.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Responder;
use crate::{
    error::{CloseReason, Error, ErrorKind, Result},
    message::{Consumed, DeclareQueue, Delivery, QueueDeclared, internal::Change},
    wire::Fault,
};

#[derive(Debug, Default)]
pub(super) struct Replies {
    pending: VecDeque<Pending>,
    /// What answered calls have done to the topology, a late answer's included.
    changes: Vec<Change>,
    /// What calls that failed have not done to it.
    unchanged: Vec<Change>,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) what: &'static str,
    pub(super) entity: Option<String>,
    /// Class and method of the call.
    pub(super) ids: (u16, u16),
    pub(super) since: Instant,
    pub(super) late: bool,
    /// A later call was answered, so that the broker has accepted this one: it works in order.
    pub(super) accepted: bool,
    pub(super) on: PendingReply,
    /// What the call does to the topology.
    pub(super) change: Option<Change>,
}

/// What a call that was refused was about.
#[derive(Debug, Default)]
pub(super) struct FailedCall {
    pub(super) entity: Option<String>,
    pub(super) what: Refused,
}

/// What an answer is for.
#[derive(Debug)]
pub(super) enum PendingReply {
    Open,
    ConfirmSelect,
    Close,
    /// Of ours; the answer changes nothing.
    Internal,
    Done(Responder<()>),
    Committed(Responder<()>),
    /// Deliveries until then are requeued by the broker, and nobody's.
    Recovered(Responder<()>),
    Count(Responder<u32>),
    Declared {
        /// What is to be recorded, once the queue has its name.
        record: Option<Box<DeclareQueue>>,
        responder: Responder<QueueDeclared>,
    },
    /// A consumer of an earlier life starts again.
    Resumed {
        tag: Arc<str>,
        consumer: u32,
        /// Who waits for its cancel, which cannot be said before the answer.
        cancel: Option<Vec<Responder<()>>>,
    },
    Consumed {
        tag: String,
        responder: Responder<Consumed>,
        /// Who waits for the `basic.cancel` that follows, if one does: sent before the answer, it would have RabbitMQ 3.10
        /// end the connection with 541.
        cancel: Option<Vec<Responder<()>>>,
    },
    Cancelled {
        tag: String,
        /// Which consumer had the tag, if one had it: the next may have it already when the answer comes.
        consumer: Option<u32>,
        responders: Vec<Responder<()>>,
    },
    Got {
        no_ack: bool,
        responder: Responder<Option<Delivery>>,
    },
}

/// Why the broker has closed the channel.
#[derive(Debug, Default)]
pub(super) enum Refused {
    /// A consumer was to start again.
    Resumed(u32, Error),
    /// A consumer was to start.
    Consumed(String, Error),
    /// A consumer was to start again, and to be cancelled then.
    Unwanted(Arc<str>),
    #[default]
    Other,
}

impl PendingReply {
    pub(super) fn fail(self, error: Error) {
        // Whoever does not wait any more need not hear of it.
        match self {
            Self::Open | Self::ConfirmSelect | Self::Close | Self::Internal => {}
            Self::Resumed { cancel, .. } => {
                cancel.into_iter().flatten().for_each(|r| drop(r.send(Ok(()))));
            }
            Self::Done(responder) | Self::Committed(responder) | Self::Recovered(responder) => {
                drop(responder.send(Err(error)));
            }
            Self::Count(responder) => drop(responder.send(Err(error))),
            Self::Declared { responder, .. } => drop(responder.send(Err(error))),
            Self::Consumed { responder, cancel, .. } => {
                drop(responder.send(Err(error)));
                cancel.into_iter().flatten().for_each(|r| drop(r.send(Ok(()))));
            }
            Self::Cancelled { responders, .. } => {
                // A consumer of a closed channel is as good as cancelled.
                responders.into_iter().for_each(|r| drop(r.send(Ok(()))));
            }
            Self::Got { responder, .. } => drop(responder.send(Err(error))),
        }
    }

    /// Answers that the deadline has passed, and leaves what is needed to undo a late success.
    fn expire(&mut self, error: Error) {
        match self {
            Self::Resumed { cancel, .. } => {
                cancel.iter_mut().for_each(|c| c.drain(..).for_each(|r| drop(r.send(Err(error.clone())))));
            }
            Self::Consumed { responder, cancel, .. } => {
                cancel.iter_mut().for_each(|c| c.drain(..).for_each(|r| drop(r.send(Err(error.clone())))));
                let (_, unheard) = super::Reply::later();
                drop(std::mem::replace(responder, unheard).send(Err(error)));
            }
            Self::Got { responder, .. } => {
                let (_, unheard) = super::Reply::later();
                drop(std::mem::replace(responder, unheard).send(Err(error)));
            }
            Self::Declared { responder, .. } => {
                let (_, unheard) = super::Reply::later();
                drop(std::mem::replace(responder, unheard).send(Err(error)));
            }
            Self::Recovered(responder) => {
                let (_, unheard) = super::Reply::later();
                drop(std::mem::replace(responder, unheard).send(Err(error)));
            }
            Self::Cancelled { responders, .. } => {
                responders.drain(..).for_each(|r| drop(r.send(Err(error.clone()))));
            }
            Self::Open | Self::ConfirmSelect | Self::Close => {}
            Self::Internal | Self::Done(_) | Self::Committed(_) | Self::Count(_) => {
                std::mem::replace(self, Self::Internal).fail(error);
            }
        }
    }

    /// The consumer concerned, where the answer names it.
    fn consumer(&self) -> Option<&str> {
        match self {
            Self::Consumed { tag, .. } | Self::Cancelled { tag, .. } => Some(tag),
            Self::Resumed { tag, .. } => Some(tag),
            _ => None,
        }
    }

    /// Tells whether the channel is nothing without the answer.
    fn is_vital(&self) -> bool {
        matches!(self, Self::Open | Self::ConfirmSelect | Self::Close)
    }
}

impl Replies {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Counts the deadline of all but the first `before` calls from `since`.
    pub(super) fn backdate(&mut self, before: usize, since: Instant) {
        self.pending.iter_mut().skip(before).for_each(|pending| pending.since = since);
    }

    pub(super) fn expect(
        &mut self,
        what: &'static str,
        entity: Option<String>,
        ids: (u16, u16),
        on: PendingReply,
    ) {
        let change = None;
        self.pending.push_back(Pending {
            what,
            entity,
            ids,
            since: Instant::now(),
            late: false,
            accepted: false,
            on,
            change,
        });
    }

    /// Notes what the call that was made last does to the topology when it is answered.
    pub(super) fn which_will(&mut self, change: Option<Change>) {
        if let Some(last) = self.pending.back_mut() {
            last.change = change;
        }
    }

    /// What was done to the topology since the last time.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// What was not done to it since the last time, because the call failed.
    pub(super) fn unchanged(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.unchanged)
    }

    /// The call that is answered next, if its answer has these ids.
    pub(super) fn next(&mut self, class_id: u16, method_id: u16) -> Result<PendingReply, Fault> {
        let at = self.place((class_id, method_id));
        self.take(at, (class_id, method_id))
    }

    /// The call for this consumer that an answer with these ids is for.
    pub(super) fn of_consumer(
        &mut self,
        class_id: u16,
        method_id: u16,
        tag: &str,
    ) -> Result<PendingReply, Fault> {
        let reply = (class_id, method_id);
        let mut those = self.pending.iter().enumerate().filter(|(_, pending)| answers(pending.ids, reply));
        let first = those.clone().next();
        // A broker that names the consumer otherwise at least keeps the order.
        let found = those.find(|(_, pending)| pending.on.consumer() == Some(tag)).or(first);
        self.take(found.map(|(at, _)| at), reply)
    }

    /// Looks whether the next answer is awaited, before its content is there.
    pub(super) fn awaits(&self, class_id: u16, method_id: u16) -> Result<(), Fault> {
        match self.place((class_id, method_id)) {
            Some(_) => Ok(()),
            None => Err(unasked((class_id, method_id))),
        }
    }

    fn place(&self, reply: (u16, u16)) -> Option<usize> {
        let at = self.pending.iter().position(|pending| pending.on.consumer().is_none())?;
        self.pending.get(at).filter(|pending| answers(pending.ids, reply)).map(|_| at)
    }

    fn take(&mut self, at: Option<usize>, reply: (u16, u16)) -> Result<PendingReply, Fault> {
        let pending = at.and_then(|at| {
            self.pending.iter_mut().take(at).for_each(|earlier| earlier.accepted = true);
            self.pending.remove(at)
        });
        let pending = pending.ok_or_else(|| unasked(reply))?;
        self.changes.extend(pending.change);
        Ok(pending.on)
    }

    pub(super) fn cancel_of(
        &mut self,
        wanted: &str,
        consumer_id: Option<u32>,
    ) -> Option<&mut Vec<Responder<()>>> {
        self.pending.iter_mut().find_map(|pending| match &mut pending.on {
            PendingReply::Cancelled { tag, consumer, responders }
                if tag == wanted && *consumer == consumer_id =>
            {
                Some(responders)
            }
            _ => None,
        })
    }

    /// Whoever waits for the consumer of this tag to be cancelled as soon as it has begun, if it has not yet.
    pub(super) fn cancel_behind(&mut self, wanted: &str) -> Option<&mut Vec<Responder<()>>> {
        self.pending.iter_mut().find_map(|pending| match &mut pending.on {
            PendingReply::Consumed { tag, cancel, .. } if tag == wanted => {
                Some(cancel.get_or_insert_default())
            }
            PendingReply::Resumed { tag, cancel, .. } if **tag == *wanted => {
                Some(cancel.get_or_insert_default())
            }
            _ => None,
        })
    }

    /// Answers the call that made the broker close the channel, and tells what it was about.
    pub(super) fn refuse(&mut self, cause: (u16, u16), reason: &CloseReason) -> Option<FailedCall> {
        let pending = self.blamed(cause, reason).and_then(|at| self.pending.remove(at))?;
        let error = Error::refused(pending.what, reason.clone());
        let error = match &pending.entity {
            Some(entity) => error.on(entity.as_str()),
            None => error,
        };
        self.unchanged.extend(pending.change);
        let refused = match &pending.on {
            PendingReply::Resumed { tag, cancel: Some(_), .. } => Refused::Unwanted(tag.clone()),
            PendingReply::Resumed { consumer, .. } => Refused::Resumed(*consumer, error.clone()),
            PendingReply::Consumed { tag, .. } => Refused::Consumed(tag.clone(), error.clone()),
            _ => Refused::Other,
        };
        pending.on.fail(error);
        Some(FailedCall { entity: pending.entity, what: refused })
    }

    /// The call that the broker refused. It works in order: that call came after all that are accepted, and not after
    /// one that should have been answered before. Where several consumes are left, the text names a queue.
    fn blamed(&self, cause: (u16, u16), reason: &CloseReason) -> Option<usize> {
        let in_order = self.pending.iter().position(|pending| pending.on.consumer().is_none());
        let reached = in_order.map_or(self.pending.len(), |at| at + 1);
        let open = self.pending.iter().take(reached).enumerate();
        let mut open = open.filter(|(_, pending)| pending.ids == cause && !pending.accepted);
        let named = open.clone().find(|(_, pending)| {
            let queue = pending.entity.as_ref().map(|queue| format!("queue '{queue}' in vhost"));
            queue.is_some_and(|queue| reason.text.contains(&queue))
        });
        let found = named.or_else(|| open.next()).map(|(at, _)| at);
        found.or_else(|| self.pending.iter().position(|pending| pending.ids == cause))
    }

    pub(super) fn fail_all(&mut self, error: &Error) {
        // A connection that is closed says by which method, not on which channel.
        let whole = error.kind() == ErrorKind::ConnectionClosed;
        let method = error.close_reason().filter(|_| whole).map_or("", |reason| reason.method);
        for pending in std::mem::take(&mut self.pending) {
            self.unchanged.extend(pending.change);
            pending.on.fail(match pending.entity {
                Some(entity) if pending.what == method => error.clone().on(entity),
                _ => error.clone(),
            });
        }
    }

    /// The consumer that was to start again and cost the connection, where the broker names its queue.
    pub(super) fn culprit(&self, reason: &CloseReason) -> Option<u32> {
        let resumed = |pending: &Pending| match (&pending.on, &pending.entity) {
            (PendingReply::Resumed { consumer, .. }, Some(queue)) => {
                reason.text.contains(&format!("queue '{queue}' in vhost")).then_some(*consumer)
            }
            _ => None,
        };
        let hard = reason.code >= 500 && reason.method == "basic.consume";
        self.pending.iter().filter(|_| hard).find_map(resumed)
    }

    /// The consumers whose start or whose end (`true`) is not answered.
    pub(super) fn unsettled_consumers(&self) -> Vec<(String, bool)> {
        let of = |pending: &Pending| match &pending.on {
            PendingReply::Consumed { tag, .. } => Some((tag.clone(), false)),
            PendingReply::Cancelled { tag, .. } => Some((tag.clone(), true)),
            PendingReply::Resumed { tag, cancel: Some(_), .. } => Some((tag.to_string(), true)),
            _ => None,
        };
        self.pending.iter().filter_map(of).collect()
    }

    /// Answers callers whose deadline has passed; the error says that the broker is silent for too long, or, of kind
    /// `Blocked`, that what the channel cannot be without is only held up: the broker does not read us now.
    pub(super) fn expire(&mut self, now: Instant, deadline: Duration, blocked: bool) -> Option<Error> {
        let mut held_up = None;
        for pending in &mut self.pending {
            let age = now.saturating_duration_since(pending.since);
            if age < deadline {
                break;
            }
            let what = format!("{}: no answer within {deadline:?}", pending.what);
            let error = if blocked { Error::blocked(what) } else { Error::timeout(what) };
            if blocked {
                // Once unblocked, the broker has one more deadline.
                pending.since = now.checked_sub(deadline).unwrap_or(now);
            } else if age >= deadline.saturating_mul(2) || (pending.on.is_vital() && !pending.late) {
                return Some(error);
            }
            if !std::mem::replace(&mut pending.late, true) {
                if pending.on.is_vital() {
                    held_up = Some(error);
                    continue;
                }
                pending.on.expire(match &pending.entity {
                    Some(entity) => error.on(entity.as_str()),
                    None => error,
                });
            }
        }
        held_up
    }
}

/// A channel that opens or closes by itself is an invalid command; any other answer has only come out of turn.
fn unasked((class_id, method_id): (u16, u16)) -> Fault {
    let text = "an answer that nobody asked for";
    let fault = if class_id == 20 { Fault::command(text) } else { Fault::unexpected(text) };
    fault.with_method(class_id, method_id)
}

/// In AMQP 0-9-1 the answer's method id follows the call's, but for `get`, which has two.
fn answers(call: (u16, u16), reply: (u16, u16)) -> bool {
    match call {
        (60, 70) => reply == (60, 71) || reply == (60, 72),
        (40, 40) => reply == (40, 51),
        (class_id, method_id) => reply == (class_id, method_id + 1),
    }
}
