//! The queue between a channel and a stream of deliveries: no Consumer actor in the way.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crate::message::{Binding, ConsumerEnd, Delivery, Inlet};

/// What a stream takes its deliveries from.
#[derive(Default)]
pub struct Feed {
    state: Mutex<State>,
    /// How often what was here has become stale.
    era: AtomicU64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Delivery>,
    waker: Option<Waker>,
    end: Option<ConsumerEnd>,
    /// Nobody takes any more; what comes waits for the cancel, or it would come again and again.
    left: bool,
}

impl Feed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells how often deliveries have become stale; those taken in an earlier era are.
    pub fn era(&self) -> u64 {
        self.era.load(Ordering::Acquire)
    }

    /// Moves everything that is there into `taken` and tells of which era it is; `Err` when nothing more will come.
    pub fn poll_take(
        &self,
        taken: &mut VecDeque<Delivery>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<u64, ConsumerEnd>> {
        let mut state = self.lock();
        if !state.queue.is_empty() {
            if taken.is_empty() {
                std::mem::swap(taken, &mut state.queue);
            } else {
                taken.append(&mut state.queue);
            }
            return Poll::Ready(Ok(self.era()));
        }
        if let Some(end) = &state.end {
            return Poll::Ready(Err(end.clone()));
        }
        let old = match &state.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => state.waker.replace(cx.waker().clone()),
        };
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Gives back what was taken and not handed out, in front of what has come since, and takes no more.
    pub fn leave(&self, mut taken: VecDeque<Delivery>) {
        let mut state = self.lock();
        state.left = true;
        let gone = if state.end.is_some() {
            std::mem::take(&mut state.queue)
        } else {
            taken.append(&mut state.queue);
            state.queue = std::mem::take(&mut taken);
            VecDeque::new()
        };
        drop(state);
        drop((taken, gone));
    }
}

impl Inlet for Feed {
    fn bind(&self, _: Binding) {}

    fn batch(&self, deliveries: Vec<Delivery>) {
        let mut state = self.lock();
        state.queue.extend(deliveries);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn ended(&self) {}

    fn pause(&self, _: bool) {}

    fn discard(&self) {
        let mut state = self.lock();
        self.era.fetch_add(1, Ordering::Release);
        let gone = std::mem::take(&mut state.queue);
        drop(state);
        gone.into_iter().for_each(Delivery::discard);
    }

    fn end(&self, end: ConsumerEnd) {
        let mut state = self.lock();
        // What the stream has not taken yet is still its to take, unless the channel is gone or the stream is.
        let gone = match end {
            ConsumerEnd::CancelledByBroker if !state.left => VecDeque::new(),
            _ => std::mem::take(&mut state.queue),
        };
        state.end.get_or_insert(end);
        let waker = state.waker.take();
        drop(state);
        drop(gone);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Feed").field("waiting", &state.queue.len()).field("end", &state.end).finish()
    }
}
