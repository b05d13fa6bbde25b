//! The work of the utility channel: steps, and what they are for.

use super::{missing::Run, redeclare_steps::RecoveryStep};

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
