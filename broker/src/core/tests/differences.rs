//! What random sequences have shown: see `broker/tests/differential`.

use super::rig::{Rig, check_all};
use crate::core::{CoreConfig, Line};

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
    let not_found = "a1 close 404 NOT_FOUND - no exchange 'no' in vhost '/' at 60 40";
    for (line, first) in [
        (Line::V4_0, "b1 got 1 m2 [x-delivery-count:1] again, 1 left"),
        (Line::V4_3, "b1 got 1 m2 [x-acquired-count:1 x-delivery-count:1] again, 1 left"),
    ] {
        for (end, answer) in [("a1 close", "a1 closed"), ("a1 publish no k m3", not_found)] {
            let mut rig = Rig::new(line);
            rig.check(&[
                ("a1 declare q durable x-queue-type=Squorum", &["a1 declared q 0 0"]),
                ("a1 confirm", &["a1 ok"]),
                ("a1 publish - q m1", &["a1 ack 1"]),
                ("a1 get q", &["a1 got 1 m1, 0 left"]),
                ("a1 consume q c", &["a1 consuming c"]),
                ("a1 publish - q m2", &["a1 deliver c 2 m2", "a1 ack 2"]),
                (end, &[answer]),
            ]);
            if answer == not_found {
                rig.check(&[("a1 close_ok", &[])]);
            }
            rig.check(&[("b1 get q", &[first])]);
        }
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

/// Deleted between a publish of a transaction and its commit. What comes of it if there is a queue of that name again is
/// in `asked/sequences.txt`.
#[test]
fn a_commit_for_a_queue_that_was_deleted() {
    let ok = "a1 ok";
    let refused = "a1 close 406 PRECONDITION_FAILED - partial tx completion at 90 20";
    let no_stream = "a0 close 506 RESOURCE_ERROR - Stream not found for queue 'q' in vhost '/' at 90 20";
    let lost = "a0 close 506 RESOURCE_ERROR - failed to deliver message: {not_found,";
    let lost = format!("{lost}{{resource,<<\"/\">>,queue,<<\"q\">>}}}} at 90 20");
    for (kind, of_4_0) in [("classic", refused), ("quorum", ok), ("stream", no_stream)] {
        for (line, answer) in [(Line::V3_10, ok), (Line::V4_0, of_4_0), (Line::V4_3, lost.as_str())] {
            let mut rig = Rig::new(line);
            let declare = format!("a1 declare q durable x-queue-type=S{kind}");
            rig.prepare(&[&declare, "a1 tx", "a1 publish - q m", "b1 delete q"]);
            // The text of 4.3 is broken into lines where the name of the virtual host is long, as that of a node is.
            if line != Line::V4_3 || !rig.has_oracle() {
                rig.check(&[("a1 commit", &[answer])]);
            }
        }
    }
}

/// A message that is dropped does not come back.
#[test]
fn a_mandatory_message_in_a_commit_for_a_quorum_queue_that_was_deleted() {
    for (line, answers) in [(Line::V3_10, &["a1 return 312 m", "a1 ok"][..]), (Line::V4_0, &["a1 ok"])] {
        let mut rig = Rig::new(line);
        rig.prepare(&["a1 declare q durable x-queue-type=Squorum", "a1 tx", "a1 publish - q m mandatory"]);
        rig.prepare(&["b1 delete q"]);
        rig.check(&[("a1 commit", answers)]);
    }
}

#[test]
fn a_delivery_limit_below_0_is_none_from_4_0_on() {
    for (line, left) in [(Line::V3_10, 0), (Line::V4_0, 1), (Line::V4_3, 1)] {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q durable x-queue-type=Squorum x-delivery-limit=I-1",
            "a1 confirm",
            "a1 publish - q m",
            "a1 consume q c",
            "a1 close",
        ]);
        let declared = format!("b1 declared q {left} 0");
        rig.check(&[("b1 declare q passive", &[declared.as_str()])]);
    }
}

#[test]
fn a_dead_letter_that_goes_straight_through_a_classic_queue_is_not_redelivered() {
    for line in [Line::V4_0, Line::V4_3] {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
            "a1 declare p",
            "a1 consume p c",
            "a1 publish - q m",
            "b1 get q",
        ]);
        rig.check(&[("b1 reject 1", &["a1 deliver c 1 m [..]"])]);
    }
}

/// What a transaction would have settled is outstanding when the commit ends the connection, and comes back with it.
#[test]
fn a_commit_that_fails_has_settled_nothing() {
    let lost = "a0 close 506 RESOURCE_ERROR - Stream not found for queue 'q' in vhost '/' at 90 20";
    check(
        &[Line::V4_0],
        &[
            ("b1 declare p", &["b1 declared p 0 0"]),
            ("b1 declare q durable x-queue-type=Sstream", &["b1 declared q 0 0"]),
            ("b1 publish - p m1", &[]),
            ("a1 get p", &["a1 got 1 m1, 0 left"]),
            ("a1 tx", &["a1 ok"]),
            ("a1 ack 1", &[]),
            ("a1 publish - q m2", &[]),
            ("b1 delete q", &["b1 deleted 0"]),
            ("a1 commit", &[lost]),
            ("b1 get p", &["b1 got 1 m1 again, 0 left"]),
        ],
    );
}

/// What it holds of its former subscription takes a place of its limit, and no more than that.
#[test]
fn a_consumer_that_comes_again_without_acks_is_served_on() {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3] {
        let mut rig = Rig::with(CoreConfig { line, ..CoreConfig::default() });
        rig.prepare(&["a1 declare q durable x-queue-type=Squorum", "b1 qos 2", "a1 publish - q m1"]);
        rig.check(&[
            ("b1 consume q e", &["b1 consuming e", "b1 deliver e 1 m1"]),
            ("b1 cancel e", &["b1 cancelled e"]),
            ("a1 publish - q m2", &[]),
            ("a1 publish - q m3", &[]),
            ("a1 publish - q m4", &[]),
            (
                "b1 consume q e no_ack",
                &["b1 consuming e", "b1 deliver e 2 m2", "b1 deliver e 3 m3", "b1 deliver e 4 m4"],
            ),
            ("b1 ack 1", &[]),
            ("a1 publish - q m5", &["b1 deliver e 5 m5"]),
        ]);
        rig.core.check_invariants();
    }
}
