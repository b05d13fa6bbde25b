//! Whether an outbox has a connection, what happens to publishes meanwhile, and the changes between these
//! states.
//!
//! Content survives a reconnect: what was written and is not confirmed is written again, in the old order and
//! before newer publishes. Methods and acks belong to the channel epoch in which they were written.

use std::{iter::Sum, sync::Arc};

use actix::Recipient;
use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Outbox, OutboxConfig, OutboxState,
    channel_close::{ChannelClose, CloseFault},
    effects::DeferredEffects,
    flusher::Flusher,
    queue::FrameQueue,
    signals::Flush,
};
use crate::error::Error;

/// What an outbox has to a connection.
pub(super) enum Attachment {
    /// No connection. Publishes are queued, or refused with `outage`.
    Detached { outage: Option<Error> },
    /// A connection takes bytes.
    Attached { flusher: Flusher, publishes: PublishMode },
    /// Closed for good. Only final frames are left, for the connection that there was.
    Closed { error: Error, flusher: Option<Flusher> },
}

/// What happens to a new publish while a connection is attached.
pub(super) enum PublishMode {
    /// It is written. Nacks are deferred until `nack_retry_until`.
    Writing { nack_retry_until: Option<Instant> },
    /// Nacked publishes wait to be sent again, or the channel was closed for a publish and those that were
    /// written are sent again. Newer ones, from the sequence number `first` on, are queued behind them:
    /// until these are confirmed, or `until`.
    Resending { nack_retry_until: Option<Instant>, queued: FrameQueue, first: u64, until: Option<Instant> },
    /// The channel is opened again. Publishes are queued, or refused with `outage`.
    /// Those that were written when the channel was closed for a publish are below `suspected`.
    Recovering { queued: FrameQueue, outage: Option<Error>, suspected: u64 },
    /// `tx.commit` or `tx.rollback` is queued or written, and has no reply yet. What follows waits for it, and so
    /// do acks: RabbitMQ closes the connection (504) for anything but `channel.close`.
    Committing { queued: FrameQueue },
}

impl Attachment {
    /// Returns the error that closed the outbox.
    #[inline]
    pub(super) fn closed(&self) -> Option<&Error> {
        match self {
            Self::Closed { error, .. } => Some(error),
            Self::Detached { .. } | Self::Attached { .. } => None,
        }
    }

    /// Returns what waits until the channel is recovered, older publishes are confirmed, or a transaction has its
    /// reply.
    pub(super) fn queued(&self) -> Option<&FrameQueue> {
        match self {
            Self::Attached {
                publishes:
                    PublishMode::Resending { queued, .. }
                    | PublishMode::Recovering { queued, .. }
                    | PublishMode::Committing { queued },
                ..
            } => Some(queued),
            _ => None,
        }
    }
}

/// Why a connection was lost, and what that means for publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage<'a> {
    pub(crate) error: &'a Error,
    /// Fail publishes with the error, and refuse new ones until the channel is recovered.
    pub(crate) fail: bool,
    /// The broker closed the connection with a code of 500 or above; one of the publishes may be the cause.
    pub(crate) hard_error: bool,
}

/// The publishes that a close leaves without a confirm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Abandoned {
    pub(crate) unconfirmed: usize,
    /// How many of them a connection has taken.
    pub(crate) may_have_arrived: usize,
    /// Publishes without confirms were not written.
    pub(crate) unwritten: bool,
}

impl Sum for Abandoned {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            unconfirmed: sum.unconfirmed + one.unconfirmed,
            may_have_arrived: sum.may_have_arrived + one.may_have_arrived,
            unwritten: sum.unwritten || one.unwritten,
        })
    }
}

/// Which frames still leave when an outbox closes, beside the rest of a partially written publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FinalFrames {
    None,
    /// This one only.
    Only(Bytes),
    /// All that are queued.
    Queued,
    /// All that are queued, and then this one.
    AfterQueued(Bytes),
}

