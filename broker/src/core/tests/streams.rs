//! Streams in the whole core: broker.md 13.

use super::rig::{Rig, check_all};
use crate::core::Line;

const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];

/// A consumer needs a prefetch and acks; get and purge are not supported.
#[test]
fn what_a_stream_does_not_take() {
    for line in LINES {
        let is_old = line == Line::V3_10;
        let prefetch = if is_old {
            "b1 close 406 PRECONDITION_FAILED - consumer prefetch count is not set for 'queue 'q' in vhost '/'' at 60 20"
        } else {
            "b1 close 406 PRECONDITION_FAILED - consumer prefetch count is not set for stream queue 'q' in vhost '/' at \
             60 20"
        };
        let mut rig = Rig::new(line);
        rig.check(&[
            ("a1 declare q durable x-queue-type=Sstream", &["a1 declared q 0 0"]),
            ("b1 consume q c", &[prefetch]),
        ]);
    }
}

/// Where a consumer starts, and what its deliveries say.
#[test]
fn offsets() {
    check_all(&[
        ("a1 declare q durable x-queue-type=Sstream", &["a1 declared q 0 0"]),
        ("a1 publish - q 0", &[]),
        ("a1 publish - q 1", &[]),
        ("a1 publish - q 2", &[]),
        ("b1 qos 10", &["b1 ok"]),
        (
            "b1 consume q first x-stream-offset=Sfirst",
            &[
                "b1 consuming first",
                "b1 deliver first 1 0 [x-stream-offset:0]",
                "b1 deliver first 2 1 [x-stream-offset:1]",
                "b1 deliver first 3 2 [x-stream-offset:2]",
            ],
        ),
        ("b1 cancel first", &["b1 cancelled first"]),
        (
            "b1 consume q one x-stream-offset=I1",
            &[
                "b1 consuming one",
                "b1 deliver one 4 1 [x-stream-offset:1]",
                "b1 deliver one 5 2 [x-stream-offset:2]",
            ],
        ),
        ("b1 cancel one", &["b1 cancelled one"]),
        ("b1 consume q next", &["b1 consuming next"]),
        ("b1 consume q later x-stream-offset=I4", &["b1 consuming later"]),
        ("a1 publish - q 3", &["b1 deliver next 6 3 [x-stream-offset:3]"]),
        ("b1 cancel next", &["b1 cancelled next"]),
        ("a1 publish - q 4", &["b1 deliver later 7 4 [x-stream-offset:4]"]),
    ]);
}

/// Settling gives credit, whichever way: nothing comes back, and nothing is dead-lettered.
#[test]
fn settling_gives_credit() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.check(&[
            ("a1 declare q durable x-queue-type=Sstream", &["a1 declared q 0 0"]),
            ("b1 qos 1", &["b1 ok"]),
            ("b1 consume q t", &["b1 consuming t"]),
            ("a1 publish - q 0", &["b1 deliver t 1 0 [x-stream-offset:0]"]),
            ("a1 publish - q 1", &[]),
            ("a1 publish - q 2", &[]),
            ("a1 publish - q 3", &[]),
            ("b1 ack 1", &["b1 deliver t 2 1 [x-stream-offset:1]"]),
        ]);
        if line == Line::V3_10 {
            continue;
        }
        rig.check(&[
            ("b1 nack 2 requeue", &["b1 deliver t 3 2 [x-stream-offset:2]"]),
            ("b1 reject 3", &["b1 deliver t 4 3 [x-stream-offset:3]"]),
            ("b1 ack 4", &[]),
        ]);
    }
}

/// Asked of 3.10.8: it does not support what gives credit later.
#[test]
fn rejecting_from_a_stream_closes_the_connection_in_3_10() {
    let text = |method: u16| {
        format!(
            "b0 close 540 NOT_IMPLEMENTED - basic.nack and basic.reject not supported by stream queues queue 'q' in \
             vhost '/' at 60 {method}"
        )
    };
    for (operation, answer) in [
        ("b1 nack 1", text(120)),
        ("b1 nack 1 requeue multiple", text(120)),
        ("b1 reject 1", text(90)),
        ("b1 recover", "b0 close 541 INTERNAL_ERROR at 0 0".to_owned()),
    ] {
        let mut rig = Rig::new(Line::V3_10);
        rig.prepare(&[
            "a1 declare q durable x-queue-type=Sstream",
            "b1 qos 5",
            "b1 consume q t",
            "a1 publish - q m",
        ]);
        rig.check(&[(operation, &[&answer])]);
    }
}

/// Consumers read on their own, and each reads everything.
#[test]
fn every_consumer_reads_everything() {
    let mut rig = Rig::new(Line::V3_10);
    rig.check(&[
        ("a1 declare q durable x-queue-type=Sstream", &["a1 declared q 0 0"]),
        ("b1 qos 5", &["b1 ok"]),
        ("c1 qos 5", &["c1 ok"]),
        ("b1 consume q s", &["b1 consuming s"]),
        ("c1 consume q t exclusive", &["c1 consuming t"]),
        (
            "a1 publish - q m",
            &["b1 deliver s 1 m [x-stream-offset:0]", "c1 deliver t 1 m [x-stream-offset:0]"],
        ),
    ]);
}

/// Asked of 3.10.8: what breaks the server is an internal error, without a method.
#[test]
fn senseless_values_are_internal_errors_in_3_10() {
    for operation in [
        "a1 consume s t x-stream-offset=Sno",
        "a1 consume s t x-stream-offset=ttrue",
        "a1 consume s t x-stream-offset=V",
        "a1 declare p durable x-queue-type=Sstream x-max-age=Sx",
        "a1 declare p x-queue-master-locator=Sno",
    ] {
        let mut rig = Rig::new(Line::V3_10);
        rig.prepare(&["a1 declare s durable x-queue-type=Sstream", "a1 qos 5"]);
        rig.check(&[(operation, &["a0 close 541 INTERNAL_ERROR at 0 0"])]);
    }
}
