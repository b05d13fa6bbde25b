//! The queue between a channel and a stream of deliveries. A stream needs no Consumer actor.

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

use super::stream_state::StreamState;
use crate::message::{ConsumerEnd, Delivery, DeliverySink, Leave, SinkRegistration, TargetEnd, TargetLost};

/// The queue between a channel and a `DeliveryStream` of the crate `actix-pika`.
///
/// **Over a reconnect**: it stays. Deliveries that were queued are discarded, since the broker delivers them
/// again, and [`generation`](Self::generation) is increased.
///
/// # Examples
/// ```
/// # use actix_pika_actors::facade::StreamSink;
/// assert_eq!(StreamSink::default().waiting(), 0);
/// ```
#[derive(Default)]
pub struct StreamSink {
    inner: Mutex<Inner>,
    /// How often the deliveries have become stale.
    generation: AtomicU64,
    /// Whether the channel is closed, so that deliveries cannot be settled any more.
    closed: AtomicBool,
}

#[derive(Default)]
struct Inner {
    state: StreamState,
    queue: VecDeque<Delivery>,
    waker: Option<Waker>,
    /// Where to report that the stream is dropped; taken once it is reported.
    registration: Option<(TargetLost, Recipient<TargetLost>)>,
}

impl StreamSink {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how often the deliveries have become stale. Deliveries taken in an earlier generation are
    /// stale.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::facade::StreamSink;
    /// assert_eq!(StreamSink::default().generation(), 0);
    /// ```
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Moves all queued deliveries into `taken` and returns their [`generation`](Self::generation). Waits
    /// while there are none.
    ///
    /// # Errors
    /// The end of the consumer, once the queue is empty and nothing more arrives.
    ///
    /// # Examples
    /// ```
    /// # use std::collections::VecDeque;
    /// # use actix_pika_actors::{ConsumerEnd, Delivery, facade::StreamSink};
    /// async fn take(sink: &StreamSink) -> Result<VecDeque<Delivery>, ConsumerEnd> {
    ///     let mut taken = VecDeque::new();
    ///     std::future::poll_fn(|cx| sink.poll_take(&mut taken, cx)).await?;
    ///     Ok(taken)
    /// }
    /// ```
    pub fn poll_take(
        &self,
        taken: &mut VecDeque<Delivery>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<u64, ConsumerEnd>> {
        let mut inner = self.lock();
        if !inner.queue.is_empty() {
            if taken.is_empty() {
                std::mem::swap(taken, &mut inner.queue);
            } else {
                taken.append(&mut inner.queue);
            }
            return Poll::Ready(Ok(self.generation()));
        }
        if let Some(end) = inner.state.end() {
            return Poll::Ready(Err(end.clone()));
        }
        let old = match &inner.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => inner.waker.replace(cx.waker().clone()),
        };
        drop(inner);
        drop(old);
        Poll::Pending
    }

    /// Returns the number of queued deliveries.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::facade::StreamSink;
    /// assert_eq!(StreamSink::default().waiting(), 0);
    /// ```
    pub fn waiting(&self) -> usize {
        self.lock().queue.len()
    }

    /// Returns whether the channel is closed, so that deliveries cannot be settled any more.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::facade::StreamSink;
    /// assert!(!StreamSink::default().is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Puts deliveries that were taken and not handed out back in front of the queue, and takes no more. They
    /// are kept until the consumer is cancelled; if that has begun, they are dropped.
    ///
    /// # Examples
    /// ```
    /// # use std::collections::VecDeque;
    /// # use actix_pika_actors::facade::StreamSink;
    /// StreamSink::default().give_back(VecDeque::new());
    /// ```
    pub fn give_back(&self, mut taken: VecDeque<Delivery>) {
        let mut inner = self.lock();
        taken.append(&mut inner.queue);
        if inner.state.stream_dropped() {
            inner.queue = std::mem::take(&mut taken);
        }
        drop(inner);
        hand_back(taken);
    }

    /// Has the channel cancel the consumer, because its stream is dropped.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::facade::StreamSink;
    /// StreamSink::default().abandon();
    /// ```
    pub fn abandon(&self) {
        let mut inner = self.lock();
        inner.state.stream_dropped();
        let registration = inner.registration.take();
        drop(inner);
        if let Some((lost, channel)) = registration {
            channel.do_send(lost);
        }
    }
}

impl DeliverySink for StreamSink {
    fn bind(&self, registration: SinkRegistration) {
        let lost = TargetLost { consumer: registration.consumer, why: TargetEnd::StreamDropped };
        let mut inner = self.lock();
        if inner.state.has_stream() {
            inner.registration = Some((lost, registration.lost));
        } else {
            drop(inner);
            registration.lost.do_send(lost);
        }
    }

    fn batch(&self, deliveries: Vec<Delivery>) {
        let mut inner = self.lock();
        if inner.state.is_dropping() {
            drop(inner);
            hand_back(deliveries);
            return;
        }
        inner.queue.extend(deliveries);
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn ended(&self) {}

    fn epoch_ended(&self) {
        // Who awaits a delivery may have to know that none of this epoch comes any more.
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn pause(&self, _: bool) {}

    fn take_back(&self) {
        let waiting = std::mem::take(&mut self.lock().queue);
        hand_back(waiting);
    }

    fn discard(&self) {
        let mut inner = self.lock();
        self.generation.fetch_add(1, Ordering::Release);
        let stale = std::mem::take(&mut inner.queue);
        drop(inner);
        stale.into_iter().for_each(Delivery::discard);
    }

    fn leave(&self, leave: Leave) {
        let mut inner = self.lock();
        let keep = inner.state.cancel_started(leave == Leave::AtOnce);
        let dropped = if keep { VecDeque::new() } else { std::mem::take(&mut inner.queue) };
        drop(inner);
        hand_back(dropped);
    }

    fn has_target(&self) -> bool {
        self.lock().state.has_stream()
    }

    fn end(&self, end: ConsumerEnd) {
        let closed = matches!(end, ConsumerEnd::Closed(_));
        let mut inner = self.lock();
        let queue = std::mem::take(&mut inner.queue);
        // The stream still gets what it can settle, and what needs no acknowledgement.
        let (kept, dropped): (VecDeque<_>, VecDeque<_>) = match end {
            _ if !inner.state.has_stream() => (VecDeque::new(), queue),
            ConsumerEnd::CancelledByBroker => (queue, VecDeque::new()),
            ConsumerEnd::Closed(_) => queue.into_iter().partition(Delivery::is_no_ack),
            _ => (VecDeque::new(), queue),
        };
        inner.queue = kept;
        inner.state.consumer_ended(end);
        self.closed.fetch_or(closed, Ordering::Relaxed);
        let registration = inner.registration.take();
        let waker = inner.waker.take();
        drop(inner);
        drop(registration);
        hand_back(dropped);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Returns deliveries that the stream has not yielded. Call it without the lock: the outbox has one too.
fn hand_back(deliveries: impl IntoIterator<Item = Delivery>) {
    deliveries.into_iter().for_each(Delivery::hand_back);
}

impl fmt::Debug for StreamSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("StreamSink")
            .field("state", &inner.state)
            .field("waiting", &inner.queue.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU64);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_end_of_an_epoch_wakes_the_stream_once() {
        let (sink, woken) = (StreamSink::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        assert!(sink.poll_take(&mut VecDeque::new(), &mut Context::from_waker(&waker)).is_pending());
        sink.epoch_ended();
        sink.epoch_ended();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
