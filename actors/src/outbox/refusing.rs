//! How long the broker refuses publishes of one kind: pauses that grow, and the publish that goes to see.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How long it is remembered when nobody publishes so.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(60);

/// A publish that went to the broker to see: its channel and its sequence number there.
pub(super) type Asking = (u16, u64);

/// What is known of a place.
#[derive(Debug)]
pub(super) struct Refusing {
    pub(super) error: Error,
    pause: Duration,
    /// When somebody last published there.
    pub(super) used: Instant,
    pub(super) state: RefusingState,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum RefusingState {
    Refusing {
        until: Instant,
    },
    /// One publish is on its way. Without a refusal until then, all is permitted.
    Asking {
        until: Instant,
        publish: Option<Asking>,
    },
}

impl Refusing {
    /// The broker has refused a publish, once more if it was `known`.
    pub(super) fn new(known: Option<Self>, error: Error, now: Instant) -> Self {
        let (pause, until) = match known {
            // One that was on its way already, on another channel.
            Some(Self { pause, state: RefusingState::Refusing { until }, .. }) if until > now => {
                (pause, until)
            }
            Some(known) => {
                let pause = (known.pause * 2).min(MAX_PAUSE);
                (pause, now + pause)
            }
            None => (FIRST_PAUSE, now + FIRST_PAUSE),
        };
        Self { error, pause, used: now, state: RefusingState::Refusing { until } }
    }

    fn until(&self) -> Instant {
        let (RefusingState::Refusing { until } | RefusingState::Asking { until, .. }) = self.state;
        until
    }

    /// Returns whether the publish that went to see was not refused in time.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        matches!(self.state, RefusingState::Asking { until, .. } if until <= now)
    }

    pub(super) fn is_asked_by(&self, by: Asking) -> bool {
        matches!(self.state, RefusingState::Asking { publish: Some(publish), .. } if publish == by)
    }

    pub(super) fn is_used(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used.max(self.until())) < FORGET_AFTER
    }
}
