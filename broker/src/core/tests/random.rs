//! Random operations: nothing panics, and counts agree after each.

use std::collections::BTreeMap;

use super::rig::Rig;
use crate::core::{CoreConfig, Line};

/// Arguments of queues.
const ARGUMENTS: &[&str] = &[
    "",
    "",
    " x-max-length=I2",
    " x-max-length=I1 x-overflow=Sreject-publish",
    " x-message-ttl=I50 x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
    " x-dead-letter-exchange=Samq.fanout x-max-length=I1",
    " x-expires=I100",
    " x-single-active-consumer=ttrue",
    " x-max-priority=I3",
    " x-max-priority=I3 x-max-length=I2 x-dead-letter-exchange=Samq.headers",
    " x-max-length=I1 x-overflow=Sreject-publish-dlx x-dead-letter-exchange=S x-dead-letter-routing-key=Sq",
    " x-dead-letter-exchange=S x-dead-letter-routing-key=Sr",
    " x-dead-letter-exchange=Sx",
    " auto_delete",
    " exclusive",
    " durable x-queue-type=Squorum",
    " durable x-queue-type=Squorum x-delivery-limit=I2 x-dead-letter-exchange=Sx",
    " durable x-queue-type=Squorum x-single-active-consumer=ttrue",
    " durable x-queue-type=Sstream",
];

/// Headers that bindings ask for.
const HEADERS: &[&str] = &["a=I1", "a=l1 b=Sx", "b=V", "x-c=I1"];

/// What a sequence has brought about so far: tags that are outstanding, by channel.
#[derive(Default)]
struct Outstanding(BTreeMap<String, Vec<u64>>);

impl Outstanding {
    fn note(&mut self, answer: &str) {
        let words: Vec<&str> = answer.split(' ').collect();
        let tag = match words[..] {
            [_, "deliver", _, tag, ..] | [_, "got", tag, ..] => tag.parse().unwrap(),
            [at, "close" | "closed", ..] => {
                self.0.remove(at);
                return;
            }
            _ => return,
        };
        self.0.entry(words[0].to_owned()).or_default().push(tag);
    }

    /// Takes a tag, mostly one that is right.
    fn take(&mut self, at: &str, random: &mut fastrand::Rng) -> u64 {
        match self.0.get_mut(at) {
            Some(tags) if !tags.is_empty() && random.u8(..20) > 0 => tags.remove(random.usize(..tags.len())),
            _ if random.u8(..20) > 0 => 0,
            _ => random.u64(..8),
        }
    }
}

