//! How many entities clients may declare: exact, given back when one is gone, and without what the broker adds itself.

use super::rig::Rig;
use crate::core::{CoreConfig, EntityLimits, Keep, Line, Time};

const ONE: EntityLimits =
    EntityLimits { queues: 1, exchanges: 1, bindings: 1, consumers: 1, octets: 256 << 20 };

fn rig(entity_limits: EntityLimits) -> Rig {
    Rig::with(CoreConfig { entity_limits, ..CoreConfig::default() })
}

fn full(of: &str, at: &str) -> String {
    format!("b0 close 506 RESOURCE_ERROR - the limit of {of} of this broker (1) is reached at {at}")
}

/// What is there may be declared again, and what is gone makes room.
#[test]
fn one_more_closes_its_connection_and_one_less_makes_room() {
    for (of, at, first, more, less) in [
        ("queues", "50 10", "b1 declare r", "b1 declare s", "a1 delete r"),
        ("exchanges", "40 10", "b1 xdeclare x fanout", "b1 xdeclare y fanout", "a1 xdelete x"),
        ("bindings", "50 20", "b1 bind q amq.topic k", "b1 bind q amq.topic l", "a1 unbind q amq.topic k"),
        ("bindings", "40 30", "b1 bind q amq.fanout -", "b1 xbind amq.topic amq.fanout -", "a1 delete q"),
        ("consumers", "60 20", "c1 consume q c", "b1 consume q d", "c1 cancel c"),
        ("consumers", "60 20", "c1 consume q c", "b1 consume q d", "drop c"),
    ] {
        let queues = if of == "queues" { 1 } else { 2 };
        let mut rig = rig(EntityLimits { queues, ..ONE });
        if of != "queues" {
            rig.prepare(&["a1 declare q"]);
        }
        rig.prepare(&[first]);
        if of != "consumers" {
            rig.prepare(&[first]);
        }
        rig.check(&[(more, &[&*full(of, at)])]);
        rig.core.check_invariants();
        rig.prepare(&["drop b", less]);
        if less == "a1 delete q" {
            rig.prepare(&["a1 declare q"]);
        }
        rig.prepare(&[more]);
        rig.core.check_invariants();
    }
}

/// Errors of the declaration itself come first, and a refused one is not counted.
#[test]
fn what_is_refused_is_not_counted() {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3] {
        let mut rig = Rig::with(CoreConfig { line, entity_limits: ONE, ..CoreConfig::default() });
        rig.prepare(&["a1 declare q"]);
        rig.check(&[
            (
                "b1 declare r x-queue-type=Squorum",
                &["b1 close 406 PRECONDITION_FAILED - invalid property 'non-durable' for queue 'r' in vhost '/' \
                   at 50 10"],
            ),
            ("b1 close_ok", &[]),
            ("b1 bind q no -", &["b1 close 404 NOT_FOUND - no exchange 'no' in vhost '/' at 50 20"]),
            ("b1 close_ok", &[]),
        ]);
        rig.prepare(&["c1 consume q c exclusive", "c1 cancel c", "b1 consume q d", "b1 bind q amq.fanout k"]);
        rig.core.check_invariants();
    }
}

#[test]
fn a_restart_and_the_end_of_a_virtual_host_make_room() {
    let mut rig = rig(ONE);
    let all = ["a1 declare q", "a1 xdeclare x fanout", "a1 bind q x k", "a1 consume q c"];
    rig.prepare(&all);
    rig.core.restart(Time::ZERO, Keep::Nothing);
    rig.answers();
    rig.prepare(&["drop a"]);
    rig.core.check_invariants();
    rig.prepare(&all);
    assert!(rig.core.remove_vhost(Time::ZERO, "/") && rig.core.add_vhost("/"));
    rig.answers();
    rig.prepare(&["drop a"]);
    rig.core.check_invariants();
    rig.prepare(&all);
}

#[test]
fn names_and_arguments_have_a_limit_together() {
    let mut rig = rig(EntityLimits { octets: 1000, ..EntityLimits::default() });
    let argument = format!("x-a=S{}", "a".repeat(600));
    let declare = |name: &str| format!("b1 declare {name} {argument}");
    rig.prepare(&[&declare("q"), &declare("q"), "a1 declare plain"]);
    let closed = "b0 close 506 RESOURCE_ERROR - the limit of octets of names and arguments of this broker (1000) is \
                  reached at 50 10";
    rig.check(&[(&*declare("r"), &[closed])]);
    rig.prepare(&["drop b", "a1 delete q", &declare("r")]);
    rig.core.check_invariants();
}

