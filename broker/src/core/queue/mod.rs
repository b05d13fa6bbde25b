//! Queues: what is in them, in which order it leaves them, and what they drop.
//!
//! A [`Queue`] has no consumers and no clock. It gives a message away as a [`Stored`], which its channel keeps until it is
//! settled, and gets it back if it is not.

mod classic;
mod delays;
mod limits;
mod quorum;
mod roster;
mod stored;
mod stream;
mod stream_filter;
mod stream_reader;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::{classic::ClassicLines, delays::Delays, limits::Load, quorum::QuorumLines, stream::Retention};
pub(crate) use self::{
    roster::{Roster, Succession, Turns},
    stored::{Dead, HandOut, Pushed, Reason, Return, Stored},
    stream::{OffsetSpec, StreamLog},
    stream_filter::StreamFilter,
    stream_reader::StreamReader,
};
use super::{DeadLetterCounts, Message, Overflow, QueueKind, QueueSettings, Time};

/// A queue of any kind.
#[derive(Debug)]
pub(crate) struct Queue {
    settings: QueueSettings,
    lines: Lines,
    /// The place of the next message.
    next_place: u64,
    unacked: usize,
    delays: Delays,
    load: Load,
}

/// The ready messages.
#[derive(Debug)]
enum Lines {
    Classic(ClassicLines),
    Quorum(QuorumLines),
    Stream(StreamLog),
}

impl Queue {
    /// Creates an empty queue.
    pub(crate) fn new(settings: QueueSettings) -> Self {
        let lines = match settings.kind {
            QueueKind::Classic { max_priority } => Lines::Classic(ClassicLines::new(max_priority)),
            QueueKind::Quorum { .. } => {
                Lines::Quorum(QuorumLines::new(settings.line.rules().quorum_priorities))
            }
            QueueKind::Stream { max_age, segment_bytes } => {
                let retention = Retention { max_age, max_bytes: settings.max_bytes, segment_bytes };
                Lines::Stream(StreamLog::new(retention))
            }
        };
        Self { settings, lines, next_place: 0, unacked: 0, delays: Delays::default(), load: Load::default() }
    }

    pub(crate) fn settings(&self) -> &QueueSettings {
        &self.settings
    }

    /// Replaces the settings, as a policy does. The kind stays. Messages that are there keep their deadlines.
    pub(crate) fn change_settings(&mut self, now: Time, settings: QueueSettings, dead: &mut Vec<Dead>) {
        self.settings = settings;
        if let (Lines::Stream(log), QueueKind::Stream { max_age, segment_bytes }) =
            (&mut self.lines, &self.settings.kind)
        {
            let (max_age, segment_bytes) = (*max_age, *segment_bytes);
            log.set_retention(Retention { max_age, max_bytes: self.settings.max_bytes, segment_bytes });
        }
        // What it drops may lay a message bare that has expired.
        if self.change_limits(dead) {
            self.expire(now, dead);
        }
    }

    /// Appends a message. That may drop others, or itself.
    pub(crate) fn push(&mut self, now: Time, message: Arc<Message>, dead: &mut Vec<Dead>) -> Pushed {
        if let Lines::Stream(log) = &mut self.lines {
            log.push(now, Arc::new(message.in_stream(self.settings.line.rules())));
            return Pushed::Kept;
        }
        if self.refuses_another(&message) {
            if self.settings.overflow == Overflow::RejectPublishDeadLetter {
                let stored = self.stored(now, message);
                dead.push(Dead { stored, reason: Reason::MaxLength });
            }
            return Pushed::Refused;
        }
        let stored = self.stored(now, message);
        let may_expire = stored.expires_at.is_some();
        self.add_ready(&stored.message);
        match &mut self.lines {
            Lines::Classic(lines) => lines.push(stored),
            Lines::Quorum(lines) => lines.push(stored),
            Lines::Stream(_) => {}
        }
        let dropped = self.enforce_limits(dead);
        if dropped || (may_expire && self.ready() == 1) {
            self.expire(now, dead);
        }
        Pushed::Kept
    }

