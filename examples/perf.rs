//! Measures the throughput and CPU time of one scenario, and prints them as one line of JSON.
//!
//! ```text
//! perf --scenario publish-confirm --messages 100000 --body 16 --url amqp://... --queue Q --prefetch 1000 --inflight 1000
//! ```
//!
//! Scenarios: publish, publish-confirm, publish-confirm-seq, many-channels, tasks, consume-ack, consume-noack, connect,
//! rpc. Environment: `BENCH_CONSUME=stream` takes deliveries from a stream instead of an actor, `BENCH_CONSUME=tasks`
//! has a closure handle them as tasks, `BENCH_CONSUME=lanes` in 16 lanes; `BENCH_STYLE=await` awaits each publish before
//! the next, `BENCH_RT=tokio` runs on a tokio runtime, with the I/O on a thread of its own.

#![allow(clippy::print_stdout, missing_docs)]

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use actix::prelude::*;
use actix_pika::{
    Channel, Confirm, Connection, Consume, DeclareQueue, Delivery, Exchange, OpenChannel, Publishing, Queue,
    Result, codec::Raw, connect, message::Properties, tasks::Task,
};
use bytes::Bytes;
use futures_util::StreamExt;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use tokio::sync::oneshot;

#[derive(Clone, Debug)]
struct Args {
    scenario: String,
    messages: u64,
    body: usize,
    url: String,
    queue: String,
    prefetch: u16,
    inflight: u64,
    channels: u64,
}

impl Args {
    fn parse() -> Self {
        let mut args = Self {
            scenario: "publish-confirm".into(),
            messages: 100_000,
            body: 16,
            url: "amqp://guest:guest@127.0.0.1:5672/%2f".into(),
            queue: "perf".into(),
            prefetch: 1000,
            inflight: 1000,
            channels: 100,
        };
        let mut words = std::env::args().skip(1);
        while let Some(key) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{key} needs a value"));
            let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{key} takes a number"));
            match key.as_str() {
                "--scenario" => args.scenario = value,
                "--messages" => args.messages = number(),
                "--body" => args.body = number() as usize,
                "--url" => args.url = value,
                "--queue" => args.queue = value,
                "--prefetch" => args.prefetch = number() as u16,
                "--inflight" => args.inflight = number(),
                "--channels" => args.channels = number(),
                _ => panic!("unknown argument {key}"),
            }
        }
        args
    }

    fn publishing(&self) -> Publishing {
        // The other clients in the comparison send no properties.
        Publishing::new(Bytes::from(vec![b'x'; self.body])).persistent(false).mandatory(false)
    }
}

fn env_is(variable: &str, value: &str) -> bool {
    std::env::var(variable).is_ok_and(|v| v == value)
}

/// The wall and CPU time of the measured section.
struct Meter {
    start: Instant,
    cpu: (i64, i64),
    wall: Duration,
    used: (i64, i64),
    latencies: Vec<u64>,
}

fn cpu_micros() -> (i64, i64) {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage");
    (usage.user_time().num_microseconds(), usage.system_time().num_microseconds())
}

impl Meter {
    fn start() -> Self {
        Self {
            cpu: cpu_micros(),
            start: Instant::now(),
            wall: Duration::ZERO,
            used: (0, 0),
            latencies: Vec::new(),
        }
    }

    fn stop(&mut self) {
        self.wall = self.start.elapsed();
        let now = cpu_micros();
        self.used = (now.0 - self.cpu.0, now.1 - self.cpu.1);
    }

