//! The retry of nacked publishes: a nack soon after a recovery is deferred, and the publish is sent again.
//!
//! A quorum queue that has lost its leader nacks publishes until it has another one. RabbitMQ 3.10 even nacks
//! all later publishes of a channel whose first one came too early, for as long as the channel is open. So
//! after a deferred nack, newer publishes are queued; once all others have their confirm, the Channel actor
//! opens the channel again, which sends the nacked ones first. The actor decides when: see
//! `channel/nack_retry.rs`.

use std::task::Waker;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Outbox, OutboxState,
    attachment::{Attachment, PublishMode},
    broker_answers::BrokerAnswer,
    confirms::{ConfirmState, Confirms},
    effects::DeferredEffects,
    queue::FrameQueue,
    unconfirmed::Unconfirmed,
};

impl Outbox {
    /// Returns whether every publish that was written has its outcome or a deferred nack, and newer ones are
    /// queued.
    pub(crate) fn awaits_only_deferred_nacks(&self) -> bool {
        let state = self.lock();
        let Attachment::Attached { publishes: PublishMode::Resending { first, .. }, .. } = &state.attachment
        else {
            return false;
        };
        let queued = state.confirms.unconfirmed_from(*first);
        state.confirms.unconfirmed() == state.confirms.deferred + queued
    }

    /// Fails publishes with a deferred nack, and defers no more nacks until the next recovery.
    pub(crate) fn end_nack_retry(&self) {
        let _freed = self.with(|state, effects| state.end_nack_retry(self.config.channel, effects));
    }
}

impl OutboxState {
    /// Returns how a nack that arrives now is treated.
    pub(super) fn nack_answer(&self, now: Instant) -> BrokerAnswer {
        let until = match &self.attachment {
            Attachment::Attached { publishes, .. } => publishes.nack_retry_until(),
            Attachment::Detached { .. } | Attachment::Closed { .. } => None,
        };
        match until {
            Some(until) if now < until => BrokerAnswer::DeferrableNack,
            _ => BrokerAnswer::Nack,
        }
    }

    /// Queues newer publishes if nacks are deferred; returns whether some are.
    pub(super) fn retry_nacks(&mut self) -> bool {
        let deferred = self.confirms.deferred > 0;
        if deferred
            && let Attachment::Attached { publishes, .. } = &mut self.attachment
            && let PublishMode::Writing { nack_retry_until } = *publishes
        {
            let first = self.confirms.end();
            *publishes = PublishMode::Resending {
                nack_retry_until,
                queued: FrameQueue::default(),
                first,
                until: None,
            };
        }
        deferred
    }

    fn end_nack_retry(&mut self, channel: u16, effects: &mut DeferredEffects) -> Vec<Bytes> {
        let mut freed = Vec::new();
        if self.confirms.deferred > 0 {
            self.confirms.fail_deferred_nacks(&self.unconfirmed, &mut effects.wakers);
            freed = self.drop_resolved(effects);
        }
        let Attachment::Attached { publishes, .. } = &mut self.attachment else { return freed };
        match publishes {
            PublishMode::Writing { nack_retry_until } => *nack_retry_until = None,
            PublishMode::Resending { queued, .. } => {
                self.queue.append(std::mem::take(queued));
                *publishes = PublishMode::Writing { nack_retry_until: None };
                self.request_flush(channel, effects);
            }
            PublishMode::Recovering { .. } | PublishMode::Committing { .. } => {}
        }
        freed
    }
}

impl PublishMode {
    fn nack_retry_until(&self) -> Option<Instant> {
        match self {
            Self::Writing { nack_retry_until } | Self::Resending { nack_retry_until, .. } => {
                *nack_retry_until
            }
            Self::Recovering { .. } | Self::Committing { .. } => None,
        }
    }
}

impl Confirms {
    fn fail_deferred_nacks(&mut self, unconfirmed: &Unconfirmed, wakers: &mut Vec<Waker>) {
        let nacked: Vec<_> = (self.base..)
            .zip(&self.ring)
            .filter(|(_, slot)| slot.state == ConfirmState::NackDeferred)
            .map(|(sequence, _)| sequence)
            .collect();
        for sequence in nacked {
            self.fail(sequence, &mut unconfirmed.nacked(sequence).into(), wakers);
        }
        self.advance(wakers);
    }
}
