//! The state of one consumer, and every change of it.

use crate::message::ConsumerEnd;

#[derive(Debug)]
pub(in crate::channel) enum ConsumerPhase {
    /// The first `basic.consume` has no reply yet.
    Starting,
    /// The broker delivers to it.
    Active,
    /// It is started again with the channel, or as soon as the channel is open. `repaired` is set where it
    /// was suspended on this connection.
    Restarting { repaired: bool },
    /// The broker has cancelled it. The reply to the client's `basic.cancel` is awaited: some brokers keep
    /// the consumer until then and would not take its tag twice.
    Freeing,
    /// It is cancelled, and starts again with a smaller prefetch once the reply has come.
    Reducing,
    /// It cannot start; the supervisor repairs what it needs.
    Suspended,
    /// It is being cancelled: by the application (`None`), or for this reason.
    Cancelling { end: Option<ConsumerEnd> },
}

impl ConsumerPhase {
    /// The reply to `basic.consume` has come; returns whether the consumer was suspended before.
    pub(in crate::channel) fn consumed(&mut self) -> bool {
        let repaired = matches!(self, Self::Restarting { repaired: true });
        if matches!(self, Self::Starting | Self::Restarting { .. }) {
            *self = Self::Active;
        }
        repaired
    }

    /// It is cancelled here, by the application (`None`) or for a reason. The first reason is kept.
    pub(in crate::channel) fn cancel(&mut self, why: Option<ConsumerEnd>) {
        match self {
            Self::Cancelling { end } => {
                if end.is_none() {
                    *end = why;
                }
            }
            _ => *self = Self::Cancelling { end: why },
        }
    }

    /// The broker has cancelled it; returns whether it can be repaired.
    pub(in crate::channel) fn cancelled_by_broker(&mut self) -> bool {
        let running =
            matches!(self, Self::Starting | Self::Active | Self::Reducing | Self::Restarting { .. });
        if running {
            *self = Self::Freeing;
        }
        running
    }

    /// It is cancelled in order to start again with a smaller prefetch; returns whether it is.
    pub(in crate::channel) fn reduce(&mut self) -> bool {
        let active = matches!(self, Self::Active);
        if active {
            *self = Self::Reducing;
        }
        active
    }

    /// The reply to `basic.cancel` has come; returns whether it starts again now.
    pub(in crate::channel) fn reduced(&mut self) -> bool {
        let reducing = matches!(self, Self::Reducing);
        if reducing {
            *self = Self::Restarting { repaired: false };
        }
        reducing
    }

    /// The reply to `basic.cancel` has come; returns whether it waits for its repair now.
    pub(in crate::channel) fn freed(&mut self) -> bool {
        let freeing = matches!(self, Self::Freeing);
        if freeing {
            *self = Self::Suspended;
        }
        freeing
    }

    /// It could not start again.
    pub(in crate::channel) fn suspend(&mut self) {
        *self = Self::Suspended;
    }

    pub(in crate::channel) fn is_active(&self) -> bool {
        matches!(self, Self::Active)
    }

    pub(in crate::channel) fn is_suspended(&self) -> bool {
        matches!(self, Self::Suspended)
    }

    /// The supervisor has repaired what it needs; returns whether it waited for that.
    pub(in crate::channel) fn repaired(&mut self) -> bool {
        let suspended = self.is_suspended();
        if suspended {
            *self = Self::Restarting { repaired: true };
        }
        suspended
    }

    /// The channel is closed and reopens: the broker has forgotten its consumers.
    pub(in crate::channel) fn channel_closed(&mut self) {
        match self {
            Self::Starting | Self::Active | Self::Reducing => *self = Self::Restarting { repaired: false },
            Self::Freeing => *self = Self::Restarting { repaired: true },
            Self::Restarting { .. } | Self::Suspended | Self::Cancelling { .. } => {}
        }
    }

    /// The connection is lost: the consumer is tried again on the next one, suspended or not.
    pub(in crate::channel) fn connection_lost(&mut self) {
        if !matches!(self, Self::Cancelling { .. }) {
            *self = Self::Restarting { repaired: false };
        }
    }

