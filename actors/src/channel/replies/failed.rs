//! The call for which the broker closed the channel or the connection.

use std::sync::Arc;

use super::{COMMIT, CONSUME, PUBLISH, Pending, PendingReply, Replies};
use crate::{
    error::{CloseReason, Error, ErrorKind},
    message::EntityKind,
};

/// The call for which the broker closed the channel.
#[derive(Debug, Default)]
pub(in crate::channel) struct FailedCall {
    pub(in crate::channel) entity: Option<String>,
    pub(in crate::channel) consume: Option<FailedConsume>,
    /// The long names of the call: the broker cuts them.
    pub(in crate::channel) names: Vec<(EntityKind, String)>,
    /// The call does not close the channel again: it was one of the application.
    pub(in crate::channel) is_taken_out: bool,
}

/// A `basic.consume` for which the broker closed the channel.
#[derive(Debug)]
pub(in crate::channel) enum FailedConsume {
    /// Of a new consumer.
    New(String, Error),
    /// Of a consumer that was started again.
    Restarted(u32, Error),
    /// A method that declares what a consumer needs that is started again.
    Needed(u32, Error),
    /// Of a consumer that was started again and is to be cancelled.
    Unwanted(Arc<str>),
}

impl Replies {
    /// Fails the call for which the broker closed the channel, and returns what it was.
    pub(in crate::channel) fn fail_refused(&mut self, cause: (u16, u16), reason: &CloseReason) -> FailedCall {
        let at = self.refused(cause, reason);
        // The broker works in order, and has replied to all calls before the one that it refuses; but it replies
        // to a commit only once the queues have stored its publishes.
        let stored_until = match at {
            Some(at) => at,
            None if cause == PUBLISH => 0,
            None => self.pending.len(),
        };
        for (at, pending) in self.pending.iter_mut().enumerate() {
            pending.has_effect &= pending.ids == COMMIT && at < stored_until;
        }
        let Some(pending) = at.and_then(|at| self.pending.remove(at)) else { return FailedCall::default() };
        let error = Error::refused(pending.name(), reason.clone());
        let error = match &pending.entity {
            Some(entity) => error.on(entity.as_str()),
            None => error,
        };
        self.failed_changes.extend(pending.change);
        let consume = match &pending.reply {
            PendingReply::Restarted { tag, cancel: Some(_), .. } => {
                Some(FailedConsume::Unwanted(tag.clone()))
            }
            PendingReply::Restarted { consumer, .. } => {
                Some(FailedConsume::Restarted(*consumer, error.clone()))
            }
            PendingReply::ForConsumer(consumer) => Some(FailedConsume::Needed(*consumer, error.clone())),
            PendingReply::Consumed { tag, .. } => Some(FailedConsume::New(tag.clone(), error.clone())),
            _ => None,
        };
        let is_taken_out = !pending.reply.is_of_recovery();
        pending.reply.fail(error);
        FailedCall { entity: pending.entity, consume, names: pending.long_names, is_taken_out }
    }

    /// Finds the call that the broker refused. The broker works in order: it is a call behind all that are
    /// accepted, and not behind one whose reply should have come before. Of several consumes, the text names
    /// the queue.
    fn refused(&self, cause: (u16, u16), reason: &CloseReason) -> Option<usize> {
        let reached = self.in_order().map_or(self.pending.len(), |at| at + 1);
        let open = self.pending.iter().take(reached).enumerate();
        let mut open = open.filter(|(_, pending)| pending.ids == cause && !pending.accepted);
        let named =
            open.clone().find(|(_, pending)| pending.entity.as_deref().is_some_and(|q| names(reason, q)));
        let found = named.or_else(|| open.next()).map(|(at, _)| at);
        found.or_else(|| self.pending.iter().position(|pending| pending.ids == cause))
    }

    /// Fails all calls. Where the connection was closed for a method, calls of that method name what they
    /// concern.
    pub(in crate::channel) fn fail_all(&mut self, error: &Error) {
        let by_connection = error.kind() == ErrorKind::ConnectionClosed;
        let method = error.close_reason().filter(|_| by_connection).map_or("", |reason| reason.method);
        for pending in std::mem::take(&mut self.pending) {
            let name = pending.name();
            let error = if pending.has_effect { error.without_reply(name) } else { error.clone() };
            self.failed_changes.extend(pending.change);
            pending.reply.fail(match pending.entity {
                Some(entity) if name == method => error.on(entity),
                _ => error,
            });
        }
    }

    /// Returns the consumers whose restart has closed the connection: those of the queue that the broker
    /// names, or, if it names none, the one whose turn it was.
    pub(in crate::channel) fn restarts_at_fault(&self, reason: &CloseReason) -> Vec<u32> {
        if reason.code < 500 || !matches!(reason.method, "" | "basic.consume") {
            return Vec::new();
        }
        let consumes = self.pending.iter().filter(|pending| pending.ids == CONSUME);
        let is_named = |pending: &&Pending| pending.entity.as_deref().is_some_and(|q| names(reason, q));
        let named: Vec<u32> = consumes.clone().filter(is_named).filter_map(Pending::restarted).collect();
        if !named.is_empty() || reason.entity().is_some() {
            return named;
        }
        let mut open = consumes.filter(|pending| !pending.accepted);
        open.next().and_then(Pending::restarted).into_iter().collect()
    }
}

/// Returns whether the broker's text names this queue.
fn names(reason: &CloseReason, queue: &str) -> bool {
    reason.text.contains(&format!("queue '{queue}' in vhost")) || reason.has_cut("queue", queue)
}
