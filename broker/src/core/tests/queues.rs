//! Order, requeue, counts, length limits and times to live: broker.md 5, 8 and 9.

use super::rig::{Rig, check_all};
use crate::core::{CoreConfig, Line};

/// broker.md 5: a classic queue puts each message back at its own place.
#[test]
fn requeue_in_a_classic_queue() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 publish - q 0", &[]),
        ("a1 publish - q 1", &[]),
        ("a1 publish - q 2", &[]),
        ("a1 publish - q 3", &[]),
        ("a1 get q", &["a1 got 1 0, 3 left"]),
        ("a1 get q", &["a1 got 2 1, 2 left"]),
        ("a1 get q", &["a1 got 3 2, 1 left"]),
        ("a1 nack 2 requeue", &[]),
        ("a1 reject 1 requeue", &[]),
        ("a1 get q", &["a1 got 4 0 again, 2 left"]),
        ("a1 get q", &["a1 got 5 1 again, 1 left"]),
        ("a1 get q", &["a1 got 6 3, 0 left"]),
        ("a1 nack 0 multiple requeue", &[]),
        ("a1 get q", &["a1 got 7 0 again, 3 left"]),
    ]);
}

/// broker.md 5: counts are of ready messages; a purge leaves the unacked ones.
#[test]
fn counts_and_purge() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 publish - q 0", &[]),
        ("a1 publish - q 1", &[]),
        ("a1 publish - q 2", &[]),
        ("a1 get q", &["a1 got 1 0, 2 left"]),
        ("a1 declare q passive", &["a1 declared q 2 0"]),
        ("a1 purge q", &["a1 purged 2"]),
        ("a1 nack 1 requeue", &[]),
        ("a1 get q", &["a1 got 2 0 again, 0 left"]),
        ("a1 delete q", &["a1 deleted 0"]),
        // The tag stays known to the channel.
        ("a1 ack 2", &[]),
        ("a1 delete q", &["a1 deleted 0"]),
    ]);
}

/// broker.md 5: recover gives a consumer the same messages again, also those that were got.
#[test]
fn recover() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 publish - q 0", &[]),
        ("a1 get q", &["a1 got 1 0, 0 left"]),
        ("a1 consume q c", &["a1 consuming c"]),
        ("a1 publish - q 1", &["a1 deliver c 2 1"]),
        ("a1 recover", &["a1 ok", "a1 deliver c 3 0 again", "a1 deliver c 4 1 again"]),
        ("a1 ack 4 multiple", &[]),
        ("a1 ack 1", &["a1 close 406 PRECONDITION_FAILED - unknown delivery tag 1 at 60 80"]),
    ]);
}

/// broker.md 5: what a channel has not acked comes back in order, before all others.
#[test]
fn a_channel_that_closes_gives_its_messages_back() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 publish - q 0", &[]),
        ("a1 publish - q 1", &[]),
        ("a1 publish - q 2", &[]),
        ("b1 get q", &["b1 got 1 0, 2 left"]),
        ("b2 get q", &["b2 got 1 1, 1 left"]),
        ("b2 close", &["b2 closed"]),
        ("b1 close", &["b1 closed"]),
        ("a1 get q", &["a1 got 1 0 again, 2 left"]),
        ("a1 get q", &["a1 got 2 1 again, 1 left"]),
        ("a1 get q", &["a1 got 3 2, 0 left"]),
        ("drop a", &[]),
        ("b1 get q", &["b1 got 1 0 again, 2 left"]),
    ]);
}

/// broker.md 8: only ready messages count, and the head is dropped, also one that just came back.
#[test]
fn drop_head() {
    check_all(&[
        ("a1 declare q x-max-length=I1", &["a1 declared q 0 0"]),
        ("a1 publish - q a", &[]),
        ("a1 get q", &["a1 got 1 a, 0 left"]),
        ("a1 publish - q b", &[]),
        ("a1 nack 1 requeue", &[]),
        ("a1 get q", &["a1 got 2 b, 0 left"]),
        ("a1 publish - q c", &[]),
        ("a1 publish - q d", &[]),
        ("a1 get q", &["a1 got 3 d, 0 left"]),
        ("a1 declare p x-max-length-bytes=I3", &["a1 declared p 0 0"]),
        ("a1 publish - p ab", &[]),
        ("a1 publish - p abcd", &[]),
        ("a1 get p", &["a1 empty"]),
    ]);
}

