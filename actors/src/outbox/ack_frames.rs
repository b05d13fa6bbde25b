//! The frames that settle deliveries, in as few as possible.
//!
//! The lowest settled tags are acked by one `basic.ack` with `multiple`, but only up to the first tag, of any
//! consumer or get, that is not settled.

use std::ops::RangeInclusive;

use bytes::BytesMut;

use super::acks::{AckState, Acks};
use crate::{
    message::Outcome,
    wire::{put_ack, put_nack, put_reject},
};

/// The size of a frame with `basic.ack`, `basic.nack` or `basic.reject`.
pub(super) const ACK_LEN: usize = 21;

impl Acks {
    /// Returns an upper bound of the bytes that [`render`](Self::render) writes.
    pub(super) fn rendered_len(&self) -> usize {
        (self.acked.len() + self.refused.len() + 1) * ACK_LEN
    }

    /// Returns how many bytes [`render_returned`](Self::render_returned) writes.
    pub(super) fn returned_len(&self) -> usize {
        self.returned.len() * ACK_LEN
    }

    /// Writes nacks for deliveries without a consumer.
    pub(super) fn render_returned(&mut self, channel: u16, buf: &mut BytesMut) {
        for tag in self.returned.drain(..) {
            remember(&mut self.uncommitted, tag);
            put_nack(buf, channel, tag, false, true);
        }
    }

    /// Writes nacks and rejects, then one ack for the lowest tags, then an ack for each tag behind a gap.
    pub(super) fn render(&mut self, channel: u16, buf: &mut BytesMut) {
        for (tag, outcome) in self.refused.drain(..) {
            remember(&mut self.uncommitted, tag);
            match outcome {
                Outcome::Nack { requeue } => put_nack(buf, channel, tag, false, requeue),
                Outcome::Reject { requeue } => put_reject(buf, channel, tag, requeue),
                Outcome::Ack
                | Outcome::AckAll
                | Outcome::NackAll { .. }
                | Outcome::NotBegun
                | Outcome::Failed => {}
            }
        }
        let (mut count, mut last) = (0, 0);
        if self.stragglers.is_empty() {
            while let Some(entry) = self.ring.front() {
                match entry.state {
                    AckState::Outstanding | AckState::HeldBack => break,
                    AckState::Acked => {
                        (count, last) = (count + 1, self.base);
                        remember(&mut self.uncommitted, last);
                    }
                    AckState::Settled => {}
                }
                self.ring.pop_front();
                self.base += 1;
            }
            if count > 0 {
                put_ack(buf, channel, last, count > 1);
            }
        }
        if count == self.acked.len() {
            self.acked.clear();
            return;
        }
        for tag in std::mem::take(&mut self.acked) {
            if tag < self.base && self.stragglers.remove(&tag).is_none() {
                continue;
            }
            put_ack(buf, channel, tag, false);
            remember(&mut self.uncommitted, tag);
            if let Some(entry) = self.entry(tag) {
                entry.state = AckState::Settled;
            }
        }
    }

    /// Remembers settled tags from now on, for a rollback.
    pub(super) fn begin_transaction(&mut self) {
        self.uncommitted.get_or_insert_default();
    }

    /// Returns the tags that were settled since the last time, lowest first.
    pub(super) fn take_uncommitted(&mut self) -> Vec<RangeInclusive<u64>> {
        let mut tags = self.uncommitted.as_mut().map(std::mem::take).unwrap_or_default();
        tags.sort_unstable_by_key(|tags| *tags.start());
        tags
    }
}

fn remember(uncommitted: &mut Option<Vec<RangeInclusive<u64>>>, tag: u64) {
    if let Some(uncommitted) = uncommitted {
        match uncommitted.last_mut() {
            Some(last) if *last.end() + 1 == tag => *last = *last.start()..=tag,
            _ => uncommitted.push(tag..=tag),
        }
    }
}
