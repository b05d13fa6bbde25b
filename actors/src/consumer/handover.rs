//! The mailbox of the target: how deliveries get into it, and how those that the target has not begun are
//! taken back.
//!
//! An actor skips a message whose sender has dropped the request for its result. Such a request costs more
//! than a message alone, so that a target that keeps up gets most deliveries without one: as many as it last
//! handled within [`QUICK`], doubled each time. What a target that is slow has not begun can be taken back
//! almost completely.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use actix::{Recipient, dev::RecipientRequest};
use tokio::time::Instant;

use crate::message::Delivery;

/// A target that handles what it got within this time keeps up.
const QUICK: Duration = Duration::from_millis(10);
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
    /// How many those were at first.
    granted: usize,
    /// When the first request after them was sent.
    asked_at: Option<Instant>,
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

    fn asked(&mut self, now: Instant) {
        self.asked_at.get_or_insert(now);
    }

    /// All requests are answered: the target has begun everything that it got.
    fn answered(&mut self, now: Instant) {
        let Some(asked_at) = self.asked_at.take() else { return };
        let is_quick = now.saturating_duration_since(asked_at) <= QUICK;
        self.granted = if is_quick { (2 * self.granted).clamp(1, MAX_PLAIN) } else { 0 };
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
        if self.pace.asked_at.is_none() {
            self.pace.asked(Instant::now());
        }
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
    request.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Pending
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

    /// Sends until a request is needed. Returns how many deliveries went without one.
    fn plain(pace: &mut Pace, now: Instant) -> usize {
        let sent = (0..).take_while(|_| !pace.needs_request()).count();
        pace.asked(now);
        sent
    }

    #[test]
    fn a_quick_target_gets_more_and_more_without_requests() {
        let now = Instant::now();
        let mut pace = Pace::default();
        let sent: Vec<usize> = (0..15)
            .map(|_| {
                let sent = plain(&mut pace, now);
                pace.answered(now + QUICK);
                sent
            })
            .collect();
        assert_eq!(sent, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096]);
    }

    #[test]
    fn a_slow_target_gets_nothing_without_a_request() {
        let now = Instant::now();
        let mut pace = Pace::default();
        for _ in 0..5 {
            plain(&mut pace, now);
            pace.answered(now + QUICK);
        }
        assert!(plain(&mut pace, now) > 0);
        assert_eq!(plain(&mut pace, now + QUICK), 0, "the first request counts");
        pace.answered(now + QUICK + Duration::from_millis(1));
        assert_eq!(plain(&mut pace, now), 0);
    }
}
