//! One declaration or consumer that has cost a connection: how long it waits for its next trial.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// The pause before the first trial.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between trials that fail.
const MAX_TRIAL_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause after the connection itself was lost again and again.
const MAX_LOSS_PAUSE: Duration = Duration::from_secs(300);
/// How long a fatal entity must work on the connection to be forgotten.
pub(super) const STOOD: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct FatalEntity {
    pub(super) error: Error,
    /// How many connections it has cost.
    pub(super) losses: u32,
    /// The epoch of the last of them.
    pub(super) epoch: u64,
    pub(super) pause: Duration,
    pub(super) due: Instant,
    /// When it has cost the last of them, and how many trials were refused since then.
    pub(super) since: Instant,
    pub(super) trials: u32,
    pub(super) state: FatalState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FatalState {
    /// Left out. `ready` is whether it can be tried: a consumer, once its channel has recovered without it.
    Withheld { ready: bool },
    /// In the trial that is under way.
    OnTrial,
    /// Left out: its trials have reached the limits of the recovery. It is tried again after the next reconnect.
    GivenUp,
    /// Tried with success, and not left out any more.
    Released { since: Instant },
}

impl FatalEntity {
    pub(super) fn new(error: Error, losses: u32, epoch: u64, state: FatalState, now: Instant) -> Self {
        let pause = loss_pause(losses);
        Self { error, losses, epoch, pause, due: now + pause, since: now, trials: 0, state }
    }

    /// Returns whether it has worked on the connection for long enough to be forgotten.
    pub(super) fn has_stood(&self, now: Instant) -> bool {
        match self.state {
            FatalState::Released { since } => now.saturating_duration_since(since) >= STOOD,
            FatalState::Withheld { .. } | FatalState::OnTrial | FatalState::GivenUp => false,
        }
    }

    pub(super) fn is_withheld(&self) -> bool {
        !matches!(self.state, FatalState::Released { .. })
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.state = FatalState::Withheld { ready: true };
        self.pause = (self.pause * 2).min(MAX_TRIAL_PAUSE.max(loss_pause(self.losses)));
        self.due = now + self.pause;
    }
}

/// Returns how long a fatal entity waits that has cost this many connections.
fn loss_pause(losses: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << losses.saturating_sub(1).min(20)).min(MAX_LOSS_PAUSE)
}
