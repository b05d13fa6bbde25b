//! Runs an HTTP server until the process is shut down.

use std::{fmt, io, sync::Arc, time::Duration};

use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, Service, ServiceFactory};
use actix_web::{
    HttpServer,
    body::MessageBody,
    dev::{AppConfig, ServerHandle},
};
use tokio::{task::JoinHandle, time::timeout};

use crate::shutdown::{Front, RequestReport, Requests, Shutdown, ShutdownReport};

/// Runs an HTTP server until SIGTERM or SIGINT (on Windows, Ctrl-C), ends it and everything that `shutdown` lists, and returns what
/// became of it. See [`shutdown`](crate::shutdown) for the order.
///
/// It takes the place of `server.run().await`: signals are handled here and not by the server, which would cut off requests
/// at SIGINT, and at each signal would stop the `System`, and with it connections on other arbiters, 300 milliseconds
/// after its workers. `disable_signals`, `shutdown_timeout` and `shutdown_signal` of the server have no effect. Requests that run when the server
/// stops are waited for; [`CountRequests`](super::CountRequests) counts them. If a connection of a client is open then,
/// the server needs a second at least, because its workers look that often.
///
/// # Errors
/// If the server cannot start or ends by an error; everything is shut down then, too. If the process cannot listen for
/// signals.
///
/// **Over a reconnect**: the server goes on.
///
/// # Examples
/// See the [module](super).
pub async fn serve<F, I, S, B>(
    server: HttpServer<F, I, S, B>,
    shutdown: Shutdown,
) -> io::Result<ShutdownReport>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    <S::Service as Service<Request>>::Future: 'static,
    S::Service: 'static,
    B: MessageBody + 'static,
{
    // The end of the time is decided in `drain`, in parts of a second.
    let seconds = shutdown.limit().as_secs().saturating_add(1);
    let server = server.disable_signals().shutdown_timeout(seconds).run();
    let requests = shutdown.state.requests.get().cloned();
    let mut front =
        HttpFront { handle: server.handle(), task: Some(tokio::spawn(server)), requests, failure: None };
    let report = shutdown.run(&mut front).await?;
    match front.failure {
        Some(error) => Err(error),
        None => Ok(report),
    }
}

/// The HTTP server, as the front of a shutdown.
struct HttpFront {
    handle: ServerHandle,
    /// `None` when the server has ended.
    task: Option<JoinHandle<io::Result<()>>>,
    requests: Option<Arc<Requests>>,
    failure: Option<io::Error>,
}

impl HttpFront {
    /// Ends the server at once. This ends its workers, too, and the connections of its clients.
    async fn abort(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Front for HttpFront {
    async fn ended(&mut self) {
        if let Some(task) = &mut self.task {
            let ended = task.await;
            self.task = None;
            self.failure = match ended {
                Ok(ended) => ended.err(),
                Err(error) => Some(io::Error::other(error)),
            };
        }
    }

    async fn drain(&mut self, limit: Duration) {
        if let Some(requests) = &self.requests {
            requests.stop();
        }
        if self.task.is_some() {
            let stop = self.handle.stop(true);
            let _ = timeout(limit, stop).await;
            // If its workers have ended, what is left is to stop the `System`, if the server was told so.
            self.abort().await;
        }
    }

    fn report(&self) -> Option<RequestReport> {
        self.requests.as_ref().map(|requests| requests.report())
    }
}
