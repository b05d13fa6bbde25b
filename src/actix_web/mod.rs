//! In an actix-web application: extractors, errors as responses, health routes, and a shutdown that cuts nothing off. With the
//! feature `actix-web`.
//!
//! ```no_run
//! use std::time::Duration;
//! use actix_pika::{
//!     Connector, Recovery,
//!     actix_web::{CountRequests, health, serve},
//!     publisher::Publisher,
//!     shutdown::Shutdown,
//!     tasks::Task,
//! };
//! use actix_web::{App, HttpResponse, HttpServer, Responder, post, web};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Order { id: u64 }
//! # async fn ship(order: &Order) -> std::io::Result<()> { Ok(()) }
//!
//! #[post("/orders")]
//! async fn place(orders: Publisher<Order>, order: web::Json<Order>) -> actix_pika::Result<impl Responder> {
//!     orders.publish(&order).await?; // an error becomes a response: 503, 504, ...
//!     Ok(HttpResponse::Accepted())
//! }
//!
//! # fn main() {}
//! # mod application {
//! # use super::*;
//! #[actix_web::main]
//! # pub
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let connector = Connector::new("amqp://guest:guest@localhost/")?.recovery(Recovery::default());
//!     let publishing = connector.clone().connect().await?;
//!     let consuming = connector.connect().await?;
//!
//!     let channel = publishing.channel().await?;
//!     let orders = channel.declare_queue("orders").await?.publisher::<Order>();
//!     let shipping = consuming.channel().await?.queue("orders");
//!     let shipping = shipping.for_each(8, |order: Task<Order>| async move { Ok(ship(&order).await?) }).await?;
//!
//!     let shutdown = Shutdown::within(Duration::from_secs(25))
//!         .consumer(shipping)
//!         .connection(publishing)
//!         .connection(consuming);
//!     let (health, counted) = (health(&shutdown), CountRequests::of(&shutdown));
//!     let server = HttpServer::new(move || {
//!         App::new()
//!             .wrap(counted.clone())
//!             .app_data(web::Data::new(orders.clone()))
//!             .service(health.clone())
//!             .service(place)
//!     });
//!     let report = serve(server.bind(("127.0.0.1", 8080))?, shutdown).await?;
//!     println!("{report}");
//!     Ok(())
//! }
//! # }
//! ```
//!
//! The attributes `#[actix_web::main]` and `#[post]` need the feature `macros` of actix-web, which is one of its defaults.
//!
//! Connections, channels and publishers are made once, outside `HttpServer::new`, whose closure runs on each worker. They
//! are used from all of them.
//!
//! | | |
//! |---|---|
//! | [`Publisher`](crate::publisher::Publisher), [`Channel`](crate::Channel), [`RpcClient`](crate::rpc::RpcClient) | are arguments of a handler, from `web::Data` of the same type |
//! | [`Error`](crate::Error#impl-ResponseError-for-Error), [`RpcError`](crate::rpc::RpcError#impl-ResponseError-for-RpcError) | are responses, with a table of their status codes |
//! | [`health`] | routes for liveness and readiness |
//! | [`serve`] | runs the server, handles signals, and ends everything in order |
//! | [`CountRequests`] | counts requests for the report of the shutdown |
//!
//! # Two connections
//!
//! An application that publishes and consumes has a connection for each. When the broker is short of memory or disk it
//! stops to read from connections that publish (`connection.blocked`), and consumers on such a connection cannot
//! acknowledge: the queues, which need memory, do not get shorter. A connection that only consumes is not blocked. (Handlers of tasks
//! that publish use the publishing connection.)
//!
//! # Requests that are repeated
//!
//! A status of 503 or 504 does not tell whether the message was published
//! ([`may_have_arrived`](crate::Error::may_have_arrived)), and a client that repeats the request may publish it twice. Let the client
//! choose a key that stays the same, and make it the message id, by which consumers recognise what they have done:
//!
//! ```no_run
//! # use actix_pika::{Publishing, publisher::Publisher};
//! # #[derive(serde::Serialize, serde::Deserialize)] struct Order { id: u64 }
//! use actix_web::{HttpRequest, HttpResponse, Responder, error::ErrorBadRequest, web};
//!
//! async fn place(request: HttpRequest, orders: Publisher<Order>, order: web::Json<Order>) -> actix_web::Result<impl Responder> {
//!     let key = request.headers().get("idempotency-key").and_then(|key| key.to_str().ok());
//!     let key = key.ok_or_else(|| ErrorBadRequest("a request needs an Idempotency-Key"))?.to_owned();
//!     orders.publish_with(&order, |message| message.message_id(key)).await?;
//!     Ok(HttpResponse::Accepted())
//! }
//! ```
//!
//! # Where a connection runs
//!
//! By default on the first arbiter of the `System`, that of `#[actix_web::main]`, whatever thread opens it: it outlives the HTTP
//! workers. Handlers run on other threads and cannot block it. [`Connector::own_thread`](crate::Connector::own_thread) and
//! [`Connector::arbiter`](crate::Connector::arbiter) work as well; [`serve`] keeps the `System` until they are closed.

pub use self::{
    health::{HealthRoutes, health},
    requests::{CountRequests, CountRequestsService, CountedBody},
    serve::serve,
};

mod extract;
mod health;
mod readiness;
mod requests;
mod serve;
