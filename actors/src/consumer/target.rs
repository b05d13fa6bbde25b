//! Whom a consumer feeds: an actor of the application, or one that it builds itself, again and again.

use std::{fmt, time::Duration};

use actix::Recipient;
use tokio::time::Instant;

use crate::message::{Delivery, WorkerFactory};

/// The first wait before a worker is built again; each one that follows soon is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A worker that lived this long was sound: the next wait is a short one again.
const SOUND: Duration = Duration::from_secs(30);

pub(super) struct Target {
    recipient: Option<Recipient<Delivery>>,
    factory: Option<WorkerFactory>,
    wait: Duration,
    since: Instant,
}

impl Target {
    pub(super) fn actor(recipient: Recipient<Delivery>) -> Self {
        Self { recipient: Some(recipient), factory: None, wait: FIRST_WAIT, since: Instant::now() }
    }

    /// Has nobody yet: [`build`](Self::build) does that, on the thread of the consumer.
    pub(super) fn supervised(factory: WorkerFactory) -> Self {
        Self { recipient: None, factory: Some(factory), wait: FIRST_WAIT, since: Instant::now() }
    }

    pub(super) fn is_supervised(&self) -> bool {
        self.factory.is_some()
    }

    /// The one who is there to take deliveries.
    pub(super) fn alive(&self) -> Option<&Recipient<Delivery>> {
        self.recipient.as_ref().filter(|recipient| recipient.connected())
    }

    /// Notes that the worker is gone; tells how long to wait before the next, with up to half of it left to chance.
    pub(super) fn lost(&mut self) -> Duration {
        self.recipient = None;
        if self.since.elapsed() >= SOUND {
            self.wait = FIRST_WAIT;
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        wait.mul_f64(1.0 - fastrand::f64() / 2.0)
    }

    pub(super) fn build(&mut self) {
        if let Some(factory) = &mut self.factory {
            self.since = Instant::now();
            self.recipient = Some(factory());
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("alive", &self.alive().is_some())
            .field("supervised", &self.is_supervised())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_a_sound_worker_makes_them_short_again() {
        let mut target = Target::supervised(Box::new(|| unreachable!("nobody builds here")));
        let waits: Vec<_> = (0..10).map(|_| target.lost()).collect();
        assert!(waits[0] <= FIRST_WAIT && waits[0] >= FIRST_WAIT / 2);
        assert!(waits[3] > waits[0]);
        assert!(waits[9] <= LONGEST_WAIT && waits[9] >= LONGEST_WAIT / 2);
        target.since = Instant::now().checked_sub(SOUND).unwrap();
        assert!(target.lost() <= FIRST_WAIT);
    }
}