/// broker.md 7, 8: reject-publish nacks and keeps what is there; other queues have the message nevertheless.
#[test]
fn reject_publish() {
    check_all(&[
        ("a1 declare q x-max-length=I1 x-overflow=Sreject-publish", &["a1 declared q 0 0"]),
        ("a1 declare p", &["a1 declared p 0 0"]),
        ("a1 bind q amq.fanout -", &["a1 ok"]),
        ("a1 bind p amq.fanout -", &["a1 ok"]),
        ("a1 confirm", &["a1 ok"]),
        ("a1 publish amq.fanout k a", &["a1 ack 1"]),
        ("a1 publish amq.fanout k b", &["a1 nack 2 multiple"]),
        ("a1 declare p passive", &["a1 declared p 2 0"]),
        ("a1 get q", &["a1 got 1 a via amq.fanout k, 0 left"]),
        ("a1 publish amq.fanout k c", &["a1 ack 3"]),
    ]);
}

/// broker.md 8: reject-publish-dlx dead-letters the new message.
#[test]
fn reject_publish_dlx() {
    check_all(&[
        ("a1 declare d", &["a1 declared d 0 0"]),
        (
            "a1 declare q x-max-length=I1 x-overflow=Sreject-publish-dlx x-dead-letter-exchange=S \
             x-dead-letter-routing-key=Sd",
            &["a1 declared q 0 0"],
        ),
        ("a1 confirm", &["a1 ok"]),
        ("a1 publish - q a", &["a1 ack 1"]),
        ("a1 publish - q b", &["a1 nack 2 multiple"]),
        ("a1 declare d passive", &["a1 declared d 1 0"]),
        ("a1 get q", &["a1 got 1 a, 0 left"]),
    ]);
}

/// broker.md 6, 8, 9: a message to a consumer that waits is never ready.
#[test]
fn limits_do_not_hold_for_what_goes_straight_to_a_consumer() {
    check_all(&[
        ("a1 declare q x-max-length=I0", &["a1 declared q 0 0"]),
        ("a1 declare p x-message-ttl=I0", &["a1 declared p 0 0"]),
        ("a1 publish - q 0", &[]),
        ("a1 publish - p 0", &[]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("b1 consume p d", &["b1 consuming d"]),
        ("a1 publish - q 1", &["b1 deliver c 1 1"]),
        ("a1 publish - p 2", &["b1 deliver d 2 2"]),
        ("a1 declare r", &["a1 declared r 0 0"]),
        ("a1 publish - r 3 p.expiration=0", &[]),
        ("b1 consume r e", &["b1 consuming e"]),
        ("a1 publish - r 4 p.expiration=0", &["b1 deliver e 3 4"]),
    ]);
}

/// broker.md 9: only the head expires.
#[test]
fn only_the_head_expires() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 publish - q long p.expiration=60000", &[]),
        ("a1 publish - q short p.expiration=50", &[]),
        ("advance 200", &[]),
        ("a1 declare q passive", &["a1 declared q 2 0"]),
        ("a1 get q", &["a1 got 1 long, 0 left"]),
        ("a1 get q", &["a1 empty"]),
        ("a1 publish - q a p.expiration=50", &[]),
        ("advance 200", &[]),
        ("a1 declare q passive", &["a1 declared q 0 0"]),
    ]);
}

/// broker.md 9: the smaller deadline is taken once; unacked messages do not expire, and come back with the old one.
#[test]
fn deadlines_are_set_at_the_publish() {
    check_all(&[
        ("a1 declare q x-message-ttl=I800", &["a1 declared q 0 0"]),
        ("a1 publish - q a p.expiration=60000", &[]),
        ("a1 get q", &["a1 got 1 a, 0 left"]),
        ("advance 1000", &[]),
        ("a1 nack 1 requeue", &[]),
        ("a1 get q", &["a1 empty"]),
    ]);
}

