//! The end of workers: drained, without a factory, without consumers.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use actix_pika::{
    ConsumerEnd, ErrorKind,
    tasks::{Done, DrainReport, Task},
    worker::{SupervisedWorker, WorkerEvent},
};
use tokio::sync::{Semaphore, mpsc};

use super::{End, WorkerEvents, consumers};
use crate::{
    ends_when_told,
    support::within,
    tasks::{Job, Jobs, Reports, reports},
};

/// Reports each job, and holds it until the test lets it go.
struct Holding {
    begun: mpsc::UnboundedSender<u32>,
    go: Arc<Semaphore>,
}

impl Actor for Holding {
    type Context = Context<Self>;
}

impl Handler<Task<Job>> for Holding {
    type Result = ResponseActFuture<Self, Done>;

    fn handle(&mut self, job: Task<Job>, _: &mut Self::Context) -> Self::Result {
        let (begun, go) = (self.begun.clone(), self.go.clone());
        let work = async move {
            begun.send(job.id)?;
            go.acquire().await?.forget();
            Ok(())
        };
        Box::pin(work.into_actor(self))
    }
}

ends_when_told!(Holding);

/// A worker that holds four of ten jobs.
struct Bench {
    jobs: Jobs,
    worker: SupervisedWorker<Holding>,
    events: WorkerEvents,
    begun: Reports<u32>,
    go: Arc<Semaphore>,
}

impl Bench {
    /// Builds workers, as many as `workers` allows; then the factory panics.
    async fn with_workers(workers: u32) -> Self {
        let jobs = Jobs::new().await;
        let (report, mut begun) = reports();
        let go = Arc::new(Semaphore::new(0));
        let (held, mut built) = (go.clone(), 0);
        let mut events = WorkerEvents::watch();
        let factory = move || {
            built += 1;
            assert!(built <= workers, "a factory panics in this test");
            Holding { begun: report.clone(), go: held.clone() }
        };
        let worker = SupervisedWorker::new(factory)
            .feed(jobs.queue.tasks::<Job>().at_once(4))
            .watch(events.watcher.clone());
        let worker = worker.start().await.unwrap();
        events.started().await;
        jobs.publish(1..=10).await;
        assert_eq!(begun.take(4).await, [1, 2, 3, 4]);
        jobs.until_unsettled(10).await;
        Self { jobs, worker, events, begun, go }
    }

    async fn drain(&self, millis: u64) -> (usize, usize, usize) {
        let limit = Duration::from_millis(millis);
        let DrainReport { finished, given_back, abandoned, .. } =
            within("the drain", 20, self.worker.drain(limit)).await;
        (finished, given_back, abandoned)
    }

    /// Asserts that nothing is left of the worker, and what is in the queue.
    async fn assert_ended(&mut self, left: impl IntoIterator<Item = u32>) {
        let left: Vec<u32> = left.into_iter().collect();
        assert!(self.worker.addr().is_none());
        self.events.finished().await;
        assert!(self.begun.is_empty());
        self.jobs.oracle.wait_for_count("jobs", left.len() as u32).await;
        assert_eq!(consumers(&self.jobs, "jobs").await, 0);
        assert_eq!(self.jobs.ids("jobs").await, left);
        let mut late = WorkerEvents::watch();
        self.worker.watch(late.watcher.clone());
        late.finished().await;
    }
}

/// WRK-10: a drain gives back what has not begun, waits for the rest, and stops the worker.
#[actix::test]
async fn a_drain_waits_for_what_has_begun() {
    let mut bench = Bench::with_workers(1).await;
    let (worker, go) = (bench.worker.clone(), bench.go.clone());
    let drain = actix::spawn(async move { worker.drain(Duration::from_secs(20)).await });
    bench.jobs.until_unsettled(4).await;
    go.add_permits(4);
    let report = within("the drain", 20, drain).await.unwrap();
    assert_eq!((report.finished, report.given_back, report.abandoned), (4, 6, 0));
    assert_eq!(bench.drain(0).await, (4, 6, 0), "the same report again");
    bench.events.ended(false, false).await;
    bench.assert_ended(5..=10).await;
}

/// WRK-11: at the limit of a drain, what still runs returns to the queue.
#[actix::test]
async fn a_drain_ends_at_its_limit() {
    let mut bench = Bench::with_workers(1).await;
    assert_eq!(bench.drain(100).await, (0, 6, 4));
    bench.events.ended(false, false).await;
    bench.assert_ended(1..=10).await;
}

/// WRK-12: a drain while there is no worker gives everything back; so does one whose worker panics meanwhile.
#[actix::test]
async fn a_drain_without_a_worker_gives_everything_back() {
    let mut bench = Bench::with_workers(1).await;
    bench.worker.addr().unwrap().do_send(End::Panic);
    bench.events.ended(true, true).await;
    assert_eq!(bench.drain(20_000).await, (0, 10, 0));
    bench.assert_ended(1..=10).await;

    let mut bench = Bench::with_workers(1).await;
    let actor = bench.worker.addr().unwrap();
    let worker = bench.worker.clone();
    let drain = actix::spawn(async move { worker.drain(Duration::from_secs(20)).await });
    bench.jobs.until_unsettled(4).await;
    actor.do_send(End::Panic);
    let report = within("the drain", 20, drain).await.unwrap();
    assert_eq!((report.finished, report.given_back, report.abandoned), (0, 10, 0));
    bench.events.ended(true, false).await;
    bench.assert_ended(1..=10).await;
}

