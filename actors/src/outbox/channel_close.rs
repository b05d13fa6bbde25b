//! What becomes of publishes when their channel is closed while the connection goes on.
//!
//! One that the broker refused fails with the broker's reason. The others are not at fault: they are sent again
//! when the channel reopens, or fail with an error that is retryable.

use std::task::Waker;

use super::{
    Outbox, OutboxState,
    confirms::{ConfirmState, Confirms},
    outcome_error::Taken,
    refused_publish::RefusedPublish,
    unconfirmed::Unconfirmed,
};
use crate::error::{CloseReason, Error};

/// Why a channel is closed, and what that means for publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelClose<'a> {
    /// The error of publishes that are not at fault.
    pub(crate) error: &'a Error,
    pub(crate) fault: CloseFault<'a>,
    /// Publishes fail rather than wait until the channel is open again.
    pub(crate) fail: bool,
}

/// What made the broker close a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CloseFault<'a> {
    /// No publish.
    Elsewhere,
    /// A publish, which fails with this error.
    Publish(&'a Error),
    /// The broker does not say.
    Unknown,
}

/// The publishes that the broker refused, or would refuse: their sequence numbers, and what errors name.
#[derive(Debug, Default)]
struct Refused {
    publishes: Vec<(u64, String)>,
    /// The broker has dropped what was written from here on.
    read: u64,
}

impl Outbox {
    /// Returns the exchange and the routing key of a publish that the broker refused with this reason.
    pub(crate) fn refused_publish(&self, reason: &CloseReason) -> Option<(String, String)> {
        let kind = RefusedPublish::of(reason)?;
        let state = self.lock();
        let mut found = None;
        state.unconfirmed.for_each(|publish| {
            if state.confirms.is_open(publish.sequence) && kind.is(&publish) {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                found = Some((text(publish.exchange), text(publish.routing_key)));
            }
        });
        found
    }
}

impl OutboxState {
    /// Fails what the broker refused and what must not be sent twice. Of the publishes below `written`, the
    /// broker has the whole; `taken` is from before the channel epoch ended.
    pub(super) fn settle_close(
        &mut self,
        close: &ChannelClose<'_>,
        written: u64,
        taken: Taken,
        wakers: &mut Vec<Waker>,
    ) {
        let OutboxState { confirms, unconfirmed, .. } = self;
        let refused = match close.fault {
            CloseFault::Publish(error) => unconfirmed.refused(error, written, confirms),
            CloseFault::Elsewhere | CloseFault::Unknown => None,
        };
        let read = refused.as_ref().map_or(written, |refused| refused.read);
        confirms.taken.drop_from(read, taken);
        match (close.fault, refused) {
            (CloseFault::Publish(error), Some(refused)) => {
                for (sequence, name) in refused.publishes {
                    confirms.fail(sequence, &mut error.clone().on(name).into(), wakers);
                }
            }
            (CloseFault::Elsewhere, _) => {}
            (CloseFault::Publish(_) | CloseFault::Unknown, _) => confirms.suspect(written),
        }
        confirms.fail_open_where(close.error, read, |slot| !slot.resend || slot.failures >= 2, wakers);
    }
}

impl Unconfirmed {
    /// Finds the publishes that the broker refused with this error; `None` if they cannot be told.
    fn refused(&self, error: &Error, written: u64, confirms: &Confirms) -> Option<Refused> {
        let kind = RefusedPublish::of(error.close_reason()?);
        let mut publishes = Vec::new();
        let (mut open, mut only) = (0, None);
        self.for_each(|publish| {
            let sequence = publish.sequence;
            if !confirms.is_open(sequence) {
                return;
            }
            let name = || {
                let name = if publish.exchange.is_empty() { publish.routing_key } else { publish.exchange };
                String::from_utf8_lossy(name).into_owned()
            };
            if sequence < written {
                open += 1;
                only = Some((sequence, name()));
            }
            if kind.as_ref().is_some_and(|kind| kind.is(&publish)) {
                publishes.push((sequence, name()));
            }
        });
        let mut refused = publishes.iter().map(|(sequence, _)| *sequence).filter(|one| *one < written);
        // What was accepted before an exchange was deleted is not told from what was refused afterwards: the
        // last one was refused.
        let is_fixed = kind.is_some_and(|kind| kind.is_fixed());
        if let Some(read) = if is_fixed { refused.next() } else { refused.next_back() } {
            return Some(Refused { publishes, read });
        }
        // There is no other one.
        let (read, name) = only.filter(|_| open == 1)?;
        publishes.push((read, name));
        Some(Refused { publishes, read })
    }
}

impl Confirms {
    /// Returns whether the publish has neither a confirm nor a deferred nack.
    pub(super) fn is_open(&self, sequence: u64) -> bool {
        let at = sequence.checked_sub(self.base);
        at.and_then(|at| self.ring.get(at as usize)).is_some_and(|slot| slot.state == ConfirmState::Open)
    }

    /// One of the publishes below `written` may have made the broker close the channel.
    fn suspect(&mut self, written: u64) {
        for (_, slot) in (self.base..written).zip(&mut self.ring) {
            if slot.state == ConfirmState::Open {
                slot.failures += 1;
            }
        }
    }
}
