//! Direct reply-to: a consumer of a name that is no queue, whose address the requests carry.

use std::sync::Arc;

use actix_pika_actors::wire::method::basic;

use super::{
    ChannelAt, Core,
    consume::consume_ok,
    dispatch::{Handled, unless},
    error::{Close, Failure},
    keys::VhostKey,
    message::{Message, Name},
    names::{REPLY_TO, REPLY_TO_ADDRESS, is_reply_address, queue_text},
    output::Output,
    queue_declare::declare_ok,
    session::ReplyConsumer,
};

impl Core {
    pub(super) fn consume_replies(&mut self, at: ChannelAt, consume: &basic::Consume) -> Handled {
        if !consume.no_ack {
            return Err(Failure::channel(406, "reply consumer cannot acknowledge"));
        }
        if self.channel(at)?.reply_consumer.is_some() {
            return Err(Failure::channel(406, "reply consumer already set"));
        }
        let tag = consume.consumer_tag.as_str();
        let tag: Name = if tag.is_empty() { self.names.generate("amq.ctag") } else { tag.into() };
        let address = self.names.reply_address();
        self.reply_addresses.insert(address.clone(), at);
        self.channel(at)?.reply_consumer = Some(ReplyConsumer { tag: tag.clone(), address });
        unless(consume.nowait, || consume_ok(&tag))
    }

    /// A declaration of the name or of an address tells whether it is there.
    pub(super) fn declare_reply_address(
        &mut self,
        at: ChannelAt,
        vhost: VhostKey,
        name: &str,
        nowait: bool,
    ) -> Handled {
        if name != REPLY_TO && !self.reply_addresses.contains_key(name) {
            if self.is_unreadable_address(name) {
                return Err(Failure::Connection(Close::new(541, "")));
            }
            let text = format!("no {}", queue_text(&self.topology.vhost_name(vhost), name));
            return Err(Failure::channel(404, text));
        }
        self.channel(at)?.last_queue = Some(name.into());
        unless(nowait, || declare_ok(name, 0, 1))
    }

    /// Returns whether RabbitMQ fails to read a forged address: a process, a dot and a key. Of no dot, earlier lines make
    /// nothing. The first part is readable if this broker has made it.
    fn is_unreadable_address(&self, name: &str) -> bool {
        let Some(address) = name.strip_prefix(REPLY_TO_ADDRESS).filter(|_| !is_reply_address(name)) else {
            return false;
        };
        match address.split_once('.') {
            None => self.rules.forged_reply_to_closes_connection,
            Some((process, _)) => {
                let start = format!("{REPLY_TO_ADDRESS}{process}.");
                !self.reply_addresses.keys().any(|known| known.starts_with(&start))
            }
        }
    }

    /// Delivers a message whose keys are addresses. Returns whether one of them was an address, which from 4.2 on
    /// counts as a queue, also if its consumer is gone.
    pub(super) fn deliver_replies(&mut self, message: &Arc<Message>) -> bool {
        if !message.keys().any(|key| key.starts_with(REPLY_TO_ADDRESS)) {
            return false;
        }
        let mut keys: Vec<Name> = message.keys().filter(|key| is_reply_address(key)).cloned().collect();
        keys.sort();
        keys.dedup();
        let is_known = !keys.is_empty();
        for key in keys {
            let Some(at) = self.reply_addresses.get(&key).copied() else { continue };
            let shares_tag = self.rules.reply_shares_tag;
            let Ok(channel) = self.channel(at) else { continue };
            let delivery_tag = channel.last_tag + 1;
            if !shares_tag {
                channel.last_tag = delivery_tag;
            }
            let Some(consumer) = &channel.reply_consumer else { continue };
            let output = Output::Deliver {
                consumer_tag: consumer.tag.clone(),
                delivery_tag,
                redelivered: false,
                properties: message.properties.clone(),
                message: Arc::clone(message),
            };
            self.send(at, output);
            if let Some(connection) = self.connections.get_mut(at.connection) {
                connection.pending += 1;
            }
        }
        is_known
    }

    /// Returns whether a name is an address that somebody listens to, and counts as a queue.
    pub(super) fn is_reply_queue(&self, name: &str) -> bool {
        self.rules.reply_address_is_queue && self.reply_addresses.contains_key(name)
    }
}
