//! What all connections of a broker share: the core, behind one lock.

use std::{any::Any, sync::OnceLock};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::{
    clock::Clock,
    lock::Lock,
    memory::Dials,
    peer::End,
    state::{State, Wakers},
};
use crate::core::{Core, Time};

/// The number of a socket. It is never used twice.
pub(super) type PeerId = u64;

/// A broker, as its actors and its handle have it.
#[derive(Debug)]
pub(super) struct Shared {
    lock: Lock,
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

/// What is to be written.
#[derive(Debug)]
pub(super) struct ToWrite {
    pub(super) bytes: Bytes,
    /// How the socket ends after it.
    pub(super) end: Option<End>,
}

impl Shared {
    pub(super) fn new(core: Core, clock: Clock, dials: Dials) -> Self {
        Self {
            lock: Lock::new(State::new(core, clock)),
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

    /// Looks at the state.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock.take())
    }

    /// Changes the state, sends what comes of it, and wakes who has to write or read.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock.take();
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
        self.change(|state| state.accept(address))
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
        self.change(|state| state.remove(id));
    }

    /// Returns whether a socket is to be read. If not, its reader is woken when it is.
    pub(super) fn reads(&self, id: PeerId) -> bool {
        self.lock.take().reads(id)
    }

    /// Takes what is to be written to a socket.
    pub(super) fn take_output(&self, id: PeerId) -> ToWrite {
        let mut state = self.lock.take();
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

/// Returns whether something is due earlier than it was.
fn is_earlier(due: (Option<Time>, Option<Time>), before: (Option<Time>, Option<Time>)) -> bool {
    let earlier = |due: Option<Time>, before: Option<Time>| match (due, before) {
        (Some(due), Some(before)) => due < before,
        (due, None) => due.is_some(),
        (None, Some(_)) => false,
    };
    earlier(due.0, before.0) || earlier(due.1, before.1)
}
