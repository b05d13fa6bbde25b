//! Quorum queues in the whole core: broker.md 5, 8, 11 and 16.

use super::rig::Rig;
use crate::core::{CoreConfig, Line, Time};

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

/// A returned message of 4.3 comes back later: after the smaller time for each failed delivery, up to the larger one.
#[test]
fn delayed_retries() {
    for (kind, how, is_delayed) in [
        ("all", "nack", true),
        ("all", "reject", true),
        ("failed", "nack", false),
        ("failed", "reject", true),
        ("returned", "nack", true),
        ("returned", "reject", false),
        ("disabled", "reject", false),
        ("no", "reject", false),
    ] {
        let mut rig = Rig::new(Line::V4_3);
        rig.prepare(&[
            &format!(
                "a1 declare q durable x-queue-type=Squorum x-delayed-retry-type=S{kind} x-delayed-retry-min=I600"
            ),
            "a1 publish - q m",
            "b1 consume q t",
        ]);
        let again = "b1 deliver t 2 m [..] again";
        let now: &[&str] = if is_delayed { &[] } else { &[again] };
        let later: &[&str] = if is_delayed { &[again] } else { &[] };
        rig.check(&[(&format!("b1 {how} 1 requeue"), now), ("advance 800", later)]);
    }
}

#[test]
fn delays_grow_with_failures() {
    let mut rig = Rig::new(Line::V4_3);
    rig.prepare(&[
        "a1 declare q durable x-queue-type=Squorum x-delayed-retry-type=Sall x-delayed-retry-min=I500 \
         x-delayed-retry-max=I1200",
        "a1 publish - q m",
        "b1 consume q t",
    ]);
    rig.check(&[
        ("b1 reject 1 requeue", &[]),
        ("advance 700", &["b1 deliver t 2 m [..] again"]),
        ("b1 reject 2 requeue", &[]),
        ("advance 700", &[]),
        ("advance 500", &["b1 deliver t 3 m [..] again"]),
        ("b1 reject 3 requeue", &[]),
        ("advance 800", &[]),
        ("advance 600", &["b1 deliver t 4 m [..] again"]),
    ]);
}

/// They are not ready, count for limits, and come back in front, by the time of their end.
#[test]
fn delayed_messages_are_not_ready() {
    let mut rig = Rig::new(Line::V4_3);
    rig.prepare(&[
        "a1 declare q durable x-queue-type=Squorum x-delayed-retry-type=Sall x-delayed-retry-min=I900 x-max-length=I3",
        "a1 publish - q a",
        "a1 publish - q b",
        "a1 publish - q c",
        "b1 get q",
        "b1 get q",
        "b1 nack 2 requeue",
        "b1 nack 1 requeue",
    ]);
    rig.check(&[
        ("a1 declare q passive", &["a1 declared q 1 0"]),
        ("a1 publish - q d", &[]),
        ("a1 declare q passive", &["a1 declared q 1 0"]),
        ("advance 1200", &[]),
        ("a1 get q", &["a1 got 1 b [..] again, 2 left"]),
        ("a1 get q", &["a1 got 2 a [..] again, 1 left"]),
        ("a1 get q", &["a1 got 3 d, 0 left"]),
        ("a1 nack 2 requeue", &[]),
        ("a1 purge q", &["a1 purged 1"]),
        ("advance 1200", &[]),
        ("a1 get q", &["a1 empty"]),
    ]);
}

/// From 4.3 on a late delivery of a quorum queue ends its consumer, and comes back.
#[test]
fn a_late_delivery_ends_its_consumer() {
    for (queue, consumer, policy) in [
        (" x-consumer-timeout=I600", "", ""),
        ("", " x-consumer-timeout=I600", ""),
        ("", "", "policy p ^q all consumer-timeout=I600"),
        (" x-consumer-timeout=I60000", "", "policy p ^q all consumer-timeout=I600"),
        (" x-consumer-timeout=I60000", " x-consumer-timeout=I600", ""),
    ] {
        let mut rig = Rig::new(Line::V4_3);
        rig.prepare(&[&format!("a1 declare q durable x-queue-type=Squorum{queue}")]);
        if !policy.is_empty() {
            rig.prepare(&[policy]);
        }
        rig.prepare(&[&format!("b1 consume q t{consumer}")]);
        rig.check(&[
            ("a1 publish - q m", &["b1 deliver t 1 m"]),
            ("advance 1000", &["b1 cancel t"]),
            ("a1 get q", &["a1 got 1 m [..] again, 0 left"]),
            ("b1 qos 1", &["b1 ok"]),
        ]);
    }
    let mut rig = Rig::new(Line::V4_3);
    rig.prepare(&[
        "a1 declare q durable x-queue-type=Squorum x-consumer-timeout=I600",
        "b1 consume q t x-consumer-timeout=I60000",
        "a1 publish - q m",
    ]);
    rig.check(&[("advance 1000", &[]), ("b1 ack 1", &[]), ("a1 get q", &["a1 empty"])]);
}

