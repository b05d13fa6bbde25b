//! Methods that are rarely said, or said without waiting for an answer, and bodies of many frames.

use crate::frames::*;

/// No ticket.
const TICKET: &[u8] = &[0, 0];
const NO_TABLE: &[u8] = &[0; 4];
const NO_WAIT: u8 = 1;

fn declare(queue: &str, flags: u8) -> Vec<u8> {
    call(50, 10, &[TICKET, &text(queue), &[flags], NO_TABLE])
}

fn bind(queue: &str, exchange: &str, key: &str, flags: u8) -> Vec<u8> {
    call(50, 20, &[TICKET, &text(queue), &text(exchange), &text(key), &[flags], NO_TABLE])
}

fn purge(queue: &str, flags: u8) -> Vec<u8> {
    call(50, 30, &[TICKET, &text(queue), &[flags]])
}

fn delete(queue: &str, flags: u8) -> Vec<u8> {
    call(50, 40, &[TICKET, &text(queue), &[flags]])
}

fn declare_exchange(exchange: &str, kind: &str, flags: u8) -> Vec<u8> {
    call(40, 10, &[TICKET, &text(exchange), &text(kind), &[flags], NO_TABLE])
}

fn delete_exchange(exchange: &str, flags: u8) -> Vec<u8> {
    call(40, 20, &[TICKET, &text(exchange), &[flags]])
}

/// `exchange.bind` is method 30, `exchange.unbind` 40.
fn between(id: u16, to: &str, from: &str, flags: u8) -> Vec<u8> {
    call(40, id, &[TICKET, &text(to), &text(from), &text("key"), &[flags], NO_TABLE])
}

fn consume(queue: &str, tag: &str, flags: u8) -> Vec<u8> {
    call(60, 20, &[TICKET, &text(queue), &text(tag), &[flags], NO_TABLE])
}

fn get(queue: &str) -> Vec<u8> {
    call(60, 70, &[TICKET, &text(queue), &[0]])
}

/// Selects confirms, without waiting, and publishes. When the answer is there, queues count the message.
fn confirmed(exchange: &str, key: &str, body: &[u8], frame_size: usize) -> Vec<u8> {
    [call(85, 10, &[&[NO_WAIT]]), content(exchange, key, body, frame_size)].concat()
}

/// A content of one frame.
fn publish(exchange: &str, key: &str, body: &[u8]) -> Vec<u8> {
    content(exchange, key, body, body.len().max(1))
}

fn content(exchange: &str, key: &str, body: &[u8], frame_size: usize) -> Vec<u8> {
    let mut said = call(60, 40, &[TICKET, &text(exchange), &text(key), &[0]]);
    said.extend(frame(2, 1, &header(60, 0, body.len() as u64)));
    for part in body.chunks(frame_size) {
        said.extend(frame(3, 1, part));
    }
    said
}