    /// Hands out a message that goes straight to a consumer: it does not expire, and drops no other. It may be refused,
    /// see [`Queue::refuses_another`].
    #[inline]
    pub(crate) fn pass(&mut self, now: Time, message: Arc<Message>) -> Stored {
        self.unacked += 1;
        if let Lines::Quorum(lines) = &mut self.lines {
            lines.pass();
        }
        let mut stored = self.stored(now, message);
        // A classic queue looks at what failed before only when it keeps the message.
        stored.redelivered &= !matches!(self.lines, Lines::Classic(_));
        stored
    }

    /// Takes the next message, after dropping those at the head that have expired.
    #[inline]
    pub(crate) fn take(&mut self, now: Time, dead: &mut Vec<Dead>) -> Option<Stored> {
        self.expire(now, dead);
        let stored = self.pop()?;
        self.unacked += 1;
        Some(stored)
    }

    /// Forgets a message that was handed out: it was acked, or rejected without coming back.
    #[inline]
    pub(crate) fn settle(&mut self, _stored: &Stored) {
        self.unacked = self.unacked.saturating_sub(1);
    }

    /// Takes messages back that were handed out, in the order of their tags.
    pub(crate) fn requeue(
        &mut self,
        now: Time,
        returned: impl IntoIterator<Item = Stored>,
        why: Return,
        dead: &mut Vec<Dead>,
    ) {
        for mut stored in returned {
            self.unacked = self.unacked.saturating_sub(1);
            stored.redelivered = true;
            let rules = self.settings.line.rules();
            let QueueKind::Quorum { delivery_limit } = self.settings.kind else {
                stored.delivery_count += u32::from(rules.acquired_count && why.is_failure());
                self.add_ready(&stored.message);
                if let Lines::Classic(lines) = &mut self.lines {
                    lines.put_back(stored);
                }
                continue;
            };
            stored.acquired_count += 1;
            stored.losses += u32::from(why.is_loss());
            stored.delivery_count += u32::from(!rules.acquired_count || why.is_failure());
            if delivery_limit.is_some_and(|limit| stored.delivery_count > limit) {
                dead.push(Dead { stored, reason: Reason::DeliveryLimit });
                continue;
            }
            if let Some(millis) = self.delay(&stored, why) {
                self.delay_until(now.after_millis(millis), stored);
                continue;
            }
            self.add_ready(&stored.message);
            if let Lines::Quorum(lines) = &mut self.lines {
                let to_front =
                    rules.quorum_returns_in_front || delivery_limit.is_some() || !why.is_asked_for();
                if to_front { lines.put_back(stored) } else { lines.push(stored) }
            }
        }
        // A quorum queue looks at its limits when consumers have taken what they can.
        if matches!(self.lines, Lines::Classic(_)) {
            self.enforce_limits(dead);
        }
        self.expire(now, dead);
    }

    /// Ends a round of deliveries.
    #[inline]
    pub(crate) fn end_round(&mut self, now: Time, dead: &mut Vec<Dead>) {
        if matches!(self.lines, Lines::Quorum(_)) && self.enforce_limits(dead) {
            self.expire(now, dead);
        }
    }

    /// Drops the messages at the head that have expired. Those behind one that has not stay. Of strict priorities, each
    /// has a head.
    #[inline]
    pub(crate) fn expire(&mut self, now: Time, dead: &mut Vec<Dead>) {
        while self.front().is_some_and(|front| front.is_expired(now)) {
            let expired = self.pop().map(|stored| Dead { stored, reason: Reason::Expired });
            dead.extend(expired);
        }
        while let Lines::Quorum(lines) = &mut self.lines
            && let Some(stored) = lines.pop_expired(now)
        {
            self.remove_ready(&stored.message);
            dead.push(Dead { stored, reason: Reason::Expired });
        }
    }

    /// Returns when the message at the head expires. A stream drops messages only when others are published.
    fn next_expiry(&self) -> Option<Time> {
        match &self.lines {
            Lines::Quorum(lines) => lines.next_expiry(),
            _ => self.front()?.expires_at,
        }
    }

