//! The health of a supervised connection, and when an event reports it.

use super::{effect::Effect, supervision::Supervision};
use crate::{
    message::{ConnectionEvent, ConnectionState, Degradation, Health},
    options::Recovery,
    outbox::{Note, Standing},
};

impl Supervision {
    pub(super) fn health(&self) -> Health {
        let mut reasons = Vec::new();
        match self.phase.state() {
            ConnectionState::Connecting => return Health::Down(None),
            ConnectionState::Reconnecting(error) => return Health::Down(Some(error)),
            ConnectionState::Closed(cause) => return Health::Down(cause),
            ConnectionState::Open(opened) => {
                reasons.extend(opened.blocked.clone().map(Degradation::Blocked));
            }
        }
        if self.phase.is_recovering() {
            reasons.push(Degradation::Recovering);
        }
        reasons.extend(self.missing.skipped().map(Degradation::Missing));
        if reasons.is_empty() { Health::Up } else { Health::Degraded(reasons) }
    }

    /// Returns what the tally of the connection has of this.
    pub(super) fn note(&self) -> Note {
        let open = self.phase.open();
        let (is_blocked, missing) =
            (open.is_some_and(|open| open.opened.blocked.is_some()), self.missing.count());
        let standing = match open {
            None => Standing::Down,
            Some(_) if is_blocked || missing > 0 || self.phase.is_recovering() => Standing::Degraded,
            Some(_) => Standing::Up,
        };
        Note { reconnects: self.reconnects, is_blocked, standing, missing }
    }

    /// Sends a `Health` event if the health has changed. `Down` is reported by other events.
    pub(super) fn health_changed(&mut self) {
        let health = self.health();
        let marks = marks(&health);
        if marks == self.health_marks {
            return;
        }
        self.health_marks = marks;
        if self.options.recovery != Recovery::Never && !matches!(health, Health::Down(_)) {
            self.effects.push_back(Effect::Notify(ConnectionEvent::Health(health)));
        }
    }
}

/// Returns what is compared to find out whether the health has changed.
fn marks(health: &Health) -> Vec<String> {
    match health {
        Health::Up => Vec::new(),
        Health::Down(_) => vec!["down".into()],
        Health::Degraded(reasons) => {
            let mark = |reason: &Degradation| match reason {
                Degradation::Recovering => "recovering".into(),
                Degradation::Blocked(_) => "blocked".into(),
                Degradation::Missing(skipped) => format!("{} {}", skipped.kind, skipped.name),
            };
            reasons.iter().map(mark).collect()
        }
    }
}
