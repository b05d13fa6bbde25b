//! The builder and the handle of supervised workers.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Addr, Context, Handler, Recipient};
use actix_pika_actors::facade::{self, Watchers};
use actix_rt::{Arbiter, System};
use futures_util::future::join_all;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    WorkerEvent,
    feed::{Fed, Feed},
    link::SharedAddr,
    thread::{Shared, Thread},
};
use crate::{
    Result,
    codec::Codec,
    runtime,
    tasks::{DrainReport, Task, Tasks},
};

/// Ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Handle of an actor that handles the tasks of several queues, and is built again after a panic or a stop. See the
/// [module](super).
///
/// Dropping the handle ends nothing. Clones are the same worker.
///
/// **Over a reconnect**: the worker and its consumers go on.
///
/// # Examples
/// ```no_run
/// # use actix::prelude::*;
/// # use actix_pika::{Queue, worker::SupervisedWorker, tasks::{Done, Task}};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Welcome { to: String }
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Bill { to: String }
/// # #[derive(Default)] struct Mailer;
/// # impl Actor for Mailer { type Context = Context<Self>; }
/// # impl Handler<Task<Welcome>> for Mailer { type Result = Done; fn handle(&mut self, _: Task<Welcome>, _: &mut Context<Self>) -> Done { Ok(()) } }
/// # impl Handler<Task<Bill>> for Mailer { type Result = Done; fn handle(&mut self, _: Task<Bill>, _: &mut Context<Self>) -> Done { Ok(()) } }
/// # async fn run(welcome: Queue, bills: Queue) -> actix_pika::Result<()> {
/// use std::time::Duration;
///
/// let mailer = SupervisedWorker::new(Mailer::default)
///     .feed(welcome.tasks::<Welcome>().at_once(8))
///     .feed(bills.tasks::<Bill>())
///     .start()
///     .await?;
/// // ... until the process has to end:
/// let report = mailer.drain(Duration::from_secs(20)).await;
/// println!("{} done, {} given back", report.finished, report.given_back);
/// # Ok(()) }
/// ```
pub struct SupervisedWorker<A: Actor>(Arc<Handle<A>>);

struct Handle<A: Actor> {
    shared: Arc<Shared<A>>,
    threads: Vec<(SharedAddr<A>, watch::Receiver<Option<DrainReport>>)>,
}

/// Builds a [`SupervisedWorker`].
#[must_use = "a builder does nothing until it is started"]
pub struct WorkerBuilder<A: Actor> {
    factory: Box<dyn FnMut() -> A + Send>,
    feeds: Vec<Box<dyn Feed<A>>>,
    threads: Option<usize>,
    watchers: Watchers<WorkerEvent>,
}

impl<A: Actor<Context = Context<A>>> SupervisedWorker<A> {
    /// Returns a builder of a worker that `factory` makes, now and after each end.
    ///
    /// # Examples
    /// See [`SupervisedWorker`].
    #[allow(clippy::new_ret_no_self, reason = "the handle exists once the worker is started")]
    pub fn new(factory: impl FnMut() -> A + Send + 'static) -> WorkerBuilder<A> {
        let watchers = Watchers::new("supervised worker");
        WorkerBuilder { factory: Box::new(factory), feeds: Vec::new(), threads: None, watchers }
    }

    /// Returns the address of the worker, or `None` while there is none: after an end, until the next one is built. With
    /// several threads, the address of the first one that has a worker.
    ///
    /// It is the address of this worker, not of the next one: ask again instead of keeping it.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::prelude::*;
    /// # use actix_pika::worker::SupervisedWorker;
    /// # struct Mailer;
    /// # impl Actor for Mailer { type Context = Context<Self>; }
    /// # fn run(mailer: SupervisedWorker<Mailer>) {
    /// if let Some(mailer) = mailer.addr() {
    ///     assert!(mailer.connected());
    /// }
    /// # }
    /// ```
    pub fn addr(&self) -> Option<Addr<A>> {
        self.addrs().into_iter().next()
    }

    /// Returns the addresses of the workers of all threads that have one.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::prelude::*;
    /// # use actix_pika::worker::SupervisedWorker;
    /// # struct Mailer;
    /// # impl Actor for Mailer { type Context = Context<Self>; }
    /// # fn run(mailer: SupervisedWorker<Mailer>) {
    /// println!("{} workers run", mailer.addrs().len());
    /// # }
    /// ```
    pub fn addrs(&self) -> Vec<Addr<A>> {
        let addr = |addr: &SharedAddr<A>| addr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.threads.iter().filter_map(|(shared, _)| addr(shared)).collect()
    }

