//! RPC with direct reply-to: a server that replies to requests, and a client that waits for the reply.
//!
//! ```text
//! cargo run --example rpc     # uses AMQP_URL, or the broker on localhost
//! ```

#![allow(clippy::print_stdout, missing_docs)]

use actix::prelude::*;
use actix_pika::prelude::*;
use futures_util::StreamExt;

const REQUESTS: &str = "actix-pika.rpc";

/// Replies to each request with its text in upper case.
struct Server {
    replies: Exchange,
}

impl Actor for Server {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Server {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, request: Delivery, _: &mut Self::Context) -> Self::Result {
        let replies = self.replies.clone();
        Box::pin(async move {
            let job = request.process(Requeue::No);
            if let Err(error) = reply_to(&replies, &job).await {
                println!("no reply: {error}"); // dropping `job` rejects the request
                return;
            }
            job.done().ok();
        })
    }
}

async fn reply_to(replies: &Exchange, request: &Delivery) -> actix_pika::Result<()> {
    let properties = request.properties()?;
    let reply_to = properties.reply_to().unwrap_or_default();
    let text = String::from_utf8_lossy(request.body()).to_uppercase();
    let mut reply = Publishing::new(text).persistent(false);
    // As it came: other clients use ids that are not text.
    if let Some(id) = properties.correlation_id_bytes() {
        reply = reply.correlation_id_bytes(id);
    }
    replies.publish(reply, reply_to).await?;
    Ok(())
}

#[actix::main]
async fn main() -> actix_pika::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = connect(url).await?;
    let server_channel = connection.channel().await?;
    let requests = server_channel.declare_queue(DeclareQueue::new(REQUESTS).auto_delete(true)).await?;
    requests.consume(Server { replies: server_channel.default_exchange() }.start()).await?;

    // The broker sends replies to the channel that consumes from this pseudo-queue and publishes the request.
    let client_channel = connection.channel().await?;
    let mut replies =
        client_channel.queue("amq.rabbitmq.reply-to").deliveries_with(Consume::new().no_ack(true)).await?;
    let request = Publishing::new("hello").reply_to("amq.rabbitmq.reply-to").correlation_id("1");
    client_channel.default_exchange().publish(request, REQUESTS).await?;
    if let Some(reply) = replies.next().await {
        println!("{}", String::from_utf8_lossy(&reply.into_body()));
    }
    connection.close().await
}
