//! Alarms: while one is on, connections that publish are blocked.

use super::{peer::Peer, shared::PeerId, state::State};

/// The reason of RabbitMQ's memory alarm.
pub(super) const LOW_ON_MEMORY: &str = "low on memory";

/// The alarms of a broker.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    /// That which was set on order.
    ordered: Option<String>,
    /// Messages take too much memory.
    low_on_memory: bool,
    /// The reason of both.
    reason: Option<String>,
}

impl Alarms {
    /// Returns the reason for which publishers are blocked.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    fn update(&mut self) {
        let memory = self.low_on_memory.then_some(LOW_ON_MEMORY);
        self.reason = match (memory, self.ordered.as_deref()) {
            (Some(memory), Some(ordered)) if memory != ordered => Some(format!("{memory} & {ordered}")),
            (memory, ordered) => memory.or(ordered).map(str::to_owned),
        };
    }
}

impl State {
    /// Sets the reason for which publishers are blocked, or unblocks them.
    pub(super) fn set_alarm(&mut self, reason: Option<String>) {
        self.alarms.ordered = reason;
        self.follow_alarms();
    }

    /// Sends what comes of a change; blocks publishers while messages take too much, and unblocks them. What is sent, and
    /// those who go on, may change that again.
    pub(super) fn settle(&mut self) {
        loop {
            self.distribute();
            let is_low = self.core.is_low_on_memory();
            // By an alarm that is over already.
            let are_blocked =
                self.alarms.reason.is_none() && self.touched.iter().any(|id| self.is_blocked(*id));
            if is_low == self.alarms.low_on_memory && !are_blocked {
                return;
            }
            self.alarms.low_on_memory = is_low;
            self.follow_alarms();
        }
    }

    fn is_blocked(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|entry| entry.peer.is_blocked())
    }

    /// Without a reason, publishers that are blocked go on.
    fn follow_alarms(&mut self) {
        self.alarms.update();
        if self.alarms.reason.is_none() {
            self.each_peer(Peer::unblock);
        }
    }
}