    /// Sends the events of the worker to an actor, from now on. After the last one, it gets
    /// [`Finished`](WorkerEvent::Finished) only. [`WorkerBuilder::watch`] misses none.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::prelude::*;
    /// # use actix_pika::worker::{SupervisedWorker, WorkerEvent};
    /// # struct Mailer;
    /// # impl Actor for Mailer { type Context = Context<Self>; }
    /// # fn run(mailer: SupervisedWorker<Mailer>, alarm: Recipient<WorkerEvent>) {
    /// mailer.watch(alarm);
    /// # }
    /// ```
    pub fn watch(&self, watcher: impl Into<Recipient<WorkerEvent>>) {
        self.0.shared.watchers.lock().unwrap_or_else(PoisonError::into_inner).add_recipient(watcher.into());
    }

    /// Stops taking tasks (`basic.cancel`), waits up to `limit` for those that have begun, and stops the worker.
    ///
    /// What has not begun returns to the queues. So does, at the limit, what still runs, and what a worker that ends
    /// meanwhile leaves: none is built any more. Draining again returns the same report; the earliest limit counts.
    /// Before RabbitMQ 4.3, a return counts toward the delivery limit of a quorum queue
    /// ([`TaskConsumer::drain`](crate::tasks::TaskConsumer::drain)).
    ///
    /// **Over a reconnect**: a worker that was drained does not start again.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::prelude::*;
    /// # use actix_pika::worker::SupervisedWorker;
    /// # struct Mailer;
    /// # impl Actor for Mailer { type Context = Context<Self>; }
    /// # async fn run(mailer: SupervisedWorker<Mailer>) {
    /// let report = mailer.drain(std::time::Duration::from_secs(20)).await;
    /// assert_eq!(report.abandoned, 0);
    /// # }
    /// ```
    pub async fn drain(&self, limit: Duration) -> DrainReport {
        self.request_drain(limit);
        let mut sum = DrainReport::default();
        for (_, report) in &self.0.threads {
            let mut report = report.clone();
            // An error is the end of the thread.
            if let Ok(report) = report.wait_for(Option::is_some).await {
                sum = sum.plus(report.unwrap_or_default());
            }
        }
        sum
    }
}

impl<A: Actor> SupervisedWorker<A> {
    fn request_drain(&self, limit: Duration) {
        // Capped, so that the deadline cannot overflow.
        let by = Instant::now() + limit.min(LONGEST);
        self.0.shared.drain_by.send_if_modified(|known| {
            let is_earlier = known.is_none_or(|known| by < known);
            if is_earlier {
                *known = Some(by);
            }
            is_earlier
        });
    }

    /// Asks it to begin no more tasks.
    pub(crate) fn request_stop(&self) {
        self.request_drain(LONGEST);
    }

    /// Returns whether each thread takes tasks.
    pub(crate) fn is_running(&self) -> bool {
        self.0.shared.drain_by.borrow().is_none()
            && self.0.shared.running.load(Ordering::Acquire) == self.0.threads.len()
    }
}

impl<A: Actor<Context = Context<A>>> WorkerBuilder<A> {
    /// Adds the tasks of a queue. Its options, such as [`Tasks::at_once`], hold for each thread.
    ///
    /// # Examples
    /// See [`SupervisedWorker`].
    pub fn feed<T, C>(mut self, tasks: Tasks<T, C>) -> Self
    where
        A: Handler<Task<T>>,
        T: Send + 'static,
        C: Codec<T>,
    {
        self.feeds.push(Box::new(Fed::new(tasks)));
        self
    }

