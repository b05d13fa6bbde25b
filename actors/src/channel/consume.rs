//! The consumers of a channel. A consumer is registered before its `basic.consume` leaves, so that no delivery can
//! come too early.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, atomic::AtomicBool},
};

use actix::{AsyncContext, Context, Handler, Recipient};
use tokio::sync::watch;

use super::{Channel, ChannelState, Reply, Responder, acker::ChannelAcker, replies::PendingReply};
use crate::{
    consumer::Consumer,
    error::{Error, Result},
    message::ConsumerState,
    message::{
        CancelConsumer, ChannelEvent, Consume, Consumed, ConsumerEnd, Delivery, DeliveryParts, DeliverySink,
        DeliveryTarget, Get, PauseConsumer, QueueType, SinkRegistration, StreamOffset, TargetLost,
        internal::{Change, Entity, SupervisorMessage, TrialConsume},
    },
    transport::CreditAccount,
    wire::{AMQPClass, Table, basic, short, to_field_table},
};

#[derive(Debug, Default)]
pub(super) struct Consumers {
    /// By consumer tag, as it comes on the wire.
    places: HashMap<Box<[u8]>, usize>,
    entries: Vec<Option<Entry>>,
    /// The place of the last delivery; mostly that of the next one, too.
    last: usize,
    /// Places whose batch is not empty.
    staged: Vec<usize>,
    ids: u32,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) link: Arc<ChannelAcker>,
    pub(super) no_ack: bool,
    inlet: Arc<dyn DeliverySink>,
    batch: Vec<Delivery>,
    /// Why it ends, once `basic.cancel` is out.
    pub(super) ending: Option<ConsumerEnd>,
    watcher: Option<Recipient<ConsumerEnd>>,
    ended: watch::Sender<Option<ConsumerEnd>>,
    life: ConsumerState,
    /// What the broker was asked for.
    pub(super) queue: String,
    exclusive: bool,
    arguments: Table,
    prefetch: u16,
    /// Starts again in another life.
    pub(super) robust: bool,
    /// The broker has cancelled it, and the answer to our cancel is awaited.
    pub(super) repair: bool,
    /// Waits for the supervisor's word.
    pub(super) suspended: bool,
    /// It was suspended in this life of the connection, and has not started again.
    away: bool,
}

impl Entry {
    pub(super) fn end(self, end: ConsumerEnd) {
        self.ended.send_replace(Some(end.clone()));
        if let Some(watcher) = &self.watcher {
            watcher.do_send(end.clone());
        }
        self.inlet.end(end);
    }

    /// What to try in its place.
    pub(super) fn probe(&self) -> TrialConsume {
        TrialConsume {
            tag: self.link.tag.clone(),
            queue: self.queue.clone(),
            exclusive: self.exclusive,
            arguments: self.arguments_now(),
        }
    }

    /// The arguments, with a stream's offset of now.
    fn arguments_now(&self) -> Table {
        let mut arguments = self.arguments.clone();
        if let Some(next) = self.link.offsets.as_ref().and_then(|offsets| offsets.next()) {
            arguments.insert("x-stream-offset", StreamOffset::Offset(next));
        }
        arguments
    }

    pub(super) fn consumed(&self) -> Consumed {
        Consumed { tag: self.link.tag.clone(), state: self.life.clone() }
    }
}

impl Consumers {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn get(&self, tag: &[u8]) -> Option<&Entry> {
        self.places.get(tag).and_then(|&at| self.entries.get(at)?.as_ref())
    }

    fn get_mut(&mut self, tag: &[u8]) -> Option<&mut Entry> {
        self.places.get(tag).and_then(|&at| self.entries.get_mut(at)?.as_mut())
    }

    /// The consumer of this tag, if it is to start again now that it is cancelled.
    fn take_repair(&mut self, tag: &[u8]) -> Option<(u32, TrialConsume)> {
        let entry = self.get_mut(tag).filter(|entry| entry.repair)?;
        entry.repair = false;
        Some((entry.link.consumer, entry.probe()))
    }

