//! Master and workers: a master creates tasks by the name of their queue, and workers take them from it.
//!
//! It is the pattern of aio-pika's `Master`, on the [`tasks`](crate::tasks) of this crate: a worker is a consumer of
//! tasks, and what its handler returns settles the message. With [`Json`], and `GzipJson` of the feature `gzip`, the tasks
//! are those of aio-pika's `JsonMaster` and `CompressedJsonMaster`, so that Python and Rust work for each other.
//!
//! | aio-pika | here |
//! |---|---|
//! | `JsonMaster(channel)` | [`Master::new(&channel)`](Master::new) |
//! | `CompressedJsonMaster(channel)` | `Master::new(&channel).codec(GzipJson::new())` |
//! | `await master.create_task("resize", dict(width=3))` | [`master.create_task("resize", &Resize { width: 3 })`](Master::create_task); any type with serde's `Serialize` and `Deserialize`, of which aio-pika reads objects |
//! | `await master.proxy.resize(width=3)` | [`master.proxy::<Resize>("resize").create(&..)`](Master::proxy) |
//! | `await master.create_worker("resize", function)` | [`master.create_worker("resize", handler)`](Master::create_worker), of a durable queue; `DeclareQueue::new("resize").durable(false)` is aio-pika's default |
//! | `await worker.close()` | [`worker.stop()`](TaskConsumer::stop), or [`drain`](TaskConsumer::drain) |
//! | `raise RejectMessage()`, `raise NackMessage()` | `Err(Failure::reject(cause))`: both dead-letter the message |
//! | `raise RejectMessage(requeue=True)`, `raise NackMessage(requeue=True)` | `Err(Failure::requeue(cause))` |
//! | another exception, `requeue=True` | any error, with [`OnFailure::Requeue`] |
//! | another exception, `requeue=False` | any error, with [`OnFailure::Reject`] |
//! | `reject_on_redelivered=True` | [`reject_redelivered(true)`](Master::reject_redelivered) |
//!
//! Unless set, an error is retried by the policy of [`tasks`](crate::tasks): aio-pika's default, to requeue it at once, runs a
//! task that always fails without a pause and without end.
//!
//! # Examples
//! ```no_run
//! use actix_pika::{master::Master, tasks::{OrReject, Task}};
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Resize { file: String, width: u32 }
//!
//! # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
//! let master = Master::new(&channel);
//! let worker = master.create_worker("resize", |task: Task<Resize>| async move {
//!     let image = std::fs::read(&task.file).or_reject()?; // there is no such file
//!     println!("{} bytes to {} pixels", image.len(), task.width);
//!     Ok(())
//! });
//! let worker = worker.await?;
//!
//! master.create_task("resize", &Resize { file: "7.png".into(), width: 640 }).await?;
//! let resize = master.proxy::<Resize>("resize");
//! resize.create(&Resize { file: "8.png".into(), width: 640 }).await?;
//! worker.drain(std::time::Duration::from_secs(20)).await;
//! # Ok(()) }
//! ```

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures_util::FutureExt;

pub use self::policy::OnFailure;
use self::policy::Policy;
use crate::{
    Channel, DeclareQueue, Publishing, Result,
    codec::{Codec, Json},
    hook::PublishKind,
    message::Confirmation,
    tasks::{Done, Failure, Task, TaskConsumer},
};

mod policy;

/// Creates tasks, and workers that take them, on one channel.
///
/// **Over a reconnect**: tasks that the broker has not confirmed are sent again; workers go on, see
/// [`Tasks`](crate::tasks::Tasks).
///
/// # Examples
/// ```no_run
/// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
/// use actix_pika::master::Master;
///
/// Master::new(&channel).create_task("resize", &("7.png".to_owned(), 640)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Master<C = Json> {
    channel: Channel,
    codec: C,
    at_once: usize,
    policy: Policy,
}

impl Master {
    /// Creates a master whose tasks are JSON.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// let master = actix_pika::master::Master::new(&channel);
    /// # }
    /// ```
    pub fn new(channel: &Channel) -> Self {
        Self { channel: channel.clone(), codec: Json, at_once: 1, policy: Policy::default() }
    }
}