    /// Sets that the worker runs on so many arbiters of its own, with a worker and a consumer of each queue on each.
    /// Unless set, it runs on the arbiter of the caller.
    ///
    /// What a thread leaves when its worker ends is handled by the next worker of that thread. A consumer tag that was set
    /// gets the number of the thread appended: `mail-0`.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::prelude::*;
    /// # use actix_pika::{Queue, worker::SupervisedWorker, tasks::{Done, Task}};
    /// # struct Resizer;
    /// # impl Actor for Resizer { type Context = Context<Self>; }
    /// # impl Handler<Task<String>> for Resizer { type Result = Done; fn handle(&mut self, _: Task<String>, _: &mut Context<Self>) -> Done { Ok(()) } }
    /// # async fn run(images: Queue) -> actix_pika::Result<()> {
    /// let resizer = SupervisedWorker::new(|| Resizer).feed(images.tasks::<String>().fair()).threads(4).start().await?;
    /// assert_eq!(resizer.addrs().len(), 4);
    /// # Ok(()) }
    /// ```
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// Sends the events of the worker to an actor, from the first one on.
    ///
    /// # Examples
    /// ```no_run
    /// # use actix::prelude::*;
    /// # use actix_pika::{Queue, worker::{SupervisedWorker, WorkerEvent}, tasks::{Done, Task}};
    /// # struct Resizer;
    /// # impl Actor for Resizer { type Context = Context<Self>; }
    /// # impl Handler<Task<String>> for Resizer { type Result = Done; fn handle(&mut self, _: Task<String>, _: &mut Context<Self>) -> Done { Ok(()) } }
    /// # async fn run(images: Queue, alarm: Recipient<WorkerEvent>) -> actix_pika::Result<()> {
    /// SupervisedWorker::new(|| Resizer).feed(images.tasks::<String>()).watch(alarm).start().await?;
    /// # Ok(()) }
    /// ```
    pub fn watch(mut self, watcher: impl Into<Recipient<WorkerEvent>>) -> Self {
        self.watchers.add_recipient(watcher.into());
        self
    }

    /// Builds the worker and starts its consumers (`basic.consume`).
    ///
    /// Dropping the future ends what was started.
    ///
    /// # Errors
    /// `Refused` without a code if it was given no tasks, or if there is no arbiter (as under `#[tokio::main]`); `Stopped`
    /// if the factory panics. Otherwise those of [`Consume`](crate::Consume).
    ///
    /// # Examples
    /// See [`SupervisedWorker`].
    pub async fn start(self) -> Result<SupervisedWorker<A>> {
        if self.feeds.is_empty() {
            return Err(facade::refused("a worker without tasks has nothing to do; add some with feed"));
        }
        let here = runtime::here().filter(|_| System::is_registered());
        let Some(here) = here else {
            return Err(facade::refused("a worker runs on an arbiter, and there is none here"));
        };
        let count = self.threads.unwrap_or(1);
        let shared = Arc::new(Shared {
            factory: Mutex::new(self.factory),
            watchers: Mutex::new(self.watchers),
            running: AtomicUsize::new(count),
            drain_by: watch::Sender::new(None),
            home: self.threads.map(|_| here),
        });
        let (mut threads, mut starts) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (addr, (report, reported)) = (SharedAddr::<A>::default(), watch::channel(None));
            threads.push((addr.clone(), reported));
            let (started, start) = oneshot::channel();
            starts.push(start);
            let tag_number = self.threads.map(|_| number);
            let feeds = self.feeds.iter().map(|feed| feed.copy(tag_number)).collect();
            let thread = Thread { number, shared: shared.clone(), feeds, addr, report };
            if self.threads.is_some() {
                Arbiter::new().spawn_fn(move || {
                    actix_rt::spawn(async move {
                        thread.run(started).await;
                        Arbiter::current().stop();
                    });
                });
            } else {
                actix_rt::spawn(thread.run(started));
            }
        }
        let worker = SupervisedWorker(Arc::new(Handle { shared, threads }));
        let unfinished = EndUnlessStarted(Some(&worker));
        let stopped = |_| Err(facade::stopped("the arbiter of a worker has ended"));
        let starts = join_all(starts).await.into_iter().map(|start| start.unwrap_or_else(stopped));
        match starts.collect::<Result<Vec<()>>>() {
            Ok(_) => {
                unfinished.started();
                Ok(worker)
            }
            Err(error) => {
                drop(unfinished);
                worker.drain(Duration::ZERO).await;
                Err(error)
            }
        }
    }
}

/// Ends the threads when it is dropped.
struct EndUnlessStarted<'a, A: Actor>(Option<&'a SupervisedWorker<A>>);

impl<A: Actor> EndUnlessStarted<'_, A> {
    fn started(mut self) {
        self.0 = None;
    }
}

impl<A: Actor> Drop for EndUnlessStarted<'_, A> {
    fn drop(&mut self) {
        if let Some(worker) = self.0 {
            worker.0.shared.drain_by.send_replace(Some(Instant::now()));
        }
    }
}

impl<A: Actor> Clone for SupervisedWorker<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> fmt::Debug for SupervisedWorker<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.0.shared.running.load(Ordering::Relaxed);
        f.debug_struct("SupervisedWorker").field("running_threads", &running).finish_non_exhaustive()
    }
}

impl<A: Actor> fmt::Debug for WorkerBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder").field("threads", &self.threads).finish_non_exhaustive()
    }
}
