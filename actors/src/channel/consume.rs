//! What happens on `basic.consume`: consumers that start, and start again.
//!
//! A consumer is registered before its `basic.consume` is sent, so that no delivery comes too early. How
//! consumers end is in `cancel.rs`.

use std::sync::{Arc, PoisonError};

use tokio::time::Instant;

use super::{
    Call, ChannelMachine, PendingReply, Reply, Responder,
    consumers::{ChannelAcker, ConnectionFaults, ConsumerEntry, ConsumerPhase, Drops, Subscription, Volume},
    machine::Request,
    output::Output,
};
use crate::{
    consumer::Consumer,
    error::{Error, Result},
    internal::{Change, Entity, SupervisorMessage},
    log_schedule::LogSchedule,
    message::{
        ChannelEvent, Consume, Consumed, ConsumerEnd, ConsumerState, DeliverySink, DeliveryTarget,
        PauseConsumer, QueueName, QueueType, Unhandled, methods,
    },
    outbox::REPLY_TO,
    transport::CreditAccount,
};

impl Call for Consume {
    type Answer = Consumed;

    fn make(self, channel: &mut ChannelMachine, now: Instant) -> Reply<Consumed> {
        channel.start_consumer(self, now).unwrap_or_else(|error| Reply::now(Err(error)))
    }
}

impl ChannelMachine {
    fn start_consumer(&mut self, mut consume: Consume, now: Instant) -> Result<Reply<Consumed>> {
        self.state.usable()?;
        self.rename(&mut consume.queue);
        let prefetch = consume.prefetch.unwrap_or(self.prefetch.next());
        consume.check_type(prefetch, self.prefetch.is_shared())?;
        let id = self.consumers.next_id();
        // For an empty tag the broker would choose one, and deliveries would come under a tag unknown here.
        let tag = consume.tag.filter(|tag| !tag.is_empty());
        let tag = tag.unwrap_or_else(|| format!("pika-{}-{id}-{:08x}", self.number(), fastrand::u32(..)));
        if self.consumers.get(&tag).is_some() {
            return Err(Error::refused_here("the consumer tag is in use on this channel").on(tag));
        }
        let bounded = !consume.no_ack && prefetch > 0;
        let permits = (!bounded && prefetch > 0).then_some(prefetch.into());
        let subscription = Subscription {
            queue: consume.queue,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            arguments: consume.arguments,
            prefetch,
            recovers: self.recovers && consume.robust,
            queue_type: consume.queue_type,
            auto_delete: consume.auto_delete,
            oversized: consume.oversized,
        };
        let (ends, handle) = ConsumerState::new();
        let mut acker = ChannelAcker {
            outbox: self.outbox.clone(),
            consumer: id,
            tag: Arc::from(tag.as_str()),
            queue: QueueName::new(subscription.queue.as_str()),
            credit: None,
            sink: None,
            drops: None,
            offsets: (self.recovers && consume.queue_type == Some(QueueType::Stream)).then(Arc::default),
            _deliveries: Some(Arc::new(ends.deliveries)),
        };
        let (queue, name) = (subscription.queue.clone(), acker.tag.clone());
        let arguments = &subscription.arguments;
        let method = methods::basic_consume(&queue, &tag, consume.no_ack, consume.exclusive, arguments)?;
        let sink = open_sink(consume.target)?;
        acker.credit = self.open_account(!bounded, id, !consume.no_ack);
        acker.sink = permits.is_some().then(|| sink.clone());
        acker.drops = Some(Arc::new(Drops::new(Arc::downgrade(&sink))));
        // A consumer that recovers is recorded when the broker has accepted it: see `consumed`.
        let record = (!subscription.recovers).then(|| {
            let (channel, tag) = (self.number(), acker.tag.clone());
            Change::Record(Entity::Consumer { channel, tag, queue: queue.clone() })
        });
        self.consumers.insert(ConsumerEntry {
            acker: Arc::new(acker),
            sink: sink.clone(),
            phase: ConsumerPhase::Starting,
            subscription,
            faults: ConnectionFaults::default(),
            watcher: consume.watcher,
            ended: ends.end,
            handle,
            unhandled: Unhandled::default(),
            skips: LogSchedule::default(),
            batch: Vec::new(),
            volume: Volume { since: self.outbox.next_delivery(), ..Volume::default() },
        });
        if !consume.no_ack {
            self.send_consumer_prefetch(prefetch, now);
        }
        let (reply, responder) = Reply::later();
        let consumed = PendingReply::Consumed { tag, responder, cancel: None };
        self.note_reply_consumer(&queue);
        if self.ask(Request::new(method, consumed).on(queue).changing(record), now) {
            self.outputs.push(Output::BindSink { sink, consumer: id, tag: name, permits });
        }
        Ok(reply)
    }

    fn send_consumer_prefetch(&mut self, prefetch: u16, now: Instant) {
        for qos in self.prefetch.before_consumer(prefetch) {
            self.send_qos(qos, now);
        }
    }

    /// What is published behind the `basic.consume` of direct replies may ask for them.
    fn note_reply_consumer(&self, queue: &str) {
        if queue == REPLY_TO {
            self.outbox.missing().reply_consumer(self.number());
        }
    }

    /// Opens an account of the connection's read credit for a consumer whose deliveries the broker does not
    /// limit.
    pub(super) fn open_account(
        &self,
        unbounded: bool,
        consumer: u32,
        limitable: bool,
    ) -> Option<Arc<CreditAccount>> {
        let connection = self.connection.as_ref().filter(|_| unbounded)?;
        Some(CreditAccount::open(&connection.credit, self.number(), consumer, limitable))
    }

