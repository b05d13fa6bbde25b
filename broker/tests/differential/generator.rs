//! Sequences of operations, each from its seed.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::pools::{HEADERS, KEYS, MATCHES, ODD, ODD_PUBLISH, PLAIN, PUBLISH, Theme};

const CONSUMERS: &[&str] = &["c", "d", "e", "f"];

/// The sequence of a seed.
pub(crate) fn sequence(seed: u64) -> Vec<String> {
    let mut random = Rng::with_seed(seed);
    let len = random.usize(5..=40);
    let theme = weighted(&mut random, &Theme::ALL);
    let connections: Vec<char> = ['a', 'b', 'c'][..random.usize(1..=3)].to_vec();
    let channels = random.u16(1..=3);
    let mut generator = Generator {
        random,
        theme,
        connections,
        channels,
        queues: vec!["q"],
        consumers: BTreeSet::new(),
        modes: BTreeMap::new(),
        messages: 0,
    };
    let mut operations = Vec::new();
    if theme == Theme::Timed {
        operations.push("slow".to_owned());
    }
    operations.extend(generator.begin());
    while operations.len() < len {
        operations.push(generator.operation());
    }
    operations.truncate(len);
    operations
}

fn weighted<T: Copy>(random: &mut Rng, choices: &[(T, u32)]) -> T {
    let total: u32 = choices.iter().map(|(_, weight)| weight).sum();
    let mut at = random.u32(..total);
    for (choice, weight) in choices {
        if at < *weight {
            return *choice;
        }
        at -= weight;
    }
    choices[0].0
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Confirm,
    Transaction,
}

