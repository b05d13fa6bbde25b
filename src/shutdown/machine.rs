//! Decides the order of a shutdown, and what of its time each step has.

use std::time::Duration;

use tokio::time::Instant;

/// The least time for closing connections: as long as the broker has for its reply.
const CLOSE_MIN: Duration = Duration::from_millis(250);

/// The least time in which what is drained has to report, once its limit has passed.
const REPORT_MIN: Duration = Duration::from_millis(100);

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Everything goes on, while load balancers learn that the process is not ready.
    Pause(Duration),
    /// Consumers stop and drain, and so does the HTTP server.
    Drain(Limit),
    /// Relays and bridges drain.
    Relays(Limit),
    /// Connections await their confirms, and close.
    Close(Limit),
    Done,
}

/// How long a step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// What still runs then is ended.
    pub(super) end: Duration,
    /// What has not reported by then is given up. Its thread is blocked.
    pub(super) give_up: Duration,
}

/// The order of a shutdown, under one deadline. It is given the time.
#[derive(Debug)]
pub(super) struct Machine {
    phase: Phase,
    /// When handlers, relays and bridges have to be done.
    work_by: Instant,
    /// When everything has to be done.
    deadline: Instant,
    is_forced: bool,
    is_late: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Pausing { until: Instant },
    Draining,
    Relaying,
    Closing,
    Done,
}

/// Returns how much of the time of a shutdown is kept for closing the connections.
fn reserve(within: Duration) -> Duration {
    (within / 10).clamp(2 * CLOSE_MIN, Duration::from_secs(3)).min(within / 2)
}

impl Machine {
    /// Begins a shutdown that has to be done `within` a time, the pause included.
    pub(super) fn begin(within: Duration, pause: Duration, now: Instant) -> Self {
        let deadline = now + within;
        let work_by = deadline - reserve(within);
        let until = work_by.min(now + pause.min(within));
        let phase = if until > now { Phase::Pausing { until } } else { Phase::Draining };
        Self { phase, work_by, deadline, is_forced: false, is_late: false }
    }

    /// Returns the present step, with what is left of its time.
    pub(super) fn step(&self, now: Instant) -> Step {
        let left = |until: Instant| until.saturating_duration_since(now);
        match self.phase {
            Phase::Pausing { until } => Step::Pause(left(until)),
            Phase::Draining => Step::Drain(self.work_limit(now)),
            Phase::Relaying => Step::Relays(self.work_limit(now)),
            Phase::Closing => {
                let end = left(self.deadline).max(CLOSE_MIN);
                Step::Close(Limit { end, give_up: end + CLOSE_MIN })
            }
            Phase::Done => Step::Done,
        }
    }

    fn work_limit(&self, now: Instant) -> Limit {
        let end = self.work_by.saturating_duration_since(now);
        let half_of_reserve = self.work_by + self.deadline.saturating_duration_since(self.work_by) / 2;
        Limit { end, give_up: half_of_reserve.saturating_duration_since(now).max(end + REPORT_MIN) }
    }

    /// The present step has ended.
    pub(super) fn ended(&mut self, now: Instant) {
        let is_over = now >= self.work_by && !self.is_forced;
        self.phase = match self.phase {
            Phase::Pausing { .. } => Phase::Draining,
            Phase::Draining => {
                self.is_late |= is_over;
                Phase::Relaying
            }
            Phase::Relaying => {
                self.is_late |= is_over;
                Phase::Closing
            }
            Phase::Closing => {
                self.is_late |= now >= self.deadline && !self.is_forced;
                Phase::Done
            }
            Phase::Done => Phase::Done,
        };
    }

    /// The second signal: nothing is waited for any more. The present step begins anew, without time.
    pub(super) fn force(&mut self, now: Instant) {
        self.is_forced = true;
        self.work_by = self.work_by.min(now);
        self.deadline = self.deadline.min(now);
        if let Phase::Pausing { .. } = self.phase {
            self.phase = Phase::Draining;
        }
    }

    pub(super) fn is_forced(&self) -> bool {
        self.is_forced
    }

