//! The close of a channel, as a change of its state: when `channel.close` is due, what its reply is followed by, and
//! the end.

use std::time::Duration;

use tokio::time::Instant;

use super::state::{ChannelState, CloseReply, OpenReply};
use crate::error::{Error, ErrorKind, Result};

/// What follows the reply to `channel.close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterClose {
    End,
    Reopen,
}

/// How a channel that is not open is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseUnopened {
    /// `channel.close` is sent already; the channel stays closed after it.
    Wait,
    SendClose,
    /// The broker has no such channel, or will have closed it once it has the client's `channel.close-ok`.
    End,
}

/// The end of a channel.
#[derive(Debug)]
pub(super) struct Ended {
    /// The error for callers and consumers.
    pub(super) error: Error,
    /// What the callers that close the channel get, if that was decided before.
    pub(super) answer: Option<Result<()>>,
    /// The channel had never been open.
    pub(super) never_open: bool,
    /// The error in the event for watchers; `None` if the application closed the channel.
    pub(super) cause: Option<Error>,
}

impl Ended {
    /// Returns whether the channel has ended by itself: neither the application closed it, nor its connection.
    pub(super) fn is_lost(&self) -> bool {
        self.answer.is_none()
            && self.cause.as_ref().is_some_and(|cause| cause.kind() != ErrorKind::ConnectionClosed)
    }
}

impl ChannelState {
    /// Begins to close an open channel; returns whether it was open.
    pub(super) fn drain(&mut self, code: u16, text: String, until: Instant) -> bool {
        if !self.is_open() {
            return false;
        }
        *self = Self::Draining { code, text, until };
        true
    }

    /// Returns code and text of the `channel.close` that is due; `confirmed` is whether no publish or
    /// commit is under way.
    pub(super) fn close_due(&self, now: Instant, confirmed: bool) -> Option<(u16, String)> {
        match self {
            Self::Draining { code, text, until } if confirmed || now >= *until => Some((*code, text.clone())),
            _ => None,
        }
    }

    /// `channel.close` is sent, and the channel stays closed.
    pub(super) fn close_sent(&mut self, error: Error, answer: Result<()>) {
        *self = Self::Closing { error, answer, reply: self.next_close_reply() };
    }

    /// `channel.close` is sent, and the channel reopens, but not before a time.
    pub(super) fn close_to_reopen_sent(&mut self, cause: Error, skipped: Vec<(u32, Error)>, until: Instant) {
        let reply = self.next_close_reply();
        *self = Self::ClosingToReopen { cause, skipped, reply, until, overdue: false };
    }

    /// The reply to a `channel.close` behind which the channel reopens has not come in time. Returns `false`
    /// if there is no such close.
    pub(super) fn close_is_overdue(&mut self) -> bool {
        if let Self::ClosingToReopen { overdue, .. } = self {
            *overdue = true;
        }
        self.is_close_overdue()
    }

    pub(super) fn is_close_overdue(&self) -> bool {
        matches!(self, Self::ClosingToReopen { overdue: true, .. })
    }

    /// The reply to `channel.close` has come. Returns how long the channel waits before it reopens, if it does.
    pub(super) fn wait_to_reopen(&mut self, now: Instant) -> Option<Duration> {
        match self {
            Self::ClosingToReopen { cause, skipped, until, .. } if now < *until => {
                let (until, cause, skipped) = (*until, cause.clone(), std::mem::take(skipped));
                self.back_off(until, cause, skipped);
                Some(until - now)
            }
            _ => None,
        }
    }

    /// Closes a channel that recovers. The callers that close it get `answer` once the reply to a
    /// `channel.close` that is sent already has come.
    pub(super) fn close_unopened(&mut self, answer: Result<()>) -> CloseUnopened {
        match self {
            Self::ClosingToReopen { cause, reply, .. } => {
                *self = Self::Closing { error: cause.clone(), answer, reply: *reply };
                CloseUnopened::Wait
            }
            Self::Closing { .. } => CloseUnopened::Wait,
            Self::Recovering { .. } => CloseUnopened::SendClose,
            _ => CloseUnopened::End,
        }
    }

    /// The broker has sent `channel.close` too; returns what the callers that close the channel get.
    pub(super) fn crossed(&mut self) -> Option<Result<()>> {
        match self {
            Self::Closing { answer, reply, .. } => {
                *reply = CloseReply::MayBeOmitted;
                Some(answer.clone())
            }
            Self::ClosingToReopen { reply, .. } => {
                *reply = CloseReply::MayBeOmitted;
                None
            }
            _ => None,
        }
    }

    /// Returns whether the broker has closed the channel as well, so that the reply to the client's close may
    /// never come.
    pub(super) fn is_crossed(&self) -> bool {
        matches!(
            self,
            Self::Closing { reply: CloseReply::MayBeOmitted, .. }
                | Self::ClosingToReopen { reply: CloseReply::MayBeOmitted, .. }
        )
    }

    /// Returns which reply a `channel.close` has that is sent now.
    fn next_close_reply(&self) -> CloseReply {
        match self {
            Self::Recovering { reply: OpenReply::BehindClose, .. } => CloseReply::BehindEarlier,
            _ => CloseReply::Due,
        }
    }

    /// Returns what follows the reply to `channel.close`, if one is awaited.
    pub(super) fn after_close(&self) -> Option<AfterClose> {
        match self {
            Self::Closing { .. } => Some(AfterClose::End),
            Self::ClosingToReopen { .. } => Some(AfterClose::Reopen),
            _ => None,
        }
    }

    /// The reply to a `channel.close` was not awaited any longer.
    pub(super) fn expect_late_close_ok(&mut self) {
        if let Self::Recovering { reply, .. } = self {
            *reply = OpenReply::BehindClose;
        }
    }

    /// Returns whether such a reply may come now; it comes once, and not behind that to `channel.open`.
    pub(super) fn take_late_close_ok(&mut self) -> bool {
        match self {
            Self::Recovering { reply, .. } if *reply == OpenReply::BehindClose => {
                *reply = OpenReply::Due;
                true
            }
            Self::ClosingToReopen { reply, .. } | Self::Closing { reply, .. }
                if *reply == CloseReply::BehindEarlier =>
            {
                *reply = CloseReply::Due;
                true
            }
            _ => false,
        }
    }

    /// Ends the channel for good, unless it has ended. The error of a close that was sent before is kept.
    pub(super) fn end(&mut self, error: Error) -> Option<Ended> {
        let closing = self.after_close().is_some();
        let (error, answer) = match self {
            Self::Closed(_) => return None,
            Self::Closing { error, answer, .. } => (error.clone(), Some(answer.clone())),
            Self::ClosingToReopen { cause, .. } => (cause.clone(), None),
            _ => (error, None),
        };
        let never_open = self.is_opening();
        let by_application = closing && error.close_reason().is_none();
        *self = Self::Closed(error.clone());
        let cause = (!by_application).then(|| error.clone());
        Some(Ended { error, answer, never_open, cause })
    }
}
