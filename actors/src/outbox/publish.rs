//! The way of a publish into the outbox: refused, waiting for room in the window, or queued.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::{
    Outbox, OutboxConfig, OutboxState,
    attachment::{Attachment, PublishMode},
    effects::DeferredEffects,
    forbidden::Permission,
    forbidden_place::Candidate,
};
use crate::{
    error::{Error, Result},
    message::Outgoing,
    wire::header_len,
};

/// What a publish costs in the window beside its bytes.
pub(super) const PUBLISH_COST: usize = 64;

impl Outgoing<'_> {
    #[inline]
    pub(super) fn cost(&self) -> usize {
        self.exchange.len() + self.routing_key.len() + self.body.len() + PUBLISH_COST
    }
}

/// A place in the wait queue of the publish window.
#[derive(Debug, Default)]
pub(super) struct Ticket(Option<u64>);

impl Ticket {
    /// Returns whether it has a place in the queue.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.0.is_some()
    }
}

impl Outbox {
    /// Queues a publish and returns its sequence number (0 without confirms), once the window has room.
    ///
    /// # Errors
    /// `ChannelClosed`, `ConnectionClosed` when closed; `ChannelClosed` with 404 for an exchange that is
    /// known to be missing, 403 where no publish is permitted, or 406 by a property or the size; `Limit` for headers that do not fit a frame;
    /// `Timeout` or `Blocked` when the deadline passed while it waited.
    #[inline]
    pub(super) fn poll_publish(
        &self,
        ticket: &mut Ticket,
        cx: &mut Context<'_>,
        outgoing: Outgoing<'_>,
    ) -> Poll<Result<u64>> {
        if self.missing.is_any() {
            return self.publish_if_permitted(ticket, Some(cx), outgoing);
        }
        self.with(|state, effects| state.publish(&self.config, ticket, Some(cx), outgoing, effects))
    }

