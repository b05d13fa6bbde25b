//! What a channel has done, and all channels of a connection together: counters that only count up.
//!
//! A channel counts under the lock that it takes anyway. [`ConnectionTally`] has the channels that are open,
//! and the sum of those that are closed.

use std::{
    fmt,
    ops::AddAssign,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::Outbox;
use crate::message::Outcome;

/// Counts what a channel has done since it was opened, for metrics. The counters only count up.
///
/// With confirms, what is left of `published` after `confirmed`, `publishes_nacked` and `returned` is
/// [unconfirmed](crate::Load::unconfirmed), or has failed without an answer of the broker.
///
/// **Over a reconnect**: they continue. A publish that is resent is not counted again; a message that the
/// broker delivers again is. What the broker takes back by itself, because the connection is lost or for
/// `basic.recover`, is in none of the counters of settled deliveries.
///
/// Source: <https://www.rabbitmq.com/docs/monitoring>
///
/// # Examples
/// ```
/// # use actix_pika_actors::ChannelCounters;
/// fn print(counters: &ChannelCounters) {
///     println!("{} of {} publishes are confirmed", counters.confirmed, counters.published);
/// }
/// print(&ChannelCounters::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelCounters {
    /// Publishes that had room in the publish window, each once: also one that is resent, and one that is never
    /// written because its deadline passes first. Those that fail before, for example with `Limit`, are not counted.
    pub published: u64,
    /// Publishes that the broker has confirmed (`basic.ack`) and not returned; also after their deadline.
    pub confirmed: u64,
    /// Publishes that the broker has nacked (`basic.nack`). One that is resent for that is counted when it is
    /// nacked for good.
    pub publishes_nacked: u64,
    /// Mandatory publishes that the broker has returned as unroutable (`basic.return`), counted with their confirm;
    /// on a channel without confirms, when they come back.
    pub returned: u64,
    /// Deliveries that the broker has sent, also in reply to `basic.get` and to consumers with `no_ack`.
    pub delivered: u64,
    /// Deliveries that were acked, counted when the application acks them. One ack of several counts all of them.
    pub acked: u64,
    /// Deliveries that were settled with `basic.nack`: by the application, or by the library for what the
    /// application has not begun.
    pub deliveries_nacked: u64,
    /// Deliveries that were settled with `basic.reject`: by the application, or because they were dropped unsettled.
    pub deliveries_rejected: u64,
    /// Deliveries that went back to their queue: those that were nacked or rejected with `requeue`, and those
    /// whose settlement a transaction has rolled back.
    pub requeued: u64,
}

/// Counts what a connection has done since it was made, for metrics. The counters only count up.
///
/// **Over a reconnect**: they continue.
///
/// Source: <https://www.rabbitmq.com/docs/monitoring>
///
/// # Examples
/// ```
/// # use actix_pika_actors::ConnectionCounters;
/// fn print(counters: &ConnectionCounters) {
///     println!("{} publishes, {} reconnects", counters.channels.published, counters.reconnects);
/// }
/// print(&ConnectionCounters::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionCounters {
    /// The sum of all channels that the application has opened, closed ones included.
    pub channels: ChannelCounters,
    /// How often the connection was open again after it was lost, whether its recovery was completed or not.
    pub reconnects: u64,
    /// How long the broker has blocked publishing in total: from each `connection.blocked` to
    /// `connection.unblocked`, the end of that socket, or now.
    pub blocked: Duration,
}

impl AddAssign for ChannelCounters {
    fn add_assign(&mut self, other: Self) {
        let Self {
            published,
            confirmed,
            publishes_nacked,
            returned,
            delivered,
            acked,
            deliveries_nacked,
            deliveries_rejected,
            requeued,
        } = other;
        self.published += published;
        self.confirmed += confirmed;
        self.publishes_nacked += publishes_nacked;
        self.returned += returned;
        self.delivered += delivered;
        self.acked += acked;
        self.deliveries_nacked += deliveries_nacked;
        self.deliveries_rejected += deliveries_rejected;
        self.requeued += requeued;
    }
}

/// The answers of the broker to publishes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerCounts {
    /// Those that were returned, too.
    pub(super) acked: u64,
    pub(super) nacked: u64,
    pub(super) returned: u64,
}

