//! Calls that wait while the channel recovers. They are made in the order in which they were asked for.

use std::{collections::VecDeque, fmt, time::Duration};

use tokio::time::Instant;

use super::{Call, ChannelMachine, Reply, Responder};
use crate::error::Error;

#[derive(Debug, Default)]
pub(super) struct WaitingCalls(VecDeque<WaitingCall>);

/// A call, and when it was asked for.
pub(super) struct WaitingCall {
    since: Instant,
    call: Box<dyn Queued>,
}

impl fmt::Debug for WaitingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingCall").field("since", &self.since).finish_non_exhaustive()
    }
}

trait Queued {
    fn make(self: Box<Self>, channel: &mut ChannelMachine, since: Instant);
    fn fail(self: Box<Self>, error: Error);
}

struct QueuedCall<C: Call> {
    call: C,
    responder: Responder<C::Answer>,
}

impl<C: Call> Queued for QueuedCall<C> {
    fn make(self: Box<Self>, channel: &mut ChannelMachine, since: Instant) {
        if !self.responder.is_given_up() {
            self.call.make(channel, since).forward(self.responder);
        }
    }

    fn fail(self: Box<Self>, error: Error) {
        let _ = self.responder.send(Err(error));
    }
}

impl WaitingCall {
    /// Makes the call, unless its caller gave up. Its deadline runs since it was asked for.
    pub(super) fn make(self, channel: &mut ChannelMachine) {
        self.call.make(channel, self.since);
    }
}

impl WaitingCalls {
    pub(super) fn push<C: Call>(&mut self, call: C, now: Instant) -> Reply<C::Answer> {
        let (reply, responder) = Reply::later();
        self.0.push_back(WaitingCall { since: now, call: Box::new(QueuedCall { call, responder }) });
        reply
    }

    /// Fails calls that have waited for the deadline; returns whether others wait.
    pub(super) fn expire(&mut self, now: Instant, deadline: Duration, cause: impl Fn() -> Error) -> bool {
        while let Some(first) = self.0.front() {
            if now.saturating_duration_since(first.since) < deadline {
                break;
            }
            let Some(first) = self.0.pop_front() else { break };
            first.call.fail(Error::timeout(format!("not sent within {deadline:?}")).because(cause()));
        }
        !self.0.is_empty()
    }

    pub(super) fn fail_all(&mut self, error: &Error) {
        std::mem::take(&mut self.0).into_iter().for_each(|waiting| waiting.call.fail(error.clone()));
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = WaitingCall> + use<> {
        std::mem::take(&mut self.0).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::ErrorKind, message::PurgeQueue};

    #[test]
    fn calls_fail_at_their_own_deadline() {
        let (mut calls, start, second) = (WaitingCalls::default(), Instant::now(), Duration::from_secs(1));
        let lost = || Error::connection_closed("lost", None);
        let replies = [0, 1].map(|n| calls.push(PurgeQueue::new("jobs"), start + n * second).listen());
        assert!(calls.expire(start + second, 2 * second, lost));
        assert!(replies.iter().all(|reply| reply.take().is_none()));
        assert!(calls.expire(start + 2 * second, 2 * second, lost));
        assert_eq!(replies[0].error_kind(), Some(ErrorKind::Timeout));
        assert!(!calls.expire(start + 3 * second, 2 * second, lost));
        assert_eq!(replies[1].error_kind(), Some(ErrorKind::Timeout));
    }

    #[test]
    fn all_calls_fail_with_the_channel() {
        let mut calls = WaitingCalls::default();
        let replies = [(); 3].map(|()| calls.push(PurgeQueue::new("jobs"), Instant::now()).listen());
        calls.fail_all(&Error::channel_closed("closed", None));
        assert!(replies.iter().all(|reply| reply.error_kind() == Some(ErrorKind::ChannelClosed)));
        assert_eq!(calls.take().count(), 0);
    }
}