    /// Returns whether it is started when the channel opens again.
    pub(in crate::channel) fn restarts(&self) -> bool {
        matches!(self, Self::Restarting { .. })
    }

    /// Returns whether it stays although it is being cancelled at the broker.
    pub(in crate::channel) fn is_freeing(&self) -> bool {
        matches!(self, Self::Freeing | Self::Reducing)
    }

    pub(in crate::channel) fn is_cancelling(&self) -> bool {
        matches!(self, Self::Cancelling { .. })
    }

    /// Returns why it is cancelled; `None` if the application cancels it.
    pub(in crate::channel) fn end(&self) -> Option<&ConsumerEnd> {
        match self {
            Self::Cancelling { end } => end.as_ref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> [ConsumerPhase; 8] {
        [
            ConsumerPhase::Starting,
            ConsumerPhase::Active,
            ConsumerPhase::Restarting { repaired: false },
            ConsumerPhase::Restarting { repaired: true },
            ConsumerPhase::Freeing,
            ConsumerPhase::Suspended,
            ConsumerPhase::Cancelling { end: None },
            ConsumerPhase::Reducing,
        ]
    }

    fn of_all<T>(ask: impl Fn(&mut ConsumerPhase) -> T) -> Vec<T> {
        all().each_mut().map(ask).into()
    }

    #[test]
    fn a_consumer_recovers_from_the_brokers_cancel_by_way_of_its_repair() {
        let mut phase = ConsumerPhase::Starting;
        assert!(!phase.consumed(), "it starts for the first time");
        assert!(phase.cancelled_by_broker());
        assert!(!phase.repaired(), "not before the broker has forgotten it");
        assert!(phase.freed() && phase.is_suspended());
        assert!(phase.repaired() && phase.restarts());
        assert!(phase.consumed(), "it was suspended");
        assert!(matches!(phase, ConsumerPhase::Active));
    }

    #[test]
    fn only_an_active_consumer_is_reduced_and_starts_again_after_the_reply() {
        let reduced = of_all(|phase| (phase.reduce(), phase.reduced() && phase.restarts()));
        let of_active = (true, true);
        assert_eq!(reduced[1], of_active);
        assert_eq!(reduced.iter().filter(|reduced| **reduced == of_active).count(), 1);
        assert_eq!(reduced[7], (false, true), "it was being reduced");
    }

    #[test]
    fn a_consumer_that_is_cancelled_stays_so() {
        for mut phase in all() {
            phase.cancel(None);
            assert!(!phase.cancelled_by_broker() && !phase.freed() && !phase.repaired());
            phase.channel_closed();
            phase.connection_lost();
            assert!(!phase.consumed() && phase.is_cancelling() && !phase.restarts());
        }
    }

    #[test]
    fn the_first_reason_for_a_cancel_counts() {
        let mut phase = ConsumerPhase::Active;
        phase.cancel(None);
        assert!(phase.end().is_none());
        phase.cancel(Some(ConsumerEnd::TooSlow));
        phase.cancel(Some(ConsumerEnd::TargetGone));
        assert!(matches!(phase.end(), Some(ConsumerEnd::TooSlow)));
    }

    #[test]
    fn only_a_running_consumer_is_repaired_after_the_brokers_cancel() {
        let repaired = of_all(ConsumerPhase::cancelled_by_broker);
        assert_eq!(repaired, [true, true, true, true, false, false, false, true]);
    }

    #[test]
    fn a_reopened_channel_starts_all_but_suspended_consumers() {
        let restart = of_all(|phase| {
            phase.channel_closed();
            phase.restarts()
        });
        assert_eq!(restart, [true, true, true, true, true, false, false, true]);
        let mut freeing = ConsumerPhase::Freeing;
        freeing.channel_closed();
        assert!(freeing.consumed(), "its repair is done by the reopening");
    }

    #[test]
    fn a_new_connection_starts_suspended_consumers_too() {
        let restart = of_all(|phase| {
            phase.connection_lost();
            (phase.restarts(), phase.consumed())
        });
        assert_eq!(restart[5], (true, false), "its loss was reported on the earlier connection only");
        assert_eq!(restart[6], (false, false));
    }
}
