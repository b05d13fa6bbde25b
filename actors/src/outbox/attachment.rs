//! How an outbox goes from one life of its channel to the next, and how it ends.
//!
//! Content is what survives: what was handed over and is not confirmed is written again, in the old order, before what
//! came later. Methods and settles belong to the life in which they were written.

use std::{collections::HashMap, sync::Arc};

use actix::Recipient;
use bytes::Bytes;
use tokio::time::Instant;

use super::{Attachment, DeferredEffects, Flush, Outbox, State, over_frame_max, queue::Queue};
use crate::{error::Error, wire::FRAME_OVERHEAD};

/// What is to become of publishes when the connection is lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage<'a> {
    pub(crate) error: &'a Error,
    /// Answer them with the error, and take no more until the connection is back.
    pub(crate) fail: bool,
    /// The broker closed the connection for an error of ours, of which one of them may be the reason.
    pub(crate) suspicious: bool,
}

impl Outbox {
    /// Begins the first life, or with `gate` a later one: publishes wait until [`go_on`](Self::go_on).
    pub(crate) fn attach(&self, epoch: u64, flush: Arc<Recipient<Flush>>, frame_max: u32, gate: bool) {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        if matches!(state.life, Attachment::Closed { .. }) {
            return;
        }
        state.frame_max = frame_max as usize;
        state.scheduled = false;
        // Another broker may have said so, in a life that this channel had no part in.
        if std::mem::take(&mut state.blocked) {
            state.window.wake_front(&mut after.wakers);
        }
        let old = std::mem::replace(&mut state.life, Attachment::Attached { epoch, flush });
        if gate {
            state.hold_back();
        } else {
            state.between = false;
            if !state.queue.is_empty() {
                state.schedule(&self.terms, &mut after);
            }
        }
        drop(state);
        after.run();
        drop(old);
    }

