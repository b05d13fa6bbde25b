//! The runner: it owns the deliveries of a consumer, has a front handle them as tasks, and settles them.
//!
//! It is a plain future. Dropping it cancels the consumer, and all messages return to their queue.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_pika_actors::facade;
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    DrainReport, Undecodable,
    control::{self, Control, Request},
    front::{Front, Gone, Running},
    outcomes::Outcomes,
    schedule::{Schedule, Slot},
    token::Progressing,
    verdict::{Means, Next},
};
use crate::{
    ConsumerEnd, Delivery, DeliveryStream, Result,
    caught::caught,
    codec::Codec,
    hook::{HookedTask, Hooks},
    message::Content,
    retry::{Retried, RetryLadder},
};

/// How much a poll does before other tasks of the thread get their turn.
const BUDGET: usize = 128;

/// How long a drain waits at its limit for the reply to the cancel, so that what it gives back is not delivered here.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// Returns the lane of a message.
pub(crate) type LaneOf<T> = Arc<dyn Fn(&T, &Content) -> u64 + Send + Sync>;

/// What a runner is told when it is made.
pub(crate) struct Settings<T> {
    pub(crate) at_once: usize,
    pub(crate) prefetch: u16,
    pub(crate) timeout: Option<Duration>,
    pub(crate) undecodable: Undecodable,
    pub(crate) means: Means,
    pub(crate) lane_of: Option<LaneOf<T>>,
    pub(crate) ladder: Option<Arc<RetryLadder>>,
    pub(crate) hooks: Hooks,
}

/// What a task does when its pause has ended.
#[derive(Clone, Debug)]
pub(super) enum Then {
    /// It runs again.
    RunAgain,
    /// Its message returns to the queue.
    Return,
    /// A copy of its message is published, because of this cause.
    Publish(Next, Arc<str>),
}

/// A message that the runner holds.
pub(super) struct Held<T> {
    pub(super) delivery: Delivery,
    /// What it was decoded to, if that was done before its turn.
    pub(super) decoded: Early<T>,
    /// That of its stream: if the stream has another one, it is stale.
    pub(super) generation: u64,
    /// How often its task has failed here.
    pub(super) failures: u32,
    /// How often its task was cut off by the failure of another one.
    pub(super) accidents: u32,
    pub(super) then: Then,
    /// How often its copy could not be published.
    pub(super) refusals: u32,
    pub(super) progress: Option<Progressing>,
    /// What hooks are told of its end, while it runs.
    pub(super) hooked: Option<HookedTask>,
}

/// The value of a message before its turn. It may panic when it is dropped.
pub(super) struct Early<T>(pub(super) Option<Result<(T, Content)>>);

impl<T> Drop for Early<T> {
    fn drop(&mut self) {
        caught(|| self.0 = None);
    }
}

/// Where deliveries come from.
pub(super) enum Source {
    Consuming(DeliveryStream),
    /// The consumer is being cancelled.
    Closing(BoxFuture<'static, ()>, ConsumerEnd),
    Ended(ConsumerEnd),
}

pub(crate) struct Runner<T, C, F: Front<T>> {
    pub(super) queue: String,
    pub(super) codec: C,
    pub(super) front: F,
    pub(super) settings: Settings<T>,
    pub(super) source: Source,
    /// The generation of the stream, as of the last poll.
    pub(super) generation: u64,
    pub(super) schedule: Schedule<Held<T>>,
    pub(super) running: FuturesUnordered<Running<F::Run>>,
    /// Copies that are being published to a ladder.
    pub(super) publishing: FuturesUnordered<BoxFuture<'static, (Slot, Result<Retried>)>>,
    pub(super) outcomes: Outcomes,
    /// Tasks that their actor has not answered, until it is known why.
    pub(super) unanswered: Vec<Slot>,
    pub(super) judge_at: Option<Instant>,
    /// What returns to the queue when the consumer is cancelled: `true` if its task has failed.
    pub(super) leftover: Vec<(Delivery, bool)>,
    deadline: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    pub(super) report: DrainReport,
    control: Arc<Control>,
    pub(super) warned: bool,
}

/// All its futures are in boxes of their own.
impl<T, C, F: Front<T>> Unpin for Runner<T, C, F> {}

impl<T: 'static, C: Codec<T>, F: Front<T>> Runner<T, C, F> {
    pub(crate) fn new(
        queue: String,
        stream: DeliveryStream,
        codec: C,
        front: F,
        settings: Settings<T>,
        control: Arc<Control>,
    ) -> Self {
        Self {
            queue,
            codec,
            front,
            source: Source::Consuming(stream),
            generation: 0,
            schedule: Schedule::new(settings.at_once),
            running: FuturesUnordered::new(),
            publishing: FuturesUnordered::new(),
            outcomes: Outcomes::new(2 * usize::from(settings.prefetch)),
            settings,
            unanswered: Vec::new(),
            judge_at: None,
            leftover: Vec::new(),
            deadline: None,
            timer: None,
            report: DrainReport::default(),
            control,
            warned: false,
        }
    }