/// WRK-13: a factory that panics ends the worker: its consumers are cancelled, and everything returns, in order.
#[actix::test]
async fn a_factory_that_panics_ends_the_worker() {
    let mut bench = Bench::with_workers(1).await;
    bench.worker.addr().unwrap().do_send(End::Stop);
    bench.events.ended(false, true).await;
    let event = bench.events.next().await;
    assert!(matches!(event, WorkerEvent::FactoryPanicked { thread: 0 }), "{event:?}");
    bench.assert_ended_after_finished(1..=10).await;
}

impl Bench {
    /// As [`assert_ended`](Self::assert_ended), where nobody has waited for the end.
    async fn assert_ended_after_finished(&mut self, left: std::ops::RangeInclusive<u32>) {
        within("the end", 20, self.worker.drain(Duration::from_secs(10))).await;
        self.assert_ended(left).await;
    }
}

/// WRK-14: a worker that cannot be started leaves nothing: a factory that panics at once, no tasks, no arbiter, a queue
/// that is not there.
#[actix::test]
async fn a_worker_that_cannot_be_started_leaves_nothing() {
    let jobs = Jobs::new().await;
    let error = SupervisedWorker::new(|| -> Holding { panic!("a factory panics in this test") })
        .feed(jobs.queue.tasks::<Job>())
        .start()
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("factory")), (ErrorKind::Stopped, true));

    let (begun, _reports) = reports();
    let holding = move || Holding { begun: begun.clone(), go: Arc::new(Semaphore::new(0)) };
    let error = SupervisedWorker::new(holding.clone()).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);

    let other = jobs.connection.channel().await.unwrap();
    let mut events = WorkerEvents::watch();
    let worker = SupervisedWorker::new(holding.clone())
        .feed(jobs.queue.tasks::<Job>())
        .feed(other.queue("missing").tasks::<Job>())
        .watch(events.watcher.clone());
    let error = within("the start", 20, worker.start()).await.unwrap_err();
    assert_eq!(error.code(), Some(404));
    events.finished().await;
    let none = async || (consumers(&jobs, "jobs").await == 0).then_some(());
    crate::support::eventually("no consumer is left", 20, none).await;

    let queue = jobs.queue.clone();
    let outside = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(SupervisedWorker::new(holding).feed(queue.tasks::<Job>()).start()).unwrap_err()
    });
    assert_eq!(outside.join().unwrap().kind(), ErrorKind::Refused);
}

/// WRK-15: a consumer that is lost is reported, and the others go on; with the last one, the worker ends.
#[actix::test]
async fn a_worker_ends_with_its_last_consumer() {
    let jobs = Jobs::new().await;
    let other = jobs.channel.declare_queue("other").await.unwrap();
    let (report, mut begun) = reports();
    let go = Arc::new(Semaphore::new(100));
    let mut events = WorkerEvents::watch();
    let worker = SupervisedWorker::new(move || Holding { begun: report.clone(), go: go.clone() })
        .feed(jobs.queue.tasks::<Job>())
        .feed(other.tasks::<Job>())
        .watch(events.watcher.clone());
    let worker = worker.start().await.unwrap();
    events.started().await;
    for (queue, handle) in [("other", &other), ("jobs", &jobs.queue)] {
        handle.delete().await.unwrap();
        match events.next().await {
            WorkerEvent::ConsumerLost { thread: 0, queue: lost, end } => {
                assert_eq!(lost, queue);
                assert!(matches!(end, ConsumerEnd::CancelledByBroker), "{end:?}");
            }
            event => panic!("{event:?}"),
        }
        if queue == "other" {
            jobs.publish([1]).await;
            assert_eq!(begun.next().await, 1);
        }
    }
    events.ended(false, false).await;
    events.finished().await;
    assert!(worker.addr().is_none());
}

/// WRK-16: a `System` that ends leaves nothing: what its worker holds returns to the queue, in order.
#[actix::test]
async fn the_end_of_a_system_gives_everything_back() {
    let jobs = Jobs::new().await;
    jobs.publish(1..=6).await;
    let (report, mut begun) = reports();
    let queue = jobs.queue.clone();
    let system = std::thread::spawn(move || {
        System::new().block_on(async move {
            let go = Arc::new(Semaphore::new(0));
            let worker = SupervisedWorker::new(move || Holding { begun: report.clone(), go: go.clone() })
                .feed(queue.tasks::<Job>().at_once(4));
            let worker = worker.start().await.unwrap();
            assert_eq!(begun.take(4).await, [1, 2, 3, 4]);
            worker
        })
    });
    let ended = async || system.is_finished().then_some(());
    crate::support::eventually("the end of the system", 20, ended).await;
    let worker = system.join().unwrap();
    assert!(worker.addr().is_none());
    let report = within("the drain", 10, worker.drain(Duration::from_secs(10))).await;
    assert_eq!(report.finished, 0);
    jobs.oracle.wait_for_count("jobs", 6).await;
    assert_eq!(consumers(&jobs, "jobs").await, 0);
    assert_eq!(jobs.ids("jobs").await, [1, 2, 3, 4, 5, 6]);
}
