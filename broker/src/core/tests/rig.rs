//! Says operations to a core, and to a node of RabbitMQ if there is one, and compares the answers.
//!
//! `BROKER_ORACLE` is the address of a node and its line, as `127.0.0.1:5672 V3_10`: tests of that line then also
//! hold the node's answers against what they expect.

use std::collections::BTreeMap;

use actix_pika_actors::wire::method::{AMQPClass, channel};

use super::{
    operation::{At, Operation, PolicyText, operation},
    oracle::Oracle,
    show::{abridged, content_text, method_text, normal},
};
use crate::core::{
    ApplyTo, By, ConnectionId, ConnectionInfo, Core, CoreConfig, Line, Outgoing, Output, Policy, Publish,
    Time,
};

pub(super) struct Rig {
    pub(super) core: Core,
    now: u64,
    connections: BTreeMap<char, ConnectionId>,
    opened: Vec<At>,
    /// The last address of direct reply-to that was seen, which `REPLY` in an operation stands for.
    reply_address: String,
    oracle: Option<Oracle>,
}

/// Says operations to brokers of all lines and checks the answers to each.
pub(super) fn check_all(script: &[(&str, &[&str])]) {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3] {
        Rig::new(line).check(script);
    }
}

impl Rig {
    pub(super) fn new(line: Line) -> Self {
        let mut rig = Self::with(CoreConfig { line, ..CoreConfig::default() });
        rig.oracle = Oracle::of(line);
        rig
    }

    /// A broker that is not held against a node.
    pub(super) fn with(config: CoreConfig) -> Self {
        let core = Core::new(config);
        Self {
            core,
            now: 0,
            connections: BTreeMap::new(),
            opened: Vec::new(),
            reply_address: String::new(),
            oracle: None,
        }
    }

    pub(super) fn has_oracle(&self) -> bool {
        self.oracle.is_some()
    }

    /// Says operations and checks the answers to each.
    pub(super) fn check(&mut self, script: &[(&str, &[&str])]) {
        let line = self.core.config().line;
        for (operation, expected) in script {
            if let Some(oracle) = &mut self.oracle {
                let answers = abridged(oracle.say(operation, expected.len()), expected);
                assert_eq!(answers, *expected, "{operation}: the node");
            }
            assert_eq!(abridged(self.say(operation), expected), *expected, "{operation}: {line:?}");
        }
    }

