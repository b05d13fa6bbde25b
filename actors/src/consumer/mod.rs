//! The Consumer actor: it feeds one user actor, on the thread where `consume` was called, so that a batch crosses
//! threads once and each delivery is then a local letter.
//!
//! Where the broker bounds what is unsettled (prefetch), it hands on at once; where it does not, permits do.

mod feed;
mod permits;

use std::{collections::VecDeque, sync::Arc};

use actix::{Actor, ActorContext, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, Recipient};

pub use self::feed::Feed;
use self::permits::Permits;
use crate::message::{Binding, Consume, ConsumerEnd, Delivery, Inlet, Lost};

/// How often an idle consumer looks whether its target is still there.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// Feeds one user actor.
#[derive(Debug)]
pub struct Consumer {
    target: Recipient<Delivery>,
    permits: Arc<Permits>,
    waiting: VecDeque<Delivery>,
    /// Whom to tell when the target is gone; taken once told.
    lost: Option<(u32, Recipient<Lost>)>,
}

impl Consumer {
    /// Starts one on the thread of `arbiter`, or on the calling one.
    pub(crate) fn start(target: Recipient<Delivery>, arbiter: Option<&ArbiterHandle>) -> Arc<dyn Inlet> {
        let permits = Arc::new(Permits::default());
        let actor = Self { target, permits: permits.clone(), waiting: VecDeque::new(), lost: None };
        let addr = match arbiter {
            Some(arbiter) => Self::start_in_arbiter(arbiter, |ctx| {
                ctx.set_mailbox_capacity(0);
                actor
            }),
            None => Actor::start(actor),
        };
        Arc::new(ToConsumer { addr, permits })
    }

    fn hand_on(&mut self, ctx: &mut Context<Self>) {
        if self.waiting.is_empty() {
            return;
        }
        if !self.target.connected() {
            self.target_gone(ctx);
            return;
        }
        while self.permits.allows(self.waiting.len()) {
            let Some(delivery) = self.waiting.pop_front() else { break };
            self.target.do_send(delivery);
        }
        self.permits.wait(self.waiting.len());
        // A permit may have come back between the two lines above.
        if !self.waiting.is_empty() && self.permits.allows(self.waiting.len()) {
            ctx.notify(Resume);
        }
    }

    /// Deliveries wait until the broker has cancelled the consumer: handed back now, they would come again.
    fn target_gone(&mut self, _: &mut Context<Self>) {
        if let Some((consumer, lost)) = self.lost.take() {
            log::warn!("consumer {consumer}: the actor that it feeds is gone");
            lost.do_send(Lost { consumer });
        }
    }
}

impl Consume {
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
    pub fn feed(self, feed: Arc<Feed>) -> Self {
        self.inlet(feed)
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(0);
        ctx.run_interval(LOOK, |consumer, ctx| {
            if !consumer.target.connected() {
                consumer.target_gone(ctx);
            }
        });
    }
}

/// What one run of frames held for one consumer.
#[derive(Debug)]
struct DeliveryBatch(Vec<Delivery>);

impl Message for DeliveryBatch {
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
struct Bound(Binding);

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
        if self.permits.unbounded() && self.waiting.is_empty() && self.target.connected() {
            for delivery in batch {
                self.target.do_send(delivery);
            }
            return;
        }
        self.waiting.extend(batch);
        self.hand_on(ctx);
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
        log::debug!("consumer ended, {} handed back: {end:?}", self.waiting.len());
        self.waiting.clear();
        ctx.stop();
    }
}

#[derive(Debug)]
struct ToConsumer {
    addr: Addr<Consumer>,
    permits: Arc<Permits>,
}

impl Inlet for ToConsumer {
    fn bind(&self, binding: Binding) {
        self.permits.set(binding.permits);
        self.addr.do_send(Bound(binding));
    }

    fn batch(&self, deliveries: Vec<Delivery>) {
        self.permits.add(deliveries.len());
        self.addr.do_send(DeliveryBatch(deliveries));
    }

    fn ended(&self) {
        if self.permits.release() {
            self.addr.do_send(Resume);
        }
    }

    fn discard(&self) {
        self.addr.do_send(Discard);
    }

    fn end(&self, end: ConsumerEnd) {
        self.addr.do_send(End(end));
    }
}
