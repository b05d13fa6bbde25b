//! Frames said to the broker and to a node of RabbitMQ, octet by octet.
//!
//! `BROKER_ORACLE="127.0.0.1:5672 V3_10" cargo test -p actix-pika-broker --test raw`; without it, nothing is compared.

#![allow(missing_docs)]

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use actix_pika_broker::{Broker, Line};

/// How long an end is awaited: longer than RabbitMQ is silent before it ends a connection without a word.
const PATIENCE: Duration = Duration::from_secs(5);

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame.push(0xCE);
    frame
}

fn method(channel: u16, payload: &[u8]) -> Vec<u8> {
    frame(1, channel, payload)
}

fn start_ok(mechanism: &str, response: &[u8], told: bool) -> Vec<u8> {
    let mut payload = b"\0\x0a\0\x0b".to_vec();
    let mut capabilities = b"\x1cauthentication_failure_closet\x01".to_vec();
    *capabilities.last_mut().unwrap() = told.into();
    let mut table = b"\x0ccapabilitiesF".to_vec();
    table.extend((capabilities.len() as u32).to_be_bytes());
    table.extend(capabilities);
    payload.extend((table.len() as u32).to_be_bytes());
    payload.extend(table);
    payload.push(mechanism.len() as u8);
    payload.extend(mechanism.as_bytes());
    payload.extend((response.len() as u32).to_be_bytes());
    payload.extend(response);
    payload.extend(b"\x05en_US");
    method(0, &payload)
}

fn tune_ok(channels: u16, frames: u32) -> Vec<u8> {
    let mut payload = b"\0\x0a\0\x1f".to_vec();
    payload.extend(channels.to_be_bytes());
    payload.extend(frames.to_be_bytes());
    payload.extend([0, 0]);
    method(0, &payload)
}

fn open(vhost: &str) -> Vec<u8> {
    let mut payload = b"\0\x0a\0\x28".to_vec();
    payload.push(vhost.len() as u8);
    payload.extend(vhost.as_bytes());
    payload.extend([0, 0]);
    method(0, &payload)
}

const GREETING: &[u8] = b"AMQP\0\0\x09\x01";
const OPEN_CHANNEL: &[u8] = b"\0\x14\0\x0a\0";
const CLOSE_CHANNEL: &[u8] = b"\0\x14\0\x28\0\xc8\x02ok\0\0\0\0";
const CLOSE_OK_CHANNEL: &[u8] = b"\0\x14\0\x29";
const CLOSE: &[u8] = b"\0\x0a\0\x32\0\xc8\x02ok\0\0\0\0";
const PUBLISH: &[u8] = b"\0\x3c\0\x28\0\0\0\x06nobody\0";
/// A passive declare of a queue that is not there.
const NO_QUEUE: &[u8] = b"\0\x32\0\x0a\0\0\x13there.is.no.queue..\x01\0\0\0\0";

fn header(class: u16, weight: u16, size: u64) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(weight.to_be_bytes());
    payload.extend(size.to_be_bytes());
    payload.extend([0, 0]);
    payload
}

fn channels_of(range: std::ops::RangeInclusive<u16>, payload: &[u8]) -> Vec<u8> {
    range.flat_map(|channel| method(channel, payload)).collect()
}

