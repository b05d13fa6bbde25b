//! Handles tasks in batches by a closure. To the runner, each task of a batch is one that runs.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{CatchUnwind, Shared},
    task::AtomicWaker,
};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use super::{
    BatchOutcome, Task,
    front::{Front, Gone, Ran},
};

/// How the tasks of a batch ended; each is taken once.
type Outcomes = Arc<Mutex<Vec<Option<Ran>>>>;

/// Collects tasks to batches.
pub(super) struct BatchFront<T, F, Fut>
where
    F: FnMut(Vec<Task<T>>) -> Fut,
    Fut: Future,
    Fut::Output: BatchOutcome,
{
    closure: Arc<Mutex<F>>,
    size: usize,
    wait: Duration,
    at_once: usize,
    running: Arc<AtomicUsize>,
    /// The batch that is not full.
    open: Option<OpenBatch<T, Batch<T, F, Fut>>>,
}

struct OpenBatch<T, B: Future> {
    collected: Arc<Collected<T>>,
    batch: Shared<B>,
}

/// The tasks of a batch that has not begun, and the waker of the batch.
struct Collected<T>(Mutex<State<T>>, AtomicWaker);

enum State<T> {
    Open(Vec<Task<T>>),
    Full(Vec<Task<T>>),
    Begun,
}

/// Counts a batch among those that run.
struct Permit(Arc<AtomicUsize>);

impl Permit {
    fn of(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(running.clone())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Collected<T> {
    /// Takes the task, and returns its place; `None` if the batch has begun.
    fn push(&self, task: &mut Option<Task<T>>, size: usize) -> Option<usize> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Open(tasks) = &mut *state else { return None };
        tasks.push(task.take()?);
        let place = tasks.len() - 1;
        if tasks.len() >= size {
            *state = State::Full(std::mem::take(tasks));
        }
        Some(place)
    }

    fn is_open(&self) -> bool {
        matches!(*self.0.lock().unwrap_or_else(PoisonError::into_inner), State::Open(_))
    }

    /// Has the batch begin as if it were full. Returns whether it has not begun.
    fn close(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Open(tasks) = &mut *state else { return false };
        *state = State::Full(std::mem::take(tasks));
        drop(state);
        self.1.wake();
        true
    }

    /// Returns the tasks, if the batch is full or its time has come.
    fn begin(&self, is_time: bool) -> Option<Vec<Task<T>>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Begun) {
            State::Open(tasks) if !is_time => {
                *state = State::Open(tasks);
                None
            }
            State::Open(tasks) | State::Full(tasks) => Some(tasks),
            State::Begun => None,
        }
    }
}

pin_project! {
    /// A batch that is collected, and then handled.
    pub(super) struct Batch<T, F, Fut> {
        collected: Arc<Collected<T>>,
        closure: Arc<Mutex<F>>,
        wait: Pin<Box<Sleep>>,
        #[pin]
        run: Option<CatchUnwind<AssertUnwindSafe<Fut>>>,
        tasks: usize,
        permit: Permit,
    }
}

impl<T, F, Fut> Future for Batch<T, F, Fut>
where
    F: FnMut(Vec<Task<T>>) -> Fut,
    Fut: Future,
    Fut::Output: BatchOutcome,
{
    type Output = Outcomes;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcomes> {
        let mut this = self.project();
        if this.run.is_none() {
            this.collected.1.register(cx.waker());
            let is_time = this.wait.as_mut().poll(cx).is_ready();
            let Some(tasks) = this.collected.begin(is_time) else { return Poll::Pending };
            *this.tasks = tasks.len();
            let mut closure = this.closure.lock().unwrap_or_else(PoisonError::into_inner);
            match catch_unwind(AssertUnwindSafe(|| closure(tasks))) {
                Ok(run) => this.run.set(Some(AssertUnwindSafe(run).catch_unwind())),
                Err(_) => return Poll::Ready(all_panicked(*this.tasks)),
            }
        }
        let Some(run) = this.run.as_pin_mut() else { return Poll::Pending };
        Poll::Ready(match ready!(run.poll(cx)) {
            Ok(outcome) => match catch_unwind(AssertUnwindSafe(|| outcome.into_outcomes(*this.tasks))) {
                Ok(done) => {
                    Arc::new(Mutex::new(done.into_iter().map(|done| Some(Ran::Done(done))).collect()))
                }
                Err(_) => all_panicked(*this.tasks),
            },
            Err(_) => all_panicked(*this.tasks),
        })
    }
}

fn all_panicked(tasks: usize) -> Outcomes {
    Arc::new(Mutex::new((0..tasks).map(|_| Some(Ran::Panicked)).collect()))
}

/// One task of a batch.
pub(super) struct Member<B: Future<Output = Outcomes>> {
    batch: Shared<B>,
    place: usize,
}

impl<B: Future<Output = Outcomes>> Future for Member<B> {
    type Output = Ran;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ran> {
        let outcomes = ready!(self.batch.poll_unpin(cx));
        let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        // The closure has returned too few.
        Poll::Ready(outcomes.get_mut(self.place).and_then(Option::take).unwrap_or(Ran::Unanswered))
    }
}

impl<T, F, Fut> BatchFront<T, F, Fut>
where
    F: FnMut(Vec<Task<T>>) -> Fut,
    Fut: Future,
    Fut::Output: BatchOutcome,
{
    pub(super) fn new(closure: F, size: usize, wait: Duration, at_once: usize) -> Self {
        let closure = Arc::new(Mutex::new(closure));
        Self { closure, size, wait, at_once, running: Arc::default(), open: None }
    }
}

impl<T, F, Fut> Front<T> for BatchFront<T, F, Fut>
where
    F: FnMut(Vec<Task<T>>) -> Fut,
    Fut: Future,
    Fut::Output: BatchOutcome,
{
    type Run = Member<Batch<T, F, Fut>>;

    const ENDS_WHEN_DROPPED: bool = true;

    const IN_BATCHES: bool = true;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        // The end of a batch is that of tasks, after which the runner asks again.
        let has_room = self.open.as_ref().is_some_and(|open| open.collected.is_open())
            || self.running.load(Ordering::Relaxed) < self.at_once;
        if has_room { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn start(&mut self, task: Task<T>) -> Option<Self::Run> {
        if !self.open.as_ref().is_some_and(|open| open.collected.is_open()) {
            self.open = None;
        }
        let mut task = Some(task);
        // A batch whose time has come is closed by this thread, too: it cannot begin here in between.
        let open = self.open.get_or_insert_with(|| {
            let tasks = Vec::with_capacity(self.size.min(64));
            let collected = Arc::new(Collected(Mutex::new(State::Open(tasks)), AtomicWaker::new()));
            let batch = Batch {
                collected: collected.clone(),
                closure: self.closure.clone(),
                wait: Box::pin(sleep(self.wait)),
                run: None,
                tasks: 0,
                permit: Permit::of(&self.running),
            };
            OpenBatch { collected, batch: batch.shared() }
        });
        let place = open.collected.push(&mut task, self.size)?;
        let batch = open.batch.clone();
        if place + 1 == self.size {
            self.open = None;
        }
        Some(Member { batch, place })
    }

    fn flush(&mut self) -> bool {
        self.open.take().is_some_and(|open| open.collected.close())
    }

    fn is_alive(&self) -> bool {
        true
    }
}
