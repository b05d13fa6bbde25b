//! Counts the HTTP requests, so that a shutdown can tell what became of them.

use std::{
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_web::{
    Error,
    body::{BodySize, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform},
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use pin_project_lite::pin_project;

use crate::shutdown::{InFlight, Requests, Shutdown};

/// Middleware that counts requests for the [`requests`](crate::shutdown::ShutdownReport::requests) of a
/// [`ShutdownReport`](crate::shutdown::ShutdownReport).
///
/// A request is in flight until its response, with its body, was passed to its connection. Two atomic additions for each.
///
/// # Examples
/// ```no_run
/// # use actix_pika::{Connection, shutdown::Shutdown};
/// use actix_pika::actix_web::{CountRequests, serve};
/// use actix_web::{App, HttpServer};
///
/// # async fn run(shutdown: Shutdown) -> std::io::Result<()> {
/// let counted = CountRequests::of(&shutdown);
/// let server = HttpServer::new(move || App::new().wrap(counted.clone())).bind(("127.0.0.1", 8080))?;
/// let report = serve(server, shutdown).await?;
/// println!("{} requests were cut off", report.requests.unwrap_or_default().cut);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct CountRequests(Arc<Requests>);

impl CountRequests {
    /// Creates the middleware of a server that `shutdown` ends. For all its applications it is the same.
    ///
    /// # Examples
    /// See [`CountRequests`].
    pub fn of(shutdown: &Shutdown) -> Self {
        Self(shutdown.state.requests.get_or_init(Arc::default).clone())
    }
}

impl<S, B> Transform<S, ServiceRequest> for CountRequests
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: MessageBody,
{
    type Response = ServiceResponse<CountedBody<B>>;
    type Error = Error;
    type InitError = ();
    type Transform = CountRequestsService<S>;
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(CountRequestsService { service, requests: self.0.clone() }))
    }
}

/// The service that [`CountRequests`] makes.
#[derive(Debug)]
pub struct CountRequestsService<S> {
    service: S,
    requests: Arc<Requests>,
}

impl<S, B> Service<ServiceRequest> for CountRequestsService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: MessageBody,
{
    type Response = ServiceResponse<CountedBody<B>>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let mut in_flight = InFlight::begin(&self.requests);
        let response = self.service.call(request);
        Box::pin(async move {
            let response = response.await;
            match &response {
                // The framework makes the response of an error, and no more has to be awaited for it.
                Err(_) => in_flight.is_finished = true,
                Ok(response) => {
                    in_flight.is_finished =
                        matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0));
                }
            }
            Ok(response?.map_body(|_, body| CountedBody { body, in_flight }))
        })
    }
}

pin_project! {
    /// The body of a response that is counted.
    #[derive(Debug)]
    pub struct CountedBody<B> {
        #[pin]
        body: B,
        in_flight: InFlight,
    }
}

impl<B: MessageBody> MessageBody for CountedBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, B::Error>>> {
        let this = self.project();
        let next = ready!(this.body.poll_next(cx));
        this.in_flight.is_finished |= next.is_none();
        Poll::Ready(next)
    }
}
