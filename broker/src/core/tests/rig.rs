//! Says operations to a core and shows what it answers.
//!
//! An operation is a line: channel, command, arguments. The channel is the letter of a connection and a number,
//! which are opened on their first use. A table is `key=` and a type letter with a value: `x-expires=I1000`.

use std::collections::BTreeMap;

use actix_pika_actors::{
    Properties, Table, Value,
    wire::{
        field_table::to_field_table,
        method::{AMQPClass, basic, channel, confirm, exchange, queue, tx},
        property_codec::put_properties,
        short::short_truncated,
    },
};
use bytes::{Bytes, BytesMut};

use crate::core::{ConnectionId, ConnectionInfo, Core, CoreConfig, Line, Outgoing, Output, Publish, Time};

pub(super) struct Rig {
    pub(super) core: Core,
    now: u64,
    connections: BTreeMap<char, ConnectionId>,
    opened: Vec<(char, u16)>,
}

/// The words of an operation.
struct Words<'a> {
    flags: Vec<&'a str>,
    table: Table,
}

impl Words<'_> {
    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

impl Rig {
    pub(super) fn new(line: Line) -> Self {
        Self::with(CoreConfig { line, ..CoreConfig::default() })
    }

    pub(super) fn with(config: CoreConfig) -> Self {
        Self { core: Core::new(config), now: 0, connections: BTreeMap::new(), opened: Vec::new() }
    }

    /// Says operations and checks the answers to each.
    pub(super) fn check(&mut self, script: &[(&str, &[&str])]) {
        for (operation, expected) in script {
            assert_eq!(self.say(operation), *expected, "{operation}");
        }
    }

    /// Says operations whose answers do not matter.
    pub(super) fn prepare(&mut self, operations: &[&str]) {
        for operation in operations {
            for answer in self.say(operation) {
                assert!(!answer.contains(" close "), "{operation}: {answer}");
            }
        }
    }

    pub(super) fn connection(&mut self, letter: char) -> ConnectionId {
        let now = Time::from_millis(self.now);
        let core = &mut self.core;
        *self.connections.entry(letter).or_insert_with(|| {
            let info = ConnectionInfo {
                user: "guest".into(),
                vhost: "/".into(),
                cancel_notify: letter != 'z',
                channel_max: 0,
                name: letter.to_string().into(),
            };
            core.open_connection(now, info).unwrap()
        })
    }

    pub(super) fn connect_as(&mut self, letter: char, user: &str) {
        let info = ConnectionInfo {
            user: user.into(),
            vhost: "/".into(),
            cancel_notify: true,
            channel_max: 0,
            name: letter.to_string().into(),
        };
        let connection = self.core.open_connection(Time::from_millis(self.now), info).unwrap();
        self.connections.insert(letter, connection);
        self.opened.retain(|(of, _)| *of != letter);
    }

    /// Says one operation and returns the answers as text.
    pub(super) fn say(&mut self, operation: &str) -> Vec<String> {
        let mut words = operation.split(' ');
        let place = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        match place {
            "advance" => {
                self.now += words[0].parse::<u64>().unwrap();
                self.core.advance(Time::from_millis(self.now));
                self.core.flush(Time::from_millis(self.now));
                return self.answers();
            }
            "drop" => {
                let letter = words[0].chars().next().unwrap();
                if let Some(connection) = self.connections.remove(&letter) {
                    self.core.close_connection(Time::from_millis(self.now), connection);
                }
                self.opened.retain(|(of, _)| *of != letter);
                return self.answers();
            }
            _ => {}
        }
        let letter = place.chars().next().unwrap();
        let number: u16 = place[1..].parse().unwrap();
        let connection = self.connection(letter);
        if !self.opened.contains(&(letter, number)) {
            self.opened.push((letter, number));
            if words[0] != "raw" {
                self.send(
                    connection,
                    number,
                    AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
                );
                self.answers();
            }
        }
        self.command(connection, number, words[0], &words[1..]);
        self.core.flush(Time::from_millis(self.now));
        let close = matches!(words[0], "close" | "close_ok");
        if close {
            self.opened.retain(|at| *at != (letter, number));
        }
        self.answers()
    }

    fn send(&mut self, connection: ConnectionId, number: u16, method: AMQPClass) {
        self.core.method(Time::from_millis(self.now), connection, number, method);
    }

