//! The state of a channel, and every change of it.
//!
//! No frames, no outbox, no clock: each change returns what the machine needs in order to act on it.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

#[derive(Debug)]
pub(super) enum ChannelState {
    /// Never open yet: there is no connection, or `channel.open` is not answered.
    Opening {
        since: Instant,
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
    },
    /// `channel.open`, consumers and `confirm.select` are sent again, and not all of them are answered.
    Recovering {
        cause: Error,
        /// Consumers that are not started again, and why.
        skipped: Vec<(u32, Error)>,
    },
    /// `channel.close` is sent; the channel reopens once it is answered.
    ClosingToReopen {
        cause: Error,
        crossed: bool,
    },
    /// `channel.close` is sent, `abandoned` publishes were not confirmed. `crossed` is set where the broker has sent a
    /// close of its own.
    Closing {
        error: Error,
        abandoned: usize,
        crossed: bool,
    },
    Closed(Error),
}

/// Which frames a channel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    All,
    /// Only `channel.close` and `channel.close-ok`.
    Close,
    Nothing,
}

/// Where the consumers of a channel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConsumersAt {
    /// At the broker, too: a cancel is sent.
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

/// What follows the answer to `channel.close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterClose {
    End,
    Reopen,
}

/// How a channel is closed that is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseUnopened {
    /// `channel.close` is sent already; the channel stays closed after it.
    Wait,
    SendClose,
    /// The broker has no such channel.
    End,
}

/// The end of a channel.
#[derive(Debug)]
pub(super) struct Ended {
    /// The reason for everyone who waits.
    pub(super) error: Error,
    /// How many publishes were not confirmed.
    pub(super) abandoned: usize,
    /// The channel had never been open.
    pub(super) never_open: bool,
    /// The reason for watchers; `None` where the application closed the channel.
    pub(super) cause: Option<Error>,
}

impl ChannelState {
    pub(super) fn is_opening(&self) -> bool {
        matches!(self, Self::Opening { .. })
    }

    /// Returns whether the channel has not opened within its deadline.
    pub(super) fn opens_late(&self, now: Instant, deadline: Duration) -> bool {
        matches!(self, Self::Opening { since } if now.saturating_duration_since(*since) >= deadline)
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

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }

    /// Returns whether calls wait for the channel to be open again.
    #[inline]
    pub(super) fn is_recovering(&self) -> bool {
        matches!(self, Self::Detached { .. } | Self::Recovering { .. } | Self::ClosingToReopen { .. })
    }

    /// Returns whether what is recovered is sent, and the answers are awaited.
    #[inline]
    pub(super) fn awaits_recovery(&self) -> bool {
        matches!(self, Self::Recovering { .. })
    }

    /// Returns whether consumers can be started, or a channel that recovers can be closed and reopened.
    pub(super) fn is_open_or_reopened(&self) -> bool {
        matches!(self, Self::Open | Self::Recovering { .. })
    }

    /// Returns an error unless the application can make calls now.
    pub(super) fn usable(&self) -> Result<()> {
        match self {
            Self::Open => Ok(()),
            Self::Opening { .. } => Err(Error::channel_closed("the channel is not open yet", None)),
            Self::Draining { .. } => Err(Error::channel_closed("the channel is being closed", None)),
            Self::Detached { cause: error }
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
            Self::Closed(_) => Reading::Nothing,
            Self::Closing { .. } | Self::ClosingToReopen { .. } => Reading::Close,
            _ => Reading::All,
        }
    }

    pub(super) fn consumers_at(&self) -> ConsumersAt {
        match self {
            Self::Detached { .. } | Self::ClosingToReopen { .. } => ConsumersAt::Client,
            Self::Closing { .. } | Self::Closed(_) => ConsumersAt::Nowhere,
            Self::Opening { .. } | Self::Open | Self::Draining { .. } | Self::Recovering { .. } => {
                ConsumersAt::Broker
            }
        }
    }

    /// The last answer of the first opening is here.
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

    /// Returns code and text of the `channel.close` that is due; `confirmed` is whether no publish is under way.
    pub(super) fn close_due(&self, now: Instant, confirmed: bool) -> Option<(u16, String)> {
        match self {
            Self::Draining { code, text, until } if confirmed || now >= *until => Some((*code, text.clone())),
            _ => None,
        }
    }

    /// `channel.close` is sent, and the channel stays closed.
    pub(super) fn close_sent(&mut self, error: Error, abandoned: usize) {
        *self = Self::Closing { error, abandoned, crossed: false };
    }

