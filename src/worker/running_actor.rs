//! Owns the future of one worker, so that its end is known at once, and a panic is told apart from a stop.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{self, Poll, Waker},
};

use actix::{Actor, ActorContext, Context, dev::ContextFut};

use crate::tasks::blame_nobody;

/// How a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerEnd {
    Panicked,
    /// It has stopped: by its context, or because it was told to.
    Stopped,
}

type RunningActor<A> = ContextFut<A, Context<A>>;

/// Ends an actor when it is dropped.
struct Owned<A: Actor<Context = Context<A>>>(Option<RunningActor<A>>);

/// Runs an actor until it ends, or until `stop` is ready. When it returns, the actor and its mailbox are dropped.
pub(crate) async fn live<A: Actor<Context = Context<A>>>(
    context: Context<A>,
    actor: A,
    stop: impl Future<Output = ()>,
) -> WorkerEnd {
    let mut owned = Owned(Some(context.into_future(actor)));
    let mut stop = pin!(stop);
    poll_fn(|cx| match (stop.as_mut().poll(cx), &mut owned.0) {
        (Poll::Pending, Some(actor)) => poll(actor, cx).map(|ended| ended.unwrap_or(WorkerEnd::Panicked)),
        _ => Poll::Ready(WorkerEnd::Stopped),
    })
    .await
}

impl<A: Actor<Context = Context<A>>> Drop for Owned<A> {
    fn drop(&mut self) {
        if let Some(actor) = self.0.take() {
            end(actor);
        }
    }
}

/// Polls an actor; `None` if it has panicked.
fn poll<A: Actor<Context = Context<A>>>(
    actor: &mut RunningActor<A>,
    cx: &mut task::Context<'_>,
) -> Poll<Option<WorkerEnd>> {
    match catch_unwind(AssertUnwindSafe(|| Pin::new(actor).poll(cx))) {
        Ok(ended) => ended.map(|()| Some(WorkerEnd::Stopped)),
        Err(_) => Poll::Ready(None),
    }
}

/// Drops an actor after it has run `stopping` and `stopped`. Neither these nor its drop blame a task if they panic.
fn end<A: Actor<Context = Context<A>>>(mut actor: RunningActor<A>) {
    blame_nobody(|| {
        if actor.alive() {
            actor.ctx().stop();
            let _ = poll(&mut actor, &mut task::Context::from_waker(Waker::noop()));
        }
        // Without it, the drop would poll once more.
        actor.ctx().terminate();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(actor)));
    });
}