    fn next_id(&mut self) -> u32 {
        self.ids += 1;
        self.ids
    }

    fn insert(&mut self, tag: &str, entry: Entry) {
        let at = self.entries.iter().position(Option::is_none).unwrap_or(self.entries.len());
        if at == self.entries.len() {
            self.entries.push(None);
        }
        if let Some(place) = self.entries.get_mut(at) {
            *place = Some(entry);
            self.places.insert(tag.as_bytes().into(), at);
        }
    }

    pub(super) fn remove(&mut self, tag: &[u8]) -> Option<Entry> {
        let at = self.places.remove(tag)?;
        self.entries.get_mut(at)?.take()
    }

    pub(super) fn by_id(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.iter_mut().flatten().find(|entry| entry.link.consumer == id)
    }

    pub(super) fn remove_id(&mut self, id: u32) -> Option<Entry> {
        let tag = self.by_id(id)?.link.tag.clone();
        self.remove(tag.as_bytes())
    }

    /// Those that are to start again, oldest first.
    pub(super) fn ids(&self) -> Vec<u32> {
        let started = self.entries.iter().flatten().filter(|entry| !entry.suspended);
        let mut ids: Vec<u32> = started.map(|entry| entry.link.consumer).collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn suspend(&mut self, id: u32) {
        if let Some(entry) = self.by_id(id) {
            (entry.suspended, entry.away) = (true, true);
        }
    }

    pub(super) fn go_on(&mut self, id: u32) {
        if let Some(entry) = self.by_id(id) {
            entry.suspended = false;
        }
    }

    /// The others that are to start again from the queue of this one.
    pub(super) fn beside(&mut self, id: u32) -> Vec<u32> {
        let Some(queue) = self.by_id(id).map(|entry| entry.queue.clone()) else { return Vec::new() };
        let those = self.entries.iter().flatten().filter(|entry| entry.queue == queue && !entry.suspended);
        those.map(|entry| entry.link.consumer).filter(|other| *other != id).collect()
    }

    /// No cancel is awaited any more: the broker has forgotten all consumers.
    pub(super) fn free(&mut self) {
        for entry in self.entries.iter_mut().flatten().filter(|entry| entry.repair) {
            (entry.repair, entry.suspended) = (false, false);
        }
    }

    /// All are tried again in the next life.
    pub(super) fn unsuspend(&mut self) {
        for entry in self.entries.iter_mut().flatten() {
            entry.suspended = false;
            entry.away = false;
        }
    }

    pub(super) fn rename(&mut self, old: &str, new: &str) {
        for entry in self.entries.iter_mut().flatten().filter(|entry| entry.queue == old) {
            new.clone_into(&mut entry.queue);
        }
    }

    /// Ends some; tells which.
    pub(super) fn end_where(&mut self, which: impl Fn(&Entry) -> bool, end: &ConsumerEnd) -> Vec<Arc<str>> {
        let those = self.entries.iter().flatten().filter(|entry| which(entry));
        let tags: Vec<Arc<str>> = those.map(|entry| entry.link.tag.clone()).collect();
        for tag in &tags {
            if let Some(entry) = self.remove(tag.as_bytes()) {
                entry.end(end.clone());
            }
        }
        tags
    }

    /// Finds the consumer of a delivery.
    pub(super) fn find(&mut self, tag: &[u8]) -> Option<(usize, &Entry)> {
        let last = self.entries.get(self.last).and_then(Option::as_ref);
        if last.is_none_or(|entry| entry.link.tag.as_bytes() != tag) {
            self.last = *self.places.get(tag)?;
        }
        let entry = self.entries.get(self.last)?.as_ref()?;
        Some((self.last, entry))
    }

    /// Adds a delivery to the batch of this run.
    pub(super) fn stage(&mut self, at: usize, parts: DeliveryParts) {
        let Some(Some(entry)) = self.entries.get_mut(at) else { return };
        if let Some(credit) = &entry.link.credit {
            credit.take(parts.size());
        }
        if entry.batch.is_empty() {
            self.staged.push(at);
        }
        let tag = parts.tag;
        let delivery = Delivery::new(entry.link.clone(), parts);
        if let Some(offsets) = &entry.link.offsets
            && let Some(offset) = delivery.stream_offset()
        {
            offsets.delivered(tag, offset);
        }
        entry.batch.push(delivery);
    }

    /// Hands every batch to its consumer.
    pub(super) fn flush(&mut self) {
        for at in self.staged.drain(..) {
            if let Some(Some(entry)) = self.entries.get_mut(at) {
                // The next batch is likely to be as large as this one.
                let next = Vec::with_capacity(entry.batch.len());
                entry.inlet.batch(std::mem::replace(&mut entry.batch, next));
            }
        }
    }

    /// What is unsettled is requeued by the broker: whatever nobody has seen yet is forgotten.
    pub(super) fn discard(&mut self) {
        for entry in self.entries.iter_mut().flatten().filter(|entry| !entry.no_ack) {
            entry.batch.drain(..).for_each(Delivery::discard);
            entry.inlet.discard();
            if let Some(offsets) = &entry.link.offsets {
                offsets.forget();
            }
        }
    }

    pub(super) fn end_all(&mut self, end: impl Fn() -> ConsumerEnd) {
        self.places.clear();
        for entry in self.entries.drain(..).flatten() {
            entry.end(end());
        }
    }
}

impl Channel {
    fn start_consumer(&mut self, mut consume: Consume, ctx: &mut Context<Self>) -> Result<Reply<Consumed>> {
        self.usable()?;
        self.rename(&mut consume.queue);
        let shared = self.prefetch_shared.is_some();
        consume.check_type(consume.prefetch.unwrap_or(self.prefetch), shared)?;
        let id = self.consumers.next_id();
        // An empty one would have the broker choose, and deliveries would come under a tag that nobody knows.
        let tag = consume.tag.filter(|tag| !tag.is_empty());
        let tag = tag.unwrap_or_else(|| format!("pika-{}-{id}-{:08x}", self.number(), fastrand::u32(..)));
        if self.consumers.get(tag.as_bytes()).is_some() {
            return Err(Error::refused_here("the consumer tag is in use on this channel").on(tag));
        }
        let prefetch = consume.prefetch.unwrap_or(self.prefetch);
        let method = start(&consume.queue, &tag, consume.no_ack, consume.exclusive, &consume.arguments)?;
        let inlet = match consume.target {
            Some(DeliveryTarget::DeliverySink(inlet)) => inlet,
            Some(DeliveryTarget::Recipient(recipient)) => Consumer::start(recipient, None),
            Some(DeliveryTarget::Supervised(factory)) => {
                let factory = factory.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some(factory) = factory else {
                    return Err(Error::refused_here("the workers of these options feed another consumer"));
                };
                Consumer::start_supervised(factory, None)
            }
            None => return Err(Error::refused_here("nobody to deliver to")),
        };
        let bounded = !consume.no_ack && prefetch > 0;
        let permits = (!bounded && prefetch > 0).then_some(prefetch.into());
        inlet.bind(SinkRegistration { consumer: id, permits, lost: ctx.address().recipient() });
        let (ends, life) = ConsumerState::new();
        let link = Arc::new(ChannelAcker {
            outbox: self.outbox.clone(),
            consumer: id,
            tag: Arc::from(tag.as_str()),
            credit: self.account(!bounded, id),
            inlet: permits.is_some().then(|| inlet.clone()),
            warned: AtomicBool::new(false),
            offsets: (self.robust && consume.queue_type == Some(QueueType::Stream)).then(Arc::default),
            held: Some(Arc::new(ends.deliveries)),
        });
        let entry = Entry {
            link,
            inlet,
            no_ack: consume.no_ack,
            batch: Vec::new(),
            ending: None,
            watcher: consume.watcher,
            ended: ends.end,
            life,
            queue: consume.queue.clone(),
            exclusive: consume.exclusive,
            arguments: consume.arguments,
            prefetch,
            robust: self.robust && consume.robust,
            repair: false,
            suspended: false,
            away: false,
        };
        self.consumers.insert(&tag, entry);
        if !consume.no_ack {
            self.bound_next(prefetch);
        }
        let (reply, responder) = Reply::later();
        // One that is to be there again is recorded once it is known under its tag.
        let passing = (self.robust && !consume.robust).then(|| {
            let (channel, tag, queue) = (self.number(), Arc::from(tag.as_str()), consume.queue.clone());
            Change::Record(Entity::Consumer { channel, tag, queue })
        });
        let on = PendingReply::Consumed { tag, responder, cancel: None };
        if self.ask(method, "basic.consume", Some(consume.queue), on) {
            self.replies.which_will(passing);
        }
        self.keep_ticking(ctx);
        Ok(reply)
    }