/// Draws an operation. Few names, so that operations meet.
fn operation(random: &mut fastrand::Rng, outstanding: &mut Outstanding) -> String {
    let at = format!("{}{}", random.choice(['a', 'b']).unwrap(), random.u16(1..=2));
    let queue = *random.choice(&["q", "p", "r"]).unwrap();
    let exchange = *random.choice(&["-", "-", "amq.fanout", "amq.topic", "x", "y"]).unwrap();
    let tag = *random.choice(&["c", "d", "e"]).unwrap();
    let multiple = if random.bool() { " multiple" } else { "" };
    let requeue = if random.bool() { " requeue" } else { "" };
    match random.u32(..100) {
        0..=1 => format!("{at} declare {queue}{}", random.choice(ARGUMENTS).unwrap()),
        2..=9 => format!("{at} declare {queue} passive"),
        10..=11 => format!("{at} bind {queue} {exchange} {}", random.choice(["#", "*", "q"]).unwrap()),
        12..=13 => {
            let kind = random.choice(["any", "all", "all-with-x"]).unwrap();
            format!("{at} bind {queue} amq.headers - x-match=S{kind} {}", random.choice(HEADERS).unwrap())
        }
        14..=15 => format!("{at} unbind {queue} {exchange} #"),
        16..=17 => format!(
            "{at} xdeclare {} topic auto_delete alternate-exchange=Sy",
            random.choice(["x", "y"]).unwrap()
        ),
        18 => {
            let (from, to) = random.choice([("x", "y"), ("y", "x"), ("amq.fanout", "x")]).unwrap();
            format!("{at} xbind {to} {from} #")
        }
        19 => format!("{at} xdelete {exchange}"),
        20..=44 => {
            let option = *random
                .choice(&[
                    "",
                    "",
                    "",
                    " mandatory",
                    " p.expiration=20",
                    " p.priority=9",
                    " CC=ASp,Sr",
                    " CC=ASp BCC=ASr",
                    " p.mode=2",
                    " a=I1 mandatory",
                    " a=I1 b=Sx",
                ])
                .unwrap();
            let exchange = if option.contains("a=") { "amq.headers" } else { exchange };
            format!("{at} publish {exchange} {queue} {}{option}", random.u8(..))
        }
        45..=52 => format!("{at} get {queue}{}", if random.bool() { " no_ack" } else { "" }),
        53..=60 => {
            let option = *random
                .choice(&["", "", " no_ack", " exclusive", " x-priority=I5", " x-stream-offset=Sfirst"])
                .unwrap();
            format!("{at} consume {queue} {tag}{option}")
        }
        61..=63 => format!("{at} cancel {tag}"),
        64..=81 => {
            let tag = outstanding.take(&at, random);
            let multiple = if tag == 0 { " multiple" } else { multiple };
            match random.u8(..4) {
                0 | 1 => format!("{at} ack {tag}{multiple}"),
                2 => format!("{at} nack {tag}{multiple}{requeue}"),
                _ if tag == 0 => format!("{at} recover"),
                _ => format!("{at} reject {tag}{requeue}"),
            }
        }
        82..=83 => format!("{at} recover"),
        84..=86 => {
            format!("{at} qos {}{}", random.u16(0..3), if random.u8(..4) == 0 { " global" } else { "" })
        }
        87 => format!("{at} confirm"),
        88 => "a2 tx".to_owned(),
        89..=90 => format!("a2 {}", random.choice(["commit", "rollback"]).unwrap()),
        91 => format!("{at} purge {queue}"),
        92 if random.bool() => format!("{at} delete {queue}"),
        93 => format!("{at} close"),
        95 => format!("drop {}", random.choice(['a', 'b']).unwrap()),
        _ => format!("advance {}", random.u64(1..60)),
    }
}

/// Draws the declarations with which a sequence begins.
fn first_operations(random: &mut fastrand::Rng) -> Vec<String> {
    let declare = |queue| format!("a1 declare {queue}{}", random.choice(ARGUMENTS).unwrap());
    let mut operations: Vec<String> = ["q", "p", "r"].into_iter().map(declare).collect();
    for exchange in ["x", "y"] {
        if random.bool() {
            operations.push(format!("a1 xdeclare {exchange} topic alternate-exchange=Sy"));
        }
    }
    if random.bool() {
        operations.push("a2 tx".to_owned());
    }
    operations
}

/// Says operations of a seed. A channel that is closed is acknowledged, a connection opened again.
fn run(line: Line, seed: u64, operations: usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let timeout = Some(500);
    let mut rig = Rig::with(CoreConfig {
        line,
        seed,
        publish_log: 10,
        consumer_timeout: timeout,
        ..CoreConfig::default()
    });
    let mut said = Vec::new();
    let mut outstanding = Outstanding::default();
    let mut first = first_operations(&mut random).into_iter();
    for _ in 0..operations {
        said.push(first.next().unwrap_or_else(|| operation(&mut random, &mut outstanding)));
        let answers = rig.say_last(&said);
        for answer in &answers {
            outstanding.note(answer);
        }
        for answer in answers {
            let Some((at, rest)) = answer.split_once(' ') else { continue };
            if rest.starts_with("close ") {
                let next =
                    if at.ends_with('0') { format!("drop {}", &at[..1]) } else { format!("{at} close_ok") };
                said.push(next);
                rig.say_last(&said);
            }
        }
    }
}

#[test]
fn random_operations_leave_counts_right() {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3] {
        for seed in 0..20 {
            run(line, seed, 120);
        }
    }
}
