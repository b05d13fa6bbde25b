//! The way from a channel to a Consumer actor.

use std::sync::{Arc, OnceLock};

use actix::{Addr, ArbiterHandle, Recipient};

use super::{
    Consumer, DeliveryBatch, Discard, End, Leave, Registered, Resume, permits::Permits, target::Target,
};
use crate::message::{ConsumerEnd, Delivery, DeliverySink, SinkRegistration, TargetLost, WorkerFactory};

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

    /// Starts an actor that builds its workers with `factory`, on the thread of `arbiter` or else on the
    /// current one.
    pub(crate) fn start_supervised(
        factory: WorkerFactory,
        arbiter: Option<&ArbiterHandle>,
    ) -> Arc<dyn DeliverySink> {
        Self::launch(Target::supervised(factory), arbiter)
    }
}
