//! Refusals of the broker: which of them are worth another attempt.

use crate::error::{Error, ErrorKind};

/// Returns whether a refusal may be transient: for a lock that the dead connection still holds, or a node
/// that is down.
pub(super) fn is_transient(error: &Error) -> bool {
    error.close_reason().is_some_and(|reason| match reason.code {
        403 | 405 | 541 => true,
        // Between two names is where a name may contain one of the words below.
        404 if reason.text.starts_with("NOT_FOUND - no ") => false,
        404 => ["down", "stopped", "unavailable"].iter().any(|word| reason.says(word)),
        _ => false,
    })
}

/// Returns whether a refusal does not pass by itself: something else has the name (406), it cannot be
/// encoded, so that no broker was asked, or the broker did not reply in time. It is tried at the longest pause.
pub(super) fn is_lasting(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Limit | ErrorKind::Codec | ErrorKind::Timeout)
        || error.close_reason().is_some_and(|reason| reason.code == 406)
}

/// Returns whether the refused entity may exist nevertheless: with other properties (406), or without the
/// permission to declare it (403).
pub(super) fn may_exist(error: &Error) -> bool {
    error.close_reason().is_some_and(|reason| matches!(reason.code, 403 | 406))
}

/// Returns whether the refusal is a 404. The entity that it names may be one that is declared again later.
pub(super) fn is_not_found(error: &Error) -> bool {
    error.close_reason().is_some_and(|reason| reason.code == 404)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::CloseReason;

    #[test]
    fn a_missing_entity_is_not_transient() {
        let is_transient = |code, text: &str| {
            is_transient(&Error::refused("queue.declare", CloseReason::new(code, text.to_owned(), 50, 10)))
        };
        assert!(!is_transient(404, "NOT_FOUND - no queue 'countdown' in vhost '/'"));
        assert!(!is_transient(404, "NOT_FOUND - no exchange 'stopped' in vhost '/'"));
        assert!(!is_transient(
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'down' in vhost '/'"
        ));
        assert!(is_transient(
            404,
            "NOT_FOUND - home node 'a@b' of durable queue 'q' in vhost '/' is down or inaccessible"
        ));
        assert!(is_transient(404, "NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor"));
        assert!(is_transient(
            405,
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'"
        ));
        assert!(is_transient(403, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"));
        assert!(is_transient(541, "INTERNAL_ERROR"));
    }
}
