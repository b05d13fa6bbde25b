//! The queue between a channel and a stream of deliveries: no Consumer actor in the way.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use actix::Recipient;

use crate::message::{ConsumerEnd, Delivery, DeliverySink, SinkRegistration, TargetLost};

/// Keeps what a stream takes its deliveries from: the queue between a channel and a `DeliveryStream` of the
/// crate `actix-pika`.
///
/// # Examples
/// ```
/// # use actix_pika_actors::StreamSink;
/// assert_eq!(StreamSink::default().waiting(), 0);
/// ```
#[derive(Default)]
pub struct StreamSink {
    state: Mutex<State>,
    /// How often what was here has become stale.
    generation: AtomicU64,
    /// The channel is closed: what was taken and must be settled cannot be.
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Delivery>,
    waker: Option<Waker>,
    end: Option<ConsumerEnd>,
    /// Nobody takes any more; what comes waits for the cancel, or it would come again and again.
    left: bool,
    /// The cancel is on its way, and the channel holds back what is dropped.
    leaving: bool,
    /// Whom to tell that nobody takes any more.
    lost: Option<TargetLost>,
    channel: Option<Recipient<TargetLost>>,
}

impl StreamSink {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells how often deliveries have become stale; those taken in an earlier era are.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::StreamSink;
    /// assert_eq!(StreamSink::default().era(), 0);
    /// ```
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Moves everything that is there into `taken` and tells of which era it is; `Err` when nothing more will come.
    ///
    /// # Examples
    /// ```
    /// # use std::collections::VecDeque;
    /// # use actix_pika_actors::{ConsumerEnd, Delivery, StreamSink};
    /// async fn take(feed: &StreamSink) -> Result<VecDeque<Delivery>, ConsumerEnd> {
    ///     let mut taken = VecDeque::new();
    ///     std::future::poll_fn(|cx| feed.poll_take(&mut taken, cx)).await?;
    ///     Ok(taken)
    /// }
    /// ```
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
            return Poll::Ready(Ok(self.generation()));
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

    /// Counts the deliveries that wait.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::StreamSink;
    /// assert_eq!(StreamSink::default().waiting(), 0);
    /// ```
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Tells whether the channel is closed, so that nothing can be settled any more.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::StreamSink;
    /// assert!(!StreamSink::default().is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Gives back what was taken and not handed out, in front of what has come since, and takes no more.
    ///
    /// # Examples
    /// ```
    /// # use std::collections::VecDeque;
    /// # use actix_pika_actors::StreamSink;
    /// StreamSink::default().give_back(VecDeque::new());
    /// ```
    pub fn give_back(&self, mut taken: VecDeque<Delivery>) {
        let mut state = self.lock();
        state.left = true;
        taken.append(&mut state.queue);
        if state.end.is_none() && !state.leaving {
            state.queue = std::mem::take(&mut taken);
        }
        drop(state);
        drop(taken);
    }

    /// Says that nobody will take anything: the consumer is to be cancelled.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::StreamSink;
    /// StreamSink::default().abandon();
    /// ```
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.left = true;
        let to = state.channel.take().zip(state.lost);
        drop(state);
        if let Some((channel, lost)) = to {
            channel.do_send(lost);
        }
    }
}

impl DeliverySink for StreamSink {
    fn bind(&self, binding: SinkRegistration) {
        let lost = TargetLost { consumer: binding.consumer };
        let mut state = self.lock();
        if state.left {
            drop(state);
            binding.lost.do_send(lost);
        } else {
            (state.lost, state.channel) = (Some(lost), Some(binding.lost));
        }
    }

    fn batch(&self, deliveries: Vec<Delivery>) {
        let mut state = self.lock();
        if state.left && state.leaving {
            drop(state);
            drop(deliveries);
            return;
        }
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
        self.generation.fetch_add(1, Ordering::Release);
        let gone = std::mem::take(&mut state.queue);
        drop(state);
        gone.into_iter().for_each(Delivery::discard);
    }

    fn leave(&self, at_once: bool) {
        let mut state = self.lock();
        state.leaving = true;
        state.left |= at_once;
        let gone = if state.left { std::mem::take(&mut state.queue) } else { VecDeque::new() };
        drop(state);
        drop(gone);
    }

    fn end(&self, end: ConsumerEnd) {
        let closed = matches!(end, ConsumerEnd::Closed(_));
        let mut state = self.lock();
        // What the stream has not taken yet is still its to take, unless that cannot be settled or the stream is gone.
        let (keep, gone): (VecDeque<_>, VecDeque<_>) = match end {
            _ if state.left => (VecDeque::new(), std::mem::take(&mut state.queue)),
            ConsumerEnd::CancelledByBroker => (std::mem::take(&mut state.queue), VecDeque::new()),
            ConsumerEnd::Closed(_) => state.queue.drain(..).partition(Delivery::is_no_ack),
            _ => (VecDeque::new(), std::mem::take(&mut state.queue)),
        };
        state.queue = keep;
        state.end.get_or_insert(end);
        self.closed.fetch_or(closed, Ordering::Relaxed);
        let channel = state.channel.take();
        let waker = state.waker.take();
        drop(state);
        drop((gone, channel));
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for StreamSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("StreamSink").field("waiting", &state.queue.len()).field("end", &state.end).finish()
    }
}
