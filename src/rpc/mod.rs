//! Calls over RabbitMQ (RPC).

use std::hash::{BuildHasher, RandomState};

use crate::Connection;

pub use self::{
    builder::{Replies, RpcClientBuilder},
    client::{RpcClient, RpcCounters},
    error::RpcError,
    remote_error::RemoteError,
    request::{Answer, RpcRequest},
};

mod builder;
mod call;
pub(crate) mod calls;
#[allow(dead_code)]
mod client;
mod error;
mod remote_error;
mod replies;
mod request;
#[allow(dead_code)]
mod wire;

/// Makes clients and servers of calls. See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct Rpc;

impl Rpc {
    /// Creates a client, when the builder is awaited.
    ///
    /// Opens a channel for it, and consumes its replies. The client reads them on the first arbiter of the `System`; without
    /// a `System`, on the calling runtime. When that ends, the client is closed.
    ///
    /// # Errors
    /// Those of [`Connection::channel`] and of a consume; 404 if the exchange does not exist.
    ///
    /// **Over a reconnect**: a connection that is lost meanwhile is waited for.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(connection: actix_pika::Connection) -> actix_pika::Result<()> {
    /// use actix_pika::rpc::Rpc;
    ///
    /// let client = Rpc::client(&connection).await?;
    /// # Ok(()) }
    /// ```
    pub fn client(connection: &Connection) -> RpcClientBuilder {
        RpcClientBuilder::new(connection)
    }
}

/// Returns 32 random hexadecimal digits. They are unique, but not unpredictable.
pub(crate) fn random_id() -> String {
    let part = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", part(), part())
}
