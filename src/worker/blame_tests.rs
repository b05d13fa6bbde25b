//! Blame, for each response type of actix, without a broker: of four tasks `a`, `bad`, `c`, `d`, the second panics.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{pending, poll_fn},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::sync::{AcquireError, Semaphore};

use super::{
    link::Link,
    running_actor::{WorkerEnd, live},
};
use crate::{
    hook::TaskScope,
    tasks::{Blame, Done, Front, Progress, Ran, Task, TaskToken, blame_of_ended},
    testing::TestContent,
};

/// What the handlers have done.
#[derive(Clone)]
struct World {
    begun: Arc<Mutex<Vec<String>>>,
    /// Lets the handler of `bad` panic.
    bomb: Arc<Semaphore>,
    panics: Arc<AtomicUsize>,
    /// Lets the other handlers end.
    go: Arc<Semaphore>,
}

impl World {
    fn new(bomb: usize, go: usize) -> Self {
        Self {
            begun: Arc::default(),
            bomb: Arc::new(Semaphore::new(bomb)),
            panics: Arc::default(),
            go: Arc::new(Semaphore::new(go)),
        }
    }

    fn begin(&self, task: &Task<String>) {
        self.begun.lock().unwrap().push(String::clone(task));
    }

    fn work_now(&self, task: &Task<String>) -> Done {
        self.begin(task);
        assert!(**task != "bad", "a handler panics in this test");
        Ok(())
    }

    async fn panic(&self) -> Result<Infallible, AcquireError> {
        self.bomb.acquire().await?.forget();
        self.panics.fetch_add(1, Ordering::SeqCst);
        panic!("a handler panics in this test");
    }

    async fn work(self, task: Task<String>) -> Done {
        self.begin(&task);
        self.finish(task).await
    }

    async fn finish(self, task: Task<String>) -> Done {
        if *task == "bad" {
            self.panic().await?;
        }
        self.go.acquire().await?.forget();
        Ok(())
    }
}

macro_rules! worker {
    ($name:ident, $result:ty, |$this:ident, $task:ident, $ctx:ident| $handle:expr) => {
        struct $name(World);

        impl Actor for $name {
            type Context = Context<Self>;
        }

        impl Handler<Task<String>> for $name {
            type Result = $result;

            fn handle(&mut self, $task: Task<String>, $ctx: &mut Self::Context) -> Self::Result {
                let $this = self;
                $handle
            }
        }
    };
}

worker!(Now, Done, |this, task, _ctx| this.0.work_now(&task));
worker!(Wrapped, MessageResult<Task<String>>, |this, task, _ctx| MessageResult(this.0.work_now(&task)));
worker!(InFuture, ResponseFuture<Done>, |this, task, _ctx| Box::pin(this.0.clone().work(task)));
worker!(Responding, Response<Done>, |this, task, _ctx| Response::fut(this.0.clone().work(task)));
worker!(BeforeFuture, ResponseFuture<Done>, |this, task, _ctx| {
    assert!(*task != "bad", "a handler panics in this test");
    Box::pin(this.0.clone().work(task))
});
worker!(InActorFuture, ResponseActFuture<Self, Done>, |this, task, _ctx| {
    this.0.begin(&task);
    Box::pin(this.0.clone().finish(task).into_actor(this))
});
worker!(Atomic, AtomicResponse<Self, Done>, |this, task, _ctx| {
    AtomicResponse::new(Box::pin(this.0.clone().work(task).into_actor(this)))
});
worker!(Waiting, ResponseFuture<Done>, |this, task, ctx| {
    ctx.wait(tokio::task::yield_now().into_actor(this));
    Box::pin(this.0.clone().work(task))
});
worker!(Unlooked, Done, |this, task, _ctx| {
    let _unlooked = task;
    panic!("a handler panics in this test, after {:?}", this.0.begun);
});
// The token is gone before the panic: nobody knows who is guilty.
worker!(TokenDropped, ResponseActFuture<Self, Done>, |this, task, _ctx| {
    let world = this.0.clone();
    let work = async move {
        let (name, ..) = task.into_parts();
        world.begun.lock().unwrap().push(name.clone());
        if name == "bad" {
            world.panic().await?;
        }
        world.go.acquire().await?.forget();
        Ok(())
    };
    Box::pin(work.into_actor(this))
});
worker!(Stopping, ResponseActFuture<Self, Done>, |this, task, ctx| {
    if *task == "bad" {
        ctx.stop();
    }
    Box::pin(this.0.clone().work(task).into_actor(this))
});