    fn report(mut self, args: &Args, verified: bool) {
        let n = args.messages as f64;
        let wall = self.wall.as_secs_f64();
        let (user, sys) = (self.used.0 as f64 / 1e6, self.used.1 as f64 / 1e6);
        let mut line = format!(
            "{{\"client\":\"actix-pika\",\"version\":\"{}\",\"scenario\":\"{}\",\"n\":{},\"body\":{},\"wall_s\":{wall:.6},\
             \"msgs_per_s\":{:.1},\"user_cpu_s\":{user:.6},\"sys_cpu_s\":{sys:.6},\"cpu_us_per_msg\":{:.4},\
             \"max_rss_kb\":{},\"verified\":{verified}",
            env!("CARGO_PKG_VERSION"),
            args.scenario,
            args.messages,
            args.body,
            n / wall,
            (user + sys) * 1e6 / n,
            peak_rss_kb(),
        );
        if !self.latencies.is_empty() {
            self.latencies.sort_unstable();
            let at = |q: f64| self.latencies[((self.latencies.len() - 1) as f64 * q) as usize] as f64 / 1e3;
            line += &format!(",\"p50_us\":{:.2},\"p99_us\":{:.2}", at(0.5), at(0.99));
        }
        println!("{line}}}");
        if !verified {
            std::process::exit(3);
        }
    }
}

fn peak_rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()).and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

async fn declare(channel: &Channel, queue: &str) -> Result<u64> {
    let queue = channel.declare_queue(DeclareQueue::new(queue).durable(false)).await?;
    Ok(queue.declared().map_or(0, |d| d.message_count.into()))
}

async fn count(channel: &Channel, queue: &str) -> Result<u64> {
    let queue = channel.declare_queue(DeclareQueue::new(queue).passive(true)).await?;
    Ok(queue.declared().map_or(0, |d| d.message_count.into()))
}

