//! What all connections of a broker share: the core, behind one lock.

use std::{
    any::Any,
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::{
    chaos::Machine,
    clock::Clock,
    memory::Dials,
    peer::{End, Now, Peer},
};
use crate::core::{ConnectionId, Core, Keep, Time};

/// The reason of RabbitMQ's memory alarm.
pub(super) const LOW_ON_MEMORY: &str = "low on memory";

/// The number of a socket. It is never used twice.
pub(super) type PeerId = u64;

/// A broker, as its actors and its handle have it.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Counts what has happened, for those who wait for something.
    happened: watch::Sender<u64>,
    /// Wakes who waits for the next time at which something is due.
    pub(super) timer: Notify,
    /// Wakes the listener to end.
    pub(super) stop: watch::Sender<bool>,
    pub(super) dials: Dials,
    /// Which part has panicked, and how.
    broken: OnceLock<String>,
}

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) core: Core,
    pub(super) clock: Clock,
    /// The alarm that was set on order.
    pub(super) ordered_alarm: Option<String>,
    /// The reason for which publishers are blocked.
    alarm: Option<String>,
    /// The node is stopped: nobody may connect.
    pub(super) is_down: bool,
    /// Messages take too much memory.
    low_on_memory: bool,
    /// How many connects are refused.
    pub(super) refused: u32,
    /// Random faults, also when they are over.
    pub(super) chaos: Option<Machine>,
    pub(super) peers: BTreeMap<PeerId, Entry>,
    by_connection: BTreeMap<ConnectionId, PeerId>,
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
    reader: Arc<Notify>,
    writer: Arc<Notify>,
    abandon: Arc<Notify>,
}

/// What the I/O of a connection waits for.
#[derive(Clone, Debug)]
pub(super) struct Wakers {
    pub(super) reader: Arc<Notify>,
    pub(super) writer: Arc<Notify>,
    /// What is being written is given up.
    pub(super) abandon: Arc<Notify>,
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct ToWrite {
    pub(super) bytes: Bytes,
    /// How the socket ends after it.
    pub(super) end: Option<End>,
}

thread_local! {
    /// Where the brokers are whose lock this thread has.
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The state, until the lock is given back.
struct Locked<'s> {
    state: MutexGuard<'s, State>,
    place: usize,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let _ = HELD.try_with(|held| held.borrow_mut().retain(|place| *place != self.place));
    }
}

impl Shared {
    pub(super) fn new(core: Core, clock: Clock, dials: Dials) -> Self {
        let state = State {
            core,
            clock,
            ordered_alarm: None,
            alarm: None,
            is_down: false,
            low_on_memory: false,
            refused: 0,
            chaos: None,
            peers: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            last_peer: 0,
            ticks: BTreeSet::new(),
            touched: BTreeSet::new(),
        };
        Self {
            state: Mutex::new(state),
            happened: watch::Sender::new(0),
            timer: Notify::new(),
            stop: watch::Sender::new(false),
            dials,
            broken: OnceLock::new(),
        }
    }

    /// Ends the broker since a part of it has panicked.
    pub(super) fn break_off(&self, part: &str, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
        let _ = self.broken.set(format!("{part} of the test broker panicked: {text}"));
        self.stop.send_replace(true);
        self.happened.send_modify(|count| *count += 1);
    }

