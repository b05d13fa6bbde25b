//! The time of a broker: the system's, tokio's, or what the test says.

use std::time::{Duration, Instant};

use tokio::{runtime::Handle, time};

use super::handle::millis;
use crate::core::Time;

/// How far ahead a clock can be moved, in milliseconds: 100 years. From there, times are still told apart.
const FURTHEST: u64 = 100 * 31_557_600_000;

/// Where the time comes from. Queues and sockets have times of their own, so that messages can expire while no
/// heartbeat is missed.
#[derive(Debug)]
pub(super) enum Clock {
    /// It goes on by itself.
    Running { origin: Origin, net_ahead: u64, core_ahead: u64 },
    /// It stands until it is advanced.
    Manual { core: Time, net: Time },
}

/// The clock that a running one follows.
#[derive(Debug)]
pub(super) enum Origin {
    System(Instant),
    /// That of one runtime, which a test may pause. Whoever asks from another thread gets its time, too.
    Runtime {
        handle: Handle,
        start: time::Instant,
    },
}

impl Origin {
    fn elapsed(&self) -> Duration {
        match self {
            Self::System(start) => start.elapsed(),
            Self::Runtime { handle, start } => {
                let _entered = handle.enter();
                start.elapsed()
            }
        }
    }
}

impl Clock {
    /// Follows the clock of the system.
    pub(super) fn system() -> Self {
        Self::follow(Origin::System(Instant::now()))
    }

    /// Follows the clock of the caller's runtime.
    ///
    /// # Panics
    /// Outside a runtime.
    pub(super) fn of_runtime() -> Self {
        Self::follow(Origin::Runtime { handle: Handle::current(), start: time::Instant::now() })
    }

    fn follow(origin: Origin) -> Self {
        Self::Running { origin, net_ahead: 0, core_ahead: 0 }
    }

    pub(super) fn manual() -> Self {
        Self::Manual { core: Time::ZERO, net: Time::ZERO }
    }

    /// The time of queues and messages.
    pub(super) fn core(&self) -> Time {
        match self {
            Self::Running { origin, core_ahead, .. } => {
                (Time::ZERO + origin.elapsed()).after_millis(*core_ahead)
            }
            Self::Manual { core, .. } => *core,
        }
    }

    /// The time of sockets.
    pub(super) fn net(&self) -> Time {
        match self {
            Self::Running { origin, net_ahead, .. } => {
                (Time::ZERO + origin.elapsed()).after_millis(*net_ahead)
            }
            Self::Manual { net, .. } => *net,
        }
    }

    pub(super) fn advance_core(&mut self, by: Duration) {
        match self {
            Self::Running { core_ahead, .. } => *core_ahead = ahead(*core_ahead, by),
            Self::Manual { core, .. } => *core = Time::from_millis(ahead(core.as_millis(), by)),
        }
    }

    pub(super) fn advance_net(&mut self, by: Duration) {
        match self {
            Self::Running { net_ahead, .. } => *net_ahead = ahead(*net_ahead, by),
            Self::Manual { net, .. } => *net = Time::from_millis(ahead(net.as_millis(), by)),
        }
    }

    /// Returns how long to wait for a time, or None if only an advance brings it.
    pub(super) fn until(&self, core: Option<Time>, net: Option<Time>) -> Option<Duration> {
        if matches!(self, Self::Manual { .. }) {
            return None;
        }
        let left =
            |at: Time, now: Time| Duration::from_millis(at.as_millis().saturating_sub(now.as_millis()));
        let core = core.map(|at| left(at, self.core()));
        let net = net.map(|at| left(at, self.net()));
        core.into_iter().chain(net).min()
    }
}

fn ahead(before: u64, by: Duration) -> u64 {
    before.saturating_add(millis(by)).min(FURTHEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_manual_clock_moves_only_when_it_is_advanced() {
        let mut clock = Clock::manual();
        clock.advance_core(Duration::from_secs(30));
        assert_eq!((clock.core(), clock.net()), (Time::from_millis(30_000), Time::ZERO));
        clock.advance_net(Duration::from_millis(5));
        assert_eq!((clock.core(), clock.net()), (Time::from_millis(30_000), Time::from_millis(5)));
        assert_eq!(clock.until(Some(Time::from_millis(31_000)), None), None);
    }

    #[test]
    fn a_running_clock_can_be_advanced_too() {
        let mut clock = Clock::system();
        clock.advance_core(HOUR);
        assert!(clock.core() >= Time::ZERO + HOUR);
        assert_eq!(clock.until(Some(Time::ZERO + HOUR), None), Some(Duration::ZERO));
        assert_eq!(clock.until(None, None), None);
    }

    /// What is set for later is later, and comes once.
    #[test]
    fn there_is_time_left_behind_the_longest_advance() {
        for mut clock in [Clock::manual(), Clock::system()] {
            clock.advance_core(Duration::MAX);
            clock.advance_net(Duration::MAX);
            for now in [clock.core(), clock.net()] {
                assert!(now >= Time::from_millis(FURTHEST));
                assert_eq!(now.after_millis(5).as_millis(), now.as_millis() + 5);
            }
        }
    }

    /// A broker on a thread of its own is asked by a test whose clock is paused: its time does not jump.
    #[tokio::test(start_paused = true)]
    async fn the_clock_of_the_system_is_not_that_of_the_runtime() {
        let clock = Clock::system();
        time::advance(HOUR).await;
        assert!(clock.core() < Time::ZERO + HOUR && clock.net() < Time::ZERO + HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_of_a_runtime_is_the_same_from_every_thread() {
        let clock = Clock::of_runtime();
        time::advance(HOUR).await;
        assert_eq!((clock.core(), clock.net()), (Time::ZERO + HOUR, Time::ZERO + HOUR));
        let asked = std::thread::spawn(move || clock.core()).join();
        assert_eq!(asked.unwrap(), Time::ZERO + HOUR);
    }
}
