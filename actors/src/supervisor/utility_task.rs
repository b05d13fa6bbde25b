//! The work of the utility channel: steps, and what they are for.

use super::{
    missing::{EntityKey, Run},
    redeclare_steps::RecoveryStep,
};

/// What the utility channel is doing.
#[derive(Debug)]
pub(super) struct UtilityTask {
    pub(super) number: u16,
    pub(super) steps: Vec<RecoveryStep>,
    pub(super) purpose: Purpose,
}

#[derive(Debug)]
pub(super) enum Purpose {
    Redeclare,
    Retry(Run),
}

impl UtilityTask {
    /// Returns what the step at this place is for.
    pub(super) fn key_of_step(&self, at: usize) -> Option<EntityKey> {
        if let Some(key) = EntityKey::of_step(self.steps.get(at)?) {
            return Some(key);
        }
        // The trials are in the order of their consumers.
        let is_trial = |step: &&RecoveryStep| matches!(step, RecoveryStep::TrialConsume(_));
        let trials = self.steps.iter().take(at + 1).filter(is_trial).count();
        match &self.purpose {
            Purpose::Redeclare => None,
            Purpose::Retry(run) => run.consumer(trials.checked_sub(1)?).cloned(),
        }
    }
}