    fn account(&self, unbounded: bool, consumer: u32) -> Option<Arc<CreditAccount>> {
        let credit = self.credit.as_ref().filter(|_| unbounded);
        credit.map(|credit| CreditAccount::open(credit, self.number(), consumer))
    }

    /// Starts a consumer of an earlier life again.
    pub(super) fn resume(&mut self, id: u32) {
        let Some(entry) = self.consumers.by_id(id) else { return };
        let (tag, queue, prefetch, no_ack) =
            (entry.link.tag.clone(), entry.queue.clone(), entry.prefetch, entry.no_ack);
        let started = start(&queue, &tag, no_ack, entry.exclusive, &entry.arguments_now());
        let unbounded = entry.link.credit.is_some();
        if unbounded {
            // The budget belongs to the connection.
            let credit = self.account(true, id);
            if let Some(entry) = self.consumers.by_id(id) {
                entry.link = Arc::new(entry.link.with_credit(credit));
            }
        }
        if !no_ack {
            self.bound_next(prefetch);
        }
        match started {
            Ok(method) => {
                let on = PendingReply::Resumed { tag, consumer: id, cancel: None };
                self.ask(method, "basic.consume", Some(queue), on);
            }
            Err(error) => log::error!("channel {}: consumer {tag:?}: {error}", self.number()),
        }
    }

