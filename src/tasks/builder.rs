//! The builder of a consumer of tasks.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    time::Duration,
};

use super::{Done, Task, TaskConsumer, Undecodable, runner::LaneOf};
use crate::{
    Consume, Queue, Result,
    codec::{Codec, Json},
    hook::{Hook, Hooks},
    message::Content,
    retry::Retry,
};

/// Builds a consumer of tasks of a queue ([`Queue::tasks`]).
///
/// [`for_each`](Self::for_each) and [`to`](Self::to) start it in the background, [`run`](Self::run) in the task of the
/// caller. What becomes of messages is listed in the [module](super).
///
/// **Over a reconnect**: the consumer goes on. A handler that runs goes on, too; its message is delivered again, and that
/// copy waits until the handler has ended.
///
/// # Examples
/// ```no_run
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Order { customer: u32 }
/// # async fn ship(order: &Order) -> std::io::Result<()> { Ok(()) }
/// # async fn run(orders: actix_pika::Queue) -> actix_pika::Result<()> {
/// use actix_pika::tasks::Task;
///
/// let consumer = orders
///     .tasks::<Order>()
///     .at_once(16)
///     .lanes(|order, _| order.customer) // the orders of one customer in order, those of several side by side
///     .for_each(|order: Task<Order>| async move { Ok(ship(&order).await?) })
///     .await?;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it is started"]
pub struct Tasks<T, C = Json> {
    pub(super) queue: Queue,
    pub(super) codec: C,
    pub(super) consume: Consume,
    pub(super) at_once: usize,
    pub(super) prefetch: Prefetch,
    pub(super) order: Order<T>,
    pub(super) timeout: Option<Duration>,
    pub(super) undecodable: Undecodable,
    pub(super) retry: Option<Retry>,
    pub(super) overtaking: bool,
    pub(super) hooks: Hooks,
}

/// How many messages are taken before their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefetch {
    Default,
    Of(u16),
    /// None.
    Fair,
}

/// In which order tasks run.
pub(super) enum Order<T> {
    Any,
    Queue,
    Lanes(LaneOf<T>),
}

impl Queue {
    /// Returns a builder of a consumer that decodes messages as `T`, from JSON unless [`Tasks::codec`] sets
    /// another codec.
    ///
    /// # Examples
    /// ```no_run
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Email { to: String }
    /// # async fn run(mails: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    /// use actix_pika::tasks::{Failure, Task};
    ///
    /// let tasks = mails.tasks::<Email>().at_once(8).timeout(Duration::from_secs(30));
    /// let consumer = tasks.for_each(|email: Task<Email>| async move {
    ///     if email.to.is_empty() { Err(Failure::reject("there is no address")) } else { Ok(()) }
    /// });
    /// println!("{:?}", consumer.await?);
    /// # Ok(()) }
    /// ```
    pub fn tasks<T>(&self) -> Tasks<T> {
        Tasks {
            queue: self.clone(),
            codec: Json,
            consume: Consume::new(),
            at_once: 1,
            prefetch: Prefetch::Default,
            order: Order::Any,
            timeout: None,
            undecodable: Undecodable::default(),
            retry: None,
            overtaking: false,
            hooks: self.channel().connection().hooks().clone(),
        }
    }

    /// Starts a consumer that decodes messages from JSON and has a closure handle up to `at_once` of them side by side,
    /// on the arbiter of the caller. [`tasks`](Self::tasks) has more options.
    ///
    /// # Errors
    /// Those of [`Tasks::for_each`].
    ///
    /// **Over a reconnect**: see [`Tasks`].
    ///
    /// # Examples
    /// ```no_run
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Email { to: String }
    /// # async fn send(email: &Email) -> std::io::Result<()> { Ok(()) }
    /// # async fn run(mails: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use actix_pika::tasks::Task;
    ///
    /// mails.for_each(8, |email: Task<Email>| async move { Ok(send(&email).await?) }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn for_each<T, F, Fut>(&self, at_once: usize, closure: F) -> Result<TaskConsumer>
    where
        T: 'static,
        Json: Codec<T>,
        F: FnMut(Task<T>) -> Fut + 'static,
        Fut: Future<Output = Done> + 'static,
    {
        self.tasks().at_once(at_once).for_each(closure).await
    }
}

