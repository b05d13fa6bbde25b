//! What a broker means when it refuses a connection during the handshake.
//!
//! Codes alone do not tell: RabbitMQ answers 530 to a virtual host that does not exist, which somebody has to
//! mend, and to a limit of connections, which passes.

/// The meaning of a refusal during the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectRefusal {
    /// The user does not exist, or has another password.
    Login,
    /// The virtual host does not exist.
    MissingVhost,
    /// The user has no access to the virtual host.
    VhostAccess,
    /// As many connections are open as the virtual host, the user or the node may have.
    Limit,
    /// The node does not run the virtual host now.
    VhostDown,
    /// Anything else, such as a node that shuts down.
    Other,
}

impl ConnectRefusal {
    /// Sorts the `connection.close` of a broker by its meaning.
    ///
    /// The texts are those of RabbitMQ 3.10 to 4.3. They contain names, so only their beginnings and ends are
    /// compared. A text of 255 bytes is cut, and ends with `...`.
    pub(crate) fn new(code: u16, text: &str) -> Self {
        let text = text.split_once(" - ").map_or(text, |(_, text)| text);
        if text.ends_with(" is reached") && text.contains("limit") {
            return Self::Limit;
        }
        if text.ends_with(" is down") {
            return Self::VhostDown;
        }
        match code {
            403 => Self::Login,
            530 if text.starts_with("vhost ") && text.ends_with(" not found") => Self::MissingVhost,
            530 if text.starts_with("vhost ") && text.ends_with("...") => Self::MissingVhost,
            // Not ", backend b returned an error: ...", which passes.
            530 if text.starts_with("access to vhost '") && text.ends_with('\'') => Self::VhostAccess,
            530 if text.starts_with("access to vhost '") && text.contains("' by backend ") => {
                Self::VhostAccess
            }
            _ => Self::Other,
        }
    }

    /// Returns whether the refusal lasts until somebody changes the credentials, the user or the virtual
    /// host.
    pub(crate) fn is_for_good(self) -> bool {
        match self {
            Self::Login | Self::MissingVhost | Self::VhostAccess => true,
            Self::Limit | Self::VhostDown | Self::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_sorted_by_their_meaning() {
        use ConnectRefusal::*;
        let long_vhost = format!("NOT_ALLOWED - vhost {}...", "v".repeat(232));
        let long_access = format!("NOT_ALLOWED - access to vhost '{}...", "v".repeat(221));
        for (code, text, meaning) in [
            // RabbitMQ.
            (
                403,
                "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
                Login,
            ),
            (530, "NOT_ALLOWED - vhost v not found", MissingVhost),
            (530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u'", VhostAccess),
            (
                530,
                "NOT_ALLOWED - access to vhost 'v' refused for user 'u' by backend rabbit_auth_backend_http: no",
                VhostAccess,
            ),
            (
                530,
                "NOT_ALLOWED - access to vhost 'v' refused for user 'u', backend rabbit_auth_backend_http returned an error: timeout",
                Other,
            ),
            (
                530,
                "NOT_ALLOWED - access to vhost 'v' refused for user 'u': connection limit (1) is reached",
                Limit,
            ),
            (
                530,
                "NOT_ALLOWED - connection refused for user 'u': user connection limit (1) is reached",
                Limit,
            ),
            (530, "NOT_ALLOWED - connection refused: node connection limit (1) is reached", Limit),
            (541, "INTERNAL_ERROR - access to vhost 'v' refused for user 'u': vhost 'v' is down", VhostDown),
            (530, "NOT_ALLOWED - vhost is down", VhostDown),
            (320, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'", Other),
            (541, "INTERNAL_ERROR", Other),
            // Names that look like a part of the text.
            (530, "NOT_ALLOWED - vhost a connection limit (1) is reached not found", MissingVhost),
            (530, "NOT_ALLOWED - vhost x is down not found", MissingVhost),
            (530, "NOT_ALLOWED - vhost a - b not found", MissingVhost),
            (530, "NOT_ALLOWED - access to vhost 'v' refused for user 'u is down'", VhostAccess),
            (
                530,
                "NOT_ALLOWED - access to vhost 'connection limit (1) is reached' refused for user 'u'",
                VhostAccess,
            ),
            (
                530,
                "NOT_ALLOWED - access to vhost 'not found' refused for user 'u': connection limit (1) is reached",
                Limit,
            ),
            // Cut texts: what was cut off may be a limit.
            (530, &long_vhost, MissingVhost),
            (530, &long_access, Other),
            // Other brokers, and texts of other versions.
            (403, "ACCESS_REFUSED", Login),
            (403, "", Login),
            (530, "vhost not found", MissingVhost),
            (530, "NOT_ALLOWED", Other),
            (530, "", Other),
            (599, "NOT_ALLOWED - vhost v not found", Other),
        ] {
            assert_eq!(ConnectRefusal::new(code, text), meaning, "{code} {text}");
        }
    }

    #[test]
    fn only_a_refusal_that_somebody_has_to_mend_is_for_good() {
        use ConnectRefusal::*;
        for (refusal, is_for_good) in [
            (Login, true),
            (MissingVhost, true),
            (VhostAccess, true),
            (Limit, false),
            (VhostDown, false),
            (Other, false),
        ] {
            assert_eq!(refusal.is_for_good(), is_for_good, "{refusal:?}");
        }
    }
}
