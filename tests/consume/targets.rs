//! Actors that receive deliveries: on which arbiter they run, and what happens when they stop or panic.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::ThreadId,
};

use super::numbers;
use crate::support::recorded_connection::{RecordedConnection, SettleFrame};
use crate::support::{eventually, within};
use actix::{Actor, ActorContext, Addr, Arbiter, Context, Handler, Message};
use actix_pika::{Consume, ConsumerEnd, DeclareQueue, Delivery, testing::Probe};

/// What a worker does with its deliveries, which are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Ack,
    /// Keeps all.
    Keep,
    /// Acknowledges until it panics at the nth.
    PanicAt(usize),
    /// Keeps all, and stops at the nth.
    StopAt(usize),
}

struct Worker {
    action: Action,
    seen: usize,
    kept: Vec<Delivery>,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    seen: AtomicUsize,
    most_held: AtomicUsize,
    stopped: AtomicUsize,
    threads: Mutex<Vec<ThreadId>>,
}

impl Worker {
    fn new(action: Action, log: &Arc<Log>) -> Self {
        Self { action, seen: 0, kept: Vec::new(), log: log.clone() }
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        self.log.stopped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, ctx: &mut Self::Context) {
        let nth = self.seen;
        self.seen += 1;
        self.log.seen.fetch_add(1, Ordering::SeqCst);
        let mut threads = self.log.threads.lock().unwrap();
        let thread = std::thread::current().id();
        if !threads.contains(&thread) {
            threads.push(thread);
        }
        drop(threads);
        match self.action {
            Action::Ack => delivery.ack().unwrap(),
            Action::PanicAt(n) if n == nth => panic!("this handler panics on purpose"),
            Action::PanicAt(_) => delivery.ack().unwrap(),
            Action::Keep | Action::StopAt(_) => {
                self.kept.push(delivery);
                self.log.most_held.fetch_max(self.kept.len(), Ordering::SeqCst);
                if self.action == Action::StopAt(nth) {
                    ctx.stop();
                }
            }
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Worker {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

fn count_requeues(frames: &[SettleFrame]) -> usize {
    let is_requeue = |frame: &&SettleFrame| {
        matches!(frame, SettleFrame::Reject { requeue: true, .. } | SettleFrame::Nack { requeue: true, .. })
    };
    frames.iter().filter(is_requeue).count()
}

crate::modes! {
    /// Design 13.8: when a target stops with unsettled deliveries, its consumer is cancelled with that reason, each
    /// message is requeued with few frames, and other consumers of the channel are not affected.
    async fn a_target_that_stops_ends_its_consumer(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(100)).await;
        oracle.declare_queue("others").await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut other = Probe::<Delivery>::start();
        recorded.channel.queue("others").consume(other.recipient()).await.unwrap();
        let mut ends = Probe::<ConsumerEnd>::start();
        let log = Arc::new(Log::default());
        let worker = Worker::new(Action::StopAt(4), &log).start();
        let options = Consume::new().prefetch(20).watch(ends.recipient());
        recorded.channel.queue("jobs").consume_with(options, worker.clone().recipient()).await.unwrap();
        assert!(matches!(within("the end", 10, ends.next()).await.unwrap(), ConsumerEnd::TargetGone));
        oracle.wait_for_requeue("jobs", 100).await;
        recorded.flush().await;
        // The 20 that it had, and those that arrived before the cancel.
        let frames = recorded.settle_frames();
        assert_eq!(count_requeues(&frames), frames.len());
        assert!((20..=60).contains(&frames.len()), "{} rejects", frames.len());
        assert_eq!(recorded.count_sent((60, 30)), 1);
        assert_eq!((log.stopped.load(Ordering::SeqCst), recorded.channel.load().unsettled), (1, 0));
        oracle.publish("", "others", "still here").await;
        assert_eq!(other.next().await.unwrap().body(), b"still here");
        let bodies = oracle.drain_bodies("jobs").await;
        assert_eq!(bodies, numbers(100).into_iter().map(String::into_bytes).collect::<Vec<_>>());
    }

    /// Design 13.8: when a handler panics, its actor ends: its delivery and those in the mailbox are requeued.
    async fn a_panic_requeues_the_unsettled_deliveries(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(30)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let arbiter = Arbiter::new();
        let log = Arc::new(Log::default());
        let worker = Worker::start_in_arbiter(&arbiter.handle(), {
            let log = log.clone();
            move |_| Worker::new(Action::PanicAt(3), &log)
        });
        let mut ends = Probe::<ConsumerEnd>::start();
        let options = Consume::new().prefetch(10).watch(ends.recipient());
        recorded.channel.queue("jobs").consume_with(options, worker.recipient()).await.unwrap();
        assert!(matches!(within("the end", 10, ends.next()).await.unwrap(), ConsumerEnd::TargetGone));
        oracle.wait_for_requeue("jobs", 27).await;
        recorded.flush().await;
        let rejects = count_requeues(&recorded.settle_frames());
        assert!((10..=40).contains(&rejects), "{rejects} rejects");
        assert_eq!((log.seen.load(Ordering::SeqCst), recorded.channel.load().unsettled), (4, 0));
        let bodies = oracle.drain("jobs").await;
        assert_eq!(bodies[0].data, b"3");
        assert!(bodies[0].redelivered);
        assert!(!recorded.channel.is_closed());
        arbiter.stop();
    }

    /// Design 13.8: when a target stops while no delivery arrives, its consumer is cancelled.
    async fn an_idle_target_that_stops_ends_its_consumer(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let log = Arc::new(Log::default());
        let worker = Worker::new(Action::Ack, &log).start();
        bench.channel.queue("jobs").consume(worker.clone().recipient()).await.unwrap();
        worker.send(Stop).await.unwrap();
        oracle.wait_for_requeue("jobs", 0).await;
        oracle.publish("", "jobs", "one").await;
        bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        assert_eq!(oracle.count("jobs").await, 1);
    }

    /// Design 13.8: when the arbiter of a target stops, the channel cancels its consumer and requeues with few frames.
    async fn an_arbiter_that_stops_ends_its_consumers(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(50)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let arbiter = Arbiter::new();
        let log = Arc::new(Log::default());
        let queue = recorded.channel.queue("jobs");
        let (sender, receiver) = tokio::sync::oneshot::channel();
        arbiter.spawn({
            let log = log.clone();
            async move {
                let worker = Worker::new(Action::Keep, &log).start();
                let consumer = queue.consume_with(Consume::new().prefetch(5), worker.clone().recipient()).await;
                sender.send((consumer.unwrap(), worker)).ok();
            }
        });
        let (_consumer, _worker) = receiver.await.unwrap();
        eventually("five deliveries are handled", 5, async || (log.seen.load(Ordering::SeqCst) == 5).then_some(())).await;
        arbiter.stop();
        arbiter.join().unwrap();
        oracle.wait_for_requeue("jobs", 50).await;
        recorded.flush().await;
        assert!((5..=25).contains(&recorded.settle_frames().len()), "{:?}", recorded.settle_frames());
        assert!(!recorded.channel.is_closed());
    }

    /// Design 13.8: a consume with a target on an arbiter that has already stopped leaves no consumer.
    async fn a_consumer_on_a_stopped_arbiter_is_cancelled(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(5)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        arbiter.stop();
        arbiter.join().unwrap();
        let log = Arc::new(Log::default());
        let worker = Worker::start_in_arbiter(&handle, move |_| Worker::new(Action::Keep, &log));
        recorded.channel.queue("jobs").consume(worker.recipient()).await.unwrap();
        oracle.wait_for_requeue("jobs", 5).await;
        recorded.flush().await;
        assert!(recorded.settle_frames().len() <= 15, "{:?}", recorded.settle_frames());
    }

    /// A refused consume drops the address of its target, which stops if that was the last one.
    async fn a_refused_consume_drops_its_target(bench: Bench) {
        let log = Arc::new(Log::default());
        let worker = Worker::new(Action::Ack, &log).start();
        bench.channel.queue("missing").consume(worker.recipient()).await.unwrap_err();
        let worker = Worker::new(Action::Ack, &log).start();
        bench.channel.queue("jobs").consume(worker.recipient()).await.unwrap_err();
        eventually("both are stopped", 5, async || (log.stopped.load(Ordering::SeqCst) == 2).then_some(())).await;
    }

    /// An actor never has more unsettled deliveries than the prefetch.
    async fn an_actor_never_has_more_than_the_prefetch(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(60)).await;
        let log = Arc::new(Log::default());
        let worker: Addr<Worker> = Worker::new(Action::Keep, &log).start();
        let options = Consume::new().prefetch(7);
        bench.channel.queue("jobs").consume_with(options, worker.clone().recipient()).await.unwrap();
        eventually("seven deliveries are handled", 5, async || (log.seen.load(Ordering::SeqCst) == 7).then_some(())).await;
        bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        assert_eq!((oracle.count("jobs").await, log.most_held.load(Ordering::SeqCst)), (53, 7));
        bench.channel.close().await.unwrap();
        oracle.wait_for_requeue("jobs", 60).await;
    }

    /// A target on another arbiter than its connection receives all messages, on its own thread.
    async fn a_target_can_run_on_another_arbiter(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(500)).await;
        let arbiter = Arbiter::new();
        let log = Arc::new(Log::default());
        let queue = bench.channel.queue("jobs");
        let (sender, receiver) = tokio::sync::oneshot::channel();
        arbiter.spawn({
            let log = log.clone();
            async move {
                let worker = Worker::new(Action::Ack, &log).start();
                sender.send(queue.consume(worker.recipient()).await.unwrap()).ok();
            }
        });
        let consumer = receiver.await.unwrap();
        eventually("all were handled", 10, async || (log.seen.load(Ordering::SeqCst) == 500).then_some(())).await;
        assert_eq!(log.threads.lock().unwrap().len(), 1);
        assert_ne!(log.threads.lock().unwrap()[0], std::thread::current().id());
        consumer.cancel().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
        arbiter.stop();
    }
}

/// One connection serves consumers on several worker threads, as an actix-web application has them. Each handles its
/// deliveries on its own thread.
#[actix::test]
async fn one_connection_serves_consumers_on_several_arbiters() {
    let bench = crate::support::modes::Bench::open(true).await;
    let oracle = bench.fill_queue("jobs", []).await;
    let workers: Vec<_> = (0..3).map(|_| Arbiter::new()).collect();
    let log = Arc::new(Log::default());
    let mut started = Vec::new();
    for arbiter in &workers {
        let (connection, log) = (bench.connection.clone(), log.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        arbiter.spawn(async move {
            // Each worker opens its own channel.
            let channel = connection.channel().await.unwrap();
            let worker = Worker::new(Action::Ack, &log).start();
            channel.queue("jobs").consume(worker.recipient()).await.unwrap();
            sender.send(channel).ok();
        });
        started.push(receiver.await.unwrap());
    }
    for n in 0..300 {
        oracle.publish("", "jobs", n.to_string()).await;
    }
    eventually("all were handled", 10, async || (log.seen.load(Ordering::SeqCst) == 300).then_some(())).await;
    assert_eq!(log.threads.lock().unwrap().len(), 3);
    for channel in started {
        channel.close().await.unwrap();
    }
    assert_eq!(oracle.count("jobs").await, 0);
    workers.iter().for_each(|worker| _ = worker.stop());
}
