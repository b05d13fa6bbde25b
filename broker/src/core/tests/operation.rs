//! Operations as text.
//!
//! An operation is a line: channel, command, arguments. The channel is the letter of a connection and a number.
//! A table is `key=` and a type letter with a value, as in `x-expires=I1000`; an array or a table has its entries behind
//! the letter, as in `AI1,Sx` and `Fa:I1,b:Sx`. A name `-` is empty, and `~` is a
//! space.

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

/// What is said to a broker.
pub(super) enum Operation {
    /// Time passes, in milliseconds.
    Advance(u64),
    /// The socket of a connection is gone.
    Drop(char),
    /// A policy is set, or removed.
    Policy(PolicyText),
    /// A user who may configure, write and read what three patterns say, and the letter of its connection, which is its
    /// name, too.
    User(char, [String; 3]),
    Method(At, AMQPClass),
    Publish(At, Content),
}

/// A policy as an operation says it: `policy name pattern apply-to@priority key=value ..`, or `policy name` for its end;
/// `operator` in place of `policy` for those of operators.
pub(super) struct PolicyText {
    pub(super) is_operator: bool,
    pub(super) name: String,
    pub(super) set: Option<SetPolicy>,
}

/// What a policy is set to.
pub(super) struct SetPolicy {
    pub(super) pattern: String,
    pub(super) apply_to: String,
    pub(super) priority: i32,
    pub(super) definition: Table,
}

/// A connection and a channel.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct At {
    pub(super) connection: char,
    pub(super) channel: u16,
}

/// A publish.
pub(super) struct Content {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) mandatory: bool,
    pub(super) immediate: bool,
    pub(super) properties: Bytes,
    pub(super) body: Bytes,
}

/// The words behind the names of an operation.
struct Words<'a> {
    flags: Vec<&'a str>,
    table: Table,
}

impl Words<'_> {
    fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }
}

/// Reads an operation.
pub(super) fn operation(text: &str) -> Operation {
    let words: Vec<&str> = text.split(' ').collect();
    match words[0] {
        "advance" => Operation::Advance(words[1].parse().unwrap()),
        "drop" => Operation::Drop(words[1].chars().next().unwrap()),
        kind @ ("policy" | "operator") => Operation::Policy(PolicyText {
            is_operator: kind == "operator",
            name: words[1].to_owned(),
            set: words.get(2).map(|pattern| {
                let (apply_to, priority) = words[3].split_once('@').unwrap_or((words[3], "0"));
                let definition = words[4..].iter().map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap();
                    (key.to_owned(), value_of(value))
                });
                SetPolicy {
                    pattern: (*pattern).to_owned(),
                    apply_to: apply_to.to_owned(),
                    priority: priority.parse().unwrap(),
                    definition: definition.collect(),
                }
            }),
        }),
        "user" => {
            let pattern = |at: usize| words[at].trim_start_matches('-').to_owned();
            Operation::User(words[1].chars().next().unwrap(), [pattern(2), pattern(3), pattern(4)])
        }
        place => {
            let connection = place.chars().next().unwrap();
            let at = At { connection, channel: place[1..].parse().unwrap() };
            command(at, words[1], &words[2..])
        }
    }
}

fn command(at: At, command: &str, words: &[&str]) -> Operation {
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
            return Operation::Publish(at, content([named(0), named(1), named(2)], &words));
        }
        "open" => AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
        "close" => AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close::default())),
        "close_ok" => AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})),
        "flow" => AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active: words[0] == "on" })),
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
        "cancel" => AMQPClass::Basic(Basic::Cancel(basic::Cancel { consumer_tag: name(0), nowait: false })),
        "get" => AMQPClass::Basic(Basic::Get(basic::Get { queue: name(0), no_ack: rest(1).has("no_ack") })),
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
    Operation::Method(at, method)
}

fn content([exchange, routing_key, body]: [String; 3], words: &Words<'_>) -> Content {
    let mut properties = Properties::new();
    let mut expiration = None;
    if !words.table.is_empty() {
        properties = properties.with_headers(words.table.clone());
    }
    for flag in &words.flags {
        let Some((property, value)) = flag.split_once('=') else { continue };
        properties = match property {
            // The client's types do not encode expirations that are no numbers.
            "p.expiration" => {
                expiration = Some(value.replace('~', " "));
                properties
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
    if let Some(text) = expiration {
        // Only headers, mode and priority may stand before it here.
        buf[0] |= 1;
        buf.extend([text.len() as u8]);
        buf.extend(text.as_bytes());
    }
    Content {
        exchange,
        routing_key,
        mandatory: words.has("mandatory"),
        immediate: words.has("immediate"),
        properties: buf.freeze(),
        body: Bytes::from(body),
    }
}

/// Reads a value: a letter for its type, as on the wire, and its text.
fn value_of(text: &str) -> Value {
    let (kind, value) = text.split_at(1);
    match kind {
        "B" => Value::ShortShortUint(value.parse().unwrap()),
        "f" => Value::Float(value.parse().unwrap()),
        "D" => Value::Decimal { scale: 0, value: value.parse().unwrap() },
        "x" => Value::from(value.as_bytes()),
        "F" => {
            let entries = value.split(',').filter_map(|entry| entry.split_once(':'));
            Value::Table(entries.map(|(key, value)| (key.to_owned(), value_of(value))).collect())
        }
        "I" => Value::LongInt(value.parse().unwrap()),
        "l" => Value::LongLongInt(value.parse().unwrap()),
        "s" => Value::ShortInt(value.parse().unwrap()),
        "b" => Value::ShortShortInt(value.parse().unwrap()),
        "t" => Value::Boolean(value == "true"),
        "d" => Value::Double(value.parse().unwrap()),
        "T" => Value::Timestamp(value.parse().unwrap()),
        "S" => Value::from(value.replace('~', " ")),
        // Tables have commas of their own.
        "A" if value.starts_with('F') => Value::Array(value.split('|').map(value_of).collect()),
        "A" => Value::Array(value.split(',').filter(|value| !value.is_empty()).map(value_of).collect()),
        "V" => Value::Void,
        other => panic!("no type {other}"),
    }
}
