//! `basic.ack`, `nack`, `reject` and `recover`.

use std::collections::BTreeMap;

use actix_pika_actors::wire::method::{AMQPClass, basic};

use super::{
    ChannelAt, Core,
    dispatch::Handled,
    error::Failure,
    keys::QueueKey,
    message::Name,
    names::queue_text,
    queue::{Dead, Reason, Return, Stored},
    session::{Delivered, Mode, Settle, Taker},
};

/// Deliveries that one holder gives back to one queue.
#[derive(Debug)]
pub(super) struct Returning {
    at: ChannelAt,
    queue: QueueKey,
    deliveries: Vec<Delivered>,
    why: Return,
}

/// The queue of deliveries, and who holds them.
type HeldBy = (Option<Name>, QueueKey, Holder);

/// Who held deliveries that come back together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    /// Each `basic.get` is a consumer of its own.
    Get(u64),
    Consumer(Name),
}

impl Core {
    pub(super) fn settle(&mut self, at: ChannelAt, tag: u64, multiple: bool, how: Settle) -> Handled {
        let channel = self.channel(at)?;
        let unknown = || Failure::channel(406, format!("unknown delivery tag {tag}"));
        if !multiple {
            let delivered = channel.unacked.take(tag).ok_or_else(unknown)?;
            if let Mode::Transaction(transaction) = &mut channel.mode {
                transaction.settled.push((how, vec![(tag, delivered)]));
            } else if how == Settle::Ack {
                self.ack(at, delivered);
            } else {
                let taken = self.refuse_of_streams(vec![(tag, delivered)])?;
                self.settle_now(at, how, taken);
            }
            return Ok(None);
        }
        let taken = channel.unacked.take_up_to(tag).ok_or_else(unknown)?;
        match &mut channel.mode {
            Mode::Transaction(transaction) => transaction.settled.push((how, taken)),
            _ if how == Settle::Ack => self.settle_now(at, how, taken),
            _ => {
                let taken = self.refuse_of_streams(taken)?;
                self.settle_now(at, how, taken);
            }
        }
        Ok(None)
    }

    /// Returns deliveries that may be rejected. In 3.10 those of a stream may not.
    fn refuse_of_streams(&mut self, taken: Vec<(u64, Delivered)>) -> Result<Vec<(u64, Delivered)>, Failure> {
        if !self.rules.stream_refuses_nack {
            return Ok(taken);
        }
        let queues = taken.iter().filter_map(|(_, delivered)| self.topology.queues.get(delivered.queue));
        let streams = queues.filter(|queue| queue.queue.stream().is_some());
        let Some(stream) = streams.min_by_key(|queue| &queue.name) else { return Ok(taken) };
        let resource = queue_text(&self.topology.vhost_name(stream.vhost), &stream.name);
        self.take_back(taken, Return::ConnectionLost);
        let text = format!("basic.nack and basic.reject not supported by stream queues {resource}");
        Err(Failure::connection(540, text))
    }

    /// Settles deliveries that are no longer in the list of their channel.
    pub(super) fn settle_now(&mut self, at: ChannelAt, how: Settle, taken: Vec<(u64, Delivered)>) {
        match how {
            Settle::Ack => {
                for (_, delivered) in taken {
                    self.ack(at, delivered);
                }
            }
            Settle::Nack { requeue: true } => self.requeue(at, taken, Return::Nack),
            Settle::Reject { requeue: true } => self.requeue(at, taken, Return::Reject),
            Settle::Nack { requeue: false } | Settle::Reject { requeue: false } => {
                let failures = u32::from(matches!(how, Settle::Reject { .. }));
                for (_, delivered) in self.by_holder(taken).into_values().flatten() {
                    self.discard(at, delivered, failures);
                }
            }
        }
    }

    fn ack(&mut self, at: ChannelAt, delivered: Delivered) {
        if let Some(stored) = &delivered.stored
            && let Some(queue) = self.topology.queues.get_mut(delivered.queue)
        {
            queue.queue.settle(stored);
        }
        self.release(at, &delivered);
    }

    /// `failures` is how many more of its deliveries failed.
    fn discard(&mut self, at: ChannelAt, mut delivered: Delivered, failures: u32) {
        if let Some(mut stored) = delivered.stored.take()
            && let Some(queue) = self.topology.queues.get_mut(delivered.queue)
        {
            let is_stream = queue.queue.stream().is_some();
            queue.queue.settle(&stored);
            stored.delivery_count += failures;
            if !is_stream {
                self.dead.push_back((delivered.queue, Dead { stored, reason: Reason::Rejected }));
            }
        }
        self.release(at, &delivered);
    }

