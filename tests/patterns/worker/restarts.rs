//! Workers that are built again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use actix::prelude::*;
use actix_pika::{
    DeclareQueue, Publishing,
    tasks::{Done, Task},
    worker::{SupervisedWorker, WorkerEvent},
};

use super::{End, WorkerEvents, consumers, run_of};
use crate::{
    ends_when_told,
    handlers::{
        Atomic, BeforeFuture, InActorFuture, InFuture, Now, Play, Responding, Stage, Waiting, Wrapped,
    },
    support::{robust_connection::RobustConnection, within},
    tasks::{Job, Jobs, Reports, publish, reports},
};

#[derive(serde::Serialize, serde::Deserialize)]
struct Bill {
    number: u32,
}

/// What is known of each task: its runs, the highest attempt, and whether a run was redelivered.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<u32, (u32, u32, bool)>>);

impl Ledger {
    fn note<T>(&self, id: u32, task: &Task<T>) {
        let mut ledger = self.0.lock().unwrap();
        let entry = ledger.entry(id).or_default();
        entry.0 += 1;
        entry.1 = entry.1.max(task.attempt());
        entry.2 |= task.redelivered();
    }
}

struct Mailer {
    ledger: Arc<Ledger>,
    done: tokio::sync::mpsc::UnboundedSender<u32>,
}

impl Actor for Mailer {
    type Context = Context<Self>;
}

impl Mailer {
    fn answer<T: 'static>(&mut self, id: u32, task: Task<T>) -> ResponseActFuture<Self, Done> {
        let done = self.done.clone();
        let work = async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            done.send(id)?;
            drop(task);
            Ok(())
        };
        Box::pin(work.into_actor(self))
    }
}

impl Handler<Task<Job>> for Mailer {
    type Result = ResponseActFuture<Self, Done>;

    fn handle(&mut self, job: Task<Job>, _: &mut Self::Context) -> Self::Result {
        self.ledger.note(job.id, &job);
        assert!(![5, 15, 25, 35].contains(&job.id) || job.attempt() > 1, "a handler panics in this test");
        self.answer(job.id, job)
    }
}

impl Handler<Task<Bill>> for Mailer {
    type Result = ResponseActFuture<Self, Done>;

    fn handle(&mut self, bill: Task<Bill>, ctx: &mut Self::Context) -> Self::Result {
        self.ledger.note(bill.number, &bill);
        let runs = self.ledger.0.lock().unwrap()[&bill.number].0;
        if bill.number == 110 && runs == 1 {
            ctx.stop();
        }
        self.answer(bill.number, bill)
    }
}

/// WRK-01: over two queues, four panics and one stop cost what they cost: the guilty ones count an attempt each, all
/// others are acknowledged in their first attempt and are never redelivered, and each queue has one consumer.
#[actix::test]
async fn four_panics_and_a_stop_leave_one_consumer_for_each_queue() {
    let jobs = Jobs::new().await;
    let bills = jobs.channel.declare_queue("bills").await.unwrap();
    let (ledger, (done, mut ends)) = (Arc::new(Ledger::default()), reports());
    let mut events = WorkerEvents::watch();
    let noted = ledger.clone();
    let worker = SupervisedWorker::new(move || Mailer { ledger: noted.clone(), done: done.clone() })
        .feed(jobs.queue.tasks::<Job>().at_once(8))
        .feed(bills.tasks::<Bill>().at_once(4))
        .watch(events.watcher.clone());
    let worker = within("the start", 10, worker.start()).await.unwrap();
    events.started().await;
    jobs.publish(1..=40).await;
    for number in 101..=120 {
        let bill = Publishing::new(serde_json::to_vec(&Bill { number }).unwrap());
        jobs.channel.default_exchange().publish(bill, "bills").await.unwrap();
    }
    let mut all = ends.take(60).await;
    all.sort_unstable();
    assert_eq!(all, (1..=40).chain(101..=120).collect::<Vec<_>>());
    let mut panics = 0;
    for _ in 0..5 {
        match events.next().await {
            WorkerEvent::Ended { thread: 0, panicked, next_in: Some(_) } => panics += u32::from(panicked),
            event => panic!("{event:?}"),
        }
        events.started().await;
    }
    assert_eq!(panics, 4);
    jobs.until_empty().await;
    assert_eq!((consumers(&jobs, "jobs").await, consumers(&jobs, "bills").await), (1, 1));
    assert!(worker.addr().unwrap().connected());
    for (id, (runs, attempt, redelivered)) in &*ledger.0.lock().unwrap() {
        let guilty = [5, 15, 25, 35].contains(id);
        assert_eq!((*attempt, *redelivered), (if guilty { 2 } else { 1 }, false), "{id}");
        assert!(*runs <= 3, "{id}: {runs}");
    }
    assert!(jobs.ids("dead").await.is_empty());
}

