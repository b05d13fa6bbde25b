//! Publishes 100,000 messages to a durable queue, waits for their confirms, and consumes and acknowledges them with an
//! actor.
//!
//! ```text
//! make demo                              # starts a broker if none is running
//! cargo run --profile demo --example demo
//! ```
//!
//! It uses the broker at `AMQP_URL`, or else the one on localhost. If none answers there, or with the argument
//! `--embedded`, it starts the project's test broker in its own process.

#![allow(clippy::print_stderr, clippy::print_stdout, missing_docs)]

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Write},
    net::TcpStream,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_pika::{Consume, Delivery, Exchange, Publishing, Result, connect};
use actix_pika_broker::{Broker, StartError};
use futures_util::future::{Either, select};
use tokio::sync::Notify;

const QUEUE: &str = "actix-pika.demo";
const MESSAGES: u64 = 100_000;
const UNCONFIRMED: usize = 1_000;
const PREFETCH: u16 = 500;

#[derive(Default)]
struct Counts {
    published: AtomicU64,
    confirmed: AtomicU64,
    delivered: AtomicU64,
    acknowledged: AtomicU64,
    all_consumed: Notify,
}

impl Counts {
    fn read(&self) -> [u64; 4] {
        [&self.published, &self.confirmed, &self.delivered, &self.acknowledged]
            .map(|n| n.load(Ordering::Relaxed))
    }
}

/// Acknowledges each delivery.
struct Worker(Arc<Counts>);

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        self.0.delivered.fetch_add(1, Ordering::Relaxed);
        if delivery.ack().is_ok() && self.0.acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == MESSAGES {
            self.0.all_consumed.notify_one();
        }
    }
}

/// Publishes all messages, with at most `UNCONFIRMED` unconfirmed ones.
async fn publish_all(exchange: Exchange, counts: Arc<Counts>) -> Result<()> {
    let mut confirms = VecDeque::with_capacity(UNCONFIRMED);
    for n in 0..MESSAGES {
        if confirms.len() == UNCONFIRMED
            && let Some(oldest) = confirms.pop_front()
        {
            count_confirm(oldest, &counts).await?;
        }
        confirms.push_back(exchange.publish_deferred(Publishing::new(format!("message {n}")), QUEUE).await?);
        counts.published.fetch_add(1, Ordering::Relaxed);
    }
    for confirm in confirms {
        count_confirm(confirm, &counts).await?;
    }
    Ok(())
}

async fn count_confirm(confirm: actix_pika::Confirm, counts: &Counts) -> Result<()> {
    confirm.await?;
    counts.confirmed.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Prints progress: one line that is updated on a terminal, or a line now and then.
async fn show_progress(counts: Arc<Counts>) {
    let terminal = io::stdout().is_terminal();
    let pause = if terminal { Duration::from_millis(100) } else { Duration::from_millis(500) };
    loop {
        tokio::time::sleep(pause).await;
        let [published, confirmed, _, acknowledged] = counts.read();
        let bar = "#".repeat((acknowledged * 30 / MESSAGES) as usize);
        let line =
            format!("[{bar:<30}] published {published}, confirmed {confirmed}, acknowledged {acknowledged}");
        if terminal {
            print!("\r{line}");
            let _ = io::stdout().flush();
        } else {
            println!("{line}");
        }
    }
}

/// Returns the URL of a broker, and the broker itself if it is one that ends with this program.
fn find_broker() -> std::result::Result<(String, Option<Broker>), StartError> {
    if std::env::args().any(|argument| argument == "--embedded") {
        eprintln!("using the project's test broker, which keeps all in memory");
    } else if let Ok(url) = std::env::var("AMQP_URL") {
        return Ok((url, None));
    } else if TcpStream::connect(("127.0.0.1", 5672)).is_ok() {
        return Ok(("amqp://guest:guest@127.0.0.1:5672/".into(), None));
    } else {
        eprintln!(
            "no broker answers on localhost: using the project's test broker, which keeps all in memory"
        );
    }
    let broker = Broker::start()?;
    Ok((broker.url(), Some(broker)))
}

#[actix::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (url, _broker) = find_broker()?;
    let connection = connect(&url).await?;
    let channel = connection.channel().await?;
    let queue = channel.declare_queue(QUEUE).await?;
    queue.purge().await?; // removes messages of an earlier run

    let counts = Arc::new(Counts::default());
    let start = Instant::now();
    let worker = Worker(counts.clone()).start();
    let consumer = queue.consume_with(Consume::new().prefetch(PREFETCH), worker.recipient()).await?;
    let progress = actix::spawn(show_progress(counts.clone()));
    let publisher = actix::spawn(publish_all(channel.default_exchange(), counts.clone()));

    publisher.await??;
    // The connection may be lost between the last confirm and the last acknowledgement.
    let (all_consumed, ended) = (pin!(counts.all_consumed.notified()), pin!(consumer.ended()));
    if let Either::Right((end, _)) = select(all_consumed, ended).await {
        return Err(format!("the consumer has ended: {end:?}").into());
    }
    let took = start.elapsed();
    progress.abort();
    consumer.cancel().await?;
    channel.close().await?;

    // The first channel was closed, so the broker has handled all of its acknowledgements.
    let left = connection.channel().await?.queue(QUEUE).delete().await?;
    connection.close().await?;

    let [published, confirmed, delivered, acknowledged] = counts.read();
    println!(
        "\n  published     {published:>8}\n  confirmed     {confirmed:>8}\n  delivered     {delivered:>8}\n  \
         acknowledged  {acknowledged:>8}\n  queue         {}\n  took          {:>7.2}s, {:.0} messages per second\n",
        if left == 0 { "   empty".to_owned() } else { format!("{left:>8} left") },
        took.as_secs_f64(),
        MESSAGES as f64 / took.as_secs_f64(),
    );
    assert_eq!(
        (published, confirmed, acknowledged, left),
        (MESSAGES, MESSAGES, MESSAGES, 0),
        "the counts differ"
    );
    Ok(())
}