    fn command(&mut self, connection: ConnectionId, number: u16, command: &str, words: &[&str]) {
        let named = |at: usize| match words.get(at).copied() {
            None | Some("-") => String::new(),
            Some(word) => word.replace("\\n", "\n").replace('~', " "),
        };
        let name = |at: usize| short_truncated(&named(at));
        let number_of = |at: usize| words[at].parse::<u64>().unwrap();
        let rest = |from: usize| {
            let (pairs, flags): (Vec<&str>, Vec<&str>) =
                words.iter().skip(from).partition(|word| word.contains('=') && !word.starts_with("p."));
            let table = pairs.iter().map(|pair| {
                let (key, value) = pair.split_once('=').unwrap();
                (key.to_owned(), value_of(value))
            });
            Words { table: table.collect(), flags }
        };
        let table = |words: &Words<'_>| to_field_table(&words.table).unwrap();
        use {basic::AMQPMethod as Basic, exchange::AMQPMethod as Exchange, queue::AMQPMethod as Queue};
        let method = match command {
            "publish" => {
                let words = rest(3);
                return self.publish(connection, number, &named(0), &named(1), &named(2), &words);
            }
            "open" => AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
            "close" => AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close::default())),
            "close_ok" => AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})),
            "flow" => {
                AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active: words[0] == "on" }))
            }
            "confirm" => AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false })),
            "tx" => AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {})),
            "commit" => AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {})),
            "rollback" => AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {})),
            "declare" | "raw" => {
                let words = rest(1);
                AMQPClass::Queue(Queue::Declare(queue::Declare {
                    queue: name(0),
                    passive: words.has("passive"),
                    durable: words.has("durable"),
                    exclusive: words.has("exclusive"),
                    auto_delete: words.has("auto_delete"),
                    nowait: words.has("nowait"),
                    arguments: table(&words),
                }))
            }
            "xdeclare" => {
                let words = rest(2);
                AMQPClass::Exchange(Exchange::Declare(exchange::Declare {
                    exchange: name(0),
                    kind: name(1),
                    passive: words.has("passive"),
                    durable: words.has("durable"),
                    auto_delete: words.has("auto_delete"),
                    internal: words.has("internal"),
                    nowait: words.has("nowait"),
                    arguments: table(&words),
                }))
            }
            "bind" => AMQPClass::Queue(Queue::Bind(queue::Bind {
                queue: name(0),
                exchange: name(1),
                routing_key: name(2),
                nowait: false,
                arguments: table(&rest(3)),
            })),
            "unbind" => AMQPClass::Queue(Queue::Unbind(queue::Unbind {
                queue: name(0),
                exchange: name(1),
                routing_key: name(2),
                arguments: table(&rest(3)),
            })),
            "xbind" => AMQPClass::Exchange(Exchange::Bind(exchange::Bind {
                destination: name(0),
                source: name(1),
                routing_key: name(2),
                nowait: false,
                arguments: table(&rest(3)),
            })),
            "xunbind" => AMQPClass::Exchange(Exchange::Unbind(exchange::Unbind {
                destination: name(0),
                source: name(1),
                routing_key: name(2),
                nowait: false,
                arguments: table(&rest(3)),
            })),
            "purge" => AMQPClass::Queue(Queue::Purge(queue::Purge { queue: name(0), nowait: false })),
            "delete" => {
                let words = rest(1);
                AMQPClass::Queue(Queue::Delete(queue::Delete {
                    queue: name(0),
                    if_unused: words.has("if_unused"),
                    if_empty: words.has("if_empty"),
                    nowait: false,
                }))
            }
            "xdelete" => AMQPClass::Exchange(Exchange::Delete(exchange::Delete {
                exchange: name(0),
                if_unused: rest(1).has("if_unused"),
                nowait: false,
            })),
            "consume" => {
                let words = rest(2);
                AMQPClass::Basic(Basic::Consume(basic::Consume {
                    queue: name(0),
                    consumer_tag: name(1),
                    no_local: false,
                    no_ack: words.has("no_ack"),
                    exclusive: words.has("exclusive"),
                    nowait: words.has("nowait"),
                    arguments: table(&words),
                }))
            }
            "cancel" => {
                AMQPClass::Basic(Basic::Cancel(basic::Cancel { consumer_tag: name(0), nowait: false }))
            }
            "get" => {
                AMQPClass::Basic(Basic::Get(basic::Get { queue: name(0), no_ack: rest(1).has("no_ack") }))
            }
            "ack" => AMQPClass::Basic(Basic::Ack(basic::Ack {
                delivery_tag: number_of(0),
                multiple: rest(1).has("multiple"),
            })),
            "nack" => AMQPClass::Basic(Basic::Nack(basic::Nack {
                delivery_tag: number_of(0),
                multiple: rest(1).has("multiple"),
                requeue: rest(1).has("requeue"),
            })),
            "reject" => AMQPClass::Basic(Basic::Reject(basic::Reject {
                delivery_tag: number_of(0),
                requeue: rest(1).has("requeue"),
            })),
            "recover" => AMQPClass::Basic(Basic::Recover(basic::Recover { requeue: words.is_empty() })),
            "qos" => AMQPClass::Basic(Basic::Qos(basic::Qos {
                prefetch_count: number_of(0) as u16,
                global: rest(1).has("global"),
            })),
            other => panic!("no command {other}"),
        };
        self.send(connection, number, method);
    }

    fn publish(
        &mut self,
        connection: ConnectionId,
        number: u16,
        exchange: &str,
        key: &str,
        body: &str,
        words: &Words<'_>,
    ) {
        let mut properties = Properties::new();
        if !words.table.is_empty() {
            properties = properties.with_headers(words.table.clone());
        }
        for flag in &words.flags {
            let Some((property, value)) = flag.split_once('=') else { continue };
            properties = match property {
                "p.expiration" => {
                    return self.publish_expiring(connection, number, [exchange, key, body], value);
                }
                "p.priority" => properties.with_priority(value.parse().unwrap()),
                "p.mode" => properties.with_delivery_mode(value.parse::<u8>().unwrap().into()),
                "p.reply_to" => properties.with_reply_to(value),
                "p.user" => properties.with_user_id(value),
                other => panic!("no property {other}"),
            };
        }
        let mut buf = BytesMut::new();
        put_properties(&mut buf, &properties);
        let publish = Publish {
            exchange,
            routing_key: key,
            mandatory: words.has("mandatory"),
            immediate: words.has("immediate"),
        };
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.core.publish(Time::from_millis(self.now), connection, number, publish, buf.freeze(), body);
    }

    /// The client's types do not encode expirations that are no numbers.
    fn publish_expiring(
        &mut self,
        connection: ConnectionId,
        number: u16,
        [exchange, key, body]: [&str; 3],
        value: &str,
    ) {
        let mut properties = vec![1, 0, value.len() as u8];
        properties.extend(value.as_bytes());
        let publish = Publish { exchange, routing_key: key, mandatory: false, immediate: false };
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.core.publish(Time::from_millis(self.now), connection, number, publish, properties.into(), body);
    }

    fn answers(&mut self) -> Vec<String> {
        let mut answers = Vec::new();
        while let Some(outgoing) = self.core.next_output() {
            answers.push(self.show(&outgoing));
        }
        answers
    }

    fn show(&self, Outgoing { connection, channel, output }: &Outgoing) -> String {
        let letter =
            self.connections.iter().find(|(_, id)| *id == connection).map_or('?', |(letter, _)| *letter);
        let text = match output {
            Output::Ack { tag, multiple } => format!("ack {tag}{}", if *multiple { " multiple" } else { "" }),
            Output::Nack { tag, multiple } => {
                format!("nack {tag}{}", if *multiple { " multiple" } else { "" })
            }
            Output::Deliver { consumer_tag, delivery_tag, redelivered, message, .. } => {
                let again = if *redelivered { " again" } else { "" };
                let body = String::from_utf8_lossy(&message.body);
                format!("deliver {consumer_tag} {delivery_tag} {body}{again}")
            }
            Output::GetOk { delivery_tag, redelivered, message_count, message, .. } => {
                let again = if *redelivered { " again" } else { "" };
                format!(
                    "got {delivery_tag} {}{again}, {message_count} left",
                    String::from_utf8_lossy(&message.body)
                )
            }
            Output::Return { code, message, .. } => {
                format!("return {code} {}", String::from_utf8_lossy(&message.body))
            }
            Output::CloseConnection(close) => {
                format!("close {} {close} at {} {}", close.code, close.class_id, close.method_id)
            }
            Output::Method(method) => method_text(method),
        };
        format!("{letter}{channel} {text}")
    }
}

