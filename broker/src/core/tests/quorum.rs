//! Quorum queues in the whole core: broker.md 5, 8, 11 and 16.

use super::rig::Rig;
use crate::core::Line;

const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];

/// What comes back goes to the end up to 3.13, unless the queue has a limit, and forms a line in front from 4.0 on.
#[test]
fn where_returned_messages_go() {
    for line in LINES {
        for limit in ["", " x-delivery-limit=I5"] {
            let to_end = line < Line::V4_0 && limit.is_empty();
            let mut rig = Rig::new(line);
            rig.prepare(&[
                &format!("a1 declare q durable x-queue-type=Squorum{limit}"),
                "a1 publish - q 0",
                "a1 publish - q 1",
                "a1 publish - q 2",
                "a1 publish - q 3",
                "b1 get q",
                "b1 get q",
                "b1 get q",
                "b1 reject 2 requeue",
                "b1 reject 1 requeue",
                "b1 ack 3",
            ]);
            let expected: [&[&str]; 2] = [
                &[
                    "c1 consuming t",
                    "c1 deliver t 1 3",
                    "c1 deliver t 2 1 [..] again",
                    "c1 deliver t 3 0 [..] again",
                ],
                &[
                    "c1 consuming t",
                    "c1 deliver t 1 1 [..] again",
                    "c1 deliver t 2 0 [..] again",
                    "c1 deliver t 3 3",
                ],
            ];
            rig.check(&[("c1 consume q t", expected[usize::from(!to_end)])]);
        }
    }
}

/// What a connection that ends held comes back in order, in front.
#[test]
fn a_connection_that_ends_returns_to_the_front() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q durable x-queue-type=Squorum",
            "a1 publish - q 0",
            "a1 publish - q 1",
            "a1 publish - q 2",
            "b1 get q",
            "b1 get q",
            "drop b",
        ]);
        rig.check(&[(
            "a1 consume q t",
            &[
                "a1 consuming t",
                "a1 deliver t 1 0 [..] again",
                "a1 deliver t 2 1 [..] again",
                "a1 deliver t 3 2",
            ],
        )]);
    }
}

/// The limit is of redeliveries, and the return after the last one dead-letters at once.
#[test]
fn a_delivery_limit_dead_letters() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare dead",
            "a1 declare q durable x-queue-type=Squorum x-delivery-limit=I2 x-dead-letter-exchange=S \
             x-dead-letter-routing-key=Sdead",
            "a1 publish - q m",
            "b1 consume q t",
        ]);
        let again = if line == Line::V4_3 { " again" } else { "" };
        let (two, three) = ("b1 deliver t 2 m [..] again", "b1 deliver t 3 m [..] again");
        let dead = format!("a1 got 1 m [..]{again}, 0 left");
        rig.check(&[
            ("b1 reject 1 requeue", &[two]),
            ("b1 reject 2 requeue", &[three]),
            ("b1 reject 3 requeue", &[]),
            ("a1 get dead", &[&dead]),
        ]);
    }
}

/// The counts that a delivery tells.
#[test]
fn deliveries_tell_counts() {
    for (line, first, second, third) in [
        (Line::V3_10, "", " [x-delivery-count:1]", " [x-delivery-count:2]"),
        (Line::V3_13, "", " [x-delivery-count:1]", " [x-delivery-count:2]"),
        (Line::V4_0, "", " [x-delivery-count:1]", " [x-delivery-count:2]"),
        (Line::V4_3, "", " [x-acquired-count:1]", " [x-acquired-count:2 x-delivery-count:1]"),
    ] {
        let mut rig = Rig::new(line);
        rig.prepare(&["a1 declare q durable x-queue-type=Squorum", "b1 consume q t"]);
        let deliveries = [(1, first, ""), (2, second, " again"), (3, third, " again")]
            .map(|(tag, headers, again)| format!("b1 deliver t {tag} m{headers}{again}"));
        rig.check(&[
            ("a1 publish - q m", &[&deliveries[0]]),
            ("b1 nack 1 requeue", &[&deliveries[1]]),
            ("b1 reject 2 requeue", &[&deliveries[2]]),
        ]);
    }
}

/// Priorities without an argument.
#[test]
fn priorities_by_line() {
    for (line, expected) in [
        (Line::V3_10, ["m0", "m9", "m4", "m5", "none"]),
        (Line::V3_13, ["m0", "m9", "m4", "m5", "none"]),
        (Line::V4_0, ["m9", "m5", "m0", "m4", "none"]),
        (Line::V4_3, ["m9", "m5", "m4", "none", "m0"]),
    ] {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q durable x-queue-type=Squorum",
            "a1 publish - q m0 p.priority=0",
            "a1 publish - q m9 p.priority=9",
            "a1 publish - q m4 p.priority=4",
            "a1 publish - q m5 p.priority=5",
            "a1 publish - q none",
        ]);
        let mut answers = vec!["b1 consuming t".to_owned()];
        answers.extend(expected.iter().zip(1..).map(|(body, tag)| format!("b1 deliver t {tag} {body}")));
        let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
        rig.check(&[("b1 consume q t no_ack", &answers)]);
    }
}

/// One message over the limit gets in, and the next ones when four fifths are left. Asked of 3.10.8.
#[test]
fn reject_publish_is_soft() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q durable x-queue-type=Squorum x-max-length=I5 x-overflow=Sreject-publish",
            "a1 confirm",
        ]);
        rig.check(&[
            ("a1 publish - q m", &["a1 ack 1"]),
            ("a1 publish - q m", &["a1 ack 2"]),
            ("a1 publish - q m", &["a1 ack 3"]),
            ("a1 publish - q m", &["a1 ack 4"]),
            ("a1 publish - q m", &["a1 ack 5"]),
            ("a1 publish - q m", &["a1 ack 6"]),
            ("a1 publish - q m", &["a1 nack 7 multiple"]),
        ]);
        rig.prepare(&["a1 get q no_ack"]);
        rig.check(&[("a1 publish - q m", &["a1 nack 8 multiple"])]);
        rig.prepare(&["a1 get q no_ack"]);
        rig.check(&[("a1 publish - q m", &["a1 ack 9"])]);
    }
}

/// A waiting consumer of higher priority takes over from 4.0 on, when the active one has settled everything.
#[test]
fn a_single_active_consumer_makes_way() {
    for line in LINES {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare q durable x-queue-type=Squorum x-single-active-consumer=ttrue",
            "b1 consume q low",
            "a1 publish - q 0",
            "c1 consume q high x-priority=I5",
        ]);
        if line < Line::V4_0 {
            rig.check(&[("a1 publish - q 1", &["b1 deliver low 2 1"]), ("b1 ack 2 multiple", &[])]);
            rig.check(&[("a1 publish - q 2", &["b1 deliver low 3 2"])]);
        } else {
            rig.check(&[("a1 publish - q 1", &[]), ("b1 ack 1", &["c1 deliver high 1 1"])]);
            rig.check(&[("a1 publish - q 2", &["c1 deliver high 2 2"])]);
        }
    }
}
