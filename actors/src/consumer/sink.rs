//! The way from a channel to a Consumer actor.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use actix::{Addr, ArbiterHandle, Recipient, WeakRecipient};

use super::{
    Consumer, DeliveryBatch, Discard, End, Leaving, Registered, Resume, TakeBack, permits::Permits,
    target::Target,
};
use crate::message::{
    ConsumerEnd, Delivery, DeliverySink, Leave, SinkRegistration, TargetEnd, TargetLost, WorkerFactory,
};

/// What the sink and the Consumer actor share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) permits: Permits,
    /// The current target. Weak, so that it does not keep the actor alive.
    target: Mutex<Option<WeakRecipient<Delivery>>>,
}

impl Shared {
    pub(super) fn set_target(&self, target: &Target) {
        let target = target.running().map(Recipient::downgrade);
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    fn has_target(&self) -> bool {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.as_ref().and_then(WeakRecipient::upgrade).is_some_and(|target| target.connected())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("permits", &self.permits).finish_non_exhaustive()
    }
}

/// Sends the deliveries of a channel to a Consumer actor.
#[derive(Debug)]
pub(super) struct ActorSink {
    consumer: Addr<Consumer>,
    shared: Arc<Shared>,
    registration: OnceLock<(u32, Recipient<TargetLost>)>,
}

impl ActorSink {
    pub(super) fn new(consumer: Addr<Consumer>, shared: Arc<Shared>) -> Self {
        Self { consumer, shared, registration: OnceLock::new() }
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
        self.shared.permits.set_limit(registration.permits);
        self.registration.get_or_init(|| (registration.consumer, registration.lost.clone()));
        self.consumer.do_send(Registered(registration));
    }

    fn batch(&self, deliveries: Vec<Delivery>) {
        // Not connected: the arbiter of the actor has ended.
        if !self.consumer.connected()
            && let Some((consumer, lost)) = self.registration.get()
        {
            lost.do_send(TargetLost { consumer: *consumer, why: TargetEnd::ConsumerStopped });
        }
        self.shared.permits.add(deliveries.len());
        self.consumer.do_send(DeliveryBatch(deliveries));
    }

    fn ended(&self) {
        if self.shared.permits.release() {
            self.consumer.do_send(Resume);
        }
    }

    fn pause(&self, paused: bool) {
        self.shared.permits.set_paused(paused);
        if !paused {
            self.consumer.do_send(Resume);
        }
    }

    fn take_back(&self) {
        self.consumer.do_send(TakeBack);
    }

    fn discard(&self) {
        self.consumer.do_send(Discard);
    }

    fn leave(&self, leave: Leave) {
        self.consumer.do_send(Leaving(leave));
    }

    fn has_target(&self) -> bool {
        self.shared.has_target()
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
