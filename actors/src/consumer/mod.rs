//! The Consumer actor: it feeds one user actor, on the thread where `consume` was called, so that a batch of
//! deliveries crosses threads once and each delivery is then a message within one thread.
//!
//! Where the broker bounds the unsettled deliveries (prefetch), it hands them on at once; elsewhere, as far
//! as [`permits`] allow. What it decides is in [`state`], [`pace`] and
//! [`worker_backoff`].
//!
//! Its mailbox, all from the channel by way of [`sink`]: [`Registered`], [`DeliveryBatch`], [`Resume`],
//! [`Discard`], [`TakeBack`], [`Leaving`], [`End`]. It reports a target that has stopped to the channel, with `TargetLost`.
//!
//! A stream of deliveries has no Consumer actor: see [`stream_sink`].

mod handover;
mod pace;
mod permits;
mod sink;
mod state;
mod stream_sink;
mod stream_state;
mod target;
mod worker_backoff;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ArbiterHandle, AsyncContext, Context, Handler, Message, Recipient};
use tokio::time::Instant;

use self::{
    handover::Handover,
    sink::{ActorSink, Shared},
    state::{FeedState, LossAction},
    target::Target,
};
pub use self::{stream_sink::StreamSink, worker_backoff::WorkerBackoff};
use crate::message::{ConsumerEnd, Delivery, DeliverySink, Leave, SinkRegistration, TargetEnd, TargetLost};

/// How often a consumer checks whether its target still runs, and how quick it is.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Passes deliveries to one user actor, on the thread where `consume` was called. Applications send their
/// messages, such as [`CancelConsumer`](crate::CancelConsumer) and [`PauseConsumer`](crate::PauseConsumer),
/// to the [`Channel`](crate::Channel), not to this actor.
///
/// **Over a reconnect**: it stays, with its target.
#[derive(Debug)]
pub struct Consumer {
    state: FeedState,
    target: Target,
    backoff: WorkerBackoff,
    shared: Arc<Shared>,
    handover: Handover,
    /// The deliveries that wait for a permit or for a target.
    waiting: VecDeque<Delivery>,
    /// Set from the registration with the channel until the target is reported lost or the consumer has
    /// ended.
    loss_report: Option<LossReport>,
}

/// Reports to the channel, when it is dropped, that the deliveries have no target. The drop of the actor
/// counts too: if its arbiter has ended or a factory has panicked, the broker would otherwise deliver the
/// same messages again forever.
#[derive(Debug)]
struct LossReport {
    consumer: u32,
    tag: Arc<str>,
    why: TargetEnd,
    channel: Option<Recipient<TargetLost>>,
}

impl LossReport {
    fn disarm(mut self) {
        self.channel = None;
    }
}

impl Drop for LossReport {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            channel.do_send(TargetLost { consumer: self.consumer, why: self.why });
        }
    }
}

impl Consumer {
    fn launch(target: Target, arbiter: Option<&ArbiterHandle>) -> Arc<dyn DeliverySink> {
        let shared = Arc::new(Shared::default());
        let actor = Self {
            state: FeedState::Feeding,
            target,
            backoff: WorkerBackoff::new(Instant::now()),
            shared: shared.clone(),
            handover: Handover::default(),
            waiting: VecDeque::new(),
            loss_report: None,
        };
        let consumer = match arbiter {
            Some(arbiter) => Self::start_in_arbiter(arbiter, |ctx| {
                ctx.set_mailbox_capacity(0);
                actor
            }),
            None => Actor::start(actor),
        };
        Arc::new(ActorSink::new(consumer, shared))
    }

    /// Hands waiting deliveries on, as far as there is a target and permits allow.
    fn feed(&mut self, ctx: &mut Context<Self>) {
        let target = self.target.running();
        if !self.waiting.is_empty() && target.is_none() {
            self.target_stopped(ctx);
            return;
        }
        let (waiting, permits) = (&mut self.waiting, &self.shared.permits);
        if let Some(target) = target {
            let size = waiting.len();
            let allowed =
                std::iter::from_fn(|| permits.allow(waiting.len()).then(|| waiting.pop_front()).flatten());
            self.handover.send_all(target, size, allowed);
        }
        if self.waiting.is_empty() {
            if self.state.is_draining() {
                self.handover.leave();
                ctx.stop();
            }
            return;
        }
        self.shared.permits.wait(self.waiting.len());
        // A permit may have been released between the two lines above.
        if self.shared.permits.allow(self.waiting.len()) {
            ctx.notify(Resume);
        }
    }

    fn target_stopped(&mut self, ctx: &mut Context<Self>) {
        match self.state.target_stopped(self.target.is_supervised()) {
            LossAction::None => {}
            LossAction::Rebuild => self.rebuild_later(ctx),
            LossAction::Report => {
                if let Some(mut report) = self.loss_report.take() {
                    log::warn!("consumer {:?}: its actor has stopped", report.tag);
                    report.why = TargetEnd::ActorStopped;
                }
            }
            LossAction::HandBack => self.hand_back(),
            LossAction::Stop => ctx.stop(),
        }
    }

    /// Hands back the waiting deliveries.
    fn hand_back(&mut self) {
        self.waiting.drain(..).for_each(Delivery::hand_back);
    }

