//! Publishes.

use std::{collections::VecDeque, time::Instant};

use actix_pika::{
    Channel, Confirm, Exchange, OpenChannel, Publishing, Result, connect, message::Confirmation,
    publisher::Publisher,
};

use super::{Args, Job, Meter, count, declare, env_is, finish};

fn publisher(channel: &Channel, args: &Args) -> Publisher<Job> {
    channel.queue(&args.queue).publisher().persistent(false).mandatory(false)
}

/// Publishes the same message again and again, and waits for each confirm.
struct One {
    exchange: Exchange,
    queue: String,
    content: Publishing,
    typed: Option<(Publisher<Job>, Job)>,
}

impl One {
    fn new(channel: &Channel, args: &Args) -> Self {
        let typed = env_is("BENCH_STYLE", "typed").then(|| (publisher(channel, args), Job::new()));
        Self {
            exchange: channel.default_exchange(),
            queue: args.queue.clone(),
            content: args.publishing(),
            typed,
        }
    }

    async fn publish(&self) -> Result<Confirmation> {
        match &self.typed {
            Some((publisher, job)) => publisher.publish(job).await,
            None => self.exchange.publish(self.content.clone(), &self.queue).await,
        }
    }
}

/// Publishes `n` messages, with at most `window` unconfirmed ones, and returns the number of confirms.
async fn publish_confirmed(
    exchange: &Exchange,
    queue: &str,
    content: &Publishing,
    n: u64,
    window: usize,
) -> Result<u64> {
    let mut confirmed = 0;
    let mut pending: VecDeque<Confirm> = VecDeque::with_capacity(window);
    for _ in 0..n {
        if pending.len() == window
            && let Some(oldest) = pending.pop_front()
        {
            confirmed += u64::from(oldest.await?.is_confirmed());
        }
        pending.push_back(exchange.publish_deferred(content.clone(), queue).await?);
    }
    for confirm in pending {
        confirmed += u64::from(confirm.await?.is_confirmed());
    }
    Ok(confirmed)
}

pub(super) async fn publish(args: &Args, confirms: bool) -> Result<(Meter, bool)> {
    let connection = connect(&args.url).await?;
    let window = args.inflight as usize;
    let options = OpenChannel::new().confirms(confirms).window(window.max(1));
    let channel = connection.channel_with(options).await?;
    let exchange = channel.default_exchange();
    let content = args.publishing();
    let before = declare(&channel, &args.queue).await?;
    let mut meter = Meter::start();
    let mut confirmed = 0;
    if confirms && env_is("BENCH_STYLE", "typed") {
        let (publisher, job) = (publisher(&channel, args), Job::new());
        let results = publisher.publish_all((0..args.messages).map(|_| &job)).await;
        let is_confirmed =
            |result: &Result<Confirmation>| result.as_ref().is_ok_and(Confirmation::is_confirmed);
        confirmed = results.iter().filter(|result| is_confirmed(result)).count() as u64;
    } else if confirms && env_is("BENCH_STYLE", "all") {
        let contents = (0..args.messages).map(|_| content.clone());
        confirmed = exchange.publish_all(contents, &args.queue).await? as u64;
    } else if confirms {
        confirmed = publish_confirmed(&exchange, &args.queue, &content, args.messages, window).await?;
    } else if env_is("BENCH_STYLE", "await") {
        for _ in 0..args.messages {
            exchange.publish(content.clone(), &args.queue).await?;
        }
    } else {
        for _ in 0..args.messages {
            drop(exchange.publish_deferred(content.clone(), &args.queue).await?);
        }
    }
    count(&channel, &args.queue).await?;
    meter.stop();
    let ok = finish(args, &connection, &channel, before + args.messages).await?;
    Ok((meter, ok && (!confirms || confirmed == args.messages)))
}

pub(super) async fn sequential(args: &Args) -> Result<(Meter, bool)> {
    let connection = connect(&args.url).await?;
    let channel = connection.channel().await?;
    let one = One::new(&channel, args);
    let before = declare(&channel, &args.queue).await?;
    let mut latencies = Vec::with_capacity(args.messages as usize);
    let mut confirmed = 0;
    let mut meter = Meter::start();
    for _ in 0..args.messages {
        let start = Instant::now();
        confirmed += u64::from(one.publish().await?.is_confirmed());
        latencies.push(start.elapsed().as_nanos() as u64);
    }
    count(&channel, &args.queue).await?;
    meter.stop();
    meter.latencies = latencies;
    let ok = finish(args, &connection, &channel, before + args.messages).await?;
    Ok((meter, ok && confirmed == args.messages))
}

pub(super) async fn many_channels(args: &Args) -> Result<(Meter, bool)> {
    let connection = connect(&args.url).await?;
    let control = connection.channel().await?;
    let before = declare(&control, &args.queue).await?;
    let share = args.messages / args.channels;
    let window = (args.inflight / args.channels).max(1) as usize;
    let mut channels = Vec::new();
    for _ in 0..args.channels {
        channels.push(connection.channel_with(OpenChannel::new().window(window)).await?);
    }
    let mut meter = Meter::start();
    let tasks: Vec<_> = channels
        .iter()
        .map(|channel| {
            let (exchange, queue, content) =
                (channel.default_exchange(), args.queue.clone(), args.publishing());
            tokio::spawn(async move { publish_confirmed(&exchange, &queue, &content, share, window).await })
        })
        .collect();
    let mut confirmed = 0;
    for task in tasks {
        confirmed += task.await.expect("task")?;
    }
    count(&control, &args.queue).await?;
    meter.stop();
    let ok = finish(args, &connection, &control, before + args.messages).await?;
    Ok((meter, ok && confirmed == args.messages))
}

pub(super) async fn tasks(args: &Args) -> Result<(Meter, bool)> {
    let connection = connect(&args.url).await?;
    let channel = connection.channel().await?;
    let before = declare(&channel, &args.queue).await?;
    let share = args.messages / args.channels;
    let mut meter = Meter::start();
    let tasks: Vec<_> = (0..args.channels)
        .map(|_| {
            let one = One::new(&channel, args);
            tokio::spawn(async move {
                let mut confirmed = 0;
                for _ in 0..share {
                    confirmed += u64::from(one.publish().await?.is_confirmed());
                }
                Ok::<u64, actix_pika::Error>(confirmed)
            })
        })
        .collect();
    let mut confirmed = 0;
    for task in tasks {
        confirmed += task.await.expect("task")?;
    }
    count(&channel, &args.queue).await?;
    meter.stop();
    let ok = finish(args, &connection, &channel, before + args.messages).await?;
    Ok((meter, ok && confirmed == args.messages))
}
