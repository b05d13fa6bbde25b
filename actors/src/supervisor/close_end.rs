//! How a close by the application has ended, and what its callers get: an error whenever something was not
//! done.

use crate::{
    error::{Error, Result},
    outbox::Abandoned,
    wire::PeerText,
};

/// The end of a close.
#[derive(Debug)]
pub(super) struct CloseEnd {
    pub(super) how: HowClosed,
    /// The alarm for which the broker blocked the connection.
    pub(super) alarm: Option<PeerText>,
}

#[derive(Debug)]
pub(super) enum HowClosed {
    /// The broker has replied, or has ended the connection once it had read everything.
    Answered,
    /// The connection was down, or was lost before `connection.close` was sent.
    Lost(Error),
    /// The socket failed while something was not written yet.
    Unwritten(Error),
    /// The broker has not replied in time.
    TimedOut,
}

impl CloseEnd {
    /// Returns the result of the close, given what was unconfirmed when it was sent.
    pub(super) fn result(&self, abandoned: Abandoned) -> Result<()> {
        let cause = match &self.how {
            HowClosed::Answered if abandoned.unconfirmed == 0 => return Ok(()),
            HowClosed::Lost(_) if abandoned.unconfirmed == 0 && !abandoned.unwritten => return Ok(()),
            HowClosed::Lost(cause) | HowClosed::Unwritten(cause) => Some(cause),
            HowClosed::Answered | HowClosed::TimedOut => None,
        };
        let what = self.describe(abandoned);
        let error = match (cause, &self.alarm) {
            (Some(cause), _) => Error::connection_closed(what, None).caused_by(cause),
            (None, Some(alarm)) => {
                Error::blocked(format!("{what}; the broker blocks the connection: {alarm}"))
            }
            (None, None) => Error::timeout(what),
        };
        let error = error.abandoning(abandoned.unconfirmed);
        Err(if abandoned.may_have_arrived > 0 { error.maybe_arrived() } else { error })
    }

    fn describe(&self, abandoned: Abandoned) -> String {
        let Abandoned { unconfirmed, may_have_arrived, unwritten } = abandoned;
        let publishes = match may_have_arrived {
            _ if unconfirmed == 0 => None,
            0 => Some(format!("closed with {unconfirmed} publishes unconfirmed, none of which was sent")),
            all if all == unconfirmed => {
                Some(format!("closed with {unconfirmed} publishes unconfirmed, which may have arrived"))
            }
            some => Some(format!(
                "closed with {unconfirmed} publishes unconfirmed, of which {some} may have arrived"
            )),
        };
        let close = match &self.how {
            HowClosed::TimedOut => Some("the broker has not replied to connection.close in time"),
            HowClosed::Unwritten(_) => Some("closed before everything was written"),
            HowClosed::Lost(_) if unwritten => Some("closed before everything was written"),
            HowClosed::Answered | HowClosed::Lost(_) => None,
        };
        [publishes, close.map(str::to_owned)].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CloseReason, ErrorKind};

    fn forced() -> Error {
        Error::connection_closed("closed", Some(CloseReason::new(320, "CONNECTION_FORCED", 0, 0)))
    }

    fn result(
        how: HowClosed,
        alarm: Option<&str>,
        unconfirmed: usize,
        may_have_arrived: usize,
    ) -> Result<()> {
        let end = CloseEnd { how, alarm: alarm.map(PeerText::from) };
        end.result(Abandoned { unconfirmed, may_have_arrived, unwritten: false })
    }

    fn error(how: HowClosed, alarm: Option<&str>, unconfirmed: usize, may_have_arrived: usize) -> Error {
        result(how, alarm, unconfirmed, may_have_arrived).unwrap_err()
    }

    #[test]
    fn a_close_that_abandons_nothing_succeeds() {
        assert!(result(HowClosed::Answered, None, 0, 0).is_ok());
        assert!(result(HowClosed::Answered, Some("low on memory"), 0, 0).is_ok());
        assert!(result(HowClosed::Lost(forced()), None, 0, 0).is_ok());
    }

    #[test]
    fn the_error_has_the_cause_and_what_may_have_arrived() {
        for (unconfirmed, arrived, text) in [
            (3, 0, "closed with 3 publishes unconfirmed, none of which was sent"),
            (3, 1, "closed with 3 publishes unconfirmed, of which 1 may have arrived"),
            (3, 3, "closed with 3 publishes unconfirmed, which may have arrived"),
        ] {
            let lost = error(HowClosed::Lost(forced()), None, unconfirmed, arrived);
            assert_eq!((lost.kind(), lost.code()), (ErrorKind::ConnectionClosed, Some(320)));
            assert_eq!(lost.may_have_arrived(), arrived > 0);
            assert_eq!(lost.abandoned_publishes(), unconfirmed);
            assert!(lost.to_string().starts_with(text), "{lost}");
            let late = error(HowClosed::Answered, None, unconfirmed, arrived);
            assert_eq!((late.kind(), late.to_string()), (ErrorKind::Timeout, text.to_owned()));
        }
        let unwritten = error(HowClosed::Unwritten(Error::protocol("reset")), None, 0, 0);
        assert_eq!(unwritten.kind(), ErrorKind::ConnectionClosed);
        assert_eq!(unwritten.to_string(), "closed before everything was written: reset");
    }

    #[test]
    fn publishes_without_confirms_that_were_never_written_are_abandoned_too() {
        let end =
            |how| CloseEnd { how, alarm: None }.result(Abandoned { unwritten: true, ..Default::default() });
        assert_eq!(end(HowClosed::Lost(forced())).unwrap_err().kind(), ErrorKind::ConnectionClosed);
        // They were written before connection.close.
        assert!(end(HowClosed::Answered).is_ok());
    }

    #[test]
    fn a_close_without_a_reply_is_a_timeout_or_names_the_alarm() {
        let silent = error(HowClosed::TimedOut, None, 0, 0);
        assert_eq!(silent.kind(), ErrorKind::Timeout);
        assert_eq!(silent.to_string(), "the broker has not replied to connection.close in time");
        for how in [HowClosed::TimedOut, HowClosed::Answered] {
            let blocked = error(how, Some("low on memory"), 2, 1);
            assert_eq!((blocked.kind(), blocked.may_have_arrived()), (ErrorKind::Blocked, true));
            assert!(blocked.to_string().contains("low on memory"), "{blocked}");
        }
    }
}
