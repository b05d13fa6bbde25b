//! Random faults, by a seed. What comes when is decided in [`machine`]; here it is done to the broker.

mod fault;
mod machine;
#[cfg(test)]
mod tests;

use std::{fmt, io::Write, sync::Arc, thread};

pub use self::fault::{Fault, FaultKind};
pub(super) use self::machine::Machine;
use self::machine::{Action, Plan, Scene, Target};
use super::{
    handle::Broker,
    peer::Peer,
    shared::{PeerId, Shared},
    state::State,
};
use crate::core::{Close, Failure, Keep};

/// How many frames come between two faults, on average, unless it is set.
const EVERY: u64 = 100;

/// Builds a [`Chaos`].
///
/// # Examples
/// ```
/// use actix_pika_broker::{Broker, FaultKind};
///
/// let broker = Broker::start().unwrap();
/// let chaos = broker.chaos(7).only([FaultKind::Cut, FaultKind::Restart]).every(20).at_most(50).start();
/// // ... the client under test ...
/// let faults = chaos.stop();
/// # assert!(faults.is_empty());
/// ```
#[derive(Debug)]
#[must_use = "a chaos does nothing until it is started"]
pub struct ChaosBuilder<'a> {
    broker: &'a Broker,
    plan: Plan,
}

/// Faults that come until this is stopped or dropped. What lasts then ends: what is not read is read, who is blocked may
/// publish, nothing more is refused.
///
/// Each fault is logged with the level `info`. `Debug` shows the seed and the faults; so do the panics of the
/// assertions of the broker, and, on standard error, a drop while a test panics.
///
/// # Examples
/// ```
/// use actix_pika_broker::Broker;
///
/// let broker = Broker::start().unwrap();
/// let chaos = broker.chaos(7).start();
/// assert_eq!(format!("{chaos:?}"), "chaos with the seed 7: 0 faults");
/// ```
#[must_use = "a chaos ends when it is dropped"]
pub struct Chaos {
    shared: Arc<Shared>,
}

impl Broker {
    /// Returns a builder for random faults. The same seed gives the same faults as long as the same frames come in the
    /// same order: a fault comes after a number of frames, not after a time.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// let chaos = broker.chaos(7).start();
    /// ```
    pub fn chaos(&self, seed: u64) -> ChaosBuilder<'_> {
        let plan = Plan { seed, kinds: FaultKind::USUAL.to_vec(), every: EVERY, most: u64::MAX };
        ChaosBuilder { broker: self, plan }
    }
}

impl ChaosBuilder<'_> {
    /// Sets which kinds of faults come; [`FaultKind::USUAL`] unless set. A kind that is named twice is twice as likely.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::{Broker, FaultKind};
    /// let broker = Broker::start().unwrap();
    /// let cuts = broker.chaos(7).only([FaultKind::Cut]);
    /// ```
    pub fn only(mut self, kinds: impl IntoIterator<Item = FaultKind>) -> Self {
        self.plan.kinds = kinds.into_iter().collect();
        self
    }

    /// Sets how many frames of clients come between two faults, on average; 100 unless set, at least 1.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// let often = broker.chaos(7).every(10);
    /// ```
    pub fn every(mut self, frames: u64) -> Self {
        self.plan.every = frames.max(1);
        self
    }

    /// Sets after how many faults no more come; there is no such number unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// let few = broker.chaos(7).at_most(3);
    /// ```
    pub fn at_most(mut self, faults: u64) -> Self {
        self.plan.most = faults;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If there is one that was not stopped.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// let chaos = broker.chaos(7).start();
    /// ```
    #[track_caller]
    pub fn start(self) -> Chaos {
        let shared = Arc::clone(&self.broker.shared);
        let is_free = shared.change(|state| {
            let is_free = state.chaos.as_ref().is_none_or(Machine::is_stopped);
            if is_free {
                state.chaos = Some(Machine::new(self.plan));
                state.each_peer(|peer, _, _| {
                    peer.take_handled();
                });
            }
            is_free
        });
        assert!(is_free, "a broker has one chaos at a time");
        Chaos { shared }
    }
}

impl Chaos {
    /// Returns the seed.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// assert_eq!(broker.chaos(7).start().seed(), 7);
    /// ```
    pub fn seed(&self) -> u64 {
        self.shared.look(|state| state.chaos.as_ref().map_or(0, Machine::seed))
    }

