//! Dead letters: broker.md 10, and x-death.

use super::rig::{Rig, check_all};
use crate::core::{CoreConfig, Line};

/// The reasons, and what is noted. From 3.13 on there is an `x-last-death`.
#[test]
fn each_reason_is_noted() {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0] {
        let got = |tag: u32, body: &str, queue: &str, reason: &str, more: &str| {
            let last = match line {
                Line::V3_10 => String::new(),
                _ => {
                    format!(" x-last-death-exchange: x-last-death-queue:{queue} x-last-death-reason:{reason}")
                }
            };
            format!(
                "a1 got {tag} {body} [x-death:({{count=1,exchange=,{more}queue={queue},reason={reason},\
                 routing-keys=({queue}),time=time}}) x-first-death-exchange: x-first-death-queue:{queue} \
                 x-first-death-reason:{reason}{last}] via amq.fanout {queue}, 0 left"
            )
        };
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare dead",
            "a1 bind dead amq.fanout -",
            "a1 declare expires x-message-ttl=I0 x-dead-letter-exchange=Samq.fanout",
            "a1 declare short x-max-length=I1 x-dead-letter-exchange=Samq.fanout",
            "a1 declare rejects x-dead-letter-exchange=Samq.fanout",
        ]);
        let expected = [
            got(1, "m", "expires", "expired", ""),
            got(2, "m", "expires", "expired", "original-expiration=7,"),
            got(3, "one", "short", "maxlen", ""),
            got(5, "r", "rejects", "rejected", ""),
        ];
        let [expired, own, maxlen, rejected] = &expected;
        rig.check(&[
            ("a1 publish - expires m", &[]),
            ("a1 get dead", &[expired]),
            ("a1 publish - expires m p.expiration=7", &[]),
            ("a1 get dead", &[own]),
            ("a1 publish - short one", &[]),
            ("a1 publish - short two", &[]),
            ("a1 get dead", &[maxlen]),
            ("a1 publish - rejects r", &[]),
            ("a1 get rejects", &["a1 got 4 r, 0 left"]),
            ("a1 reject 4", &[]),
            ("a1 get dead", &[rejected]),
        ]);
    }
}

/// A message that died by itself does not return to a queue that it died in: it is dropped.
#[test]
fn cycles_without_a_rejection_end() {
    check_all(&[
        (
            "a1 declare self x-message-ttl=I0 x-dead-letter-exchange=S x-dead-letter-routing-key=Sself",
            &["a1 declared self 0 0"],
        ),
        ("a1 publish - self m", &[]),
        ("a1 declare self passive", &["a1 declared self 0 0"]),
        ("a1 declare full x-max-length=I1 x-dead-letter-exchange=S", &["a1 declared full 0 0"]),
        ("a1 publish - full 1", &[]),
        ("a1 publish - full 2", &[]),
        ("a1 get full no_ack", &["a1 got 1 2, 0 left"]),
        (
            "a1 declare x x-message-ttl=I20 x-dead-letter-exchange=S x-dead-letter-routing-key=Sy",
            &["a1 declared x 0 0"],
        ),
        (
            "a1 declare y x-message-ttl=I20 x-dead-letter-exchange=S x-dead-letter-routing-key=Sx",
            &["a1 declared y 0 0"],
        ),
        ("a1 publish - x m", &[]),
        ("advance 200", &[]),
        ("a1 declare x passive", &["a1 declared x 0 0"]),
        ("a1 declare y passive", &["a1 declared y 0 0"]),
    ]);
}

/// One rejection keeps it, and the count rises.
#[test]
fn a_rejection_keeps_a_cycle_alive() {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0] {
        let last = match line {
            Line::V3_10 => "",
            _ => " x-last-death-exchange: x-last-death-queue:q x-last-death-reason:rejected",
        };
        let got = |tag: u32, count: u32| {
            format!(
                "a1 got {tag} m [x-death:({{count={count},exchange=,queue=q,reason=rejected,routing-keys=(q),time=time}}) \
                 x-first-death-exchange: x-first-death-queue:q x-first-death-reason:rejected{last}], 0 left"
            )
        };
        let [second, third] = [got(2, 1), got(3, 2)];
        Rig::new(line).check(&[
            ("a1 declare q x-dead-letter-exchange=S", &["a1 declared q 0 0"]),
            ("a1 publish - q m", &[]),
            ("a1 get q", &["a1 got 1 m, 0 left"]),
            ("a1 reject 1", &[]),
            ("a1 get q", &[&second]),
            ("a1 nack 2", &[]),
            ("a1 get q", &[&third]),
        ]);
    }
}

