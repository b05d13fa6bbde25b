//! The state of a channel, and every change of it.
//!
//! No frames, no outbox, no clock: each change returns what the machine needs in order to act on it.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

#[derive(Debug)]
pub(super) enum ChannelState {
    /// Never open yet: there is no connection, or `channel.open` has no reply yet.
    Opening {
        since: Instant,
        /// Why the last attempt to connect has failed.
        last: Option<Error>,
    },
    Open,
    /// `channel.close` follows once the publishes under way are confirmed.
    Draining {
        code: u16,
        text: String,
        until: Instant,
    },
    /// The connection is lost; the channel reopens on the next one.
    Detached {
        cause: Error,
        /// Why the last attempt to connect has failed.
        last: Option<Error>,
    },
    /// The broker has closed the channel; it is reopened at this time.
    BackingOff {
        until: Instant,
        cause: Error,
        /// Consumers that are not started again, and why.
        skipped: Vec<(u32, Error)>,
    },
    /// `channel.open`, consumers and `confirm.select` are sent again, and not all of them have their reply.
    Recovering {
        cause: Error,
        /// Consumers that are not started again, and why.
        skipped: Vec<(u32, Error)>,
        /// The reply to an earlier `channel.close` may still come, before that to `channel.open`.
        late_close_ok: bool,
    },
    /// `channel.close` is sent; the channel reopens after the reply.
    ClosingToReopen {
        cause: Error,
        /// Consumers that are not started again, and why.
        skipped: Vec<(u32, Error)>,
        reply: CloseReply,
        /// It does not reopen before this time.
        until: Instant,
        /// The reply has not come in time. The channel waits for it, or for the next connection.
        overdue: bool,
    },
    /// `channel.close` is sent. The callers that close the channel get `answer`: an error if publishes were
    /// not confirmed.
    Closing {
        error: Error,
        answer: Result<()>,
        reply: CloseReply,
    },
    Closed(Error),
}

/// The reply to the client's `channel.close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseReply {
    /// It comes next.
    Due,
    /// The reply to an earlier `channel.close` may come first, before that to `channel.open`.
    BehindEarlier,
    /// The broker has closed the channel as well, and may omit it.
    MayBeOmitted,
}

/// Which frames a channel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    All,
    /// Only `channel.close` and `channel.close-ok`.
    Close,
    Nothing,
}

/// Where the consumers of a channel exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumersAt {
    /// At the broker too: a cancel is sent.
    Broker,
    /// Only here: the broker has forgotten them.
    Client,
    /// Nowhere: they ended with the channel.
    Nowhere,
}

/// What the loss of the connection means for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing.
    Ignored,
    /// It opens on the next connection.
    OpensLater,
    /// It was being closed, and is closed now.
    Ends,
    /// It recovers on the next connection.
    Recovers,
}

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

impl ChannelState {
    pub(super) fn is_opening(&self) -> bool {
        matches!(self, Self::Opening { .. })
    }

    /// Returns whether the channel has not opened within its deadline.
    pub(super) fn opens_late(&self, now: Instant, deadline: Duration) -> bool {
        matches!(self, Self::Opening { since, .. } if now.saturating_duration_since(*since) >= deadline)
    }

    /// Returns the error of a channel that has not opened within its deadline.
    pub(super) fn opens_too_late(&self, deadline: Duration) -> Error {
        let what = format!("channel.open: no connection within {deadline:?}");
        match self {
            Self::Opening { last: Some(error), .. } => Error::timeout(what).because(error.clone()),
            _ => Error::timeout(what),
        }
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    #[inline]
    pub(super) fn is_draining(&self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    pub(super) fn is_detached(&self) -> bool {
        matches!(self, Self::Detached { .. })
    }

    pub(super) fn is_backing_off(&self) -> bool {
        matches!(self, Self::BackingOff { .. })
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }

    /// Returns whether calls wait for the channel to be open again.
    #[inline]
    pub(super) fn is_recovering(&self) -> bool {
        matches!(
            self,
            Self::Detached { .. }
                | Self::BackingOff { .. }
                | Self::Recovering { .. }
                | Self::ClosingToReopen { .. }
        )
    }

    /// Returns whether calls that waited can be made now.
    pub(super) fn makes_waiting_calls(&self) -> bool {
        matches!(self, Self::Open | Self::Draining { .. })
    }

    /// Returns whether the recovery is sent, and not all replies have come.
    #[inline]
    pub(super) fn awaits_recovery(&self) -> bool {
        matches!(self, Self::Recovering { .. })
    }

    /// Returns whether the channel is open at the broker, or is opened there again. Then consumers can be
    /// started, and the channel can be closed in order to reopen it.
    pub(super) fn is_open_or_reopened(&self) -> bool {
        matches!(self, Self::Open | Self::Recovering { .. })
    }

    /// Returns an error unless the application can make calls now.
    pub(super) fn usable(&self) -> Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Opening { .. } => Err(Error::channel_closed("the channel is not open yet", None)),
            Self::Draining { .. } => Err(Error::channel_closed("the channel is being closed", None)),
            Self::Detached { cause: error, .. }
            | Self::BackingOff { cause: error, .. }
            | Self::Recovering { cause: error, .. }
            | Self::ClosingToReopen { cause: error, .. }
            | Self::Closing { error, .. }
            | Self::Closed(error) => Err(error.clone()),
        }
    }

    /// Returns why the channel is not open now.
    pub(super) fn cause(&self) -> Error {
        self.usable().err().unwrap_or_else(|| Error::connection_closed("the connection is lost", None))
    }