/// What is said after the protocol header.
fn handshakes() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let good = || start_ok("PLAIN", b"\0guest\0guest", true);
    vec![
        ("wrong password, told", vec![start_ok("PLAIN", b"\0guest\0no", true)]),
        ("wrong password", vec![start_ok("PLAIN", b"\0guest\0no", false)]),
        ("no such mechanism", vec![start_ok("DIGEST", b"x", true)]),
        ("response without zeros", vec![start_ok("PLAIN", b"guest", true)]),
        ("empty response", vec![start_ok("PLAIN", b"", true)]),
        ("amqplain of nothing", vec![start_ok("AMQPLAIN", b"", true)]),
        ("amqplain that is no table", vec![start_ok("AMQPLAIN", b"\x05LOGINS\0\0", true)]),
        ("tune-ok first", vec![tune_ok(2047, 131_072)]),
        ("no method", vec![frame(2, 0, &header(60, 0, 1))]),
        ("a frame of another channel", vec![frame(1, 1, OPEN_CHANNEL)]),
        ("a heartbeat first", vec![frame(8, 0, b""), good()]),
        ("a frame too long", vec![b"\x01\0\0\0\0\x20\x00".to_vec()]),
        ("no end of a frame", vec![b"\x01\0\0\0\0\0\x01\0\0".to_vec()]),
        ("channel_max 0", vec![good(), tune_ok(0, 131_072)]),
        ("channel_max 2048", vec![good(), tune_ok(2048, 131_072)]),
        ("frame_max 0", vec![good(), tune_ok(2047, 0)]),
        ("frame_max 4095", vec![good(), tune_ok(2047, 4095)]),
        ("frame_max 131073", vec![good(), tune_ok(2047, 131_073)]),
        ("open instead of tune-ok", vec![good(), open("/")]),
        ("no such vhost", vec![good(), tune_ok(2047, 131_072), open("/no/such")]),
        ("close instead of open", vec![good(), tune_ok(2047, 131_072), method(0, CLOSE)]),
        ("a channel instead of open", vec![good(), tune_ok(2047, 131_072), method(1, OPEN_CHANNEL)]),
        ("open twice", vec![good(), tune_ok(2047, 131_072), open("/"), open("/")]),
        (
            "too many channels",
            vec![
                good(),
                tune_ok(3, 131_072),
                open("/"),
                channels_of(1..=3, OPEN_CHANNEL),
                method(4, OPEN_CHANNEL),
            ],
        ),
        ("too many contents", vec![good(), tune_ok(3, 131_072), open("/"), channels_of(1..=4, PUBLISH)]),
    ]
}

