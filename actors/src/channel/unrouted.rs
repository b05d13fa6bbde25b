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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Properties;

    fn returned(routing_key: &str, code: u16) -> Return {
        Return {
            code,
            text: "NO_ROUTE".into(),
            exchange: String::new(),
            routing_key: routing_key.into(),
            properties: Ok(Properties::default()),
            body: bytes::Bytes::from_static(b"body"),
        }
    }

    #[test]
    fn a_bounded_number_of_queues_is_reported() {
        let mut queues = UnroutedQueues::default();
        for n in 0..100 {
            queues.insert(&returned(&format!("q{n}"), 312));
            queues.insert(&returned("q0", 312));
            queues.insert(&returned("no consumers", 313));
        }
        assert_eq!(queues.0.len(), MOST);
        assert!(queues.0.iter().all(|returned| returned.body.is_empty()), "bodies are not kept");
    }
}
