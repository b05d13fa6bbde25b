//! What random sequences have shown: see `broker/tests/differential`.

use super::rig::{Rig, check_all};
use crate::core::Line;

/// Checks a script with lines, of which each has its own answers.
fn check(lines: &[Line], script: &[(&str, &[&str])]) {
    for line in lines {
        Rig::new(*line).check(script);
    }
}

#[test]
fn headers_with_bcc_only_stay_as_an_empty_table() {
    check_all(&[("a1 publish - nowhere m BCC=ASnowhere mandatory", &["a1 return 312 m []"])]);
}

#[test]
fn an_empty_exchange_type_is_invalid() {
    check(
        &[Line::V3_10],
        &[("a1 xdeclare x -", &["a0 close 503 COMMAND_INVALID - invalid exchange type '' at 40 10"])],
    );
    check(
        &[Line::V4_0, Line::V4_3],
        &[("a1 xdeclare x -", &["a1 close 406 PRECONDITION_FAILED - invalid exchange type '' at 40 10"])],
    );
}

/// A consumer that waits does not help.
#[test]
fn a_message_above_the_limit_in_bytes_is_refused() {
    check_all(&[
        ("a1 declare q x-max-length-bytes=I4 x-overflow=Sreject-publish", &["a1 declared q 0 0"]),
        ("a1 consume q c", &["a1 consuming c"]),
        ("a1 confirm", &["a1 ok"]),
        ("a1 publish - q 12345", &["a1 nack 1 multiple"]),
        ("a1 publish - q 1234", &["a1 deliver c 1 1234", "a1 ack 2"]),
    ]);
}

#[test]
fn the_shared_limit_does_not_hold_for_quorum_queues() {
    check(
        &[Line::V3_10, Line::V4_0],
        &[
            ("a1 declare q durable x-queue-type=Squorum", &["a1 declared q 0 0"]),
            ("a1 consume q c", &["a1 consuming c"]),
            ("a1 qos 1 global", &["a1 ok"]),
            ("a1 publish - q m1", &["a1 deliver c 1 m1"]),
            ("a1 publish - q m2", &["a1 deliver c 2 m2"]),
        ],
    );
}

#[test]
fn what_consumers_of_a_channel_hold_comes_back_before_what_was_got() {
    let script = |first: &'static str| -> Vec<(&'static str, Vec<&'static str>)> {
        vec![
            ("a1 declare q durable x-queue-type=Squorum", vec!["a1 declared q 0 0"]),
            ("a1 confirm", vec!["a1 ok"]),
            ("a1 publish - q m1", vec!["a1 ack 1"]),
            ("a1 get q", vec!["a1 got 1 m1, 0 left"]),
            ("a1 consume q c", vec!["a1 consuming c"]),
            ("a1 publish - q m2", vec!["a1 deliver c 2 m2", "a1 ack 2"]),
            ("a1 close", vec!["a1 closed"]),
            ("b1 get q", vec![first]),
        ]
    };
    for (line, first) in [
        (Line::V4_0, "b1 got 1 m2 [x-delivery-count:1] again, 1 left"),
        (Line::V4_3, "b1 got 1 m2 [x-acquired-count:1 x-delivery-count:1] again, 1 left"),
    ] {
        let script = script(first);
        let script: Vec<(&str, &[&str])> =
            script.iter().map(|(operation, answers)| (*operation, &answers[..])).collect();
        Rig::new(line).check(&script);
    }
}

#[test]
fn the_credit_of_a_consumer_is_a_table_in_3_10() {
    let declare = ("a1 declare q", &["a1 declared q 0 0"][..]);
    let failed = &["a0 close 541 INTERNAL_ERROR at 0 0"][..];
    check(&[Line::V3_10], &[declare, ("a1 consume q c x-credit=I1", failed)]);
    let consumed = ("a1 consume q c x-credit=I1", &["a1 consuming c"][..]);
    check(&[Line::V4_0, Line::V4_3], &[declare, consumed]);
}

#[test]
fn arguments_without_a_meaning_are_not_looked_at() {
    let declared = &["a1 declared q 0 0"][..];
    check(
        &[Line::V4_0, Line::V4_3],
        &[("a1 declare q durable x-queue-type=Squorum x-delivery-limit=Sa", declared)],
    );
    check(&[Line::V4_0, Line::V4_3], &[("a1 declare q x-queue-leader-locator=Sclient-local", declared)]);
    check(&[Line::V4_3], &[("a1 declare q x-queue-mode=Sno", declared)]);
    check(&[Line::V4_3], &[("a1 declare q x-queue-type=S", declared)]);
}

#[test]
fn a_stream_keeps_simple_headers() {
    let script = |kept: &'static str| -> [(&'static str, Vec<&'static str>); 4] {
        [
            ("a1 declare q durable x-queue-type=Sstream", vec!["a1 declared q 0 0"]),
            ("a1 qos 5", vec!["a1 ok"]),
            ("a1 publish - q m a=I1 b=AI1 x-c=AI1 CC=ASp", vec![]),
            ("a1 consume q c x-stream-offset=Sfirst", vec!["a1 consuming c", kept]),
        ]
    };
    for (line, kept) in [
        (Line::V3_10, "a1 deliver c 1 m [a:1 x-stream-offset:0]"),
        (Line::V4_0, "a1 deliver c 1 m [CC:(p) a:1 x-c:(1) x-stream-offset:0]"),
        (Line::V4_3, "a1 deliver c 1 m [CC:(p) a:1 x-c:(1) x-stream-offset:0]"),
    ] {
        let script = script(kept);
        let script: Vec<(&str, &[&str])> =
            script.iter().map(|(operation, answers)| (*operation, &answers[..])).collect();
        Rig::new(line).check(&script);
    }
}