/// What is said on an open connection with channel 1 open.
pub(crate) fn methods() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    const EXCLUSIVE: u8 = 4;
    // A passive declaration counts the messages; its answer comes last.
    let count = |queue| declare(queue, 1);
    vec![
        ("queue.declare without waiting", vec![declare("raw.a", EXCLUSIVE | 16), count("raw.a")]),
        ("passive queue.declare without waiting", vec![declare("raw.none", 1 | 16)]),
        (
            "queue.declare of another kind without waiting",
            vec![declare("raw.b", EXCLUSIVE), ANSWER, declare("raw.b", EXCLUSIVE | 8 | 16)],
        ),
        (
            "queue.declare of a name of the server's without waiting",
            vec![declare("", EXCLUSIVE | 16), declare("", 1)],
        ),
        ("queue.declare of a reserved name without waiting", vec![declare("amq.mine", EXCLUSIVE | 16)]),
        (
            "queue.bind without waiting",
            vec![
                declare("raw.c", EXCLUSIVE),
                ANSWER,
                bind("raw.c", "amq.direct", "raw.c", NO_WAIT),
                confirmed("amq.direct", "raw.c", b"x", 1),
                ANSWER,
                count("raw.c"),
            ],
        ),
        ("queue.bind of no queue without waiting", vec![bind("raw.none", "amq.direct", "k", NO_WAIT)]),
        (
            "queue.bind of no exchange without waiting",
            vec![declare("raw.d", EXCLUSIVE), ANSWER, bind("raw.d", "raw.none", "k", NO_WAIT)],
        ),
        (
            "queue.purge without waiting",
            vec![
                declare("raw.e", EXCLUSIVE),
                ANSWER,
                confirmed("", "raw.e", b"x", 1),
                ANSWER,
                purge("raw.e", NO_WAIT),
                count("raw.e"),
            ],
        ),
        ("queue.purge of no queue without waiting", vec![purge("raw.none", NO_WAIT)]),
        (
            "queue.delete without waiting",
            vec![declare("raw.f", EXCLUSIVE), ANSWER, delete("raw.f", 4), count("raw.f")],
        ),
        ("queue.delete of no queue without waiting", vec![delete("raw.none", 4), call(20, 20, &[&[1]])]),
        (
            "queue.delete if empty without waiting",
            vec![
                declare("raw.g", EXCLUSIVE),
                ANSWER,
                confirmed("", "raw.g", b"x", 1),
                ANSWER,
                delete("raw.g", 2 | 4),
            ],
        ),
        (
            "exchange methods without waiting",
            vec![
                declare_exchange("raw.x", "direct", 16),
                declare_exchange("raw.y", "direct", 16),
                between(30, "raw.x", "raw.y", NO_WAIT),
                between(40, "raw.x", "raw.y", NO_WAIT),
                delete_exchange("raw.x", 2),
                delete_exchange("raw.y", 2),
                declare_exchange("raw.x", "direct", 1),
            ],
        ),
        (
            "exchange.declare of an unknown type without waiting",
            vec![declare_exchange("raw.z", "nosuchtype", 16)],
        ),
        (
            "exchange.declare of another type without waiting",
            vec![declare_exchange("amq.direct", "topic", 2 | 16)],
        ),
        (
            "exchange.bind of no exchange without waiting",
            vec![between(30, "raw.none", "amq.direct", NO_WAIT)],
        ),
        (
            "exchange.unbind of no exchange without waiting",
            vec![between(40, "raw.none", "amq.direct", NO_WAIT), call(20, 20, &[&[1]])],
        ),
        (
            "exchange.delete of no exchange without waiting",
            vec![delete_exchange("raw.none", 2), call(20, 20, &[&[1]])],
        ),
        ("exchange.delete of a reserved one without waiting", vec![delete_exchange("amq.direct", 2)]),
        (
            "basic.consume and basic.cancel without waiting",
            vec![
                declare("raw.h", EXCLUSIVE),
                ANSWER,
                confirmed("", "raw.h", b"x", 1),
                ANSWER,
                consume("raw.h", "tag", 2 | 8),
                ANSWER,
                ANSWER,
                ANSWER,
                call(60, 30, &[&text("tag"), &[NO_WAIT]]),
                confirmed("", "raw.h", b"y", 1),
                ANSWER,
                count("raw.h"),
            ],
        ),
        ("basic.consume of no queue without waiting", vec![consume("raw.none", "tag", 8)]),
        (
            "basic.consume twice without waiting",
            vec![declare("raw.i", EXCLUSIVE), ANSWER, consume("raw.i", "tag", 8), consume("raw.i", "tag", 8)],
        ),
        (
            "basic.consume without a tag and without waiting",
            vec![declare("raw.j", EXCLUSIVE), ANSWER, consume("raw.j", "", 8), count("raw.j")],
        ),
        (
            "basic.cancel of no consumer without waiting",
            vec![call(60, 30, &[&text("none"), &[NO_WAIT]]), call(20, 20, &[&[1]])],
        ),
        (
            "confirm.select without waiting",
            vec![
                call(85, 10, &[&[NO_WAIT]]),
                publish("", "raw.none", b"x"),
                ANSWER,
                publish("", "raw.none", b"x"),
            ],
        ),
        (
            "confirm.select without waiting in a transaction",
            vec![call(90, 10, &[]), ANSWER, call(85, 10, &[&[NO_WAIT]])],
        ),
        (
            "basic.recover-async",
            vec![
                declare("raw.k", EXCLUSIVE),
                ANSWER,
                confirmed("", "raw.k", b"x", 1),
                ANSWER,
                get("raw.k"),
                ANSWER,
                ANSWER,
                ANSWER,
                call(60, 100, &[&[1]]),
                get("raw.k"),
            ],
        ),
        ("basic.recover-async without requeue", vec![call(60, 100, &[&[0]])]),
        (
            "access.request",
            vec![call(30, 10, &[&text("/data"), &[0b1_1111]]), call(30, 10, &[&text(""), &[0]])],
        ),
        ("flow on", vec![call(20, 20, &[&[1]])]),
        ("flow-ok of the client", vec![call(20, 21, &[&[1]])]),
        (
            "much after an error of the channel",
            vec![
                method(1, NO_QUEUE),
                declare("raw.l", 16),
                publish("", "raw.l", b"x"),
                call(85, 10, &[&[NO_WAIT]]),
                consume("raw.none", "tag", 8),
                call(60, 80, &[&[0; 7], &[9, 0]]),
                ANSWER,
                method(1, CLOSE_OK_CHANNEL),
                method(1, OPEN_CHANNEL),
                ANSWER,
                count("raw.l"),
            ],
        ),
        (
            "half a content after an error of the channel",
            vec![method(1, NO_QUEUE), publish("", "raw.l", b"x")[..30].to_vec(), ANSWER],
        ),
    ]
}