    /// Says the last of some operations, and names all of them if something is wrong then.
    pub(super) fn say_last(&mut self, said: &[String]) -> Vec<String> {
        let run = std::panic::AssertUnwindSafe(|| {
            let answers = self.say(said.last().unwrap());
            self.core.check_invariants();
            answers
        });
        std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("after\n{}", said.join("\n")))
    }

    /// Says operations whose answers do not matter.
    pub(super) fn prepare(&mut self, operations: &[&str]) {
        for operation in operations {
            if let Some(oracle) = &mut self.oracle {
                oracle.say(operation, 0);
            }
            for answer in self.say(operation) {
                assert!(!answer.contains(" close "), "{operation}: {answer}");
            }
        }
    }

    pub(super) fn connection(&mut self, letter: char) -> ConnectionId {
        if !self.connections.contains_key(&letter) {
            self.connect_as(letter, "guest");
        }
        self.connections[&letter]
    }

    /// Opens a connection of a user. That of the letter z does not want to know of cancelled consumers.
    pub(super) fn connect_as(&mut self, letter: char, user: &str) {
        self.connect(letter, user, 0);
    }

    /// Opens a connection that may have so many channels.
    pub(super) fn limit_channels(&mut self, letter: char, channel_max: u16) {
        self.connect(letter, "guest", channel_max);
    }

    /// Limits the queues of the virtual host.
    pub(super) fn limit_queues(&mut self, max: Option<u32>) {
        self.core.limit_queues_of_vhost("/", max);
        if let Some(oracle) = &self.oracle {
            oracle.limit_queues(max);
        }
    }

    /// Limits the channels of a user that an operation has made.
    pub(super) fn limit_channels_of(&mut self, user: char, max: Option<u32>) {
        self.core.limit_channels_of_user(&user.to_string(), max);
        if let Some(oracle) = &self.oracle {
            oracle.limit_channels_of(user, max);
        }
    }

    fn connect(&mut self, letter: char, user: &str, channel_max: u16) {
        let info = ConnectionInfo {
            user: user.into(),
            vhost: "/".into(),
            cancel_notify: letter != 'z',
            channel_max,
            name: letter.to_string().into(),
        };
        let connection = self.core.open_connection(Time::from_millis(self.now), info).unwrap();
        self.connections.insert(letter, connection);
    }

    /// Says operations without a flush between them.
    pub(super) fn batch(&mut self, operations: &[&str]) {
        for text in operations {
            self.act(text);
        }
    }

    /// Flushes and returns the answers since the last time.
    pub(super) fn flush(&mut self) -> Vec<String> {
        self.core.flush(Time::from_millis(self.now));
        normal(self.answers())
    }

    /// Says one operation and returns the answers as text.
    pub(super) fn say(&mut self, text: &str) -> Vec<String> {
        let address = self.reply_address.clone();
        self.act(&text.replace("REPLY", &address));
        self.core.flush(Time::from_millis(self.now));
        let answers = self.answers();
        if let Some(address) = reply_address(&answers) {
            self.reply_address = address;
        }
        normal(answers)
    }

    fn act(&mut self, text: &str) {
        match operation(text) {
            Operation::Advance(millis) => {
                self.now += millis;
                self.core.advance(Time::from_millis(self.now));
            }
            Operation::Drop(letter) => {
                if let Some(connection) = self.connections.remove(&letter) {
                    self.core.close_connection(Time::from_millis(self.now), connection);
                }
                self.opened.retain(|at| at.connection != letter);
            }
            Operation::Policy(text) => self.set_policy(&text),
            Operation::User(letter, patterns) => {
                let name = letter.to_string();
                self.core.add_user(&name, "p");
                self.core.set_permissions(&name, "/", patterns.each_ref().map(String::as_str)).unwrap();
                self.connect_as(letter, &name);
            }
            Operation::Method(at, method) => {
                let connection = self.open(at, &method);
                self.core.method(Time::from_millis(self.now), connection, at.channel, method);
            }
            Operation::Publish(at, content) => {
                let connection =
                    self.open(at, &AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
                let publish = Publish {
                    exchange: &content.exchange,
                    routing_key: &content.routing_key,
                    mandatory: content.mandatory,
                    immediate: content.immediate,
                };
                let now = Time::from_millis(self.now);
                self.core.publish(now, connection, at.channel, publish, content.properties, content.body);
            }
        }
    }

    fn set_policy(&mut self, text: &PolicyText) {
        let (now, name) = (Time::from_millis(self.now), &*text.name);
        let by = if text.is_operator { By::Operator } else { By::User };
        let Some(set) = &text.set else {
            assert!(self.core.clear_policy(now, by, "/", name), "no policy {name}");
            return;
        };
        let mut policy = Policy::new(&set.pattern).priority(set.priority).apply_to(match &*set.apply_to {
            "all" => ApplyTo::All,
            "queues" => ApplyTo::Queues,
            "exchanges" => ApplyTo::Exchanges,
            "classic_queues" => ApplyTo::ClassicQueues,
            "quorum_queues" => ApplyTo::QuorumQueues,
            "streams" => ApplyTo::Streams,
            other => panic!("{other}"),
        });
        for (setting, value) in set.definition.iter() {
            policy = policy.set(&setting.to_string_lossy(), value.clone());
        }
        self.core.set_policy(now, by, "/", name, &policy).unwrap();
    }

    /// Opens the channel of an operation on its first use.
    fn open(&mut self, at: At, method: &AMQPClass) -> ConnectionId {
        let connection = self.connection(at.connection);
        if !self.opened.contains(&at) {
            self.opened.push(at);
            let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
            if *method != open {
                self.core.method(Time::from_millis(self.now), connection, at.channel, open);
                self.answers();
            }
        }
        if is_end(method) {
            self.opened.retain(|opened| *opened != at);
        }
        connection
    }

    pub(super) fn answers(&mut self) -> Vec<String> {
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
            Output::Deliver { consumer_tag, delivery_tag, redelivered, message, properties } => {
                let content = content_text(
                    properties,
                    &message.body,
                    *redelivered,
                    &message.exchange,
                    &message.routing_key,
                );
                format!("deliver {consumer_tag} {delivery_tag} {content}")
            }
            Output::GetOk { delivery_tag, redelivered, message_count, message, properties } => {
                let content = content_text(
                    properties,
                    &message.body,
                    *redelivered,
                    &message.exchange,
                    &message.routing_key,
                );
                format!("got {delivery_tag} {content}, {message_count} left")
            }
            Output::Return { code, message, .. } => {
                let content = content_text(
                    &message.properties,
                    &message.body,
                    false,
                    &message.exchange,
                    &message.routing_key,
                );
                format!("return {code} {content}")
            }
            Output::CloseConnection(close) => {
                let text = close.reply_text();
                format!("close {} {text} at {} {}", close.code, close.class_id, close.method_id)
            }
            Output::Method(method) => method_text(method),
        };
        format!("{letter}{channel} {text}")
    }
}

/// Whether the channel has to be opened again.
pub(super) fn is_end(method: &AMQPClass) -> bool {
    matches!(method, AMQPClass::Channel(channel::AMQPMethod::Close(_) | channel::AMQPMethod::CloseOk(_)))
}

/// The address of direct reply-to in an answer.
pub(super) fn reply_address(answers: &[String]) -> Option<String> {
    answers.iter().find_map(|answer| {
        let at = answer.find(" reply amq.rabbitmq.reply-to.")? + " reply ".len();
        let len = answer[at..].find([' ', ',']).unwrap_or(answer.len() - at);
        Some(answer[at..at + len].to_owned())
    })
}
