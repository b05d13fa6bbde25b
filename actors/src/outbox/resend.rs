//! What is sent again once a channel is recovered, in which order, and which publishes fail instead.
//!
//! Unconfirmed publishes come first, in their old order and divided into frames for the new connection; then
//! those that were queued during the recovery.

use std::{collections::HashMap, task::Waker, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Outbox, OutboxConfig, OutboxState,
    attachment::{Attachment, Outage, PublishMode},
    confirms::{ConfirmState, Confirms, PendingConfirm},
    effects::DeferredEffects,
    forbidden_place::Candidate,
    missing::MissingExchanges,
    outcome_error::Cause,
    publish::{PUBLISH_COST, over_frame_max},
    queue::{COPY_BELOW, Chunk, ChunkEnd, ChunkKind, FrameQueue},
    unconfirmed::{PublishRange, Unconfirmed},
    written_publish::WrittenPublish,
};
use crate::{
    error::Error,
    wire::{
        FRAME_END, FRAME_OVERHEAD, HEAD_LEN, decode_properties, put_body_head, put_encoded_header,
        put_publish,
    },
};

/// How long newer publishes wait for the confirms of those that are sent again. Without them, each close for
/// a newer publish could cost the older ones their confirms once more.
pub(crate) const HELD_BACK_FOR: Duration = Duration::from_secs(1);

impl Outbox {
    /// Writes unconfirmed publishes again, then those that were queued. Routing keys are translated by the
    /// queue names in `renamed`. Publishes to exchanges that are known to be missing fail. Nacks are deferred until `nack_retry_until`.
    /// Returns one more than the last sequence number of these publishes.
    pub(crate) fn finish_recovery(
        &self,
        renamed: &HashMap<String, String>,
        nack_retry_until: Option<Instant>,
    ) -> u64 {
        let channel = self.config.channel;
        let again = Again { channel, renamed, missing: &self.missing, now: Instant::now() };
        let (end, _dropped) = self.with(|state, effects| {
            let dropped = state.finish_recovery(&self.config, again, nack_retry_until, effects);
            (state.confirms.end(), dropped)
        });
        end
    }

    /// Returns whether all publishes below this sequence number have their outcome.
    pub(crate) fn is_resolved_below(&self, end: u64) -> bool {
        self.lock().confirms.base >= end
    }
}

impl OutboxState {
    /// Returns what to drop when the lock is free.
    fn finish_recovery(
        &mut self,
        config: &OutboxConfig,
        again: Again<'_>,
        nack_retry_until: Option<Instant>,
        effects: &mut DeferredEffects,
    ) -> impl Sized + use<> {
        let Attachment::Attached { publishes, .. } = &mut self.attachment else { return None };
        let PublishMode::Recovering { queued, outage, suspected } = publishes else { return None };
        let (queued, outage, suspected) = (std::mem::take(queued), outage.take(), *suspected);
        *publishes = PublishMode::Writing { nack_retry_until };
        let unavailable = self.unavailable.take();
        let sent = if config.confirms {
            queued.keep(&mut self.unconfirmed);
            let unconfirmed = std::mem::take(&mut self.unconfirmed);
            let held_back = self.resend(config.channel, &unconfirmed, again, suspected, effects);
            if self.confirms.base < suspected
                && let Attachment::Attached { publishes, .. } = &mut self.attachment
            {
                let until = Some(Instant::now() + HELD_BACK_FOR);
                let (queued, first) = (held_back, suspected);
                *publishes = PublishMode::Resending { nack_retry_until, queued, first, until };
            } else {
                self.queue.append(held_back);
            }
            unconfirmed
        } else {
            let mut unsent = Unconfirmed::default();
            queued.keep(&mut unsent);
            self.send_queued(config.channel, &unsent, again, effects);
            unsent
        };
        if !self.queue.is_empty() {
            self.request_flush(config.channel, effects);
        }
        Some((sent, outage, unavailable))
    }

    /// Writes unconfirmed publishes that are not late. Returns those from `suspected` on, if there are
    /// earlier ones.
    fn resend(
        &mut self,
        channel: u16,
        unconfirmed: &Unconfirmed,
        again: Again<'_>,
        suspected: u64,
        effects: &mut DeferredEffects,
    ) -> FrameQueue {
        let OutboxState { queue, confirms, window, frame_max, .. } = self;
        let mut held_back = FrameQueue::default();
        let mut resent = Vec::new();
        let mut bytes = 0;
        unconfirmed.for_each(|publish| {
            if !confirms.may_be_resent(publish.sequence) {
                return;
            }
            match again.check(&publish, *frame_max) {
                Ok(()) => {
                    resent.push(publish.sequence);
                    let is_earlier = publish.sequence < suspected || suspected == 0;
                    let queue = if is_earlier { &mut *queue } else { &mut held_back };
                    bytes += queue.publish_again(channel, *frame_max, &publish, again.renamed);
                }
                Err(error) => confirms.fail(publish.sequence, &mut error.into(), &mut effects.wakers),
            }
        });
        queue.end_batch();
        held_back.end_batch();
        confirms.restart(resent, &mut effects.wakers);
        window.restart(confirms.unconfirmed(), bytes, &mut effects.wakers);
        held_back
    }

