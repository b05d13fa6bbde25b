//! Who handles the tasks of a runner: a closure, or an actor.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix::{MailboxError, Recipient, dev::RecipientRequest};
use futures_util::{
    FutureExt,
    future::{CatchUnwind, Map},
};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Done, Task, schedule::Slot};

/// How a handler ended.
#[derive(Debug)]
pub(crate) enum Ran {
    /// It returned.
    Done(Done),
    /// It panicked.
    Panicked,
    /// It took longer than its time-out.
    TimedOut,
    /// Its actor dropped the task without an answer: why is not known yet.
    Unanswered,
    /// Its supervised worker has ended. The token tells whether it was the cause: the worker was dropped after its
    /// panic.
    WorkerEnded,
}

/// The handler is gone for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gone;

/// Who handles tasks.
pub(crate) trait Front<T> {
    /// A handler at work.
    type Run: Future<Output = Ran>;

    /// Whether a handler ends when its future is dropped.
    const ENDS_WHEN_DROPPED: bool;

    /// Waits until a task can be handled.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;

    /// Starts to handle a task. Returns `None` if that panics.
    fn start(&mut self, task: Task<T>) -> Option<Self::Run>;

    /// Returns whether those who got the tasks until now are still there.
    fn is_alive(&self) -> bool;

    /// Returns whether nobody will handle tasks any more.
    fn is_gone(&self) -> bool {
        !self.is_alive()
    }
}

/// Handles tasks by a closure.
#[derive(Debug)]
pub(crate) struct ClosureFront<F>(pub(crate) F);

type Caught = Result<Done, Box<dyn Any + Send>>;

impl<T, F, Fut> Front<T> for ClosureFront<F>
where
    F: FnMut(Task<T>) -> Fut,
    Fut: Future<Output = Done>,
{
    type Run = Map<CatchUnwind<AssertUnwindSafe<Fut>>, fn(Caught) -> Ran>;

    const ENDS_WHEN_DROPPED: bool = true;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }

    fn start(&mut self, task: Task<T>) -> Option<Self::Run> {
        let closure = &mut self.0;
        let run = catch_unwind(AssertUnwindSafe(|| closure(task))).ok()?;
        let ran: fn(Caught) -> Ran = |caught| caught.map_or(Ran::Panicked, Ran::Done);
        Some(AssertUnwindSafe(run).catch_unwind().map(ran))
    }

    fn is_alive(&self) -> bool {
        true
    }
}

/// Sends tasks to an actor.
#[derive(Debug)]
pub(crate) struct ActorFront<T: Send + 'static>(pub(crate) Recipient<Task<T>>);

type Answer = Result<Done, MailboxError>;

impl<T: Send + 'static> Front<T> for ActorFront<T> {
    type Run = Map<RecipientRequest<Task<T>>, fn(Answer) -> Ran>;

    const ENDS_WHEN_DROPPED: bool = false;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(if self.0.connected() { Ok(()) } else { Err(Gone) })
    }

    fn start(&mut self, task: Task<T>) -> Option<Self::Run> {
        let ran: fn(Answer) -> Ran = |answer| answer.map_or(Ran::Unanswered, Ran::Done);
        Some(self.0.send(task).map(ran))
    }

    fn is_alive(&self) -> bool {
        self.0.connected()
    }
}

pin_project! {
    /// A handler at work, with its task and its time-out.
    pub(crate) struct Running<R> {
        #[pin]
        run: Option<R>,
        slot: Slot,
        timeout: Option<Pin<Box<Sleep>>>,
        timed_out: bool,
        ends_when_dropped: bool,
    }
}

impl<R> Running<R> {
    pub(crate) fn new(run: R, slot: Slot, deadline: Option<Instant>, ends_when_dropped: bool) -> Self {
        let timeout = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        Self { run: Some(run), slot, timeout, timed_out: false, ends_when_dropped }
    }
}

impl<R: Future<Output = Ran>> Future for Running<R> {
    type Output = (Slot, Ran);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(Slot, Ran)> {
        let mut this = self.project();
        let Some(run) = this.run.as_mut().as_pin_mut() else { return Poll::Pending };
        if let Poll::Ready(ran) = run.poll(cx) {
            let ran = if *this.timed_out && !matches!(ran, Ran::Unanswered) { Ran::TimedOut } else { ran };
            return Poll::Ready((*this.slot, ran));
        }
        let Some(timeout) = this.timeout else { return Poll::Pending };
        ready!(timeout.as_mut().poll(cx));
        *this.timeout = None;
        *this.timed_out = true;
        if !*this.ends_when_dropped {
            return Poll::Pending;
        }
        // What the handler owns may panic when it is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| this.run.set(None)));
        Poll::Ready((*this.slot, Ran::TimedOut))
    }
}
