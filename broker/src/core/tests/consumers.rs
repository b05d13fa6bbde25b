//! Prefetch, turns, cancel, auto-delete, single active consumers: broker.md 4, 5 and 6.

use super::rig::{Rig, check_all};
use crate::core::Line;

/// broker.md 6: a limit is of consumers that start later, 0 is none, and acks make room.
#[test]
fn prefetch() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("b1 qos 1", &["b1 ok"]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("b1 qos 5", &["b1 ok"]),
        ("a1 publish - q 0", &["b1 deliver c 1 0"]),
        ("a1 publish - q 1", &[]),
        ("a1 publish - q 2", &[]),
        ("b1 ack 1", &["b1 deliver c 2 1"]),
        ("b1 nack 2 requeue", &["b1 deliver c 3 1 again"]),
        ("b1 qos 0", &["b1 ok"]),
        ("b1 consume q d", &["b1 consuming d", "b1 deliver d 4 2"]),
        ("b1 consume q e no_ack", &["b1 consuming e"]),
        ("b1 get q", &["b1 empty"]),
    ]);
}

/// broker.md 6: one limit for all consumers of a channel; what is got does not count against it.
#[test]
fn shared_prefetch() {
    let mut rig = Rig::new(Line::V3_10);
    rig.check(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("b1 qos 2 global", &["b1 ok"]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("b1 consume q d", &["b1 consuming d"]),
        ("a1 publish - q 0", &["b1 deliver c 1 0"]),
        ("a1 publish - q 1", &["b1 deliver d 2 1"]),
        ("a1 publish - q 2", &[]),
        ("b1 get q", &["b1 got 3 2, 0 left"]),
        ("a1 publish - q 3", &[]),
        ("b1 ack 3", &[]),
    ]);
    let answers = rig.say("b1 ack 1");
    assert!(answers == ["b1 deliver c 4 3"] || answers == ["b1 deliver d 4 3"], "{answers:?}");
    // From 4.3 on it is a limit of each consumer.
    Rig::new(Line::V4_3).check(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("b1 qos 1 global", &["b1 ok"]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("b1 consume q d", &["b1 consuming d"]),
        ("a1 publish - q 0", &["b1 deliver c 1 0"]),
        ("a1 publish - q 1", &["b1 deliver d 2 1"]),
        ("a1 publish - q 2", &[]),
    ]);
}

/// broker.md 6: consumers take turns, those of a higher priority first.
#[test]
fn turns_and_priorities() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("b1 qos 1", &["b1 ok"]),
        ("b1 consume q low x-priority=I-1", &["b1 consuming low"]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("b1 consume q d", &["b1 consuming d"]),
        ("b1 consume q high x-priority=I5", &["b1 consuming high"]),
        ("a1 publish - q 0", &["b1 deliver high 1 0"]),
        ("a1 publish - q 1", &["b1 deliver c 2 1"]),
        ("a1 publish - q 2", &["b1 deliver d 3 2"]),
        ("a1 publish - q 3", &["b1 deliver low 4 3"]),
        ("a1 publish - q 4", &[]),
        ("b1 ack 3", &["b1 deliver d 5 4"]),
        ("b1 ack 5", &[]),
        ("b1 ack 2", &[]),
        ("a1 publish - q 5", &["b1 deliver d 6 5"]),
    ]);
}

/// broker.md 6: exclusive consumers; basic.get works beside one.
#[test]
fn exclusive_consumers() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 qos 1", &["a1 ok"]),
        ("a1 consume q c exclusive", &["a1 consuming c"]),
        ("a1 publish - q 0", &["a1 deliver c 1 0"]),
        ("a1 publish - q 1", &[]),
        ("b1 get q", &["b1 got 1 1, 0 left"]),
        (
            "b1 consume q d",
            &["b1 close 403 ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use at 60 20"],
        ),
        ("a1 cancel c", &["a1 cancelled c"]),
        ("c1 consume q d exclusive", &["c1 consuming d"]),
        // What was got comes back when the close is complete.
        ("b1 close_ok", &["c1 deliver d 1 1 again"]),
    ]);
}

/// broker.md 5: cancel leaves what is unacked; a deleted queue tells who wants to know.
#[test]
fn cancel() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("z1 consume q d", &["z1 consuming d"]),
        ("a1 publish - q 0", &["b1 deliver c 1 0"]),
        ("b1 cancel c", &["b1 cancelled c"]),
        ("b1 cancel unknown", &["b1 cancelled unknown"]),
        ("b1 ack 1", &[]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("a1 delete q", &["a1 deleted 0", "b1 cancel c"]),
        ("b1 declare q", &["b1 declared q 0 0"]),
        ("b1 consume q c", &["b1 consuming c"]),
    ]);
}

