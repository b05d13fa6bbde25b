//! Who runs the requests of a server: an actor or a closure. Either may panic.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use actix::{Message, Recipient};
use futures_util::FutureExt;

/// Runs requests.
pub(super) type Handler<M> = Box<dyn Fn(M) -> Running<<M as Message>::Result>>;

/// A request that runs.
pub(super) type Running<R> = Pin<Box<dyn Future<Output = Ran<R>>>>;

/// How a request was run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ran<R> {
    Done(R),
    /// The handler has panicked; of an actor, perhaps while it handled another request.
    Panicked,
    /// The actor has ended before it answered.
    Gone,
    /// The actor had ended before, so that the request did not run.
    NotBegun,
}

/// Has an actor run requests.
pub(super) fn by_actor<M>(actor: Recipient<M>) -> Handler<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    Box::new(move |request| {
        let actor = actor.clone();
        Box::pin(async move {
            if !actor.connected() {
                return Ran::NotBegun;
            }
            let (answer, panicked) = SensePanic::new(actor.send(request)).await;
            match answer {
                Ok(result) => Ran::Done(result),
                Err(_) if panicked => Ran::Panicked,
                Err(_) => Ran::Gone,
            }
        })
    })
}

/// Has a closure run requests.
pub(super) fn by_closure<M, F, Fut>(closure: F) -> Handler<M>
where
    M: Message + 'static,
    F: Fn(M) -> Fut + 'static,
    Fut: Future<Output = M::Result> + 'static,
{
    let closure = Arc::new(closure);
    Box::new(move |request| {
        let closure = closure.clone();
        // The call itself may panic, too.
        let run = AssertUnwindSafe(async move { closure(request).await }).catch_unwind();
        Box::pin(run.map(|result| result.map_or(Ran::Panicked, Ran::Done)))
    })
}

/// Awaits the answer of an actor, and notices whether its end was a panic: the sender of the answer is dropped, and wakes
/// this future, on the thread that panics.
struct SensePanic<F> {
    request: Pin<Box<F>>,
    panicked: Arc<AtomicBool>,
    /// The last waker, and the one that was made of it.
    wakers: Option<(Waker, Waker)>,
}

struct Sense {
    waker: Waker,
    panicked: Arc<AtomicBool>,
}

impl Wake for Sense {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if std::thread::panicking() {
            self.panicked.store(true, Ordering::Release);
        }
        self.waker.wake_by_ref();
    }
}

impl<F> SensePanic<F> {
    fn new(request: F) -> Self {
        Self { request: Box::pin(request), panicked: Arc::default(), wakers: None }
    }
}

impl<F: Future> Future for SensePanic<F> {
    type Output = (F::Output, bool);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let is_same = |(last, _): &(Waker, Waker)| last.will_wake(cx.waker());
        let (_, sensing) = match this.wakers.take().filter(is_same) {
            Some(wakers) => this.wakers.insert(wakers),
            None => {
                let sense = Sense { waker: cx.waker().clone(), panicked: this.panicked.clone() };
                this.wakers.insert((cx.waker().clone(), Arc::new(sense).into()))
            }
        };
        let answer = this.request.as_mut().poll(&mut Context::from_waker(sensing));
        answer.map(|answer| (answer, this.panicked.load(Ordering::Acquire)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request(bool);

    impl Message for Request {
        type Result = u32;
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().unwrap()
    }

    #[test]
    fn a_closure_and_its_future_may_panic() {
        let early = by_closure(|Request(panics)| {
            assert!(!panics, "a closure panics in this test");
            async { 1 }
        });
        let late = by_closure(|Request(panics)| async move {
            assert!(!panics, "a future panics in this test");
            2
        });
        assert_eq!((now(early(Request(false))), now(late(Request(false)))), (Ran::Done(1), Ran::Done(2)));
        assert_eq!((now(early(Request(true))), now(late(Request(true)))), (Ran::Panicked, Ran::Panicked));
        assert_eq!((now(early(Request(false))), now(late(Request(false)))), (Ran::Done(1), Ran::Done(2)));
    }

    #[test]
    fn a_sender_that_a_panic_drops_is_noticed() {
        for panics in [false, true] {
            let (sender, receiver) = tokio::sync::oneshot::channel::<u32>();
            let mut answer = SensePanic::new(receiver);
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(Pin::new(&mut answer).poll(cx).is_pending());
            let dropping = std::panic::catch_unwind(AssertUnwindSafe(move || {
                let _sender = sender;
                assert!(!panics, "an actor panics in this test");
            }));
            assert_eq!(dropping.is_err(), panics);
            let Poll::Ready((Err(_), panicked)) = Pin::new(&mut answer).poll(cx) else { panic!() };
            assert_eq!(panicked, panics);
        }
    }
}
