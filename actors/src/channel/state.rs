//! The state of a channel, and every change of it. The changes of a close are in `close_state.rs`.
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
        reply: OpenReply,
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
        reply: OpenReply,
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

/// The reply to `channel.open`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpenReply {
    /// It has not come.
    Due,
    /// The reply to an earlier `channel.close` may come first.
    BehindClose,
    Come,
}

/// Which frames a channel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    All,
    /// Those that cannot be of the channel before, which had the same number.
    Recovery,
    /// Only `channel.close` and the replies to `channel.open` and `channel.close`: the rest is of the channel
    /// before.
    Opening,
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
            Self::Opening { reply: OpenReply::Come, .. }
            | Self::Recovering { reply: OpenReply::Come, .. } => Reading::Recovery,
            Self::Opening { .. } | Self::Recovering { .. } => Reading::Opening,
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

    /// `channel.open` of the first opening is sent, once more if the connection was lost meanwhile.
    pub(super) fn open_sent(&mut self) {
        if let Self::Opening { reply, .. } = self {
            *reply = OpenReply::Due;
        }
    }

    /// The last reply of the first opening has arrived.
    pub(super) fn opened(&mut self) {
        *self = Self::Open;
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
        *self = Self::Recovering { cause, skipped, reply: OpenReply::Due };
    }

    /// The reply to `channel.open` has come.
    pub(super) fn open_answered(&mut self) {
        match self {
            Self::Opening { reply, .. } | Self::Recovering { reply, .. } => *reply = OpenReply::Come,
            _ => _ = self.take_late_close_ok(),
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
}
