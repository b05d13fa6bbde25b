//! The Consumer actor: it feeds one user actor, on the thread where `consume` was called, so that a batch crosses
//! threads once and each delivery is then a local letter.
//!
//! Where the broker bounds what is unsettled (prefetch), it hands on at once; where it does not, permits do.

mod permits;
mod stream_sink;
mod target;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock},
};

use actix::{Actor, ActorContext, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, Recipient};

pub use self::stream_sink::StreamSink;
use self::{permits::Permits, target::Target};
use crate::message::{
    Consume, ConsumerEnd, Delivery, DeliverySink, SinkRegistration, TargetLost, WorkerFactory,
};

/// How often an idle consumer looks whether its target is still there.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// Feeds one user actor with its deliveries, on the thread where `consume` was called. It takes no messages
/// of an application: [`CancelConsumer`](crate::CancelConsumer) and [`PauseConsumer`](crate::PauseConsumer)
/// are for the [`Channel`](crate::Channel).
///
/// **Over a reconnect**: it stays, with its target.
#[derive(Debug)]
pub struct Consumer {
    target: Target,
    /// A worker is to be built, after a wait.
    building: bool,
    permits: Arc<Permits>,
    waiting: VecDeque<Delivery>,
    /// Whom to tell when the target is gone; taken once told.
    lost: Option<(u32, Recipient<TargetLost>)>,
    /// Nobody takes any more; what comes until the cancel is answered is held back by the channel.
    left: bool,
    /// Nothing more comes; what waits is still the target's.
    ended: bool,
}

impl Consumer {
    /// Starts one on the thread of `arbiter`, or on the calling one.
    pub(crate) fn start(
        target: Recipient<Delivery>,
        arbiter: Option<&ArbiterHandle>,
    ) -> Arc<dyn DeliverySink> {
        Self::launch(Target::actor(target), arbiter)
    }

    /// Starts one that builds its workers itself, on the thread of `arbiter`, or on the calling one.
    pub(crate) fn start_supervised(
        factory: WorkerFactory,
        arbiter: Option<&ArbiterHandle>,
    ) -> Arc<dyn DeliverySink> {
        Self::launch(Target::supervised(factory), arbiter)
    }

    fn launch(target: Target, arbiter: Option<&ArbiterHandle>) -> Arc<dyn DeliverySink> {
        let permits = Arc::new(Permits::default());
        let actor = Self {
            target,
            building: false,
            permits: permits.clone(),
            waiting: VecDeque::new(),
            lost: None,
            left: false,
            ended: false,
        };
        let addr = match arbiter {
            Some(arbiter) => Self::start_in_arbiter(arbiter, |ctx| {
                ctx.set_mailbox_capacity(0);
                actor
            }),
            None => Actor::start(actor),
        };
        Arc::new(ToConsumer { addr, permits, lost: OnceLock::new() })
    }

    fn hand_on(&mut self, ctx: &mut Context<Self>) {
        let target = self.target.alive();
        if !self.waiting.is_empty() && target.is_none() {
            self.target_gone(ctx);
            if self.ended {
                ctx.stop();
            }
            return;
        }
        while let Some(target) = target.filter(|_| self.permits.allows(self.waiting.len())) {
            let Some(delivery) = self.waiting.pop_front() else { break };
            target.do_send(delivery);
        }
        if self.waiting.is_empty() {
            if self.ended {
                ctx.stop();
            }
            return;
        }
        self.permits.wait(self.waiting.len());
        // A permit may have come back between the two lines above.
        if self.permits.allows(self.waiting.len()) {
            ctx.notify(Resume);
        }
    }

    /// Deliveries wait until the broker has cancelled the consumer: handed back now, they would come again.
    fn target_gone(&mut self, ctx: &mut Context<Self>) {
        if self.target.is_supervised() {
            self.build_later(ctx);
            return;
        }
        if let Some((consumer, lost)) = self.lost.take() {
            log::warn!("consumer {consumer}: the actor that it feeds is gone");
            lost.do_send(TargetLost { consumer });
        }
    }
}

impl Consumer {
    /// Builds the next worker after a wait; deliveries wait meanwhile, at most as many as the prefetch lets come.
    fn build_later(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.building, true) {
            return;
        }
        let wait = self.target.lost();
        log::warn!("consumer: its worker is gone; another one is built in {wait:?}");
        ctx.run_later(wait, |consumer, ctx| {
            consumer.building = false;
            consumer.target.build();
            consumer.hand_on(ctx);
        });
    }
}

impl Consume {
    /// Names who builds the actors that get the deliveries, on `arbiter` rather than beside the channel.
    #[doc(hidden)]
    pub fn deliver_by(
        mut self,
        factory: impl FnMut() -> Recipient<Delivery> + Send + 'static,
        arbiter: Option<&ArbiterHandle>,
    ) -> Self {
        match arbiter {
            Some(arbiter) => self.inlet(Consumer::start_supervised(Box::new(factory), Some(arbiter))),
            None => {
                self.target = Some(crate::message::DeliveryTarget::Supervised(Arc::new(Mutex::new(Some(
                    Box::new(factory),
                )))));
                self
            }
        }
    }

