//! Which of many equal lines are logged: the first one, and then one each time an interval has passed, which
//! doubles. Every line that a peer, or what goes on for long, can cause again and again has one.
//!
//! A plain machine.

use std::{fmt, time::Duration};

use tokio::time::Instant;

const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
/// After a silence of so many intervals, the next line is logged as if it were the first.
const SILENCE: u32 = 4;

/// Counts equal lines of the log, and chooses those that are logged.
///
/// # Examples
/// ```
/// # use actix_pika_actors::facade::LogSchedule;
/// # use tokio::time::Instant;
/// let mut schedule = LogSchedule::default();
/// assert!(schedule.count(Instant::now()).is_some());
/// assert!(schedule.count(Instant::now()).is_none());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LogSchedule {
    first_interval: Duration,
    count: u64,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    logged: Instant,
    interval: Duration,
    counted: Instant,
}

/// How often something has happened, as the end of a line of the log.
///
/// # Examples
/// ```
/// # use actix_pika_actors::facade::LogSchedule;
/// # use tokio::time::Instant;
/// assert_eq!(LogSchedule::default().count(Instant::now()).unwrap().to_string(), "");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoFar(u64);

impl LogSchedule {
    /// Creates a schedule whose second line comes after this interval at the earliest.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use actix_pika_actors::facade::LogSchedule;
    /// let schedule = LogSchedule::from(Duration::from_secs(10));
    /// ```
    pub fn from(first_interval: Duration) -> Self {
        Self { first_interval, count: 0, last: None }
    }

    /// Counts one more. Returns how many there were if it is logged now.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::facade::LogSchedule;
    /// # use tokio::time::Instant;
    /// let mut schedule = LogSchedule::default();
    /// if let Some(so_far) = schedule.count(Instant::now()) {
    ///     println!("no route{so_far}");
    /// }
    /// ```
    pub fn count(&mut self, now: Instant) -> Option<SoFar> {
        self.count = self.count.saturating_add(1);
        let interval = match &mut self.last {
            None => self.first_interval,
            Some(last) => {
                let silence = now.saturating_duration_since(last.counted);
                last.counted = now;
                if silence >= last.interval.saturating_mul(SILENCE) {
                    self.first_interval
                } else if now.saturating_duration_since(last.logged) >= last.interval {
                    last.interval.saturating_mul(2).min(LONGEST_INTERVAL)
                } else {
                    return None;
                }
            }
        };
        self.last = Some(Last { logged: now, interval, counted: now });
        Some(SoFar(self.count))
    }
}

impl Default for LogSchedule {
    fn default() -> Self {
        Self::from(FIRST_INTERVAL)
    }
}

impl fmt::Display for SoFar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            n => write!(f, " ({n} so far)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(schedule: &mut LogSchedule, start: Instant, at: impl Iterator<Item = u64>) -> Vec<u64> {
        at.filter(|tenths| schedule.count(start + Duration::from_millis(100 * tenths)).is_some()).collect()
    }

    #[test]
    fn intervals_double() {
        let (mut schedule, start) = (LogSchedule::default(), Instant::now());
        // After 0, 1, 3, 7 and 15 seconds.
        assert_eq!(logged(&mut schedule, start, 0..200), [0, 10, 30, 70, 150]);
        let (mut schedule, ten) = (LogSchedule::from(Duration::from_secs(10)), 100);
        assert_eq!(
            logged(&mut schedule, start, (0..200).map(|n| n * 10)),
            [0, ten, 3 * ten, 7 * ten, 15 * ten]
        );
    }

    #[test]
    fn a_storm_of_a_day_is_a_few_lines() {
        let (mut schedule, start) = (LogSchedule::default(), Instant::now());
        assert_eq!(logged(&mut schedule, start, 0..864_000).len(), 13 + 22);
    }

    #[test]
    fn what_comes_after_a_silence_is_logged_at_once() {
        let (mut schedule, start) = (LogSchedule::default(), Instant::now());
        logged(&mut schedule, start, 0..100);
        // The interval is eight seconds.
        assert_eq!(logged(&mut schedule, start, [419, 420, 429].into_iter()), [419, 429]);
    }

    #[test]
    fn lines_tell_how_many_there_were() {
        let (mut schedule, start) = (LogSchedule::default(), Instant::now());
        assert_eq!(schedule.count(start).map(|n| n.to_string()).as_deref(), Some(""));
        assert!((0..10).all(|_| schedule.count(start).is_none()));
        let later = schedule.count(start + FIRST_INTERVAL);
        assert_eq!(later.map(|n| n.to_string()).as_deref(), Some(" (12 so far)"));
    }
}
