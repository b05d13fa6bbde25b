//! What a channel has done, and all channels of a connection together: counters that only count up.
//!
//! A channel counts under the lock that it takes anyway. [`ConnectionTally`](super::ConnectionTally) adds them up.

use std::{ops::AddAssign, time::Duration};

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
    /// Deliveries that the broker has marked as redelivered: it has delivered them before, here or elsewhere.
    pub redelivered: u64,
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

impl AddAssign for ConnectionCounters {
    fn add_assign(&mut self, other: Self) {
        let Self { channels, reconnects, blocked } = other;
        self.channels += channels;
        self.reconnects += reconnects;
        self.blocked += blocked;
    }
}

impl AddAssign for ChannelCounters {
    fn add_assign(&mut self, other: Self) {
        let Self {
            published,
            confirmed,
            publishes_nacked,
            returned,
            delivered,
            redelivered,
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
        self.redelivered += redelivered;
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
            redelivered: state.redelivered,
            acked: outcomes.acked,
            deliveries_nacked: outcomes.nacked,
            deliveries_rejected: outcomes.rejected,
            requeued: outcomes.requeued,
        }
    }
}
