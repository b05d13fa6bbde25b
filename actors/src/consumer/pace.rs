//! How many deliveries a target gets without a request for their result. A plain machine.
//!
//! A mailbox keeps its order: when a request is answered, the target has begun all that was sent before it. So
//! what was sent without a request cannot be taken back only until the next request is answered. That is at
//! most as much as the target handles within [`KEPT_WORK`], by the pace of its last timed batch.

use std::time::Duration;

use tokio::time::Instant;

/// How much of its work cannot be taken back from a target.
const KEPT_WORK: Duration = Duration::from_millis(100);
/// The most deliveries without a request that the target may not have begun.
const MAX_WINDOW: u64 = 4096;
/// A target has begun this many deliveries for each that it may get without a request.
const BEGUN_PER_PLAIN: u64 = 4;

/// Deliveries are numbered in the order in which they are sent, from 1.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// How many the target handles within [`KEPT_WORK`].
    measured: u64,
    /// The last that was sent.
    sent: u64,
    /// The last that the target has certainly begun.
    begun: u64,
    /// The last that was sent as a request.
    asked: u64,
    /// How many requests are not answered.
    unanswered: u64,
    timed: Option<Timed>,
    /// The next batch has a request, however many may go without.
    ask_next: bool,
}

/// The request at the end of a batch whose answer tells the pace; one at a time.
#[derive(Debug)]
struct Timed {
    number: u64,
    sent_at: Instant,
    /// The size of the batch, which the target has handled when it answers.
    handled: u64,
}

impl Pace {
    /// Returns how many of a batch go without a request, the first ones.
    #[inline]
    pub(super) fn plain(&self, size: u64) -> u64 {
        let window = self.measured.min(self.begun / BEGUN_PER_PLAIN).min(MAX_WINDOW);
        let kept = self.sent - self.begun - self.unanswered;
        let free = window.saturating_sub(kept);
        let since_request = self.sent - self.asked.max(self.begun);
        // Two requests in each window: the first is answered, as a rule, before the window is used up.
        match size <= free && since_request + size <= window / 2 && !self.ask_next {
            true => size,
            false => free.min(size.saturating_sub(1)),
        }
    }

    /// Deliveries were sent without a request.
    #[inline]
    pub(super) fn sent(&mut self, deliveries: u64) {
        self.sent += deliveries;
    }

    /// A delivery is sent as a request. Returns its number.
    pub(super) fn request(&mut self) -> u64 {
        self.sent += 1;
        self.unanswered += 1;
        self.asked = self.sent;
        self.sent
    }

    /// The last request ends a batch of this size. Returns whether to note when it is answered.
    pub(super) fn end_batch(&mut self, size: u64, now: impl FnOnce() -> Instant) -> bool {
        let is_timed = self.timed.is_none();
        if is_timed {
            self.ask_next = false;
            self.timed = Some(Timed { number: self.sent, sent_at: now(), handled: size });
        }
        is_timed
    }

    /// Some requests are not waited for any longer: that with this number was answered, at the time that
    /// `at` returns, or a later one was.
    pub(super) fn answered(&mut self, number: u64, at: impl FnOnce() -> Instant) {
        self.begun = number;
        self.unanswered -= 1;
        if let Some(timed) = self.timed.take_if(|timed| timed.number == number) {
            // A target on another thread may have handled some of the batch before the last was sent.
            let took = at().saturating_duration_since(timed.sent_at).as_secs_f64();
            // A float that is too large, or infinite, becomes the largest integer.
            self.measured = (timed.handled as f64 * KEPT_WORK.as_secs_f64() / took) as u64;
        }
    }