    /// Takes the deliveries that are there, and starts tasks while there are permits. Returns whether it did anything.
    fn poll_deliveries(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> bool {
        let before = *budget;
        while *budget > 0 {
            if !self.takes_ahead() && !self.schedule.has_permit() {
                break;
            }
            if self.schedule.has_permit() {
                match self.front.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(Gone)) => {
                        if matches!(self.source, Source::Consuming(_)) || self.schedule.waiting() > 0 {
                            self.close(ConsumerEnd::TargetGone);
                            // The cancel is to be polled.
                            *budget -= 1;
                        }
                        break;
                    }
                    Poll::Pending => break,
                }
                if let Some(slot) = self.schedule.start() {
                    *budget -= 1;
                    self.begin(slot);
                    continue;
                }
            }
            let Source::Consuming(stream) = &mut self.source else { break };
            match stream.poll_next_unpin(cx) {
                Poll::Ready(Some(delivery)) => {
                    *budget -= 1;
                    let generation = stream.yielded_generation();
                    // It may have changed since the poll began, on another thread.
                    self.renew(generation);
                    self.arrive(delivery, generation);
                }
                Poll::Ready(None) => {
                    let end = stream.end().cloned().unwrap_or(ConsumerEnd::Cancelled);
                    self.ended_by_others(end);
                    *budget -= 1;
                }
                Poll::Pending => break,
            }
        }
        *budget < before
    }

    /// Returns whether deliveries are taken before they can start, to find other lanes.
    fn takes_ahead(&self) -> bool {
        self.settings.lane_of.is_some() && matches!(self.source, Source::Consuming(_))
    }

    fn poll_running(&mut self, cx: &mut Context<'_>, budget: &mut usize) -> bool {
        let before = *budget;
        while *budget > 0 {
            let Poll::Ready(Some((slot, ran))) = self.running.poll_next_unpin(cx) else { break };
            *budget -= 1;
            self.ended(slot, ran);
        }
        while *budget > 0 {
            let Poll::Ready(Some((slot, result))) = self.publishing.poll_next_unpin(cx) else { break };
            *budget -= 1;
            self.published(slot, result);
        }
        *budget < before
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.source {
            Source::Consuming(stream) => {
                let generation = stream.generation();
                self.renew(generation);
                false
            }
            Source::Closing(cancel, end) => {
                if cancel.poll_unpin(cx).is_pending() {
                    return false;
                }
                self.source = Source::Ended(end.clone());
                self.return_leftover();
                self.control.enter(control::Phase::Stopped);
                true
            }
            Source::Ended(_) => false,
        }
    }

    /// After a reconnect, drops what has not begun: the broker delivers it again.
    fn renew(&mut self, generation: u64) {
        if generation > self.generation {
            self.generation = generation;
            let stale = self.schedule.take_waiting();
            stale.into_iter().for_each(|held| facade::discard(held.delivery));
        }
    }

    fn poll_request(&mut self) {
        let Request::Stop(deadline) = self.control.request() else { return };
        self.deadline = deadline;
        // Others may have ended the consumer, which leaves what has not begun.
        let has_unbegun = self.schedule.waiting() > 0 || self.schedule.next_due().is_some();
        if has_unbegun || matches!(self.source, Source::Consuming(_)) {
            self.close(ConsumerEnd::Cancelled);
        }
    }

    /// Does what is due. Returns whether there was anything.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let mut did = false;
        loop {
            let grace = |at: Instant| if self.schedule.busy() > 0 { at } else { at + CANCEL_GRACE };
            let deadline = self.deadline.map(grace).filter(|_| !matches!(self.source, Source::Ended(_)));
            let begun = self.deadline.filter(|_| self.schedule.busy() > 0);
            let due = [self.schedule.next_due(), self.judge_at, deadline, begun].into_iter().flatten().min();
            let Some(due) = due else { return did };
            match &mut self.timer {
                Some(timer) if timer.deadline() == due => {}
                Some(timer) => timer.as_mut().reset(due),
                None => self.timer = Some(Box::pin(sleep_until(due))),
            }
            let is_due = self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
            if !is_due {
                return did;
            }
            did = true;
            let now = Instant::now().max(due);
            while let Some(slot) = self.schedule.resume(now) {
                self.go_on(slot);
            }
            if self.judge_at.is_some_and(|at| at <= now) {
                self.judge();
            }
            if let Some(at) = self.deadline
                && at <= now
            {
                self.abandon(at + CANCEL_GRACE <= now);
            }
        }
    }

    /// Ends at the limit of a drain: what has begun returns to the queue.
    fn abandon(&mut self, at_once: bool) {
        self.running.clear();
        self.publishing.clear();
        self.unanswered.clear();
        self.judge_at = None;
        let begun = self.schedule.take_all();
        self.report.abandoned += begun.len();
        self.leftover.extend(begun.into_iter().map(|held| (held.delivery, false)));
        if at_once && matches!(self.source, Source::Closing(..)) {
            self.source = Source::Ended(ConsumerEnd::Cancelled);
        }
        if matches!(self.source, Source::Ended(_)) {
            self.return_leftover();
        }
    }

    fn poll_end(&mut self) -> Option<ConsumerEnd> {
        let Source::Ended(end) = &self.source else { return None };
        let is_idle = self.schedule.busy() == 0 && self.schedule.waiting() == 0;
        is_idle.then(|| end.clone())
    }
}

