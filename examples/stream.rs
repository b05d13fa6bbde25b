//! Reads deliveries as a stream, without an actor, under `#[tokio::main]`.
//!
//! ```text
//! cargo run --example stream     # takes AMQP_URL, or the broker on localhost
//! ```

#![allow(clippy::print_stdout, missing_docs)]

use actix_pika::prelude::*;
use futures_util::StreamExt;

#[tokio::main]
async fn main() -> actix_pika::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = connect(url).await?;
    let channel = connection.channel().await?;
    let jobs = channel.declare_queue(DeclareQueue::new("actix-pika.stream").auto_delete(true)).await?;
    let mut deliveries = jobs.deliveries_with(Consume::new().prefetch(10)).await?;

    channel.default_exchange().publish_all(["one", "two", "three"], jobs.name()).await?;
    let mut rest = 3;
    while let Some(delivery) = deliveries.next().await {
        println!("{}", String::from_utf8_lossy(delivery.body()));
        delivery.ack()?;
        rest -= 1;
        if rest == 0 {
            break;
        }
    }
    connection.close().await
}
