//! Operations as lines of text.
//!
//! An operation is a line: channel, command, arguments. The channel is the letter of a connection and a number.
//! A table is `key=` and a value (see `values.rs`). A name `-` is empty, and `~` is a space. A delivery that is
//! settled is `@2`, the third of those that are unsettled on the channel, or a number as it is.

use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, confirm, exchange, queue, tx};
use amq_protocol::types::{FieldTable, ShortString};

use super::{names::Names, values::read_value};

/// A connection and a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) connection: char,
    pub(crate) channel: u16,
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.connection, self.channel)
    }
}

/// What is said to a broker.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    /// From here on, each operation is followed by a pause in which times to live end.
    Slow,
    /// The socket of a connection ends.
    Drop(char),
    /// A connection is closed.
    Shut(char),
    Method(At, AMQPClass),
    Publish(At, Box<Publish>),
    /// Settles a delivery.
    Settle(At, Settle),
}

#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) method: basic::Publish,
    pub(crate) properties: BasicProperties,
    pub(crate) body: Vec<u8>,
    /// It is a reply to the address that was seen last.
    pub(crate) to_reply_address: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settle {
    pub(crate) how: How,
    pub(crate) tag: Tag,
    pub(crate) multiple: bool,
    pub(crate) requeue: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum How {
    Ack,
    Nack,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tag {
    Unsettled(usize),
    Number(u64),
}

impl Settle {
    pub(crate) fn method(self, delivery_tag: u64) -> AMQPClass {
        let Self { how, multiple, requeue, .. } = self;
        AMQPClass::Basic(match how {
            How::Ack => basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple }),
            How::Nack => basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple, requeue }),
            How::Reject => basic::AMQPMethod::Reject(basic::Reject { delivery_tag, requeue }),
        })
    }
}

/// The arguments of an operation.
struct Words<'a> {
    words: Vec<&'a str>,
    names: &'a Names,
}

impl Words<'_> {
    fn has(&self, flag: &str) -> bool {
        self.words.contains(&flag)
    }

    fn text(&self, at: usize) -> String {
        match self.words.get(at).copied() {
            None | Some("-") => String::new(),
            Some(word) => self.names.full(&word.replace("\\n", "\n").replace('~', " ")),
        }
    }

    fn name(&self, at: usize) -> ShortString {
        ShortString::from(self.text(at))
    }

    fn table(&self) -> FieldTable {
        let mut table = FieldTable::default();
        for word in self.words.iter().filter(|word| !word.starts_with("p.")) {
            if let Some((key, value)) = word.split_once('=') {
                table.insert(ShortString::from(key), read_value(value, self.names));
            }
        }
        table
    }
}

/// Reads an operation.
pub(crate) fn operation(text: &str, names: &Names) -> Operation {
    let words: Vec<&str> = text.split(' ').collect();
    let letter = |word: &str| word.chars().next().unwrap();
    match words[..] {
        ["slow"] => Operation::Slow,
        ["drop", connection] => Operation::Drop(letter(connection)),
        ["shut", connection] => Operation::Shut(letter(connection)),
        [place, command, ref rest @ ..] => {
            let at = At { connection: letter(place), channel: place[1..].parse().unwrap() };
            let words = Words { words: rest.to_vec(), names };
            match command {
                "publish" => Operation::Publish(at, Box::new(publish(&words))),
                "ack" => Operation::Settle(at, settle(How::Ack, &words)),
                "nack" => Operation::Settle(at, settle(How::Nack, &words)),
                "reject" => Operation::Settle(at, settle(How::Reject, &words)),
                _ => Operation::Method(at, method(command, &words)),
            }
        }
        _ => panic!("no operation: {text}"),
    }
}

fn settle(how: How, words: &Words<'_>) -> Settle {
    let word = words.words[0];
    let tag = match word.strip_prefix('@') {
        Some(place) => Tag::Unsettled(place.parse().unwrap()),
        None => Tag::Number(word.parse().unwrap()),
    };
    Settle { how, tag, multiple: words.has("multiple"), requeue: words.has("requeue") }
}

fn publish(words: &Words<'_>) -> Publish {
    let headers = words.table();
    let mut properties = BasicProperties::default();
    if !headers.inner().is_empty() {
        properties = properties.with_headers(headers);
    }
    for word in words.words.iter().filter_map(|word| word.strip_prefix("p.")) {
        let (property, value) = word.split_once('=').unwrap();
        let text = ShortString::from(value.replace('~', " "));
        properties = match property {
            "expiration" => properties.with_expiration(text),
            "reply_to" => properties.with_reply_to(text),
            "user" => properties.with_user_id(text),
            "type" => properties.with_content_type(text),
            "id" => properties.with_message_id(text),
            "app" => properties.with_app_id(text),
            "kind" => properties.with_type(text),
            "encoding" => properties.with_content_encoding(text),
            "correlation" => properties.with_correlation_id(text),
            "cluster" => properties.with_cluster_id(text),
            "priority" => properties.with_priority(value.parse().unwrap()),
            "mode" => properties.with_delivery_mode(value.parse().unwrap()),
            "time" => properties.with_timestamp(value.parse().unwrap()),
            other => panic!("no property {other}"),
        };
    }
    let mut body = words.text(2).into_bytes();
    if words.has("large") {
        body.resize(150_000, b'.');
    }
    Publish {
        method: basic::Publish {
            exchange: words.name(0),
            routing_key: words.name(1),
            mandatory: words.has("mandatory"),
            immediate: words.has("immediate"),
        },
        properties,
        body,
        to_reply_address: words.words[1] == "REPLY",
    }
}