/// What a channel epoch leaves behind when it ends.
struct EndedEpoch {
    /// One more than the last unconfirmed publish that was written in this channel epoch; 0 if none was.
    written: u64,
    /// Publishes that were not written, on a channel without confirms.
    unsent: FrameQueue,
    /// The outage that is not over.
    outage: Option<Error>,
}

impl Outbox {
    /// Attaches a connection. With `recovering`, publishes are queued until
    /// [`finish_recovery`](Self::finish_recovery).
    pub(crate) fn attach(
        &self,
        epoch: u64,
        connection: Arc<Recipient<Flush>>,
        frame_max: u32,
        recovering: bool,
    ) {
        let flusher = Flusher { epoch, connection, requested: false, stands_still: false };
        let _old = self.with(|state, effects| {
            if state.attachment.closed().is_some() {
                return None;
            }
            state.frame_max = frame_max as usize;
            // A connection that this channel was not attached to may have been blocked.
            if state.blocked.take().is_some() {
                state.window.wake_front(&mut effects.wakers);
            }
            let publishes = if recovering {
                let outage = match &mut state.attachment {
                    Attachment::Detached { outage } => outage.take(),
                    _ => None,
                };
                PublishMode::Recovering { queued: std::mem::take(&mut state.queue), outage, suspected: 0 }
            } else {
                PublishMode::Writing { nack_retry_until: None }
            };
            let unavailable = if recovering { None } else { state.unavailable.take() };
            let attached = Attachment::Attached { flusher, publishes };
            let old = (std::mem::replace(&mut state.attachment, attached), unavailable);
            if !state.queue.is_empty() {
                state.request_flush(self.config.channel, effects);
            }
            Some(old)
        });
    }

    /// Detaches from a connection that was lost; another one will be attached. Returns the new channel epoch.
    pub(crate) fn detach(&self, outage: &Outage<'_>) -> u32 {
        let (channel_epoch, _dropped) =
            self.with(|state, effects| state.detach(self.config.confirms, outage, effects));
        channel_epoch
    }

    /// Prepares to open the channel again on the same connection, after `final_frames`. Publishes that the
    /// broker refused fail; the others are sent again by [`finish_recovery`](Self::finish_recovery), and
    /// newer ones wait for it. Returns the new channel epoch.
    pub(crate) fn reopen(&self, close: &ChannelClose<'_>, final_frames: Bytes) -> u32 {
        let (channel_epoch, _dropped) = self.with(|state, effects| {
            let (channel_epoch, dropped) = state.reopen(&self.config, close, final_frames, effects);
            (channel_epoch, (dropped, state.unavailable.replace(close.error.clone())))
        });
        channel_epoch
    }

    /// Closes it for good: every waiter is resolved, and only `frames` are taken. New publishes get `error`.
    pub(crate) fn close(&self, close: &ChannelClose<'_>, error: Error, frames: FinalFrames) -> Abandoned {
        let (abandoned, _dropped) =
            self.with(|state, effects| state.close(&self.config, close, error, frames, effects));
        self.tally.closed(self);
        abandoned
    }

    /// Closes it for good with one error for all.
    pub(crate) fn end(&self, error: Error, frames: FinalFrames) {
        let close = ChannelClose { error: &error, fault: CloseFault::Elsewhere, fail: true };
        self.close(&close, error.clone(), frames);
    }

    /// Counts the publishes that a close would leave without a confirm.
    pub(crate) fn abandoned(&self) -> Abandoned {
        let state = self.lock();
        let (unconfirmed, may_have_arrived) =
            (state.confirms.unconfirmed(), state.confirms.taken_unconfirmed());
        let is_empty = state.queue.is_empty() && state.attachment.queued().is_none_or(FrameQueue::is_empty);
        Abandoned { unconfirmed, may_have_arrived, unwritten: !self.config.confirms && !is_empty }
    }

    /// Appends the reply to a close of the peer to the final frames.
    pub(crate) fn append_final_frame(&self, frame: Bytes) {
        self.with(|state, effects| {
            state.queue.answer(frame);
            state.request_flush(self.config.channel, effects);
        });
    }
}

