//! Calls over RabbitMQ.

use actix_pika::{
    Channel, Connection, DeclareQueue, Delivery, DeliveryStream, Publishing, connect,
    rpc::{Answer, RpcClient, RpcError, RpcRequest},
};
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use crate::support::{broker::Vhost, within};

mod client;
mod client_cuts;
mod direct;
mod faults;
pub mod hostile;
#[path = "../../../actors/tests/common/log_lines.rs"]
mod log_lines;
mod remote_recipient;
mod server;

#[derive(actix::Message, Clone, Debug, serde::Serialize, serde::Deserialize)]
#[rtype(result = "Answer<i64>")]
pub struct Add {
    pub a: i64,
    pub b: i64,
}

impl RpcRequest for Add {
    type Reply = i64;
    const NAME: &'static str = "add";
}

/// As [`Add`], and a lost call is sent again.
#[derive(actix::Message, Clone, Debug, serde::Serialize, serde::Deserialize)]
#[rtype(result = "Answer<i64>")]
pub struct Double {
    pub n: i64,
}

impl RpcRequest for Double {
    type Reply = i64;
    const NAME: &'static str = "double";
    const IDEMPOTENT: bool = true;
}

pub fn add(a: i64, b: i64) -> Add {
    Add { a, b }
}

/// Connects without recovery to a new virtual host.
pub async fn fresh() -> (Vhost, Connection) {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    (vhost, connection)
}

/// Makes a call in a task of its own.
pub fn start<M: RpcRequest + Sync>(client: &RpcClient, request: M) -> JoinHandle<Result<M::Reply, RpcError>> {
    let client = client.clone();
    tokio::spawn(async move { client.send(request).await })
}

/// The outcome of such a call.
#[track_caller]
pub fn outcome<T>(call: JoinHandle<Result<T, RpcError>>) -> impl Future<Output = Result<T, RpcError>> {
    let end = within("the end of a call", 20, call);
    async move { end.await.unwrap() }
}

/// A server that leaves requests and replies to the test.
pub struct RawServer {
    pub channel: Channel,
    requests: DeliveryStream,
}

impl RawServer {
    pub async fn on(connection: &Connection, queue: &str) -> Self {
        let channel = within("a channel", 10, connection.channel()).await.unwrap();
        let queue = channel.declare_queue(DeclareQueue::new(queue)).await.unwrap();
        let requests = queue.deliveries().await.unwrap();
        Self { channel, requests }
    }

    pub async fn next(&mut self) -> Delivery {
        within("a request", 10, self.requests.next()).await.expect("the consumer has not ended")
    }

    /// Publishes a reply and waits until the broker has it.
    pub async fn reply(&self, request: &Delivery, reply: Publishing) {
        let properties = request.properties().unwrap();
        let reply = reply.correlation_id(properties.correlation_id().unwrap());
        self.send(request, reply).await;
    }

    /// Publishes to the reply address of a request.
    pub async fn send(&self, request: &Delivery, message: Publishing) {
        let address = request.properties().unwrap().reply_to().unwrap();
        let published = self.channel.default_exchange().publish(message.mandatory(false), address);
        within("a reply", 10, published).await.unwrap();
    }
}