/// The workers of a link, built again at once.
struct Bench<A: Actor> {
    link: Link<A>,
    ends: Rc<RefCell<Vec<WorkerEnd>>>,
}

impl<A: Actor<Context = Context<A>> + Handler<Task<String>>> Bench<A> {
    fn start(mut factory: impl FnMut() -> A + 'static) -> Self {
        let (link, ends) = (Link::new(Arc::default()), Rc::<RefCell<Vec<_>>>::default());
        let (workers, noted) = (link.clone(), ends.clone());
        actix_rt::spawn(async move {
            loop {
                let context = Context::new();
                workers.open(context.address());
                let end = live(context, factory(), pending()).await;
                noted.borrow_mut().push(end);
                workers.close();
            }
        });
        Self { link, ends }
    }

    /// Does what the consumer of a queue does with one task.
    async fn call(&self, name: &str) -> String {
        let mut front = self.link.front::<String>();
        let mut accidents = 0;
        loop {
            poll_fn(|cx| front.poll_ready(cx)).await.unwrap();
            let (token, progress) = TaskToken::new();
            let task =
                Task::new(name.to_owned(), TestContent::new("").build(), 1, token, TaskScope::default());
            let ran = front.start(task).unwrap().await;
            match (ran, progress.get()) {
                (Ran::Done(done), _) => return done.map_or_else(|e| e.to_string(), |()| "done".into()),
                (Ran::Panicked, progress) => {
                    assert_eq!(progress, Progress::PanickedBegun);
                    return PANICKED.into();
                }
                (Ran::WorkerEnded, progress) => match blame_of_ended(progress) {
                    Blame::Guilty => return PANICKED.into(),
                    Blame::NotBegun => {}
                    Blame::CutOff | Blame::Suspect if accidents == 2 => return THRICE.into(),
                    Blame::CutOff | Blame::Suspect => accidents += 1,
                },
                (Ran::TimedOut | Ran::Unanswered, _) => panic!("not of a worker"),
            }
        }
    }

    async fn call_all(&self) -> Vec<String> {
        let calls = ["a", "bad", "c", "d"].map(|name| self.call(name));
        let time = Duration::from_secs(20);
        tokio::time::timeout(time, join_all(calls)).await.expect("all tasks are answered in time")
    }
}

const PANICKED: &str = "the handler panicked";
const THRICE: &str = "cut off three times";
const GUILTY_FOUND: [&str; 4] = ["done", PANICKED, "done", "done"];

