//! Handles as arguments of HTTP handlers, and errors of calls as responses.

use std::{
    any::type_name,
    future::{Ready, ready},
};

use actix_pika_actors::facade;
use actix_web::{
    FromRequest, HttpRequest, HttpResponse, ResponseError, dev::Payload, http::StatusCode, web::Data,
};

use crate::{
    Channel, Error, Result,
    publisher::Publisher,
    rpc::{RpcClient, RpcError},
};

/// Takes a handle from the application's data.
fn from_data<H: Clone + 'static>(request: &HttpRequest) -> Ready<Result<H>> {
    let handle = request.app_data::<Data<H>>().map(|data| data.get_ref().clone());
    ready(handle.ok_or_else(|| {
        facade::refused(format!(
            "a handler takes {0}, and the application has none; add `.app_data(web::Data::new(..))` with it to the App",
            type_name::<H>()
        ))
    }))
}

/// With the feature `actix-web`: an argument of a handler, from the `Data<Publisher<T, C>>` of the application.
///
/// # Errors
/// Status 500, if there is none. The log has the line to add.
impl<T: 'static, C: 'static> FromRequest for Publisher<T, C> {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        from_data(request)
    }
}

/// With the feature `actix-web`: an argument of a handler, from the `Data<Channel>` of the application.
///
/// # Errors
/// Status 500, if there is none. The log has the line to add.
impl FromRequest for Channel {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        from_data(request)
    }
}

/// With the feature `actix-web`: an argument of a handler, from the `Data<RpcClient>` of the application.
///
/// # Errors
/// Status 500, if there is none. The log has the line to add.
impl FromRequest for RpcClient {
    type Error = Error;
    type Future = Ready<Result<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        from_data(request)
    }
}

/// The response to a request whose handler returns an [`RpcError`], with the feature `actix-web`. Body, header and log are
/// those of an [`Error`].
///
/// | error | status |
/// |---|---|
/// | `Timeout` | 504 |
/// | `Unroutable`, `Remote` | 502: a handler that knows the codes of its server maps them itself |
/// | `Lost`, `Closed`, `Codec`, `Refused` | that of its cause |
impl ResponseError for RpcError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Unroutable(_) | Self::Remote(_) => StatusCode::BAD_GATEWAY,
            Self::Lost { cause, .. } | Self::Closed { cause, .. } | Self::Codec { cause, .. } => {
                cause.status_code()
            }
            Self::Refused(cause) => cause.status_code(),
        }
    }

    fn error_response(&self) -> HttpResponse {
        let cause = match self {
            Self::Lost { cause, .. } | Self::Closed { cause, .. } => Some(cause),
            _ => None,
        };
        facade::respond(self.status_code(), cause.and_then(Error::next_attempt_in), self)
    }
}