/// Queues and channels that come and go long before their timers are due.
#[test]
fn the_timers_of_what_is_gone_are_given_up() {
    for line in [Line::V3_10, Line::V4_3] {
        let mut rig = Rig::with(CoreConfig { line, ..CoreConfig::default() });
        rig.prepare(&[
            "a1 declare stays x-expires=I5000",
            "a1 declare q durable x-queue-type=Squorum",
            "a1 declare t x-message-ttl=I6000",
            "a1 publish - q m",
            "a1 publish - t m",
            "a1 publish - q n",
            "a2 get q",
        ]);
        for _ in 0..1_000 {
            rig.prepare(&["b1 declare r x-expires=I1000000", "b1 delete r", "b2 get q", "b2 close"]);
            rig.prepare(&["b1 declare r x-message-ttl=I1000000", "b1 publish - r m", "b1 delete r"]);
        }
        assert!(rig.core.timers.len() <= 1_025, "{}", rig.core.timers.len());
        rig.check(&[
            ("advance 4999", &[]),
            ("a1 declare t x-message-ttl=I6000", &["a1 declared t 1 0"]),
            ("a3 declare stays passive", &["a3 declared stays 0 0"]),
            ("advance 1000", &[]),
            ("advance 1", &[]),
            ("a1 declare t x-message-ttl=I6000", &["a1 declared t 0 0"]),
            ("advance 3998", &[]),
            ("a3 declare stays passive", &["a3 declared stays 0 0"]),
            ("advance 5000", &[]),
            (
                "a3 declare stays passive",
                &["a3 close 404 NOT_FOUND - no queue 'stays' in vhost '/' at 50 10"],
            ),
        ]);
    }
}

/// Work that is quadratic in queues, exchanges or bindings would take minutes.
#[test]
fn many_queues_and_exchanges_come_and_go() {
    const MANY: u32 = 5_000;
    let mut rig = Rig::with(CoreConfig::default());
    for number in 0..MANY {
        rig.prepare(&[
            &format!("a1 declare q{number}"),
            &format!("a1 bind q{number} amq.topic #"),
            &format!("a1 bind q{number} amq.fanout k"),
            // Each goes with the one behind it.
            &format!("a1 xdeclare x{number} fanout auto_delete"),
        ]);
        if number > 0 {
            rig.prepare(&[&format!("a1 xbind x{} x{number} -", number - 1)]);
        }
    }
    rig.prepare(&["a1 bind q0 x0 -", "a1 declare one", &format!("a1 publish x{} k m", MANY - 1)]);
    rig.check(&[
        ("a1 get q0", &["a1 got 1 m via x4999 k, 0 left"]),
        ("a1 publish amq.topic k m mandatory", &[]),
    ]);
    rig.core.check_invariants();
    for number in 0..MANY {
        rig.prepare(&[&format!("a1 delete q{number}")]);
    }
    rig.core.check_invariants();
    assert_eq!((rig.core.exchanges("/").len(), rig.core.bindings("/").len()), (7, 1));
}

/// A key of 255 octets may have 128 words, each of which takes a node.
#[test]
fn words_of_topic_bindings_are_counted() {
    let mut rig = rig(EntityLimits { octets: 2 * (255 + 128 * 350) + 1, ..EntityLimits::default() });
    let dots = ".a".repeat(126);
    rig.prepare(&[
        "a1 declare q",
        &format!("a1 bind q amq.topic aa{dots}"),
        &format!("a1 bind q amq.topic bb{dots}"),
        &format!("a1 bind q amq.topic aa{dots}"),
    ]);
    let expected = "a0 close 506 RESOURCE_ERROR - the limit of octets of names and arguments of this broker (90111) is \
                    reached at 50 20";
    rig.check(&[("a1 bind q amq.topic c.c", &[expected])]);
}

#[test]
fn faults_without_end_stay_so() {
    let mut rig = Rig::with(CoreConfig::default());
    for _ in 0..2 {
        rig.core.nack_next(u32::MAX);
        rig.core.return_next(u32::MAX);
    }
    rig.check(&[("a1 confirm", &["a1 ok"]), ("a1 publish - q m", &["a1 nack 1 multiple"])]);
}
