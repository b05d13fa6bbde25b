//! How an attempt to connect has failed: what each address answered, and the one error for all of them.
//!
//! A refusal of the login or the virtual host is for good, but only for the node that sent it: another node
//! may know the user already, or not be the same cluster. So the attempt is refused for good when every
//! address says so. Otherwise its error is one that may pass.

use std::net::SocketAddr;

use crate::error::Error;

/// The failures of the addresses that were tried in one attempt.
#[derive(Debug, Default)]
pub(crate) struct FailedAttempt {
    /// The last failure that may pass.
    may_pass: Option<Error>,
    /// The refusals that are for good.
    refused: Vec<Error>,
}

impl FailedAttempt {
    pub(crate) fn add(&mut self, error: Error) {
        log::debug!("not connected: {error}");
        if error.is_refused_for_good() {
            self.refused.push(error);
        } else {
            self.may_pass = Some(error);
        }
    }

    /// Returns the refusals that are for good.
    pub(crate) fn refused(&self) -> &[Error] {
        &self.refused
    }

    /// Returns the error of the attempt, `None` if no address was tried.
    pub(crate) fn into_error(mut self) -> Option<Error> {
        match self.may_pass {
            Some(error) => Some(error.beside(&self.refused)),
            None => self.refused.pop(),
        }
    }
}

/// The failures of the IP addresses of one name.
///
/// Addresses of one family are nodes, or proxies in front of them. Those of the other family belong to the
/// same nodes: where one family is refused for good, the other is not asked, so that one password is not
/// tried twice on one node, and does not count if it cannot be reached.
#[derive(Debug, Default)]
pub(super) struct FailedName {
    v4: FailedAttempt,
    v6: FailedAttempt,
    last_is_v4: bool,
}

impl FailedName {
    pub(super) fn add(&mut self, to: Option<SocketAddr>, error: Error) {
        self.last_is_v4 = to.is_none_or(|to| to.is_ipv4());
        if self.last_is_v4 { self.v4.add(error) } else { self.v6.add(error) }
    }

    /// Returns whether an IP address is worth a try.
    pub(super) fn may_accept(&self, to: &SocketAddr) -> bool {
        let other = if to.is_ipv4() { &self.v6 } else { &self.v4 };
        other.refused.is_empty()
    }

    pub(super) fn into_error(self) -> Option<Error> {
        let v4_counts = match (self.v4.refused.is_empty(), self.v6.refused.is_empty()) {
            (false, _) => true,
            (true, false) => false,
            (true, true) => self.last_is_v4,
        };
        if v4_counts { self.v4.into_error() } else { self.v6.into_error() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CloseReason, ErrorKind};

    fn refused(code: u16, text: &str) -> Error {
        Error::connect_refused(CloseReason::new(code, text, 0, 0))
    }

    fn login() -> Error {
        refused(403, "ACCESS_REFUSED - no").on("a:1")
    }

    fn limit() -> Error {
        refused(530, "NOT_ALLOWED - connection refused: node connection limit (1) is reached").on("b:1")
    }

    fn attempt(errors: impl IntoIterator<Item = Error>) -> Error {
        let mut attempt = FailedAttempt::default();
        errors.into_iter().for_each(|error| attempt.add(error));
        attempt.into_error().unwrap()
    }

    #[test]
    fn an_attempt_is_refused_for_good_when_every_address_says_so() {
        let vhost = || refused(530, "NOT_ALLOWED - vhost v not found");
        let error = attempt([login(), vhost()]);
        assert_eq!((error.kind(), error.is_refused_for_good()), (ErrorKind::Vhost, true));
        for errors in [vec![login(), limit()], vec![limit(), login()], vec![Error::timeout("x"), login()]] {
            let error = attempt(errors);
            assert!(error.is_retryable() && !error.is_refused_for_good(), "{error}");
            assert!(
                error.to_string().contains("another address: the credentials were refused [a:1]"),
                "{error}"
            );
        }
        assert!(FailedAttempt::default().into_error().is_none());
    }

    #[test]
    fn the_last_error_that_may_pass_is_reported() {
        let error = attempt([Error::timeout("first"), Error::protocol("second"), login()]);
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }

    #[test]
    fn one_family_speaks_for_the_other() {
        let (v4, other_v4) = (SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 2], 1)));
        let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1));
        let mut name = FailedName::default();
        assert!(name.may_accept(&v6) && name.may_accept(&v4));
        name.add(Some(v6), Error::timeout("unreachable"));
        name.add(Some(v4), login());
        assert!(!name.may_accept(&v6) && name.may_accept(&other_v4));
        assert!(name.into_error().unwrap().is_refused_for_good());

        let mut name = FailedName::default();
        name.add(Some(v4), login());
        name.add(Some(other_v4), Error::timeout("silent"));
        assert_eq!(name.into_error().unwrap().kind(), ErrorKind::Timeout);

        let mut name = FailedName::default();
        name.add(Some(v4), Error::timeout("first"));
        name.add(Some(v6), Error::protocol("last"));
        assert_eq!(name.into_error().unwrap().kind(), ErrorKind::Protocol);
    }
}
