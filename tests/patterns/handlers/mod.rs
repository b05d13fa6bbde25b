//! The table of handlers in the documentation of `tasks`, one test for each row: how many run at once, in which order
//! they end, what a panic costs, and whether the actor lives after it.

mod stage;

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use actix::prelude::*;
use actix_pika::{
    ConsumerEnd,
    tasks::{Done, Task, TaskConsumer},
};

pub use self::stage::{Play, Stage};
use crate::{
    support::within,
    tasks::{Job, Jobs},
};

/// Defines an actor whose handler has the given result.
macro_rules! worker {
    ($name:ident, $result:ty, |$this:ident, $job:ident, $ctx:ident| $handle:expr) => {
        pub struct $name(pub Arc<Stage>);

        impl Actor for $name {
            type Context = Context<Self>;
        }

        impl Handler<Task<Job>> for $name {
            type Result = $result;

            fn handle(&mut self, $job: Task<Job>, $ctx: &mut Self::Context) -> Self::Result {
                let $this = self;
                $handle
            }
        }
    };
}

worker!(Now, Done, |this, job, _ctx| this.0.play_now(&job));
worker!(Wrapped, MessageResult<Task<Job>>, |this, job, _ctx| MessageResult(this.0.play_now(&job)));
worker!(InFuture, ResponseFuture<Done>, |this, job, _ctx| Box::pin(this.0.clone().play(job)));
worker!(Responding, Response<Done>, |this, job, _ctx| Response::fut(this.0.clone().play(job)));
worker!(BeforeFuture, ResponseFuture<Done>, |this, job, _ctx| {
    if this.0.plays.contains(&(job.id, Play::Panic)) && job.attempt() == 1 {
        this.0.begin(&job);
        panic!("a handler panics in this test");
    }
    Box::pin(this.0.clone().play(job))
});
worker!(InActorFuture, ResponseActFuture<Self, Done>, |this, job, _ctx| {
    Box::pin(this.0.clone().play(job).into_actor(this))
});
worker!(Atomic, AtomicResponse<Self, Done>, |this, job, _ctx| {
    AtomicResponse::new(Box::pin(this.0.clone().play(job).into_actor(this)))
});
worker!(Waiting, ResponseFuture<Done>, |this, job, ctx| {
    ctx.wait(tokio::task::yield_now().into_actor(this));
    Box::pin(this.0.clone().play(job))
});
worker!(WaitingFor, AtomicResponse<Self, Done>, |this, job, ctx| {
    // What `ctx.wait` waits for comes before the next message.
    ctx.wait(tokio::task::yield_now().into_actor(this));
    AtomicResponse::new(Box::pin(this.0.clone().play(job).into_actor(this)))
});

async fn consume<A>(jobs: &Jobs, actor: A) -> (TaskConsumer, Addr<A>)
where
    A: Actor<Context = Context<A>> + Handler<Task<Job>>,
{
    let actor = actor.start();
    let consumer = jobs.queue.tasks::<Job>().at_once(4).to(actor.clone()).await.unwrap();
    (consumer, actor)
}

/// Four run at once, and end in any order.
async fn four_at_once<A>(factory: impl Fn(Arc<Stage>) -> A)
where
    A: Actor<Context = Context<A>> + Handler<Task<Job>>,
{
    let (jobs, stage) = (Jobs::new().await, Stage::backwards(8));
    let (consumer, actor) = consume(&jobs, factory(stage.clone())).await;
    jobs.publish(1..=8).await;
    stage.until_ended(8).await;
    assert_eq!(*stage.ends.lock().unwrap(), [4, 3, 2, 1, 8, 7, 6, 5]);
    assert_eq!(stage.most.load(SeqCst), 4);
    jobs.until_empty().await;
    assert!(actor.connected());
    consumer.drain(Duration::from_secs(10)).await;
}

