//! The limits of a queue: what counts for them, what is dropped, and what is refused.

use super::{Dead, Lines, Queue, Reason, Stored};
use crate::core::{Message, Overflow, QueueKind};

/// What counts for the limits of a queue, beside the number of its ready messages.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// The size of the ready messages.
    ready_bytes: u64,
    /// How many messages are delayed, or died and stay until their dead letters are taken.
    aside: u64,
    aside_bytes: u64,
    /// A quorum queue was too long, and has not become short enough since.
    refuses: bool,
}

impl Queue {
    /// The size of a message that counts for a limit in bytes.
    fn size(&self, message: &Message) -> u64 {
        let counts_properties = matches!(self.settings.kind, QueueKind::Quorum { .. })
            && self.settings.line.rules().quorum_counts_properties;
        let properties = if counts_properties { message.properties.len() } else { 0 };
        (message.body.len() + properties) as u64
    }

    /// Returns the size of the ready messages, as it counts for a limit in bytes.
    pub(crate) fn ready_bytes(&self) -> u64 {
        self.load.ready_bytes
    }

    /// Counts a message that is about to be ready.
    #[inline]
    pub(super) fn add_ready(&mut self, message: &Message) {
        self.load.ready_bytes += self.size(message);
    }

    /// A message is no longer ready.
    #[inline]
    pub(super) fn remove_ready(&mut self, message: &Message) {
        self.load.ready_bytes -= self.size(message);
        self.look_again();
    }

    /// Counts a message that is set aside.
    pub(super) fn add_aside(&mut self, message: &Message) {
        self.load.aside += 1;
        self.load.aside_bytes += self.size(message);
    }

    /// A message is no longer set aside, and has left the queue.
    pub(super) fn remove_aside(&mut self, message: &Message) {
        self.load.aside = self.load.aside.saturating_sub(1);
        self.load.aside_bytes = self.load.aside_bytes.saturating_sub(self.size(message));
        self.look_again();
    }

    /// A message that was set aside is about to be ready: the queue has not become shorter.
    pub(super) fn move_to_ready(&mut self, message: &Message) {
        let size = self.size(message);
        self.load.aside -= 1;
        self.load.aside_bytes -= size;
        self.load.ready_bytes += size;
    }

    /// Counts a dead message that stays until its dead letters are taken.
    pub(crate) fn keep(&mut self, stored: &Stored) {
        self.add_aside(&stored.message);
    }

    /// The dead letters of a message are taken.
    pub(crate) fn release(&mut self, stored: &Stored) {
        self.remove_aside(&stored.message);
    }

    /// The number of messages that count for a limit.
    fn counted(&self) -> u64 {
        self.ready() as u64 + self.load.aside
    }

    /// Whether a queue that rejects publishes takes no other message.
    pub(crate) fn refuses_another(&self, message: &Message) -> bool {
        match (self.settings.overflow, &self.lines) {
            (Overflow::DropHead, _) | (_, Lines::Stream(_)) => false,
            (_, Lines::Classic(_)) => self.is_over(1, self.size(message)),
            // It is told when it is too late: one message over the limit gets in.
            (Overflow::RejectPublish, Lines::Quorum(_)) => self.load.refuses,
            (Overflow::RejectPublishDeadLetter, Lines::Quorum(_)) => false,
        }
    }

    /// Whether it is too long with some messages more.
    fn is_over(&self, more: u64, more_bytes: u64) -> bool {
        let bytes = self.load.ready_bytes + self.load.aside_bytes;
        self.settings.max_length.is_some_and(|max| self.counted() + more > max)
            || self.settings.max_bytes.is_some_and(|max| bytes + more_bytes > max)
    }

    /// Whether a quorum queue takes messages again: with four fifths of its limits or less.
    fn is_short_again(&self) -> bool {
        let below = |max: u64, now: u64| now <= max / 5 * 4 + max % 5 * 4 / 5;
        let bytes = self.load.ready_bytes + self.load.aside_bytes;
        self.settings.max_length.is_none_or(|max| below(max, self.counted()))
            && self.settings.max_bytes.is_none_or(|max| below(max, bytes))
    }

    /// Looks whether a queue that refuses others has become short enough.
    #[inline]
    fn look_again(&mut self) {
        if self.load.refuses {
            self.load.refuses = !self.is_short_again();
        }
    }

    /// The limits are others. Returns whether that drops messages.
    pub(super) fn change_limits(&mut self, dead: &mut Vec<Dead>) -> bool {
        self.load.refuses &= self.settings.overflow == Overflow::RejectPublish;
        self.look_again();
        self.enforce_limits(dead)
    }

    /// Drops messages from the head while there are too many, and returns whether it dropped any.
    pub(super) fn enforce_limits(&mut self, dead: &mut Vec<Dead>) -> bool {
        let mut dropped = false;
        let before = dead.len();
        match (self.settings.overflow, &self.lines) {
            (Overflow::DropHead, _) | (Overflow::RejectPublishDeadLetter, Lines::Quorum(_)) => {
                while self.is_over(0, 0) {
                    let Some(stored) = self.pop() else { break };
                    dead.push(Dead { stored, reason: Reason::MaxLength });
                    dropped = true;
                }
            }
            (Overflow::RejectPublish, Lines::Quorum(_)) => self.load.refuses |= self.is_over(0, 0),
            _ => {}
        }
        if matches!(self.lines, Lines::Quorum(_)) && self.settings.line.rules().quorum_drops_reversed {
            dead[before..].reverse();
        }
        dropped
    }
}
