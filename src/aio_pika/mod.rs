//! The formats of aio-pika's `JsonRPC`, `JsonMaster` and `CompressedJsonMaster`: Python and Rust call each other, and work
//! for each other. With the feature `aio-pika`.
//!
//! | aio-pika | here |
//! |---|---|
//! | `await JsonRPC.create(channel)` | `JsonRpc::new(&channel).await?` |
//! | `JsonRPC.create(channel, exchange="billing")` | [`JsonRpc::new(&channel).exchange("billing")`](JsonRpcBuilder::exchange) |
//! | `await rpc.call("add", dict(a=1, b=2))`, `rpc.proxy.add(a=1, b=2)` | [`rpc.call("add", &json!({"a": 1, "b": 2}))`](JsonRpc::call), or a struct |
//! | `rpc.call(.., expiration=5)` | [`rpc.deadline(Duration::from_secs(5))`](JsonRpc::deadline); every call has a deadline |
//! | `await rpc.register("add", add)` | [`rpc.register("add", handler)`](JsonRpc::register) |
//! | `rpc.register("add", add, auto_delete=True)` | [`rpc.method("add").queue(..)`](MethodBuilder::queue) |
//! | `await rpc.unregister(add)` | [`registration.unregister()`](Registration::unregister) |
//! | `MessageProcessError`, `TimeoutError`, `JsonRPCError` | [`Unroutable`](RpcError::Unroutable), [`Timeout`](RpcError::Timeout), [`Remote`](RpcError::Remote) |
//! | `JsonMaster(channel)` | [`Master::new(&channel)`](crate::master::Master::new), [`JsonMaster`] |
//! | `CompressedJsonMaster(channel)` | [`Master::new(&channel).codec(GzipJson::new())`](crate::master::Master::codec), [`CompressedJsonMaster`] |
//!
//! aio-pika's `RPC` and `Master` send pickled objects, which only Python reads, and which run code when they are read: they
//! are errors here. Use their JSON forms at the other end. For calls among Rust programs, [`rpc`](crate::rpc) has typed
//! requests, actors as servers, and no queue for replies unless it is asked for.
//!
//! # On the wire
//!
//! | | exchange | routing key | `type` | other properties |
//! |---|---|---|---|---|
//! | call | that of the service, or the default one; `mandatory` | the method; with an exchange, `exchange::method` | `call` | `reply_to` and the header `From`: the reply queue; `correlation_id`, `timestamp`, `priority` 5, `expiration` |
//! | reply | the default one | the reply queue | `result`, `error` | `correlation_id` and delivery mode of the call, `timestamp` |
//! | call that no server has taken | `rpc.dlx` | - | `call` | `x-death` |
//! | task | the default one; `mandatory` | the queue | - | persistent |
//!
//! - Bodies are JSON: the arguments of a call or task as an object, the result as it is, and an error as
//!   `{"error": {"type": "ValueError", "message": "ValueError('no')", "args": ["no"]}}`. Their content type is
//!   `application/json`, or `application/json;compression=gzip`. JSON has no `NaN` and no infinity, which Python
//!   writes nevertheless: such a body cannot be read.
//! - The queue of a method has its routing key as its name, and the dead-letter exchange `rpc.dlx`. `rpc.dlx` is a headers
//!   exchange, to which each reply queue is bound with `From` set to its own name: calls that expire or are rejected
//!   return to their client. The exchange of a service is direct, and bound to the queues of its methods. Both are
//!   auto-delete.
//! - Reply queues here are durable, have a name of their own, and expire ten minutes after their client, so that replies
//!   survive a reconnect. aio-pika's are named by the broker, neither durable nor exclusive, which RabbitMQ 4.3 refuses
//!   unless `durable=True` is passed to `create`.
//!
//! # Examples
//! ```no_run
//! use actix_pika::{aio_pika::JsonRpc, rpc::RpcError};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Factors { x: i64, y: i64 }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let connection = actix_pika::connect_robust("amqp://guest:guest@localhost/").await?;
//! let channel = connection.channel().await?;
//! let rpc = JsonRpc::new(&channel).await?;
//!
//! // A method for Python and Rust.
//! let multiply = rpc.register("multiply", |f: Factors| async move { Ok(f.x * f.y) }).await?;
//!
//! // A method of Python or Rust.
//! match rpc.call::<i64>("multiply", &Factors { x: 2, y: 3 }).await {
//!     Ok(product) => println!("{product}"),
//!     Err(RpcError::Remote(error)) => println!("{} was raised: {}", error.code(), error.text()),
//!     Err(error) => return Err(error.into()),
//! }
//! multiply.unregister().await;
//! rpc.close().await;
//! # Ok(()) }
//! ```

use actix_pika_actors::facade;

#[allow(unused_imports, reason = "for the links")]
use crate::rpc::RpcError;
use crate::{
    Error,
    codec::{GzipJson, Json},
    master::Master,
};

pub use self::{
    json_rpc::JsonRpc,
    method::{MethodBuilder, Registration},
    options::JsonRpcBuilder,
};

mod call;
mod json_rpc;
mod method;
mod options;
mod replies;
mod wire;

/// Tasks in the format of aio-pika's `JsonMaster`.
pub type JsonMaster = Master<Json>;

/// Tasks in the format of aio-pika's `CompressedJsonMaster`.
pub type CompressedJsonMaster = Master<GzipJson>;

/// The application has closed the client.
fn closed_here() -> Error {
    facade::stopped("the client was closed by the application")
}