    /// A consumer of an earlier life has started again.
    pub(super) fn resumed(&mut self, tag: &Arc<str>, consumer: u32) {
        log::debug!("channel {}: consumer {tag:?} goes on", self.number());
        if self.consumers.by_id(consumer).is_some_and(|entry| std::mem::take(&mut entry.away)) {
            self.watchers.notify(&ChannelEvent::ConsumerRecovered { tag: tag.clone() });
            self.supervisor
                .do_send(SupervisorMessage::ConsumerRepaired { epoch: self.epoch, tag: tag.clone() });
        }
    }

    /// Takes back a consumer whose `basic.consume` did not leave.
    pub(super) fn unregister(&mut self, tag: &str, error: &Error) {
        if let Some(entry) = self.consumers.remove(tag.as_bytes()) {
            entry.inlet.end(ConsumerEnd::Closed(error.clone()));
        }
    }

    /// Sends `basic.cancel`, unless that is done already, or once `basic.consume` is answered.
    pub(super) fn cancel(&mut self, tag: &str, responder: Option<Responder<()>>) {
        if self.waits() && !matches!(self.phase, ChannelState::Restoring) {
            // The broker has no such consumer now.
            if let Some(entry) = self.consumers.remove(tag.as_bytes()) {
                self.finish(entry);
            }
            responder.into_iter().for_each(|r| drop(r.send(Ok(()))));
            return;
        }
        if matches!(self.phase, ChannelState::Closing { .. } | ChannelState::Closed(_)) {
            // The channel takes its consumers along, and must not be spoken of after `channel.close`.
            responder.into_iter().for_each(|r| drop(r.send(Ok(()))));
            return;
        }
        let entry = self.consumers.get(tag.as_bytes());
        let consumer = entry.map(|entry| entry.link.consumer);
        if let Some(entry) = entry {
            self.outbox.hold(entry.link.consumer);
            entry.inlet.leave(entry.ending.is_some());
        }
        if let Some(responders) = self.replies.cancel_behind(tag) {
            responders.extend(responder);
            if let Some(entry) = self.consumers.get_mut(tag.as_bytes()) {
                // Refused, it is not to be tried again.
                entry.robust = false;
            }
            return;
        }
        if let Some(responders) = self.replies.cancel_of(tag, consumer) {
            responders.extend(responder);
            return;
        }
        let responders = responder.into_iter().collect();
        let on = PendingReply::Cancelled { tag: tag.to_owned(), consumer, responders };
        match short("consumer tag", tag) {
            Ok(consumer_tag) => {
                let cancel = basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag, nowait: false });
                self.ask(AMQPClass::Basic(cancel), "basic.cancel", Some(tag.to_owned()), on);
            }
            // No consumer has such a tag, and to cancel an unknown one is no error.
            Err(_) => on.fail(Error::refused_here("the tag is too long")),
        }
    }

    /// Ends a consumer that was cancelled, by the application or for the reason that it has.
    fn finish(&mut self, entry: Entry) {
        let tag = entry.link.tag.clone();
        self.forget_consumer(tag.clone());
        if let Some(end) = entry.ending.clone() {
            self.watchers.notify(&ChannelEvent::ConsumerLost { tag, end });
        }
        let end = entry.ending.clone().unwrap_or(ConsumerEnd::Cancelled);
        entry.end(end);
    }

    /// `basic.cancel` was answered: nothing more comes, and what was held back may go.
    pub(super) fn cancelled(&mut self, tag: &str, consumer: Option<u32>) {
        let present = self.consumers.get(tag.as_bytes()).map(|entry| entry.link.consumer);
        if present != consumer {
            return;
        }
        let number = self.number();
        if let Some((id, probe)) = self.consumers.take_repair(tag.as_bytes()) {
            self.outbox.release(id);
            let cause = ConsumerEnd::CancelledByBroker;
            let epoch = self.epoch;
            self.supervisor.do_send(SupervisorMessage::RepairConsumer {
                epoch,
                channel: number,
                consumer: id,
                probe,
                cause,
            });
            return;
        }
        if let Some(entry) = self.consumers.remove(tag.as_bytes()) {
            self.outbox.release(entry.link.consumer);
            self.finish(entry);
        }
    }

    /// Cancels a consumer that cannot go on.
    pub(super) fn shed(&mut self, consumer: u32, why: ConsumerEnd, ctx: &mut Context<Self>) {
        let Some(entry) = self.consumers.by_id(consumer) else { return };
        entry.ending.get_or_insert(why);
        if let Some(account) = &entry.link.credit {
            account.write_off();
        }
        let tag = entry.link.tag.clone();
        self.cancel(&tag, None);
        self.keep_ticking(ctx);
    }

    pub(super) fn cancelled_by_broker(&mut self, tag: &str) {
        if self.begin_repair(tag) {
            return;
        }
        if let Some(entry) = self.consumers.remove(tag.as_bytes()) {
            log::warn!("channel {}: the broker cancelled consumer {tag:?}; its queue is gone", self.number());
            let consumer = entry.link.consumer;
            self.outbox.release(consumer);
            let event = ChannelEvent::ConsumerLost {
                tag: entry.link.tag.clone(),
                end: ConsumerEnd::CancelledByBroker,
            };
            self.watchers.notify(&event);
            self.lost_consumer(&entry);
            entry.end(ConsumerEnd::CancelledByBroker);
            // Frees the consumer on brokers that wait for an answer; an unknown tag is no error on the others.
            if self.replies.cancel_of(tag, Some(consumer)).is_none() {
                self.cancel(tag, None);
            }
        }
    }
}

