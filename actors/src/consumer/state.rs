//! The state of a Consumer actor: whether its deliveries have a target, and whether more will come.
//!
//! A plain machine: it is fed with what happened, and returns what the actor has to do.

/// What happens to deliveries: to those that arrive, and to those that wait for a permit or a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FeedState {
    /// They go to the target, as far as permits allow.
    Feeding,
    /// The worker has stopped and another one will be built. They wait; the prefetch bounds how many.
    Rebuilding,
    /// The target has stopped, and the channel was asked to cancel the consumer. They wait for the cancel:
    /// returned to the queue now, the broker would deliver them here again.
    TargetLost,
    /// The consumer is being cancelled, without a target. They are dropped; the channel holds them back until
    /// the reply to the cancel has come.
    Dropping,
    /// The consumer is being cancelled, and its target still gets those that arrive and those that wait.
    Processing,
    /// The consumer has ended. No more arrive; those that wait go to the target, as far as permits allow.
    Draining,
}

/// What to do about a target that has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LossAction {
    None,
    /// Build the next worker after a wait.
    Rebuild,
    /// Have the channel cancel the consumer, unless that was reported before.
    Report,
    /// Hand back what waits: the consumer is being cancelled.
    HandBack,
    /// Stop: waiting deliveries have no target any more.
    Stop,
}

impl FeedState {
    /// Handles that the target was found stopped. May be called again and again.
    pub(super) fn target_stopped(&mut self, is_supervised: bool) -> LossAction {
        match self {
            Self::Feeding if is_supervised => {
                *self = Self::Rebuilding;
                LossAction::Rebuild
            }
            Self::Feeding => {
                *self = Self::TargetLost;
                LossAction::Report
            }
            // The cancel may be refused or lost with its connection.
            Self::Dropping if !is_supervised => LossAction::Report,
            Self::Processing => {
                *self = Self::Dropping;
                LossAction::HandBack
            }
            Self::Draining => LossAction::Stop,
            Self::Rebuilding | Self::TargetLost | Self::Dropping => LossAction::None,
        }
    }

    /// Handles the end of the wait before a worker is built. Returns whether to build it.
    pub(super) fn rebuild(&mut self) -> bool {
        let is_due = *self == Self::Rebuilding;
        if is_due {
            *self = Self::Feeding;
        }
        is_due
    }

    /// Handles the registration with a channel. A target that was lost before it is reported once more.
    pub(super) fn registered(&mut self) {
        if *self == Self::TargetLost {
            *self = Self::Feeding;
        }
    }

    /// Handles the start of a cancel during which deliveries are dropped.
    pub(super) fn drop_deliveries(&mut self) {
        *self = Self::Dropping;
    }

    /// Handles the start of a cancel during which deliveries still go to the target.
    pub(super) fn process_all(&mut self) {
        *self = Self::Processing;
    }

    /// Handles an end of the consumer after which waiting deliveries still go to the target.
    pub(super) fn drain(&mut self) {
        *self = Self::Draining;
    }

    #[inline]
    pub(super) fn is_dropping(self) -> bool {
        self == Self::Dropping
    }

    pub(super) fn is_processing(self) -> bool {
        self == Self::Processing
    }

    pub(super) fn is_draining(self) -> bool {
        self == Self::Draining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_target_is_reported_once() {
        let mut state = FeedState::Feeding;
        assert_eq!(state.target_stopped(false), LossAction::Report);
        assert_eq!(state.target_stopped(false), LossAction::None);
        assert_eq!(state, FeedState::TargetLost);
    }

    #[test]
    fn a_target_lost_before_registration_is_reported_after_it() {
        let mut state = FeedState::Feeding;
        assert_eq!(state.target_stopped(false), LossAction::Report);
        state.registered();
        assert_eq!(state.target_stopped(false), LossAction::Report);
    }

    #[test]
    fn a_stopped_worker_is_rebuilt_once_per_wait() {
        let mut state = FeedState::Feeding;
        for _ in 0..3 {
            assert_eq!(state.target_stopped(true), LossAction::Rebuild);
            assert_eq!(state.target_stopped(true), LossAction::None);
            assert!(state.rebuild());
            assert_eq!(state, FeedState::Feeding);
        }
    }

    #[test]
    fn no_worker_is_built_for_a_consumer_that_is_cancelled() {
        let mut state = FeedState::Feeding;
        assert_eq!(state.target_stopped(true), LossAction::Rebuild);
        state.drop_deliveries();
        assert!(!state.rebuild());
        assert_eq!(state.target_stopped(true), LossAction::None);
        assert!(state.is_dropping());
    }

    #[test]
    fn a_cancelled_consumer_whose_target_stops_hands_back() {
        for is_supervised in [false, true] {
            let mut state = FeedState::Feeding;
            state.process_all();
            assert!(state.is_processing() && !state.is_dropping());
            assert_eq!(state.target_stopped(is_supervised), LossAction::HandBack);
            assert!(state.is_dropping());
        }
    }

    #[test]
    fn a_draining_consumer_stops_with_its_target() {
        for is_supervised in [false, true] {
            let mut state = FeedState::Feeding;
            state.drain();
            assert!(state.is_draining());
            assert_eq!(state.target_stopped(is_supervised), LossAction::Stop);
        }
    }
}
