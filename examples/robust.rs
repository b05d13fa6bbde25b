//! A publisher and a consumer on a connection that recovers. Stop and start the broker while they run.
//!
//! ```text
//! cargo run --example robust     # uses AMQP_URL, or the broker on localhost
//! ```

#![allow(clippy::print_stdout, missing_docs)]

use std::time::Duration;

use actix::prelude::*;
use actix_pika::{ConnectionEvent, Consume, Delivery, OpenChannel, Requeue, Result, connect_robust};

/// A worker that panics is replaced; the delivery that it was handling is delivered once more.
struct Worker;

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        let job = delivery.process(Requeue::OnceThenDrop);
        let id = job.properties().ok().and_then(|properties| properties.message_id());
        println!("{} (id {id:?})", String::from_utf8_lossy(job.body()));
        // Fails if the connection was lost: the message is delivered again, with the same id.
        job.done().ok();
    }
}

struct Watcher;

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<ConnectionEvent> for Watcher {
    type Result = ();

    fn handle(&mut self, event: ConnectionEvent, _: &mut Self::Context) {
        match event {
            ConnectionEvent::Lost(error) => println!("lost: {error}"),
            ConnectionEvent::Retrying { attempt, delay, .. } => println!("attempt {attempt} in {delay:?}"),
            ConnectionEvent::Recovered { skipped, .. } => println!("recovered, except {skipped:?}"),
            ConnectionEvent::Closed(cause) => println!("closed: {cause:?}"),
            _ => {}
        }
    }
}

#[actix::main]
async fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = connect_robust(url).await?;
    connection.watch(Watcher.start());
    let channel = connection.channel_with(OpenChannel::new().message_ids(true)).await?;
    let jobs = channel.declare_queue("actix-pika.robust").await?;
    jobs.consume_supervised(Consume::new().prefetch(8), || Worker).await?;

    let exchange = channel.default_exchange();
    for n in 1.. {
        // Takes longer while the broker is down. Fails if it is down for longer than the deadline.
        if let Err(error) = exchange.publish(format!("job {n}"), "actix-pika.robust").await {
            println!("job {n}: {error}");
        }
        let pause = tokio::time::sleep(Duration::from_secs(1));
        tokio::select! {
            () = pause => {}
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    connection.close().await
}
