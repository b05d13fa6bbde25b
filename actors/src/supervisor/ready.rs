//! Callers that wait until the connection is ready: open, with its recovery complete.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{phase::Phase, supervision::Supervision};
use crate::{
    channel::Responder,
    error::{Error, Result},
    options::clamp_timeout,
};

/// Whether the connection can be used.
#[derive(Debug)]
pub(super) enum Readiness {
    Ready,
    /// It is opened or recovered; with the reason for which it is not ready.
    NotYet(Error),
    /// It will never be ready again.
    Over(Error),
}

impl Supervision {
    pub(super) fn readiness(&self) -> Readiness {
        let what = match &self.phase {
            Phase::Up(_) => return Readiness::Ready,
            Phase::Closing(_) | Phase::Closed(_) => {
                let closed = self.check_not_closed().err();
                return Readiness::Over(closed.unwrap_or_else(|| Error::stopped("the connection is closed")));
            }
            Phase::Dialling(None) => "the connection is not open yet",
            Phase::Dialling(Some(_)) | Phase::BackingOff { .. } => "the connection is down",
            Phase::RedeclaringTopology(..) | Phase::Attaching(..) => "the connection is being recovered",
        };
        let error = Error::timeout(what);
        Readiness::NotYet(match &self.outage {
            Some(outage) => error.caused_by(outage),
            None => error,
        })
    }
}

/// The callers that wait, by their deadlines.
#[derive(Debug, Default)]
pub(super) struct ReadyWaiters {
    waiting: BTreeMap<(Instant, u64), (Option<Duration>, Responder<()>)>,
    next: u64,
    /// Callers that gave up are removed when there are as many as this.
    clean_at: usize,
}

/// The number of callers from which on those that gave up are removed.
const CLEAN_AT: usize = 64;

impl ReadyWaiters {
    pub(super) fn push(&mut self, limit: Option<Duration>, caller: Responder<()>, now: Instant) {
        if self.waiting.len() >= self.clean_at.max(CLEAN_AT) {
            self.waiting.retain(|_, (_, caller)| !caller.is_given_up());
            self.clean_at = 2 * self.waiting.len();
        }
        self.next += 1;
        let until = now + clamp_timeout(limit.unwrap_or(Duration::MAX));
        self.waiting.insert((until, self.next), (limit, caller));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns when the next caller has waited for long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ((until, _), (limit, _)) = self.waiting.first_key_value()?;
        limit.map(|_| *until)
    }

    /// Replies to all callers, or to those whose time is over.
    pub(super) fn answer(&mut self, readiness: &Readiness, now: Instant) {
        let result: Result<()> = match readiness {
            Readiness::Ready => Ok(()),
            Readiness::Over(error) => Err(error.clone()),
            Readiness::NotYet(why) => return self.expire(why, now),
        };
        for (_, caller) in std::mem::take(&mut self.waiting).into_values() {
            let _ = caller.send(result.clone());
        }
    }

    fn expire(&mut self, why: &Error, now: Instant) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            let (limit, caller) = first.remove();
            let limit = limit.unwrap_or_default();
            let error = Error::timeout(format!("not ready within {limit:?}")).caused_by(why);
            let _ = caller.send(Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel::Reply, error::ErrorKind};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn callers_are_answered_at_their_deadlines_or_when_it_is_ready() {
        let (mut waiters, now) = (ReadyWaiters::default(), Instant::now());
        let mut wait = |limit| {
            let (reply, caller) = Reply::later();
            let answer = reply.listen();
            waiters.push(limit, caller, now);
            answer
        };
        let (patient, short, long) = (wait(None), wait(Some(SECOND)), wait(Some(5 * SECOND)));
        assert_eq!(waiters.deadline(), Some(now + SECOND));
        let outage = Readiness::NotYet(Error::timeout("down").caused_by(&Error::protocol("a bad peer")));
        waiters.answer(&outage, now + SECOND);
        let error = short.take().unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Timeout, "not ready within 1s: down: a bad peer".into())
        );
        assert!(patient.take().is_none() && long.take().is_none());
        waiters.answer(&Readiness::Ready, now + SECOND);
        assert!(patient.is_ok() && long.is_ok() && waiters.is_empty() && waiters.deadline().is_none());
    }

    #[test]
    fn callers_that_gave_up_do_not_pile_up() {
        let (mut waiters, now) = (ReadyWaiters::default(), Instant::now());
        for _ in 0..10_000 {
            let (reply, caller) = Reply::later();
            drop(reply.listen());
            waiters.push(None, caller, now);
        }
        assert!(waiters.waiting.len() <= CLEAN_AT, "{}", waiters.waiting.len());
        assert_eq!(waiters.deadline(), None);
        let (reply, caller) = Reply::later();
        let answer = reply.listen();
        waiters.push(None, caller, now);
        waiters.answer(&Readiness::Over(Error::stopped("over")), now);
        assert_eq!(answer.error_kind(), Some(ErrorKind::Stopped));
    }
}
