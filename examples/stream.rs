//! Consumes a stream of deliveries, without an actor, on a tokio runtime.
//!
//! ```text
//! cargo run --example stream     # uses AMQP_URL, or the broker on localhost
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
    let mut remaining = 3;
    while let Some(delivery) = deliveries.next().await {
        println!("{}", String::from_utf8_lossy(delivery.body()));
        delivery.ack()?;
        remaining -= 1;
        if remaining == 0 {
            break;
        }
    }
    connection.close().await
}