    /// Returns whether a step has used up its time.
    pub(super) fn is_late(&self) -> bool {
        self.is_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn limit(end: u64, give_up: u64) -> Limit {
        Limit { end: millis(end), give_up: millis(give_up) }
    }

    /// A shutdown within ten seconds, of which one is kept for the connections.
    struct Run {
        machine: Machine,
        now: Instant,
    }

    impl Run {
        fn begin(pause: u64) -> Self {
            let now = Instant::now();
            Self { machine: Machine::begin(millis(10_000), millis(pause), now), now }
        }

        /// The present step ends after `after` milliseconds; returns the next one.
        fn ends(&mut self, after: u64) -> Step {
            self.now += millis(after);
            self.machine.ended(self.now);
            self.step()
        }

        fn step(&self) -> Step {
            self.machine.step(self.now)
        }
    }

    /// SHUT-01
    #[test]
    fn each_step_has_what_the_steps_before_it_have_left() {
        let mut run = Run::begin(2_000);
        assert_eq!(run.step(), Step::Pause(millis(2_000)));
        assert_eq!(run.ends(2_000), Step::Drain(limit(7_000, 7_500)));
        assert_eq!(run.ends(3_000), Step::Relays(limit(4_000, 4_500)));
        assert_eq!(run.ends(1_500), Step::Close(limit(3_500, 3_750)));
        assert_eq!(run.ends(10), Step::Done);
        assert!(!run.machine.is_late() && !run.machine.is_forced());
        assert_eq!(run.ends(10), Step::Done);
    }

    /// SHUT-01
    #[test]
    fn without_a_pause_it_begins_with_the_consumers() {
        assert_eq!(Run::begin(0).step(), Step::Drain(limit(9_000, 9_500)));
    }

    /// SHUT-02
    #[test]
    fn a_stuck_handler_leaves_time_for_the_connections() {
        let mut run = Run::begin(0);
        // It is given up in the middle of the reserve.
        assert_eq!(run.ends(9_500), Step::Relays(limit(0, 100)));
        assert_eq!(run.ends(0), Step::Close(limit(500, 750)));
        assert_eq!(run.ends(100), Step::Done);
        assert!(run.machine.is_late());
    }

    /// SHUT-02
    #[test]
    fn a_pause_leaves_time_for_the_connections() {
        let mut run = Run::begin(60_000);
        assert_eq!(run.step(), Step::Pause(millis(9_000)));
        assert_eq!(run.ends(9_000), Step::Drain(limit(0, 500)));
    }

    /// SHUT-02
    #[test]
    fn the_reserve_is_a_tenth_within_bounds() {
        for (within, reserved) in
            [(0, 0), (600, 300), (2_000, 500), (10_000, 1_000), (25_000, 2_500), (600_000, 3_000)]
        {
            assert_eq!(reserve(millis(within)), millis(reserved), "{within}");
        }
    }

    /// SHUT-02
    #[test]
    fn without_time_the_close_has_what_the_broker_needs() {
        let now = Instant::now();
        let mut machine = Machine::begin(Duration::ZERO, Duration::ZERO, now);
        assert_eq!(machine.step(now), Step::Drain(limit(0, 100)));
        machine.ended(now);
        machine.ended(now);
        assert_eq!(machine.step(now), Step::Close(limit(250, 500)));
    }

    /// SHUT-04
    #[test]
    fn a_second_signal_ends_each_step_at_once() {
        for (steps, expected) in [
            (0, Step::Drain(limit(0, 100))),
            (1, Step::Drain(limit(0, 100))),
            (2, Step::Relays(limit(0, 100))),
            (3, Step::Close(limit(250, 500))),
            (4, Step::Done),
        ] {
            let mut run = Run::begin(1_000);
            for _ in 0..steps {
                run.ends(1_000);
            }
            run.machine.force(run.now);
            assert_eq!(run.step(), expected);
            run.ends(50);
            run.ends(50);
            run.ends(50);
            assert_eq!(run.step(), Step::Done);
            assert!(run.machine.is_forced() && !run.machine.is_late(), "what was cut was cut by the signal");
        }
    }
}
