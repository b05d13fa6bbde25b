//! Who handles the tasks of a runner: a closure, or an actor.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix::{MailboxError, Recipient, dev::RecipientRequest};
use futures_util::{FutureExt, future::Map};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Done, Task, schedule::Slot};
use crate::{caught::caught, hook::TaskScope};

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

    /// Whether a handler gets several tasks.
    const IN_BATCHES: bool = false;

    /// Waits until a task can be handled.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;

    /// Starts to handle a task. Returns `None` if that panics.
    fn start(&mut self, task: Task<T>) -> Option<Self::Run>;

    /// Has what it has collected begin: no more tasks come. Returns whether there was anything.
    fn flush(&mut self) -> bool {
        false
    }

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

impl<T, F, Fut> Front<T> for ClosureFront<F>
where
    F: FnMut(Task<T>) -> Fut,
    Fut: Future<Output = Done>,
{
    type Run = Map<Fut, fn(Done) -> Ran>;

    const ENDS_WHEN_DROPPED: bool = true;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }

    fn start(&mut self, task: Task<T>) -> Option<Self::Run> {
        let closure = &mut self.0;
        let run = caught(|| closure(task))?;
        Some(run.map(Ran::Done as fn(Done) -> Ran))
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
        // The task is dropped if the actor is gone.
        Some(caught(|| self.0.send(task))?.map(ran))
    }

    fn is_alive(&self) -> bool {
        self.0.connected()
    }
}

pin_project! {
    /// A handler at work, with its task and its time-out. It may panic, and so may what it owns or returns when that is
    /// dropped.
    pub(crate) struct Running<R> {
        #[pin]
        run: Option<R>,
        slot: Slot,
        timeout: Option<Pin<Box<Sleep>>>,
        timed_out: bool,
        ends_when_dropped: bool,
        scope: TaskScope,
    }

    impl<R> PinnedDrop for Running<R> {
        fn drop(this: Pin<&mut Self>) {
            let mut run = this.project().run;
            caught(|| run.set(None));
        }
    }
}

impl<R> Running<R> {
    pub(crate) fn new(
        run: R,
        slot: Slot,
        deadline: Option<Instant>,
        ends_when_dropped: bool,
        scope: TaskScope,
    ) -> Self {
        let timeout = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        Self { run: Some(run), slot, timeout, timed_out: false, ends_when_dropped, scope }
    }
}

impl<R: Future<Output = Ran>> Future for Running<R> {
    type Output = (Slot, Ran);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(Slot, Ran)> {
        let mut this = self.project();
        let Some(run) = this.run.as_mut().as_pin_mut() else { return Poll::Pending };
        let timed_out = *this.timed_out;
        let polled = this.scope.enter(|| {
            caught(|| {
                let is_late = |ran: &Ran| timed_out && !matches!(ran, Ran::Unanswered);
                run.poll(cx).map(|ran| if is_late(&ran) { Ran::TimedOut } else { ran })
            })
        });
        if let Poll::Ready(ran) = polled.unwrap_or(Poll::Ready(Ran::Panicked)) {
            return Poll::Ready((*this.slot, ran));
        }
        let Some(timeout) = this.timeout else { return Poll::Pending };
        ready!(timeout.as_mut().poll(cx));
        *this.timeout = None;
        *this.timed_out = true;
        if !*this.ends_when_dropped {
            return Poll::Pending;
        }
        caught(|| this.run.set(None));
        Poll::Ready((*this.slot, Ran::TimedOut))
    }
}
