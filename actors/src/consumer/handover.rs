//! The mailbox of the target: how deliveries get into it, and how those that the target has not begun are
//! taken back.
//!
//! An actor skips a message whose sender has dropped the request for its result. Such a request costs more
//! than a message alone, so that a target that keeps up gets most deliveries without one: as many as it
//! handles within [`KEPT_WORK`], by the pace of the last requests. What a target that is slow has not begun
//! can be taken back almost completely.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix::{Recipient, dev::RecipientRequest};
use tokio::{task::unconstrained, time::Instant};

use crate::message::Delivery;

/// How much of its work cannot be taken back from a target.
const KEPT_WORK: Duration = Duration::from_millis(100);
/// The most deliveries that are sent without a request.
const MAX_PLAIN: usize = 4096;
/// Requests are searched for answered ones when there are this many, or twice as many as remained last time.
const FIRST_SEARCH: usize = 64;

type Request = Pin<Box<RecipientRequest<Delivery>>>;

#[derive(Default)]
pub(super) struct Handover {
    /// The requests that the target may not have begun; the oldest first.
    requests: VecDeque<Request>,
    pace: Pace,
    search_at: usize,
}

/// How many deliveries are sent without a request. A plain machine.
#[derive(Debug, Default)]
struct Pace {
    /// How many may still be sent without a request.
    plain_left: usize,
    /// How many were sent so at first.
    granted: usize,
    /// When the first request after them was sent.
    asked_at: Option<Instant>,
    /// How many requests were sent since then.
    asked: u32,
}

impl Pace {
    /// Returns whether the next delivery needs a request.
    #[inline]
    fn needs_request(&mut self) -> bool {
        match self.plain_left.checked_sub(1) {
            Some(left) => {
                self.plain_left = left;
                false
            }
            None => true,
        }
    }

    /// A request was sent.
    fn asked(&mut self, now: impl FnOnce() -> Instant) {
        self.asked += 1;
        self.asked_at.get_or_insert_with(now);
    }

    /// All requests are answered: the target has begun everything that it got.
    fn answered(&mut self, now: Instant) {
        let Some(asked_at) = self.asked_at.take() else { return };
        // Those before the requests were handled within this time, too.
        let handled = self.granted as f64 + f64::from(std::mem::take(&mut self.asked));
        let took = now.saturating_duration_since(asked_at).as_secs_f64();
        // A float that is too large, or infinite, becomes the largest integer.
        self.granted = ((handled * KEPT_WORK.as_secs_f64() / took) as usize).min(MAX_PLAIN);
        self.plain_left = self.granted;
    }
}

impl Handover {
    /// Sends deliveries to the target.
    pub(super) fn send_all(
        &mut self,
        target: &Recipient<Delivery>,
        deliveries: impl Iterator<Item = Delivery>,
    ) {
        if self.pace.plain_left == 0 {
            self.look();
        }
        for delivery in deliveries {
            self.send(target, delivery);
        }
    }

    #[inline]
    pub(super) fn send(&mut self, target: &Recipient<Delivery>, delivery: Delivery) {
        // The broker has no copy of what needs no acknowledgement, so that it is not taken back.
        if delivery.is_no_ack() || !self.pace.needs_request() {
            target.do_send(delivery);
        } else {
            self.request(target, delivery);
        }
    }

    fn request(&mut self, target: &Recipient<Delivery>, delivery: Delivery) {
        self.pace.asked(Instant::now);
        let mut request = Box::pin(target.send(delivery));
        // The first poll sends the message if the mailbox is full: an actix mailbox takes it nevertheless.
        if is_pending(&mut request) {
            self.requests.push_back(request);
        }
        if self.requests.len() >= self.search_at.max(FIRST_SEARCH) {
            self.requests.retain_mut(is_pending);
            self.search_at = 2 * self.requests.len();
        }
    }

    /// Looks whether the target has begun everything that it got.
    fn look(&mut self) {
        while self.requests.front_mut().is_some_and(|request| !is_pending(request)) {
            self.requests.pop_front();
        }
        if self.requests.is_empty() {
            self.pace.answered(Instant::now());
        }
    }

    /// Leaves the target what it has, though this value is dropped.
    pub(super) fn leave(&mut self) {
        let requests = std::mem::take(&mut self.requests);
        if !requests.is_empty() {
            actix_rt::spawn(async move {
                for request in requests {
                    // An error means that the target has stopped.
                    let _ = request.await;
                }
            });
        }
    }

    /// Takes back what the target has not begun: the mailbox drops it.
    pub(super) fn take_back(&mut self) {
        *self = Self::default();
    }
}

fn is_pending(request: &mut Request) -> bool {
    // Without the budget of the task, which makes every request look pending once it is used up.
    let mut request = unconstrained(request.as_mut());
    Pin::new(&mut request).poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover")
            .field("requests", &self.requests.len())
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Sends `deliveries`, which are all handled after `took`. Returns how many went without a request.
    fn lap(pace: &mut Pace, deliveries: usize, took: Duration) -> usize {
        let now = Instant::now();
        let mut plain = 0;
        for _ in 0..deliveries {
            if pace.needs_request() {
                pace.asked(|| now);
            } else {
                plain += 1;
            }
        }
        if plain < deliveries {
            pace.answered(now + took);
        }
        plain
    }

    #[test]
    fn a_quick_target_gets_what_it_handles_in_a_tenth_of_a_second_without_requests() {
        let mut pace = Pace::default();
        assert_eq!(lap(&mut pace, 50, 5 * MILLISECOND), 0);
        assert_eq!(lap(&mut pace, 1001, 100 * MILLISECOND), 1000);
        assert_eq!(lap(&mut pace, 2000, 100 * MILLISECOND), 1001);
    }

    #[test]
    fn a_slow_target_gets_nothing_without_a_request() {
        let mut pace = Pace::default();
        assert_eq!(lap(&mut pace, 100, 10 * MILLISECOND), 0);
        assert_eq!(lap(&mut pace, 1001, 200_000 * MILLISECOND), 1000, "it was quick before");
        assert_eq!(lap(&mut pace, 1000, 400_000 * MILLISECOND), 0);
        assert_eq!(lap(&mut pace, 1, 400 * MILLISECOND), 0);
        assert_eq!(lap(&mut pace, 1, 400 * MILLISECOND), 0);
    }

    #[test]
    fn what_is_sent_without_a_request_is_bounded() {
        let mut pace = Pace::default();
        lap(&mut pace, 1, Duration::ZERO);
        assert_eq!(lap(&mut pace, 10_000, Duration::ZERO), MAX_PLAIN);
        assert_eq!(lap(&mut pace, 10_000, MILLISECOND), MAX_PLAIN);
    }
}