/// broker.md 9: x-expires runs without consumers, and is started anew by declare and get.
#[test]
fn unused_queues_expire() {
    check_all(&[
        ("a1 declare q x-expires=I3000", &["a1 declared q 0 0"]),
        ("a1 publish - q x", &[]),
        ("advance 2000", &[]),
        ("a1 declare q passive", &["a1 declared q 1 0"]),
        ("advance 2000", &[]),
        ("a1 get q no_ack", &["a1 got 1 x, 0 left"]),
        ("advance 2000", &[]),
        ("a1 get q", &["a1 empty"]),
        ("a1 consume q c", &["a1 consuming c"]),
        ("advance 4000", &[]),
        ("a1 cancel c", &["a1 cancelled c"]),
        ("advance 1000", &[]),
        ("a1 declare q passive", &["a1 declared q 0 0"]),
        ("advance 4000", &[]),
        ("a1 declare q passive", &["a1 close 404 NOT_FOUND - no queue 'q' in vhost '/' at 50 10"]),
    ]);
}

/// broker.md 4, 15: names.
#[test]
fn names() {
    check_all(&[
        ("a1 declare -", &["a1 declared amq.gen-* 0 0"]),
        ("a1 publish - x lost", &[]),
        ("a1 bind - amq.fanout -", &["a1 ok"]),
        ("a1 publish amq.fanout k x", &[]),
        ("a1 get -", &["a1 got 1 x via amq.fanout k, 0 left"]),
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 bind - amq.direct -", &["a1 ok"]),
        ("a1 publish amq.direct q y", &[]),
        ("a1 get -", &["a1 got 2 y via amq.direct q, 0 left"]),
        ("a1 bind - amq.direct k", &["a1 ok"]),
        ("a1 publish amq.direct k z", &[]),
        ("a1 consume - c no_ack", &["a1 consuming c", "a1 deliver c 3 z via amq.direct k"]),
        ("a1 declare q\\n passive", &["a1 declared q 0 1"]),
        ("a1 consume q -", &["a1 consuming amq.ctag-*"]),
        ("a1 delete -", &["a1 deleted 0", "a1 cancel amq.ctag-*", "a1 cancel c"]),
    ]);
}

/// broker.md 12: priorities.
#[test]
fn priorities() {
    let mut rig = Rig::new(Line::V3_10);
    rig.prepare(&[
        "a1 declare q x-max-priority=I3",
        "a1 publish - q none",
        "a1 publish - q 0 p.priority=0",
        "a1 publish - q 1 p.priority=1",
        "a1 publish - q 2 p.priority=2",
        "a1 publish - q 3 p.priority=3",
        "a1 publish - q 9 p.priority=9",
    ]);
    rig.check(&[
        ("a1 get q", &["a1 got 1 3, 5 left"]),
        ("a1 get q", &["a1 got 2 9, 4 left"]),
        ("a1 get q", &["a1 got 3 2, 3 left"]),
        ("a1 nack 1 requeue", &[]),
        ("a1 get q", &["a1 got 4 3 again, 3 left"]),
        ("a1 get q", &["a1 got 5 1, 2 left"]),
        ("a1 get q", &["a1 got 6 none, 1 left"]),
    ]);
}

/// Messages that expire before one that is there already replace its timer, which is set again after each of them.
#[test]
fn timers_do_not_pile_up() {
    let mut rig = Rig::with(CoreConfig::default());
    rig.prepare(&["a1 declare q x-max-priority=I1", "a1 publish - q last p.expiration=3600000"]);
    for _ in 0..3000 {
        rig.prepare(&["a1 publish - q first p.priority=1 p.expiration=1", "advance 2"]);
    }
    let timers = rig.core.timers.len();
    assert!(timers <= 1025, "{timers}");
    rig.check(&[
        ("a1 declare q passive", &["a1 declared q 1 0"]),
        ("advance 3593999", &[]),
        ("a1 declare q passive", &["a1 declared q 1 0"]),
        ("advance 1", &[]),
        ("a1 declare q passive", &["a1 declared q 0 0"]),
    ]);
    assert_eq!(rig.core.next_timer(), None);
}