/// What is said on an open connection with channel 1 open.
fn conversations() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let publish = || method(1, PUBLISH);
    vec![
        ("unknown class", vec![method(1, b"\0\x63\0\x0a")]),
        ("unknown method", vec![method(1, b"\0\x3c\0\xd2")]),
        ("credit without arguments", vec![method(1, b"\0\x3c\0\xc8")]),
        ("unknown method of channel 0", vec![method(0, b"\0\x0a\0\xc8")]),
        ("a method of the server's", vec![method(1, b"\0\x32\0\x0b\x01q\0\0\0\0\0\0\0\0")]),
        ("get-empty of the client", vec![method(1, b"\0\x3c\0\x48\0")]),
        ("deliver of the client", vec![method(1, b"\0\x3c\0\x3c\x01c\0\0\0\0\0\0\0\x01\0\0\0")]),
        ("arguments cut off", vec![method(1, b"\0\x32\0\x0a\0\0\x05a")]),
        ("arguments too long", vec![method(1, b"\0\x3c\0\x0a\0\0\0\0\0\x05\0zzz")]),
        ("three octets of a method", vec![method(1, b"\0\x32\0")]),
        ("no channel", vec![method(2, NO_QUEUE)]),
        ("close of no channel", vec![method(2, CLOSE_CHANNEL)]),
        ("close-ok of no channel", vec![method(2, CLOSE_OK_CHANNEL)]),
        ("header of no channel", vec![frame(2, 2, &header(60, 0, 1))]),
        ("body of no channel", vec![frame(3, 2, b"x")]),
        ("publish on no channel", vec![method(2, PUBLISH), frame(2, 2, &header(60, 0, 0))]),
        ("open twice", vec![method(1, OPEN_CHANNEL)]),
        ("open while closing", vec![method(1, NO_QUEUE), method(1, OPEN_CHANNEL)]),
        ("open anew", vec![method(1, NO_QUEUE), method(1, CLOSE_OK_CHANNEL), method(1, OPEN_CHANNEL)]),
        (
            "crossing closes",
            vec![
                method(1, NO_QUEUE),
                method(1, CLOSE_CHANNEL),
                method(1, CLOSE_OK_CHANNEL),
                method(1, OPEN_CHANNEL),
            ],
        ),
        ("close-ok of an open channel", vec![method(1, CLOSE_OK_CHANNEL), method(1, OPEN_CHANNEL)]),
        ("unknown method while closing", vec![method(1, NO_QUEUE), method(1, b"\0\x3c\0\xc8")]),
        (
            "publish while closing",
            vec![
                method(1, NO_QUEUE),
                publish(),
                frame(2, 1, &header(60, 0, 1)),
                frame(3, 1, b"x"),
                method(1, CLOSE_OK_CHANNEL),
                method(1, OPEN_CHANNEL),
            ],
        ),
        ("a method on channel 0", vec![method(0, NO_QUEUE)]),
        ("start-ok while running", vec![start_ok("PLAIN", b"\0guest\0guest", true)]),
        ("header of channel 0", vec![frame(2, 0, &header(60, 0, 1))]),
        ("body of channel 0", vec![frame(3, 0, b"x")]),
        ("heartbeat of channel 1", vec![frame(8, 1, b"")]),
        ("heartbeat with octets", vec![frame(8, 0, b"x")]),
        ("frame of type 4", vec![frame(4, 1, b"")]),
        ("frame of type 4 on channel 0", vec![frame(4, 0, b"abc")]),
        ("frame of type 0", vec![frame(0, 1, b"abcdefghijklmnopqrstuvw")]),
        ("frame too long", vec![b"\x01\0\x01\0\x02\0\x01".to_vec()]),
        ("wrong end", vec![b"\x01\0\x01\0\0\0\x02\0\x32\0".to_vec()]),
        ("body without header", vec![publish(), frame(3, 1, b"x")]),
        ("method instead of header", vec![publish(), method(1, NO_QUEUE)]),
        ("header of another class", vec![publish(), frame(2, 1, &header(50, 0, 1))]),
        ("header with weight", vec![publish(), frame(2, 1, &header(60, 1, 1))]),
        ("short header", vec![publish(), frame(2, 1, b"\0\x3c\0\0")]),
        ("header without flags", vec![publish(), frame(2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\0")]),
        (
            "header with broken properties",
            vec![publish(), frame(2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\0\x80\0\x09x")],
        ),
        ("two headers", vec![publish(), frame(2, 1, &header(60, 0, 1)), frame(2, 1, &header(60, 0, 1))]),
        ("method instead of body", vec![publish(), frame(2, 1, &header(60, 0, 1)), method(1, NO_QUEUE)]),
        ("body too long", vec![publish(), frame(2, 1, &header(60, 0, 1)), frame(3, 1, b"xy")]),
        (
            "body too long, then a method",
            vec![publish(), frame(2, 1, &header(60, 0, 1)), frame(3, 1, b"xy"), method(1, NO_QUEUE)],
        ),
        (
            "empty body frame",
            vec![
                publish(),
                frame(2, 1, &header(60, 0, 1)),
                frame(3, 1, b""),
                frame(3, 1, b"x"),
                method(1, NO_QUEUE),
            ],
        ),
        ("close within a content", vec![publish(), method(1, CLOSE_CHANNEL)]),
        ("close of the connection within a content", vec![publish(), method(0, CLOSE)]),
        ("a channel above the limit", vec![method(5000, OPEN_CHANNEL)]),
        ("two errors", vec![method(2, NO_QUEUE), method(3, b"\0\x63\0\x0a"), frame(4, 1, b"")]),
        ("close twice", vec![method(0, CLOSE), method(1, NO_QUEUE), frame(4, 1, b""), method(0, CLOSE)]),
        ("close, then close-ok", vec![method(0, CLOSE), method(0, b"\0\x0a\0\x33")]),
        ("crossing close", vec![method(2, NO_QUEUE), method(0, CLOSE)]),
        ("flow off", vec![method(1, b"\0\x14\0\x14\0")]),
        ("qos with a size", vec![method(1, b"\0\x3c\0\x0a\0\0\0\x05\0\x05\0")]),
        (
            "publish immediate",
            vec![method(1, b"\0\x3c\0\x28\0\0\0\x01x\x02"), frame(2, 1, &header(60, 0, 0))],
        ),
        ("a name that is not UTF-8", vec![method(1, b"\0\x32\0\x0a\0\0\x01\xff\0\0\0\0\0")]),
        (
            "a routing key that is not UTF-8",
            vec![
                method(1, b"\0\x3c\0\x28\0\0\0\x02a\xff\x01"),
                frame(2, 1, &header(60, 0, 1)),
                frame(3, 1, b"x"),
            ],
        ),
        ("the reply of credit", vec![method(1, b"\0\x3c\0\xc9\0\0\0\x01")]),
        ("update-secret", vec![method(0, b"\0\x0a\0\x46\0\0\0\x01x\x01y")]),
        ("blocked of the client", vec![method(0, b"\0\x0a\0\x3c\x01x")]),
        ("close-ok of the connection", vec![method(0, b"\0\x0a\0\x33")]),
    ]
}

/// Says it and returns what comes back as lines, and how it ends.
fn answers(address: &str, said: &[Vec<u8>], skip: usize) -> Vec<String> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut read = Vec::new();
    let mut lines = Vec::new();
    for part in said {
        if socket.write_all(part).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(60));
    }
    let started = Instant::now();
    let mut end = "open";
    let mut buf = [0; 65_536];
    while started.elapsed() < PATIENCE {
        match socket.read(&mut buf) {
            Ok(0) => {
                end = "closed";
                break;
            }
            Ok(len) => read.extend_from_slice(&buf[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // As RabbitMQ closes while there is something to read: the client may see either.
            Err(_) => {
                end = "closed";
                break;
            }
        }
    }
    let mut rest = &read[..];
    while let [kind, c1, c0, s3, s2, s1, s0, after @ ..] = rest {
        let size = u32::from_be_bytes([*s3, *s2, *s1, *s0]) as usize;
        let Some(payload) = after.get(..size) else { break };
        rest = after.get(size + 1..).unwrap_or_default();
        lines.push(format!("{kind} {} {}", u16::from_be_bytes([*c1, *c0]), payload.escape_ascii()));
    }
    lines.drain(..skip.min(lines.len()));
    lines.push(end.to_owned());
    lines
}

#[test]
fn the_answers_are_those_of_a_node() {
    let Ok(node) = std::env::var("BROKER_ORACLE") else { return };
    let (node, line) = node.split_once(' ').unwrap();
    let known = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];
    let line = known.into_iter().find(|known| format!("{known:?}") == line).unwrap();
    let broker = Broker::builder().line(line).start().unwrap();
    let own = format!("127.0.0.1:{}", broker.port());
    // connection.start is not compared.
    let mut cases: Vec<_> = handshakes()
        .into_iter()
        .map(|(name, said)| (format!("handshake: {name}"), [vec![GREETING.to_vec()], said].concat(), 1))
        .collect();
    for greeting in [&b"HTTP/1.1"[..], b"AMQP\x01\x01\0\x09", b"AMQP\0\0\x09", b"AMQP\0\x01\0\0"] {
        let skip = usize::from(greeting.ends_with(b"\x01\x01\0\x09"));
        cases.push((format!("greeting: {}", greeting.escape_ascii()), vec![greeting.to_vec()], skip));
    }
    for (name, said) in conversations() {
        let begin = vec![
            GREETING.to_vec(),
            start_ok("PLAIN", b"\0guest\0guest", true),
            tune_ok(2047, 131_072),
            open("/"),
            method(1, OPEN_CHANNEL),
        ];
        cases.push((name.to_owned(), [begin, said].concat(), 4));
    }
    let mut differences = Vec::new();
    thread::scope(|scope| {
        let asked: Vec<_> = cases
            .iter()
            .map(|(name, said, skip)| {
                let right = scope.spawn(move || answers(node, said, *skip));
                let own = &own;
                let found = scope.spawn(move || answers(own, said, *skip));
                (name, right, found)
            })
            .collect();
        for (name, right, found) in asked {
            let (right, found) = (right.join().unwrap(), found.join().unwrap());
            if right != found {
                let show = |lines: &[String]| lines.iter().rev().take(6).rev().cloned().collect::<Vec<_>>();
                differences.push(format!("{name}\n  node: {:?}\n  own:  {:?}", show(&right), show(&found)));
            }
        }
    });
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), cases.len(), differences.join("\n"));
}
