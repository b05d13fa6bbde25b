//! `basic.consume` and `basic.cancel`.

use std::collections::{BTreeMap, BTreeSet};

use actix_pika_actors::wire::{
    field_table::from_field_table,
    method::{AMQPClass, basic},
    short::short_truncated,
};

use super::{
    ChannelAt, Core,
    arguments::{self, ConsumerArguments},
    dispatch::{Handled, unless},
    entities::Entity,
    error::Failure,
    keys::{ConsumerKey, QueueKey},
    message::Name,
    names::{REPLY_TO, queue_text},
    permissions::Resource,
    queue::{StreamFilter, StreamReader},
    session::{Consumer, Taker},
    settings::QueueKind,
    users::Access,
};

/// The limit of a consumer of a quorum queue that has none.
const QUORUM_PREFETCH: u16 = 2000;

impl Core {
    pub(super) fn consume(&mut self, at: ChannelAt, consume: &basic::Consume) -> Handled {
        let name = self.named_queue(at, consume.queue.as_str())?;
        let tag = consume.consumer_tag.as_str();
        if self.channel(at)?.consumers.contains_key(tag) {
            return Err(Failure::connection(530, format!("attempt to reuse consumer tag '{tag}'")));
        }
        if &*name == REPLY_TO {
            return self.consume_replies(at, consume);
        }
        self.check_access(at, Access::Read, Resource::Queue(&name))?;
        let tag: Name = if tag.is_empty() { self.names.generate("amq.ctag") } else { tag.into() };
        let vhost = self.connection(at)?.vhost;
        if self.is_reply_queue(&name) {
            let resource = queue_text(&self.topology.vhost_name(vhost), &name);
            return Err(Failure::channel(406, format!("only creator channel may consume from {resource}")));
        }
        let key = self.find_queue(vhost, &name)?;
        self.check_lock(at, key)?;
        let consumer = self.checked_consumer(at, key, tag.clone(), consume)?;
        self.add_consumer(at, consumer);
        unless(consume.nowait, || consume_ok(&tag))
    }

    /// Checks arguments, prefetch and exclusive use.
    fn checked_consumer(
        &mut self,
        at: ChannelAt,
        key: QueueKey,
        tag: Name,
        consume: &basic::Consume,
    ) -> Result<Consumer, Failure> {
        let table = from_field_table(&consume.arguments);
        let channel = self.channel(at)?;
        let (mut prefetch, is_shared) = (channel.prefetch, channel.shared.limit != 0);
        let Some(queue) = self.topology.queues.get(key) else {
            return Err(Failure::connection(541, ""));
        };
        let settings = queue.queue.settings();
        let resource = queue_text(&self.topology.vhost_name(queue.vhost), &queue.name);
        let ConsumerArguments { priority, offset, timeout } =
            arguments::consumer(&table, settings, &resource)?;
        let fails = self.rules.credit_is_table && arguments::has_credit(&table);
        let mut reader = StreamReader::default();
        match settings.kind {
            QueueKind::Classic { .. } => {
                let others = !queue.roster.is_empty();
                let taken = queue.exclusive_consumer.is_some()
                    || consume.exclusive && (others || settings.single_active);
                if taken {
                    return Err(Failure::channel(403, format!("{resource} in exclusive use")));
                }
                if fails {
                    self.crash_queue(key, at);
                    return Err(Failure::connection(541, ""));
                }
            }
            QueueKind::Quorum { .. } => {
                if is_shared {
                    return Err(Failure::connection(540, format!("{resource} does not support global qos")));
                }
                if fails {
                    return Err(Failure::connection(541, ""));
                }
                if prefetch == 0 {
                    prefetch = QUORUM_PREFETCH;
                }
            }
            QueueKind::Stream { .. } => {
                let is_old = self.rules.stream_texts_are_old;
                if prefetch == 0 {
                    let of = if is_old { format!("'{resource}'") } else { format!("stream {resource}") };
                    return Err(Failure::channel(
                        406,
                        format!("consumer prefetch count is not set for {of}"),
                    ));
                }
                if consume.no_ack {
                    let of = if is_old { "stream queues" } else { "stream" };
                    let text = format!("automatic acknowledgement not supported by {of} {resource}");
                    return Err(Failure::connection(540, text));
                }
                if is_shared {
                    return Err(Failure::connection(540, format!("{resource} does not support global qos")));
                }
                if let Some(stream) = queue.queue.stream() {
                    let filter = StreamFilter::of(&table).filter(|_| self.rules.stream_filters);
                    let start = stream.start(offset, self.now, self.config.unix_start);
                    reader = StreamReader::new(start, filter);
                }
            }
        }
        let counted = self.count_entity(Entity::Consumer, &tag, &table)?;
        self.last_consumer += 1;
        Ok(Consumer {
            connection: at.connection,
            channel: at.number,
            tag,
            serial: self.last_consumer,
            queue: key,
            no_ack: consume.no_ack,
            exclusive: consume.exclusive,
            prefetch,
            used: 0,
            priority,
            arguments: table,
            blocked: false,
            timeout,
            reader,
            _counted: counted,
        })
    }