/// broker.md 4: auto-delete queues go with their last consumer, and exchanges with their last binding.
#[test]
fn auto_delete_chains() {
    check_all(&[
        ("a1 xdeclare x fanout auto_delete", &["a1 ok"]),
        ("a1 xdeclare y fanout auto_delete", &["a1 ok"]),
        ("a1 xdeclare never fanout auto_delete", &["a1 ok"]),
        ("a1 declare q auto_delete", &["a1 declared q 0 0"]),
        ("a1 xbind y x -", &["a1 ok"]),
        ("a1 bind q y -", &["a1 ok"]),
        ("a1 publish x - 0", &[]),
        ("a1 get q no_ack", &["a1 got 1 0 via x , 0 left"]),
        ("a1 consume q c", &["a1 consuming c"]),
        ("a1 consume q d", &["a1 consuming d"]),
        ("a1 cancel c", &["a1 cancelled c"]),
        ("a1 xdeclare x no passive", &["a1 ok"]),
        ("a1 cancel d", &["a1 cancelled d"]),
        ("a1 xdeclare never no passive", &["a1 ok"]),
        ("a1 declare q passive", &["a1 close 404 NOT_FOUND - no queue 'q' in vhost '/' at 50 10"]),
        ("a1 close_ok", &[]),
        ("a1 xdeclare y no passive", &["a1 close 404 NOT_FOUND - no exchange 'y' in vhost '/' at 40 10"]),
        ("a1 close_ok", &[]),
        ("a1 xdeclare x no passive", &["a1 close 404 NOT_FOUND - no exchange 'x' in vhost '/' at 40 10"]),
    ]);
}

/// A queue without a consumer yet stays; one whose channel closes goes.
#[test]
fn an_auto_delete_queue_goes_with_its_channel() {
    check_all(&[
        ("a1 declare q auto_delete", &["a1 declared q 0 0"]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("a1 publish - q x", &["b1 deliver c 1 x"]),
        ("b1 close", &["b1 closed"]),
        ("a1 declare q passive", &["a1 close 404 NOT_FOUND - no queue 'q' in vhost '/' at 50 10"]),
        ("a1 close_ok", &[]),
        ("b1 declare e exclusive", &["b1 declared e 0 0"]),
        ("b1 close", &["b1 closed"]),
        ("b1 declare e passive", &["b1 declared e 0 0"]),
        ("drop b", &[]),
        ("a1 declare e passive", &["a1 close 404 NOT_FOUND - no queue 'e' in vhost '/' at 50 10"]),
    ]);
}

/// broker.md 6: a single active consumer of a classic queue.
#[test]
fn single_active_consumer() {
    check_all(&[
        ("a1 declare q x-single-active-consumer=ttrue", &["a1 declared q 0 0"]),
        ("b1 qos 1", &["b1 ok"]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("b1 consume q d x-priority=I9", &["b1 consuming d"]),
        ("a1 publish - q 0", &["b1 deliver c 1 0"]),
        ("a1 publish - q 1", &[]),
        ("a1 declare q passive", &["a1 declared q 1 2"]),
        ("b1 ack 1", &["b1 deliver c 2 1"]),
        ("b1 ack 2", &[]),
        ("b1 cancel c", &["b1 cancelled c"]),
        ("a1 publish - q 2", &["b1 deliver d 3 2"]),
        (
            "c1 consume q e exclusive",
            &["c1 close 403 ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use at 60 20"],
        ),
    ]);
}

/// broker.md 11: what a quorum queue does not take.
#[test]
fn quorum_queues_refuse() {
    Rig::new(Line::V3_10).check(&[
        ("a1 declare q durable x-queue-type=Squorum", &["a1 declared q 0 0"]),
        ("a1 qos 1 global", &["a1 ok"]),
        (
            "a1 consume q c",
            &["a0 close 540 NOT_IMPLEMENTED - queue 'q' in vhost '/' does not support global qos at 60 20"],
        ),
    ]);
    Rig::new(Line::V3_10).check(&[
        ("a1 declare q durable x-queue-type=Squorum x-single-active-consumer=ttrue", &["a1 declared q 0 0"]),
        (
            "a1 get q",
            &["a1 close 405 RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get \
               operations are not supported by quorum queues with single active consumer at 60 70"],
        ),
        ("a1 close_ok", &[]),
        (
            "a1 delete q if_unused",
            &["a0 close 540 NOT_IMPLEMENTED - cannot delete queue 'q' in vhost '/'. queue.delete operations with \
               if-unused flag set are not supported by quorum queues at 50 40"],
        ),
    ]);
}

/// The limit that consumers share also holds for one that does not ack, though it does not count against it.
#[test]
fn a_shared_limit_holds_for_consumers_that_do_not_ack() {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0] {
        Rig::new(line).check(&[
            ("a1 declare q", &["a1 declared q 0 0"]),
            ("a1 declare r", &["a1 declared r 0 0"]),
            ("b1 qos 1 global", &["b1 ok"]),
            ("b1 consume q c", &["b1 consuming c"]),
            ("a1 publish - q 0", &["b1 deliver c 1 0"]),
            ("b1 consume r d no_ack", &["b1 consuming d"]),
            ("a1 publish - r 1", &[]),
            ("a1 publish - r 2", &[]),
            ("b1 ack 1", &["b1 deliver d 2 1", "b1 deliver d 3 2"]),
            ("a1 publish - r 3", &["b1 deliver d 4 3"]),
        ]);
    }
}