impl OutboxState {
    /// Returns the channel epoch, and what to drop when the lock is free.
    fn detach(
        &mut self,
        confirms: bool,
        outage: &Outage<'_>,
        effects: &mut DeferredEffects,
    ) -> (u32, impl Sized + use<>) {
        if self.attachment.closed().is_some() {
            return (self.channel_epoch, None);
        }
        let ended = self.end_epoch(confirms);
        let partially_written = std::mem::replace(&mut self.queue, ended.unsent);
        let refused = if outage.fail { Some(outage.error.clone()) } else { ended.outage };
        let old = std::mem::replace(&mut self.attachment, Attachment::Detached { outage: refused });
        self.blocked = None;
        let unavailable = self.unavailable.replace(outage.error.clone());
        let mut failed = Default::default();
        if confirms && outage.fail {
            self.confirms.fail_all(outage.error, &self.unconfirmed, &mut effects.wakers);
            failed = (std::mem::take(&mut self.queue), std::mem::take(&mut self.unconfirmed));
            self.window.close(&mut effects.wakers);
        } else if outage.fail {
            self.window.wake_all(&mut effects.wakers);
        } else if confirms {
            self.confirms.connection_lost(outage, ended.written, &mut effects.wakers);
            self.window.set(self.confirms.unconfirmed(), 0, &mut effects.wakers);
        }
        // Without confirms, publishes have succeeded already and stay queued.
        (self.channel_epoch, Some((old, partially_written, failed, unavailable)))
    }

    /// Returns the channel epoch, and what to drop when the lock is free.
    fn reopen(
        &mut self,
        config: &OutboxConfig,
        close: &ChannelClose<'_>,
        final_frames: Bytes,
        effects: &mut DeferredEffects,
    ) -> (u32, impl Sized + use<>) {
        if !matches!(self.attachment, Attachment::Attached { .. }) {
            return (self.channel_epoch, None);
        }
        let (written, taken) = (self.written_whole(), self.confirms.taken);
        let suspected = match &self.attachment {
            Attachment::Attached { publishes: PublishMode::Recovering { suspected, .. }, .. } => *suspected,
            _ if matches!(close.fault, CloseFault::Elsewhere) => 0,
            _ => self.written(),
        };
        let EndedEpoch { mut unsent, mut outage, .. } = self.end_epoch(config.confirms);
        self.settle_close(close, written, taken, &mut effects.wakers);
        let mut failed = Default::default();
        if close.fail {
            outage = Some(close.error.clone());
            if config.confirms {
                self.confirms.fail_all(close.error, &self.unconfirmed, &mut effects.wakers);
                failed = (std::mem::take(&mut unsent), std::mem::take(&mut self.unconfirmed));
                self.window.close(&mut effects.wakers);
            } else {
                self.window.wake_all(&mut effects.wakers);
            }
        } else if config.confirms {
            self.window.set(self.confirms.unconfirmed(), 0, &mut effects.wakers);
        }
        self.queue.method(final_frames);
        if let Attachment::Attached { flusher, publishes } = &mut self.attachment {
            *publishes = PublishMode::Recovering { queued: unsent, outage, suspected };
            flusher.requested = false;
        }
        self.request_flush(config.channel, effects);
        (self.channel_epoch, Some(failed))
    }