    /// Gives the place of a delivery in the limits back.
    fn release(&mut self, at: ChannelAt, delivered: &Delivered) {
        let Some(key) = delivered.consumer() else { return };
        let mut was_reached = false;
        if let Ok(channel) = self.channel(at) {
            was_reached = channel.shared.is_reached();
            channel.shared.used = channel.shared.used.saturating_sub(1);
        }
        if let Some(consumer) = self.consumers.get_mut(key) {
            consumer.used = consumer.used.saturating_sub(1);
            if consumer.used == 0
                && let Some(queue) = self.topology.queues.get_mut(consumer.queue)
            {
                queue.roster.set_busy(key, false);
                // Another consumer may be the active one now.
                if queue.queue.settings().single_active {
                    self.make_due(delivered.queue);
                }
            }
        }
        if was_reached {
            self.review_consumers(at);
        }
        if self.consumers.get(key).is_some_and(|consumer| consumer.blocked) {
            self.review_consumer(key);
        }
    }

    /// Puts deliveries back into their queues: those of one queue after those of another one, by their names, and in a
    /// queue those of one consumer after those of another one, by their tags.
    pub(super) fn requeue(&mut self, at: ChannelAt, taken: Vec<(u64, Delivered)>, why: Return) {
        let returning = |((_, queue, _), deliveries): (_, Vec<(u64, Delivered)>)| {
            let deliveries = deliveries.into_iter().map(|(_, delivered)| delivered).collect();
            Returning { at, queue, deliveries, why }
        };
        let groups = self.by_holder(taken).into_iter().map(returning);
        self.returning.extend(groups);
    }

    /// Divides what is settled as channels tell queues of it: by the name of the queue, and then by who holds it.
    fn by_holder(&self, taken: Vec<(u64, Delivered)>) -> BTreeMap<HeldBy, Vec<(u64, Delivered)>> {
        let mut groups: BTreeMap<HeldBy, Vec<(u64, Delivered)>> = BTreeMap::new();
        for (tag, delivered) in taken {
            let queue = self.topology.queues.get(delivered.queue).map(|queue| queue.name.clone());
            let holder = match &delivered.by {
                Taker::Get => Holder::Get(tag),
                Taker::Consumer { tag, .. } => Holder::Consumer(tag.clone()),
            };
            groups.entry((queue, delivered.queue, holder)).or_default().push((tag, delivered));
        }
        groups
    }

    /// Puts the deliveries of one holder back.
    pub(super) fn bring_back(&mut self, Returning { at, queue, deliveries, why }: Returning) {
        let mut returned = Vec::with_capacity(deliveries.len());
        for mut delivered in deliveries {
            returned.extend(delivered.stored.take());
            self.release(at, &delivered);
        }
        if !returned.is_empty() {
            self.return_to(queue, returned, why);
        }
    }

    /// Puts the deliveries of a channel that ends back into their queues: first that of the first delivery.
    pub(super) fn take_back(&mut self, taken: Vec<(u64, Delivered)>, why: Return) {
        let mut places: BTreeMap<QueueKey, usize> = BTreeMap::new();
        let mut returned: Vec<(QueueKey, Vec<Stored>)> = Vec::new();
        for (_, delivered) in taken {
            let Some(stored) = delivered.stored else { continue };
            let place = *places.entry(delivered.queue).or_insert(returned.len());
            match returned.get_mut(place) {
                Some((_, all)) => all.push(stored),
                None => returned.push((delivered.queue, vec![stored])),
            }
        }
        for (queue, stored) in returned {
            self.return_to(queue, stored, why);
        }
    }

    pub(super) fn return_to(&mut self, key: QueueKey, returned: Vec<Stored>, why: Return) {
        let Some(queue) = self.topology.queues.get_mut(key) else { return };
        let mut dead = Vec::new();
        if queue.queue.stream().is_some() {
            for stored in &returned {
                queue.queue.settle(stored);
            }
        } else {
            queue.queue.requeue(self.now, returned, why, &mut dead);
        }
        self.bury(key, &mut dead);
        self.watch_messages(key);
        self.make_due(key);
    }

    pub(super) fn recover(&mut self, at: ChannelAt, requeue: bool, reply: bool) -> Handled {
        if !requeue {
            return Err(Failure::connection(540, "requeue=false"));
        }
        let taken = self.channel(at)?.unacked.take_all();
        let taken = self.refuse_of_streams(taken).map_err(|_| Failure::connection(541, ""))?;
        self.requeue(at, taken, Return::Recover);
        Ok(reply.then_some(AMQPClass::Basic(basic::AMQPMethod::RecoverOk(basic::RecoverOk {}))))
    }
}