    /// Publishes that were held back follow once those that were sent again are confirmed, or their time is
    /// over.
    #[inline]
    pub(super) fn release_held_back(
        &mut self,
        channel: u16,
        now: Option<Instant>,
        effects: &mut DeferredEffects,
    ) {
        if let Attachment::Attached { publishes: PublishMode::Resending { .. }, .. } = &self.attachment {
            self.release_if_over(channel, now, effects);
        }
    }

    #[cold]
    fn release_if_over(&mut self, channel: u16, now: Option<Instant>, effects: &mut DeferredEffects) {
        let Attachment::Attached { publishes, .. } = &mut self.attachment else { return };
        let PublishMode::Resending { nack_retry_until, queued, first, until } = publishes else { return };
        let is_late = until.zip(now).is_some_and(|(until, now)| now >= until);
        if self.confirms.deferred > 0 || (self.confirms.base < *first && !is_late) {
            return;
        }
        let (queued, nack_retry_until) = (std::mem::take(queued), *nack_retry_until);
        *publishes = PublishMode::Writing { nack_retry_until };
        self.queue.append(queued);
        self.request_flush(channel, effects);
    }

    /// Writes publishes of a channel without confirms.
    fn send_queued(
        &mut self,
        channel: u16,
        unsent: &Unconfirmed,
        again: Again<'_>,
        effects: &mut DeferredEffects,
    ) {
        let OutboxState { queue, window, frame_max, .. } = self;
        let (mut messages, mut bytes) = (0, 0);
        let (mut dropped, mut first) = (0, None);
        unsent.for_each(|publish| match again.check(&publish, *frame_max) {
            Ok(()) => {
                messages += 1;
                bytes += queue.publish_again(channel, *frame_max, &publish, again.renamed);
            }
            Err(error) => {
                dropped += 1;
                first.get_or_insert(error);
            }
        });
        if let Some(first) = first {
            log::warn!(
                "channel {channel}: {dropped} unconfirmed publishes are dropped, the first one: {first}"
            );
        }
        window.restart(messages, bytes, &mut effects.wakers);
    }
}

impl WrittenPublish<'_> {
    /// Refuses a content header that does not fit a frame of the connection.
    fn check_header(&self, frame_max: usize) -> Result<(), Error> {
        let len = self.header.len() + FRAME_OVERHEAD;
        if len > frame_max { Err(self.name(over_frame_max("the headers", len, frame_max))) } else { Ok(()) }
    }
}

/// What decides how a publish is sent again.
#[derive(Clone, Copy)]
struct Again<'a> {
    channel: u16,
    /// The new names of queues.
    renamed: &'a HashMap<String, String>,
    missing: &'a MissingExchanges,
    now: Instant,
}

impl Again<'_> {
    /// Refuses a publish to a missing exchange, or a forbidden one, which would close the channel again, and one whose header is
    /// too large for the connection.
    fn check(&self, publish: &WrittenPublish<'_>, frame_max: usize) -> Result<(), Error> {
        let refusal = if self.missing.is_any() { self.refusal(publish) } else { None };
        refusal.map_or_else(|| publish.check_header(frame_max), Err)
    }

    #[cold]
    fn refusal(&self, publish: &WrittenPublish<'_>) -> Option<Error> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let (exchange, routing_key) = (text(publish.exchange), text(publish.routing_key));
        let (channel, body_len) = (self.channel, publish.body_len());
        let properties = &decode_properties(publish.properties).unwrap_or_default();
        let candidate = Candidate { channel, exchange, routing_key, body_len, properties };
        self.missing.refusal(&candidate, self.now)
    }
}

impl Confirms {
    /// The connection was lost: fails those open publishes below `written` that must not be sent again.
    pub(super) fn connection_lost(&mut self, outage: &Outage<'_>, written: u64, wakers: &mut Vec<Waker>) {
        let given_up = |slot: &mut PendingConfirm| {
            slot.failures += u8::from(outage.hard_error);
            !slot.resend || slot.failures >= 2
        };
        self.fail_open_where(outage.error, written, given_up, wakers);
    }

    pub(super) fn fail_open_where(
        &mut self,
        error: &Error,
        written: u64,
        mut fails: impl FnMut(&mut PendingConfirm) -> bool,
        wakers: &mut Vec<Waker>,
    ) {
        let mut cause = Cause::from(error.clone());
        let mut failed = Vec::new();
        for (sequence, slot) in (self.base..written).zip(&mut self.ring) {
            if slot.state == ConfirmState::Open && fails(slot) {
                failed.push(sequence);
            }
        }
        for sequence in failed {
            self.fail(sequence, &mut cause, wakers);
        }
        self.advance(wakers);
    }

