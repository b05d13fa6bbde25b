//! What becomes of publishes when their channel is closed while the connection goes on.
//!
//! One that the broker refused fails with the broker's reason. The others are not at fault: they are sent again
//! when the channel reopens, or fail with an error that is retryable.

use std::task::Waker;

use super::{
    Outbox, OutboxState,
    confirms::{ConfirmState, Confirms},
    outcome_error::Taken,
    refused_publish::{PublishRefusal, RefusedNames, RefusedPublish},
    unconfirmed::Unconfirmed,
    written_publish::WrittenPublish,
};
use crate::{
    error::{CloseReason, Error},
    wire::{Properties, decode_properties},
};

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
    /// Returns what is known of the publish that the broker refused with this reason.
    pub(crate) fn refusal(&self, reason: &CloseReason) -> PublishRefusal {
        let kind = RefusedPublish::of(reason);
        let state = self.lock();
        let (is_taken_out, names) = if self.config.confirms {
            let OutboxState { unconfirmed, confirms, .. } = &*state;
            let refused = unconfirmed.refused(kind.as_ref(), state.written_whole(), confirms);
            let names = kind.as_ref().zip(refused.as_ref()).and_then(|(kind, refused)| {
                let publish = unconfirmed.find(refused.read).filter(|publish| kind.is(publish))?;
                (!kind.is_name_cut() || unconfirmed.is_the_only_one(&publish, kind)).then(|| publish.names())
            });
            (refused.is_some(), names)
        } else {
            // What was written is gone with the channel.
            let cut = kind.as_ref().filter(|kind| kind.is_name_cut());
            let names = cut.and_then(|kind| state.long_names.refused(kind)).cloned();
            let names = names.map(|(exchange, routing_key)| RefusedNames {
                exchange,
                routing_key,
                properties: Properties::new(),
            });
            (true, names)
        };
        let refusal = kind.map(|kind| kind.refusal(reason.code, self.config.channel, names));
        PublishRefusal { is_taken_out, ..refusal.unwrap_or_default() }
    }
}

impl WrittenPublish<'_> {
    fn names(&self) -> RefusedNames {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        RefusedNames {
            exchange: text(self.exchange),
            routing_key: text(self.routing_key),
            properties: decode_properties(self.properties).unwrap_or_default(),
        }
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
            CloseFault::Publish(error) => {
                let kind = error.close_reason().and_then(RefusedPublish::of);
                unconfirmed.refused(kind.as_ref(), written, confirms)
            }
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
    /// Returns whether the text that the broker has cut belongs to no other names.
    fn is_the_only_one(&self, publish: &WrittenPublish<'_>, kind: &RefusedPublish<'_>) -> bool {
        let mut is_only = true;
        self.for_each(|other| {
            let is_same = other.exchange == publish.exchange
                && (kind.is_exchange() || other.routing_key == publish.routing_key);
            is_only &= is_same || !kind.is(&other);
        });
        is_only
    }

    /// Finds the publishes that the broker refused for this reason; `None` if they cannot be told.
    fn refused(
        &self,
        kind: Option<&RefusedPublish<'_>>,
        written: u64,
        confirms: &Confirms,
    ) -> Option<Refused> {
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
            if kind.is_some_and(|kind| kind.is(&publish)) {
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
