//! Starting a consumer of tasks.

use std::{future::Future, sync::Arc};

use actix::Recipient;
use actix_pika_actors::facade;

use super::{
    Done, Task, TaskConsumer, Tasks,
    builder::Order,
    control::Control,
    front::{ActorFront, ClosureFront, Front},
    runner::{Runner, Settings},
    verdict::Means,
};
#[allow(unused_imports, reason = "for the links")]
use crate::Consume;
use crate::{ConsumerEnd, Result, codec::Codec, retry::RetryLadder, runtime};

impl<T: 'static, C: Codec<T>> Tasks<T, C> {
    /// Starts the consumer (`basic.consume`), which has a closure handle its tasks, on the arbiter of the caller.
    ///
    /// A panic in the closure or in its future costs the message of that task only. A closure that blocks stops
    /// everything else on the arbiter.
    ///
    /// # Errors
    /// `Refused` without a code if there is no arbiter, as under `#[tokio::main]`: use [`run`](Self::run); if the queue
    /// lacks an argument for its [ladder](Self::retry), or an order excludes that. Otherwise those of [`Consume`].
    ///
    /// **Over a reconnect**: see [`Tasks`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use actix_pika::tasks::Task;
    ///
    /// let tasks = jobs.tasks::<String>().at_once(4);
    /// let consumer = tasks.for_each(|job: Task<String>| async move { Ok(println!("{}", *job)) }).await?;
    /// # Ok(()) }
    /// ```
    pub async fn for_each<F, Fut>(self, closure: F) -> Result<TaskConsumer>
    where
        F: FnMut(Task<T>) -> Fut + 'static,
        Fut: Future<Output = Done> + 'static,
    {
        self.spawn(ClosureFront(closure)).await
    }

    /// Starts the consumer (`basic.consume`), which sends its tasks to an actor. The consumer runs on the arbiter of the
    /// caller, the actor where it is.
    ///
    /// The actor gets no more than [`at_once`](Self::at_once) tasks that it has not answered. What its response types
    /// mean for that, for the order and for panics is listed in the [module](super). Do not call it in `started` of
    /// an actor that is restarted: each call makes one more consumer.
    ///
    /// # Errors
    /// Those of [`for_each`](Self::for_each).
    ///
    /// **Over a reconnect**: see [`Tasks`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(jobs: actix_pika::Queue, worker: actix::Recipient<actix_pika::tasks::Task<String>>) -> actix_pika::Result<()> {
    /// let consumer = jobs.tasks::<String>().at_once(4).to(worker).await?;
    /// # Ok(()) }
    /// ```
    pub async fn to(self, actor: impl Into<Recipient<Task<T>>>) -> Result<TaskConsumer>
    where
        T: Send,
    {
        self.spawn(ActorFront(actor.into())).await
    }

    /// Runs the consumer in the task of the caller (`basic.consume`), and returns why it has ended.
    ///
    /// Dropping the future stops it: handlers are dropped, and all messages return to the queue. It is `Send` if the
    /// closure, its futures and `T` are, so that `tokio::spawn` can run it.
    ///
    /// # Errors
    /// Those of [`for_each`](Self::for_each), but that it needs no arbiter.
    ///
    /// **Over a reconnect**: see [`Tasks`].
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(jobs: actix_pika::Queue) -> actix_pika::Result<()> {
    /// use actix_pika::tasks::Task;
    ///
    /// let tasks = jobs.tasks::<String>().at_once(4);
    /// tokio::spawn(tasks.run(|job: Task<String>| async move { Ok(println!("{}", *job)) }));
    /// # Ok(()) }
    /// ```
    pub async fn run<F, Fut>(self, closure: F) -> Result<ConsumerEnd>
    where
        F: FnMut(Task<T>) -> Fut,
        Fut: Future<Output = Done>,
    {
        let (runner, _) = self.start(ClosureFront(closure)).await?;
        Ok(runner.await)
    }

    /// Starts the consumer with a closure, and returns the runner of its tasks, and the handle.
    pub(crate) async fn start_closure<F, Fut>(
        self,
        closure: F,
    ) -> Result<(impl Future<Output = ConsumerEnd> + use<T, C, F, Fut>, TaskConsumer)>
    where
        F: FnMut(Task<T>) -> Fut,
        Fut: Future<Output = Done>,
    {
        self.start(ClosureFront(closure)).await
    }

    /// Starts the consumer on the arbiter of the caller.
    pub(crate) async fn spawn<F: Front<T> + 'static>(self, front: F) -> Result<TaskConsumer> {
        if runtime::here().is_none() {
            return Err(facade::refused("tasks run on an arbiter, and there is none here; use Tasks::run"));
        }
        let (runner, consumer) = self.start(front).await?;
        actix_rt::spawn(runner);
        Ok(consumer)
    }

    /// Starts the consumer, and returns the runner of its tasks, and the handle.
    pub(crate) async fn start<F: Front<T>>(mut self, front: F) -> Result<(Runner<T, C, F>, TaskConsumer)> {
        if matches!(self.order, Order::Queue) {
            self.at_once = 1;
        }
        let prefetch = self.effective_prefetch();
        let ladder = match &self.retry {
            Some(_) if !self.overtaking && !matches!(self.order, Order::Any) => {
                return Err(facade::refused(
                    "a ladder breaks the order of tasks; Tasks::overtaking allows that",
                ));
            }
            Some(retry) => Some(Arc::new(RetryLadder::attach(&self.queue, retry).await?)),
            None => None,
        };
        let means = Means { ladder: ladder.is_some(), dead_letters: self.queue.has_dead_letters() };
        let lane_of = match self.order {
            Order::Lanes(lane_of) => Some(lane_of),
            Order::Any | Order::Queue => None,
        };
        let settings = Settings {
            at_once: self.at_once,
            prefetch,
            timeout: self.timeout,
            undecodable: self.undecodable,
            means,
            lane_of,
            ladder,
            hooks: self.hooks,
        };
        let options = self.consume.no_ack(false).prefetch(prefetch);
        let stream = self.queue.deliveries_with(options).await?;
        let control = Arc::new(Control::new());
        let consumer = TaskConsumer::new(stream.tag().into(), control.clone());
        let queue = self.queue.name().to_owned();
        Ok((Runner::new(queue, stream, self.codec, front, settings, control), consumer))
    }
}