fn method_text(method: &AMQPClass) -> String {
    use {basic::AMQPMethod as Basic, channel::AMQPMethod as Channel, queue::AMQPMethod as Queue};
    match method {
        AMQPClass::Channel(Channel::Close(close)) => {
            format!(
                "close {} {} at {} {}",
                close.reply_code, close.reply_text, close.class_id, close.method_id
            )
        }
        AMQPClass::Queue(Queue::DeclareOk(ok)) => {
            format!("declared {} {} {}", ok.queue, ok.message_count, ok.consumer_count)
        }
        AMQPClass::Queue(Queue::DeleteOk(ok)) => format!("deleted {}", ok.message_count),
        AMQPClass::Queue(Queue::PurgeOk(ok)) => format!("purged {}", ok.message_count),
        AMQPClass::Basic(Basic::ConsumeOk(ok)) => format!("consuming {}", ok.consumer_tag),
        AMQPClass::Basic(Basic::CancelOk(ok)) => format!("cancelled {}", ok.consumer_tag),
        AMQPClass::Basic(Basic::Cancel(cancel)) => format!("cancel {}", cancel.consumer_tag),
        AMQPClass::Basic(Basic::GetEmpty(_)) => "empty".into(),
        _ => "ok".into(),
    }
}

/// Reads a value: a letter for its type, as on the wire, and its text.
fn value_of(text: &str) -> Value {
    let (kind, value) = text.split_at(1);
    match kind {
        "I" => Value::LongInt(value.parse().unwrap()),
        "l" => Value::LongLongInt(value.parse().unwrap()),
        "s" => Value::ShortInt(value.parse().unwrap()),
        "b" => Value::ShortShortInt(value.parse().unwrap()),
        "t" => Value::Boolean(value == "true"),
        "d" => Value::Double(value.parse().unwrap()),
        "T" => Value::Timestamp(value.parse().unwrap()),
        "S" => Value::from(value.replace('~', " ")),
        "A" => Value::Array(value.split(',').filter(|value| !value.is_empty()).map(value_of).collect()),
        "V" => Value::Void,
        other => panic!("no type {other}"),
    }
}