impl<T, C> Tasks<T, C> {
    /// Sets the codec; JSON unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(images: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use actix_pika::{codec::Raw, tasks::Task};
    ///
    /// let raw = images.tasks::<Vec<u8>>().codec(Raw);
    /// raw.for_each(|image: Task<Vec<u8>>| async move { Ok(println!("{} bytes", image.len())) }).await?;
    /// # Ok(()) }
    /// ```
    pub fn codec<D: Codec<T>>(self, codec: D) -> Tasks<T, D> {
        let Self {
            queue,
            consume,
            at_once,
            prefetch,
            order,
            timeout,
            undecodable,
            retry,
            overtaking,
            hooks,
            ..
        } = self;
        Tasks {
            queue,
            codec,
            consume,
            at_once,
            prefetch,
            order,
            timeout,
            undecodable,
            retry,
            overtaking,
            hooks,
        }
    }

    /// Sets how many tasks run side by side; 1 unless set, and at least.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(jobs: actix_pika::Queue) {
    /// let tasks = jobs.tasks::<String>().at_once(16);
    /// # }
    /// ```
    pub fn at_once(mut self, tasks: usize) -> Self {
        self.at_once = tasks.max(1);
        self
    }

    /// Sets the prefetch: how many unsettled messages the consumer may have, those of running tasks among them. At least
    /// 1. If it is less than [`at_once`](Self::at_once), no more tasks run.
    ///
    /// Unless set, it is twice `at_once` and at least 16; with [lanes](Self::lanes), 16 times `at_once` and at least 64.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(jobs: actix_pika::Queue) {
    /// let tasks = jobs.tasks::<String>().at_once(4).prefetch(100);
    /// # }
    /// ```
    pub fn prefetch(mut self, messages: u16) -> Self {
        self.prefetch = Prefetch::Of(messages.max(1));
        self
    }

    /// Sets the prefetch to [`at_once`](Self::at_once): no message waits here while another process has nothing to do.
    /// For tasks that take seconds.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(videos: actix_pika::Queue) {
    /// let tasks = videos.tasks::<String>().at_once(2).fair();
    /// # }
    /// ```
    pub fn fair(mut self) -> Self {
        self.prefetch = Prefetch::Fair;
        self
    }

    /// Sets that one task runs at a time, in the order of the queue. One that is retried holds up those behind it.
    ///
    /// Messages that return to the queue (a [requeue](super::Failure::requeue), a reconnect) can only keep their order if
    /// this is the only consumer of the queue.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(ledger: actix_pika::Queue) {
    /// let tasks = ledger.tasks::<String>().ordered();
    /// # }
    /// ```
    pub fn ordered(mut self) -> Self {
        self.at_once = 1;
        self.order = Order::Queue;
        self
    }

    /// Sets lanes: tasks with equal keys run one after the other, in the order of the queue; others side by side, up to
    /// [`at_once`](Self::at_once). The key comes from the value, or from the content: a header, the routing key.
    ///
    /// A task that is retried holds up its lane only. The lanes take turns. A key that most messages have fills the
    /// prefetch, so that others are not seen: give it room ([`prefetch`](Self::prefetch)). The order is that of this
    /// process: with several, use a single active consumer, or a queue for each. A function that panics makes the message
    /// [undecodable](Self::undecodable).
    ///
    /// # Examples
    /// ```no_run
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Order { customer: u32 }
    /// # fn options(orders: actix_pika::Queue) {
    /// let tasks = orders.tasks::<Order>().at_once(8).lanes(|order, _| order.customer);
    /// let by_key = orders.tasks::<Order>().at_once(8).lanes(|_, content| content.routing_key().to_owned());
    /// # }
    /// ```
    pub fn lanes<K: Hash + Eq>(mut self, key: impl Fn(&T, &Content) -> K + Send + Sync + 'static) -> Self {
        // Two keys with one hash share a lane, which costs nothing but time.
        let hasher = RandomState::new();
        self.order = Order::Lanes(Arc::new(move |value, content| hasher.hash_one(key(value, content))));
        self
    }

    /// Sets how long a handler may take; there is no limit unless set. What takes longer counts as failed.
    ///
    /// The future of a closure is dropped then. The handler of an actor goes on: its answer is ignored, and the task counts
    /// as failed, when it ends. Until then it counts as one of those that run [at once](Self::at_once).
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(jobs: actix_pika::Queue) {
    /// let tasks = jobs.tasks::<String>().timeout(std::time::Duration::from_secs(30));
    /// # }
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        // Capped, so that a deadline cannot overflow.
        self.timeout = Some(limit.min(Duration::from_secs(10 * 365 * 86_400)));
        self
    }