    #[inline]
    pub(super) fn reading(&self) -> Reading {
        match self {
            Self::Closed(_) | Self::BackingOff { .. } => Reading::Nothing,
            Self::Closing { .. } | Self::ClosingToReopen { .. } => Reading::Close,
            _ => Reading::All,
        }
    }

    pub(super) fn consumers_at(&self) -> ConsumersAt {
        match self {
            Self::Detached { .. } | Self::BackingOff { .. } | Self::ClosingToReopen { .. } => {
                ConsumersAt::Client
            }
            Self::Closing { .. } | Self::Closed(_) => ConsumersAt::Nowhere,
            Self::Opening { .. } | Self::Open | Self::Draining { .. } | Self::Recovering { .. } => {
                ConsumersAt::Broker
            }
        }
    }

    /// The last reply of the first opening has arrived.
    pub(super) fn opened(&mut self) {
        *self = Self::Open;
    }

    /// Begins to close an open channel; returns whether it was open.
    pub(super) fn drain(&mut self, code: u16, text: String, until: Instant) -> bool {
        if !self.is_open() {
            return false;
        }
        *self = Self::Draining { code, text, until };
        true
    }

    /// Returns code and text of the `channel.close` that is due; `confirmed` is whether no publish is under
    /// way.
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
            Self::Recovering { late_close_ok: true, .. } => CloseReply::BehindEarlier,
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

    /// Returns what the loss of the connection means.
    pub(super) fn loss(&self) -> Loss {
        match self {
            Self::Closed(_) | Self::Detached { .. } => Loss::Ignored,
            Self::Opening { .. } => Loss::OpensLater,
            Self::Draining { .. } | Self::Closing { .. } => Loss::Ends,
            Self::Open | Self::BackingOff { .. } | Self::Recovering { .. } | Self::ClosingToReopen { .. } => {
                Loss::Recovers
            }
        }
    }

    /// The connection is lost, and the channel recovers on the next one.
    pub(super) fn detach(&mut self, cause: Error) {
        *self = Self::Detached { cause, last: None };
    }

    /// There is still no connection.
    pub(super) fn connect_failed(&mut self, error: Error) {
        match self {
            Self::Detached { last, .. } | Self::Opening { last, .. } => *last = Some(error),
            _ => {}
        }
    }

    /// Returns why the channel is not open now: the last failure to connect, or else why it was lost.
    pub(super) fn last_failure(&self) -> Error {
        match self {
            Self::Detached { last: Some(error), .. } => error.clone(),
            _ => self.cause(),
        }
    }

    /// Begins to recover, for the cause that closed the channel.
    pub(super) fn recover(&mut self) {
        let skipped = self.take_skipped();
        self.reopen(self.cause(), skipped);
    }

    /// The broker has closed the channel, which is reopened later.
    pub(super) fn back_off(&mut self, until: Instant, cause: Error, skipped: Vec<(u32, Error)>) {
        *self = Self::BackingOff { until, cause, skipped };
    }

    /// Begins to recover if the time to reopen has come; returns whether it does.
    pub(super) fn reopen_if_due(&mut self, now: Instant) -> bool {
        match self {
            Self::BackingOff { until, cause, skipped } if now >= *until => {
                let (cause, skipped) = (cause.clone(), std::mem::take(skipped));
                self.reopen(cause, skipped);
                true
            }
            _ => false,
        }
    }

    /// Begins to recover after the broker has closed the channel.
    pub(super) fn reopen(&mut self, cause: Error, skipped: Vec<(u32, Error)>) {
        *self = Self::Recovering { cause, skipped, late_close_ok: false };
    }

    /// The reply to a `channel.close` was not awaited any longer.
    pub(super) fn expect_late_close_ok(&mut self) {
        if let Self::Recovering { late_close_ok, .. } = self {
            *late_close_ok = true;
        }
    }

    /// Returns whether such a reply may come now; it comes once, and not behind that to `channel.open`.
    pub(super) fn take_late_close_ok(&mut self) -> bool {
        match self {
            Self::Recovering { late_close_ok, .. } => std::mem::take(late_close_ok),
            Self::ClosingToReopen { reply, .. } | Self::Closing { reply, .. }
                if *reply == CloseReply::BehindEarlier =>
            {
                *reply = CloseReply::Due;
                true
            }
            _ => false,
        }
    }

    /// Takes the consumers that are not started again.
    pub(super) fn take_skipped(&mut self) -> Vec<(u32, Error)> {
        match self {
            Self::Recovering { skipped, .. }
            | Self::BackingOff { skipped, .. }
            | Self::ClosingToReopen { skipped, .. } => std::mem::take(skipped),
            _ => Vec::new(),
        }
    }

    /// A consumer is not started again with the channel.
    pub(super) fn skip(&mut self, consumer: u32, error: Error) {
        if let Self::Recovering { skipped, .. } = self {
            skipped.push((consumer, error));
        }
    }

    /// A consumer is started again; it is not skipped any more.
    pub(super) fn unskip(&mut self, consumer: u32) {
        if let Self::Recovering { skipped, .. }
        | Self::BackingOff { skipped, .. }
        | Self::ClosingToReopen { skipped, .. } = self
        {
            skipped.retain(|(skipped, _)| *skipped != consumer);
        }
    }

    /// All replies of the recovery have come: the channel is open. Returns why it was not, and the consumers
    /// that were not started.
    pub(super) fn recovered(&mut self) -> Option<(Error, Vec<(u32, Error)>)> {
        if !self.awaits_recovery() {
            return None;
        }
        match std::mem::replace(self, Self::Open) {
            Self::Recovering { cause, skipped, .. } => Some((cause, skipped)),
            _ => None,
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
