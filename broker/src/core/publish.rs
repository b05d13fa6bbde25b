//! `basic.publish`.

use std::{collections::BTreeSet, sync::Arc};

use actix_pika_actors::{Table, Value};
use bytes::Bytes;

use super::{
    ChannelAt, Core,
    error::{Close, Failure},
    keys::{ConnectionId, ExchangeKey, QueueKey},
    message::{Message, Name},
    names::REPLY_TO,
    octets::text_of,
    output::Output,
    permissions::Resource,
    properties::sorted,
    rules::GoneAtCommit,
    session::{ChannelState, Mode, Routed, Target, Uncommitted},
    settings::QueueKind,
    term::type_name,
    time::{LONGEST_MILLIS, Time},
    users::Access,
};

/// The largest body that can be configured.
const MESSAGE_CEILING: u64 = 536_870_912;

/// The arguments of `basic.publish`.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// The message is returned if no queue gets it.
    pub mandatory: bool,
    /// Not supported by RabbitMQ.
    pub immediate: bool,
}

impl Core {
    /// Takes a whole publish: the method, the flags and properties of its header, and its body.
    ///
    /// An error closes the channel or the connection, as an output. Confirms are sent by
    /// [`flush`](Self::flush).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{ConnectionId, Core, Publish, Time};
    /// # use bytes::Bytes;
    /// fn hello(core: &mut Core, connection: ConnectionId) {
    ///     let publish = Publish { exchange: "", routing_key: "q", mandatory: true, immediate: false };
    ///     let no_properties = Bytes::from_static(&[0, 0]);
    ///     core.publish(Time::ZERO, connection, 1, publish, no_properties, Bytes::from_static(b"hello"));
    /// }
    /// ```
    pub fn publish(
        &mut self,
        now: Time,
        connection: ConnectionId,
        channel: u16,
        publish: Publish<'_>,
        properties: Bytes,
        body: Bytes,
    ) {
        self.arrive(now);
        let at = ChannelAt { connection, number: channel };
        if !self.connections.contains_key(connection) {
            return;
        }
        let result = match self.channel_state(connection, channel) {
            ChannelState::Open => self.publish_message(at, publish, properties, body),
            ChannelState::Closed => Err(Failure::connection(504, "expected 'channel.open'")),
            ChannelState::Closing => Ok(()),
        };
        if let Err(failure) = result {
            self.fail(now, connection, channel, failure.at((60, 40)));
        }
        self.run();
    }

    /// Takes a publish whose body is larger than `max`, the limit when its header came, and was not kept: an error of
    /// the channel, or of what is looked at before the size.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{ConnectionId, Core, Publish, Time};
    /// fn refuse(core: &mut Core, connection: ConnectionId, publish: Publish<'_>) {
    ///     core.publish_too_large(Time::ZERO, connection, 1, publish, 1 << 30, 16 << 20);
    /// }
    /// ```
    pub fn publish_too_large(
        &mut self,
        now: Time,
        connection: ConnectionId,
        channel: u16,
        publish: Publish<'_>,
        size: u64,
        max: u64,
    ) {
        self.arrive(now);
        let result = match self.channel_state(connection, channel) {
            ChannelState::Closed => Err(Failure::connection(504, "expected 'channel.open'")),
            ChannelState::Open if publish.immediate => Err(Failure::connection(540, "immediate=true")),
            ChannelState::Open => Err(larger_than(size, max)),
            ChannelState::Closing => Ok(()),
        };
        if let Err(failure) = result {
            self.fail(now, connection, channel, failure.at((60, 40)));
        }
    }

