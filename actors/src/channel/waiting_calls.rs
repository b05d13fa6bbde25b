//! What waits while the channel recovers, or until a commit has its reply. It is made in the order in which it
//! was asked for.

use std::{collections::VecDeque, fmt, time::Duration};

use tokio::time::Instant;

use super::{
    Call, ChannelMachine, PendingReply, Reply, Responder, machine::Request, pending_reply::answer_all,
};
use crate::{error::Error, message::methods, outbox::WITHOUT_REPLY};

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
    /// The channel has ended.
    fn fail(self: Box<Self>, error: Error);
    /// Its deadline has passed. Returns what is to be made although nobody waits for it.
    fn expire(self: Box<Self>, error: Error) -> Option<Box<dyn Queued>>;
}

struct QueuedCall<C: Call> {
    call: C,
    responder: Responder<C::Answer>,
}

impl<C: Call> Queued for QueuedCall<C> {
    fn make(self: Box<Self>, channel: &mut ChannelMachine, since: Instant) {
        if C::OUTLIVES_CALLER || !self.responder.is_given_up() {
            self.call.make(channel, since).forward(self.responder);
        }
    }

    fn fail(self: Box<Self>, error: Error) {
        let _ = self.responder.send(Err(error));
    }

    fn expire(self: Box<Self>, error: Error) -> Option<Box<dyn Queued>> {
        self.fail(error);
        None
    }
}

/// `basic.cancel`, of the application or the channel.
struct QueuedCancel {
    tag: String,
    consumer: Option<u32>,
    responders: Vec<Responder<()>>,
}

impl Queued for QueuedCancel {
    fn make(self: Box<Self>, channel: &mut ChannelMachine, since: Instant) {
        let Self { tag, consumer, responders } = *self;
        if let Some(others) = channel.replies.cancel_once_consumed(&tag) {
            others.extend(responders);
        } else if let Some(others) = channel.replies.pending_cancel(&tag, consumer) {
            others.extend(responders);
        } else {
            channel.send_cancel(&tag, consumer, responders, since);
        }
    }

    /// The consumer has ended with the channel.
    fn fail(self: Box<Self>, _: Error) {
        answer_all(self.responders, &Ok(()));
    }

    fn expire(mut self: Box<Self>, error: Error) -> Option<Box<dyn Queued>> {
        answer_all(self.responders.drain(..), &Err(error));
        Some(self)
    }
}

/// The start of a consumer whose needs the supervisor has repaired.
struct QueuedRestart(u32);

impl Queued for QueuedRestart {
    fn make(self: Box<Self>, channel: &mut ChannelMachine, since: Instant) {
        channel.consumer_repaired(self.0, Ok(()), since);
    }

    fn fail(self: Box<Self>, _: Error) {}

    fn expire(self: Box<Self>, _: Error) -> Option<Box<dyn Queued>> {
        Some(self)
    }
}

impl WaitingCall {
    /// Makes the call, unless its caller gave up. Its deadline runs since it was asked for.
    fn make(self, channel: &mut ChannelMachine) {
        self.call.make(channel, self.since);
    }
}

impl WaitingCalls {
    pub(super) fn push<C: Call>(&mut self, call: C, now: Instant) -> Reply<C::Answer> {
        let (reply, responder) = Reply::later();
        self.queue(QueuedCall { call, responder }, now);
        reply
    }

    pub(super) fn push_cancel(
        &mut self,
        tag: &str,
        consumer: Option<u32>,
        responders: Vec<Responder<()>>,
        now: Instant,
    ) {
        self.queue(QueuedCancel { tag: tag.to_owned(), consumer, responders }, now);
    }

    pub(super) fn push_restart(&mut self, consumer: u32, now: Instant) {
        self.queue(QueuedRestart(consumer), now);
    }

    fn queue(&mut self, call: impl Queued + 'static, now: Instant) {
        self.0.push_back(WaitingCall { since: now, call: Box::new(call) });
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails calls that have waited for the deadline; returns whether others wait.
    pub(super) fn expire(&mut self, now: Instant, deadline: Duration, cause: impl Fn() -> Error) -> bool {
        let mut kept = Vec::new();
        while let Some(first) = self.0.front() {
            if now.saturating_duration_since(first.since) < deadline {
                break;
            }
            let Some(WaitingCall { since, call }) = self.0.pop_front() else { break };
            let error = Error::timeout(format!("not sent within {deadline:?}")).because(cause());
            kept.extend(call.expire(error).map(|call| WaitingCall { since, call }));
        }
        kept.into_iter().rev().for_each(|call| self.0.push_front(call));
        !self.0.is_empty()
    }

    pub(super) fn fail_all(&mut self, error: &Error) {
        std::mem::take(&mut self.0).into_iter().for_each(|waiting| waiting.call.fail(error.clone()));
    }

    fn next(&mut self) -> Option<WaitingCall> {
        self.0.pop_front()
    }
}

impl ChannelMachine {
    /// Makes what waits, up to the next commit.
    pub(super) fn make_waiting(&mut self) {
        while self.state.makes_waiting_calls()
            && !self.awaits_commit()
            && !self.holds_calls()
            && let Some(next) = self.waiting.next()
        {
            next.make(self);
        }
    }

    /// Fails calls that have waited for the deadline; returns whether others wait.
    pub(super) fn expire_waiting(&mut self, now: Instant, deadline: Duration) -> bool {
        let awaits_commit = self.awaits_commit();
        self.waiting.expire(now, deadline, || match awaits_commit {
            true => Error::timeout(WITHOUT_REPLY),
            false => self.state.last_failure(),
        })
    }

    /// Sends `basic.cancel`, or queues it until a commit has its reply.
    pub(super) fn send_cancel(
        &mut self,
        tag: &str,
        consumer: Option<u32>,
        responders: Vec<Responder<()>>,
        now: Instant,
    ) {
        if self.awaits_commit() {
            return self.waiting.push_cancel(tag, consumer, responders, now);
        }
        let reply = PendingReply::Cancelled { tag: tag.to_owned(), consumer, responders };
        match methods::basic_cancel(tag) {
            Ok(method) => {
                self.ask(Request::new(method, reply).on(tag), now);
            }
            // No consumer has such a tag, and the cancel of an unknown one succeeds.
            Err(_) => reply.fail(Error::refused_here("the tag is too long")),
        }
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
        assert!(calls.is_empty());
    }
}