/// They run one after the other.
async fn one_at_once<A>(factory: impl Fn(Arc<Stage>) -> A)
where
    A: Actor<Context = Context<A>> + Handler<Task<Job>>,
{
    let (jobs, stage) = (Jobs::new().await, Stage::of(&[]));
    let (consumer, _actor) = consume(&jobs, factory(stage.clone())).await;
    jobs.publish(1..=8).await;
    stage.until_ended(8).await;
    assert_eq!(*stage.ends.lock().unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(stage.most.load(SeqCst), 1);
    jobs.until_empty().await;
    consumer.drain(Duration::from_secs(10)).await;
}

/// Job 2 panics among four; the actor goes on, and job 2 is tried again.
async fn a_panic_leaves_the_actor<A>(factory: impl Fn(Arc<Stage>) -> A)
where
    A: Actor<Context = Context<A>> + Handler<Task<Job>>,
{
    let plays = [(1, Play::Backwards), (2, Play::PanicAmongFour), (3, Play::Backwards), (4, Play::Held)];
    let (jobs, stage) = (Jobs::new().await, Stage::of(&plays));
    let (_consumer, actor) = consume(&jobs, factory(stage.clone())).await;
    jobs.publish(1..=4).await;
    within("the second attempt", 20, stage.until(|| stage.runs.lock().unwrap().contains(&(2, 2)))).await;
    stage.held.as_ref().unwrap().add_permits(1);
    stage.until_ended(4).await;
    assert_eq!(stage.all_runs(), [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1)]);
    assert!(actor.connected());
    jobs.until_empty().await;
    assert!(jobs.ids("dead").await.is_empty());
}

/// Job 2 panics, and the actor with it: its consumer ends, and these jobs return to the queue.
async fn a_panic_ends_the_actor<A>(stage: Arc<Stage>, actor: A, runs: &[(u32, u32)], left: &[u32])
where
    A: Actor<Context = Context<A>> + Handler<Task<Job>>,
{
    let jobs = Jobs::new().await;
    let (consumer, actor) = consume(&jobs, actor).await;
    jobs.publish(1..=4).await;
    let gone = || (!actor.connected()).then_some(());
    crate::support::eventually("the end of the actor", 20, || std::future::ready(gone())).await;
    stage.held.as_ref().unwrap().add_permits(1);
    let end = within("the end of the consumer", 20, consumer.ended()).await;
    assert!(matches!(end, ConsumerEnd::TargetGone), "{end:?}");
    assert_eq!(stage.all_runs(), runs);
    jobs.oracle.wait_for_count("jobs", left.len() as u32).await;
    assert_eq!(jobs.ids("jobs").await, left);
    assert!(jobs.ids("dead").await.is_empty());
}

/// TSK-60: `Done` and `MessageResult`: one at once, in order; a panic ends the actor, and what was not begun returns.
#[actix::test]
async fn handlers_that_return_at_once() {
    one_at_once(Now).await;
    one_at_once(Wrapped).await;
    let runs = [(1, 1), (2, 1)];
    let stage = Stage::of(&[(2, Play::Panic)]);
    a_panic_ends_the_actor(stage.clone(), Now(stage), &runs, &[2, 3, 4]).await;
    let stage = Stage::of(&[(2, Play::Panic)]);
    a_panic_ends_the_actor(stage.clone(), Wrapped(stage), &runs, &[2, 3, 4]).await;
}

/// TSK-61: `ResponseFuture` and `Response::fut`: four at once, in any order; a panic costs its own task, and the actor
/// goes on.
#[actix::test]
async fn handlers_that_return_a_future() {
    four_at_once(InFuture).await;
    four_at_once(Responding).await;
    a_panic_leaves_the_actor(InFuture).await;
    a_panic_leaves_the_actor(Responding).await;
}

/// TSK-62: a handler that panics before it returns its future ends the actor; futures before it go on, and settle.
#[actix::test]
async fn handlers_that_panic_before_they_return_a_future() {
    let stage = Stage::of(&[(1, Play::Held), (2, Play::Panic)]);
    a_panic_ends_the_actor(stage.clone(), BeforeFuture(stage.clone()), &[(1, 1), (2, 1)], &[2, 3, 4]).await;
    assert_eq!(*stage.ends.lock().unwrap(), [1]);
}

/// TSK-63: `ResponseActFuture`: four at once, in any order; a panic ends the actor and cuts the others off.
#[actix::test]
async fn handlers_that_return_an_actor_future() {
    four_at_once(InActorFuture).await;
    let held = |id| (id, Play::Held);
    let stage = Stage::of(&[held(1), (2, Play::PanicAmongFour), held(3), held(4)]);
    let runs = [(1, 1), (2, 1), (3, 1), (4, 1)];
    a_panic_ends_the_actor(stage.clone(), InActorFuture(stage.clone()), &runs, &[1, 2, 3, 4]).await;
    assert!(stage.ends.lock().unwrap().is_empty());
}