impl Channel {
    /// Frees a consumer that the broker has cancelled, so that it can start again: some brokers keep it until then, and
    /// would not take its tag twice. One that is being cancelled here is not brought back.
    fn begin_repair(&mut self, tag: &str) -> bool {
        let Some(entry) = self.consumers.get_mut(tag.as_bytes()) else { return false };
        if !entry.robust || entry.ending.is_some() || entry.suspended {
            return false;
        }
        let consumer = Some(entry.link.consumer);
        if self.replies.cancel_of(tag, consumer).is_some() {
            return false;
        }
        log::warn!("channel {}: the broker cancelled consumer {tag:?}", self.outbox.terms().channel);
        (entry.repair, entry.suspended, entry.away) = (true, true, true);
        if let Ok(consumer_tag) = short("consumer tag", tag) {
            let cancel = basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag, nowait: false });
            let on = PendingReply::Cancelled { tag: tag.to_owned(), consumer, responders: Vec::new() };
            self.ask(AMQPClass::Basic(cancel), "basic.cancel", Some(tag.to_owned()), on);
        }
        true
    }
}

/// `basic.consume`.
fn start(queue: &str, tag: &str, no_ack: bool, exclusive: bool, arguments: &Table) -> Result<AMQPClass> {
    Ok(AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: short("queue name", queue)?,
        consumer_tag: short("consumer tag", tag)?,
        no_local: false,
        no_ack,
        exclusive,
        nowait: false,
        arguments: to_field_table(arguments)?,
    })))
}

