//! Frames said to the broker and to a node of RabbitMQ, octet by octet.
//!
//! `BROKER_ORACLE="127.0.0.1:5672 V3_10" cargo test -p actix-pika-broker --test raw`; without it, nothing is compared.

#![allow(missing_docs)]

mod cases;
mod frames;
mod methods;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use actix_pika_broker::{Broker, Line};

use self::{cases::*, frames::*, methods::*};

/// How long an end is awaited: longer than RabbitMQ is silent before it ends a connection without a word.
const PATIENCE: Duration = Duration::from_secs(5);

/// Says it and returns what comes back as lines, and how it ends.
fn answers(address: &str, said: &[Vec<u8>], skip: usize) -> Vec<String> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut read, mut awaited, mut is_open) = (Vec::new(), 0, true);
    for part in said {
        if part.is_empty() {
            awaited += 1;
            is_open = read_until(&mut socket, &mut read, awaited);
        }
        if !is_open || socket.write_all(part).is_err() {
            break;
        }
    }
    is_open = is_open && read_until(&mut socket, &mut read, usize::MAX);
    let mut lines = lines(&read);
    lines.drain(..skip.min(lines.len()));
    lines.push(if is_open { "open" } else { "closed" }.to_owned());
    lines
}

/// Reads until there are so many frames, and returns whether the socket is still open.
fn read_until(socket: &mut TcpStream, read: &mut Vec<u8>, frames: usize) -> bool {
    let started = Instant::now();
    let mut buf = [0; 65_536];
    while lines(read).len() < frames && started.elapsed() < PATIENCE {
        match socket.read(&mut buf) {
            Ok(0) => return false,
            Ok(len) => read.extend_from_slice(&buf[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // As RabbitMQ closes while there is something to read: the client may see either.
            Err(_) => return false,
        }
    }
    true
}

/// The frames that are read in whole: type, channel, payload.
fn lines(read: &[u8]) -> Vec<String> {
    let mut rest = read;
    let mut lines = Vec::new();
    while let [kind, c1, c0, s3, s2, s1, s0, after @ ..] = rest {
        let size = u32::from_be_bytes([*s3, *s2, *s1, *s0]) as usize;
        let Some(payload) = after.get(..size) else { break };
        rest = after.get(size + 1..).unwrap_or_default();
        lines.push(format!("{kind} {} {}", u16::from_be_bytes([*c1, *c0]), payload.escape_ascii()));
    }
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
        .chain(long_bodies())
        .map(|(name, said)| {
            (format!("handshake: {name}"), [vec![GREETING.to_vec(), ANSWER], said].concat(), 1)
        })
        .collect();
    for greeting in [&b"HTTP/1.1"[..], b"AMQP\x01\x01\0\x09", b"AMQP\0\0\x09", b"AMQP\0\x01\0\0"] {
        let skip = usize::from(greeting.ends_with(b"\x01\x01\0\x09"));
        cases.push((format!("greeting: {}", greeting.escape_ascii()), vec![greeting.to_vec()], skip));
    }
    for (name, said) in conversations().into_iter().chain(methods()) {
        let begin = vec![
            GREETING.to_vec(),
            ANSWER,
            start_ok("PLAIN", b"\0guest\0guest", true),
            ANSWER,
            tune_ok(2047, 131_072),
            open("/"),
            ANSWER,
            method(1, OPEN_CHANNEL),
            ANSWER,
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
