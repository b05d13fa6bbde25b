//! The calls that wait for a reply, in the order in which the broker replies.
//!
//! The replies to `basic.consume` and `basic.cancel` come from the queue, not from the broker's channel, so
//! that the replies to later calls may come first; these two are found by their consumer tag.
//!
//! A call whose deadline has passed fails, but its place is kept: its late reply must not be taken for that
//! of the next call. When there is no reply for one more deadline, the channel is given up.

mod failed;

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

pub(super) use self::failed::{FailedCall, FailedConsume};
use super::{PendingReply, Responder, call_names::long_names};
use crate::{
    error::{Error, Result},
    internal::Change,
    message::EntityKind,
    wire::{AMQPClass, Fault, basic, exchange, ids, method_name, queue, tx},
};

/// Class and method of `basic.consume`.
const CONSUME: (u16, u16) = (60, 20);
const PUBLISH: (u16, u16) = (60, 40);
const COMMIT: (u16, u16) = (90, 20);
const ROLLBACK: (u16, u16) = (90, 30);

#[derive(Debug, Default)]
pub(super) struct Replies {
    pending: VecDeque<Pending>,
    /// What calls that have their reply have done to the topology; late replies count.
    changes: Vec<Change>,
    /// The changes of failed calls, which were not made.
    failed_changes: Vec<Change>,
}

#[derive(Debug)]
struct Pending {
    /// Class and method of the call.
    ids: (u16, u16),
    entity: Option<String>,
    /// Names that the broker may cut.
    long_names: Vec<(EntityKind, String)>,
    since: Instant,
    late: bool,
    /// A later call has its reply; the broker works in order, so it has accepted this one.
    accepted: bool,
    /// Whether it may take effect, and keep it, although its reply does not come.
    has_effect: bool,
    reply: PendingReply,
    /// What the call does to the topology.
    change: Option<Change>,
}

impl Pending {
    fn name(&self) -> &'static str {
        method_name(self.ids.0, self.ids.1)
    }

    /// Returns the consumer that it starts again.
    fn restarted(&self) -> Option<u32> {
        match self.reply {
            PendingReply::Restarted { consumer, .. } => Some(consumer),
            _ => None,
        }
    }
}

impl Replies {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns whether `tx.commit` or `tx.rollback` has no reply yet.
    pub(super) fn has_commit(&self) -> bool {
        self.pending.iter().any(|pending| matches!(pending.ids, COMMIT | ROLLBACK))
    }

    /// Expects the reply to a method that was sent.
    pub(super) fn expect(
        &mut self,
        method: &AMQPClass,
        entity: Option<String>,
        change: Option<Change>,
        reply: PendingReply,
        now: Instant,
    ) {
        let ids = ids(method);
        self.pending.push_back(Pending {
            ids,
            entity,
            long_names: long_names(method),
            since: now,
            late: false,
            accepted: false,
            has_effect: has_effect(method),
            reply,
            change,
        });
    }

    /// Notes a change whose call was not sent.
    pub(super) fn not_made(&mut self, change: Option<Change>) {
        self.failed_changes.extend(change);
    }