/// Plays jobs 1 to 4, of which the second one fails once. Returns the runs, in order.
async fn play<A>(
    plays: &[(u32, Play)],
    panics: bool,
    factory: impl Fn(Arc<Stage>) -> A + Send + 'static,
) -> Vec<(u32, u32)>
where
    A: Actor<Context = Context<A>> + Handler<Task<Job>>,
{
    let (jobs, stage) = (Jobs::new().await, Stage::of(plays));
    let mut events = WorkerEvents::watch();
    let played = stage.clone();
    let worker = SupervisedWorker::new(move || factory(played.clone()))
        .feed(jobs.queue.tasks::<Job>().at_once(4))
        .watch(events.watcher.clone());
    worker.start().await.unwrap();
    events.started().await;
    jobs.publish(1..=4).await;
    if panics {
        events.ended(true, true).await;
        events.started().await;
    }
    stage.held.as_ref().unwrap().add_permits(100);
    stage.until_ended(4).await;
    jobs.until_empty().await;
    assert_eq!(consumers(&jobs, "jobs").await, 1);
    assert!(jobs.ids("dead").await.is_empty());
    let runs = stage.runs.lock().unwrap().clone();
    assert_eq!(runs.iter().filter(|run| **run == (2, 2)).count(), 1, "{runs:?}");
    runs.into_iter().filter(|run| *run != (2, 2)).collect()
}

/// WRK-02: for each response type, a panic costs the attempt of its own task only. What was not looked at goes to the
/// next worker in order, and what was cut off runs again.
#[actix::test]
async fn a_panic_costs_the_attempt_of_its_own_task() {
    let in_order = [(1, 1), (2, 1), (3, 1), (4, 1)];
    let panics = [(2, Play::Panic)];
    assert_eq!(play(&panics, true, Now).await, in_order);
    assert_eq!(play(&panics, true, Wrapped).await, in_order);
    assert_eq!(play(&panics, true, Atomic).await, in_order);
    assert_eq!(play(&[(1, Play::Held), (2, Play::Panic)], true, BeforeFuture).await, in_order);
    let held = |id| (id, Play::Held);
    let among_four = [held(1), (2, Play::PanicAmongFour), held(3), held(4)];
    assert_eq!(play(&among_four, false, InFuture).await, in_order);
    assert_eq!(play(&among_four, false, Responding).await, in_order);
    assert_eq!(play(&among_four, false, Waiting).await, in_order);
    let again = [(1, 1), (2, 1), (3, 1), (4, 1), (1, 1), (3, 1), (4, 1)];
    assert_eq!(play(&among_four, true, InActorFuture).await, again);
}

/// Reports each job, and holds it until the test lets it go. Ends when it is told to.
struct Beside(tokio::sync::mpsc::UnboundedSender<(u32, u32)>, Arc<tokio::sync::Semaphore>);

impl Actor for Beside {
    type Context = Context<Self>;
}

impl Handler<Task<Job>> for Beside {
    type Result = ResponseActFuture<Self, Done>;

    fn handle(&mut self, job: Task<Job>, _: &mut Self::Context) -> Self::Result {
        let (report, go) = (self.0.clone(), self.1.clone());
        let work = async move {
            report.send(run_of(&job))?;
            go.acquire().await?.forget();
            Ok(())
        };
        Box::pin(work.into_actor(self))
    }
}

ends_when_told!(Beside);

/// WRK-03: a task that is cut off three times by what it has not caused counts one attempt, and runs again.
#[actix::test]
async fn the_third_accident_counts_an_attempt() {
    let jobs = Jobs::new().await;
    let (report, mut runs): (_, Reports<(u32, u32)>) = reports();
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let gone = go.clone();
    let mut events = WorkerEvents::watch();
    let worker = SupervisedWorker::new(move || Beside(report.clone(), gone.clone()))
        .feed(jobs.queue.tasks::<Job>())
        .watch(events.watcher.clone());
    let worker = worker.start().await.unwrap();
    events.started().await;
    jobs.publish([1]).await;
    for end in [End::Panic, End::Stop, End::Panic] {
        assert_eq!(runs.next().await, (1, 1));
        worker.addr().unwrap().do_send(end);
        events.ended(matches!(end, End::Panic), true).await;
        assert!(worker.addr().is_none());
        events.started().await;
    }
    assert_eq!(runs.next().await, (1, 2));
    go.add_permits(1);
    jobs.until_empty().await;
    assert!(jobs.ids("dead").await.is_empty());
}

/// WRK-04: a worker that ends while the connection is lost: the next one gets the copies that the broker delivers
/// again, each once, from one consumer.
#[actix::test]
async fn a_worker_ends_while_the_connection_is_lost() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
    let oracle = robust.oracle().await;
    let (report, mut runs) = reports();
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let gone = go.clone();
    let mut events = WorkerEvents::watch();
    let worker = SupervisedWorker::new(move || Beside(report.clone(), gone.clone()))
        .feed(queue.tasks::<Job>().at_once(4))
        .watch(events.watcher.clone());
    let worker = worker.start().await.unwrap();
    events.started().await;
    publish(&channel, 1..=6).await;
    assert_eq!(runs.take(4).await, [(1, 1), (2, 1), (3, 1), (4, 1)]);
    robust.disconnect().await;
    worker.addr().unwrap().do_send(End::Panic);
    events.ended(true, true).await;
    events.started().await;
    assert!(runs.is_empty(), "what is stale does not start again");
    robust.proxy.accept_new().await;
    robust.wait_for_recovery().await;
    go.add_permits(6);
    let mut again = runs.take(6).await;
    again.sort_unstable();
    assert_eq!(again, (1..=6).map(|id| (id, 1)).collect::<Vec<_>>());
    crate::support::until_unsettled(&channel, 0).await;
    assert_eq!(oracle.queue_counts("jobs").await.unwrap(), (0, 1));
    assert!(runs.is_empty());
}
