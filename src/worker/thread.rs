//! The supervisor of one thread: it runs the worker, and the consumers that outlive it. What it does when is decided by
//! the [`machine`](super::machine).

use std::{
    any::Any,
    future::{pending, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use actix::{Actor, AsyncContext, Context as ActorContext};
use actix_pika_actors::facade::{self, Watchers};
use actix_rt::ArbiterHandle;
use futures_util::{
    FutureExt, StreamExt,
    future::{LocalBoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, Sleep, sleep},
};

use super::{
    WorkerEvent,
    feed::Feed,
    link::{Link, SharedAddr},
    machine::{Input, Machine, Output},
    running_actor::{WorkerEnd, live},
};
use crate::{
    ConsumerEnd, Result,
    tasks::{DrainReport, TaskConsumer},
};

/// What the threads of a worker and its handles share.
pub(super) struct Shared<A> {
    pub(super) factory: Mutex<Box<dyn FnMut() -> A + Send>>,
    pub(super) watchers: Mutex<Watchers<WorkerEvent>>,
    /// The threads that have not ended.
    pub(super) running: AtomicUsize,
    /// When a drain has to be done by, once one is asked for.
    pub(super) drain_by: watch::Sender<Option<Instant>>,
    /// The arbiter that sends the events of threads of their own, which may end before an event is handled.
    pub(super) home: Option<ArbiterHandle>,
}

/// The supervisor of one thread, before it runs.
pub(super) struct Thread<A: Actor> {
    pub(super) number: usize,
    pub(super) shared: Arc<Shared<A>>,
    pub(super) feeds: Vec<Box<dyn Feed<A>>>,
    pub(super) addr: SharedAddr<A>,
    pub(super) report: watch::Sender<Option<DrainReport>>,
}

impl<A: 'static> Shared<A> {
    fn tell(self: &Arc<Self>, event: WorkerEvent) {
        self.at_home(move |watchers| watchers.notify(&event));
    }

    fn at_home(self: &Arc<Self>, send: impl FnOnce(&mut Watchers<WorkerEvent>) + Send + 'static) {
        let shared = self.clone();
        let send = move || send(&mut shared.watchers.lock().unwrap_or_else(PoisonError::into_inner));
        match &self.home {
            // With the arbiter, there is nobody to be told.
            Some(home) => drop(home.spawn_fn(send)),
            None => send(),
        }
    }

    fn build(&self) -> Result<A, Box<dyn Any + Send>> {
        // A factory that has panicked on another thread is called as if it had not.
        let mut factory = self.factory.lock().unwrap_or_else(PoisonError::into_inner);
        catch_unwind(AssertUnwindSafe(&mut *factory))
    }
}

impl<A: Actor<Context = ActorContext<A>>> Thread<A> {
    /// Builds the first worker and starts the consumers; then runs until they have ended.
    pub(super) async fn run(mut self, started: oneshot::Sender<Result<()>>) {
        let link = Link::new(self.addr.clone());
        let Ok(worker) = self.shared.build() else {
            let _ = started.send(Err(facade::stopped("the factory of a worker panicked")));
            return;
        };
        let mut consumers = Vec::new();
        for feed in std::mem::take(&mut self.feeds) {
            let queue = feed.queue().to_owned();
            match feed.start(&link).await {
                Ok(consumer) => consumers.push((queue, consumer)),
                Err(error) => {
                    link.end();
                    join_all(consumers.iter().map(|(_, consumer)| consumer.stop())).await;
                    let _ = started.send(Err(error));
                    return;
                }
            }
        }
        if started.send(Ok(())).is_err() {
            // Nobody waits for the start, and nobody gets a handle.
            link.end();
        }
        Running::new(&self, link, consumers).run(worker).await;
    }
}

impl<A: Actor> Drop for Thread<A> {
    fn drop(&mut self) {
        *self.addr.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.report.send_modify(|report| {
            report.get_or_insert_default();
        });
        if self.shared.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.at_home(|watchers| watchers.close(WorkerEvent::Finished));
        }
    }
}

/// What a thread waits for.
struct Running<'a, A: Actor> {
    thread: &'a Thread<A>,
    link: Link<A>,
    consumers: Vec<(String, TaskConsumer)>,
    asked: LocalBoxFuture<'static, Instant>,
    actor: Option<LocalBoxFuture<'static, WorkerEnd>>,
    stop: Option<oneshot::Sender<()>>,
    rest: Option<Pin<Box<Sleep>>>,
    /// The consumers that have not ended, by their place in the list.
    ends: FuturesUnordered<LocalBoxFuture<'static, (usize, ConsumerEnd)>>,
    drain: Option<LocalBoxFuture<'static, DrainReport>>,
    drain_by: Option<Instant>,
}