/// Calls a worker with the four tasks. Returns the answers, what was begun, and how many workers have panicked.
async fn run<A>(world: World, factory: impl Fn(World) -> A + 'static) -> (Vec<String>, String, usize)
where
    A: Actor<Context = Context<A>> + Handler<Task<String>>,
{
    let inner = world.clone();
    let bench = Bench::start(move || factory(inner.clone()));
    let answers = bench.call_all().await;
    let ends = bench.ends.borrow();
    assert!(ends.iter().all(|end| *end == WorkerEnd::Panicked));
    let begun = world.begun.lock().unwrap().join(" ");
    (answers, begun, ends.len())
}

/// Lets `bad` panic `times` times, each time when the four tasks have begun, and then the others end.
fn panic_when_all_run(world: &World, times: usize) {
    let world = world.clone();
    actix_rt::spawn(async move {
        for time in 1..=times {
            while world.begun.lock().unwrap().len() < 4 * time {
                tokio::task::yield_now().await;
            }
            world.bomb.add_permits(1);
            while world.panics.load(Ordering::SeqCst) < time {
                tokio::task::yield_now().await;
            }
        }
        world.go.add_permits(100);
    });
}

#[actix_rt::test]
async fn a_handler_that_answers_at_once_costs_its_own_task() {
    let now = run(World::new(0, 0), Now).await;
    assert_eq!(now, (GUILTY_FOUND.map(String::from).to_vec(), "a bad c d".into(), 1));
    let wrapped = run(World::new(0, 0), Wrapped).await;
    assert_eq!(wrapped, now);
}

#[actix_rt::test]
async fn a_future_of_a_handler_costs_its_own_task_and_the_worker_goes_on() {
    let world = World::new(0, 0);
    panic_when_all_run(&world, 1);
    let answers = run(world, InFuture).await;
    assert_eq!(answers, (GUILTY_FOUND.map(String::from).to_vec(), "a bad c d".into(), 0));
    let world = World::new(0, 0);
    panic_when_all_run(&world, 1);
    assert_eq!(run(world, Responding).await, answers);
    let world = World::new(0, 0);
    panic_when_all_run(&world, 1);
    assert_eq!(run(world, Waiting).await, answers);
}

#[actix_rt::test]
async fn a_panic_before_the_future_ends_the_worker_and_no_future_before_it() {
    let answers = run(World::new(0, 100), BeforeFuture).await;
    assert_eq!(answers, (GUILTY_FOUND.map(String::from).to_vec(), "a c d".into(), 1));
}

#[actix_rt::test]
async fn an_actor_future_costs_its_own_task_and_the_others_run_again_in_order() {
    let world = World::new(0, 0);
    panic_when_all_run(&world, 1);
    let answers = run(world, InActorFuture).await;
    assert_eq!(answers, (GUILTY_FOUND.map(String::from).to_vec(), "a bad c d a c d".into(), 1));
}

#[actix_rt::test]
async fn an_atomic_response_costs_its_own_task_and_the_others_wait() {
    let answers = run(World::new(1, 100), Atomic).await;
    assert_eq!(answers, (GUILTY_FOUND.map(String::from).to_vec(), "a bad c d".into(), 1));
}

#[actix_rt::test]
async fn a_handler_that_panics_before_it_looks_is_found() {
    let (answers, _, ends) = run(World::new(0, 0), Unlooked).await;
    assert_eq!((answers, ends), ([PANICKED; 4].map(String::from).to_vec(), 4));
}

#[actix_rt::test]
async fn without_a_token_no_one_is_blamed_until_the_third_accident() {
    let world = World::new(0, 0);
    panic_when_all_run(&world, 3);
    let (answers, begun, ends) = run(world, TokenDropped).await;
    assert_eq!((answers, ends), ([THRICE; 4].map(String::from).to_vec(), 3));
    assert_eq!(begun, ["a bad c d"; 3].join(" "));
}

#[actix_rt::test]
async fn a_worker_that_stops_leaves_its_tasks_to_the_next_one() {
    let world = World::new(0, 100);
    let inner = world.clone();
    let bench = Bench::start(move || Stopping(inner.clone()));
    let answers = bench.call_all().await;
    assert_eq!(answers, [THRICE, THRICE, "done", "done"]);
    assert_eq!(*bench.ends.borrow(), [WorkerEnd::Stopped; 3]);
}

#[actix_rt::test]
async fn a_panic_in_the_end_of_an_actor_blames_no_task() {
    struct Fragile(World);

    impl Drop for Fragile {
        fn drop(&mut self) {
            panic!("an actor panics in its drop in this test");
        }
    }

    impl Actor for Fragile {
        type Context = Context<Self>;

        fn stopped(&mut self, _: &mut Self::Context) {
            panic!("an actor panics when it has stopped in this test");
        }
    }

    impl Handler<Task<String>> for Fragile {
        type Result = Done;

        fn handle(&mut self, task: Task<String>, _: &mut Self::Context) -> Done {
            self.0.work_now(&task)
        }
    }

    let answers = run(World::new(0, 0), Fragile).await;
    assert_eq!(answers, (GUILTY_FOUND.map(String::from).to_vec(), "a bad c d".into(), 1));
}

#[actix_rt::test]
async fn a_sync_arbiter_costs_its_own_task() {
    struct OnThread(World);

    impl Actor for OnThread {
        type Context = SyncContext<Self>;
    }

    impl Handler<Task<String>> for OnThread {
        type Result = Done;

        fn handle(&mut self, task: Task<String>, _: &mut Self::Context) -> Done {
            self.0.work_now(&task)
        }
    }

    let world = World::new(0, 0);
    let pool = SyncArbiter::start(2, move || OnThread(world.clone()));
    for (name, expected) in
        [("a", Progress::DroppedBegun), ("bad", Progress::PanickedBegun), ("c", Progress::DroppedBegun)]
    {
        let (token, progress) = TaskToken::new();
        let task = Task::new(name.to_owned(), TestContent::new("").build(), 1, token, TaskScope::default());
        assert_eq!(pool.send(task).await.is_ok(), name != "bad");
        assert_eq!(progress.get(), expected);
    }
    assert!(pool.connected());
}
