//! Measures the throughput and CPU time of one scenario, and prints them as one line of JSON.
//!
//! ```text
//! perf --scenario publish-confirm --messages 100000 --body 16 --url amqp://... --queue Q --prefetch 1000 --inflight 1000
//! ```
//!
//! Scenarios: publish, publish-confirm, publish-confirm-seq, many-channels, tasks, consume-ack, consume-noack, connect,
//! rpc, bridge. Environment:
//!
//! | variable | effect |
//! |---|---|
//! | `BENCH_CONSUME=stream` | takes deliveries from a stream instead of an actor |
//! | `BENCH_CONSUME=tasks`, `lanes` | has a closure handle them as tasks: 16 at once, or in 16 lanes |
//! | `BENCH_CONSUME=actor`, `actor-future`, `supervised` | has an actor handle tasks, which returns `Done` or a `ResponseFuture`; or a supervised one |
//! | `BENCH_CODEC=json` | decodes tasks from JSON such as `{"id":1234567,"to":"somebody"}` |
//! | `BENCH_STYLE=typed` | publishes that JSON by a `Publisher` (publish-confirm: `publish_all`; tasks, publish-confirm-seq: `publish`), and makes typed calls (rpc) |
//! | `BENCH_STYLE=all` | publishes by `Exchange::publish_all` (publish-confirm) |
//! | `BENCH_STYLE=await` | awaits each publish before the next (publish) |
//! | `BENCH_RT=tokio` | runs on a tokio runtime, with the I/O on a thread of its own; without the actors of tasks |

#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::time::{Duration, Instant};

use actix::{Message, System};
use actix_pika::{Channel, Connection, DeclareQueue, OpenChannel, Publishing, Result, connect, rpc::Answer};
use bytes::Bytes;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use serde::{Deserialize, Serialize};

mod bridge;
mod consume;
mod publish;
mod rpc;

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

/// A typed message. Its JSON has 30 bytes, as long as `id` has seven digits and `to` eight letters.
#[derive(Clone, Debug, Message, Serialize, Deserialize)]
#[rtype(result = "Answer<Job>")]
struct Job {
    id: u64,
    to: String,
}

impl Job {
    fn new() -> Self {
        Self { id: 1_234_567, to: "somebody".into() }
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

async fn run(args: Args) -> Result<()> {
    let (meter, verified) = match args.scenario.as_str() {
        "publish" => publish::publish(&args, false).await,
        "publish-confirm" => publish::publish(&args, true).await,
        "publish-confirm-seq" => publish::sequential(&args).await,
        "many-channels" => publish::many_channels(&args).await,
        "tasks" => publish::tasks(&args).await,
        "consume-ack" => consume::consume(&args, false).await,
        "consume-noack" => consume::consume(&args, true).await,
        "connect" => connects(&args).await,
        "rpc" => rpc::rpc(&args).await,
        "bridge" => bridge::bridge(&args).await,
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