/// The dead-letter exchange may be missing, internal, or lead nowhere; the message vanishes.
#[test]
fn dead_letters_may_lead_nowhere() {
    check_all(&[
        ("a1 declare q x-dead-letter-exchange=Smissing", &["a1 declared q 0 0"]),
        ("a1 publish - q m", &[]),
        ("a1 get q", &["a1 got 1 m, 0 left"]),
        ("a1 reject 1", &[]),
        ("a1 get q", &["a1 empty"]),
        ("a1 xdeclare in fanout internal", &["a1 ok"]),
        ("a1 declare p x-dead-letter-exchange=Sin x-message-ttl=I0", &["a1 declared p 0 0"]),
        ("a1 publish - p m", &[]),
        ("a1 declare to", &["a1 declared to 0 0"]),
        ("a1 bind to in -", &["a1 ok"]),
        ("a1 publish - p m", &[]),
        ("a1 declare to passive", &["a1 declared to 1 0"]),
    ]);
}

/// Purge, delete and the end of an unused queue dead-letter nothing.
#[test]
fn what_is_removed_does_not_die() {
    check_all(&[
        ("a1 declare dead", &["a1 declared dead 0 0"]),
        ("a1 declare q x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead", &["a1 declared q 0 0"]),
        ("a1 publish - q m", &[]),
        ("a1 purge q", &["a1 purged 1"]),
        ("a1 publish - q m", &[]),
        ("a1 delete q", &["a1 deleted 1"]),
        (
            "a1 declare r x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead x-expires=I50",
            &["a1 declared r 0 0"],
        ),
        ("a1 publish - r m", &[]),
        ("advance 200", &[]),
        ("a1 declare dead passive", &["a1 declared dead 0 0"]),
    ]);
}

/// Dead letters of one operation arrive in the order of the queue.
#[test]
fn dead_letters_keep_their_order() {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3] {
        let delivery = |tag: u32, body: &str| format!("b1 deliver t {tag} {body} [..]");
        let [a, b, c, long] = [delivery(1, "a"), delivery(2, "b"), delivery(3, "c"), delivery(4, "long")];
        Rig::new(line).check(&[
            ("a1 declare dead", &["a1 declared dead 0 0"]),
            (
                "a1 declare q x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead x-max-length-bytes=I3",
                &["a1 declared q 0 0"],
            ),
            ("a1 publish - q a", &[]),
            ("a1 publish - q b", &[]),
            ("a1 publish - q c", &[]),
            ("a1 publish - q long", &[]),
            ("b1 consume dead t no_ack", &["b1 consuming t", &a, &b, &c, &long]),
        ]);
    }
}

/// 4.3 delivers a dead letter as redelivered if a delivery of it has failed: by `basic.reject`, or with its channel.
#[test]
fn whether_a_dead_letter_was_delivered_before() {
    let lines = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];
    for (line, kind) in
        lines.into_iter().flat_map(|line| [(line, ""), (line, " durable x-queue-type=Squorum")])
    {
        for (settle, is_failure) in [
            (&["b1 reject 1"][..], true),
            (&["b1 nack 1"], false),
            (&["b1 nack 1 requeue", "advance 900"], false),
            (&["b1 reject 1 requeue", "advance 900"], true),
            (&["b1 close", "advance 900"], true),
            (&["drop b", "advance 900"], true),
            (&["advance 900", "b1 nack 1"], false),
        ] {
            let again = if is_failure && line == Line::V4_3 { " again" } else { "" };
            let mut rig = Rig::new(line);
            rig.prepare(&[
                "a1 declare dead",
                &format!(
                    "a1 declare q x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead x-message-ttl=I600{kind}"
                ),
                "a1 publish - q m",
                "b1 get q",
            ]);
            rig.prepare(settle);
            rig.check(&[("a1 get dead", &[&format!("a1 got 1 m [..]{again}, 0 left")])]);
        }
    }
}