impl Handler<PauseConsumer> for Channel {
    type Result = Result<()>;

    fn handle(&mut self, pause: PauseConsumer, _: &mut Context<Self>) -> Result<()> {
        if !self.waits() {
            self.usable()?;
        }
        let Some(entry) = self.consumers.get(pause.tag.as_bytes()) else {
            return Err(Error::refused_here("the channel has no such consumer").on(pause.tag));
        };
        entry.inlet.pause(pause.paused);
        Ok(())
    }
}

impl Handler<Consume> for Channel {
    type Result = Reply<Consumed>;

    fn handle(&mut self, consume: Consume, ctx: &mut Context<Self>) -> Reply<Consumed> {
        if self.waits() {
            return self.later(consume, ctx);
        }
        self.start_consumer(consume, ctx).unwrap_or_else(|error| Reply::now(Err(error)))
    }
}

impl Handler<CancelConsumer> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, cancel: CancelConsumer, ctx: &mut Context<Self>) -> Reply<()> {
        // A consumer of a closed channel is as good as cancelled.
        if self.usable().is_err() && !self.waits() {
            return Reply::now(Ok(()));
        }
        if let Some(entry) = self.consumers.get_mut(cancel.tag.as_bytes()) {
            entry.repair = false;
        }
        let (reply, responder) = Reply::later();
        self.cancel(&cancel.tag, Some(responder));
        self.keep_ticking(ctx);
        reply
    }
}

impl Handler<TargetLost> for Channel {
    type Result = ();

    fn handle(&mut self, lost: TargetLost, ctx: &mut Context<Self>) {
        self.shed(lost.consumer, ConsumerEnd::TargetGone, ctx);
    }
}

impl Handler<Get> for Channel {
    type Result = Reply<Option<Delivery>>;

    fn handle(&mut self, mut get: Get, ctx: &mut Context<Self>) -> Self::Result {
        if self.waits() {
            return self.later(get, ctx);
        }
        self.rename(&mut get.queue);
        let queue = match self.usable().and_then(|()| Ok(short("queue name", &get.queue)?)) {
            Ok(queue) => queue,
            Err(error) => return Reply::now(Err(error)),
        };
        let (reply, responder) = Reply::later();
        let method = basic::AMQPMethod::Get(basic::Get { queue, no_ack: get.no_ack });
        let on = PendingReply::Got { no_ack: get.no_ack, responder };
        self.ask(AMQPClass::Basic(method), "basic.get", Some(get.queue), on);
        self.keep_ticking(ctx);
        reply
    }
}
