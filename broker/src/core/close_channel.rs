//! The beginning and the end of channels.

use std::collections::{BTreeMap, BTreeSet};

use actix_pika_actors::wire::method::{AMQPClass, channel};

use super::{
    ChannelAt, Core,
    dispatch::Handled,
    error::{Close, Failure},
    keys::{ConsumerKey, QueueKey},
    message::Name,
    output::Output,
    queue::Return,
    session::{Channel, Delivered, Ending, Mode, Taker},
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
        self.forget_channel(at);
        Ok(Some(AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))))
    }

    /// The broker closes a channel. Until `close-ok` its consumers of quorum queues and streams stay, and get messages.
    pub(super) fn close_channel_with(&mut self, at: ChannelAt, close: Close) {
        let Ok(channel) = self.channel(at) else { return };
        if channel.ending != Ending::No {
            return;
        }
        channel.ending = Ending::Closing;
        let close = channel::Close {
            reply_code: close.code,
            reply_text: close.reply_text(),
            class_id: close.class_id,
            method_id: close.method_id,
        };
        self.send_confirms(at);
        self.send(at, Output::Method(AMQPClass::Channel(channel::AMQPMethod::Close(close))));
        self.leave_classic_queues(at, Return::ChannelClosed);
    }

    pub(super) fn forget_channel(&mut self, at: ChannelAt) {
        self.end_channels(&[at], Return::ChannelClosed);
        if let Some(connection) = self.connections.get_mut(at.connection) {
            connection.channels.remove(&at.number);
        }
    }

    /// Cancels the consumers of channels and takes their unacked deliveries back. The classic queues are first, and
    /// their dead letters may go to consumers of other queues that are about to end, and come back with those.
    pub(super) fn end_channels(&mut self, ends: &[ChannelAt], why: Return) {
        let mut has_both = false;
        for at in ends {
            let Ok(channel) = self.channel(*at) else { continue };
            channel.ending = Ending::Silent;
            has_both |= self.leave_classic_queues(*at, why);
        }
        while has_both && self.step() {}
        for at in ends {
            self.leave_other_queues(*at, why);
        }
    }

    /// Ends what a channel has to do with the classic queues that it consumes from. Returns whether there were some, and
    /// it consumes from others, too.
    fn leave_classic_queues(&mut self, at: ChannelAt, why: Return) -> bool {
        let Ok(channel) = self.channel(at) else { return false };
        let consumers = std::mem::take(&mut channel.consumers);
        let mut unacked = std::mem::take(&mut channel.unacked);
        if let Mode::Transaction(transaction) = std::mem::take(&mut channel.mode) {
            unacked.put_back(transaction.settled.into_iter().flat_map(|(_, taken)| taken));
        }
        if let Some(reply) = channel.reply_consumer.take() {
            self.reply_addresses.remove(&reply.address);
        }
        let queue_of = |key: &ConsumerKey| self.consumers.get(*key).map(|consumer| consumer.queue);
        let (classic, others): (BTreeMap<_, _>, BTreeMap<_, _>) = consumers
            .into_iter()
            .partition(|(_, key)| queue_of(key).is_some_and(|queue| self.is_classic(queue)));
        let consumed: BTreeSet<QueueKey> = classic.values().filter_map(queue_of).collect();
        let has_both = !classic.is_empty() && !others.is_empty();
        let (now, later): (Vec<_>, Vec<_>) =
            unacked.take_all().into_iter().partition(|(_, delivered)| consumed.contains(&delivered.queue));
        if let Ok(channel) = self.channel(at) {
            channel.consumers = others;
            channel.unacked.put_back(later);
        }
        self.leave_queues(classic.into_values().collect(), now, why);
        has_both
    }

    /// Ends what is left: queues that are not classic, and those that the channel only got messages from.
    fn leave_other_queues(&mut self, at: ChannelAt, why: Return) {
        let Ok(channel) = self.channel(at) else { return };
        let consumers = std::mem::take(&mut channel.consumers);
        let mut unacked: Vec<(u64, Delivered)> = channel.unacked.take_all();
        unacked.sort_by_cached_key(|(tag, delivered)| self.turn_of_consumer(*tag, delivered));
        self.leave_queues(consumers.into_values().collect(), unacked, why);
    }

    /// The messages come back before a queue is deleted with its last consumer.
    fn leave_queues(&mut self, consumers: Vec<ConsumerKey>, unacked: Vec<(u64, Delivered)>, why: Return) {
        self.leave_rounds(consumers.iter().copied());
        self.take_back(unacked, why);
        for consumer in consumers {
            self.remove_consumer(consumer);
        }
    }

    /// When a quorum queue takes back what a consumer holds. Each `basic.get` is a consumer, whose tag is the delivery tag
    /// as text.
    fn turn_of_consumer(&self, tag: u64, delivered: &Delivered) -> Option<ReturnTurn> {
        if self.is_classic(delivered.queue) {
            return None;
        }
        Some(match &delivered.by {
            Taker::Get => ReturnTurn::Tag(tag.to_string().into()),
            Taker::Consumer { serial, .. } if self.rules.quorum_returns_by_consumer => {
                ReturnTurn::Serial(*serial)
            }
            Taker::Consumer { tag, .. } => ReturnTurn::Tag(tag.clone()),
        })
    }

    fn is_classic(&self, queue: QueueKey) -> bool {
        let queue = self.topology.queues.get(queue);
        queue.is_some_and(|queue| matches!(queue.queue.settings().kind, QueueKind::Classic { .. }))
    }
}

/// The place of a consumer among those whose deliveries come back.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ReturnTurn {
    Serial(u64),
    Tag(Name),
}

pub(crate) fn too_many_channels(max: u16) -> Failure {
    Failure::connection(
        530,
        format!("number of channels opened ({max}) has reached the negotiated channel_max ({max})"),
    )
}