impl<C> Master<C> {
    /// Sets the codec; JSON unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # #[cfg(feature = "gzip")]
    /// # fn run(channel: actix_pika::Channel) {
    /// use actix_pika::{codec::GzipJson, master::Master};
    ///
    /// let master = Master::new(&channel).codec(GzipJson::new());
    /// # }
    /// ```
    pub fn codec<D>(self, codec: D) -> Master<D> {
        Master { channel: self.channel, codec, at_once: self.at_once, policy: self.policy }
    }

    /// Sets how many tasks each worker runs side by side; 1 unless set, which keeps the order of the queue.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// let master = actix_pika::master::Master::new(&channel).at_once(8);
    /// # }
    /// ```
    pub fn at_once(mut self, tasks: usize) -> Self {
        self.at_once = tasks;
        self
    }

    /// Sets what becomes of tasks whose handler fails in another way than by
    /// [`Failure::reject`] or [`Failure::requeue`]; they are retried unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// use actix_pika::master::{Master, OnFailure};
    ///
    /// let master = Master::new(&channel).on_failure(OnFailure::Reject);
    /// # }
    /// ```
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.policy.on_failure = on_failure;
        self
    }

    /// Sets whether such a failure of a task that the broker had delivered before rejects it; it does not unless set. A
    /// reconnect makes tasks redelivered, too.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// use actix_pika::master::{Master, OnFailure};
    ///
    /// // Each task is tried twice.
    /// let master = Master::new(&channel).on_failure(OnFailure::Requeue).reject_redelivered(true);
    /// # }
    /// ```
    pub fn reject_redelivered(mut self, reject: bool) -> Self {
        self.policy.reject_redelivered = reject;
        self
    }

    /// Creates a task: publishes it to the queue of this name (`basic.publish`), persistent and mandatory.
    ///
    /// # Errors
    /// `Unroutable` if there is no such queue, `Codec` if the task cannot be encoded, otherwise those of
    /// [`Exchange::publish`](crate::Exchange::publish).
    ///
    /// **Over a reconnect**: a task without its confirm is sent again, so that it may arrive twice.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(master: actix_pika::master::Master) -> actix_pika::Result<()> {
    /// master.create_task("resize", &("7.png".to_owned(), 640)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn create_task<T>(&self, queue: &str, task: &T) -> Result<Confirmation>
    where
        C: Codec<T>,
    {
        self.create_task_with(queue, task, |message| message).await
    }

    /// Creates a task whose message has further properties.
    ///
    /// # Errors
    /// Those of [`create_task`](Self::create_task).
    ///
    /// **Over a reconnect**: as [`create_task`](Self::create_task).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(master: actix_pika::master::Master) -> actix_pika::Result<()> {
    /// master.create_task_with("resize", &("7.png".to_owned(), 640), |message| message.priority(9)).await?;
    /// # Ok(()) }
    /// ```
    pub async fn create_task_with<T>(
        &self,
        queue: &str,
        task: &T,
        properties: impl FnOnce(Publishing) -> Publishing,
    ) -> Result<Confirmation>
    where
        C: Codec<T>,
    {
        let message = Publishing::new(self.codec.encode(task)?).content_type(self.codec.content_type());
        let exchange = self.channel.default_exchange();
        exchange.publish_hooked(PublishKind::Message, properties(message), queue).await
    }

    /// Returns a proxy of the tasks of one queue.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(master: actix_pika::master::Master) -> actix_pika::Result<()> {
    /// let resize = master.proxy::<(String, u32)>("resize");
    /// resize.create(&("7.png".to_owned(), 640)).await?;
    /// # Ok(()) }
    /// ```
    pub fn proxy<T>(&self, queue: impl Into<String>) -> TaskProxy<T, C>
    where
        C: Codec<T> + Clone,
    {
        TaskProxy { master: self.clone(), queue: queue.into(), task: PhantomData }
    }

    /// Declares a queue and starts a worker (`basic.consume`): a closure handles the tasks of the queue, on the arbiter
    /// of the caller.
    ///
    /// [`Tasks`](crate::tasks::Tasks) has more options, and actors as handlers: `queue.tasks::<T>().codec(..)`.
    ///
    /// # Errors
    /// Those of [`Channel::declare_queue`] and [`Tasks::for_each`](crate::tasks::Tasks::for_each).
    ///
    /// **Over a reconnect**: the worker goes on; see [`Tasks`](crate::tasks::Tasks).
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(master: actix_pika::master::Master) -> actix_pika::Result<()> {
    /// use actix_pika::{DeclareQueue, tasks::{Failure, Task}};
    ///
    /// let resize = DeclareQueue::new("resize").quorum();
    /// let worker = master.create_worker(resize, |task: Task<(String, u32)>| async move {
    ///     if task.1 > 4096 { Err(Failure::reject("too wide")) } else { Ok(()) }
    /// });
    /// let worker = worker.await?;
    /// worker.stop().await;
    /// # Ok(()) }
    /// ```
    pub async fn create_worker<T, F, Fut>(
        &self,
        queue: impl Into<DeclareQueue>,
        mut handler: F,
    ) -> Result<TaskConsumer>
    where
        T: 'static,
        C: Codec<T> + Clone,
        F: FnMut(Task<T>) -> Fut + 'static,
        Fut: Future<Output = Done> + 'static,
    {
        let queue = self.channel.declare_queue(queue.into()).await?;
        let policy = self.policy;
        let tasks = queue.tasks::<T>().codec(self.codec.clone()).at_once(self.at_once);
        let worker = tasks.for_each(move |task| {
            let redelivered = task.redelivered();
            let started = catch_unwind(AssertUnwindSafe(|| handler(task)));
            async move {
                let done = match started {
                    Ok(run) => AssertUnwindSafe(run).catch_unwind().await,
                    Err(panic) => Err(panic),
                };
                done.unwrap_or_else(|_| Err(Failure::retry("the handler has panicked"))).map_err(|failure| {
                    let verdict = policy.verdict(failure.verdict(), redelivered);
                    failure.with_verdict(verdict)
                })
            }
        });
        worker.await
    }

    /// Returns the channel.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(master: actix_pika::master::Master) {
    /// assert!(!master.channel().is_closed());
    /// # }
    /// ```
    pub fn channel(&self) -> &Channel {
        &self.channel
    }
}

