//! What happens on a nack: the publish fails, except soon after the connection came back.
//!
//! Queues may have no leader yet then, and a broker nacks what it cannot store. For a few seconds such nacks
//! are deferred: the channel is closed and reopened, after a pause that grows, which resends what was nacked.
//! Only a channel without consumers and unsettled deliveries does so, because a reopened channel loses them.

use std::time::Duration;

use tokio::time::Instant;

use super::{ChannelMachine, output::Output};
use crate::error::Error;

/// How long after the connection came back nacks are deferred.
const WINDOW: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// When nacked publishes are resent.
#[derive(Debug, Default)]
pub(super) struct NackRetry {
    /// The end of the retry window, if there is one.
    until: Option<Instant>,
    deferred: Deferred,
    retries: u32,
}

/// Nacks that were not reported.
#[derive(Debug, Default, PartialEq, Eq)]
enum Deferred {
    #[default]
    None,
    Some,
    /// There are some, and a retry is scheduled.
    Scheduled,
}

/// What a retry does.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The nacked publishes fail.
    Fail,
    Resend,
    /// Other publishes are unconfirmed: try again later.
    Wait,
}

impl NackRetry {
    /// Begins the retry window: the connection is back.
    pub(super) fn begin(&mut self, now: Instant, allowed: bool) {
        *self = Self { until: allowed.then(|| now + WINDOW), ..Self::default() };
    }

    /// The channel is open again; returns until when it defers nacks.
    pub(super) fn reopened(&mut self, now: Instant, only_publishes: bool) -> Option<Instant> {
        self.deferred = Deferred::None;
        self.until.filter(|&until| now < until && only_publishes)
    }

    /// The outbox has deferred a nack.
    pub(super) fn defer(&mut self) {
        if self.deferred == Deferred::None {
            self.deferred = Deferred::Some;
        }
    }

    /// Returns whether a retry is to be scheduled.
    #[inline]
    fn is_due(&self) -> bool {
        self.deferred == Deferred::Some
    }

    /// Schedules a retry; returns after which pause.
    fn schedule(&mut self) -> Duration {
        self.deferred = Deferred::Scheduled;
        LAST_PAUSE.min(FIRST_PAUSE * (self.retries + 1))
    }

    /// Decides what a retry does. `quiet` is whether only nacked publishes are unconfirmed.
    fn retry(&mut self, now: Instant, only_publishes: bool, quiet: bool) -> Step {
        self.deferred = Deferred::Some;
        if !only_publishes || self.until.is_none_or(|until| now >= until) {
            self.deferred = Deferred::None;
            return Step::Fail;
        }
        if !quiet {
            return Step::Wait;
        }
        self.retries += 1;
        Step::Resend
    }
}

impl ChannelMachine {
    /// Returns whether the channel only publishes, so that reopening it loses nothing.
    pub(super) fn only_publishes(&self) -> bool {
        self.consumers.is_empty() && self.outbox.load().unsettled == 0 && !self.drain_requested
    }

    /// Schedules a retry where nacks were deferred.
    #[inline]
    pub(super) fn schedule_nack_retry(&mut self) {
        if self.nacks.is_due() && self.state.is_open() {
            let (channel_epoch, after) = (self.channel_epoch, self.nacks.schedule());
            self.outputs.push(Output::RetryNacks { channel_epoch, after });
        }
    }

    /// Resends nacked publishes by reopening the channel, or lets them fail.
    pub(super) fn retry_nacks(&mut self, channel_epoch: u32, now: Instant) {
        if channel_epoch != self.channel_epoch || !self.state.is_open() {
            return;
        }
        let quiet = self.replies.is_empty() && self.outbox.awaits_only_deferred_nacks();
        match self.nacks.retry(now, self.only_publishes(), quiet) {
            Step::Fail => {
                self.outbox.end_nack_retry();
                self.continue_closing(now);
            }
            Step::Wait => self.schedule_nack_retry(),
            Step::Resend => {
                let error = Error::channel_closed(
                    "opened again: the broker took no publishes when the connection was back",
                    None,
                );
                log::info!("channel {}: {error}", self.number());
                self.close_and_reopen(200, "publishes were not taken", error, now);
                self.outputs.request_tick();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(now: Instant) -> NackRetry {
        let mut nacks = NackRetry::default();
        nacks.begin(now, true);
        assert_eq!(nacks.reopened(now, true), Some(now + WINDOW));
        nacks
    }

    #[test]
    fn nacks_are_deferred_within_the_window_on_channels_that_only_publish() {
        let now = Instant::now();
        let mut nacks = begun(now);
        assert_eq!(nacks.reopened(now, false), None, "it consumes");
        assert_eq!(nacks.reopened(now + WINDOW, true), None, "too late");
        nacks.begin(now, false);
        assert_eq!(nacks.reopened(now, true), None, "publishes fail during an outage");
        assert_eq!(NackRetry::default().reopened(now, true), None, "never reconnected");
    }

    #[test]
    fn one_retry_is_scheduled_for_many_nacks() {
        let mut nacks = begun(Instant::now());
        assert!(!nacks.is_due());
        nacks.defer();
        assert!(nacks.is_due());
        nacks.schedule();
        nacks.defer();
        assert!(!nacks.is_due());
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let now = Instant::now();
        let mut nacks = begun(now);
        let pauses: Vec<u128> = (0..6)
            .map(|_| {
                let pause = nacks.schedule().as_millis();
                assert_eq!(nacks.retry(now, true, true), Step::Resend);
                pause
            })
            .collect();
        assert_eq!(pauses, [100, 200, 300, 400, 500, 500]);
    }

    #[test]
    fn a_retry_waits_for_other_publishes_and_ends_with_the_window() {
        let now = Instant::now();
        let mut nacks = begun(now);
        nacks.defer();
        nacks.schedule();
        assert_eq!(nacks.retry(now, true, false), Step::Wait);
        assert!(nacks.is_due(), "it is scheduled again");
        nacks.schedule();
        assert_eq!(nacks.retry(now + WINDOW, true, true), Step::Fail);
        assert!(!nacks.is_due());
        assert_eq!(nacks.retry(now, false, true), Step::Fail, "a consumer has started");
    }
}