    fn add_consumer(&mut self, at: ChannelAt, consumer: Consumer) {
        let (queue, priority, exclusive, tag) =
            (consumer.queue, consumer.priority, consumer.exclusive, consumer.tag.clone());
        let key = self.consumers.insert(consumer);
        self.adopt(at, key);
        if let Ok(channel) = self.channel(at) {
            channel.consumers.insert(tag, key);
        }
        if let Some(record) = self.topology.queues.get_mut(queue) {
            record.roster.add(key, priority);
            record.had_consumer = true;
            record.idle_until = None;
            let is_classic = matches!(record.queue.settings().kind, QueueKind::Classic { .. });
            if exclusive && is_classic {
                record.exclusive_consumer = Some(key);
            }
        }
        self.review_consumer(key);
        self.make_due(queue);
    }

    /// Lets a consumer of a quorum queue go on for one of its tag that has left and still holds messages.
    fn adopt(&mut self, at: ChannelAt, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(queue) = self.topology.queues.get(consumer.queue) else { return };
        if !matches!(queue.queue.settings().kind, QueueKind::Quorum { .. }) {
            return;
        }
        let connection = self.connections.get_mut(at.connection);
        let Some(channel) = connection.and_then(|connection| connection.channels.get_mut(&at.number)) else {
            return;
        };
        for delivered in channel.held_mut().filter(|delivered| delivered.queue == consumer.queue) {
            if let Taker::Consumer { key: former, tag, serial, .. } = &mut delivered.by
                && *tag == consumer.tag
            {
                *former = key;
                consumer.serial = *serial;
                consumer.used += 1;
            }
        }
    }

    pub(super) fn cancel(&mut self, at: ChannelAt, cancel: &basic::Cancel) -> Handled {
        let tag = cancel.consumer_tag.as_str();
        let channel = self.channel(at)?;
        if let Some(reply) = channel.reply_consumer.take_if(|reply| &*reply.tag == tag) {
            self.reply_addresses.remove(&reply.address);
        } else if let Some(consumer) = channel.consumers.remove(tag) {
            self.leave_round(consumer);
            self.remove_consumer(consumer);
        }
        let consumer_tag = cancel.consumer_tag.clone();
        unless(cancel.nowait, || {
            AMQPClass::Basic(basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag }))
        })
    }

    /// Takes a consumer out of its queue. What it has not acked stays unacked.
    pub(super) fn leave_round(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get(key) else { return };
        if let Some(queue) = self.topology.queues.get_mut(consumer.queue) {
            queue.roster.remove(key);
            if queue.exclusive_consumer == Some(key) {
                queue.exclusive_consumer = None;
            }
            self.make_due(consumer.queue);
        }
    }

    /// Takes all consumers of a channel out of their queues, with one look at each queue.
    pub(super) fn leave_rounds(&mut self, keys: impl Iterator<Item = ConsumerKey>) {
        let mut left: BTreeMap<QueueKey, BTreeSet<ConsumerKey>> = BTreeMap::new();
        let mut queues = Vec::new();
        for key in keys {
            let Some(consumer) = self.consumers.get(key) else { continue };
            let of_queue = left.entry(consumer.queue).or_default();
            if of_queue.is_empty() {
                queues.push(consumer.queue);
            }
            of_queue.insert(key);
        }
        for key in queues {
            let Some(queue) = self.topology.queues.get_mut(key) else { continue };
            let gone = &left[&key];
            queue.roster.remove_all(|consumer| gone.contains(&consumer));
            queue.exclusive_consumer.take_if(|consumer| gone.contains(consumer));
            self.make_due(key);
        }
    }

    /// Forgets a consumer that has left, and a queue that lives as long as its consumers.
    pub(super) fn remove_consumer(&mut self, key: ConsumerKey) {
        if let Some(consumer) = self.consumers.remove(key) {
            self.consumer_left(consumer.queue);
        }
    }
}

pub(super) fn consume_ok(tag: &str) -> AMQPClass {
    let consumer_tag = short_truncated(tag);
    AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag }))
}
