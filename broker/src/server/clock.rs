//! The time of a broker: that of tokio, or what the test says.

use std::time::Duration;

use tokio::time::Instant;

use crate::core::Time;

/// Where the time comes from. Queues and sockets have times of their own, so that messages can expire while no
/// heartbeat is missed.
#[derive(Debug)]
pub(super) enum Clock {
    /// It goes on with tokio's clock, which a test may pause.
    Running { start: Instant, net_ahead: u64, core_ahead: u64 },
    /// It stands until it is advanced.
    Manual { core: Time, net: Time },
}

impl Clock {
    pub(super) fn running() -> Self {
        Self::Running { start: Instant::now(), net_ahead: 0, core_ahead: 0 }
    }

    pub(super) fn manual() -> Self {
        Self::Manual { core: Time::ZERO, net: Time::ZERO }
    }

    /// The time of queues and messages.
    pub(super) fn core(&self) -> Time {
        match self {
            Self::Running { start, core_ahead, .. } => since(*start).after_millis(*core_ahead),
            Self::Manual { core, .. } => *core,
        }
    }

    /// The time of sockets.
    pub(super) fn net(&self) -> Time {
        match self {
            Self::Running { start, net_ahead, .. } => since(*start).after_millis(*net_ahead),
            Self::Manual { net, .. } => *net,
        }
    }

    pub(super) fn advance_core(&mut self, by: Duration) {
        match self {
            Self::Running { core_ahead, .. } => *core_ahead = core_ahead.saturating_add(millis(by)),
            Self::Manual { core, .. } => *core = *core + by,
        }
    }

    pub(super) fn advance_net(&mut self, by: Duration) {
        match self {
            Self::Running { net_ahead, .. } => *net_ahead = net_ahead.saturating_add(millis(by)),
            Self::Manual { net, .. } => *net = *net + by,
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

fn since(start: Instant) -> Time {
    Time::ZERO + start.elapsed()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut clock = Clock::running();
        clock.advance_core(Duration::from_secs(3600));
        assert!(clock.core() >= Time::from_millis(3_600_000));
        assert_eq!(clock.until(Some(Time::from_millis(3_600_000)), None), Some(Duration::ZERO));
        assert_eq!(clock.until(None, None), None);
    }
}