    /// Tells how a part of the broker has panicked, if one has. The core may be in the middle of something since then.
    pub(super) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// # Panics
    /// If the thread has the lock already, as when what looks at the state calls the broker: it would wait for ever.
    fn lock(&self) -> Locked<'_> {
        let place = std::ptr::from_ref(self).addr();
        // A broker in a thread-local may be dropped after this one.
        let _ = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            assert!(
                !held.contains(&place),
                "a closure that looks at a broker must not call it: ask the state that it is given"
            );
            held.push(place);
        });
        Locked { state: self.state.lock().unwrap_or_else(PoisonError::into_inner), place }
    }

    /// Looks at the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the state, sends what comes of it, and wakes who has to write or read.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let due = state.next_due();
        let result = change(&mut state);
        state.settle();
        while state.disturb() {
            state.settle();
        }
        let woken = state.wake();
        let is_due_earlier = is_earlier(state.next_due(), due);
        drop(state);
        woken.into_iter().for_each(|notify| notify.notify_one());
        if is_due_earlier {
            self.timer.notify_one();
        }
        self.happened.send_modify(|count| *count += 1);
        result
    }

    /// Follows what happens.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.happened.subscribe()
    }

    /// Adds a socket, unless it is to be refused.
    pub(super) fn accept(&self, address: String) -> Option<(PeerId, Wakers)> {
        self.change(|state| {
            if state.is_down {
                return None;
            }
            if state.refused > 0 {
                state.refused -= 1;
                return None;
            }
            state.last_peer += 1;
            let id = state.last_peer;
            let [reader, writer, abandon]: [Arc<Notify>; 3] = Default::default();
            let peer = Peer::new(address, &state.core, state.clock.net());
            let wakers = Wakers { reader: reader.clone(), writer: writer.clone(), abandon: abandon.clone() };
            let entry = Entry { peer, connection: None, tick: None, waits: false, reader, writer, abandon };
            state.peers.insert(id, entry);
            state.touched.insert(id);
            Some((id, wakers))
        })
    }

    /// Bytes have come.
    pub(super) fn received(&self, id: PeerId, bytes: &[u8]) {
        self.change(|state| state.with_peer(id, |peer, core, now| peer.receive(core, now, bytes)));
    }

    /// The client will send nothing more.
    pub(super) fn finished(&self, id: PeerId) {
        self.change(|state| state.with_peer(id, |peer, core, now| peer.finished(core, now)));
    }

    /// A socket has ended.
    pub(super) fn lost(&self, id: PeerId) {
        // The panic may be under way yet: another one would abort the process.
        if self.broken().is_some() {
            return;
        }
        self.change(|state| {
            state.with_peer(id, |peer, core, now| peer.lost(core, now));
            let Some(entry) = state.peers.remove(&id) else { return };
            if let Some(connection) = entry.connection {
                state.by_connection.remove(&connection);
            }
            if let Some(at) = entry.tick {
                state.ticks.remove(&(at, id));
            }
        });
    }

    /// Returns whether a socket is to be read. If not, its reader is woken when it is.
    pub(super) fn reads(&self, id: PeerId) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.peers.get_mut(&id) else { return false };
        entry.waits = !entry.peer.reads();
        !entry.waits
    }

    /// Takes what is to be written to a socket.
    pub(super) fn take_output(&self, id: PeerId) -> ToWrite {
        let mut state = self.lock();
        let now = state.clock.net();
        let Some(entry) = state.peers.get_mut(&id) else {
            return ToWrite { bytes: Bytes::new(), end: Some(End::Reset) };
        };
        let bytes = entry.peer.take_output(now);
        ToWrite { bytes, end: entry.peer.end() }
    }

    /// What was taken is written: consumers that waited for room go on.
    pub(super) fn written(&self, id: PeerId) {
        let has_waited =
            self.look(|state| state.peers.get(&id).is_some_and(|entry| entry.peer.waits_for_room()));
        if has_waited {
            self.change(|state| {
                state.touched.insert(id);
            });
        }
    }

    /// Does what is due.
    pub(super) fn tick(&self) {
        self.change(State::tick);
    }

    /// Moves a clock, and does what is due then.
    pub(super) fn advance(&self, advance: impl FnOnce(&mut Clock)) {
        self.change(|state| {
            advance(&mut state.clock);
            state.tick();
        });
        // What is due is so sooner.
        self.timer.notify_one();
    }

    /// Returns how long nothing is due.
    pub(super) fn idle_for(&self) -> Option<std::time::Duration> {
        self.look(|state| {
            let (core, net) = state.next_due();
            state.clock.until(core, net)
        })
    }
}

impl State {
    /// Calls `then` with a peer, the core and the time.
    pub(super) fn with_peer(&mut self, id: PeerId, then: impl FnOnce(&mut Peer, &mut Core, Now<'_>)) {
        let Some(entry) = self.peers.get_mut(&id) else { return };
        entry.peer.set_budget(self.chaos.as_ref().map_or(u64::MAX, Machine::left));
        let now = Now { core: self.clock.core(), net: self.clock.net(), alarm: self.alarm.as_deref() };
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

    /// Sends what comes of a change; blocks publishers while messages take too much, and unblocks them. What is sent, and
    /// those who go on, may change that again.
    fn settle(&mut self) {
        loop {
            self.distribute();
            let is_low = self.core.is_low_on_memory();
            // By an alarm that is over already.
            let are_blocked = self.alarm.is_none() && self.touched.iter().any(|id| self.is_blocked(*id));
            if is_low == self.low_on_memory && !are_blocked {
                return;
            }
            self.low_on_memory = is_low;
            self.update_alarm();
        }
    }

    fn is_blocked(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|entry| entry.peer.is_blocked())
    }

    /// Finds the reason for which publishers are blocked; without one, those that are go on.
    pub(super) fn update_alarm(&mut self) {
        let memory = self.low_on_memory.then_some(LOW_ON_MEMORY);
        self.alarm = match (memory, self.ordered_alarm.as_deref()) {
            (Some(memory), Some(ordered)) if memory != ordered => Some(format!("{memory} & {ordered}")),
            (memory, ordered) => memory.or(ordered).map(str::to_owned),
        };
        if self.alarm.is_none() {
            self.each_peer(Peer::unblock);
        }
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

    fn next_due(&self) -> (Option<Time>, Option<Time>) {
        let ends = self.chaos.as_ref().and_then(Machine::next_end);
        let tick = self.ticks.first().map(|(at, _)| *at);
        (self.core.next_timer(), tick.into_iter().chain(ends).min())
    }

    /// Gives each peer what the core says to it, and has those go on that have room again.
    fn distribute(&mut self) {
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
        let now = Now { core: self.clock.core(), net: self.clock.net(), alarm: self.alarm.as_deref() };
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

    fn wake(&mut self) -> Vec<Arc<Notify>> {
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
                woken.push(entry.abandon.clone());
            }
            if entry.peer.has_output() {
                woken.push(entry.writer.clone());
            }
            if entry.waits && entry.peer.reads() {
                entry.waits = false;
                woken.push(entry.reader.clone());
            }
        }
        woken
    }
}

/// Returns whether something is due earlier than it was.
fn is_earlier(due: (Option<Time>, Option<Time>), before: (Option<Time>, Option<Time>)) -> bool {
    let earlier = |due: Option<Time>, before: Option<Time>| match (due, before) {
        (Some(due), Some(before)) => due < before,
        (due, None) => due.is_some(),
        (None, Some(_)) => false,
    };
    earlier(due.0, before.0) || earlier(due.1, before.1)
}