    /// `channel.close` is sent, and the channel reopens.
    pub(super) fn close_to_reopen_sent(&mut self, cause: Error) {
        *self = Self::ClosingToReopen { cause, crossed: false };
    }

    /// Closes a channel that recovers.
    pub(super) fn close_unopened(&mut self) -> CloseUnopened {
        match self {
            Self::ClosingToReopen { cause, crossed } => {
                *self = Self::Closing { error: cause.clone(), abandoned: 0, crossed: *crossed };
                CloseUnopened::Wait
            }
            Self::Closing { .. } => CloseUnopened::Wait,
            Self::Recovering { .. } => CloseUnopened::SendClose,
            _ => CloseUnopened::End,
        }
    }

    /// The broker has sent `channel.close`, too; returns how many publishes our close abandoned.
    pub(super) fn crossed(&mut self) -> Option<usize> {
        match self {
            Self::Closing { abandoned, crossed, .. } => {
                *crossed = true;
                Some(*abandoned)
            }
            Self::ClosingToReopen { crossed, .. } => {
                *crossed = true;
                Some(0)
            }
            _ => None,
        }
    }

    /// Returns whether the broker has closed the channel as well, so that the answer to our close may never come.
    pub(super) fn is_crossed(&self) -> bool {
        matches!(self, Self::Closing { crossed: true, .. } | Self::ClosingToReopen { crossed: true, .. })
    }

