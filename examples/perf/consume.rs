//! Consumes.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use actix::prelude::*;
use actix_pika::{
    Consume, Delivery, Result,
    codec::{Codec, Raw},
    connect,
    tasks::{Done, Task, Tasks},
    worker::SupervisedWorker,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::oneshot;

use super::{Args, Job, Meter, count, declare, env_is};

/// Counts messages, and reports the last one.
struct Tally {
    want: u64,
    got: u64,
    right: u64,
    done: Option<oneshot::Sender<(u64, u64)>>,
}

impl Tally {
    fn new(want: u64) -> (Self, oneshot::Receiver<(u64, u64)>) {
        let (done, last) = oneshot::channel();
        (Self { want, got: 0, right: 0, done: Some(done) }, last)
    }

    fn count(&mut self, is_right: bool) {
        self.got += 1;
        self.right += u64::from(is_right);
        if self.got == self.want
            && let Some(done) = self.done.take()
        {
            let _ = done.send((self.got, self.right));
        }
    }
}

/// Handles deliveries, and tasks at once.
struct Worker {
    tally: Tally,
    body: usize,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        self.tally.count(delivery.body().len() == self.body);
        if !delivery.is_no_ack() {
            // The channel may be closed while the broker still delivers.
            let acked = delivery.ack();
            assert!(acked.is_ok() || self.tally.got > self.tally.want, "{acked:?}");
        }
    }
}

impl<T: Value> Handler<Task<T>> for Worker {
    type Result = Done;

    fn handle(&mut self, task: Task<T>, _: &mut Self::Context) -> Done {
        self.tally.count(task.is_right(self.body));
        Ok(())
    }
}

/// Handles tasks in futures.
struct FutureWorker(Worker);

impl Actor for FutureWorker {
    type Context = Context<Self>;
}

impl<T: Value> Handler<Task<T>> for FutureWorker {
    type Result = ResponseFuture<Done>;

    fn handle(&mut self, task: Task<T>, _: &mut Self::Context) -> Self::Result {
        self.0.tally.count(task.is_right(self.0.body));
        Box::pin(async move {
            drop(task);
            Ok(())
        })
    }
}

/// What a task holds.
trait Value: Send + 'static {
    fn is_right(&self, body: usize) -> bool;
}

impl Value for Bytes {
    fn is_right(&self, body: usize) -> bool {
        self.len() == body
    }
}

impl Value for Job {
    fn is_right(&self, _: usize) -> bool {
        self.id == 1_234_567
    }
}

pub(super) async fn consume(args: &Args, no_ack: bool) -> Result<(Meter, bool)> {
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
    } else if let Ok(front) = std::env::var("BENCH_CONSUME") {
        let counted = if env_is("BENCH_CODEC", "json") {
            consume_tasks(queue.tasks::<Job>(), &front, args).await?
        } else {
            consume_tasks(queue.tasks::<Bytes>().codec(Raw), &front, args).await?
        };
        count(&channel, &args.queue).await?;
        meter.stop();
        counted
    } else {
        let (tally, last) = Tally::new(args.messages);
        let worker = Worker { tally, body: args.body };
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

/// Consumes as tasks. Returns how many arrived, and how many were right.
async fn consume_tasks<T, C>(tasks: Tasks<T, C>, front: &str, args: &Args) -> Result<(u64, u64)>
where
    T: Value,
    C: Codec<T>,
{
    let (tally, last) = Tally::new(args.messages);
    let body = args.body;
    let tasks = tasks.at_once(16).prefetch(args.prefetch);
    let worker = Worker { tally, body };
    let consumer = match front {
        "actor" => tasks.to(worker.start()).await?,
        "actor-future" => tasks.to(FutureWorker(worker).start()).await?,
        "supervised" => {
            let mut worker = Some(worker);
            let first = move || worker.take().expect("it does not end");
            let worker = SupervisedWorker::new(first).feed(tasks).start().await?;
            let counted = last.await.expect("worker");
            worker.drain(Duration::from_secs(5)).await;
            return Ok(counted);
        }
        "tasks" | "lanes" => return consume_by_closure(tasks, front == "lanes", worker, last).await,
        other => panic!("unknown BENCH_CONSUME={other}"),
    };
    let counted = last.await.expect("worker");
    consumer.drain(Duration::from_secs(5)).await;
    Ok(counted)
}

async fn consume_by_closure<T, C>(
    mut tasks: Tasks<T, C>,
    in_lanes: bool,
    mut worker: Worker,
    last: oneshot::Receiver<(u64, u64)>,
) -> Result<(u64, u64)>
where
    T: Value,
    C: Codec<T>,
{
    if in_lanes {
        let next = AtomicU32::new(0);
        tasks = tasks.lanes(move |_, _| next.fetch_add(1, Ordering::Relaxed) % 16);
    }
    let running = tokio::spawn(tasks.run(move |task| {
        worker.tally.count(task.is_right(worker.body));
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