    /// The connection is gone, and another one will come. Tells the new incarnation.
    pub(crate) fn detach(&self, outage: &Outage<'_>) -> u32 {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        if matches!(state.life, Attachment::Closed { .. }) {
            return state.channel_epoch;
        }
        let (handed_over, begun) = state.interrupt(self.terms.confirms, false);
        let old = std::mem::replace(&mut state.life, Attachment::Detached);
        let mut failed = Default::default();
        state.blocked = false;
        if outage.fail {
            state.outage = Some(outage.error.clone());
        }
        // Without confirms, whoever published has been told that it will leave.
        if outage.fail && self.terms.confirms {
            let sent = state.sent;
            state.confirms.fail_all(outage.error, sent, &mut after.wakers);
            failed = (std::mem::take(&mut state.queue), std::mem::take(&mut state.kept));
            state.window.close(&mut after.wakers);
        } else if self.terms.confirms {
            state.confirms.outlive(outage, handed_over, &mut after.wakers);
            let unconfirmed = state.confirms.unconfirmed();
            state.window.set(unconfirmed, 0, &mut after.wakers);
        }
        let channel_epoch = state.channel_epoch;
        drop(state);
        after.run();
        drop((old, begun, failed));
        channel_epoch
    }

    /// The channel was closed, and opens again on the same connection: what it was handed may have arrived, the rest
    /// waits until [`go_on`](Self::go_on). `final_frames` leave first. Tells the new incarnation.
    pub(crate) fn reopen(&self, error: &Error, final_frames: Bytes) -> u32 {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        if matches!(state.life, Attachment::Closed { .. }) {
            return state.channel_epoch;
        }
        let (handed_over, begun) = state.interrupt(self.terms.confirms, true);
        state.confirms.fail_below(error, handed_over, &mut after.wakers);
        if self.terms.confirms {
            let unconfirmed = state.confirms.unconfirmed();
            state.window.set(unconfirmed, 0, &mut after.wakers);
        }
        state.queue.method(final_frames);
        state.scheduled = false;
        state.schedule(&self.terms, &mut after);
        let channel_epoch = state.channel_epoch;
        drop(state);
        after.run();
        drop(begun);
        channel_epoch
    }

    /// The channel is restored: writes again what is not confirmed, then what waited. Queues that have another name now
    /// are addressed by it. Until `patience` ends, nacked publishes are to be sent again.
    pub(crate) fn go_on(&self, renamed: &HashMap<String, String>, patience: Option<Instant>) {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        state.outage = None;
        state.between = false;
        state.patience = patience;
        let Some(held) = state.held.take() else { return };
        let mut kept = Default::default();
        if self.terms.confirms {
            held.keep(&mut state.kept);
            kept = std::mem::take(&mut state.kept);
            let State { queue, confirms, window, frame_max, .. } = &mut *state;
            let mut replayed = Vec::new();
            let mut bytes = 0;
            kept.each(|publish| {
                let len = publish.header.len() + FRAME_OVERHEAD;
                if !confirms.is_open(publish.sequence) {
                } else if len > *frame_max {
                    let error = over_frame_max("the headers", len, *frame_max);
                    confirms.fail(publish.sequence, error, &mut after.wakers);
                } else {
                    replayed.push(publish.sequence);
                    bytes += queue.again(self.terms.channel, *frame_max, &publish, renamed);
                }
            });
            queue.end_batch();
            confirms.restart(replayed, &mut after.wakers);
            window.restart(confirms.unconfirmed(), bytes, &mut after.wakers);
        } else {
            held.keep(&mut kept);
            let State { queue, window, frame_max, .. } = &mut *state;
            let (mut messages, mut bytes) = (0, 0);
            kept.each(|publish| {
                let len = publish.header.len() + FRAME_OVERHEAD;
                if len > *frame_max {
                    let error = over_frame_max("the headers", len, *frame_max);
                    log::warn!("channel {}: an unconfirmed publish is dropped: {error}", self.terms.channel);
                } else {
                    messages += 1;
                    bytes += queue.again(self.terms.channel, *frame_max, &publish, renamed);
                }
            });
            window.restart(messages, bytes, &mut after.wakers);
        }
        if !state.queue.is_empty() {
            state.schedule(&self.terms, &mut after);
        }
        drop(state);
        after.run();
        drop(kept);
    }

    /// Ends it for good: every waiter is answered, and nothing but `final_frames` is taken any more.
    pub(crate) fn close(&self, error: Error, final_frames: Option<Bytes>) {
        self.shut(error, final_frames, false);
    }

    /// Ends it for good: every waiter is answered, and `final_frames` are taken behind what was written before.
    pub(crate) fn close_behind(&self, error: Error, final_frames: Bytes) {
        self.shut(error, Some(final_frames), true);
    }

    /// Appends to the last words.
    pub(crate) fn final_frames(&self, frame: Bytes) {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        state.queue.method(frame);
        state.schedule(&self.terms, &mut after);
        drop(state);
        after.run();
    }

    fn shut(&self, error: Error, final_frames: Option<Bytes>, in_order: bool) {
        let mut after = DeferredEffects::default();
        let mut state = self.lock();
        if matches!(state.life, Attachment::Closed { .. }) {
            return;
        }
        let mut dropped = [Queue::default(), Queue::default()];
        let sent = state.sent.max(state.handed_over());
        // What waits for another life leaves no more, and was not written before the last words either.
        let handed_over = match state.held {
            _ if !in_order || state.between => sent,
            Some(_) => state.held_from,
            None => u64::MAX,
        };
        if in_order {
            let State { queue, settles, .. } = &mut *state;
            queue.settles(self.terms.channel, settles);
        } else {
            dropped[0] = state.queue.abandon();
        }
        let held = state.held.take();
        match final_frames {
            Some(frame) => {
                state.queue.method(frame);
                state.scheduled = false;
                state.schedule(&self.terms, &mut after);
            }
            None => dropped[1] = std::mem::take(&mut state.queue),
        }
        let to = match &state.life {
            Attachment::Attached { epoch, flush } => Some((*epoch, flush.clone())),
            _ => None,
        };
        let old = std::mem::replace(&mut state.life, Attachment::Closed { error: error.clone(), to });
        state.channel_epoch += 1;
        state.settles.reset();
        let kept = std::mem::take(&mut state.kept);
        let tick = state.tick.take();
        state.window.close(&mut after.wakers);
        state.confirms.fail_all(&error, handed_over, &mut after.wakers);
        drop(state);
        after.run();
        drop((old, dropped, held, kept, tick));
    }
}

impl State {
    /// Ends a life: only content is left, and nothing of the old life can be settled. With `going_on`, what is left of
    /// a content that was begun still leaves first. Tells one more than the number of the last publish that this life was
    /// handed, and gives what is to be dropped.
    fn interrupt(&mut self, confirms: bool, going_on: bool) -> (u64, Queue) {
        self.channel_epoch += 1;
        self.settles.reset();
        self.scheduled = false;
        self.patience = None;
        let handed_over = self.handed_over();
        self.sent = self.sent.max(handed_over);
        self.between = true;
        let held = self.held.take();
        let mut rest = self.queue.abandon();
        if confirms {
            self.queue.keep_begun(&mut self.kept);
            rest.keep(&mut self.kept);
            if let Some(held) = held {
                held.keep(&mut self.kept);
            }
            rest = Queue::default();
        } else {
            rest.only_content();
            if let Some(held) = held {
                rest.append(held);
            }
        }
        let begun = if going_on {
            self.held = Some(rest);
            Queue::default()
        } else {
            std::mem::replace(&mut self.queue, rest)
        };
        (handed_over, begun)
    }

    /// One more than the number of the last publish that this life was handed, if it is not confirmed.
    fn handed_over(&self) -> u64 {
        if self.between { 0 } else { self.kept.handed_over() }
    }

    fn hold_back(&mut self) {
        self.held = Some(std::mem::take(&mut self.queue));
    }
}