/// Classic queues and streams refuse the argument from 4.3 on, and before it is unknown but has an effect from 3.12 on.
#[test]
fn timeouts_of_other_queues() {
    let refused = |kind: &str, operation: u16, method: u16| {
        format!(
            "a1 close 406 PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/' of queue \
             type rabbit_{kind}_queue at {operation} {method}"
        )
    };
    let mut rig = Rig::new(Line::V4_3);
    for kind in ["classic", "stream"] {
        let declare = format!("a1 declare q durable x-queue-type=S{kind} x-consumer-timeout=I5");
        rig.check(&[(&declare, &[&refused(kind, 50, 10)]), ("a1 close_ok", &[])]);
    }
    rig.prepare(&["a1 declare q durable"]);
    rig.check(&[("a1 consume q t x-consumer-timeout=I5", &[&refused("classic", 60, 20)])]);
    for (line, is_late) in [(Line::V3_10, false), (Line::V3_13, true), (Line::V4_0, true)] {
        let mut rig = Rig::with(CoreConfig { line, ..CoreConfig::default() });
        rig.prepare(&["a1 declare q x-consumer-timeout=I3000", "b1 consume q t", "a1 publish - q m"]);
        let late = "b1 close 406 PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value \
                    used: 3000 ms. This timeout value can be configured, see consumers doc guide to learn more at 0 0";
        let expected: &[&str] = if is_late { &[late] } else { &[] };
        rig.check(&[("advance 3000", expected)]);
    }
}

/// What comes back to the end drops the head, which lays bare a message that has expired long ago.
#[test]
fn what_a_return_lays_bare_expires_now() {
    for line in [Line::V3_10, Line::V3_13] {
        let mut rig = Rig::with(CoreConfig { line, consumer_timeout: None, ..CoreConfig::default() });
        rig.prepare(&[
            "a1 declare d x-message-ttl=I60000",
            "a1 declare q durable x-queue-type=Squorum x-max-length=I2 x-dead-letter-exchange=S \
             x-dead-letter-routing-key=Sd",
            "a1 publish - q held",
            "b1 get q",
            "a1 publish - q a",
            "a1 publish - q b p.expiration=10",
            "advance 3600000",
            "b1 nack 1 requeue",
        ]);
        assert_eq!(rig.core.next_timer(), Some(Time::from_millis(3_660_000)), "{line:?}");
        rig.check(&[
            ("a1 declare d passive", &["a1 declared d 2 0"]),
            ("a1 declare q passive", &["a1 declared q 1 0"]),
            ("advance 59999", &[]),
            ("a1 declare d passive", &["a1 declared d 2 0"]),
            ("advance 1", &[]),
            ("a1 declare d passive", &["a1 declared d 0 0"]),
        ]);
    }
}

/// What is delayed counts for the limit until it is purged.
#[test]
fn a_purge_of_delayed_messages_makes_room() {
    let mut rig = Rig::new(Line::V4_3);
    rig.prepare(&[
        "a1 declare q durable x-queue-type=Squorum x-max-length=I1 x-overflow=Sreject-publish \
         x-delayed-retry-type=Sall x-delayed-retry-min=I60000",
        "a1 publish - q a",
        "a1 publish - q b",
        "b1 get q",
        "b1 get q",
        "b1 nack 2 multiple requeue",
        "a1 confirm",
    ]);
    rig.check(&[
        ("a1 publish - q c", &["a1 nack 1 multiple"]),
        ("a1 purge q", &["a1 purged 2"]),
        ("a1 publish - q d", &["a1 ack 2"]),
    ]);
}

/// With strict priorities, what expires behind others makes room, too.
#[test]
fn what_expires_behind_others_makes_room() {
    let mut rig = Rig::new(Line::V4_3);
    rig.prepare(&["a1 declare q durable x-queue-type=Squorum x-max-length=I5 x-overflow=Sreject-publish"]);
    rig.prepare(&["a1 publish - q high p.priority=9"; 4]);
    rig.prepare(&["a1 publish - q low p.priority=1 p.expiration=1000"; 2]);
    rig.check(&[
        ("a1 confirm", &["a1 ok"]),
        ("a1 publish - q c", &["a1 nack 1 multiple"]),
        ("advance 1500", &[]),
        ("a1 publish - q d", &["a1 ack 2"]),
        ("a1 get q", &["a1 got 1 high, 4 left"]),
    ]);
}