/// What is said after the protocol header: locales, mechanisms, and bodies in small frames.
pub(crate) fn long_bodies() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let login = b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x05guest";
    let plain = b"\0guest\0guest";
    let opened = |start_ok: Vec<u8>| vec![start_ok, ANSWER, tune_ok(2047, 131_072), open("/"), ANSWER];
    let there_and_back = |queue: &str, frame_max: u32, frame_size: usize, size: usize| {
        let body: Vec<u8> = (0..size).map(|at| b'a' + (at % 23) as u8).collect();
        vec![
            start_ok("PLAIN", plain, true),
            ANSWER,
            tune_ok(2047, frame_max),
            open("/"),
            ANSWER,
            method(1, OPEN_CHANNEL),
            ANSWER,
            declare(queue, 4),
            ANSWER,
            confirmed("", queue, &body, frame_size),
            ANSWER,
            get(queue),
        ]
    };
    vec![
        ("another locale", opened(start_ok_in("fr_FR", "PLAIN", plain, true))),
        ("no locale", opened(start_ok_in("", "PLAIN", plain, true))),
        ("amqplain", opened(start_ok("AMQPLAIN", login, true))),
        ("amqplain without a password", opened(start_ok("AMQPLAIN", &login[..16], true))),
        ("amqplain with another type", opened(start_ok("AMQPLAIN", b"\x05LOGINI\0\0\0\x05", true))),
        ("the name of a mechanism in small letters", opened(start_ok("plain", plain, true))),
        ("frames of 4096", there_and_back("raw.4096", 4096, 4088, 20_000)),
        ("frames of 8192", there_and_back("raw.8192", 8192, 8184, 8184 * 3)),
        ("smaller frames than there may be", there_and_back("raw.small", 8192, 100, 8185)),
        ("a frame of one octet more", there_and_back("raw.more", 8192, 8185, 8185)),
        ("no limit of frames", there_and_back("raw.none", 0, 131_064, 200_000)),
        ("no body", there_and_back("raw.empty", 8192, 1, 0)),
    ]
}