/// The outcomes of deliveries.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OutcomeCounts {
    pub(super) acked: u64,
    pub(super) nacked: u64,
    pub(super) rejected: u64,
    pub(super) requeued: u64,
}

impl OutcomeCounts {
    #[inline]
    pub(super) fn refused(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Nack { requeue } => {
                self.nacked += 1;
                self.requeued += u64::from(requeue);
            }
            Outcome::Reject { requeue } => {
                self.rejected += 1;
                self.requeued += u64::from(requeue);
            }
            Outcome::Ack
            | Outcome::AckAll
            | Outcome::NackAll { .. }
            | Outcome::NotBegun
            | Outcome::Failed => {}
        }
    }
}

impl Outbox {
    /// Returns what the channel has done so far. It can be called at any time, from any thread.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika_actors::OpenedChannel) {
    /// println!("{} publishes", channel.outbox.counters().published);
    /// # }
    /// ```
    pub fn counters(&self) -> ChannelCounters {
        let state = self.lock();
        let (answers, outcomes) = (state.confirms.answers, state.acks.outcomes);
        ChannelCounters {
            // Without confirms, no sequence number is given.
            published: state.confirms.end() - 1 + state.published,
            confirmed: answers.acked.saturating_sub(if self.config.confirms { answers.returned } else { 0 }),
            publishes_nacked: answers.nacked,
            returned: answers.returned,
            delivered: state.delivered,
            acked: outcomes.acked,
            deliveries_nacked: outcomes.nacked,
            deliveries_rejected: outcomes.rejected,
            requeued: outcomes.requeued,
        }
    }
}

/// The counters of a connection, shared by its handles, its supervisor and its channels.
#[derive(Default)]
pub struct ConnectionTally(Mutex<Tally>);

#[derive(Default)]
struct Tally {
    open: Vec<Weak<Outbox>>,
    /// The sum of the channels that are closed.
    closed: ChannelCounters,
    reconnects: u64,
    blocked: Duration,
    blocked_since: Option<Instant>,
}

impl ConnectionTally {
    /// Returns the counters at `now`.
    pub fn counters(&self, now: Instant) -> ConnectionCounters {
        let tally = self.lock();
        let mut channels = tally.closed;
        // Dropped when the lock is free.
        let open: Vec<Arc<Outbox>> = tally.open.iter().filter_map(Weak::upgrade).collect();
        for outbox in &open {
            channels += outbox.counters();
        }
        let present =
            tally.blocked_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let (reconnects, blocked) = (tally.reconnects, tally.blocked + present);
        drop(tally);
        ConnectionCounters { channels, reconnects, blocked }
    }

    /// Adds a channel.
    pub(crate) fn add(&self, outbox: &Arc<Outbox>) {
        let mut tally = self.lock();
        tally.open.retain(|open| open.strong_count() > 0);
        tally.open.push(Arc::downgrade(outbox));
    }

    /// A channel is closed: its counters do not change any more.
    pub(super) fn closed(&self, outbox: &Outbox) {
        let mut tally = self.lock();
        if let Some(at) = tally.open.iter().position(|open| std::ptr::eq(open.as_ptr(), outbox)) {
            tally.open.swap_remove(at);
            tally.closed += outbox.counters();
        }
    }

    /// Notes how often the connection was open again, and whether it is blocked now.
    pub(crate) fn note(&self, reconnects: u64, is_blocked: bool, now: Instant) {
        let mut tally = self.lock();
        tally.reconnects = reconnects;
        match tally.blocked_since {
            None if is_blocked => tally.blocked_since = Some(now),
            Some(since) if !is_blocked => {
                tally.blocked += now.saturating_duration_since(since);
                tally.blocked_since = None;
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ConnectionTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionTally").field("closed", &self.lock().closed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_time_adds_up_and_runs_while_it_is_blocked() {
        let (tally, start, second) = (ConnectionTally::default(), Instant::now(), Duration::from_secs(1));
        tally.note(0, true, start);
        tally.note(0, true, start + second);
        assert_eq!(tally.counters(start + 2 * second).blocked, 2 * second);
        tally.note(1, false, start + 3 * second);
        assert_eq!(tally.counters(start + 9 * second).blocked, 3 * second);
        tally.note(1, true, start + 10 * second);
        let counters = tally.counters(start + 11 * second);
        assert_eq!((counters.blocked, counters.reconnects), (4 * second, 1));
    }
}