    /// Has the pace measured with the next batch.
    pub(super) fn measure(&mut self) {
        self.ask_next = self.timed.is_none();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A target that handles what is sent to it in its order.
    struct Lane {
        pace: Pace,
        now: Instant,
        /// The numbers of the requests that are not answered.
        requests: Vec<u64>,
        /// Those that were sent without a request and that the target has not begun.
        plain: Vec<u64>,
        /// The last that the target has handled.
        handled: u64,
    }

    impl Lane {
        fn new() -> Self {
            let (pace, now) = (Pace::default(), Instant::now());
            Self { pace, now, requests: Vec::new(), plain: Vec::new(), handled: 0 }
        }

        /// Sends a batch. Returns how many of it went without a request.
        fn send(&mut self, deliveries: u64) -> u64 {
            let sent = self.pace.sent;
            let plain = self.pace.plain(deliveries);
            self.pace.sent(plain);
            self.plain.extend(sent + 1..=sent + plain);
            for _ in plain..deliveries {
                let number = self.pace.request();
                self.requests.push(number);
            }
            if plain < deliveries {
                self.pace.end_batch(deliveries, || self.now);
            }
            plain
        }

        /// The target handles all up to this number, with this time for each.
        fn handle(&mut self, through: u64, each: Duration) {
            let answered = self.requests.iter().take_while(|number| **number <= through).count();
            let requests: Vec<u64> = self.requests.drain(..answered).collect();
            for number in requests {
                let at = self.now + each * (number - self.handled) as u32;
                self.pace.answered(number, || at);
            }
            self.now += each * (through - self.handled) as u32;
            self.handled = through;
            self.plain.retain(|number| *number > through);
        }

        fn handle_all(&mut self, each: Duration) {
            self.handle(self.pace.sent, each);
        }
    }

    /// A lane whose target has handled many deliveries with this time for each.
    fn lane(each: Duration) -> Lane {
        let mut lane = Lane::new();
        for _ in 0..50 {
            lane.send(1000);
            lane.handle_all(each);
        }
        lane
    }

    #[test]
    fn a_quick_target_gets_few_requests() {
        let mut lane = lane(Duration::from_micros(1));
        for _ in 0..100 {
            assert!(lane.send(1000) >= 999);
            lane.handle_all(Duration::from_micros(1));
        }
        let trickle: u64 = (0..100_000)
            .map(|_| {
                let plain = lane.send(1);
                lane.handle_all(Duration::from_micros(1));
                plain
            })
            .sum();
        assert!(100_000 - trickle <= 100_000 / (MAX_WINDOW / 2) + 1);
    }

    #[test]
    fn a_new_target_gets_all_as_requests_until_it_has_begun_some() {
        let mut lane = Lane::new();
        for _ in 0..3 {
            assert_eq!(lane.send(1), 0);
            lane.handle_all(Duration::from_micros(1));
        }
        assert_eq!(lane.send(100), 0);
    }

    #[test]
    fn a_slow_target_gets_requests_only() {
        for each in [101, 1000] {
            let mut lane = lane(each * MILLISECOND);
            assert_eq!(lane.send(1000), 0);
            lane.handle(lane.handled + 500, each * MILLISECOND);
            assert_eq!(lane.send(1000), 0);
        }
    }

    #[test]
    fn what_cannot_be_taken_back_is_a_tenth_of_a_second() {
        let mut lane = lane(MILLISECOND);
        assert_eq!(lane.send(5000), 100);
        // While the target is busy, too.
        for _ in 0..100 {
            lane.handle(lane.handled + 60, MILLISECOND);
            lane.send(60);
            assert!(lane.plain.len() <= 100, "{:?}", lane.plain);
        }
    }

    #[test]
    fn a_target_that_becomes_slow_keeps_one_window() {
        let mut lane = lane(Duration::from_micros(1));
        let kept = lane.send(10_000);
        assert!((MAX_WINDOW / 2..=MAX_WINDOW).contains(&kept), "{kept}");
        lane.handle_all(1000 * MILLISECOND);
        assert_eq!(lane.send(10_000), 0);
    }

    #[test]
    fn time_without_deliveries_does_not_count() {
        let mut lane = lane(Duration::from_micros(1));
        for _ in 0..100 {
            lane.now += 1000 * MILLISECOND;
            let requests = 1000 - lane.send(1000);
            assert!(requests <= 1, "{requests}");
            lane.handle_all(Duration::from_micros(1));
        }
    }

    #[test]
    fn a_target_that_became_slow_is_noticed_when_the_pace_is_measured() {
        let mut lane = lane(Duration::from_micros(1));
        assert_eq!(lane.send(1), 1);
        lane.handle_all(1000 * MILLISECOND);
        lane.pace.measure();
        assert_eq!(lane.send(1), 0);
        lane.handle_all(1000 * MILLISECOND);
        assert_eq!(lane.send(250), 0);
    }

    #[test]
    fn an_answer_tells_that_all_before_it_was_begun() {
        let mut lane = lane(Duration::from_micros(1));
        lane.send(10_000);
        // Only the last request is answered: its handler was the quickest.
        for number in std::mem::take(&mut lane.requests) {
            lane.pace.answered(number, || lane.now + MILLISECOND);
        }
        assert_eq!((lane.pace.begun, lane.pace.unanswered), (lane.pace.sent, 0));
        assert!(lane.pace.plain(1) > 0);
    }
}