    /// Starts a consumer again.
    pub(super) fn restart_consumer(&mut self, id: u32, now: Instant) {
        self.restore_prefetch(id, now);
        let Some(entry) = self.consumers.by_id(id) else { return };
        let (tag, queue, prefetch) =
            (entry.tag().clone(), entry.subscription.queue.clone(), entry.subscription.prefetch);
        let (no_ack, method) = (entry.subscription.no_ack, entry.method());
        // The read credit belongs to the connection.
        let credit = self.open_account(no_ack || prefetch == 0, id, !no_ack);
        let (since, carried) = (self.outbox.next_delivery(), self.outbox.unsettled_since(0, id));
        if let Some(entry) = self.consumers.by_id(id) {
            if credit.is_some() || entry.acker.credit.is_some() {
                entry.acker = Arc::new(entry.acker.with_credit(credit));
            }
            if let Some(drops) = &entry.acker.drops {
                drops.restarted(since);
            }
            let Volume { average, of_stream, reduced, .. } = entry.volume;
            entry.volume = Volume { average, of_stream, since, carried, reduced, ..Volume::default() };
        }
        if !no_ack {
            self.send_consumer_prefetch(prefetch, now);
        }
        match method {
            Ok(method) => {
                let reply = PendingReply::Restarted { tag, consumer: id, cancel: None };
                self.note_reply_consumer(&queue);
                self.ask(Request::new(method, reply).on(queue), now);
            }
            Err(error) => log::error!("channel {}: consumer {tag:?}: {error}", self.number()),
        }
    }

    /// Removes a consumer whose `basic.consume` was not sent.
    pub(super) fn unregister(&mut self, tag: &str, error: &Error) {
        if let Some(entry) = self.consumers.remove(tag) {
            entry.sink.end(ConsumerEnd::Closed(error.clone()));
        }
    }

    /// The reply to `basic.consume` of a new consumer has come.
    pub(super) fn consumed(
        &mut self,
        tag: &str,
        named: &str,
        responder: Responder<Consumed>,
        cancel: Option<Vec<Responder<()>>>,
        now: Instant,
    ) {
        if tag != named {
            log::warn!("channel {}: the broker renamed consumer {tag:?} to {named:?}", self.number());
        }
        let mut lost = None;
        let answer = match self.consumers.get_mut(tag) {
            Some(entry) => {
                entry.phase.consumed();
                let (recovers, is_wanted) = (entry.subscription.recovers, !entry.phase.is_cancelling());
                let (consumed, queue) = (entry.consumed(), entry.subscription.queue.clone());
                if is_wanted {
                    self.consumer_replaced(&consumed.tag);
                }
                if recovers && is_wanted {
                    let (channel, tag) = (self.number(), consumed.tag.clone());
                    self.record(Entity::Consumer { channel, tag, queue });
                } else {
                    lost = Some((consumed.tag.clone(), queue));
                }
                Ok(consumed)
            }
            None => Err(Error::refused_here("the consumer was cancelled before it began")),
        };
        if responder.send(answer).is_err() {
            log::debug!("channel {}: consumer {tag:?} cancelled, its caller gave up", self.number());
            let _ = self.lost.started(tag);
            self.cancel(tag, None, now);
        } else if let Some((tag, queue)) = lost {
            self.started_without_target(&tag, queue);
        }
        self.cancel_now(tag, cancel, now);
    }

    /// The reply to `basic.consume` of a consumer that was started again has come.
    pub(super) fn restarted(
        &mut self,
        tag: &Arc<str>,
        consumer: u32,
        cancel: Option<Vec<Responder<()>>>,
        now: Instant,
    ) {
        log::debug!("channel {}: consumer {tag:?} started again", self.number());
        // One that lost its target meanwhile is missing.
        let entry = self.consumers.by_id(consumer).filter(|entry| !entry.phase.is_cancelling());
        let repaired = entry.map(|entry| entry.phase.consumed());
        if repaired == Some(true) {
            self.notify(ChannelEvent::ConsumerRecovered { tag: tag.clone() });
        }
        if repaired.is_some() {
            // Also for one that was not suspended here: the supervisor may know it as missing since before.
            let (epoch, channel) = (self.epoch(), self.number());
            self.report(SupervisorMessage::ConsumerRepaired { epoch, channel, tag: tag.clone() });
        }
        self.cancel_now(tag, cancel, now);
    }

    /// Pauses or resumes a consumer.
    pub(super) fn pause(&mut self, pause: PauseConsumer) -> Result<()> {
        if !self.state.is_recovering() {
            self.state.usable()?;
        }
        let Some(entry) = self.consumers.get(&pause.tag) else {
            return Err(Error::refused_here("the channel has no such consumer").on(pause.tag));
        };
        entry.sink.pause(pause.paused);
        Ok(())
    }
}

/// Opens the sink of a target. For an actor of the application it starts a [`Consumer`], which feeds that
/// actor.
fn open_sink(target: Option<DeliveryTarget>) -> Result<Arc<dyn DeliverySink>> {
    match target {
        Some(DeliveryTarget::DeliverySink(sink)) => Ok(sink),
        Some(DeliveryTarget::Recipient(recipient)) => Ok(Consumer::start(recipient, None)),
        Some(DeliveryTarget::Supervised(factory)) => {
            let factory = factory.lock().unwrap_or_else(PoisonError::into_inner).take();
            factory
                .map(|factory| Consumer::start_supervised(factory, None))
                .ok_or_else(|| Error::refused_here("the workers of these options feed another consumer"))
        }
        None => Err(Error::refused_here("the options have no target for deliveries")),
    }
}