    fn publish_message(
        &mut self,
        at: ChannelAt,
        publish: Publish<'_>,
        properties: Bytes,
        body: Bytes,
    ) -> Result<(), Failure> {
        if publish.immediate {
            return Err(Failure::connection(540, "immediate=true"));
        }
        let exchange = self.check_publish(at, publish, body.len() as u64)?;
        let Some(record) = self.topology.exchanges.get(exchange) else { return Ok(()) };
        let (delays, is_topic) = (record.delays, record.is_topic);
        // A key is often that of the message before.
        let key = match &self.last_key {
            Some(key) if **key == *publish.routing_key => key.clone(),
            _ => {
                let key: Name = publish.routing_key.into();
                self.last_key = Some(key.clone());
                key
            }
        };
        // RabbitMQ's channel ends by an exception where properties cannot be read.
        let message = Message::new(record.name.clone(), key, properties, body)
            .map_err(|_| Failure::Connection(Close::new(541, "")))?;
        let message = self.with_reply_address(at, message)?;
        self.check_expiration(&message)?;
        if self.rules.user_checked_before_copies {
            self.check_user_id(at, &message)?;
        }
        let message = self.with_sorted_headers(self.with_copies(message)?);
        if is_topic {
            let checked = if self.rules.topic_checked_for_copies { usize::MAX } else { 1 };
            for key in message.keys().take(checked) {
                self.check_topic(at, Access::Write, publish.exchange, key)?;
            }
        }
        self.check_user_id(at, &message)?;
        self.check_delivery_mode(&message)?;
        let message = Arc::new(message.counted(&self.memory));
        self.log.record(self.now, at.connection, &message);
        if self.faults.refuse_next() {
            self.confirm(at, false);
            return Ok(());
        }
        if self.faults.return_next() {
            self.send_return(at, &message);
            self.confirm(at, true);
            return Ok(());
        }
        if delays && self.delay(exchange, &message) {
            self.confirm(at, true);
            return Ok(());
        }
        let at_once = publish.exchange.is_empty() && !self.rules.reply_address_is_queue;
        let replied = at_once && self.deliver_replies(&message);
        let queues = self.route(exchange, &message);
        let mandatory = publish.mandatory;
        if matches!(self.channel(at)?.mode, Mode::Transaction(_)) {
            let queues = self.targets(queues, &message);
            if let Mode::Transaction(transaction) = &mut self.channel(at)?.mode {
                transaction.publishes.push(Uncommitted { message, mandatory, queues, replied });
            }
        } else {
            let taken = self.deliver_to(at, Routed { message, mandatory, queues, replied });
            self.confirm(at, taken);
        }
        Ok(())
    }

    /// Returns the largest body that a message may have now.
    pub(crate) fn message_max(&self) -> u64 {
        self.config.message_max.unwrap_or(self.rules.message_max)
    }

    /// The queues that a publish of a transaction goes to at the commit.
    fn targets(&self, queues: Vec<QueueKey>, message: &Message) -> Vec<Target> {
        let target = |key| {
            let queue = self.topology.queues.get(key)?;
            Some(Target { name: queue.name.clone(), found: Some((key, queue.queue.settings().kind.clone())) })
        };
        let mut targets: Vec<Target> = queues.into_iter().filter_map(target).collect();
        // The default exchange gives names, and whether there are such queues is looked up at the commit.
        if self.rules.gone_at_commit == GoneAtCommit::LookedUp && message.exchange.is_empty() {
            let mut known: BTreeSet<Name> = targets.iter().map(|target| target.name.clone()).collect();
            for name in message.keys() {
                if known.insert(name.clone()) {
                    targets.push(Target { name: name.clone(), found: None });
                }
            }
        }
        targets
    }

    /// Size, right, exchange.
    fn check_publish(&self, at: ChannelAt, publish: Publish<'_>, size: u64) -> Result<ExchangeKey, Failure> {
        let max = self.message_max();
        if size > max {
            return Err(larger_than(size, max));
        }
        self.check_access(at, Access::Write, Resource::Exchange(publish.exchange))?;
        let key = self.find_exchange(self.connection(at)?.vhost, publish.exchange)?;
        if let Some(exchange) = self.topology.exchanges.get(key)
            && exchange.internal
        {
            let vhost = self.topology.vhost_name(exchange.vhost);
            let text = format!("cannot publish to internal exchange '{}' in vhost '{vhost}'", exchange.name);
            return Err(Failure::channel(403, text));
        }
        Ok(key)
    }

    /// Puts the address of the channel's reply consumer in place of the name that stands for it.
    fn with_reply_address(&mut self, at: ChannelAt, message: Message) -> Result<Message, Failure> {
        let is_pseudo = message
            .summary
            .reply_to
            .is_some_and(|place| place.of(&message.properties) == REPLY_TO.as_bytes());
        if !is_pseudo {
            return Ok(message);
        }
        match &self.channel(at)?.reply_consumer {
            None => Err(Failure::channel(406, "fast reply consumer does not exist")),
            Some(consumer) => Ok(message.with_reply_to(&consumer.address)),
        }
    }