    /// Returns what was abandoned, and what to drop when the lock is free.
    fn close(
        &mut self,
        config: &OutboxConfig,
        close: &ChannelClose<'_>,
        error: Error,
        frames: FinalFrames,
        effects: &mut DeferredEffects,
    ) -> (Abandoned, impl Sized + use<>) {
        if self.attachment.closed().is_some() {
            return (Abandoned::default(), None);
        }
        let unconfirmed = self.confirms.unconfirmed();
        match (&frames, &self.attachment) {
            // What waits for the recovery of the channel is never written. What waits for the reply to a commit
            // would be rolled back.
            (FinalFrames::AfterQueued(_), Attachment::Attached { publishes, .. }) => match publishes {
                PublishMode::Writing { .. } => self.confirms.taken.below(self.confirms.end()),
                PublishMode::Resending { first, .. } => self.confirms.taken.below(*first),
                PublishMode::Recovering { .. } | PublishMode::Committing { .. } => {}
            },
            _ if matches!(close.fault, CloseFault::Publish(_)) => {
                let (written, taken) = (self.written_whole(), self.confirms.taken);
                self.settle_close(close, written, taken, &mut effects.wakers);
            }
            _ => {}
        }
        let (mut abandoned, mut rest) = (FrameQueue::default(), FrameQueue::default());
        let last = match frames {
            FinalFrames::None => {
                rest = std::mem::take(&mut self.queue);
                None
            }
            FinalFrames::Only(last) => {
                abandoned = self.queue.abandon();
                Some(last)
            }
            FinalFrames::Queued => None,
            FinalFrames::AfterQueued(last) => {
                if !self.attachment.awaits_commit() {
                    self.queue.acks(config.channel, &mut self.acks);
                }
                Some(last)
            }
        };
        if let Some(last) = last {
            self.queue.method(last);
        }
        let flusher = match &self.attachment {
            Attachment::Attached { flusher, .. } => Some(Flusher { requested: false, ..flusher.clone() }),
            _ => None,
        };
        let closed = Attachment::Closed { error, flusher };
        let old = std::mem::replace(&mut self.attachment, closed);
        if !self.queue.is_empty() {
            self.request_flush(config.channel, effects);
        }
        self.channel_epoch += 1;
        self.acks.reset();
        self.window.close(&mut effects.wakers);
        let left = std::mem::take(&mut self.unconfirmed);
        let may_have_arrived = self.confirms.taken_unconfirmed();
        self.confirms.fail_all(close.error, &left, &mut effects.wakers);
        let dropped = Some((old, abandoned, rest, left, self.ticker.actor.take()));
        (Abandoned { unconfirmed, may_have_arrived, unwritten: false }, dropped)
    }

    /// Ends a channel epoch. Only the rest of a partially written publish stays in the queue; deliveries
    /// become stale.
    fn end_epoch(&mut self, confirms: bool) -> EndedEpoch {
        self.channel_epoch += 1;
        self.acks.reset();
        let written = self.written();
        self.confirms.taken.end_epoch();
        self.confirms.epochs.end_current();
        let (queued, outage) = match &mut self.attachment {
            Attachment::Attached { publishes, .. } => match publishes {
                PublishMode::Writing { .. } => (FrameQueue::default(), None),
                PublishMode::Resending { queued, .. } | PublishMode::Committing { queued } => {
                    (std::mem::take(queued), None)
                }
                PublishMode::Recovering { queued, outage, .. } => (std::mem::take(queued), outage.take()),
            },
            Attachment::Detached { outage } => (FrameQueue::default(), outage.take()),
            Attachment::Closed { .. } => (FrameQueue::default(), None),
        };
        let mut unsent = self.queue.abandon();
        if confirms {
            self.queue.keep_partially_written(&mut self.unconfirmed);
            unsent.keep(&mut self.unconfirmed);
            queued.keep(&mut self.unconfirmed);
            unsent = FrameQueue::default();
        } else {
            unsent.retain_content();
            unsent.append(queued);
        }
        EndedEpoch { written, unsent, outage }
    }

    /// Returns one more than the last unconfirmed publish of which the broker has the whole in this channel
    /// epoch.
    pub(super) fn written_whole(&self) -> u64 {
        let written = self.written();
        if self.queue.is_partially_written() { written.saturating_sub(1) } else { written }
    }

    /// Returns one more than the last unconfirmed publish that was written in this channel epoch; 0 if none
    /// was.
    pub(super) fn written(&self) -> u64 {
        match &self.attachment {
            Attachment::Attached {
                publishes: PublishMode::Writing { .. } | PublishMode::Resending { .. },
                ..
            } => self.unconfirmed.end(),
            _ => 0,
        }
    }
}