/// Dead messages stay until a queue has taken their dead letters. They are not ready, but count for the limit.
#[test]
fn at_least_once_keeps_what_is_not_taken() {
    for line in LINES {
        let mut rig = Rig::new(line);
        let headers = if line == Line::V3_10 { " [..]" } else { "" };
        rig.prepare(&[
            "a1 declare q durable x-queue-type=Squorum x-max-length=I1 x-overflow=Sreject-publish \
             x-dead-letter-strategy=Sat-least-once x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead",
            "a1 publish - q m",
            "b1 get q",
            "b1 reject 1",
            "a1 confirm",
        ]);
        rig.check(&[
            ("a1 get q", &["a1 empty"]),
            ("a1 publish - q n", &["a1 ack 1"]),
            ("a1 publish - q o", &["a1 nack 2 multiple"]),
            ("a1 get q no_ack", &[&format!("a1 got 1 n{headers}, 0 left")]),
        ]);
        rig.prepare(&["a1 declare dead durable", "advance 300"]);
        rig.check(&[("a1 get dead", &["a1 empty"])]);
    }
}

/// RabbitMQ tries again after three minutes, which no node was asked for.
#[test]
fn at_least_once_tries_again() {
    let again = |line| if line == Line::V4_3 { " again" } else { "" };
    for line in LINES {
        let mut rig = Rig::with(CoreConfig { line, consumer_timeout: None, ..CoreConfig::default() });
        rig.prepare(&[
            "a1 xdeclare x fanout",
            "a1 declare d1 durable",
            "a1 declare d2 durable x-max-length=I1 x-overflow=Sreject-publish",
            "a1 bind d1 x -",
            "a1 bind d2 x -",
            "a1 publish - d2 full",
            "a1 declare q durable x-queue-type=Squorum x-overflow=Sreject-publish \
             x-dead-letter-strategy=Sat-least-once x-dead-letter-exchange=Sx",
            "a1 publish - q m",
            "b1 get q",
            "b1 reject 1",
        ]);
        let dead = |tag| format!("a1 got {tag} m [..]{} via x q, 0 left", again(line));
        rig.check(&[
            ("a1 get d1", &[&dead(1)]),
            ("a1 get d2", &["a1 got 2 full, 0 left"]),
            ("advance 179999", &[]),
            ("a1 get d2", &["a1 empty"]),
            ("advance 1", &[]),
            ("a1 get d2", &[&dead(3)]),
            ("a1 get d1", &["a1 empty"]),
            ("advance 180000", &[]),
            ("a1 get d2", &["a1 empty"]),
        ]);
    }
}

/// From 4.3 on, a purge takes what is kept. The time of what is kept later begins with that.
#[test]
fn what_is_kept_after_a_purge_has_its_own_time() {
    let mut rig = Rig::with(CoreConfig { line: Line::V4_3, consumer_timeout: None, ..CoreConfig::default() });
    rig.prepare(&[
        "a1 declare q durable x-queue-type=Squorum x-overflow=Sreject-publish x-dead-letter-strategy=Sat-least-once \
         x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead",
        "a1 publish - q m",
        "b1 get q",
        "b1 reject 1",
        "advance 100000",
    ]);
    rig.check(&[("a1 purge q", &["a1 purged 1"])]);
    rig.prepare(&[
        "a1 publish - q n",
        "b1 get q",
        "b1 reject 2",
        "a1 declare dead durable",
        "advance 179999",
    ]);
    rig.check(&[
        ("a1 get dead", &["a1 empty"]),
        ("advance 1", &[]),
        ("a1 get dead", &["a1 got 1 n [..] again, 0 left"]),
    ]);
    assert_eq!(rig.core.next_timer(), None);
}

/// What is tried again without success has counted for the limit all the time: it makes no room.
#[test]
fn a_retry_without_success_makes_no_room() {
    for line in LINES {
        let mut rig = Rig::with(CoreConfig { line, consumer_timeout: None, ..CoreConfig::default() });
        rig.prepare(&[
            "a1 declare q durable x-queue-type=Squorum x-max-length=I5 x-overflow=Sreject-publish \
             x-dead-letter-strategy=Sat-least-once x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead",
            "a1 publish - q m",
            "b1 get q",
            "b1 reject 1",
        ]);
        rig.prepare(&["a1 publish - q n"; 5]);
        rig.prepare(&["a1 confirm", "b1 get q no_ack"]);
        rig.check(&[
            ("a1 publish - q o", &["a1 nack 1 multiple"]),
            ("advance 180000", &[]),
            ("a1 publish - q o", &["a1 nack 2 multiple"]),
        ]);
        rig.prepare(&["a1 declare dead durable", "advance 180000"]);
        rig.check(&[
            ("a1 declare dead passive", &["a1 declared dead 1 0"]),
            ("a1 publish - q o", &["a1 ack 3"]),
        ]);
    }
}
