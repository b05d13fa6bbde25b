//! What the core says goes to its peers.

use std::collections::BTreeSet;

use super::{
    peer::Peer,
    shared::PeerId,
    state::{State, now},
};
use crate::core::ConnectionId;

impl State {
    /// Gives each peer what the core says to it, and has those go on that have room again.
    pub(super) fn distribute(&mut self) {
        let mut watched = BTreeSet::new();
        loop {
            self.hand_out();
            let unwatched: Vec<PeerId> = self.touched.difference(&watched).copied().collect();
            if unwatched.is_empty() {
                return;
            }
            for id in unwatched {
                watched.insert(id);
                // Who has too much to read gets no more deliveries, and others may get them.
                self.with_peer(id, Peer::watch_output);
                self.core.flush(self.clock.core());
                // One that goes on stops where there are too many answers in the core: none of those before it are left.
                self.hand_out();
            }
        }
    }

    /// Gives each peer what the core says to it.
    fn hand_out(&mut self) {
        let now = now(&self.clock, &self.alarms);
        let mut last: Option<(ConnectionId, PeerId)> = None;
        while let Some(outgoing) = self.core.next_output() {
            let id = match last {
                Some((connection, id)) if connection == outgoing.connection => id,
                _ => {
                    let Some(&id) = self.by_connection.get(&outgoing.connection) else { continue };
                    last = Some((outgoing.connection, id));
                    self.touched.insert(id);
                    id
                }
            };
            if let Some(entry) = self.peers.get_mut(&id) {
                entry.peer.say(now, outgoing.channel, outgoing.output);
                if entry.peer.is_flooded() {
                    entry.peer.watch_output(&mut self.core, now);
                }
            }
        }
    }
}
