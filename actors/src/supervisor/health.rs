//! How well the connection does.

use actix::{Context, Handler, MessageResult};

use super::ConnectionSupervisor;
use crate::{
    message::{ConnectionEvent, ConnectionState, Degradation, GetHealth, Health},
    options::Recovery,
};

impl ConnectionSupervisor {
    fn health_now(&self) -> Health {
        let mut reasons = Vec::new();
        match &*self.state.borrow() {
            ConnectionState::Connecting => return Health::Down(None),
            ConnectionState::Reconnecting(error) => return Health::Down(Some(error.clone())),
            ConnectionState::Closed(cause) => return Health::Down(cause.clone()),
            ConnectionState::Open(opened) => {
                reasons.extend(opened.blocked.clone().map(Degradation::Blocked));
            }
        }
        if self.is_restoring() {
            reasons.push(Degradation::Recovering);
        }
        reasons.extend(self.recovering.skipped.iter().cloned().map(Degradation::Missing));
        if reasons.is_empty() { Health::Up } else { Health::Degraded(reasons) }
    }

    /// Looks whether the health is another one, and tells of it where no other event does.
    pub(super) fn health_changed(&mut self) {
        let health = self.health_now();
        let marks = marks(&health);
        if marks == self.health_marks {
            return;
        }
        self.health_marks = marks;
        if self.options.recovery != Recovery::Never && !matches!(health, Health::Down(_)) {
            self.tell(&ConnectionEvent::Health(health));
        }
    }
}

/// What makes two healths the same.
fn marks(health: &Health) -> Vec<String> {
    match health {
        Health::Up => Vec::new(),
        Health::Down(_) => vec!["down".into()],
        Health::Degraded(reasons) => {
            let mark = |reason: &Degradation| match reason {
                Degradation::Recovering => "restoring".into(),
                Degradation::Blocked(_) => "blocked".into(),
                Degradation::Missing(skipped) => format!("{} {}", skipped.kind, skipped.name),
            };
            reasons.iter().map(mark).collect()
        }
    }
}

impl Handler<GetHealth> for ConnectionSupervisor {
    type Result = MessageResult<GetHealth>;

    fn handle(&mut self, _: GetHealth, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.health_now())
    }
}