/// Waits until the queue has `want` messages, for five seconds at most. RabbitMQ may reply to a declare before earlier
/// publishes are in the queue.
async fn reaches_count(channel: &Channel, queue: &str, want: u64) -> Result<bool> {
    for _ in 0..500 {
        if count(channel, queue).await? == want {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(false)
}

async fn finish(args: &Args, connection: &Connection, channel: &Channel, want: u64) -> Result<bool> {
    let complete = reaches_count(channel, &args.queue, want).await?;
    channel.queue(&args.queue).delete().await?;
    connection.close().await?;
    Ok(complete)
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

async fn publish(args: &Args, confirms: bool) -> Result<(Meter, bool)> {
    let connection = connect(&args.url).await?;
    let window = args.inflight as usize;
    let options = OpenChannel::new().confirms(confirms).window(window.max(1));
    let channel = connection.channel_with(options).await?;
    let exchange = channel.default_exchange();
    let content = args.publishing();
    let before = declare(&channel, &args.queue).await?;
    let mut meter = Meter::start();
    let mut confirmed = 0;
    if confirms {
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

async fn publish_seq(args: &Args) -> Result<(Meter, bool)> {
    let connection = connect(&args.url).await?;
    let channel = connection.channel().await?;
    let exchange = channel.default_exchange();
    let content = args.publishing();
    let before = declare(&channel, &args.queue).await?;
    let mut latencies = Vec::with_capacity(args.messages as usize);
    let mut confirmed = 0;
    let mut meter = Meter::start();
    for _ in 0..args.messages {
        let start = Instant::now();
        confirmed += u64::from(exchange.publish(content.clone(), &args.queue).await?.is_confirmed());
        latencies.push(start.elapsed().as_nanos() as u64);
    }
    count(&channel, &args.queue).await?;
    meter.stop();
    meter.latencies = latencies;
    let ok = finish(args, &connection, &channel, before + args.messages).await?;
    Ok((meter, ok && confirmed == args.messages))
}

async fn many_channels(args: &Args) -> Result<(Meter, bool)> {
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

async fn tasks(args: &Args) -> Result<(Meter, bool)> {
    let connection = connect(&args.url).await?;
    let channel = connection.channel().await?;
    let before = declare(&channel, &args.queue).await?;
    let share = args.messages / args.channels;
    let mut meter = Meter::start();
    let tasks: Vec<_> = (0..args.channels)
        .map(|_| {
            let (exchange, queue, content) =
                (channel.default_exchange(), args.queue.clone(), args.publishing());
            tokio::spawn(async move {
                let mut confirmed = 0;
                for _ in 0..share {
                    confirmed += u64::from(exchange.publish(content.clone(), &queue).await?.is_confirmed());
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

/// Counts deliveries, and reports the last one.
struct Worker {
    want: u64,
    got: u64,
    right: u64,
    body: usize,
    done: Option<oneshot::Sender<(u64, u64)>>,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        self.got += 1;
        self.right += u64::from(delivery.body().len() == self.body);
        if !delivery.is_no_ack() {
            // The channel may be closed while the broker still delivers.
            let acked = delivery.ack();
            assert!(acked.is_ok() || self.got > self.want, "{acked:?}");
        }
        if self.got == self.want
            && let Some(done) = self.done.take()
        {
            let _ = done.send((self.got, self.right));
        }
    }
}

async fn consume(args: &Args, no_ack: bool) -> Result<(Meter, bool)> {
    let connection = connect(&args.url).await?;
    let channel = connection.channel().await?;
    declare(&channel, &args.queue).await?;
    let queue = channel.queue(&args.queue);
    let mut options = Consume::new().prefetch(args.prefetch);
    if no_ack {
        options = options.no_ack(true);
    }
    let mut meter = Meter::start();
    let (got, right) = if env_is("BENCH_CONSUME", "stream") {
        let mut deliveries = queue.deliveries_with(options).await?;
        let (want, body) = (args.messages, args.body);
        let task = async move {
            let (mut got, mut right) = (0, 0);
            while got < want {
                let Some(delivery) = deliveries.next().await else { break };
                got += 1;
                right += u64::from(delivery.body().len() == body);
                if !no_ack {
                    delivery.ack().expect("ack");
                }
            }
            (deliveries, got, right)
        };
        let (deliveries, got, right) = tokio::spawn(task).await.expect("task");
        if !no_ack {
            count(&channel, &args.queue).await?;
        }
        meter.stop();
        drop(deliveries);
        (got, right)
    } else if env_is("BENCH_CONSUME", "tasks") || env_is("BENCH_CONSUME", "lanes") {
        let counted = consume_tasks(&queue, args).await?;
        count(&channel, &args.queue).await?;
        meter.stop();
        counted
    } else {
        let (done, last) = oneshot::channel();
        let worker = Worker { want: args.messages, got: 0, right: 0, body: args.body, done: Some(done) };
        let worker = if actix::Arbiter::try_current().is_some() {
            worker.start()
        } else {
            // Under #[tokio::main] there is no arbiter here, so the actor gets one.
            let (sender, started) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let system = System::new();
                system.block_on(async move {
                    sender.send(worker.start()).expect("main");
                    std::future::pending::<()>().await;
                });
            });
            started.recv().expect("worker")
        };
        queue.consume_with(options, worker.recipient()).await?;
        let (got, right) = last.await.expect("worker");
        if !no_ack {
            count(&channel, &args.queue).await?;
        }
        meter.stop();
        (got, right)
    };
    channel.close().await?;
    let channel = connection.channel().await?;
    let left = count(&channel, &args.queue).await?;
    channel.queue(&args.queue).delete().await?;
    connection.close().await?;
    Ok((meter, got == args.messages && right == got && left == 0))
}

/// Consumes as tasks with a closure. Returns how many arrived, and how many had the right size.
async fn consume_tasks(queue: &Queue, args: &Args) -> Result<(u64, u64)> {
    let (want, body) = (args.messages, args.body);
    let (done, last) = oneshot::channel();
    let (mut got, mut right, mut done) = (0, 0, Some(done));
    let mut tasks = queue.tasks::<Bytes>().codec(Raw).at_once(16).prefetch(args.prefetch);
    if env_is("BENCH_CONSUME", "lanes") {
        let next = std::sync::atomic::AtomicU32::new(0);
        tasks = tasks.lanes(move |_, _| next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 16);
    }
    let running = tokio::spawn(tasks.run(move |task: Task<Bytes>| {
        got += 1;
        right += u64::from(task.len() == body);
        if got == want
            && let Some(done) = done.take()
        {
            let _ = done.send((got, right));
        }
        async move {
            drop(task);
            Ok(())
        }
    }));
    let counted = last.await.expect("tasks");
    tokio::task::yield_now().await;
    running.abort();
    Ok(counted)
}

async fn connects(args: &Args) -> Result<(Meter, bool)> {
    let mut latencies = Vec::new();
    let mut meter = Meter::start();
    for _ in 0..args.messages {
        let start = Instant::now();
        let connection = connect(&args.url).await?;
        let channel = connection.channel_with(OpenChannel::new().confirms(false)).await?;
        channel.close().await?;
        connection.close().await?;
        latencies.push(start.elapsed().as_nanos() as u64);
    }
    meter.stop();
    meter.latencies = latencies;
    Ok((meter, true))
}

async fn rpc(args: &Args) -> Result<(Meter, bool)> {
    let (client, server) = (connect(&args.url).await?, connect(&args.url).await?);
    let options = || OpenChannel::new().confirms(false);
    let client_channel = client.channel_with(options()).await?;
    let server_channel = server.channel_with(options()).await?;
    declare(&server_channel, &args.queue).await?;
    let mut requests = server_channel.queue(&args.queue).deliveries_with(Consume::new().no_ack(true)).await?;
    let mut replies =
        client_channel.queue("amq.rabbitmq.reply-to").deliveries_with(Consume::new().no_ack(true)).await?;
    let exchange = server_channel.default_exchange();
    let serving = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let properties = request.properties()?;
            let (Some(to), Some(id)) = (properties.reply_to(), properties.correlation_id()) else { continue };
            let reply = Publishing::new(request.body())
                .properties(Properties::new().with_correlation_id(id))
                .persistent(false)
                .mandatory(false);
            exchange.publish(reply, to).await?;
        }
        Ok::<(), actix_pika::Error>(())
    });
    let exchange = client_channel.default_exchange();
    let body = Bytes::from(vec![b'x'; args.body]);
    let mut latencies = Vec::with_capacity(args.messages as usize);
    let mut right = 0;
    let mut meter = Meter::start();
    for n in 0..args.messages {
        let start = Instant::now();
        let id = n.to_string();
        let properties =
            Properties::new().with_correlation_id(id.as_str()).with_reply_to("amq.rabbitmq.reply-to");
        let request = Publishing::new(&body).properties(properties).persistent(false).mandatory(false);
        exchange.publish(request, &args.queue).await?;
        let Some(reply) = replies.next().await else { break };
        let matches = reply.properties()?.correlation_id() == Some(id.as_str());
        right += u64::from(matches && reply.body().len() == args.body);
        latencies.push(start.elapsed().as_nanos() as u64);
    }
    meter.stop();
    meter.latencies = latencies;
    server_channel.queue(&args.queue).delete().await?;
    client.close().await?;
    server.close().await?;
    serving.abort();
    Ok((meter, right == args.messages))
}

async fn run(args: Args) -> Result<()> {
    let (meter, verified) = match args.scenario.as_str() {
        "publish" => publish(&args, false).await,
        "publish-confirm" => publish(&args, true).await,
        "publish-confirm-seq" => publish_seq(&args).await,
        "many-channels" => many_channels(&args).await,
        "tasks" => tasks(&args).await,
        "consume-ack" => consume(&args, false).await,
        "consume-noack" => consume(&args, true).await,
        "connect" => connects(&args).await,
        "rpc" => rpc(&args).await,
        other => panic!("unknown scenario {other}"),
    }?;
    meter.report(&args, verified);
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    if env_is("BENCH_RT", "tokio") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("runtime");
        return runtime.block_on(async { tokio::spawn(run(args)).await.expect("task") });
    }
    // In a separate task: the root future of `block_on` costs an extra epoll call each time it waits.
    System::new().block_on(async { actix::spawn(run(args)).await.expect("task") })
}
