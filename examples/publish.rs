//! Publishes to a topic exchange: one message, a batch of messages, and one that is returned as unroutable.
//!
//! ```text
//! cargo run --example publish     # uses AMQP_URL, or the broker on localhost
//! ```

#![allow(clippy::print_stdout, missing_docs)]

use std::time::Duration;

use actix_pika::{ErrorKind, message::BindQueue, prelude::*};

#[actix::main]
async fn main() -> actix_pika::Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = connect(url).await?;
    let channel = connection.channel().await?;
    let weather = channel.declare_exchange(DeclareExchange::topic("actix-pika.weather")).await?;
    let vienna = channel.declare_queue(DeclareQueue::new("actix-pika.vienna").auto_delete(true)).await?;
    vienna.bind_with(BindQueue::new(vienna.name(), weather.name(), "at.vienna.#")).await?;

    let report = Publishing::new(r#"{"celsius": 21}"#)
        .content_type("application/json")
        .expiration(Duration::from_secs(60));
    weather.publish(report, "at.vienna.now").await?;

    let hours = (0..24).map(|hour| format!("{hour}:00"));
    println!("{} confirmed", weather.publish_all(hours, "at.vienna.hourly").await?);

    // No queue is bound with this key, so the broker returns the message.
    match weather.publish("rain", "at.graz.now").await {
        Err(error) if error.kind() == ErrorKind::Unroutable => println!("returned: {error}"),
        result => println!("{:?}", result?),
    }
    vienna.delete().await?;
    weather.delete().await?;
    connection.close().await
}
