//! Moving messages from one queue to another: dead letters back to their jobs, or the rest of a queue to its successor.
//!
//! [`Queue::redrive`] publishes each message, waits for its confirm and then acknowledges it, so that none is lost.

use std::{
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_pika_actors::facade;
use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::{sync::Notify, time::Instant};

use self::moving::{Moving, Turn};
use crate::{
    DeclareQueue, Error, Exchange, Queue, Result,
    caught::caught,
    codec::Raw,
    retry::copy,
    tasks::{Done, Failure, Task, TaskConsumer},
};

mod moving;

/// How many messages are published and not confirmed. So many failures end a redrive.
const AT_ONCE: usize = 16;

/// How often a redrive without progress looks whether its queue is empty.
const LOOK: Duration = Duration::from_secs(1);

/// How far a [`Redrive`] is.
///
/// # Examples
/// ```
/// # use actix_pika::redrive::RedriveProgress;
/// fn percent(progress: &RedriveProgress) -> u64 {
///     let RedriveProgress { moved, failed, remaining, .. } = progress;
///     100 * moved / (moved + failed + remaining).max(1)
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedriveProgress {
    /// Messages that were published and confirmed.
    pub moved: u64,
    /// Messages that could not be published. They stay where they are.
    pub failed: u64,
    /// Messages that are still to be moved.
    pub remaining: u64,
    /// Why the last one failed.
    pub error: Option<Error>,
}

type OnProgress = dyn FnMut(&RedriveProgress) + Send;

/// Moves messages from a queue to another ([`Queue::redrive`]). It does nothing until [`run`](Self::run).
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// let redrive = channel.queue("mail.dead").redrive("mail").rate(50).limit(1_000);
/// let done = redrive.progress(|so_far| println!("{} moved", so_far.moved)).run().await?;
/// println!("{} moved, {} failed: {:?}", done.moved, done.failed, done.error);
/// # Ok(()) }
/// ```
#[must_use = "a redrive does nothing until it is run"]
pub struct Redrive {
    from: Queue,
    to: String,
    rate: Option<u32>,
    limit: u64,
    progress: Option<Box<OnProgress>>,
}

impl Queue {
    /// Moves messages of this queue to another one, through the default exchange: dead letters back to their jobs, or what
    /// is left in a queue to its successor.
    ///
    /// Each is published, confirmed and then acknowledged, so that none is lost. It keeps what a
    /// [copy](crate::retry#what-a-copy-has) keeps, its tries are counted from the beginning, and `retry-redriven` counts
    /// how often it was moved.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let moved = channel.queue("mail.dead").redrive("mail").run().await?.moved;
    /// # Ok(()) }
    /// ```
    pub fn redrive(&self, to: impl Into<String>) -> Redrive {
        Redrive { from: self.clone(), to: to.into(), rate: None, limit: u64::MAX, progress: None }
    }
}

impl Redrive {
    /// Sets how many messages are moved in a second at most, one at least; as fast as possible unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(dead: actix_pika::Queue) {
    /// let redrive = dead.redrive("mail").rate(50);
    /// # }
    /// ```
    pub fn rate(mut self, per_second: u32) -> Self {
        self.rate = Some(per_second.max(1));
        self
    }

    /// Sets how many messages are moved at most; those that are ready at the start unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(dead: actix_pika::Queue) {
    /// let one_as_a_test = dead.redrive("mail").limit(1);
    /// # }
    /// ```
    pub fn limit(mut self, messages: u64) -> Self {
        self.limit = messages;
        self
    }

    /// Sets a function that is called after each message that was moved or has failed. It must not block; if it panics,
    /// it is not called again.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(dead: actix_pika::Queue) {
    /// let redrive = dead.redrive("mail").progress(|so_far| println!("{} remain", so_far.remaining));
    /// # }
    /// ```
    pub fn progress(mut self, progress: impl FnMut(&RedriveProgress) + Send + 'static) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Moves the messages that are ready when it starts, and returns how many were moved. What arrives meanwhile, such as
    /// jobs that fail again, is left.
    ///
    /// It ends before that after 16 failures, when another consumer has taken the rest, or when the consumer ends. Dropping
    /// the future stops it: what is not acknowledged returns to the queue.
    ///
    /// # Errors
    /// Only if it cannot start: `Refused` without a code for a queue that is moved to itself, with 404 if the queue does
    /// not exist (which closes its channel), and those of [`Consume`](crate::Consume). What
    /// happens afterwards is in [`RedriveProgress::error`].
    ///
    /// **Over a reconnect**: it goes on; a message may be moved twice.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(dead: actix_pika::Queue) -> actix_pika::Result<()> {
    /// let done = dead.redrive("mail").run().await?;
    /// assert_eq!((done.failed, done.remaining), (0, 0));
    /// # Ok(()) }
    /// ```
    pub async fn run(self) -> Result<RedriveProgress> {
        if self.from.name() == self.to {
            return Err(facade::queue_refused("a queue cannot be moved to itself", &self.to));
        }
        let ready = ready(&self.from).await?;
        let moving = Moving::new(ready.min(self.limit), AT_ONCE as u64, self.rate);
        let job = Arc::new(Job {
            exchange: self.from.channel().connection().channel().await?.default_exchange(),
            to: self.to,
            state: Mutex::new(State { moving, progress: self.progress, error: None }),
            over: Notify::new(),
            ended: Notify::new(),
        });
        if !job.lock().moving.is_over() {
            let mover = job.clone();
            let tasks = self.from.tasks::<Bytes>().codec(Raw).at_once(AT_ONCE).without_hooks();
            let (runner, consumer) = tasks
                .start_closure(move |task: Task<Bytes>| {
                    let mover = mover.clone();
                    async move { mover.move_one(task).await }
                })
                .await?;
            until_over(&job, &self.from, runner, &consumer).await;
        }
        Ok(job.lock().so_far())
    }
}

/// Returns how many messages are ready in a queue.
async fn ready(queue: &Queue) -> Result<u64> {
    let declare = DeclareQueue::existing(queue.name()).robust(false);
    Ok(queue.channel().call(declare).await?.message_count.into())
}

/// Waits for the end of the runner, and stops its consumer when all is moved.
async fn until_over(job: &Job, from: &Queue, runner: impl Future, consumer: &TaskConsumer) {
    let runner = pin!(runner);
    let over = pin!(until_moved(job, from));
    if let Either::Right((_, runner)) = select(runner, over).await {
        job.lock().moving.end();
        job.ended.notify_waiters();
        let stop = pin!(consumer.stop());
        if let Either::Right((_, runner)) = select(runner, stop).await {
            runner.await;
        }
    }
}

/// Waits until everything is moved, too much has failed, or others have taken the rest.
async fn until_moved(job: &Job, from: &Queue) {
    let mut seen = None;
    while !job.lock().moving.is_over() {
        let over = pin!(job.over.notified());
        let _ = select(over, pin!(tokio::time::sleep(LOOK))).await;
        let now = job.lock().moving.idle_at();
        let is_idle = now.is_some() && seen == now;
        seen = now;
        if is_idle && ready(from).await.is_ok_and(|ready| ready == 0) {
            return;
        }
    }
}

/// What the tasks of a redrive share.
struct Job {
    exchange: Exchange,
    to: String,
    state: Mutex<State>,
    /// Everything is moved, or too much has failed.
    over: Notify,
    /// Nothing is moved any more.
    ended: Notify,
}

struct State {
    moving: Moving,
    progress: Option<Box<OnProgress>>,
    error: Option<Error>,
}

impl State {
    fn so_far(&self) -> RedriveProgress {
        let (moved, failed, remaining) = self.moving.counts();
        RedriveProgress { moved, failed, remaining, error: self.error.clone() }
    }

    fn report(&mut self) {
        let so_far = self.so_far();
        let reported = self.progress.as_mut().map(|progress| caught(|| progress(&so_far)));
        if reported == Some(None) {
            log::warn!("a redrive: the function for the progress has panicked, and is not called again");
            let progress = self.progress.take();
            caught(|| drop(progress));
        }
    }
}

impl Job {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn move_one(&self, task: Task<Bytes>) -> Done {
        let turn = self.lock().moving.begin(Instant::now());
        match turn {
            Turn::At(at) => tokio::time::sleep_until(at).await,
            Turn::No => return self.leave().await,
        }
        let message = copy::message(task.content(), copy::redriven(task.content()));
        let error = self.exchange.publish(message, &self.to).await.err();
        let has_failed = error.is_some();
        if self.note(error) {
            self.over.notify_one();
        }
        if has_failed { self.leave().await } else { Ok(()) }
    }

    /// Notes that a message was moved, or why not. Returns whether that is all.
    fn note(&self, error: Option<Error>) -> bool {
        let mut state = self.lock();
        match error {
            None => state.moving.moved(),
            Some(error) => {
                state.moving.failed();
                state.error = Some(error);
            }
        }
        state.report();
        state.moving.is_over()
    }

    /// Holds a message that is not moved until the end, since it would be delivered again at once, and returns it.
    async fn leave(&self) -> Done {
        loop {
            let ended = self.ended.notified();
            if self.lock().moving.has_ended() {
                return Err(Failure::requeue("it was not moved"));
            }
            ended.await;
        }
    }
}

impl fmt::Debug for Redrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redrive")
            .field("from", &self.from.name())
            .field("to", &self.to)
            .field("rate", &self.rate)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