    fn check_expiration(&self, message: &Message) -> Result<(), Failure> {
        let Some(place) = message.summary.expiration else { return Ok(()) };
        let text = place.of(&message.properties);
        let Err(reason) = read_expiration(text) else { return Ok(()) };
        let text = text_of(text);
        let before = format!("invalid expiration '{text}': ");
        let reason = wrapped(&reason, before.chars().count());
        Err(Failure::channel(406, before + &reason))
    }

    /// Sorts the headers, if the line does so with all of them.
    fn with_sorted_headers(&self, message: Message) -> Message {
        match message.headers() {
            Some(headers)
                if self.rules.headers_sorted && !headers.iter().is_sorted_by_key(|(name, _)| name) =>
            {
                let headers = sorted(headers.clone());
                message.with_headers(&headers)
            }
            _ => message,
        }
    }

    /// Reads the keys of `CC` and `BCC`, and removes `BCC`.
    fn with_copies(&self, mut message: Message) -> Result<Message, Failure> {
        if !message.may_have_copies() {
            return Ok(message);
        }
        let Some(headers) = message.headers() else { return Ok(message) };
        let (cc, bcc) = (copies(headers, "CC")?, copies(headers, "BCC")?);
        if headers.contains_key("BCC") {
            let mut without = headers.clone();
            without.remove("BCC");
            message = message.with_headers(&without);
        }
        (message.cc, message.bcc) = (cc, bcc);
        Ok(message)
    }

    fn check_user_id(&self, at: ChannelAt, message: &Message) -> Result<(), Failure> {
        let Some(place) = message.summary.user_id else { return Ok(()) };
        let claimed = place.of(&message.properties);
        let user = &self.connection(at)?.info.user;
        if claimed == user.as_bytes() || self.users.is_impersonator(user) {
            return Ok(());
        }
        let claimed = text_of(claimed);
        let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
        Err(Failure::channel(406, text))
    }

    fn check_delivery_mode(&self, message: &Message) -> Result<(), Failure> {
        match message.summary.delivery_mode {
            Some(mode) if self.rules.delivery_mode_checked && mode != 1 && mode != 2 => {
                Err(Failure::channel(406, format!("invalid message: {{delivery_mode_unknown,{mode}}}")))
            }
            _ => Ok(()),
        }
    }

    /// Gives a message to its queues, or returns it if there are none. Returns whether all queues took it.
    pub(super) fn deliver_to(&mut self, at: ChannelAt, routed: Routed) -> bool {
        let Routed { message, mandatory, queues, replied } = routed;
        let is_reply = self.rules.reply_address_is_queue && message.exchange.is_empty();
        let replied = replied || is_reply && self.deliver_replies(&message);
        let is_lost = queues.is_empty() && (!replied || self.rules.mandatory_reply_returned);
        if mandatory && is_lost {
            self.send_return(at, &message);
        }
        let mut taken = true;
        // All queues get it, also if one refuses it.
        if self.registers(at, &queues) {
            let (quorum, others): (Vec<_>, Vec<_>) =
                queues.into_iter().partition(|queue| self.is_quorum(*queue));
            for queue in others {
                taken &= self.enqueue(queue, &message);
            }
            for _ in 0..self.dead.len() {
                let Some((queue, dead)) = self.dead.pop_front() else { break };
                self.dead_letter(queue, dead);
            }
            for queue in quorum {
                taken &= self.enqueue(queue, &message);
            }
            return taken;
        }
        for queue in queues {
            taken &= self.enqueue(queue, &message);
        }
        taken
    }

    /// Whether a channel registers with one of several queues, as it does with a quorum queue before its first publish
    /// there. That takes so long that the others have the message before all quorum queues, and what they drop is
    /// dead-lettered.
    fn registers(&mut self, at: ChannelAt, queues: &[QueueKey]) -> bool {
        let mut is_new = false;
        for queue in queues {
            is_new |= self.is_quorum(*queue) && self.register(at, *queue);
        }
        is_new && queues.len() > 1
    }