    /// Returns whether a publish is neither resolved nor late.
    fn may_be_resent(&self, sequence: u64) -> bool {
        let at = sequence.checked_sub(self.base);
        let slot = at.and_then(|at| self.ring.get(at as usize));
        slot.is_some_and(|slot| slot.state != ConfirmState::Resolved && !slot.late)
            && sequence >= self.expired_below
    }

    /// The channel is open again: the broker counts the `resent` publishes from 1. Publishes that are not
    /// resolved and not among them are late; they are resolved.
    fn restart(&mut self, resent: Vec<u64>, wakers: &mut Vec<Waker>) {
        for (sequence, slot) in (self.base..).zip(&mut self.ring) {
            if slot.state == ConfirmState::NackDeferred {
                slot.state = ConfirmState::Open;
                // A late one is not sent again: its nack was its answer.
                self.answers.nacked += u64::from(slot.late || sequence < self.expired_below);
            }
        }
        self.deferred = 0;
        let mut again = resent.iter().copied().peekable();
        let late: Vec<(u64, bool)> = (self.base..)
            .zip(&self.ring)
            .filter(|(sequence, slot)| {
                again.next_if_eq(sequence).is_none() && slot.state != ConfirmState::Resolved
            })
            .map(|(sequence, slot)| (sequence, slot.late || sequence < self.expired_below))
            .collect();
        for (sequence, is_reported) in late {
            if !is_reported {
                self.fail(sequence, &mut Error::timeout("not sent again").into(), wakers);
            } else if let Some(slot) = self.slot(sequence) {
                // The caller has its timeout already.
                slot.state = ConfirmState::Resolved;
                self.resolved += 1;
            }
        }
        self.tags.restart(resent, self.end());
        self.withdrawn.clear();
        self.returns.clear();
        self.advance(wakers);
    }
}

impl FrameQueue {
    /// Writes a publish again, in frames of at most `frame_max`; returns what it costs in the window.
    pub(super) fn publish_again(
        &mut self,
        channel: u16,
        frame_max: usize,
        publish: &WrittenPublish<'_>,
        renamed: &HashMap<String, String>,
    ) -> usize {
        let payload_max = frame_max - FRAME_OVERHEAD;
        let len = publish.body_len();
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let (exchange, routing_key) = (text(publish.exchange), text(publish.routing_key));
        let new_name = if exchange.is_empty() { renamed.get(routing_key) } else { None };
        let routing_key = new_name.map_or(routing_key, String::as_str);
        // The sequence numbers of a batch are consecutive.
        if self.open.messages > 0 && self.open.last + 1 != publish.sequence {
            self.close_chunk(ChunkKind::Content);
        }
        let copied = len < COPY_BELOW && len <= payload_max;
        let head = FRAME_OVERHEAD * 3 + 9 + exchange.len() + routing_key.len() + publish.header.len();
        self.reserve(if copied { head + len } else { head });
        put_publish(&mut self.tail, channel, exchange, routing_key, publish.mandatory);
        put_encoded_header(&mut self.tail, channel, publish.header);
        let cost = exchange.len() + routing_key.len() + len + PUBLISH_COST;
        self.open.add(publish.sequence, cost);
        if len > 0 && copied {
            put_body_head(&mut self.tail, channel, len as u32);
            publish.body().for_each(|part| self.tail.extend_from_slice(&part));
            self.tail.extend_from_slice(&[FRAME_END]);
        } else if len > 0 {
            self.chain_again(channel, payload_max, publish);
        }
        self.close_full_chunk();
        cost
    }

    /// Ends the current batch: the next publish may have any sequence number.
    fn end_batch(&mut self) {
        self.close_chunk(ChunkKind::Content);
    }

    fn chain_again(&mut self, channel: u16, payload_max: usize, publish: &WrittenPublish<'_>) {
        let rest = PublishRange::rest_of(publish.sequence);
        let chunk = |bytes, end| Chunk { bytes, kind: ChunkKind::Content, range: rest, end };
        let mut left = publish.body_len();
        let mut parts = publish.body();
        let mut part = Bytes::new();
        while left > 0 {
            let mut frame = left.min(payload_max);
            left -= frame;
            self.reserve(HEAD_LEN);
            put_body_head(&mut self.tail, channel, frame as u32);
            self.close_chunk_at(ChunkKind::Content, ChunkEnd::InFrame);
            while frame > 0 {
                if part.is_empty() {
                    let Some(next) = parts.next() else { break };
                    part = next;
                    continue;
                }
                let piece = part.split_to(part.len().min(frame));
                frame -= piece.len();
                self.chunks.push_back(chunk(piece, ChunkEnd::InFrame));
            }
            let end = if left > 0 { ChunkEnd::Frame } else { ChunkEnd::Content };
            self.chunks.push_back(chunk(Bytes::from_static(&[FRAME_END]), end));
            self.open = rest;
        }
        self.open = PublishRange::default();
    }
}