    /// Returns the faults up to now; the last 1,000 of more.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// assert!(broker.chaos(7).start().faults().is_empty());
    /// ```
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.look(State::faults)
    }

    /// Stops it, and returns the faults, the last 1,000 of more.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// let broker = Broker::start().unwrap();
    /// assert!(broker.chaos(7).start().stop().is_empty());
    /// ```
    pub fn stop(self) -> Vec<Fault> {
        self.shared.change(State::end_chaos);
        self.faults()
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        if self.shared.broken().is_none() {
            self.shared.change(State::end_chaos);
        }
        if thread::panicking() {
            // Not by a macro of printing: tests capture that.
            let _ = writeln!(std::io::stderr(), "{self:?}");
        }
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.look(|state| state.chaos.as_ref().map_or(Ok(()), |chaos| write!(f, "{chaos}")))
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chaos with the seed {}: {} faults", self.seed(), self.count())?;
        self.faults().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl State {
    /// Describes the chaos that there is or was, for the panics of assertions.
    pub(super) fn describe_chaos(&self) -> String {
        self.chaos.as_ref().map_or_else(String::new, |chaos| format!("\n{chaos}"))
    }

    /// Counts the frames that peers have handled, causes the fault that is due, and lets those go on that were held for it.
    /// Returns whether there were any, or a fault.
    pub(super) fn disturb(&mut self) -> bool {
        let Some(chaos) = &mut self.chaos else { return false };
        let handled = |id| self.peers.get_mut(id).map_or(0, |entry| entry.peer.take_handled());
        let frames = self.touched.iter().map(handled).sum();
        let is_due = chaos.has_counted(frames);
        if is_due {
            self.strike();
        }
        let peers = self.touched.iter().copied();
        let held: Vec<PeerId> =
            peers.filter(|id| self.peers.get(id).is_some_and(|entry| entry.peer.is_over_budget())).collect();
        held.iter().for_each(|id| self.with_peer(*id, Peer::process));
        is_due || !held.is_empty()
    }

    fn strike(&mut self) {
        let (now, scene) = (self.clock.net(), self.scene());
        let Some(chaos) = &mut self.chaos else { return };
        // There may be nothing to hit.
        let Some(action) = chaos.strike(now, &scene) else { return };
        if let Some(fault) = chaos.faults().last() {
            log::info!("chaos: {fault}");
        }
        self.perform(action);
    }

    /// Ends what is due to end.
    pub(super) fn end_faults(&mut self) {
        let now = self.clock.net();
        let ends = self.chaos.as_mut().map(|chaos| chaos.ends(now));
        ends.into_iter().flatten().for_each(|action| self.perform(action));
    }

    fn end_chaos(&mut self) {
        let ends = self.chaos.as_mut().filter(|chaos| !chaos.is_stopped()).map(Machine::stop);
        ends.into_iter().flatten().for_each(|action| self.perform(action));
        self.each_peer(Peer::process);
    }

    fn faults(&self) -> Vec<Fault> {
        self.chaos.iter().flat_map(Machine::faults).cloned().collect()
    }

    fn scene(&self) -> Scene {
        let peers = self.peers.iter().map(|(&peer, entry)| {
            let open = entry.peer.id().filter(|id| self.core.is_open(*id));
            let info = open.and_then(|id| self.core.connection_info(id));
            let name = info.map_or_else(|| entry.peer.address().to_owned(), |info| info.name.to_string());
            Target { peer, open, name: format!("connection {peer} '{name}'") }
        });
        let vhosts = self.core.vhosts();
        let consumed = vhosts.flat_map(|vhost| {
            let mut queues: Vec<String> =
                self.core.consumers(vhost).iter().map(|consumer| consumer.queue.to_string()).collect();
            queues.sort();
            queues.dedup();
            queues.into_iter().map(|queue| (vhost.to_owned(), queue))
        });
        Scene { peers: peers.collect(), consumed: consumed.collect() }
    }

    fn perform(&mut self, action: Action) {
        let now = self.clock.core();
        match action {
            Action::CutOutput(peer, octets) => self.with_peer(peer, |peer, _, _| peer.cut_after(octets)),
            Action::CutInput(peer, octets) => {
                self.with_peer(peer, |peer, core, now| peer.cut_input_after(core, now, octets));
            }
            Action::Close(connection, code) => {
                let close = Failure::Connection(Close::new(code, "chaos".to_owned()));
                self.core.fail(now, connection, 0, close);
            }
            Action::PauseReading(peer, paused) => {
                self.with_peer(peer, |peer, core, now| peer.set_read_paused(core, now, paused));
            }
            Action::Delay(peer, millis) => self.with_peer(peer, |peer, _, _| peer.delay = millis),
            Action::Refuse(connects) => self.refused = connects,
            Action::Nack(publishes) => self.core.nack_next(publishes),
            Action::Return(publishes) => self.core.return_next(publishes),
            Action::Cancel(vhost, queue) => {
                self.core.cancel_consumers(now, &vhost, &queue);
            }
            Action::Alarm(reason) => self.set_alarm(reason.map(str::to_owned)),
            Action::Restart => self.restart(Keep::Durable),
            Action::RestartEmpty => self.restart(Keep::Nothing),
            Action::Forget => {
                self.refused = 0;
                self.core.forget_faults();
            }
        }
    }
}
