//! Errors as HTTP responses. This is the only file of the engine that names the web framework.

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{ContentType, RETRY_AFTER},
    },
};

use super::{Error, ErrorKind};

/// The wait that a client is told, if the next attempt to connect is not known.
const RETRY_AFTER_UNKNOWN: u64 = 5;

/// The longest wait that a client is told.
const RETRY_AFTER_MOST: u64 = 30;

/// The response to a request whose handler returns an [`Error`], with the feature `actix-web`.
///
/// | kind | status |
/// |---|---|
/// | `ConnectionClosed`, `Io`, `Blocked`, `Stopped` | 503 |
/// | `Timeout` | 504; 503 if the publish window had no room |
/// | `Unroutable`, `Nacked`, `Protocol` | 502 |
/// | `Limit` | 413; 503 if the limit is one of connections or channels |
/// | `ChannelClosed` | 503 if it was closed because of something else ([`is_retryable`](Error::is_retryable)), 413 if the broker refused the size of the body, else 500 |
/// | `Refused` | 413 if the broker refused the size of the body, else 500 |
/// | `Auth`, `Vhost`, `Tls`, `Database` | 503 if it passes ([`is_retryable`](Error::is_retryable)), else 500 |
/// | `Uri`, `Codec`, `StaleDelivery` | 500 |
///
/// A 503 has a `Retry-After` of 1 to 30 seconds: the time to the [next attempt](Error::next_attempt_in) to connect, or 5
/// seconds if that is not known.
///
/// The body is JSON with a fixed sentence for each status and a request id. The log has the same id with the cause, as a warning, or
/// as an error for 500. The response has no text or name of the broker.
///
/// The status does not tell whether a publish [may have arrived](Error::may_have_arrived). A client that repeats a request
/// needs a key that stays the same, which becomes the message id.
///
/// Source: RFC 9110 sections 10.2.3 (`Retry-After`) and 15.6 (5xx)
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        match self.kind() {
            ErrorKind::ConnectionClosed | ErrorKind::Io | ErrorKind::Blocked | ErrorKind::Stopped => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::Timeout if self.0.no_room => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Unroutable | ErrorKind::Nacked | ErrorKind::Protocol => StatusCode::BAD_GATEWAY,
            ErrorKind::Limit if self.0.no_room || self.is_retryable() => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Limit => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::ChannelClosed
            | ErrorKind::Auth
            | ErrorKind::Vhost
            | ErrorKind::Tls
            | ErrorKind::Database
                if self.is_retryable() =>
            {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::ChannelClosed | ErrorKind::Refused if self.is_refused_for_its_size() => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            ErrorKind::ChannelClosed
            | ErrorKind::Refused
            | ErrorKind::Auth
            | ErrorKind::Vhost
            | ErrorKind::Tls
            | ErrorKind::Database
            | ErrorKind::Uri
            | ErrorKind::Codec
            | ErrorKind::StaleDelivery => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        respond(self.status_code(), self.next_attempt_in(), self)
    }
}

