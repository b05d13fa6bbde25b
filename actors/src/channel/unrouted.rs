//! Queues to which publishes through the default exchange came back: they do not exist. One that is recorded is
//! declared again, as after a 404.

use super::ChannelMachine;
use crate::{error::Error, internal::SupervisorMessage, message::EntityKind, returned::Return};

/// The most queues between two ticks.
const MOST: usize = 16;

/// Those that the next tick reports.
#[derive(Debug, Default)]
pub(super) struct UnroutedQueues(Vec<Return>);

impl UnroutedQueues {
    pub(super) fn insert(&mut self, returned: &Return) {
        let is_known = self.0.iter().any(|known| known.routing_key == returned.routing_key);
        // NO_ROUTE
        if returned.code == 312 && !is_known && self.0.len() < MOST {
            self.0.push(Return { body: bytes::Bytes::new(), ..returned.clone() });
        }
    }
}

impl ChannelMachine {
    /// Reports the queues that are gone.
    pub(super) fn report_unrouted(&mut self) {
        for returned in std::mem::take(&mut self.unrouted.0) {
            let name = returned.routing_key.clone();
            let error = Error::unroutable(returned);
            self.report(SupervisorMessage::EntityGone { kind: EntityKind::Queue, name, error });
        }
    }
}