    /// Returns when the message at the head expires, or a delayed one comes back.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.next_expiry().into_iter().chain(self.delays.next()).min()
    }

    /// Removes the ready messages, and returns how many there were.
    pub(crate) fn purge(&mut self) -> usize {
        let ready = self.ready();
        while self.pop().is_some() {}
        if let Lines::Quorum(lines) = &mut self.lines {
            lines.begin_anew();
        }
        ready
    }

    /// Returns the number of ready messages: of a stream, 0.
    #[inline]
    pub(crate) fn ready(&self) -> usize {
        match &self.lines {
            Lines::Classic(lines) => lines.len(),
            Lines::Quorum(lines) => lines.len(),
            Lines::Stream(_) => 0,
        }
    }

    /// Returns the number of messages that are handed out.
    pub(crate) fn unacked(&self) -> usize {
        self.unacked
    }

    /// Returns the ready messages in the order of delivery, or all messages of a stream.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = &Stored> + '_> {
        match &self.lines {
            Lines::Classic(lines) => Box::new(lines.iter()),
            Lines::Quorum(lines) => Box::new(lines.iter()),
            Lines::Stream(log) => Box::new(log.iter()),
        }
    }

    /// Restarts the node. What was handed out has come back already. A classic queue loses what is not persistent, and
    /// deadlines start anew.
    pub(crate) fn restart(&mut self, now: Time, keep_transient: bool) {
        if let Lines::Stream(log) = &mut self.lines {
            return log.end_chunk();
        }
        let mut kept = Vec::with_capacity(self.ready());
        kept.extend(std::iter::from_fn(|| self.pop()));
        kept.sort_by_key(|stored| stored.place);
        let is_classic = matches!(self.lines, Lines::Classic(_));
        for mut stored in kept {
            if is_classic && !keep_transient && !stored.message.is_persistent() {
                continue;
            }
            stored.expires_at = self.deadline(now, &stored.message);
            self.add_ready(&stored.message);
            match &mut self.lines {
                Lines::Classic(lines) => lines.push(stored),
                Lines::Quorum(lines) if stored.acquired_count > 0 => lines.put_back(stored),
                Lines::Quorum(lines) => lines.push(stored),
                Lines::Stream(_) => {}
            }
        }
    }

    /// Returns the messages of a stream.
    pub(crate) fn stream(&self) -> Option<&StreamLog> {
        if let Lines::Stream(log) = &self.lines { Some(log) } else { None }
    }

    fn front(&self) -> Option<&Stored> {
        match &self.lines {
            Lines::Classic(lines) => lines.front(),
            Lines::Quorum(lines) => lines.front(),
            Lines::Stream(_) => None,
        }
    }

    fn pop(&mut self) -> Option<Stored> {
        let stored = match &mut self.lines {
            Lines::Classic(lines) => lines.pop(),
            Lines::Quorum(lines) => lines.pop(),
            Lines::Stream(_) => None,
        }?;
        self.remove_ready(&stored.message);
        Some(stored)
    }

    fn stored(&mut self, now: Time, message: Arc<Message>) -> Stored {
        let place = self.next_place;
        self.next_place += 1;
        let expires_at = self.deadline(now, &message);
        let (mut delivery_count, mut redelivered) = (0, false);
        if message.failures > 0 {
            let goes_on = self.settings.line.rules().dead_letter_counts == DeadLetterCounts::Failures;
            delivery_count = if goes_on { message.failures } else { 0 };
            redelivered = goes_on || matches!(self.lines, Lines::Quorum(_));
        }
        let losses = message.failures;
        Stored {
            message,
            place,
            expires_at,
            arrived: now,
            delivery_count,
            losses,
            acquired_count: 0,
            redelivered,
        }
    }

    /// The smaller one of the queue's time and the message's.
    fn deadline(&self, now: Time, message: &Message) -> Option<Time> {
        let millis = match (self.settings.message_ttl, message.expiration()) {
            (Some(queue), Some(message)) => queue.min(message),
            (queue, message) => queue.or(message)?,
        };
        Some(now.after_millis(millis))
    }
}