fn method(command: &str, words: &Words<'_>) -> AMQPClass {
    use {basic::AMQPMethod as Basic, exchange::AMQPMethod as Exchange, queue::AMQPMethod as Queue};
    let nowait = words.has("nowait");
    match command {
        "close" => AMQPClass::Channel(channel::AMQPMethod::Close(channel::Close {
            reply_code: 200,
            reply_text: "bye".into(),
            class_id: 0,
            method_id: 0,
        })),
        "flow_off" => AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active: false })),
        "confirm" => AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait })),
        "tx" => AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {})),
        "commit" => AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {})),
        "rollback" => AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {})),
        "declare" => AMQPClass::Queue(Queue::Declare(queue::Declare {
            queue: words.name(0),
            passive: words.has("passive"),
            durable: words.has("durable"),
            exclusive: words.has("exclusive"),
            auto_delete: words.has("auto_delete"),
            nowait,
            arguments: words.table(),
        })),
        "xdeclare" => AMQPClass::Exchange(Exchange::Declare(exchange::Declare {
            exchange: words.name(0),
            kind: words.name(1),
            passive: words.has("passive"),
            durable: words.has("durable"),
            auto_delete: words.has("auto_delete"),
            internal: words.has("internal"),
            nowait,
            arguments: words.table(),
        })),
        "bind" => AMQPClass::Queue(Queue::Bind(queue::Bind {
            queue: words.name(0),
            exchange: words.name(1),
            routing_key: words.name(2),
            nowait,
            arguments: words.table(),
        })),
        "unbind" => AMQPClass::Queue(Queue::Unbind(queue::Unbind {
            queue: words.name(0),
            exchange: words.name(1),
            routing_key: words.name(2),
            arguments: words.table(),
        })),
        "xbind" => AMQPClass::Exchange(Exchange::Bind(exchange::Bind {
            destination: words.name(0),
            source: words.name(1),
            routing_key: words.name(2),
            nowait,
            arguments: words.table(),
        })),
        "xunbind" => AMQPClass::Exchange(Exchange::Unbind(exchange::Unbind {
            destination: words.name(0),
            source: words.name(1),
            routing_key: words.name(2),
            nowait,
            arguments: words.table(),
        })),
        "purge" => AMQPClass::Queue(Queue::Purge(queue::Purge { queue: words.name(0), nowait })),
        "delete" => AMQPClass::Queue(Queue::Delete(queue::Delete {
            queue: words.name(0),
            if_unused: words.has("if_unused"),
            if_empty: words.has("if_empty"),
            nowait,
        })),
        "xdelete" => AMQPClass::Exchange(Exchange::Delete(exchange::Delete {
            exchange: words.name(0),
            if_unused: words.has("if_unused"),
            nowait,
        })),
        "consume" => AMQPClass::Basic(Basic::Consume(basic::Consume {
            queue: words.name(0),
            consumer_tag: words.name(1),
            no_local: false,
            no_ack: words.has("no_ack"),
            exclusive: words.has("exclusive"),
            nowait,
            arguments: words.table(),
        })),
        "cancel" => AMQPClass::Basic(Basic::Cancel(basic::Cancel { consumer_tag: words.name(0), nowait })),
        "get" => {
            AMQPClass::Basic(Basic::Get(basic::Get { queue: words.name(0), no_ack: words.has("no_ack") }))
        }
        "recover" => AMQPClass::Basic(Basic::Recover(basic::Recover { requeue: !words.has("false") })),
        "qos" => AMQPClass::Basic(Basic::Qos(basic::Qos {
            prefetch_count: words.words[0].parse().unwrap(),
            global: words.has("global"),
        })),
        other => panic!("no command {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_read_from_its_line() {
        let names = Names::new(3);
        let Operation::Publish(at, publish) =
            operation("b2 publish amq.topic q m1 mandatory p.priority=9 CC=ASp", &names)
        else {
            panic!()
        };
        assert_eq!(at, At { connection: 'b', channel: 2 });
        assert_eq!(publish.method.exchange.as_str(), "amq.topic");
        assert_eq!(publish.method.routing_key.as_str(), "q_u3");
        assert!(publish.method.mandatory && !publish.method.immediate);
        assert_eq!(publish.properties.priority(), &Some(9));
        assert!(publish.properties.headers().as_ref().unwrap().contains_key("CC"));
        assert_eq!(publish.body, b"m1");
    }

    #[test]
    fn a_settle_names_a_place_or_a_number() {
        let names = Names::new(3);
        let Operation::Settle(_, settle) = operation("a1 nack @2 multiple requeue", &names) else { panic!() };
        assert_eq!(settle.tag, Tag::Unsettled(2));
        assert!(settle.multiple && settle.requeue && settle.how == How::Nack);
        let Operation::Settle(_, settle) = operation("a1 ack 7", &names) else { panic!() };
        assert_eq!(settle.tag, Tag::Number(7));
    }
}
