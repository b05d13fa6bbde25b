//! How many attempts were made at a message before it was published to its queue: counted in one header, since headers
//! that begin with `x-` belong to the broker.

use crate::message::Content;

/// The header that counts attempts.
pub(crate) const ATTEMPTS: &str = "retry-attempt";

/// Returns how many attempts were made before the message was published as it is.
pub(crate) fn attempts_before(content: &Content) -> u32 {
    let headers = content.properties().ok().and_then(|properties| properties.headers());
    let attempts = headers.and_then(|headers| headers.get(ATTEMPTS)?.as_i64());
    attempts.map_or(0, |attempts| attempts.clamp(0, u32::MAX.into()) as u32)
}
