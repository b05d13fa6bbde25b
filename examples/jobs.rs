//! Background jobs: retries after delays, dead letters, and an end by Ctrl-C that loses no job.
//!
//! ```text
//! cargo run --example jobs     # uses AMQP_URL, or the broker on localhost
//! ```

#![allow(clippy::print_stdout, missing_docs)]

use std::time::Duration;

use actix_pika::{
    DeclareQueue, Result, connect_robust,
    retry::Retry,
    tasks::{Done, Failure, Task},
};

#[derive(serde::Serialize, serde::Deserialize)]
struct Email {
    to: String,
}

async fn send(email: Task<Email>) -> Done {
    if !email.to.contains('@') {
        return Err(Failure::reject("there is no such address")); // a dead letter: no try will succeed
    }
    println!("try {} of the mail to {}", email.attempt(), email.to);
    if email.to.starts_with("busy") {
        return Err(Failure::retry("the mailbox is busy")); // after 1 and 5 seconds, then a dead letter
    }
    Ok(()) // acknowledged
}

#[actix::main]
async fn main() -> Result<()> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@localhost/".into());
    let connection = connect_robust(url).await?;
    let channel = connection.channel().await?;

    let ladder = Retry::ladder(&[1, 5].map(Duration::from_secs));
    let mails = channel.declare_jobs(DeclareQueue::new("actix-pika.mail").quorum(), &ladder).await?;
    let tasks = mails.tasks::<Email>().at_once(8).timeout(Duration::from_secs(30)).retry(ladder);
    let consumer = tasks.for_each(send).await?;

    let publisher = mails.publisher::<Email>().message_ids(true);
    for to in ["ada@example.org", "busy@example.org", "nobody"] {
        publisher.publish(&Email { to: to.into() }).await?;
    }

    println!("Ctrl-C ends");
    tokio::signal::ctrl_c().await.expect("a handler of Ctrl-C");
    let report = consumer.drain(Duration::from_secs(20)).await;
    println!("{} ended, {} given back, {} cut off", report.finished, report.given_back, report.abandoned);
    connection.close().await
}