impl<T: 'static, C: Codec<T>, F: Front<T>> Future for Runner<T, C, F> {
    type Output = ConsumerEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ConsumerEnd> {
        let this = &mut *self;
        this.control.runner().register(cx.waker());
        let mut budget = BUDGET;
        loop {
            this.poll_request();
            let mut did = this.poll_source(cx);
            did |= this.poll_timer(cx);
            did |= this.poll_running(cx, &mut budget);
            did |= this.poll_deliveries(cx, &mut budget);
            if budget > 0 && !matches!(this.source, Source::Consuming(_)) {
                did |= this.front.flush();
            }
            if let Some(end) = this.poll_end() {
                this.control.enter(control::Phase::Ended(end.clone(), this.report));
                return Poll::Ready(end);
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !did {
                return Poll::Pending;
            }
        }
    }
}

impl<T, C, F: Front<T>> Drop for Runner<T, C, F> {
    fn drop(&mut self) {
        self.running.clear();
        self.publishing.clear();
        let mut held = self.schedule.take_waiting();
        // Those that have begun arrived before those that have not, but for lanes, retries and copies.
        let mut all: Vec<Delivery> = self.schedule.take_all().into_iter().map(|held| held.delivery).collect();
        all.extend(held.drain(..).map(|held| held.delivery));
        all.extend(self.leftover.drain(..).map(|(delivery, _)| delivery));
        match &mut self.source {
            Source::Consuming(stream) => {
                all.sort_by_key(Delivery::delivery_tag);
                stream.give_back(all);
            }
            Source::Closing(..) | Source::Ended(_) => all.into_iter().for_each(facade::hand_back),
        }
        self.control.enter(control::Phase::Ended(ConsumerEnd::TargetGone, self.report));
    }
}
