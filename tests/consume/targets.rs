//! Actors that get deliveries: where they live, and what happens when they stop or panic.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::ThreadId,
};

use crate::support::oracle::Oracle;
use crate::support::recorded_connection::{RecordedConnection, SettleFrame};
use crate::support::{eventually, within};
use actix::{Actor, ActorContext, Addr, Arbiter, Context, Handler, Message};
use actix_pika::{Consume, ConsumerEnd, DeclareQueue, Delivery, testing::Probe};

fn numbers(n: usize) -> Vec<String> {
    (0..n).map(|n| n.to_string()).collect()
}

/// What a worker does with its `n`th delivery, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Ack,
    /// Holds them all.
    Keep,
    PanicAt(usize),
    /// Holds them all, and stops at the nth.
    StopAt(usize),
}

struct Worker {
    deed: Deed,
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
    fn new(deed: Deed, log: &Arc<Log>) -> Self {
        Self { deed, seen: 0, kept: Vec::new(), log: log.clone() }
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
        match self.deed {
            Deed::Ack => delivery.ack().unwrap(),
            Deed::PanicAt(n) if n == nth => panic!("on purpose"),
            Deed::PanicAt(_) => delivery.ack().unwrap(),
            Deed::Keep | Deed::StopAt(_) => {
                self.kept.push(delivery);
                self.log.most_held.fetch_max(self.kept.len(), Ordering::SeqCst);
                if self.deed == Deed::StopAt(nth) {
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

async fn all_back(oracle: &Oracle, queue: &str, n: u32) {
    let there = async || (oracle.queue_counts(queue).await == Some((n, 0))).then_some(());
    eventually("all is back, and nobody consumes", 20, there).await;
}

fn rejects(said: &[SettleFrame]) -> usize {
    said.iter().filter(|said| matches!(said, SettleFrame::Reject { requeue: true, .. })).count()
}

crate::modes! {
    /// Design 13.8: a target that stops with deliveries in hand: its consumer is cancelled and says why, each message is
    /// back once, in few frames, and other consumers of the channel go on.
    async fn a_target_that_stops_ends_its_consumer(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(100)).await;
        oracle.declare_queue("others").await;
        let recorded = RecordedConnection::open(&bench).await;
        let mut other = Probe::<Delivery>::start();
        recorded.channel.queue("others").consume(other.recipient()).await.unwrap();
        let mut ends = Probe::<ConsumerEnd>::start();
        let log = Arc::new(Log::default());
        let worker = Worker::new(Deed::StopAt(4), &log).start();
        let options = Consume::new().prefetch(20).watch(ends.recipient());
        recorded.channel.queue("jobs").consume_with(options, worker.clone().recipient()).await.unwrap();
        assert!(matches!(within("the end", 10, ends.next()).await.unwrap(), ConsumerEnd::TargetGone));
        all_back(&oracle, "jobs", 100).await;
        recorded.flush().await;
        // The 20 that it had, and those that came for them before the cancel.
        let said = recorded.settle_frames();
        assert_eq!(rejects(&said), said.len());
        assert!((20..=60).contains(&said.len()), "{} rejects", said.len());
        assert_eq!(recorded.count_sent((60, 30)), 1);
        assert_eq!((log.stopped.load(Ordering::SeqCst), recorded.channel.load().unsettled), (1, 0));
        oracle.publish("", "others", "still here").await;
        assert_eq!(other.next().await.unwrap().body(), b"still here");
        let bodies = oracle.drain_bodies("jobs").await;
        assert_eq!(bodies, numbers(100).into_iter().map(String::into_bytes).collect::<Vec<_>>());
    }

    /// Design 13.8: a panic in a handler costs its actor: the delivery in hand goes back, and those in its mailbox.
    async fn a_panic_puts_back_what_was_in_hand_and_what_waited(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(30)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let arbiter = Arbiter::new();
        let log = Arc::new(Log::default());
        let worker = Worker::start_in_arbiter(&arbiter.handle(), {
            let log = log.clone();
            move |_| Worker::new(Deed::PanicAt(3), &log)
        });
        let mut ends = Probe::<ConsumerEnd>::start();
        let options = Consume::new().prefetch(10).watch(ends.recipient());
        recorded.channel.queue("jobs").consume_with(options, worker.recipient()).await.unwrap();
        assert!(matches!(within("the end", 10, ends.next()).await.unwrap(), ConsumerEnd::TargetGone));
        all_back(&oracle, "jobs", 27).await;
        recorded.flush().await;
        let rejects = rejects(&recorded.settle_frames());
        assert!((10..=40).contains(&rejects), "{rejects} rejects");
        assert_eq!((log.seen.load(Ordering::SeqCst), recorded.channel.load().unsettled), (4, 0));
        let bodies = oracle.drain("jobs").await;
        assert_eq!(bodies[0].data, b"3");
        assert!(bodies[0].redelivered);
        assert!(!recorded.channel.is_closed());
        arbiter.stop();
    }

    /// Rule 8: a target that stops while nothing comes is noticed, too.
    async fn an_idle_target_that_stops_is_noticed(bench: Bench) {
        let oracle = bench.fill_queue("jobs", []).await;
        let log = Arc::new(Log::default());
        let worker = Worker::new(Deed::Ack, &log).start();
        bench.channel.queue("jobs").consume(worker.clone().recipient()).await.unwrap();
        worker.send(Stop).await.unwrap();
        all_back(&oracle, "jobs", 0).await;
        oracle.publish("", "jobs", "one").await;
        bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        assert_eq!(oracle.count("jobs").await, 1);
    }

    /// Rule 8: an arbiter that ends takes its consumer along: the channel cancels it, and there is no storm.
    async fn an_arbiter_that_ends_takes_its_consumers_along(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(50)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let arbiter = Arbiter::new();
        let log = Arc::new(Log::default());
        let queue = recorded.channel.queue("jobs");
        let (tell, told) = tokio::sync::oneshot::channel();
        arbiter.spawn({
            let log = log.clone();
            async move {
                let worker = Worker::new(Deed::Keep, &log).start();
                let consumer = queue.consume_with(Consume::new().prefetch(5), worker.clone().recipient()).await;
                tell.send((consumer.unwrap(), worker)).ok();
            }
        });
        let (_consumer, _worker) = told.await.unwrap();
        eventually("it holds five", 5, async || (log.seen.load(Ordering::SeqCst) == 5).then_some(())).await;
        arbiter.stop();
        arbiter.join().unwrap();
        all_back(&oracle, "jobs", 50).await;
        recorded.flush().await;
        assert!((5..=25).contains(&recorded.settle_frames().len()), "{:?}", recorded.settle_frames());
        assert!(!recorded.channel.is_closed());
    }

    /// Rule 8: to consume on an arbiter that has ended already leaves no consumer behind.
    async fn a_consumer_on_an_ended_arbiter_is_cancelled(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(5)).await;
        let recorded = RecordedConnection::open(&bench).await;
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        arbiter.stop();
        arbiter.join().unwrap();
        let log = Arc::new(Log::default());
        let worker = Worker::start_in_arbiter(&handle, move |_| Worker::new(Deed::Keep, &log));
        recorded.channel.queue("jobs").consume(worker.recipient()).await.unwrap();
        all_back(&oracle, "jobs", 5).await;
        recorded.flush().await;
        assert!(recorded.settle_frames().len() <= 15, "{:?}", recorded.settle_frames());
    }

    /// The target of a consume that is refused is let go: it stops when nobody else has its address.
    async fn the_target_of_a_refused_consume_is_let_go(bench: Bench) {
        let log = Arc::new(Log::default());
        let worker = Worker::new(Deed::Ack, &log).start();
        bench.channel.queue("missing").consume(worker.recipient()).await.unwrap_err();
        let worker = Worker::new(Deed::Ack, &log).start();
        bench.channel.queue("jobs").consume(worker.recipient()).await.unwrap_err();
        eventually("both are stopped", 5, async || (log.stopped.load(Ordering::SeqCst) == 2).then_some(())).await;
    }

    /// Rule 2: the actor holds no more than the prefetch at any time, seen from its side.
    async fn an_actor_holds_no_more_than_the_prefetch(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(60)).await;
        let log = Arc::new(Log::default());
        let worker: Addr<Worker> = Worker::new(Deed::Keep, &log).start();
        let options = Consume::new().prefetch(7);
        bench.channel.queue("jobs").consume_with(options, worker.clone().recipient()).await.unwrap();
        eventually("it holds seven", 5, async || (log.seen.load(Ordering::SeqCst) == 7).then_some(())).await;
        bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
        assert_eq!((oracle.count("jobs").await, log.most_held.load(Ordering::SeqCst)), (53, 7));
        bench.channel.close().await.unwrap();
        all_back(&oracle, "jobs", 60).await;
    }

    /// Placement: the target is fed on its own arbiter, the connection lives on another; all arrive in order.
    async fn a_target_lives_on_another_arbiter(bench: Bench) {
        let oracle = bench.fill_queue("jobs", numbers(500)).await;
        let arbiter = Arbiter::new();
        let log = Arc::new(Log::default());
        let queue = bench.channel.queue("jobs");
        let (tell, told) = tokio::sync::oneshot::channel();
        arbiter.spawn({
            let log = log.clone();
            async move {
                let worker = Worker::new(Deed::Ack, &log).start();
                tell.send(queue.consume(worker.recipient()).await.unwrap()).ok();
            }
        });
        let consumer = told.await.unwrap();
        eventually("all were seen", 10, async || (log.seen.load(Ordering::SeqCst) == 500).then_some(())).await;
        assert_eq!(log.threads.lock().unwrap().len(), 1);
        assert_ne!(log.threads.lock().unwrap()[0], std::thread::current().id());
        consumer.cancel().await.unwrap();
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
        bench.channel.close().await.unwrap();
        assert_eq!(oracle.count("jobs").await, 0);
        arbiter.stop();
    }
}

/// Placement: a connection of one arbiter serves consumers of several worker threads, as an actix-web application has
/// them, each on its own thread; a stream likewise.
#[actix::test]
async fn consumers_live_on_the_workers_of_an_application() {
    let bench = crate::support::modes::Bench::open(true).await;
    let oracle = bench.fill_queue("jobs", []).await;
    let workers: Vec<_> = (0..3).map(|_| Arbiter::new()).collect();
    let log = Arc::new(Log::default());
    let mut started = Vec::new();
    for arbiter in &workers {
        let (connection, log) = (bench.connection.clone(), log.clone());
        let (tell, told) = tokio::sync::oneshot::channel();
        arbiter.spawn(async move {
            // One channel for each worker, as is usual.
            let channel = connection.channel().await.unwrap();
            let worker = Worker::new(Deed::Ack, &log).start();
            channel.queue("jobs").consume(worker.recipient()).await.unwrap();
            tell.send(channel).ok();
        });
        started.push(told.await.unwrap());
    }
    for n in 0..300 {
        oracle.publish("", "jobs", n.to_string()).await;
    }
    eventually("all were seen", 10, async || (log.seen.load(Ordering::SeqCst) == 300).then_some(())).await;
    assert_eq!(log.threads.lock().unwrap().len(), 3);
    for channel in started {
        channel.close().await.unwrap();
    }
    assert_eq!(oracle.count("jobs").await, 0);
    workers.iter().for_each(|worker| _ = worker.stop());
}