/// A quorum queue dead-letters what it drops at once in the opposite order up to 4.0, and 4.3 counts properties.
#[test]
fn what_a_quorum_queue_drops_at_once() {
    for (line, dead) in [
        (Line::V3_10, &["c", "b", "a"][..]),
        (Line::V3_13, &["c", "b", "a"]),
        (Line::V4_0, &["c", "b", "a"]),
        (Line::V4_3, &["a", "b", "c", "long"]),
    ] {
        let mut rig = Rig::new(line);
        rig.prepare(&[
            "a1 declare dead",
            "a1 declare q durable x-queue-type=Squorum x-dead-letter-exchange=S x-dead-letter-routing-key=Sdead \
             x-max-length-bytes=I4",
            "a1 publish - q a",
            "a1 publish - q b",
            "a1 publish - q c",
            "a1 publish - q long",
        ]);
        let mut answers = vec!["b1 consuming t".to_owned()];
        answers.extend(dead.iter().zip(1..).map(|(body, tag)| format!("b1 deliver t {tag} {body} [..]")));
        let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
        rig.check(&[("b1 consume dead t no_ack", &answers)]);
    }
}

/// Up to 3.13 a client may publish deaths that hide a cycle. RabbitMQ sends such a message round for ever.
#[test]
fn dead_letters_without_end_are_dropped() {
    for line in [Line::V3_10, Line::V3_13] {
        let mut rig = Rig::with(CoreConfig { line, ..CoreConfig::default() });
        rig.prepare(&[
            "a1 declare p x-message-ttl=I0 x-dead-letter-exchange=S x-dead-letter-routing-key=Sq",
            "a1 declare q x-message-ttl=I0 x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
            "a1 confirm",
        ]);
        rig.check(&[
            (
                "a1 publish - p m x-death=AFqueue:Sx,reason:Srejected|Fqueue:Sy,reason:Srejected",
                &["a1 ack 1"],
            ),
            ("a1 get p", &["a1 empty"]),
            ("a1 get q", &["a1 empty"]),
            ("a1 publish - p m", &["a1 ack 2"]),
        ]);
        rig.core.check_invariants();
    }
}

/// Queues that send their dead letters to each other do so in all orders.
#[test]
fn dead_letters_in_all_orders_are_bounded() {
    let mut rig = Rig::with(CoreConfig::default());
    rig.prepare(&["a1 xdeclare x fanout", "a1 declare all", "a1 bind all x -", "a1 confirm"]);
    for number in 0..12 {
        rig.prepare(&[
            &format!("a1 declare q{number} x-message-ttl=I0 x-dead-letter-exchange=Sx"),
            &format!("a1 bind q{number} x -"),
        ]);
    }
    rig.check(&[("a1 publish x k m", &["a1 ack 1"])]);
    let letters = rig.core.queue("/", "all").unwrap().ready;
    // There would be 12! of the last ones.
    assert_eq!(letters, 1 + 12 + 12 * 11 + 12 * 11 * 10 + 12 * 11 * 10 * 9);
}

/// A fanout to very many queues is no chain, and neither is what time does.
#[test]
fn long_chains_in_time_go_on() {
    let mut rig = Rig::with(CoreConfig { line: Line::V3_10, ..CoreConfig::default() });
    rig.prepare(&[
        "a1 declare p x-message-ttl=I1 x-dead-letter-exchange=S x-dead-letter-routing-key=Sq",
        "a1 declare q x-message-ttl=I1 x-dead-letter-exchange=S x-dead-letter-routing-key=Sp",
        "a1 publish - p m x-death=AFqueue:Sx,reason:Srejected|Fqueue:Sy,reason:Srejected",
        "advance 25000",
    ]);
    assert_eq!(rig.core.queue("/", "p").unwrap().ready + rig.core.queue("/", "q").unwrap().ready, 1);
}