impl<'a, A: Actor<Context = ActorContext<A>>> Running<'a, A> {
    fn new(thread: &'a Thread<A>, link: Link<A>, consumers: Vec<(String, TaskConsumer)>) -> Self {
        let end = |(place, (_, consumer)): (usize, &(String, TaskConsumer))| {
            let consumer = consumer.clone();
            async move { (place, consumer.ended().await) }.boxed_local()
        };
        Self {
            ends: consumers.iter().enumerate().map(end).collect(),
            asked: next_request(thread.shared.drain_by.subscribe(), None).boxed_local(),
            thread,
            link,
            consumers,
            actor: None,
            stop: None,
            rest: None,
            drain: None,
            drain_by: None,
        }
    }

    async fn run(mut self, worker: A) {
        let mut machine = Machine::new(Instant::now());
        let mut input = self.bring_to_life(worker);
        loop {
            let mut next = None;
            for output in machine.step(input, Instant::now(), fastrand::f64()) {
                match output {
                    Output::Finish => return,
                    Output::Build => next = Some(self.build()),
                    output => self.perform(output),
                }
            }
            input = match next {
                Some(built) => built,
                None => poll_fn(|cx| self.poll_input(cx)).await,
            };
        }
    }

    fn build(&mut self) -> Input {
        match self.thread.shared.build() {
            Ok(worker) => self.bring_to_life(worker),
            Err(_) => Input::FactoryPanicked,
        }
    }

    fn bring_to_life(&mut self, worker: A) -> Input {
        let context = ActorContext::new();
        self.link.open(context.address());
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        // A sender that is dropped stops the worker, too.
        self.actor = Some(live(context, worker, stopped.map(drop)).boxed_local());
        Input::Built
    }

    fn perform(&mut self, output: Output) {
        let thread = self.thread.number;
        match output {
            Output::TellStarted => self.tell(WorkerEvent::Started { thread }),
            Output::TellEnded { panicked, next_in } => {
                self.tell(WorkerEvent::Ended { thread, panicked, next_in })
            }
            Output::TellFactoryPanicked => self.tell(WorkerEvent::FactoryPanicked { thread }),
            Output::Close => self.link.close(),
            Output::Rest(wait) => self.rest = Some(Box::pin(sleep(wait))),
            Output::DrainConsumers => self.drain_consumers(),
            Output::GiveBack => self.link.end(),
            Output::StopWorker => self.stop = None,
            Output::Build | Output::Finish => {}
        }
    }

    fn tell(&self, event: WorkerEvent) {
        self.thread.shared.tell(event);
    }

    fn drain_consumers(&mut self) {
        self.rest = None;
        let left = self.drain_by.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        let consumers: Vec<TaskConsumer> =
            self.consumers.iter().map(|(_, consumer)| consumer.clone()).collect();
        let drain = async move {
            let reports = join_all(consumers.iter().map(|consumer| consumer.drain(left))).await;
            reports.into_iter().fold(DrainReport::default(), DrainReport::plus)
        };
        self.drain = Some(drain.boxed_local());
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Poll::Ready(by) = self.asked.poll_unpin(cx) {
            self.asked = next_request(self.thread.shared.drain_by.subscribe(), Some(by)).boxed_local();
            self.drain_by = Some(by);
            if self.drain.is_some() {
                // The earlier limit counts for the drain that goes on.
                self.drain_consumers();
            }
            return Poll::Ready(Input::Drain);
        }
        if let Some(actor) = &mut self.actor
            && let Poll::Ready(end) = actor.poll_unpin(cx)
        {
            self.actor = None;
            return Poll::Ready(Input::WorkerEnded(end));
        }
        if let Some(rest) = &mut self.rest
            && rest.poll_unpin(cx).is_ready()
        {
            self.rest = None;
            return Poll::Ready(Input::Rested);
        }
        while let Poll::Ready(Some((place, end))) = self.ends.poll_next_unpin(cx) {
            if self.drain.is_none() {
                let queue = self.consumers[place].0.clone();
                self.tell(WorkerEvent::ConsumerLost { thread: self.thread.number, queue, end });
                if self.ends.is_empty() {
                    return Poll::Ready(Input::Drain);
                }
            }
        }
        if let Some(drain) = &mut self.drain
            && let Poll::Ready(report) = drain.poll_unpin(cx)
        {
            self.drain = None;
            self.thread.report.send_replace(Some(report));
            return Poll::Ready(Input::Drained);
        }
        Poll::Pending
    }
}

/// Waits until a drain has to be done earlier than known. Never ends if nobody can ask any more.
async fn next_request(mut asked: watch::Receiver<Option<Instant>>, known: Option<Instant>) -> Instant {
    let earlier = |by: &Option<Instant>| by.is_some_and(|by| known.is_none_or(|known| by < known));
    match asked.wait_for(earlier).await.map(|by| *by) {
        Ok(Some(by)) => by,
        _ => pending().await,
    }
}