/// Returns the response of a request that failed because of `cause`, and logs it with the same id.
pub fn respond(status: StatusCode, next_attempt: Option<Duration>, cause: &dyn fmt::Display) -> HttpResponse {
    let id = format!("{:016x}", fastrand::u64(..));
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => log::error!("request {id}: {}: {cause}", status.as_u16()),
        _ => log::warn!("request {id}: {}: {cause}", status.as_u16()),
    }
    let mut response = HttpResponse::build(status);
    response.insert_header(ContentType::json());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.insert_header((RETRY_AFTER, retry_after(next_attempt)));
    }
    response.body(format!(r#"{{"error":"{}","request_id":"{id}"}}"#, sentence(status)))
}

impl Error {
    /// Returns whether the broker refused a publish for the size of its body.
    fn is_refused_for_its_size(&self) -> bool {
        let says = |text: &str| text.contains("message size ") && text.contains("larger than");
        self.close_reason().is_some_and(|reason| reason.code == 406 && says(&reason.text))
    }
}

fn retry_after(next: Option<Duration>) -> u64 {
    next.map_or(RETRY_AFTER_UNKNOWN, |wait| wait.as_millis().div_ceil(1_000) as u64)
        .clamp(1, RETRY_AFTER_MOST)
}

fn sentence(status: StatusCode) -> &'static str {
    match status {
        StatusCode::SERVICE_UNAVAILABLE => "The service is not available at present. Try again later.",
        StatusCode::GATEWAY_TIMEOUT => {
            "The request was not confirmed in time. It may have been accepted nevertheless."
        }
        StatusCode::BAD_GATEWAY => "The request was not accepted by a service behind this one.",
        StatusCode::PAYLOAD_TOO_LARGE => "The request is too large.",
        _ => "The request failed because of an error of this service.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CloseReason, TlsFailure};
    use actix_web::body::MessageBody;
    use tokio::time::Instant;

    fn refused(code: u16, text: &'static str) -> Error {
        Error::refused("basic.publish", CloseReason::new(code, text, 60, 40))
    }

    fn returned() -> Error {
        Error::data(ErrorKind::Unroutable, "no queue for \"orders.at\"").into()
    }

    /// One error of each kind at least, with the status of its response.
    fn table() -> Vec<(Error, u16)> {
        let closed = |code| Error::connect_refused(CloseReason::new(code, "NOT_ALLOWED - no", 10, 40));
        let lost = Error::connection_closed("lost", None);
        let size = "PRECONDITION_FAILED - message size 9 is larger than configured max size 5";
        vec![
            (Error::io("connect", &std::io::Error::from(std::io::ErrorKind::ConnectionRefused)), 503),
            (Error::tls("connect", TlsFailure::Expired, "yesterday"), 503),
            (Error::tls("connect", TlsFailure::UnknownAuthority, "Example CA"), 500),
            (Error::uri("no host"), 500),
            (Error::credentials("the vault is sealed"), 503),
            (Error::auth("the credentials were refused", None), 500),
            (
                Error::connect_refused(CloseReason::new(541, "INTERNAL_ERROR - vhost '/' is down", 10, 40)),
                503,
            ),
            (closed(530), 500),
            (Error::timeout("no confirm within the deadline"), 504),
            (Error::timeout("no room in the publish window").without_room(), 503),
            (Error::protocol("a frame of type 9"), 502),
            (lost.clone(), 503),
            (lost.in_flight(), 503),
            (Error::connection_closed_here("the connection was closed by the application"), 503),
            (Error::closed_meanwhile(&refused(404, "NOT_FOUND - no exchange")), 503),
            (Error::channel_closed("closed", None), 500),
            (Error::channel_closed("closed", Some(CloseReason::new(406, size, 60, 40))), 413),
            (refused(404, "NOT_FOUND - no exchange 'orders' in vhost '/'"), 500),
            (refused(406, size), 413),
            (refused(406, "PRECONDITION_FAILED - inequivalent arg 'durable'"), 500),
            (Error::refused_here("no queue"), 500),
            (Error::database("the database is locked", true), 503),
            (Error::database("no such table", false), 500),
            (Error::nacked(), 502),
            (returned(), 502),
            (Error::stale("the delivery is settled"), 500),
            (Error::blocked_by("not sent within the deadline", "low on memory"), 503),
            (Error::stopped("the actor has stopped"), 503),
            (Error::codec("a point needs two numbers"), 500),
            (Error::limit("the headers make a frame of 200000 bytes"), 413),
            (Error::limit("all 2047 channels are open").without_room(), 503),
            (Error::unavailable("not sent within the deadline", &lost), 503),
        ]
    }

    /// WEB-01
    #[test]
    fn every_kind_has_a_status() {
        let mut kinds = std::collections::HashSet::new();
        for (error, status) in table() {
            assert_eq!(error.status_code().as_u16(), status, "{error:?}");
            kinds.insert(error.kind());
        }
        // All of them: a new kind does not compile without a status.
        assert_eq!(kinds.len(), 18);
    }

    /// WEB-01, WEB-02: the header is there with 503 only, and the body is the same for all errors with a status.
    #[test]
    fn a_response_has_a_fixed_sentence_and_an_id() {
        for (error, status) in table() {
            let response = error.error_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503, "{error:?}");
            assert_eq!(response.headers().get("content-type").unwrap(), "application/json");
            let body = response.into_body().try_into_bytes().unwrap();
            let body = std::str::from_utf8(&body).unwrap();
            let start = format!(r#"{{"error":"{}","request_id":""#, sentence(error.status_code()));
            let id = body.strip_prefix(&start).and_then(|rest| rest.strip_suffix("\"}")).unwrap();
            assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{body}");
        }
    }

    /// WEB-01
    #[test]
    fn a_client_waits_for_the_next_attempt_to_connect() {
        for (millis, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (30_000, 30), (90_000, 30)] {
            assert_eq!(retry_after(Some(Duration::from_millis(millis))), seconds, "{millis}");
        }
        assert_eq!(retry_after(None), 5);
        let lost = |at| Error::connection_closed("lost", None).tried_again_at(at);
        let after = |error: &Error| {
            error.error_response().headers().get(RETRY_AFTER).unwrap().to_str().unwrap().to_owned()
        };
        let now = Instant::now();
        let soon = lost(now + Duration::from_secs(3_600));
        assert_eq!(after(&soon), "30");
        // An error that wraps it knows it, too.
        assert_eq!(after(&Error::unavailable("not sent within the deadline", &soon).in_flight()), "30");
        assert_eq!(after(&lost(now - Duration::from_secs(1))), "5", "the attempt has begun");
    }
}