    /// Returns what follows the answer to `channel.close`, if one is awaited.
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
            Self::Open | Self::Recovering { .. } | Self::ClosingToReopen { .. } => Loss::Recovers,
        }
    }

    /// The connection is lost, and the channel recovers on the next one.
    pub(super) fn detach(&mut self, cause: Error) {
        *self = Self::Detached { cause };
    }

    /// Begins to recover, for the cause that closed the channel.
    pub(super) fn recover(&mut self) {
        self.reopen(self.cause(), Vec::new());
    }

    /// Begins to recover after the broker has closed the channel.
    pub(super) fn reopen(&mut self, cause: Error, skipped: Vec<(u32, Error)>) {
        *self = Self::Recovering { cause, skipped };
    }

    /// Takes the consumers that are not started again.
    pub(super) fn take_skipped(&mut self) -> Vec<(u32, Error)> {
        match self {
            Self::Recovering { skipped, .. } => std::mem::take(skipped),
            _ => Vec::new(),
        }
    }

    /// A consumer is started again after all.
    pub(super) fn unskip(&mut self, consumer: u32) {
        if let Self::Recovering { skipped, .. } = self {
            skipped.retain(|(skipped, _)| *skipped != consumer);
        }
    }

    /// All that was recovered is answered: the channel is open. Returns why it was not, and the consumers that were not
    /// started.
    pub(super) fn recovered(&mut self) -> Option<(Error, Vec<(u32, Error)>)> {
        if !self.awaits_recovery() {
            return None;
        }
        match std::mem::replace(self, Self::Open) {
            Self::Recovering { cause, skipped } => Some((cause, skipped)),
            _ => None,
        }
    }

    /// Ends the channel for good, unless it has ended. Of two reasons the first counts.
    pub(super) fn end(&mut self, error: Error, unconfirmed: usize) -> Option<Ended> {
        let closing = self.after_close().is_some();
        let (error, abandoned) = match self {
            Self::Closed(_) => return None,
            Self::Closing { error, abandoned, .. } => (error.clone(), *abandoned),
            Self::ClosingToReopen { cause, .. } => (cause.clone(), 0),
            _ => (error, unconfirmed),
        };
        let never_open = self.is_opening();
        let by_application = closing && error.close_reason().is_none();
        *self = Self::Closed(error.clone());
        let cause = (!by_application).then(|| error.clone());
        Some(Ended { error, abandoned, never_open, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CloseReason;

    fn error(text: &str) -> Error {
        Error::channel_closed(text.to_owned(), None)
    }

    fn by_broker() -> Error {
        Error::channel_closed("the broker closed it", Some(CloseReason::new(406, "no", 50, 10)))
    }

    /// One of each.
    fn all(now: Instant) -> [ChannelState; 8] {
        [
            ChannelState::Opening { since: now },
            ChannelState::Open,
            ChannelState::Draining { code: 200, text: "bye".into(), until: now + Duration::from_secs(1) },
            ChannelState::Detached { cause: error("lost") },
            ChannelState::Recovering { cause: error("lost"), skipped: vec![(1, error("gone"))] },
            ChannelState::ClosingToReopen { cause: error("silent"), crossed: false },
            ChannelState::Closing { error: error("closed"), abandoned: 2, crossed: false },
            ChannelState::Closed(error("closed")),
        ]
    }

    fn of_all<T>(ask: impl Fn(&mut ChannelState) -> T) -> Vec<T> {
        all(Instant::now()).each_mut().map(ask).into()
    }

    #[test]
    fn calls_are_made_when_open_and_wait_during_recovery() {
        let usable = of_all(|state| state.usable().is_ok());
        assert_eq!(usable, [false, true, false, false, false, false, false, false]);
        let wait = of_all(|state| state.is_recovering());
        assert_eq!(wait, [false, false, false, true, true, true, false, false]);
    }

    #[test]
    fn a_channel_that_closes_reads_only_the_end() {
        use Reading::{All, Close, Nothing};
        let reading = of_all(|state| state.reading());
        assert_eq!(reading, [All, All, All, All, All, Close, Close, Nothing]);
    }

    #[test]
    fn a_lost_connection_ends_channels_that_were_being_closed() {
        use Loss::{Ends, Ignored, OpensLater, Recovers};
        let losses = of_all(|state| state.loss());
        assert_eq!(losses, [OpensLater, Recovers, Ends, Ignored, Recovers, Recovers, Ends, Ignored]);
    }

    #[test]
    fn only_an_open_channel_is_drained() {
        let now = Instant::now();
        let drained = of_all(|state| state.drain(200, "bye".into(), now));
        assert_eq!(drained, [false, true, false, false, false, false, false, false]);
    }

    #[test]
    fn a_close_is_due_when_publishes_are_confirmed_or_late() {
        let now = Instant::now();
        let until = now + Duration::from_secs(1);
        let state = ChannelState::Draining { code: 320, text: "bye".into(), until };
        assert_eq!(state.close_due(now, false), None);
        assert_eq!(state.close_due(now, true), Some((320, "bye".into())));
        assert_eq!(state.close_due(until, false), Some((320, "bye".into())));
        assert_eq!(ChannelState::Open.close_due(until, true), None);
    }

    #[test]
    fn a_recovered_channel_is_open_and_returns_its_cause_and_skipped_consumers_once() {
        let mut state = ChannelState::Detached { cause: error("lost") };
        state.recover();
        assert!(state.awaits_recovery());
        state.reopen(error("refused"), vec![(1, error("gone")), (2, error("locked"))]);
        state.unskip(1);
        let (cause, skipped) = state.recovered().expect("it recovered");
        assert!(cause.to_string().contains("refused"), "{cause}");
        assert_eq!(skipped.into_iter().map(|(consumer, _)| consumer).collect::<Vec<_>>(), [2]);
        assert!(state.is_open() && state.recovered().is_none());
    }

    #[test]
    fn a_channel_closed_to_reopen_reopens_unless_it_is_closed_meanwhile() {
        let mut state = ChannelState::Open;
        state.close_to_reopen_sent(error("silent"));
        assert_eq!(state.after_close(), Some(AfterClose::Reopen));
        assert_eq!(state.crossed(), Some(0));
        assert_eq!(state.close_unopened(), CloseUnopened::Wait);
        assert_eq!(state.after_close(), Some(AfterClose::End));
        assert!(state.is_crossed(), "the broker's close is not forgotten");
    }

    #[test]
    fn a_channel_is_closed_unopened_by_what_the_broker_has_of_it() {
        use CloseUnopened::{End, SendClose, Wait};
        let how = of_all(|state| state.close_unopened());
        assert_eq!(how[3..7], [End, SendClose, Wait, Wait]);
    }

    #[test]
    fn the_first_reason_of_an_end_counts() {
        let mut state = ChannelState::Open;
        state.close_sent(error("first"), 3);
        let ended = state.end(error("second"), 5).expect("an end");
        assert!(ended.error.to_string().contains("first"));
        assert_eq!((ended.abandoned, ended.never_open, ended.cause.is_none()), (3, false, true));
        assert!(state.end(error("third"), 0).is_none(), "it has ended");
    }

    #[test]
    fn watchers_get_the_cause_of_an_end_that_the_application_did_not_ask_for() {
        let causes = of_all(|state| state.end(by_broker(), 1).map(|ended| ended.cause.is_some()));
        let [some, none] = [Some(true), Some(false)];
        assert_eq!(causes, [some, some, some, some, some, none, none, None]);
        let never = of_all(|state| state.end(by_broker(), 1).is_some_and(|ended| ended.never_open));
        assert_eq!(never.iter().position(|never| *never), Some(0));
        let mut state = ChannelState::Open;
        state.close_sent(by_broker(), 0);
        assert!(state.end(error("late"), 0).is_some_and(|ended| ended.cause.is_some()));
    }
}
