//! The messages of calls.

use actix::Message;
use serde::{Serialize, de::DeserializeOwned};

use super::RemoteError;

/// What a call returns on the side of the server: its reply, or an error that the caller gets as it is.
///
/// # Examples
/// ```
/// use actix_pika::rpc::{Answer, RemoteError};
///
/// fn divide(a: i64, b: i64) -> Answer<i64> {
///     a.checked_div(b).ok_or_else(|| RemoteError::new("division", "division by zero"))
/// }
/// assert_eq!(divide(1, 0).unwrap_err().code(), "division");
/// ```
pub type Answer<R> = Result<R, RemoteError>;

/// An actix message that can be sent as a call over RabbitMQ.
///
/// Its actix result is `Answer<Self::Reply>`: the compiler checks that both agree. Any actor that handles the message can
/// serve it ([`Rpc::serve`](super::Rpc::serve)), and a client sends it ([`RpcClient::send`](super::RpcClient::send)). Request
/// and reply are encoded as JSON.
///
/// # Examples
/// ```
/// use actix::prelude::*;
/// use actix_pika::rpc::{Answer, RpcRequest};
///
/// #[derive(Message, serde::Serialize, serde::Deserialize)]
/// #[rtype(result = "Answer<i64>")]
/// struct Add { a: i64, b: i64 }
///
/// impl RpcRequest for Add {
///     type Reply = i64;
///     const NAME: &'static str = "add";
///     const IDEMPOTENT: bool = true; // adding twice does no harm
/// }
/// ```
pub trait RpcRequest:
    Message<Result = Answer<Self::Reply>> + Serialize + DeserializeOwned + Send + 'static
{
    /// What a successful call returns.
    type Reply: Serialize + DeserializeOwned + Send + 'static;

    /// The name of the method. Servers take its requests from the queue `rpc.NAME`, or, with an exchange, bind their
    /// queue with this routing key.
    const NAME: &'static str;

    /// Whether running it twice has the same effect as running it once. Calls that a lost connection cut off are
    /// sent again then; otherwise they fail with [`RpcError::Lost`](super::RpcError::Lost).
    const IDEMPOTENT: bool = false;
}

/// Returns the queue of a method: `rpc.NAME`, or `rpc.EXCHANGE.NAME`.
pub(super) fn queue_of(exchange: &str, name: &str) -> String {
    if exchange.is_empty() { format!("rpc.{name}") } else { format!("rpc.{exchange}.{name}") }
}

/// Returns the routing key of a method: the queue, or the name at an exchange.
pub(super) fn key_of(exchange: &str, name: &str) -> String {
    if exchange.is_empty() { queue_of(exchange, name) } else { name.to_owned() }
}