    /// Names the actor that gets the deliveries, fed from a Consumer actor on `arbiter` rather than beside the channel.
    #[doc(hidden)]
    pub fn deliver_from(self, target: Recipient<Delivery>, arbiter: Option<&ArbiterHandle>) -> Self {
        match arbiter {
            Some(arbiter) => self.inlet(Consumer::start(target, Some(arbiter))),
            None => self.deliver_to(target),
        }
    }

    /// Puts the deliveries where a stream takes them.
    #[doc(hidden)]
    pub fn feed(self, feed: Arc<StreamSink>) -> Self {
        self.inlet(feed)
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        ctx.run_interval(LOOK, |consumer, ctx| {
            if consumer.target.alive().is_none() {
                consumer.target_gone(ctx);
                if consumer.ended {
                    ctx.stop();
                }
            }
        });
        self.target.build();
    }
}

impl Drop for Consumer {
    // Its arbiter has ended, or the factory of its workers has panicked: without a word to the channel, what comes would be dropped and come again for ever.
    fn drop(&mut self) {
        if let Some((consumer, lost)) = self.lost.take() {
            lost.do_send(TargetLost { consumer });
        }
    }
}

/// What one run of frames held for one consumer.
#[derive(Debug)]
struct DeliveryBatch(Vec<Delivery>);

impl Message for DeliveryBatch {
    type Result = ();
}

/// The consumer is being cancelled.
#[derive(Debug)]
struct Leave {
    at_once: bool,
}

impl Message for Leave {
    type Result = ();
}

/// Permits have come back.
#[derive(Debug)]
struct Resume;

impl Message for Resume {
    type Result = ();
}

/// What waits has become stale.
#[derive(Debug)]
struct Discard;

impl Message for Discard {
    type Result = ();
}

impl Handler<Discard> for Consumer {
    type Result = ();

    fn handle(&mut self, _: Discard, _: &mut Self::Context) {
        self.waiting.drain(..).for_each(Delivery::discard);
    }
}

#[derive(Debug)]
struct Bound(SinkRegistration);

impl Message for Bound {
    type Result = ();
}

#[derive(Debug)]
struct End(ConsumerEnd);

impl Message for End {
    type Result = ();
}

impl Handler<Bound> for Consumer {
    type Result = ();

    fn handle(&mut self, Bound(binding): Bound, _: &mut Self::Context) {
        self.lost = Some((binding.consumer, binding.lost));
    }
}

impl Handler<DeliveryBatch> for Consumer {
    type Result = ();

    fn handle(&mut self, DeliveryBatch(batch): DeliveryBatch, ctx: &mut Self::Context) {
        if self.left {
            return;
        }
        let target = self.target.alive().filter(|_| self.permits.free() && self.waiting.is_empty());
        if let Some(target) = target {
            for delivery in batch {
                target.do_send(delivery);
            }
            return;
        }
        self.waiting.extend(batch);
        self.hand_on(ctx);
    }
}

impl Handler<Leave> for Consumer {
    type Result = ();

    fn handle(&mut self, Leave { at_once }: Leave, _: &mut Self::Context) {
        if at_once || self.target.alive().is_none() {
            self.left = true;
            self.waiting.clear();
        }
    }
}

impl Handler<Resume> for Consumer {
    type Result = ();

    fn handle(&mut self, _: Resume, ctx: &mut Self::Context) {
        self.hand_on(ctx);
    }
}

impl Handler<End> for Consumer {
    type Result = ();

    fn handle(&mut self, End(end): End, ctx: &mut Self::Context) {
        self.lost = None;
        if matches!(end, ConsumerEnd::CancelledByBroker | ConsumerEnd::Closed(_)) {
            // What needs no settling came for good, and nowhere is another copy of it.
            self.waiting.retain(Delivery::is_no_ack);
            self.ended = true;
            self.hand_on(ctx);
        } else {
            log::debug!("consumer ended, {} let go: {end:?}", self.waiting.len());
            ctx.stop();
        }
    }
}

#[derive(Debug)]
struct ToConsumer {
    addr: Addr<Consumer>,
    permits: Arc<Permits>,
    lost: OnceLock<(u32, Recipient<TargetLost>)>,
}

impl Drop for ToConsumer {
    // A consumer that never began.
    fn drop(&mut self) {
        self.addr.do_send(End(ConsumerEnd::Cancelled));
    }
}

impl DeliverySink for ToConsumer {
    fn bind(&self, binding: SinkRegistration) {
        self.permits.set(binding.permits);
        self.lost.get_or_init(|| (binding.consumer, binding.lost.clone()));
        self.addr.do_send(Bound(binding));
    }

    fn batch(&self, deliveries: Vec<Delivery>) {
        if !self.addr.connected() {
            // Its arbiter has ended.
            if let Some((consumer, lost)) = self.lost.get() {
                lost.do_send(TargetLost { consumer: *consumer });
            }
        }
        self.permits.add(deliveries.len());
        self.addr.do_send(DeliveryBatch(deliveries));
    }

    fn ended(&self) {
        if self.permits.release() {
            self.addr.do_send(Resume);
        }
    }

    fn pause(&self, paused: bool) {
        self.permits.pause(paused);
        if !paused {
            self.addr.do_send(Resume);
        }
    }

    fn discard(&self) {
        self.addr.do_send(Discard);
    }

    fn leave(&self, at_once: bool) {
        self.addr.do_send(Leave { at_once });
    }

    fn end(&self, end: ConsumerEnd) {
        self.addr.do_send(End(end));
    }
}