    /// Takes what was done to the topology since the last time.
    #[inline]
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Takes the changes that were not made since the last time.
    #[inline]
    pub(super) fn take_failed_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.failed_changes)
    }

    /// Takes the call whose reply is due next, if a reply with these ids belongs to it.
    pub(super) fn next(&mut self, class_id: u16, method_id: u16) -> Result<PendingReply, Fault> {
        let at = self.position((class_id, method_id));
        self.take(at, (class_id, method_id))
    }

    /// Returns what the call concerns whose reply is due next.
    pub(super) fn next_entity(&self) -> Option<&str> {
        self.pending.get(self.in_order()?)?.entity.as_deref()
    }

    /// Takes the call for this consumer to which a reply with these ids belongs.
    pub(super) fn of_consumer(
        &mut self,
        class_id: u16,
        method_id: u16,
        tag: &str,
    ) -> Result<PendingReply, Fault> {
        let reply = (class_id, method_id);
        let mut those = self.pending.iter().enumerate().filter(|(_, pending)| answers(pending.ids, reply));
        let first = those.clone().next();
        // A broker that gives the consumer another tag at least keeps the order.
        let found = those.find(|(_, pending)| pending.reply.consumer_tag() == Some(tag)).or(first);
        self.take(found.map(|(at, _)| at), reply)
    }

    /// Checks that the reply is awaited, before its content is there.
    pub(super) fn check_next(&self, class_id: u16, method_id: u16) -> Result<(), Fault> {
        match self.position((class_id, method_id)) {
            Some(_) => Ok(()),
            None => Err(unasked((class_id, method_id))),
        }
    }

    fn position(&self, reply: (u16, u16)) -> Option<usize> {
        let at = self.in_order()?;
        self.pending.get(at).filter(|pending| answers(pending.ids, reply)).map(|_| at)
    }

    /// Finds the first of the calls that get their replies in order.
    fn in_order(&self) -> Option<usize> {
        self.pending.iter().position(|pending| pending.reply.consumer_tag().is_none())
    }

    fn take(&mut self, at: Option<usize>, reply: (u16, u16)) -> Result<PendingReply, Fault> {
        let pending = at.and_then(|at| {
            self.pending.iter_mut().take(at).for_each(|earlier| earlier.accepted = true);
            self.pending.remove(at)
        });
        let pending = pending.ok_or_else(|| unasked(reply))?;
        self.changes.extend(pending.change);
        Ok(pending.reply)
    }

    /// Finds the `basic.cancel` of this consumer that has no reply yet.
    pub(super) fn pending_cancel(
        &mut self,
        wanted: &str,
        consumer_id: Option<u32>,
    ) -> Option<&mut Vec<Responder<()>>> {
        self.pending.iter_mut().find_map(|pending| match &mut pending.reply {
            PendingReply::Cancelled { tag, consumer, responders }
                if tag == wanted && *consumer == consumer_id =>
            {
                Some(responders)
            }
            _ => None,
        })
    }

    /// Has the consumer of this tag cancelled once the reply to its `basic.consume` has come; `None` if no
    /// such reply is awaited.
    pub(super) fn cancel_once_consumed(&mut self, wanted: &str) -> Option<&mut Vec<Responder<()>>> {
        self.pending.iter_mut().find_map(|pending| match &mut pending.reply {
            PendingReply::Consumed { tag, cancel, .. } if tag == wanted => {
                Some(cancel.get_or_insert_default())
            }
            PendingReply::Restarted { tag, cancel, .. } if **tag == *wanted => {
                Some(cancel.get_or_insert_default())
            }
            _ => None,
        })
    }

    /// Returns the consumers that wait for a late reply in order to start again, and why they do not start.
    /// The broker has not reached those behind another call that it has not replied to.
    pub(super) fn late_restarts(&self, now: Instant, deadline: Duration) -> Vec<(u32, Error)> {
        let reached = self.in_order().map_or(self.pending.len(), |at| at + 1);
        let is_late = |pending: &&Pending| now.saturating_duration_since(pending.since) >= deadline;
        let late = self.pending.iter().take(reached).filter(is_late);
        late.filter_map(|pending| {
            let consumer = match pending.reply {
                PendingReply::Restarted { consumer, cancel: None, .. }
                | PendingReply::ForConsumer(consumer) => consumer,
                _ => return None,
            };
            let error = Error::timeout(format!("{}: no answer within {deadline:?}", pending.name()));
            let error = match &pending.entity {
                Some(entity) => error.on(entity.as_str()),
                None => error,
            };
            Some((consumer, error))
        })
        .collect()
    }

    /// Returns the tags of the consumers whose first start has no reply yet, or whose cancel has none: then
    /// with the number of the consumer, because another one may have its tag.
    pub(super) fn unanswered_consumers(&self) -> Vec<(String, Option<u32>)> {
        let of = |pending: &Pending| match &pending.reply {
            PendingReply::Consumed { tag, .. } => Some((tag.clone(), None)),
            PendingReply::Cancelled { tag, consumer: Some(consumer), .. } => {
                Some((tag.clone(), Some(*consumer)))
            }
            PendingReply::Restarted { tag, consumer, cancel: Some(_) } => {
                Some((tag.to_string(), Some(*consumer)))
            }
            _ => None,
        };
        self.pending.iter().filter_map(of).collect()
    }

    /// Fails calls whose deadline has passed.
    ///
    /// Returns an error if the broker has not replied for too long. It has the kind `Blocked` if the channel
    /// only waits for the broker to read again: opening and closing take longer then.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        deadline: Duration,
        blocked: Option<&str>,
    ) -> Option<Error> {
        let mut held_up = None;
        for pending in &mut self.pending {
            let age = now.saturating_duration_since(pending.since);
            if age < deadline {
                break;
            }
            let what = format!("{}: no answer within {deadline:?}", pending.name());
            let error = match blocked {
                Some(reason) => Error::blocked_by(what, reason),
                None => Error::timeout(what),
            };
            let error = if pending.has_effect { error.maybe_arrived() } else { error };
            if blocked.is_some() {
                // Once unblocked, the broker has one more deadline.
                pending.since = now.checked_sub(deadline).unwrap_or(now);
            } else if age >= deadline.saturating_mul(2) || (pending.reply.is_vital() && !pending.late) {
                return Some(error);
            }
            if !std::mem::replace(&mut pending.late, true) {
                if pending.reply.is_vital() {
                    held_up = Some(error);
                    continue;
                }
                pending.reply.expire(match &pending.entity {
                    Some(entity) => error.on(entity.as_str()),
                    None => error,
                });
            }
        }
        held_up
    }
}

/// Returns whether a call has an effect that outlives its channel.
fn has_effect(method: &AMQPClass) -> bool {
    match method {
        AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)) => !declare.passive,
        AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) => !declare.passive,
        AMQPClass::Exchange(_) | AMQPClass::Queue(_) => true,
        AMQPClass::Tx(method) => !matches!(method, tx::AMQPMethod::Select(_)),
        AMQPClass::Basic(basic::AMQPMethod::Get(get)) => get.no_ack,
        _ => false,
    }
}

/// A reply of class `channel` without a call is an invalid command, any other one an unexpected frame.
fn unasked((class_id, method_id): (u16, u16)) -> Fault {
    let text = "a reply without a call";
    let fault = if class_id == 20 { Fault::command(text) } else { Fault::unexpected(text) };
    fault.with_method(class_id, method_id)
}

/// In AMQP 0-9-1 the reply's method id follows the call's, except for `get`, which has two replies, and
/// `exchange.unbind`.
fn answers(call: (u16, u16), reply: (u16, u16)) -> bool {
    match call {
        (60, 70) => reply == (60, 71) || reply == (60, 72),
        (40, 40) => reply == (40, 51),
        (class_id, method_id) => reply == (class_id, method_id + 1),
    }
}
