//! When something that goes on is logged: the first time, and then at intervals that double.

use std::time::Duration;

use tokio::time::Instant;

const FIRST_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
pub(in crate::supervisor) struct LogSchedule {
    last: Option<(Instant, Duration)>,
}

impl LogSchedule {
    /// Returns whether it is logged now.
    pub(in crate::supervisor) fn is_due(&mut self, now: Instant) -> bool {
        let interval = match self.last {
            None => FIRST_INTERVAL,
            Some((at, interval)) if now.saturating_duration_since(at) >= interval => {
                interval.saturating_mul(2)
            }
            Some(_) => return false,
        };
        self.last = Some((now, interval));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_double() {
        let (mut schedule, start) = (LogSchedule::default(), Instant::now());
        let logged: Vec<u64> =
            (0..200).filter(|second| schedule.is_due(start + Duration::from_secs(*second))).collect();
        assert_eq!(logged, [0, 10, 30, 70, 150]);
    }
}