/// TSK-64: `AtomicResponse`: one at once, in order, with `ctx.wait` before it too; a panic ends the actor.
#[actix::test]
async fn handlers_that_return_an_atomic_response() {
    one_at_once(Atomic).await;
    one_at_once(WaitingFor).await;
    let stage = Stage::of(&[(2, Play::Panic)]);
    a_panic_ends_the_actor(stage.clone(), Atomic(stage), &[(1, 1), (2, 1)], &[2, 3, 4]).await;
}

/// TSK-65: `ctx.wait` in a handler that returns a future: four at once, as without it.
#[actix::test]
async fn handlers_that_have_their_actor_wait() {
    four_at_once(Waiting).await;
    a_panic_leaves_the_actor(Waiting).await;
}

/// TSK-66: a closure: four at once, in any order.
#[actix::test]
async fn closures() {
    let (jobs, stage) = (Jobs::new().await, Stage::backwards(8));
    let on_stage = stage.clone();
    jobs.queue.for_each(4, move |job: Task<Job>| on_stage.clone().play(job)).await.unwrap();
    jobs.publish(1..=8).await;
    stage.until_ended(8).await;
    assert_eq!(*stage.ends.lock().unwrap(), [4, 3, 2, 1, 8, 7, 6, 5]);
    assert_eq!(stage.most.load(SeqCst), 4);
    jobs.until_empty().await;
}

/// The threads of a `SyncArbiter`: each job blocks until so many run as the test allows.
struct OnThread(Arc<Threads>);

#[derive(Default)]
struct Threads {
    running: Mutex<usize>,
    most: AtomicUsize,
    wanted: AtomicUsize,
    changed: Condvar,
    runs: Mutex<Vec<(u32, u32)>>,
}

impl Actor for OnThread {
    type Context = SyncContext<Self>;
}

impl Handler<Task<Job>> for OnThread {
    type Result = Done;

    fn handle(&mut self, job: Task<Job>, _: &mut Self::Context) -> Done {
        let threads = &*self.0;
        threads.runs.lock().unwrap().push((job.id, job.attempt()));
        assert!(job.id != 100 || job.attempt() > 1, "a handler panics in this test");
        let mut running = threads.running.lock().unwrap();
        *running += 1;
        threads.most.fetch_max(*running, SeqCst);
        threads.changed.notify_all();
        // Once enough have run side by side, all go on.
        let few = |_: &mut usize| threads.most.load(SeqCst) < threads.wanted.load(SeqCst);
        let (mut running, late) =
            threads.changed.wait_timeout_while(running, Duration::from_secs(15), few).unwrap();
        *running -= 1;
        assert!(!late.timed_out(), "too few threads");
        Ok(())
    }
}

/// TSK-67: a `SyncArbiter` of 3 threads: three at once; a panic costs its own task, and one thread for ever.
#[actix::test]
async fn a_sync_arbiter() {
    let jobs = Jobs::new().await;
    let threads = Arc::new(Threads::default());
    threads.wanted.store(3, SeqCst);
    let inner = threads.clone();
    let pool = SyncArbiter::start(3, move || OnThread(inner.clone()));
    jobs.queue.tasks::<Job>().at_once(6).to(pool.clone()).await.unwrap();
    jobs.publish(1..=6).await;
    jobs.until_unsettled(0).await;
    let runs = || std::mem::take(&mut *threads.runs.lock().unwrap());
    let until_runs = async |n| {
        let all = || std::future::ready((threads.runs.lock().unwrap().len() == n).then_some(()));
        crate::support::eventually("all jobs", 20, all).await;
        jobs.until_empty().await;
    };
    until_runs(6).await;
    assert_eq!((runs().len(), threads.most.load(SeqCst)), (6, 3));

    threads.wanted.store(1, SeqCst);
    jobs.publish([100]).await;
    until_runs(2).await;
    assert_eq!(runs(), [(100, 1), (100, 2)]);

    threads.wanted.store(2, SeqCst);
    threads.most.store(0, SeqCst);
    jobs.publish(1..=6).await;
    until_runs(6).await;
    assert_eq!((runs().len(), threads.most.load(SeqCst)), (6, 2));
    assert!(pool.connected());
    assert!(jobs.ids("dead").await.is_empty());
}
