//! What becomes of a task whose handler fails.

use crate::tasks::Verdict;

/// What becomes of a task whose handler fails without saying so: by an error that `?` passes on, or a panic.
///
/// # Examples
/// ```no_run
/// # fn run(channel: actix_pika::Channel) {
/// use actix_pika::master::{Master, OnFailure};
///
/// let master = Master::new(&channel).on_failure(OnFailure::Requeue);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// It is tried again by the policy of [`tasks`](crate::tasks).
    #[default]
    Retry,
    /// It returns to its queue (`basic.reject` with requeue): aio-pika's `Master(channel)`. One that always fails
    /// comes back without end, unless [`reject_redelivered`](super::Master::reject_redelivered) is set.
    Requeue,
    /// It is dead-lettered (`basic.reject`): aio-pika's `Master(channel, requeue=False)`.
    Reject,
}

/// The policy of a master.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy {
    pub(super) on_failure: OnFailure,
    pub(super) reject_redelivered: bool,
}

impl Policy {
    /// Returns what becomes of a task. What its handler has asked for holds.
    pub(super) fn verdict(self, of_handler: Verdict, redelivered: bool) -> Verdict {
        match (of_handler, self.on_failure) {
            (Verdict::Reject | Verdict::Requeue | Verdict::RetryIn(_), _) => of_handler,
            (Verdict::Retry, _) if redelivered && self.reject_redelivered => Verdict::Reject,
            (Verdict::Retry, OnFailure::Retry) => Verdict::Retry,
            (Verdict::Retry, OnFailure::Requeue) => Verdict::Requeue,
            (Verdict::Retry, OnFailure::Reject) => Verdict::Reject,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_the_handler_asked_for_holds() {
        let policy = Policy { on_failure: OnFailure::Requeue, reject_redelivered: true };
        for asked in [Verdict::Reject, Verdict::Requeue, Verdict::RetryIn(Duration::from_secs(1))] {
            assert_eq!(policy.verdict(asked, true), asked);
        }
    }

    #[test]
    fn other_failures_go_by_the_policy() {
        let of = |on_failure, reject_redelivered, redelivered| {
            Policy { on_failure, reject_redelivered }.verdict(Verdict::Retry, redelivered)
        };
        assert_eq!(of(OnFailure::Retry, false, true), Verdict::Retry);
        assert_eq!(of(OnFailure::Requeue, false, true), Verdict::Requeue);
        assert_eq!(of(OnFailure::Reject, false, false), Verdict::Reject);
        for on_failure in [OnFailure::Retry, OnFailure::Requeue, OnFailure::Reject] {
            assert_eq!(of(on_failure, true, true), Verdict::Reject);
        }
        assert_eq!(of(OnFailure::Requeue, true, false), Verdict::Requeue);
    }
}