    fn register(&mut self, at: ChannelAt, queue: QueueKey) -> bool {
        let connection = self.connections.get_mut(at.connection);
        let Some(channel) = connection.and_then(|connection| connection.channels.get_mut(&at.number)) else {
            return false;
        };
        let registered = &mut channel.registered;
        if registered.contains(&queue) {
            return false;
        }
        // Those that are deleted are forgotten when there are many.
        if registered.len() >= 64 && registered.len().is_power_of_two() {
            registered.retain(|queue| self.topology.queues.contains_key(*queue));
        }
        registered.insert(queue)
    }

    fn is_quorum(&self, queue: QueueKey) -> bool {
        let queue = self.topology.queues.get(queue);
        queue.is_some_and(|queue| matches!(queue.queue.settings().kind, QueueKind::Quorum { .. }))
    }

    fn send_return(&mut self, at: ChannelAt, message: &Arc<Message>) {
        let message = Arc::clone(message);
        self.send(at, Output::Return { code: 312, text: "NO_ROUTE", message });
    }

    /// Records what came of a publish, if its channel wants to know.
    fn confirm(&mut self, at: ChannelAt, ack: bool) {
        let connection = self.connections.get_mut(at.connection);
        let Some(channel) = connection.and_then(|connection| connection.channels.get_mut(&at.number)) else {
            return;
        };
        if let Mode::Confirm(confirms) = &mut channel.mode {
            if confirms.is_empty() {
                self.confirming.push(at);
            }
            let number = confirms.number();
            confirms.record(number, ack);
        }
    }
}

fn larger_than(size: u64, max: u64) -> Failure {
    let which = if max == MESSAGE_CEILING { "max size" } else { "configured max size" };
    Failure::channel(406, format!("message size {size} is larger than {which} {max}"))
}

/// Breaks a term of two parts in two, as Erlang does where a line would be longer than it likes.
fn wrapped(term: &str, column: usize) -> String {
    match term.split_once(',') {
        Some((name, value)) if column + term.chars().count() > 78 => {
            format!("{name},\n{:1$}{value}", "", column + 1)
        }
        _ => term.to_owned(),
    }
}

/// Checks the text of an expiration. The error is the reason as RabbitMQ prints it.
fn read_expiration(text: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(text);
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, &*text),
    };
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    if len == 0 {
        return Err("no_integer".into());
    }
    let (number, rest) = digits.split_at(len);
    if !rest.is_empty() {
        return Err(format!("{{leftover_string,\"{rest}\"}}"));
    }
    let number = number.trim_start_matches('0');
    let number = if number.is_empty() { "0" } else { number };
    if sign && number != "0" {
        return Err(format!("{{value_negative,-{number}}}"));
    }
    match number.parse::<u64>() {
        Ok(millis) if millis <= LONGEST_MILLIS => Ok(()),
        _ => Err(format!("{{value_too_large,{number}}}")),
    }
}

/// The keys of a header with copies. Entries that are no text lead nowhere.
fn copies(headers: &Table, header: &str) -> Result<Box<[Name]>, Failure> {
    match headers.get(header) {
        None => Ok(Box::default()),
        Some(Value::Array(values)) => {
            let text = |value: &Value| match value {
                Value::LongString(text) => Some(Name::from(&*text_of(text.as_bytes()))),
                _ => None,
            };
            Ok(values.iter().filter_map(text).collect())
        }
        Some(other) => {
            let text =
                format!("invalid message: {{unacceptable_type_in_header,\"{header}\",{}}}", type_name(other));
            Err(Failure::channel(406, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// broker.md 2
    #[test]
    fn expirations_are_whole_numbers_of_milliseconds() {
        for (text, reason) in [
            ("a", "no_integer"),
            ("", "no_integer"),
            (" 5", "no_integer"),
            ("1.5", "{leftover_string,\".5\"}"),
            ("-1", "{value_negative,-1}"),
            ("315360000001", "{value_too_large,315360000001}"),
        ] {
            assert_eq!(read_expiration(text.as_bytes()), Err(reason.to_owned()), "{text}");
        }
        for text in ["0", "5", "315360000000", "007", "+5", "-0"] {
            assert_eq!(read_expiration(text.as_bytes()), Ok(()), "{text}");
        }
    }
}
