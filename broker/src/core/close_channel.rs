//! The beginning and the end of channels.

use std::collections::BTreeSet;

use actix_pika_actors::wire::method::{AMQPClass, channel};

use super::{
    ChannelAt, Core,
    dispatch::Handled,
    error::{Close, Failure},
    keys::QueueKey,
    message::Name,
    output::Output,
    queue::Return,
    session::{Channel, Delivered, Mode},
    settings::QueueKind,
};

impl Core {
    pub(super) fn open_channel(&mut self, at: ChannelAt) -> Handled {
        let Some(connection) = self.connections.get_mut(at.connection) else { return Ok(None) };
        let max = connection.info.channel_max;
        if max != 0 && connection.channels.len() >= usize::from(max) {
            // Told without the method, which RabbitMQ has not looked at then.
            self.fail_at(at, too_many_channels(max));
            return Ok(None);
        }
        let user = connection.info.user.clone();
        if let Err(failure) = self.check_channel_limit(&user) {
            self.fail_at(at, failure);
            return Ok(None);
        }
        let channel = Channel { consumer_timeout: self.config.consumer_timeout, ..Channel::default() };
        if let Some(connection) = self.connections.get_mut(at.connection) {
            connection.channels.insert(at.number, channel);
        }
        Ok(Some(AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))))
    }

    /// The client closes a channel.
    pub(super) fn close_channel(&mut self, at: ChannelAt) -> Handled {
        self.send_confirms(at);
        self.end_channel(at, Return::ChannelClosed);
        self.forget_channel(at);
        Ok(Some(AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))))
    }

    /// The broker closes a channel.
    pub(super) fn close_channel_with(&mut self, at: ChannelAt, close: Close) {
        let Ok(channel) = self.channel(at) else { return };
        if channel.closing {
            return;
        }
        channel.closing = true;
        let close = channel::Close {
            reply_code: close.code,
            reply_text: close.reply_text(),
            class_id: close.class_id,
            method_id: close.method_id,
        };
        self.send_confirms(at);
        self.send(at, Output::Method(AMQPClass::Channel(channel::AMQPMethod::Close(close))));
        self.end_channel(at, Return::ChannelClosed);
    }

    pub(super) fn forget_channel(&mut self, at: ChannelAt) {
        let removed = self
            .connections
            .get_mut(at.connection)
            .and_then(|connection| connection.channels.remove(&at.number));
        if let Some(mut channel) = removed {
            let unacked = channel.unacked.take_all();
            self.take_back(unacked, Return::ChannelClosed);
        }
    }

    /// Cancels the consumers of a channel and takes its unacked deliveries back.
    pub(super) fn end_channel(&mut self, at: ChannelAt, why: Return) {
        let Ok(channel) = self.channel(at) else { return };
        let consumers = std::mem::take(&mut channel.consumers);
        let mut unacked = std::mem::take(&mut channel.unacked);
        if let Mode::Transaction(transaction) = std::mem::take(&mut channel.mode) {
            unacked.put_back(transaction.settled.into_iter().flat_map(|(_, taken)| taken));
        }
        let mut unacked: Vec<(u64, Delivered)> = unacked.take_all();
        let is_closing = channel.closing && why == Return::ChannelClosed;
        if let Some(reply) = channel.reply_consumer.take() {
            self.reply_addresses.remove(&reply.address);
        }
        unacked.sort_by_cached_key(|(tag, delivered)| self.turn_of_consumer(*tag, delivered));
        // Queues that the channel does not consume from hear of its end when the close is complete.
        let consumed: BTreeSet<QueueKey> = consumers
            .values()
            .filter_map(|consumer| self.consumers.get(*consumer))
            .map(|consumer| consumer.queue)
            .filter(|queue| self.is_classic(*queue))
            .collect();
        let (now, later): (Vec<_>, Vec<_>) = unacked
            .into_iter()
            .partition(|(_, delivered)| !is_closing || consumed.contains(&delivered.queue));
        if let Ok(channel) = self.channel(at) {
            // The client can no longer settle them: new tags keep the order.
            for (tag, (_, delivered)) in (1..).zip(later) {
                channel.unacked.push(tag, delivered);
            }
        }
        // The messages come back before a queue is deleted with its last consumer.
        self.leave_rounds(consumers.values().copied());
        self.take_back(now, why);
        for consumer in consumers.into_values() {
            self.remove_consumer(consumer);
        }
    }

    /// When a quorum queue takes back what a consumer holds: by the place in the queue's list, or by the tag. Each
    /// `basic.get` is a consumer behind that list, whose tag is the delivery tag as text.
    fn turn_of_consumer(&self, tag: u64, delivered: &Delivered) -> Option<(usize, Name)> {
        if self.is_classic(delivered.queue) {
            return None;
        }
        let Some(key) = delivered.consumer else { return Some((self.behind_all(), tag.to_string().into())) };
        let name = self.consumers.get(key)?.tag.clone();
        if !self.rules.quorum_returns_by_consumer {
            return Some((0, name));
        }
        let queue = self.topology.queues.get(delivered.queue)?;
        let place = queue.roster.iter().position(|other| other == key);
        Some((place.unwrap_or(usize::MAX), name))
    }

    fn behind_all(&self) -> usize {
        if self.rules.quorum_returns_by_consumer { usize::MAX } else { 0 }
    }

    fn is_classic(&self, queue: QueueKey) -> bool {
        let queue = self.topology.queues.get(queue);
        queue.is_some_and(|queue| matches!(queue.queue.settings().kind, QueueKind::Classic { .. }))
    }
}

pub(crate) fn too_many_channels(max: u16) -> Failure {
    Failure::connection(
        530,
        format!("number of channels opened ({max}) has reached the negotiated channel_max ({max})"),
    )
}
