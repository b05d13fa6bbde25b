//! What a runner and its handle share: the request to stop, and the end.

use std::sync::{Mutex, PoisonError};

use futures_util::task::AtomicWaker;
use tokio::{sync::watch, time::Instant};

use super::DrainReport;
use crate::ConsumerEnd;

/// What a runner is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Request {
    /// It goes on.
    #[default]
    Run,
    /// It begins no more tasks, and ends with those that have begun; at this time at the latest, if there is one.
    Stop(Option<Instant>),
}

/// How far a runner is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Phase {
    #[default]
    Running,
    /// Its consumer is cancelled; tasks that have begun still run.
    Stopped,
    Ended(ConsumerEnd, DrainReport),
}

#[derive(Debug)]
pub(crate) struct Control {
    request: Mutex<Request>,
    runner: AtomicWaker,
    phase: watch::Sender<Phase>,
}

impl Control {
    pub(crate) fn new() -> Self {
        Self { request: Mutex::default(), runner: AtomicWaker::new(), phase: watch::Sender::default() }
    }

    /// Asks the runner to stop. A later deadline does not replace an earlier one.
    pub(crate) fn stop(&self, deadline: Option<Instant>) {
        let mut request = self.request.lock().unwrap_or_else(PoisonError::into_inner);
        *request = match *request {
            Request::Stop(Some(earlier)) => {
                Request::Stop(Some(deadline.map_or(earlier, |at| at.min(earlier))))
            }
            Request::Run | Request::Stop(None) => Request::Stop(deadline),
        };
        drop(request);
        self.runner.wake();
    }

    pub(crate) fn request(&self) -> Request {
        *self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn runner(&self) -> &AtomicWaker {
        &self.runner
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| match current {
            Phase::Ended(..) => false,
            _ => {
                *current = phase;
                true
            }
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_counts() {
        let (control, now) = (Control::new(), Instant::now());
        let second = |n| Some(now + Duration::from_secs(n));
        assert_eq!(control.request(), Request::Run);
        for (asked, expected) in [
            (None, None),
            (second(3), second(3)),
            (second(2), second(2)),
            (second(9), second(2)),
            (None, second(2)),
        ] {
            control.stop(asked);
            assert_eq!(control.request(), Request::Stop(expected));
        }
    }

    #[test]
    fn an_end_is_final() {
        let control = Control::new();
        control.enter(Phase::Ended(ConsumerEnd::TargetGone, DrainReport::default()));
        control.enter(Phase::Stopped);
        assert!(matches!(*control.watch().borrow(), Phase::Ended(ConsumerEnd::TargetGone, _)));
    }
}