/// Creates tasks of one type for one queue ([`Master::proxy`]).
///
/// # Examples
/// ```no_run
/// # async fn run(resize: actix_pika::master::TaskProxy<(String, u32)>) -> actix_pika::Result<()> {
/// resize.create(&("7.png".to_owned(), 640)).await?;
/// # Ok(()) }
/// ```
pub struct TaskProxy<T, C = Json> {
    master: Master<C>,
    queue: String,
    task: PhantomData<fn(&T)>,
}

impl<T, C: Codec<T>> TaskProxy<T, C> {
    /// Creates a task, as [`Master::create_task`].
    ///
    /// # Errors
    /// Those of [`Master::create_task`].
    ///
    /// **Over a reconnect**: as [`Master::create_task`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(resize: actix_pika::master::TaskProxy<(String, u32)>) -> actix_pika::Result<()> {
    /// assert!(resize.create(&("7.png".to_owned(), 640)).await?.is_confirmed());
    /// # Ok(()) }
    /// ```
    pub async fn create(&self, task: &T) -> Result<Confirmation> {
        self.master.create_task(&self.queue, task).await
    }

    /// Returns the name of the queue.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(resize: actix_pika::master::TaskProxy<(String, u32)>) {
    /// assert_eq!(resize.queue(), "resize");
    /// # }
    /// ```
    pub fn queue(&self) -> &str {
        &self.queue
    }
}

impl<T, C: Clone> Clone for TaskProxy<T, C> {
    fn clone(&self) -> Self {
        Self { master: self.master.clone(), queue: self.queue.clone(), task: PhantomData }
    }
}

impl<C> fmt::Debug for Master<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Master")
            .field("channel", &self.channel.number())
            .field("at_once", &self.at_once)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl<T, C> fmt::Debug for TaskProxy<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskProxy").field("queue", &self.queue).finish_non_exhaustive()
    }
}