/// What is drawn next, and what of the earlier operations it goes by.
struct Generator {
    random: Rng,
    theme: Theme,
    connections: Vec<char>,
    channels: u16,
    queues: Vec<&'static str>,
    /// Channels and tags of consumers.
    consumers: BTreeSet<(String, &'static str)>,
    modes: BTreeMap<String, Mode>,
    messages: u32,
}

impl Generator {
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.usize(..choices.len())]
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.random.u32(..times) == 0
    }

    /// A channel.
    fn at(&mut self) -> String {
        let connection = self.random.usize(..self.connections.len());
        format!("{}{}", self.connections[connection], self.random.u16(1..=self.channels))
    }

    /// A queue, mostly one that was declared.
    fn queue(&mut self) -> &'static str {
        match self.random.u32(..40) {
            0 => self.pick(&["q", "p", "r", "s"]),
            1 => "-",
            _ => self.queues[self.random.usize(..self.queues.len())],
        }
    }

    fn exchange(&mut self) -> &'static str {
        self.pick(&["amq.fanout", "amq.topic", "amq.direct", "amq.headers", "x", "y", "w"])
    }

    /// Declarations.
    fn begin(&mut self) -> Vec<String> {
        let arguments = self.theme.queues();
        let count = self.random.usize(1..=3);
        self.queues = vec!["q", "p", "r"];
        self.queues.truncate(count);
        let mut operations = Vec::new();
        for queue in self.queues.clone() {
            let (at, arguments) = (self.at(), self.pick(&arguments));
            operations.push(format!("{at} declare {queue}{arguments}"));
        }
        if self.theme == Theme::Routing || self.one_in(3) {
            for _ in 0..self.random.usize(0..3) {
                operations.push(self.declare_exchange());
                operations.push(self.bind());
            }
        }
        for _ in 0..self.random.usize(0..3) {
            operations.push(self.mode());
        }
        if self.theme == Theme::Stream || self.one_in(3) {
            operations.push(self.qos());
        }
        operations
    }

    fn mode(&mut self) -> String {
        let at = self.at();
        let mode = if self.one_in(4) { Mode::Transaction } else { Mode::Confirm };
        self.modes.entry(at.clone()).or_insert(mode);
        format!("{at} {}", if mode == Mode::Confirm { "confirm" } else { "tx" })
    }

    fn qos(&mut self) -> String {
        let at = self.at();
        let least = u16::from(self.theme == Theme::Stream);
        let global = if self.one_in(5) { " global" } else { "" };
        format!("{at} qos {}{global}", self.random.u16(least..4))
    }

    fn declare_exchange(&mut self) -> String {
        let at = self.at();
        let exchange = self.pick(&["x", "y", "w"]);
        let kind = match self.random.u32(..30) {
            0 => "none-such",
            1 => "-",
            _ => self.pick(&["direct", "fanout", "topic", "topic", "headers"]),
        };
        let options = self.pick(&[
            "",
            "",
            "",
            " durable",
            " auto_delete",
            " internal",
            " alternate-exchange=Sy",
            " alternate-exchange=Samq.fanout",
            " auto_delete alternate-exchange=Sx",
            " passive",
        ]);
        format!("{at} xdeclare {exchange} {kind}{options}")
    }

    fn bind(&mut self) -> String {
        let (at, exchange) = (self.at(), self.exchange());
        let binding = if exchange == "amq.headers" {
            let (matching, headers) = (self.pick(MATCHES), self.pick(HEADERS));
            format!("- {matching} {headers}")
        } else if self.one_in(15) {
            format!("{} {}", self.pick(KEYS), self.pick(HEADERS))
        } else {
            self.pick(KEYS).to_owned()
        };
        let text = if self.one_in(5) {
            let (verb, to) = (self.pick(&["xbind", "xbind", "xunbind"]), self.pick(&["x", "y", "w"]));
            format!("{at} {verb} {to} {exchange} {binding}")
        } else {
            let (verb, queue) = (self.pick(&["bind", "bind", "bind", "unbind"]), self.queue());
            format!("{at} {verb} {queue} {exchange} {binding}")
        };
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn publish(&mut self) -> String {
        let at = self.at();
        self.messages += 1;
        let body = if self.one_in(30) { "-".to_owned() } else { format!("m{}", self.messages) };
        let option = match self.random.u32(..40) {
            0 => self.pick(ODD_PUBLISH),
            _ if self.theme == Theme::Odd && self.one_in(4) => self.pick(ODD_PUBLISH),
            _ if self.theme == Theme::Timed && self.one_in(3) => {
                self.pick(&[" p.expiration=20", " p.expiration=0", " p.expiration=10000"])
            }
            // A copy and a dead letter would race.
            _ if self.theme == Theme::Timed => self.pick(&["", " mandatory", " p.priority=2", " p.mode=2"]),
            _ => self.pick(PUBLISH),
        };
        let through_exchange = self.theme == Theme::Routing || self.one_in(4);
        let (exchange, key) = if through_exchange {
            let (exchange, key) = (self.exchange(), self.pick(KEYS));
            (exchange, key)
        } else {
            ("-", self.queue())
        };
        let headers =
            if exchange == "amq.headers" && !option.contains('=') { self.pick(HEADERS) } else { "" };
        let text = format!("{at} publish {exchange} {key} {body}{option} {headers}");
        text.trim_end().to_owned()
    }

    fn consume(&mut self) -> String {
        let (at, queue) = (self.at(), self.queue());
        let tag = if self.one_in(30) { "-" } else { self.pick(CONSUMERS) };
        let tag = if self.consumers.contains(&(at.clone(), tag)) { self.pick(CONSUMERS) } else { tag };
        self.consumers.insert((at.clone(), tag));
        let option = match self.theme {
            Theme::Stream => self.pick(&[
                "",
                " x-stream-offset=Sfirst",
                " x-stream-offset=Sfirst",
                " x-stream-offset=Slast",
                " x-stream-offset=Snext",
                " x-stream-offset=I1",
                " x-stream-offset=l2",
                " x-stream-offset=I50",
                " x-stream-offset=S1h",
                " x-stream-offset=S5",
                " no_ack",
                " exclusive",
            ]),
            _ => self.pick(&[
                "",
                "",
                "",
                "",
                " no_ack",
                " no_ack",
                " exclusive",
                " x-priority=I5",
                " x-priority=I-5",
                " x-priority=I5 no_ack",
                " nowait",
            ]),
        };
        let option = if self.one_in(40) {
            // Not `x-credit`: what is no table ends the process of a queue of 3.10, with its messages.
            self.pick(&[" x-priority=Sa", " x-stream-offset=Sfirst", " x-cancel-on-ha-failover=ttrue"])
        } else {
            option
        };
        format!("{at} consume {queue} {tag}{option}")
    }

    fn settle(&mut self) -> String {
        let at = self.at();
        let multiple = if self.one_in(3) { " multiple" } else { "" };
        let requeue = if self.random.bool() { " requeue" } else { "" };
        let tag = match self.random.u32(..40) {
            0 => return format!("{at} ack {}{multiple}", self.random.u64(..8)),
            1 => return format!("{at} nack 0 multiple{requeue}"),
            2 => return format!("{at} ack 0 multiple"),
            _ => self.random.usize(..4),
        };
        match self.random.u32(..5) {
            0..=2 => format!("{at} ack @{tag}{multiple}"),
            3 => format!("{at} nack @{tag}{multiple}{requeue}"),
            _ => format!("{at} reject @{tag}{requeue}"),
        }
    }

    fn operation(&mut self) -> String {
        let at = self.at();
        match self.random.u32(..100) {
            0..=27 => self.publish(),
            28..=35 => {
                let (queue, no_ack) = (self.queue(), if self.one_in(3) { " no_ack" } else { "" });
                if self.theme == Theme::Stream && !self.one_in(10) {
                    return self.consume();
                }
                format!("{at} get {queue}{no_ack}")
            }
            36..=45 => self.consume(),
            46..=64 => self.settle(),
            65..=67 => self.cancel(),
            68..=69 => format!("{at} recover{}", if self.one_in(20) { " false" } else { "" }),
            70..=72 => self.qos(),
            73..=75 => format!("{at} declare {} passive", self.queue()),
            76..=77 => self.declare(),
            78..=81 => self.bind(),
            82 => self.declare_exchange(),
            83 => {
                let (exchange, unused) = (self.exchange(), if self.one_in(3) { " if_unused" } else { "" });
                format!("{at} xdelete {exchange}{unused}")
            }
            84 => format!("{at} purge {}", self.queue()),
            85 => {
                let option = self.pick(&["", "", " if_unused", " if_empty", " nowait"]);
                format!("{at} delete {}{option}", self.queue())
            }
            86..=90 => self.transact(),
            91 => self.mode(),
            92..=93 => {
                self.consumers.retain(|(of, _)| *of != at);
                self.modes.remove(&at);
                format!("{at} close")
            }
            94 => self.end_connection("shut"),
            95 => self.end_connection("drop"),
            96..=97 => self.reply_to(),
            _ if self.theme == Theme::Odd || self.one_in(4) => self.odd(),
            _ => self.publish(),
        }
    }

    fn end_connection(&mut self, how: &str) -> String {
        let connection = self.connections[self.random.usize(..self.connections.len())];
        self.consumers.retain(|(at, _)| !at.starts_with(connection));
        self.modes.retain(|at, _| !at.starts_with(connection));
        format!("{how} {connection}")
    }

    fn cancel(&mut self) -> String {
        let known: Vec<(String, &'static str)> = self.consumers.iter().cloned().collect();
        if known.is_empty() || self.one_in(20) {
            let at = self.at();
            return format!("{at} cancel {}", self.pick(CONSUMERS));
        }
        let (at, tag) = known[self.random.usize(..known.len())].clone();
        self.consumers.remove(&(at.clone(), tag));
        format!("{at} cancel {tag}")
    }

    fn declare(&mut self) -> String {
        let at = self.at();
        let arguments = match self.theme {
            Theme::Odd => self.pick(ODD),
            theme => {
                let arguments = theme.queues();
                self.pick(&arguments)
            }
        };
        match self.random.u32(..6) {
            0 => format!("{at} declare -{}", self.pick(PLAIN)),
            1 if self.one_in(4) => format!("{at} declare amq.q"),
            _ => {
                let queue = self.pick(&["q", "p", "r", "s"]);
                if !self.queues.contains(&queue) {
                    self.queues.push(queue);
                }
                format!("{at} declare {queue}{arguments}")
            }
        }
    }

    /// Ends a transaction, where there is one.
    fn transact(&mut self) -> String {
        let open: Vec<String> = self
            .modes
            .iter()
            .filter(|(_, mode)| **mode == Mode::Transaction)
            .map(|(at, _)| at.clone())
            .collect();
        if open.is_empty() {
            return if self.one_in(20) { format!("{} commit", self.at()) } else { self.publish() };
        }
        let at = &open[self.random.usize(..open.len())];
        format!("{at} {}", if self.random.u32(..3) > 0 { "commit" } else { "rollback" })
    }

    fn reply_to(&mut self) -> String {
        let at = self.at();
        self.messages += 1;
        let body = self.messages;
        match self.random.u32(..6) {
            0 | 1 => format!("{at} consume amq.rabbitmq.reply-to {} no_ack", self.pick(CONSUMERS)),
            2 | 3 => format!("{at} publish - {} m{body} p.reply_to=amq.rabbitmq.reply-to", self.queue()),
            4 => format!("{at} publish - REPLY m{body}{}", self.pick(&["", " mandatory"])),
            _ => self
                .pick(&[
                    "a1 consume amq.rabbitmq.reply-to c",
                    "a1 declare amq.rabbitmq.reply-to passive",
                    "a1 declare amq.rabbitmq.reply-to",
                    "a1 get amq.rabbitmq.reply-to",
                    "a1 publish - amq.rabbitmq.reply-to.no m mandatory",
                ])
                .to_owned(),
        }
    }

    fn odd(&mut self) -> String {
        let at = self.at();
        let odd = self.pick(&[
            "flow_off",
            "recover false",
            "xdelete amq.topic",
            "xdelete -",
            "xdelete amq.no",
            "xdeclare amq.topic topic durable",
            "xdeclare amq.topic topic",
            "xdeclare amq.x topic",
            "xdeclare x topic alternate-exchange=I1",
            "xdeclare - direct",
            "xdeclare amq.no topic passive",
            "bind q - k",
            "bind q nowhere k",
            "unbind q nowhere k",
            "unbind q amq.topic never",
            "xbind x nowhere k",
            "xbind amq.topic - k",
            "declare amq.q",
            "declare amq.q passive",
            "declare - passive",
            "consume nowhere c",
            "get nowhere",
            "purge nowhere",
            "delete nowhere",
            "cancel nobody",
            "publish nowhere k m",
            "ack 0",
            "nack 99 multiple requeue",
            "reject 0",
            "rollback",
        ]);
        format!("{at} {odd}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{names::Names, operation::operation};

    #[test]
    fn a_seed_is_always_the_same_sequence() {
        for seed in 0..50 {
            assert_eq!(sequence(seed), sequence(seed));
        }
        assert_ne!(sequence(1), sequence(2));
    }

    #[test]
    fn sequences_can_be_read_and_have_5_to_40_operations() {
        let names = Names::new(1);
        for seed in 0..2_000 {
            let operations = sequence(seed);
            assert!((5..=40).contains(&operations.len()), "{operations:?}");
            for text in operations {
                operation(&text, &names);
            }
        }
    }

    /// Everything that the broker has to answer is said now and then.
    #[test]
    fn all_commands_are_drawn() {
        let mut commands = BTreeMap::<String, u32>::new();
        for seed in 0..1_000 {
            for text in sequence(seed) {
                let words: Vec<&str> = text.split(' ').collect();
                let command = if words[0].len() == 2 { words[1] } else { words[0] };
                *commands.entry(command.to_owned()).or_default() += 1;
            }
        }
        for command in [
            "slow", "drop", "shut", "declare", "xdeclare", "bind", "unbind", "xbind", "xunbind", "publish",
            "get", "consume", "cancel", "ack", "nack", "reject", "recover", "qos", "confirm", "tx", "commit",
            "rollback", "purge", "delete", "xdelete", "close", "flow_off",
        ] {
            assert!(commands.get(command).is_some_and(|count| *count > 4), "{command}: {commands:?}");
        }
    }
}
