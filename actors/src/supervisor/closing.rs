//! Closing: by the application, when no handle is left, or for good because of an error.
//!
//! A close by the application waits until every channel has its publishes confirmed, or for the close
//! timeout, and then sends `connection.close`. A connection that is not open, or is still recovering, has
//! nothing to wait for.

use std::{error::Error as _, time::Duration};

use tokio::time::Instant;

use super::{
    channels::ChannelStatus,
    close_end::{CloseEnd, HowClosed},
    effect::Effect,
    phase::{CloseProgress, Closing, Interrupted, Phase},
    supervision::Supervision,
};
use crate::{
    error::{Error, ErrorKind, Result},
    internal::{ChannelMessage, ConnectionCommand},
    message::CloseConnection,
    options::clamp_timeout,
};

/// The least time that the broker has for the reply to `connection.close`.
const CLOSE_OK_MIN: Duration = Duration::from_millis(250);

impl Supervision {
    /// Closes the connection for the application. Closing again only shortens the limit.
    pub(super) fn close(&mut self, close: CloseConnection, now: Instant) {
        self.begin_close(close, now);
        if let Phase::Closing(Closing {
            interrupted: Interrupted::Dialling(_) | Interrupted::Recovery(_),
            ..
        }) = &self.phase
        {
            self.order_close(now);
        }
    }

    /// The last handle of the connection was dropped.
    pub(super) fn release(&mut self, now: Instant) {
        self.released = true;
        self.close_if_unneeded(now);
    }

    pub(super) fn is_unneeded(&self) -> bool {
        self.released && self.channels.is_empty()
    }

    /// Closes the connection when neither it nor a channel has a handle any more, and ends the actor once it
    /// is closed.
    pub(super) fn close_if_unneeded(&mut self, now: Instant) {
        if self.is_unneeded() {
            self.begin_close(CloseConnection::new().reason(200, "no handle is left"), now);
            if matches!(self.phase, Phase::Closed(_)) {
                self.effects.push_back(Effect::Stop);
            }
        }
    }

    /// # Errors
    /// `ConnectionClosed` when the connection is closed, or being closed.
    pub(super) fn check_not_closed(&self) -> Result<()> {
        match &self.phase {
            Phase::Closed(Some(error)) => Err(Error::connection_lost(error)),
            Phase::Closed(None) => Err(closed_by_application(None)),
            Phase::Closing(_) => Err(Error::connection_closed_here("the connection is being closed")),
            _ => Ok(()),
        }
    }

    fn begin_close(&mut self, close: CloseConnection, now: Instant) {
        let CloseConnection { code, text, within } = close;
        let limit = within.map_or(self.options.close_timeout, |limit| limit.min(self.options.close_timeout));
        let until = now + clamp_timeout(limit);
        let interrupted = match &mut self.phase {
            Phase::Closing(closing) => {
                closing.until = closing.until.min(until);
                return;
            }
            Phase::Closed(_) => return,
            // There is no connection to send connection.close on.
            Phase::BackingOff { retry, .. } => {
                let outage = retry.error.clone();
                let error = closed_by_application(Some(&outage));
                return self.close_for_good(error, None, HowClosed::Lost(outage));
            }
            Phase::Dialling(retry) => Interrupted::Dialling(retry.take()),
            Phase::RedeclaringTopology(open, _) | Phase::Attaching(open, _) => {
                Interrupted::Recovery(open.clone())
            }
            Phase::Up(open) => Interrupted::Up(open.clone()),
        };
        let progress = CloseProgress::Draining;
        let closing = Closing { code, text, until, progress, content_lost: false, interrupted };
        self.phase = Phase::Closing(closing);
        self.send_to_channels(|| ChannelMessage::Drain);
        self.order_close_if_drained(now);
    }

    /// Ends the wait for confirms when its time is over.
    pub(super) fn check_close_deadline(&mut self, now: Instant) {
        if let Phase::Closing(closing) = &self.phase
            && closing.deadline().is_some_and(|until| until <= now)
        {
            self.order_close(now);
        }
    }

    pub(super) fn order_close_if_drained(&mut self, now: Instant) {
        if self.channels.all(ChannelStatus::Drained) {
            self.order_close(now);
        }
    }

    fn order_close(&mut self, now: Instant) {
        let Phase::Closing(closing) = &mut self.phase else { return };
        if closing.progress == CloseProgress::Draining {
            closing.progress = CloseProgress::Ordered;
            let text = std::mem::take(&mut closing.text);
            let within = closing.until.saturating_duration_since(now).max(CLOSE_OK_MIN);
            let close = ConnectionCommand::Close { code: closing.code, text, within };
            self.effects.push_back(Effect::CountUnconfirmed);
            self.effects.push_back(Effect::Command(close));
        }
    }

    /// The socket of the connection that is being closed has ended too early.
    pub(super) fn content_lost(&mut self) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.content_lost = true;
        }
    }

    /// The connection has ended, or could not be opened, and is not dialled again.
    pub(super) fn end(&mut self, error: Error) {
        match &self.phase {
            Phase::Closing(closing) if closing.progress == CloseProgress::Ordered => {
                let how = how_closed(error, closing.content_lost, self.outage.as_ref());
                let cause = match &how {
                    HowClosed::Lost(cause) | HowClosed::Unwritten(cause) => Some(cause),
                    HowClosed::Answered | HowClosed::TimedOut => None,
                };
                self.close_for_good(closed_by_application(cause), None, how);
            }
            Phase::Closing(closing) if closing.content_lost => {
                self.close_for_good(error.clone(), Some(error.clone()), HowClosed::Unwritten(error));
            }
            _ => self.close_for_good(error.clone(), Some(error.clone()), HowClosed::Lost(error)),
        }
    }

    /// Closes for good; channels and callers get `error`, the state and the last event have `cause`.
    fn close_for_good(&mut self, error: Error, cause: Option<Error>, how: HowClosed) {
        let epoch = self.epoch;
        match &cause {
            Some(error) if self.phase.open().is_some() => log::warn!("connection {epoch}: lost: {error}"),
            Some(error) => log::debug!("connection {epoch}: not connected: {error}"),
            None => log::info!("connection {epoch}: closed"),
        }
        let end = CloseEnd { how, alarm: self.phase.open().and_then(|open| open.opened.blocked.clone()) };
        self.phase = Phase::Closed(cause.clone());
        self.channels.clear();
        self.utility = None;
        self.effects.push_back(Effect::CloseForGood { error, cause, end });
        self.health_changed();
    }
}

/// Returns how a close has ended, from the error of the `Connection` actor and that of the outage during
/// which it was closed, if there was one.
fn how_closed(error: Error, content_lost: bool, outage: Option<&Error>) -> HowClosed {
    let is_closed_in_order = error.kind() == ErrorKind::ConnectionClosed && error.source().is_none();
    match outage {
        _ if error.kind() == ErrorKind::Timeout => HowClosed::TimedOut,
        _ if content_lost => HowClosed::Unwritten(error),
        Some(outage) => HowClosed::Lost(outage.clone()),
        None if is_closed_in_order && error.close_reason().is_none() => HowClosed::Answered,
        None => HowClosed::Lost(error),
    }
}

/// Returns the error of everything that a close by the application ends, with the outage that kept it
/// waiting.
fn closed_by_application(cause: Option<&Error>) -> Error {
    let error = Error::connection_closed_here("the connection was closed by the application");
    match cause {
        Some(cause) => error.caused_by(cause),
        None => error,
    }
}
