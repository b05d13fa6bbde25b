//! What connects the consumers of one thread with the worker that runs there.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use actix::{Actor, Addr, Context as ActorContext, Handler, dev::Request};
use pin_project_lite::pin_project;

use crate::tasks::{Front, Gone, Ran, Task};

/// The address of the worker of a thread, for other threads.
pub(super) type SharedAddr<A> = Arc<Mutex<Option<Addr<A>>>>;

/// The worker of a thread, and the consumers that wait for one. Clones are the same.
pub(super) struct Link<A: Actor>(Rc<Inner<A>>);

struct Inner<A: Actor> {
    state: RefCell<State<A>>,
    waiting: RefCell<Vec<Waker>>,
    shared: SharedAddr<A>,
}

enum State<A: Actor> {
    /// No worker runs; so many have run.
    Closed(u64),
    /// A worker runs: which one, counted from 1.
    Open(u64, Addr<A>),
    /// No worker will run any more.
    Over,
}

impl<A: Actor> Link<A> {
    pub(super) fn new(shared: SharedAddr<A>) -> Self {
        Self(Rc::new(Inner { state: RefCell::new(State::Closed(0)), waiting: RefCell::default(), shared }))
    }

    /// Has consumers send tasks to a worker.
    pub(super) fn open(&self, worker: Addr<A>) {
        let before = match *self.0.state.borrow() {
            State::Closed(number) | State::Open(number, _) => number,
            State::Over => return,
        };
        self.enter(State::Open(before + 1, worker));
    }

    /// Has consumers wait for the next worker.
    pub(super) fn close(&self) {
        let State::Open(number, _) = *self.0.state.borrow() else { return };
        self.enter(State::Closed(number));
    }

    /// Has consumers end, as there will be no worker.
    pub(super) fn end(&self) {
        self.enter(State::Over);
    }

    fn enter(&self, state: State<A>) {
        let worker = if let State::Open(_, addr) = &state { Some(addr.clone()) } else { None };
        *self.0.shared.lock().unwrap_or_else(PoisonError::into_inner) = worker;
        self.0.state.replace(state);
        self.0.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn runs(&self, worker: u64) -> bool {
        matches!(*self.0.state.borrow(), State::Open(number, _) if number == worker)
    }

    pub(super) fn front<T>(&self) -> WorkerFront<A, T> {
        WorkerFront { link: self.clone(), tasks: PhantomData }
    }
}

/// Sends the tasks of one queue to the worker.
pub(crate) struct WorkerFront<A: Actor, T> {
    link: Link<A>,
    tasks: PhantomData<fn(T)>,
}

impl<A, T> Front<T> for WorkerFront<A, T>
where
    A: Actor<Context = ActorContext<A>> + Handler<Task<T>>,
    T: Send + 'static,
{
    type Run = Handling<A, T>;

    const ENDS_WHEN_DROPPED: bool = false;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        match *self.link.0.state.borrow() {
            State::Open(..) => Poll::Ready(Ok(())),
            State::Over => Poll::Ready(Err(Gone)),
            State::Closed(_) => {
                let mut waiting = self.link.0.waiting.borrow_mut();
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn start(&mut self, task: Task<T>) -> Option<Self::Run> {
        let (worker, request) = match &*self.link.0.state.borrow() {
            State::Open(number, addr) => (*number, Some(addr.send(task))),
            State::Closed(_) | State::Over => (0, None),
        };
        Some(Handling { request, link: self.link.clone(), worker })
    }

    fn is_alive(&self) -> bool {
        matches!(*self.link.0.state.borrow(), State::Open(..))
    }

    fn is_gone(&self) -> bool {
        matches!(*self.link.0.state.borrow(), State::Over)
    }
}

pin_project! {
    /// A task that was sent to a worker.
    pub(crate) struct Handling<A, T>
    where
        A: Actor<Context = ActorContext<A>>,
        A: Handler<Task<T>>,
        T: Send,
        T: 'static,
    {
        #[pin]
        request: Option<Request<A, Task<T>>>,
        link: Link<A>,
        worker: u64,
    }
}

impl<A, T> Future for Handling<A, T>
where
    A: Actor<Context = ActorContext<A>> + Handler<Task<T>>,
    T: Send + 'static,
{
    type Output = Ran;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ran> {
        let this = self.project();
        let Some(request) = this.request.as_pin_mut() else { return Poll::Ready(Ran::WorkerEnded) };
        Poll::Ready(match ready!(request.poll(cx)) {
            Ok(done) => Ran::Done(done),
            // The consumers run on the thread of the worker: if its end is the reason, it is known before.
            Err(_) if this.link.runs(*this.worker) => Ran::Panicked,
            Err(_) => Ran::WorkerEnded,
        })
    }
}

impl<A: Actor> Clone for Link<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor> fmt::Debug for Link<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match *self.0.state.borrow() {
            State::Closed(_) => "Closed",
            State::Open(..) => "Open",
            State::Over => "Over",
        };
        f.debug_tuple("Link").field(&state).finish()
    }
}

impl<A: Actor, T> fmt::Debug for WorkerFront<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerFront").field(&self.link).finish()
    }
}
