//! The routes for liveness and readiness.

use std::{fmt, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    dev::{AppService, HttpServiceFactory},
    http::header::{CACHE_CONTROL, ContentType},
    web,
};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use super::readiness::{Answer, Facts};
use crate::{
    Connection,
    shutdown::{Drain, Shutdown, State, name_of},
};

/// How long a connection may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Routes that tell whether the process is alive, and ready for requests: `/health/live` and `/health/ready`, unless other
/// paths are set. A service for `App::service`; made by [`health`].
///
/// | route | 200 | 503 |
/// |---|---|---|
/// | live | the supervisor of each connection answers within a second | one does not: its thread is blocked or has ended, or the connection is closed for good. A restart helps |
/// | ready | each connection is open, not blocked by the broker, and has everything that was declared and consumed on it; each consumer, worker, relay and bridge runs; no shutdown has begun | the body names what is not |
///
/// Both answer `GET` and `HEAD`. The body is JSON: `{"ready":false,"not_ready":[{"what":"connection","name":"0","why":"blocked"}]}`. A connection has its
/// [name](Connection::name), or its number, in the order in which they were added. Names of queues and consumers are in it: serve these routes where
/// clients do not reach them, if that matters.
///
/// **Over a reconnect**: the process is alive, and not ready, from the loss of the connection to the end of its recovery.
///
/// Source: <https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/>
///
/// # Examples
/// See the [module](super).
#[derive(Clone)]
#[must_use = "routes do nothing until they are added to an App"]
pub struct HealthRoutes {
    connections: Vec<Connection>,
    work: Vec<Arc<dyn Drain>>,
    shutdowns: Vec<Arc<State>>,
    live: String,
    ready: String,
}

/// Returns the routes that tell the health of everything that a [`Shutdown`] lists, or of one [`Connection`].
///
/// # Examples
/// ```no_run
/// # use actix_pika::{Connection, shutdown::Shutdown};
/// use actix_pika::actix_web::health;
/// use actix_web::App;
///
/// # fn run(shutdown: Shutdown) {
/// let health = health(&shutdown);
/// let app = move || App::new().service(health.clone());
/// # let _ = actix_web::HttpServer::new(app);
/// # }
/// ```
pub fn health(of: impl Into<HealthRoutes>) -> HealthRoutes {
    of.into()
}

impl HealthRoutes {
    fn new() -> Self {
        Self {
            connections: Vec::new(),
            work: Vec::new(),
            shutdowns: Vec::new(),
            live: "/health/live".into(),
            ready: "/health/ready".into(),
        }
    }

    /// Adds a connection.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{Connection, actix_web::health};
    /// # fn run(publishing: Connection, consuming: Connection) {
    /// let health = health(&publishing).connection(&consuming);
    /// # let _ = health;
    /// # }
    /// ```
    pub fn connection(mut self, connection: &Connection) -> Self {
        self.connections.push(connection.clone());
        self
    }

    /// Adds a consumer, worker, relay or bridge.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{Connection, actix_web::health, tasks::TaskConsumer};
    /// # fn run(connection: Connection, mails: TaskConsumer) {
    /// let health = health(&connection).consumer(mails.clone());
    /// # let _ = health;
    /// # }
    /// ```
    pub fn consumer(mut self, consumer: impl Drain) -> Self {
        self.work.push(Arc::new(consumer));
        self
    }

    /// Sets the path of liveness; `/health/live` unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix_pika::{Connection, actix_web::health};
    /// # fn run(connection: Connection) {
    /// let health = health(&connection).live_path("/livez").ready_path("/readyz");
    /// # let _ = health;
    /// # }
    /// ```
    pub fn live_path(mut self, path: impl Into<String>) -> Self {
        self.live = path.into();
        self
    }

    /// Sets the path of readiness; `/health/ready` unless set.
    ///
    /// # Examples
    /// See [`live_path`](Self::live_path).
    pub fn ready_path(mut self, path: impl Into<String>) -> Self {
        self.ready = path.into();
        self
    }

    /// Asks all connections side by side.
    async fn answers(&self) -> Vec<Answer> {
        join_all(self.connections.iter().map(async |connection| {
            match timeout(ANSWER_WITHIN, connection.health()).await {
                // A supervisor answers as long as there is a handle, also when its connection is closed for good.
                Ok(Ok(health)) if !connection.is_closed() => Answer::Health(health),
                Ok(_) => Answer::Ended,
                Err(_) => Answer::None,
            }
        }))
        .await
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.connections.iter().enumerate().map(|(number, connection)| name_of(number, connection))
    }

    async fn live(self) -> HttpResponse {
        #[derive(Serialize)]
        struct Body {
            live: bool,
        }
        let live = self.answers().await.iter().all(|answer| matches!(answer, Answer::Health(_)));
        respond(live, &Body { live })
    }

    async fn ready(self) -> HttpResponse {
        let readiness = Facts {
            is_draining: self.shutdowns.iter().any(|shutdown| shutdown.is_draining())
                || self.connections.iter().any(Connection::is_draining),
            connections: self.names().zip(self.answers().await).collect(),
            stopped: self.work.iter().filter(|one| !one.is_running()).map(|one| one.name()).collect(),
        }
        .readiness();
        respond(readiness.ready, &readiness)
    }
}

fn respond(is_well: bool, body: &impl Serialize) -> HttpResponse {
    let mut response = if is_well { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.insert_header(ContentType::json()).insert_header((CACHE_CONTROL, "no-store"));
    // A struct of names and booleans is always JSON.
    response.body(serde_json::to_string(body).unwrap_or_default())
}

impl From<&Connection> for HealthRoutes {
    fn from(connection: &Connection) -> Self {
        Self::new().connection(connection)
    }
}

impl From<&Shutdown> for HealthRoutes {
    fn from(shutdown: &Shutdown) -> Self {
        let work = shutdown.consumers.iter().chain(&shutdown.relays).chain(&shutdown.bridges).cloned();
        Self {
            connections: shutdown.connections.clone(),
            work: work.collect(),
            shutdowns: vec![shutdown.state.clone()],
            ..Self::new()
        }
    }
}

impl HttpServiceFactory for HealthRoutes {
    fn register(self, config: &mut AppService) {
        let (live, ready) = (self.clone(), self.clone());
        let live = move || live.clone().live();
        let ready = move || ready.clone().ready();
        web::resource(self.live)
            .route(web::get().to(live.clone()))
            .route(web::head().to(live))
            .register(config);
        web::resource(self.ready)
            .route(web::get().to(ready.clone()))
            .route(web::head().to(ready))
            .register(config);
    }
}

impl fmt::Debug for HealthRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthRoutes")
            .field("live", &self.live)
            .field("ready", &self.ready)
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}