    /// Sets what becomes of messages that cannot be decoded; they are dead-lettered unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(jobs: actix_pika::Queue) {
    /// use actix_pika::tasks::Undecodable;
    ///
    /// let tasks = jobs.tasks::<String>().undecodable(Undecodable::Drop);
    /// # }
    /// ```
    pub fn undecodable(mut self, policy: Undecodable) -> Self {
        self.undecodable = policy;
        self
    }

    /// Sets the ladder of delays by which tasks are tried again, and the dead letters after the last try. Declare the queue
    /// with [`Channel::declare_jobs`](crate::Channel::declare_jobs).
    ///
    /// A copy of the message is published to a step of the ladder and confirmed before the message is acknowledged: a
    /// crash between the two runs the task twice, and loses nothing. While a copy cannot be published, that is repeated for
    /// a minute; then the message returns to its queue.
    ///
    /// A task that is retried is overtaken by others. With [`ordered`](Self::ordered) or [`lanes`](Self::lanes) a ladder is
    /// refused, unless [`overtaking`](Self::overtaking) allows that.
    ///
    /// # Examples
    /// ```no_run
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Email { to: String }
    /// # async fn send(email: &Email) -> std::io::Result<()> { Ok(()) }
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// use std::time::Duration;
    /// use actix_pika::{DeclareQueue, retry::Retry, tasks::Task};
    ///
    /// let ladder = Retry::ladder(&[1, 30, 600].map(Duration::from_secs));
    /// let mails = channel.declare_jobs(DeclareQueue::new("mail").quorum(), &ladder).await?;
    /// let tasks = mails.tasks::<Email>().at_once(8).retry(ladder);
    /// tasks.for_each(|email: Task<Email>| async move { Ok(send(&email).await?) }).await?;
    /// # Ok(()) }
    /// ```
    pub fn retry(mut self, ladder: Retry) -> Self {
        self.retry = Some(ladder);
        self
    }

    /// Allows tasks to be overtaken by later ones of their lane, when a [ladder](Self::retry) retries them.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(jobs: actix_pika::Queue) {
    /// use std::time::Duration;
    /// use actix_pika::retry::Retry;
    ///
    /// let ladder = Retry::ladder(&[Duration::from_secs(30)]);
    /// let tasks = jobs.tasks::<String>().lanes(|job, _| job.len()).retry(ladder).overtaking();
    /// # }
    /// ```
    pub fn overtaking(mut self) -> Self {
        self.overtaking = true;
        self
    }

    /// Sets options of the consumer, such as its tag or priority. `no_ack` and the prefetch of these options are not used.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(jobs: actix_pika::Queue) {
    /// use actix_pika::Consume;
    ///
    /// let tasks = jobs.tasks::<String>().consume(Consume::new().tag("resizer").exclusive(true));
    /// # }
    /// ```
    pub fn consume(mut self, options: Consume) -> Self {
        self.consume = options;
        self
    }

    /// Adds a [hook](crate::hook) for the tasks of this consumer, after those of the connection.
    ///
    /// # Examples
    /// ```no_run
    /// # fn options(jobs: actix_pika::Queue) {
    /// use actix_pika::hook::{Hook, TaskEnd};
    ///
    /// struct Print;
    ///
    /// impl Hook for Print {
    ///     fn end(&self, end: &TaskEnd<'_>) {
    ///         println!("{:?} after {:?}", end.outcome(), end.took());
    ///     }
    /// }
    ///
    /// let tasks = jobs.tasks::<String>().hook(Print);
    /// # }
    /// ```
    pub fn hook(mut self, hook: impl Hook) -> Self {
        self.hooks.add(hook);
        self
    }

    /// Leaves all hooks out.
    pub(crate) fn without_hooks(mut self) -> Self {
        self.hooks = Hooks::default();
        self
    }

    pub(super) fn effective_prefetch(&self) -> u16 {
        let at_once = u16::try_from(self.at_once).unwrap_or(u16::MAX);
        match (self.prefetch, &self.order) {
            (Prefetch::Of(messages), _) => messages,
            (Prefetch::Fair, _) => at_once,
            (Prefetch::Default, Order::Lanes(_)) => at_once.saturating_mul(16).max(64),
            (Prefetch::Default, _) => at_once.saturating_mul(2).max(16),
        }
    }
}

impl<T, C: fmt::Debug> fmt::Debug for Tasks<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks")
            .field("queue", &self.queue)
            .field("codec", &self.codec)
            .field("at_once", &self.at_once)
            .field("prefetch", &self.effective_prefetch())
            .field("timeout", &self.timeout)
            .field("undecodable", &self.undecodable)
            .finish_non_exhaustive()
    }
}