    fn rebuild_later(&mut self, ctx: &mut Context<Self>) {
        self.target.clear();
        let wait = self.backoff.worker_stopped(Instant::now(), fastrand::f64());
        let tag = self.loss_report.as_ref().map_or("", |report| &report.tag);
        log::warn!("consumer {tag:?}: its worker has stopped, the next one is built in {wait:?}");
        ctx.run_later(wait, |consumer, ctx| {
            if consumer.state.rebuild() {
                consumer.build();
                consumer.feed(ctx);
            }
        });
    }

    fn build(&mut self) {
        self.target.build();
        self.handover = Handover::default();
        self.shared.set_target(&self.target);
        self.backoff.worker_built(Instant::now());
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        ctx.run_interval(CHECK_INTERVAL, |consumer, ctx| {
            consumer.handover.measure();
            if consumer.target.running().is_none() {
                consumer.target_stopped(ctx);
            }
        });
        self.build();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.hand_back();
    }
}

macro_rules! messages {
    ($($message:ty),*) => { $(
        impl Message for $message {
            type Result = ();
        }
    )* };
}

messages! { Registered, DeliveryBatch, Resume, Discard, TakeBack, Leaving, End }

/// The consumer is registered with a channel.
#[derive(Debug)]
struct Registered(SinkRegistration);

impl Handler<Registered> for Consumer {
    type Result = ();

    fn handle(&mut self, Registered(registration): Registered, _: &mut Self::Context) {
        if let Some(earlier) = self.loss_report.take() {
            earlier.disarm();
        }
        let SinkRegistration { consumer, tag, lost, .. } = registration;
        let why = TargetEnd::ConsumerStopped;
        self.loss_report = Some(LossReport { consumer, tag, why, channel: Some(lost) });
        self.state.registered();
    }
}

/// The deliveries of this consumer in one batch of frames.
#[derive(Debug)]
struct DeliveryBatch(Vec<Delivery>);

impl Drop for DeliveryBatch {
    // The actor drops them, or has ended.
    fn drop(&mut self) {
        self.0.drain(..).for_each(Delivery::hand_back);
    }
}

impl Handler<DeliveryBatch> for Consumer {
    type Result = ();

    fn handle(&mut self, mut batch: DeliveryBatch, ctx: &mut Self::Context) {
        if self.state.is_dropping() {
            return;
        }
        let is_free = self.shared.permits.is_free() && self.waiting.is_empty();
        if let Some(target) = self.target.running().filter(|_| is_free) {
            self.handover.send_all(target, batch.0.len(), batch.0.drain(..));
            return;
        }
        self.waiting.extend(batch.0.drain(..));
        self.feed(ctx);
    }
}

/// Permits were released, or a pause is over.
#[derive(Debug)]
struct Resume;

impl Handler<Resume> for Consumer {
    type Result = ();

    fn handle(&mut self, _: Resume, ctx: &mut Self::Context) {
        self.feed(ctx);
    }
}

/// The deliveries that the target has not begun are stale: the broker delivers them again.
#[derive(Debug)]
struct Discard;

impl Handler<Discard> for Consumer {
    type Result = ();

    fn handle(&mut self, _: Discard, _: &mut Self::Context) {
        self.handover.take_back();
        self.waiting.drain(..).for_each(Delivery::discard);
    }
}

/// What the target has not begun returns to the queue: it has too many bytes.
#[derive(Debug)]
struct TakeBack;

impl Handler<TakeBack> for Consumer {
    type Result = ();

    fn handle(&mut self, _: TakeBack, _: &mut Self::Context) {
        self.handover.take_back();
        self.hand_back();
    }
}

/// The consumer is being cancelled.
#[derive(Debug)]
struct Leaving(Leave);

impl Handler<Leaving> for Consumer {
    type Result = ();

    fn handle(&mut self, Leaving(leave): Leaving, ctx: &mut Self::Context) {
        if leave == Leave::Process && self.target.running().is_some() {
            self.state.process_all();
            self.shared.permits.set_paused(false);
            self.feed(ctx);
        } else {
            self.state.drop_deliveries();
            self.handover.take_back();
            self.hand_back();
        }
    }
}

/// The consumer has ended.
#[derive(Debug)]
struct End(ConsumerEnd);

impl Handler<End> for Consumer {
    type Result = ();

    fn handle(&mut self, End(end): End, ctx: &mut Self::Context) {
        if let Some(report) = self.loss_report.take() {
            report.disarm();
        }
        match end {
            ConsumerEnd::Cancelled if self.state.is_processing() => {}
            ConsumerEnd::CancelledByBroker | ConsumerEnd::Closed(_) => {
                if matches!(end, ConsumerEnd::Closed(_)) {
                    self.handover.take_back();
                }
                // What needs no acknowledgement still goes to the target: the broker has no copy of it.
                let (kept, returned) = self.waiting.drain(..).partition(Delivery::is_no_ack);
                self.waiting = returned;
                self.hand_back();
                self.waiting = kept;
            }
            _ => {
                log::debug!(
                    "consumer ended ({end:?}), {} waiting deliveries handed back",
                    self.waiting.len()
                );
                return ctx.stop();
            }
        }
        self.state.drain();
        self.feed(ctx);
    }
}
