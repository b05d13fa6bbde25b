//! The way from a channel to a Consumer actor, and how a [`Consume`] gets it.

use std::sync::{Arc, Mutex, OnceLock};

use actix::{Addr, ArbiterHandle, Recipient};

use super::{
    Consumer, DeliveryBatch, Discard, End, Leave, Registered, Resume, StreamSink, permits::Permits,
    target::Target,
};
use crate::message::{
    Consume, ConsumerEnd, Delivery, DeliverySink, DeliveryTarget, SinkRegistration, TargetLost, WorkerFactory,
};

/// Sends the deliveries of a channel to a Consumer actor.
#[derive(Debug)]
pub(super) struct ActorSink {
    consumer: Addr<Consumer>,
    permits: Arc<Permits>,
    registration: OnceLock<(u32, Recipient<TargetLost>)>,
}

impl ActorSink {
    pub(super) fn new(consumer: Addr<Consumer>, permits: Arc<Permits>) -> Self {
        Self { consumer, permits, registration: OnceLock::new() }
    }
}

impl Drop for ActorSink {
    // Stops the actor of a consumer that never started.
    fn drop(&mut self) {
        self.consumer.do_send(End(ConsumerEnd::Cancelled));
    }
}

impl DeliverySink for ActorSink {
    fn bind(&self, registration: SinkRegistration) {
        self.permits.set_limit(registration.permits);
        self.registration.get_or_init(|| (registration.consumer, registration.lost.clone()));
        self.consumer.do_send(Registered(registration));
    }

    fn batch(&self, deliveries: Vec<Delivery>) {
        // Not connected: the arbiter of the actor has ended.
        if !self.consumer.connected()
            && let Some((consumer, lost)) = self.registration.get()
        {
            lost.do_send(TargetLost { consumer: *consumer });
        }
        self.permits.add(deliveries.len());
        self.consumer.do_send(DeliveryBatch(deliveries));
    }

    fn ended(&self) {
        if self.permits.release() {
            self.consumer.do_send(Resume);
        }
    }

    fn pause(&self, paused: bool) {
        self.permits.set_paused(paused);
        if !paused {
            self.consumer.do_send(Resume);
        }
    }

    fn discard(&self) {
        self.consumer.do_send(Discard);
    }

    fn leave(&self, at_once: bool) {
        self.consumer.do_send(Leave { at_once });
    }

    fn end(&self, end: ConsumerEnd) {
        self.consumer.do_send(End(end));
    }
}

impl Consumer {
    /// Starts an actor that feeds `target`, on the thread of `arbiter` or else on the current one.
    pub(crate) fn start(
        target: Recipient<Delivery>,
        arbiter: Option<&ArbiterHandle>,
    ) -> Arc<dyn DeliverySink> {
        Self::launch(Target::actor(target), arbiter)
    }

    /// Starts an actor that builds its workers with `factory`, on the thread of `arbiter` or else on the current one.
    pub(crate) fn start_supervised(
        factory: WorkerFactory,
        arbiter: Option<&ArbiterHandle>,
    ) -> Arc<dyn DeliverySink> {
        Self::launch(Target::supervised(factory), arbiter)
    }
}

impl Consume {
    /// Sets a factory of workers that get the deliveries. They run on `arbiter`, or else on the thread of the channel.
    #[doc(hidden)]
    pub fn deliver_by(
        mut self,
        factory: impl FnMut() -> Recipient<Delivery> + Send + 'static,
        arbiter: Option<&ArbiterHandle>,
    ) -> Self {
        match arbiter {
            Some(arbiter) => self.inlet(Consumer::start_supervised(Box::new(factory), Some(arbiter))),
            None => {
                let factory: WorkerFactory = Box::new(factory);
                self.target = Some(DeliveryTarget::Supervised(Arc::new(Mutex::new(Some(factory)))));
                self
            }
        }
    }

    /// Sets the actor that gets the deliveries. The Consumer actor that feeds it runs on `arbiter`, or else on the
    /// thread of the channel.
    #[doc(hidden)]
    pub fn deliver_from(self, target: Recipient<Delivery>, arbiter: Option<&ArbiterHandle>) -> Self {
        match arbiter {
            Some(arbiter) => self.inlet(Consumer::start(target, Some(arbiter))),
            None => self.deliver_to(target),
        }
    }

    /// Sets the queue of a stream that gets the deliveries.
    #[doc(hidden)]
    pub fn feed(self, sink: Arc<StreamSink>) -> Self {
        self.inlet(sink)
    }
}
