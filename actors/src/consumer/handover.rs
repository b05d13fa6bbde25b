//! The mailbox of the target: how deliveries get into it, and how those that the target has not begun are
//! taken back.
//!
//! An actor skips a message whose sender has dropped the request for its result. Such a request costs more
//! than a message alone, so that a target that keeps up gets nearly all deliveries without one: [`pace`](super::pace)
//! tells how many. What a target that is slow has not begun can be taken back almost completely. Nothing waits
//! for a request: a target may handle many deliveries at once, and answers then when it has handled one.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Wake, Waker},
};

use actix::{Recipient, dev::RecipientRequest};
use tokio::{task::unconstrained, time::Instant};

use super::pace::Pace;
use crate::message::Delivery;

/// Requests are searched for answered ones when there are this many, or twice as many as remained last time.
const FIRST_SEARCH: usize = 64;

#[derive(Default)]
pub(super) struct Handover {
    /// The requests that the target may not have begun; the oldest first.
    requests: VecDeque<Request>,
    pace: Pace,
    search_at: usize,
}

struct Request {
    number: u64,
    result: Pin<Box<RecipientRequest<Delivery>>>,
    /// Of the timed one.
    answered: Option<Arc<AnswerTime>>,
}

/// Notes when a request is answered, because that is looked at later.
#[derive(Default)]
struct AnswerTime(OnceLock<Instant>);

impl Wake for AnswerTime {
    fn wake(self: Arc<Self>) {
        self.0.get_or_init(Instant::now);
    }
}

impl Request {
    /// Returns whether the target has not answered; not to be called again afterwards. An error is an answer:
    /// the target has dropped the message, or failed.
    fn is_pending(&mut self) -> bool {
        let waker = self.answered.clone().map_or_else(|| Waker::noop().clone(), Waker::from);
        // Without the budget of the task, which makes every request look pending once it is used up.
        let mut result = unconstrained(self.result.as_mut());
        Pin::new(&mut result).poll(&mut Context::from_waker(&waker)) == Poll::Pending
    }

    fn answered_at(&self) -> Instant {
        let noted = self.answered.as_ref().and_then(|answered| answered.0.get().copied());
        noted.unwrap_or_else(Instant::now)
    }
}

impl Handover {
    /// Sends deliveries to the target: at most `size`.
    pub(super) fn send_all(
        &mut self,
        target: &Recipient<Delivery>,
        size: usize,
        deliveries: impl Iterator<Item = Delivery>,
    ) {
        while self.requests.front_mut().is_some_and(|request| !request.is_pending()) {
            self.answered(1);
        }
        let (mut plain, mut sent) = (self.pace.plain(size as u64), 0);
        let mut deliveries = deliveries.peekable();
        // The broker has no copy of what needs no acknowledgement, so that it is not taken back.
        if deliveries.peek().is_some_and(Delivery::is_no_ack) {
            plain = u64::MAX;
        }
        while sent < plain
            && let Some(delivery) = deliveries.next()
        {
            sent += 1;
            target.do_send(delivery);
        }
        self.pace.sent(sent);
        while let Some(delivery) = deliveries.next() {
            sent += 1;
            self.request(target, delivery, deliveries.peek().is_none().then_some(sent));
        }
    }

    /// Sends a delivery as a request. `batch` is the size of the batch, if it is its last one.
    fn request(&mut self, target: &Recipient<Delivery>, delivery: Delivery, batch: Option<u64>) {
        let number = self.pace.request();
        let is_timed = batch.is_some_and(|size| self.pace.end_batch(size, Instant::now));
        let answered = is_timed.then(Arc::default);
        let mut request = Request { number, result: Box::pin(target.send(delivery)), answered };
        // The first poll sends the message if the mailbox is full: an actix mailbox takes it nevertheless.
        // And it has the answer noted.
        let is_pending = request.is_pending();
        self.requests.push_back(request);
        if !is_pending {
            self.answered(self.requests.len());
        } else if self.requests.len() >= self.search_at.max(FIRST_SEARCH) {
            let last = self.requests.iter_mut().rposition(|request| !request.is_pending());
            self.answered(last.map_or(0, |last| last + 1));
            self.search_at = 2 * self.requests.len();
        }
    }

    /// The last of the oldest `count` requests is answered, and must not be polled again. The target has begun
    /// those before it, too, though it may still handle them.
    fn answered(&mut self, count: usize) {
        for request in self.requests.drain(..count) {
            self.pace.answered(request.number, || request.answered_at());
        }
    }

    /// Has the pace of the target measured with the next batch.
    pub(super) fn measure(&mut self) {
        self.pace.measure();
    }

    /// Leaves the target what it has, though this value is dropped.
    pub(super) fn leave(&mut self) {
        let requests = std::mem::take(&mut self.requests);
        if !requests.is_empty() {
            actix_rt::spawn(async move {
                for request in requests {
                    // An error means that the target has stopped.
                    let _ = request.result.await;
                }
            });
        }
    }

    /// Takes back what the target has not begun: the mailbox drops it.
    pub(super) fn take_back(&mut self) {
        *self = Self::default();
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover")
            .field("requests", &self.requests.len())
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}
