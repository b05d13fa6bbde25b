//! What becomes of the message of a task that has ended. A plain decision.

use std::time::Duration;

use super::Verdict;

/// The pauses of a retry in place.
const PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// How long a message is held that cannot be dead-lettered, before it returns to its queue.
const HOLD: Duration = Duration::from_secs(5);

/// How often the publish of a copy may fail, before the message returns to its queue: for a minute.
const REFUSALS: u32 = 14;

/// Returns after which pause a copy is published again that could not be published for the `refusals`th time.
pub(crate) fn publish_again(refusals: u32) -> Option<Duration> {
    let pause = PAUSES.get(refusals.saturating_sub(1) as usize).unwrap_or(&PAUSES[2]);
    (refusals < REFUSALS).then_some(*pause)
}

/// The longest pause, so that its end cannot overflow: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The means that a consumer has for failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    /// Whether retries are published to a ladder of delays, which dead-letters too.
    pub(crate) ladder: bool,
    /// Whether a rejected message is known to be dead-lettered.
    pub(crate) dead_letters: bool,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// It is dead-lettered by the broker (`basic.reject`).
    Reject,
    /// It returns to its queue (`basic.reject`).
    Requeue,
    /// The task runs again here after this pause.
    RunAgain(Duration),
    /// It returns to its queue after this pause: there is nothing to dead-letter it with.
    Hold(Duration),
    /// A copy is published to a step of the ladder with at least this delay, and then it is done.
    Step(Option<Duration>),
    /// A copy is published to the ladder's last stop, and then it is done.
    DeadLetter,
}

impl Means {
    /// Returns what becomes of a message whose task failed for the `failures`th time here. `random` is from 0 to 1.
    pub(crate) fn after(self, verdict: Verdict, failures: u32, random: f64) -> Next {
        let at_least = match verdict {
            Verdict::Requeue => return Next::Requeue,
            Verdict::Reject if self.ladder => return Next::DeadLetter,
            Verdict::Reject => return Next::Reject,
            Verdict::Retry => None,
            Verdict::RetryIn(pause) => Some(pause),
        };
        if self.ladder {
            return Next::Step(at_least);
        }
        match PAUSES.get(failures.saturating_sub(1) as usize) {
            Some(pause) => {
                let pause = pause.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0));
                Next::RunAgain(pause.max(at_least.unwrap_or_default()).min(LONGEST))
            }
            None if self.dead_letters => Next::Reject,
            None => Next::Hold(HOLD),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Means = Means { ladder: false, dead_letters: false };
    const LADDER: Means = Means { ladder: true, dead_letters: true };

    #[test]
    fn a_task_runs_again_three_times_in_place() {
        let run_again = |millis| Next::RunAgain(Duration::from_millis(millis));
        for (failures, millis) in [(1, 200), (2, 1000), (3, 5000)] {
            assert_eq!(NOTHING.after(Verdict::Retry, failures, 0.5), run_again(millis));
            assert_eq!(NOTHING.after(Verdict::Retry, failures, 0.0), run_again(millis * 8 / 10));
            assert_eq!(NOTHING.after(Verdict::Retry, failures, 1.0), run_again(millis * 12 / 10));
        }
        assert_eq!(NOTHING.after(Verdict::Retry, 4, 0.5), Next::Hold(HOLD));
        assert_eq!(Means { dead_letters: true, ..NOTHING }.after(Verdict::Retry, 4, 0.5), Next::Reject);
    }

    #[test]
    fn a_pause_is_at_least_what_the_handler_asked_for() {
        let minute = Duration::from_secs(60);
        assert_eq!(NOTHING.after(Verdict::RetryIn(minute), 1, 0.5), Next::RunAgain(minute));
        assert_eq!(
            NOTHING.after(Verdict::RetryIn(Duration::from_millis(1)), 2, 0.5),
            Next::RunAgain(Duration::from_secs(1))
        );
        assert_eq!(NOTHING.after(Verdict::RetryIn(Duration::MAX), 1, 0.5), Next::RunAgain(LONGEST));
        assert_eq!(LADDER.after(Verdict::RetryIn(minute), 9, 0.5), Next::Step(Some(minute)));
    }

    #[test]
    fn a_copy_is_published_again_for_a_minute() {
        let pauses: Vec<Duration> = (1..).map_while(publish_again).collect();
        assert_eq!(pauses[..4], [PAUSES[0], PAUSES[1], PAUSES[2], PAUSES[2]]);
        assert_eq!(pauses.iter().sum::<Duration>(), Duration::from_millis(56_200));
    }

    #[test]
    fn a_ladder_takes_retries_and_dead_letters() {
        assert_eq!(LADDER.after(Verdict::Retry, 1, 0.5), Next::Step(None));
        assert_eq!(LADDER.after(Verdict::Reject, 1, 0.5), Next::DeadLetter);
        assert_eq!(LADDER.after(Verdict::Requeue, 1, 0.5), Next::Requeue);
        assert_eq!(NOTHING.after(Verdict::Reject, 1, 0.5), Next::Reject);
    }
}
