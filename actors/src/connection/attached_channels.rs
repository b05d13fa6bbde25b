//! The channels of a connection by number: where their frames go, and which of them have bytes to write.

use std::{collections::VecDeque, sync::Arc};

use actix::Recipient;
use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    internal::ChannelMessage,
    log_schedule::LogSchedule,
    outbox::{Outbox, WaitingAnswers},
    wire::{Fault, FrameBatch},
};

#[derive(Debug, Default)]
pub(super) struct AttachedChannels {
    /// By channel number.
    entries: Vec<Entry>,
    /// The numbers of channels with bytes to write, in turn.
    ready: VecDeque<u16>,
    /// Frames for channels that have ended.
    late_frames: LogSchedule,
}

#[derive(Debug, Default)]
enum Entry {
    #[default]
    NeverOpened,
    Attached(AttachedChannel),
    /// The channel has ended. The broker may still send frames for it.
    Detached,
}

#[derive(Debug)]
struct AttachedChannel {
    recipient: Recipient<ChannelMessage>,
    outbox: Arc<Outbox>,
    /// Whether its number is in `ready`.
    is_ready: bool,
}

impl AttachedChannels {
    pub(super) fn attach(&mut self, channel: u16, recipient: Recipient<ChannelMessage>, outbox: Arc<Outbox>) {
        let index = usize::from(channel);
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, Entry::default);
        }
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Entry::Attached(AttachedChannel { recipient, outbox, is_ready: false });
        }
    }

    /// Removes a channel and returns its outbox.
    pub(super) fn detach(&mut self, channel: u16) -> Option<Arc<Outbox>> {
        let entry = self.entries.get_mut(usize::from(channel))?;
        match std::mem::replace(entry, Entry::Detached) {
            Entry::Attached(attached) => Some(attached.outbox),
            other => {
                *entry = other;
                None
            }
        }
    }

    /// Sends a batch of frames to its channel.
    pub(super) fn deliver(
        &mut self,
        epoch: u64,
        batch: FrameBatch,
        now: impl FnOnce() -> Instant,
    ) -> Result<(), Fault> {
        match self.entries.get(usize::from(batch.channel)) {
            Some(Entry::Attached(attached)) => {
                attached.recipient.do_send(ChannelMessage::Frames { epoch, batch });
                Ok(())
            }
            Some(Entry::Detached) => {
                if let Some(so_far) = self.late_frames.count(now()) {
                    let FrameBatch { channel, frames, .. } = batch;
                    log::trace!("channel {channel}: dropped {frames} frames after its end{so_far}");
                }
                Ok(())
            }
            _ => Err(Fault::channel(format!("channel {} is not open", batch.channel))),
        }
    }

    /// Has a channel cancel one of its consumers.
    pub(super) fn cancel_slow_consumer(&self, channel: u16, consumer: u32) {
        if let Some(Entry::Attached(attached)) = self.entries.get(usize::from(channel)) {
            attached.recipient.do_send(ChannelMessage::CancelSlowConsumer { consumer });
        }
    }

    /// Has a channel reduce the prefetch of one of its consumers.
    pub(super) fn reduce_prefetch(&self, channel: u16) {
        if let Some(Entry::Attached(attached)) = self.entries.get(usize::from(channel)) {
            attached.recipient.do_send(ChannelMessage::ReducePrefetch);
        }
    }

    /// Has a channel give a prefetch to one of its consumers.
    pub(super) fn limit_prefetch(&self, channel: u16, consumer: u32) {
        if let Some(Entry::Attached(attached)) = self.entries.get(usize::from(channel)) {
            attached.recipient.do_send(ChannelMessage::LimitPrefetch { consumer });
        }
    }

    /// Returns whether a publish has no confirm.
    pub(super) fn awaits_confirm(&self) -> bool {
        let is_awaited = |attached: &AttachedChannel| attached.outbox.load().unconfirmed > 0;
        self.entries.iter().any(|entry| matches!(entry, Entry::Attached(attached) if is_awaited(attached)))
    }

    /// Marks a channel as having bytes to write.
    pub(super) fn mark_ready(&mut self, channel: u16) {
        if let Some(Entry::Attached(attached)) = self.entries.get_mut(usize::from(channel))
            && !std::mem::replace(&mut attached.is_ready, true)
        {
            self.ready.push_back(channel);
        }
    }

    /// Returns the memory of the answers to the peer that wait in channels.
    pub(super) fn waiting_answers(&self) -> WaitingAnswers {
        let entry = |channel: &u16| self.entries.get(usize::from(*channel));
        let mut waiting = WaitingAnswers::default();
        for entry in self.ready.iter().filter_map(entry) {
            if let Entry::Attached(attached) = entry {
                waiting += attached.outbox.waiting_answers();
            }
        }
        waiting
    }

    pub(super) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes about `budget` bytes from the next ready channel; a channel that has more queues up again.
    /// Returns whether there was a ready channel.
    pub(super) fn take_next(&mut self, epoch: u64, budget: usize, out: &mut Vec<Bytes>) -> bool {
        let Some(channel) = self.ready.pop_front() else { return false };
        if let Some(Entry::Attached(attached)) = self.entries.get_mut(usize::from(channel)) {
            attached.is_ready = attached.outbox.take(epoch, budget, out);
            if attached.is_ready {
                self.ready.push_back(channel);
            }
        }
        true
    }
}
