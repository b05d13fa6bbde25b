//! The phases of a connection, from dialling to the end of its close handshake.
//!
//! A plain machine: no socket, no clock. The time limit of the phases that end a connection is a timer of the
//! actor.

use crate::error::Error;

#[derive(Debug)]
pub(super) enum ConnectionPhase {
    /// Dialling, or in the handshake.
    Opening,
    Open,
    /// Writing failed. The connection still reads: the peer may have sent `connection.close` with the reason.
    WriteClosed {
        cause: Error,
    },
    /// `connection.close` was sent or received. Only frames of channel 0 are handled.
    Closing(Closing),
}

#[derive(Debug)]
pub(super) struct Closing {
    await_close_ok: bool,
    /// Writing failed, so nothing more can be sent.
    write_closed: bool,
    /// The error to report at the end, unless another one was reported when closing began.
    cause: Option<Error>,
}

impl ConnectionPhase {
    /// Returns whether the handshake is done and no close has begun.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open | Self::WriteClosed { .. })
    }

    #[inline]
    pub(super) fn is_closing(&self) -> bool {
        matches!(self, Self::Closing(_))
    }

    #[inline]
    pub(super) fn is_write_closed(&self) -> bool {
        matches!(self, Self::WriteClosed { .. } | Self::Closing(Closing { write_closed: true, .. }))
    }

    /// Notes that writing failed. The first error is kept.
    pub(super) fn close_write(&mut self, error: Error) {
        match self {
            Self::Opening | Self::Open => *self = Self::WriteClosed { cause: error },
            Self::WriteClosed { .. } => {}
            Self::Closing(closing) => {
                closing.write_closed = true;
                closing.cause.get_or_insert(error);
            }
        }
    }

    /// Starts closing. `cause` is the error to report at the end.
    pub(super) fn start_closing(&mut self, await_close_ok: bool, cause: Option<Error>) {
        let write_closed = self.is_write_closed();
        let cause = cause.or_else(|| self.take_cause());
        *self = Self::Closing(Closing { await_close_ok, write_closed, cause });
    }

    /// Notes that the peer has replied to `connection.close`, or does not have to.
    pub(super) fn close_ok_received(&mut self) {
        if let Self::Closing(closing) = self {
            closing.await_close_ok = false;
        }
    }

    /// Returns whether the close handshake is done, given whether everything queued is written.
    pub(super) fn is_closed(&self, all_written: bool) -> bool {
        matches!(self, Self::Closing(closing) if all_written && !closing.await_close_ok)
    }

    /// Returns whether `connection.close` has no reply.
    pub(super) fn awaits_close_ok(&self) -> bool {
        matches!(self, Self::Closing(closing) if closing.await_close_ok)
    }

    /// The time for final frames is over. Returns the error to report, unless one was reported.
    pub(super) fn timed_out(&mut self) -> Option<Error> {
        match self {
            Self::Closing(closing) if closing.await_close_ok => {
                Some(Error::timeout("connection.close: the broker has not replied in time"))
            }
            _ => self.take_cause(),
        }
    }

    /// Takes the error to report at the end.
    pub(super) fn take_cause(&mut self) -> Option<Error> {
        match self {
            Self::Opening | Self::Open => None,
            Self::WriteClosed { cause } => Some(cause.clone()),
            Self::Closing(closing) => closing.cause.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn error(text: &'static str) -> Error {
        Error::protocol(text)
    }

    fn cause(mut phase: ConnectionPhase) -> Option<String> {
        phase.take_cause().map(|error| error.to_string())
    }

    #[test]
    fn a_close_of_the_peer_ends_once_close_ok_is_written() {
        let mut phase = ConnectionPhase::Open;
        phase.start_closing(false, None);
        assert!(phase.is_closing() && !phase.is_open() && !phase.is_write_closed());
        assert!(!phase.is_closed(false));
        assert!(phase.is_closed(true));
        assert_eq!(cause(phase), None);
    }

    #[test]
    fn a_close_of_ours_ends_once_it_is_written_and_answered() {
        let mut phase = ConnectionPhase::Open;
        phase.start_closing(true, Some(error("by the application")));
        assert!(!phase.is_closed(true));
        phase.close_ok_received();
        assert!(!phase.is_closed(false));
        assert!(phase.is_closed(true));
        assert_eq!(cause(phase), Some(error("by the application").to_string()));
    }

    #[test]
    fn a_close_of_ours_that_is_not_answered_ends_with_a_timeout() {
        let mut phase = ConnectionPhase::Open;
        phase.start_closing(true, Some(error("by the application")));
        assert!(phase.awaits_close_ok());
        assert_eq!(phase.timed_out().map(|error| error.kind()), Some(ErrorKind::Timeout));
        phase.close_ok_received();
        assert!(!phase.awaits_close_ok());
        assert_eq!(phase.timed_out().unwrap().to_string(), error("by the application").to_string());
    }

    #[test]
    fn a_failed_write_keeps_the_connection_open_for_reading() {
        let mut phase = ConnectionPhase::Open;
        phase.close_write(error("first"));
        phase.close_write(error("second"));
        assert!(phase.is_open() && phase.is_write_closed() && !phase.is_closed(true));
        assert_eq!(cause(phase), Some(error("first").to_string()));
    }

    #[test]
    fn closing_after_a_failed_write_stays_write_closed_and_keeps_its_error() {
        let mut phase = ConnectionPhase::Open;
        phase.close_write(error("write"));
        phase.start_closing(true, None);
        assert!(phase.is_closing() && phase.is_write_closed());
        assert_eq!(cause(phase), Some(error("write").to_string()));
    }

    #[test]
    fn a_failed_write_while_closing_does_not_replace_the_cause() {
        let mut phase = ConnectionPhase::Open;
        phase.start_closing(true, Some(error("by the application")));
        phase.close_write(error("write"));
        assert!(phase.is_write_closed() && !phase.is_closed(true));
        assert_eq!(cause(phase), Some(error("by the application").to_string()));
    }
}
