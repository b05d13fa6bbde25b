//! What is behind the lock: the core, the peers, and what is due when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::sync::Notify;

use super::{
    alarm::Alarms,
    chaos::Machine,
    clock::Clock,
    peer::{Now, Peer},
    shared::PeerId,
};
use crate::core::{ConnectionId, Core, Keep, Time};

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) core: Core,
    pub(super) clock: Clock,
    pub(super) alarms: Alarms,
    /// The node is stopped: nobody may connect.
    pub(super) is_down: bool,
    /// How many connects are refused.
    pub(super) refused: u32,
    /// Random faults, also when they are over.
    pub(super) chaos: Option<Machine>,
    pub(super) peers: BTreeMap<PeerId, Entry>,
    pub(super) by_connection: BTreeMap<ConnectionId, PeerId>,
    last_peer: PeerId,
    /// When each peer has something due.
    ticks: BTreeSet<(Time, PeerId)>,
    /// Peers to look at when the lock is free.
    pub(super) touched: BTreeSet<PeerId>,
}

/// A peer, and who does its I/O.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) peer: Peer,
    /// Its connection in the core, which may have ended there.
    connection: Option<ConnectionId>,
    /// Its entry in the ticks.
    tick: Option<Time>,
    /// Its reader waits until it may read.
    waits: bool,
    wakers: Wakers,
}

/// What the I/O of a connection waits for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakers {
    pub(super) reader: Arc<Notify>,
    pub(super) writer: Arc<Notify>,
    /// What is being written is given up.
    pub(super) abandon: Arc<Notify>,
}

/// What a peer needs to know.
pub(super) fn now<'a>(clock: &Clock, alarms: &'a Alarms) -> Now<'a> {
    Now { core: clock.core(), net: clock.net(), alarm: alarms.reason() }
}

impl State {
    pub(super) fn new(core: Core, clock: Clock) -> Self {
        Self {
            core,
            clock,
            alarms: Alarms::default(),
            is_down: false,
            refused: 0,
            chaos: None,
            peers: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            last_peer: 0,
            ticks: BTreeSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Adds a peer, unless it is to be refused.
    pub(super) fn accept(&mut self, address: String) -> Option<(PeerId, Wakers)> {
        if self.is_down {
            return None;
        }
        if self.refused > 0 {
            self.refused -= 1;
            return None;
        }
        self.last_peer += 1;
        let id = self.last_peer;
        let wakers = Wakers::default();
        let peer = Peer::new(address, &self.core, self.clock.net());
        let entry = Entry { peer, connection: None, tick: None, waits: false, wakers: wakers.clone() };
        self.peers.insert(id, entry);
        self.touched.insert(id);
        Some((id, wakers))
    }

    /// The socket of a peer has ended.
    pub(super) fn remove(&mut self, id: PeerId) {
        self.with_peer(id, |peer, core, now| peer.lost(core, now));
        let Some(entry) = self.peers.remove(&id) else { return };
        if let Some(connection) = entry.connection {
            self.by_connection.remove(&connection);
        }
        if let Some(at) = entry.tick {
            self.ticks.remove(&(at, id));
        }
    }

    /// Returns whether a peer is to be read. If not, its reader is woken when it is.
    pub(super) fn reads(&mut self, id: PeerId) -> bool {
        let Some(entry) = self.peers.get_mut(&id) else { return false };
        entry.waits = !entry.peer.reads();
        !entry.waits
    }

    /// Calls `then` with a peer, the core and the time.
    pub(super) fn with_peer(&mut self, id: PeerId, then: impl FnOnce(&mut Peer, &mut Core, Now<'_>)) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        entry.peer.set_budget(self.chaos.as_ref().map_or(u64::MAX, Machine::left));
        let now = now(&self.clock, &self.alarms);
        then(&mut entry.peer, &mut self.core, now);
        if entry.connection.is_none()
            && let Some(connection) = entry.peer.id()
        {
            // It may have ended since, and is still told so.
            entry.connection = Some(connection);
            self.by_connection.insert(connection, id);
        }
        self.touched.insert(id);
    }

    /// Restarts the node: its connections are closed, and handshakes are reset.
    pub(super) fn restart(&mut self, keep: Keep) {
        self.each_peer(|peer, core, now| {
            if peer.id().is_none() {
                peer.reset(core, now);
            }
        });
        self.core.restart(self.clock.core(), keep);
    }

    /// Calls `then` with each peer.
    pub(super) fn each_peer(&mut self, mut then: impl FnMut(&mut Peer, &mut Core, Now<'_>)) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.with_peer(id, &mut then);
        }
    }

    /// Returns the socket of a connection.
    pub(super) fn peer_of(&self, connection: ConnectionId) -> Option<PeerId> {
        self.by_connection.get(&connection).copied()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        let now = self.clock.core();
        self.core.advance(now);
        self.core.flush(now);
        self.end_faults();
        let net = self.clock.net();
        let due: Vec<PeerId> =
            self.ticks.iter().take_while(|(at, _)| *at <= net).map(|(_, id)| *id).collect();
        for id in due {
            self.with_peer(id, |peer, core, now| peer.tick(core, now));
        }
    }

    pub(super) fn next_due(&self) -> (Option<Time>, Option<Time>) {
        let ends = self.chaos.as_ref().and_then(Machine::next_end);
        let tick = self.ticks.first().map(|(at, _)| *at);
        (self.core.next_timer(), tick.into_iter().chain(ends).min())
    }

    pub(super) fn wake(&mut self) -> Vec<Arc<Notify>> {
        let mut woken = Vec::new();
        for id in std::mem::take(&mut self.touched) {
            let Some(entry) = self.peers.get_mut(&id) else { continue };
            let tick = entry.peer.next_tick();
            if tick != entry.tick {
                if let Some(at) = entry.tick {
                    self.ticks.remove(&(at, id));
                }
                self.ticks.extend(tick.map(|at| (at, id)));
                entry.tick = tick;
            }
            if entry.peer.is_abandoned() {
                woken.push(entry.wakers.abandon.clone());
            }
            if entry.peer.has_output() {
                woken.push(entry.wakers.writer.clone());
            }
            if entry.waits && entry.peer.reads() {
                entry.waits = false;
                woken.push(entry.wakers.reader.clone());
            }
        }
        woken
    }
}