    /// Queues a publish if the window has room now.
    pub(crate) fn queue_publish(&self, outgoing: Outgoing<'_>) -> Result<Option<u64>> {
        let mut ticket = Ticket::default();
        let queued = if self.missing.is_any() {
            self.publish_if_permitted(&mut ticket, None, outgoing)
        } else {
            self.with(|state, effects| state.publish(&self.config, &mut ticket, None, outgoing, effects))
        };
        match queued {
            Poll::Ready(result) => result.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Queues a publish unless its exchange is missing, or it is forbidden.
    #[cold]
    fn publish_if_permitted(
        &self,
        ticket: &mut Ticket,
        cx: Option<&mut Context<'_>>,
        outgoing: Outgoing<'_>,
    ) -> Poll<Result<u64>> {
        let channel = self.config.channel;
        let candidate = Candidate::of(&outgoing, channel);
        let permission = self.missing.check(&candidate, Instant::now());
        let asks = matches!(permission, Permission::Ask);
        if let Permission::Refused(error, by) = permission {
            // A refusal is noted before the publish fails with it.
            let is_permitted = by.is_some_and(|by| {
                by.0 == channel && !self.lock().confirms.is_open(by.1) && self.missing.answered(by)
            });
            if !is_permitted {
                return Poll::Ready(Err(self.refuse(ticket, error)));
            }
        }
        let queued = self.with(|state, effects| state.publish(&self.config, ticket, cx, outgoing, effects));
        if asks {
            let sequence = match &queued {
                Poll::Ready(Ok(sequence)) => Some(*sequence),
                _ => None,
            };
            let by = sequence.filter(|sequence| *sequence > 0).map(|sequence| (channel, sequence));
            self.missing.asked(&candidate, sequence.is_some(), by);
        }
        queued
    }

    /// A publish that is not permitted, or to a missing exchange, fails. The next tick reports that somebody publishes to it.
    #[cold]
    fn refuse(&self, ticket: &mut Ticket, error: Error) -> Error {
        self.with(|state, effects| {
            state.leave_window(ticket, effects);
            if let Some(closed) = state.attachment.closed() {
                return closed.clone();
            }
            state.ticker.start(effects);
            error
        })
    }

    /// Gives up a place in the wait queue and wakes the next caller if it was the first.
    #[inline]
    pub(super) fn leave_queue(&self, ticket: &mut Ticket) {
        if let Some(key) = ticket.0.take() {
            let _waker = self.with(|state, effects| state.window.leave(key, &mut effects.wakers));
        }
    }
}

impl OutboxState {
    /// Queues a publish, or lets `cx` wait for room in the window; without `cx` it does not wait.
    fn publish(
        &mut self,
        config: &OutboxConfig,
        ticket: &mut Ticket,
        cx: Option<&mut Context<'_>>,
        outgoing: Outgoing<'_>,
        effects: &mut DeferredEffects,
    ) -> Poll<Result<u64>> {
        // Only headers have no limit of their own, and a content header cannot be divided.
        if (!self.is_writing() || outgoing.properties.has_headers())
            && let Some(error) = self.refuse(ticket, &outgoing, effects)
        {
            return Poll::Ready(Err(error));
        }
        let cost = outgoing.cost();
        if self.blocked.is_some() || !self.window.admits(ticket.0, cost) {
            return self.wait_for_room(ticket, cx, effects).map(Err);
        }
        self.window.enter(ticket.0.take(), cost, &mut effects.wakers, &mut effects.dropped);
        let sequence = if config.confirms {
            self.ticker.start(effects);
            self.confirms.push(self.ticker.now(), outgoing.mandatory, outgoing.resend)
        } else {
            self.published += 1;
            0
        };
        match &mut self.attachment {
            Attachment::Attached {
                publishes:
                    PublishMode::Resending { queued, .. }
                    | PublishMode::Recovering { queued, .. }
                    | PublishMode::Committing { queued },
                ..
            } => queued.publish(config.channel, self.frame_max, sequence, outgoing),
            Attachment::Attached { flusher, publishes: PublishMode::Writing { .. } } => {
                self.queue.publish(config.channel, self.frame_max, sequence, outgoing);
                flusher.request(config.channel, effects);
            }
            Attachment::Detached { .. } | Attachment::Closed { .. } => {
                self.queue.publish(config.channel, self.frame_max, sequence, outgoing);
                self.request_flush(config.channel, effects);
            }
        }
        Poll::Ready(Ok(sequence))
    }

    /// Returns the error of a publish that is refused; the callers behind it move up.
    #[inline(never)]
    fn refuse(
        &mut self,
        ticket: &mut Ticket,
        outgoing: &Outgoing<'_>,
        effects: &mut DeferredEffects,
    ) -> Option<Error> {
        let error = match self.refusal() {
            Some(error) => error.clone(),
            None => {
                let len = header_len(outgoing.properties);
                if !outgoing.properties.has_headers() || len <= self.frame_max {
                    return None;
                }
                let error = over_frame_max("the headers", len, self.frame_max);
                error.of_publish(outgoing.exchange, outgoing.routing_key, None)
            }
        };
        self.leave_window(ticket, effects);
        Some(error)
    }

    /// Lets `cx` wait for room in the window, or returns that the deadline has passed.
    #[inline(never)]
    fn wait_for_room(
        &mut self,
        ticket: &mut Ticket,
        cx: Option<&mut Context<'_>>,
        effects: &mut DeferredEffects,
    ) -> Poll<Error> {
        let Some(cx) = cx else { return Poll::Pending };
        self.ticker.start(effects);
        if self.window.wait(&mut ticket.0, cx, self.ticker.now(), &mut effects.dropped) {
            return Poll::Pending;
        }
        Poll::Ready(
            self.not_sent("no room in the publish window within the deadline; not sent").without_room(),
        )
    }

    /// Returns whether new publishes are written, and none is refused.
    #[inline]
    fn is_writing(&self) -> bool {
        self.refusing.is_none()
            && matches!(&self.attachment, Attachment::Attached { publishes: PublishMode::Writing { .. }, .. })
    }

    /// Gives up the place of a publish that fails; the callers behind it move up.
    #[cold]
    fn leave_window(&mut self, ticket: &mut Ticket, effects: &mut DeferredEffects) {
        if let Some(key) = ticket.0.take() {
            let waker = self.window.leave(key, &mut effects.wakers);
            effects.dropped.extend(waker);
        }
    }

    /// Returns the error for new publishes, if they are refused.
    fn refusal(&self) -> Option<&Error> {
        match &self.attachment {
            Attachment::Closed { error, .. } => Some(error),
            _ if self.refusing.is_some() => self.refusing.as_ref(),
            Attachment::Detached { outage }
            | Attachment::Attached { publishes: PublishMode::Recovering { outage, .. }, .. } => {
                outage.as_ref()
            }
            Attachment::Attached { .. } => None,
        }
    }
}

#[cold]
pub(super) fn over_frame_max(what: &str, len: usize, frame_max: usize) -> Error {
    Error::limit(format!("{what} make a frame of {len} bytes, this connection allows {frame_max}"))
}
