//! What the channels of a connection have done and have to do, and how it stands, for whoever samples it: reading asks
//! no actor, and keeps no connection open.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::{ChannelCounters, ConnectionCounters, Load, Outbox};

/// The [`Health`](crate::Health) of a connection without its reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Not connected.
    #[default]
    Down,
    /// Connected, but blocked, recovering, or something is missing.
    Degraded,
    /// Connected and complete.
    Up,
}

/// What the supervisor tells of its connection after each message that it has handled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Note {
    pub(crate) reconnects: u64,
    pub(crate) is_blocked: bool,
    pub(crate) standing: Standing,
    /// How many entities are missing.
    pub(crate) missing: usize,
}

/// A connection as it is at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// What it has done.
    pub counters: ConnectionCounters,
    /// What its open channels have to do.
    pub load: Load,
    /// How many channels are open.
    pub channels: usize,
    /// Its health.
    pub standing: Standing,
    /// How many entities are missing.
    pub missing: usize,
}

/// The counters of a connection, shared by its handles, its supervisor and its channels.
#[derive(Default)]
pub struct ConnectionTally {
    name: Option<Box<str>>,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    open: Vec<Weak<Outbox>>,
    /// The sum of the channels that are closed.
    closed: ChannelCounters,
    note: Note,
    blocked: Duration,
    blocked_since: Option<Instant>,
}

impl ConnectionTally {
    /// Creates the tally of a connection with this name.
    pub(crate) fn named(name: Option<&str>) -> Self {
        Self { name: name.map(Box::from), tally: Mutex::default() }
    }

    /// Returns the name of the connection.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the counters at `now`.
    pub fn counters(&self, now: Instant) -> ConnectionCounters {
        self.sample(now).counters
    }

    /// Returns what the open channels have to do.
    pub fn load(&self) -> Load {
        self.sample(Instant::now()).load
    }

    /// Returns all of it at `now`.
    pub fn sample(&self, now: Instant) -> Sample {
        let tally = self.lock();
        let mut channels = tally.closed;
        let mut load = Load { drained: true, ..Load::default() };
        // Dropped when the lock is free.
        let open: Vec<Arc<Outbox>> = tally.open.iter().filter_map(Weak::upgrade).collect();
        for outbox in &open {
            channels += outbox.counters();
            add(&mut load, outbox.load());
        }
        let present =
            tally.blocked_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let (Note { reconnects, standing, missing, .. }, blocked) = (tally.note, tally.blocked + present);
        drop(tally);
        let counters = ConnectionCounters { channels, reconnects, blocked };
        Sample { counters, load, channels: open.len(), standing, missing }
    }

    /// Adds a channel.
    pub(crate) fn add(&self, outbox: &Arc<Outbox>) {
        let mut tally = self.lock();
        tally.open.retain(|open| open.strong_count() > 0);
        tally.open.push(Arc::downgrade(outbox));
    }

    /// A channel is closed: its counters do not change any more.
    pub(super) fn closed(&self, outbox: &Outbox) {
        let mut tally = self.lock();
        if let Some(at) = tally.open.iter().position(|open| std::ptr::eq(open.as_ptr(), outbox)) {
            tally.open.swap_remove(at);
            tally.closed += outbox.counters();
        }
    }

    /// Notes how the connection stands now.
    pub(crate) fn note(&self, note: Note, now: Instant) {
        let mut tally = self.lock();
        tally.note = note;
        match tally.blocked_since {
            None if note.is_blocked => tally.blocked_since = Some(now),
            Some(since) if !note.is_blocked => {
                tally.blocked += now.saturating_duration_since(since);
                tally.blocked_since = None;
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(sum: &mut Load, of_channel: Load) {
    let Load { unconfirmed, unsettled, bytes, waiting, drained } = of_channel;
    sum.unconfirmed += unconfirmed;
    sum.unsettled += unsettled;
    sum.bytes += bytes;
    sum.waiting += waiting;
    sum.drained &= drained;
}

impl fmt::Debug for ConnectionTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, tally: _ } = self;
        f.debug_struct("ConnectionTally").field("name", name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_time_adds_up_and_runs_while_it_is_blocked() {
        let (tally, start, second) = (ConnectionTally::default(), Instant::now(), Duration::from_secs(1));
        let note = |reconnects, is_blocked| Note { reconnects, is_blocked, ..Note::default() };
        tally.note(note(0, true), start);
        tally.note(note(0, true), start + second);
        assert_eq!(tally.counters(start + 2 * second).blocked, 2 * second);
        tally.note(note(1, false), start + 3 * second);
        assert_eq!(tally.counters(start + 9 * second).blocked, 3 * second);
        tally.note(note(1, true), start + 10 * second);
        let counters = tally.counters(start + 11 * second);
        assert_eq!((counters.blocked, counters.reconnects), (4 * second, 1));
    }
}
