//! Quorum queues: broker.md sections 5, 8, 11 and 16.

use super::*;

fn headers(rig: &Rig, stored: &Stored, by: HandOut) -> Vec<(&'static str, i64)> {
    stored.headers_to_add(rig.queue.settings(), by).collect()
}

/// Section 5: from 4.0 on, returned messages come first, in the order of their return.
#[test]
fn returned_messages_form_a_line_of_their_own() {
    for line in [Line::V4_0, Line::V4_3] {
        let mut rig = Rig::quorum(line, Some(20));
        rig.publish("0 1 2 3 4");
        let mut taken = rig.take_many(3);
        let (zero, one) = (taken.remove(0), taken.remove(0));
        rig.requeue(vec![one], Return::Reject);
        rig.requeue(vec![zero], Return::Reject);
        assert_eq!(rig.drain(), "1 0 3 4", "{line:?}");
    }
}

/// Section 5, 3.10: without a delivery limit what is returned goes to the end.
#[test]
fn up_to_3_13_returned_messages_go_to_the_end() {
    for line in [Line::V3_10, Line::V3_13] {
        let mut rig = Rig::quorum(line, None);
        rig.publish("0 1 2 3 4");
        let mut taken = rig.take_many(3);
        let (zero, one) = (taken.remove(0), taken.remove(0));
        rig.requeue(vec![one], Return::Reject);
        rig.requeue(vec![zero], Return::Reject);
        assert_eq!(rig.drain(), "3 4 1 0", "{line:?}");
        rig.publish("3");
        let taken = taken.into_iter().chain(rig.take_many(1)).collect();
        rig.publish("x");
        rig.requeue(taken, Return::Nack);
        assert_eq!(rig.drain(), "x 2 3");
    }
}

/// With a delivery limit, or if a channel or a connection ends, they come first in every line.
#[test]
fn a_limit_or_an_end_returns_to_the_front() {
    for line in LINES {
        for (limit, why) in [
            (None, Return::ChannelClosed),
            (None, Return::ConnectionLost),
            (Some(5), Return::Nack),
            (Some(5), Return::Reject),
        ] {
            let mut rig = Rig::quorum(line, limit);
            rig.publish("0 1 2 3");
            let taken = rig.take_many(3);
            rig.requeue(taken, why);
            assert_eq!(rig.drain(), "0 1 2 3", "{line:?} {why:?}");
        }
    }
}

/// Section 11: n redeliveries are allowed, the return after that dead-letters.
#[test]
fn the_limit_is_checked_at_the_return() {
    for line in LINES {
        let mut rig = Rig::quorum(line, Some(2));
        rig.publish("a b");
        for returns in 0..3 {
            assert_eq!(rig.died(), "", "{line:?} {returns}");
            let taken = rig.take();
            assert_eq!(taken.redelivered, returns > 0);
            rig.requeue(vec![taken], Return::Reject);
        }
        assert_eq!(
            (rig.died().as_str(), rig.queue.unacked(), rig.drain().as_str()),
            ("a:delivery_limit", 0, "b")
        );
    }
}

/// Section 11, 4.3: a nack and a recover do not count to the limit; a reject and a lost connection do.
#[test]
fn what_counts_to_the_limit() {
    use Return::{ChannelClosed, ConnectionLost, Nack, Recover, Reject, TimedOut};
    for line in LINES {
        for why in [Nack, Recover, Reject, ChannelClosed, ConnectionLost, TimedOut] {
            let mut rig = Rig::quorum(line, Some(2));
            rig.publish("a");
            let mut deliveries = 0;
            while rig.queue.ready() > 0 && deliveries < 10 {
                deliveries += 1;
                let taken = rig.take();
                rig.requeue(vec![taken], why);
            }
            let counts = line < Line::V4_3 || matches!(why, Reject | ChannelClosed | ConnectionLost);
            assert_eq!(deliveries, if counts { 3 } else { 10 }, "{line:?} {why:?}");
        }
    }
}

/// Sections 11 and 16: the headers of a delivery.
#[test]
fn headers_tell_the_counts() {
    let delivery = |count| ("x-delivery-count", count);
    let acquired = |count| ("x-acquired-count", count);
    for (line, expected) in [
        (Line::V3_10, [vec![delivery(0)], vec![delivery(1)], vec![delivery(2)]]),
        (Line::V3_13, [vec![], vec![delivery(1)], vec![delivery(2)]]),
        (Line::V4_0, [vec![], vec![delivery(1)], vec![delivery(2)]]),
        (Line::V4_3, [vec![], vec![acquired(1)], vec![acquired(2), delivery(1)]]),
    ] {
        let mut rig = Rig::quorum(line, None);
        rig.publish("a");
        for (why, expected) in [Return::Nack, Return::Reject, Return::Reject].into_iter().zip(expected) {
            let taken = rig.take();
            assert_eq!(headers(&rig, &taken, HandOut::Get), expected, "{line:?}");
            // Asked of 3.10.8: only basic.get tells a count of 0.
            let told = expected.iter().copied().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
            assert_eq!(headers(&rig, &taken, HandOut::Deliver), told, "{line:?}");
            rig.requeue(vec![taken], why);
        }
    }
}

/// Section 11: priorities without x-max-priority.
#[test]
fn priorities_differ_by_line() {
    let published = [None, Some(0), Some(1), Some(4), Some(5), Some(9), Some(200), Some(4), Some(5), Some(0)];
    for (line, expected) in [
        (Line::V3_10, "none 0 1 4 5 9 200 4 5 0"),
        (Line::V3_13, "none 0 1 4 5 9 200 4 5 0"),
        (Line::V4_0, "5 9 none 200 5 0 1 4 4 0"),
        (Line::V4_3, "200 9 5 5 none 4 4 1 0 0"),
    ] {
        let mut rig = Rig::quorum(line, None);
        rig.publish_priorities(&published);
        assert_eq!(rig.queue.ready(), 10);
        assert_eq!(rig.drain(), expected, "{line:?}");
    }
}

/// Section 11, 4.3: 31 is the highest priority.
#[test]
fn strict_priorities_end_at_31() {
    let mut rig = Rig::quorum(Line::V4_3, None);
    rig.publish_priorities(&[Some(30), Some(31), Some(255), Some(32), None, Some(3)]);
    assert_eq!(rig.ready(), "31 255 32 30 none 3");
}

/// Section 8: reject-publish is soft: what is over the limit is noticed by the publish after it.
#[test]
fn reject_publish_is_soft() {
    let mut rig = Rig::quorum(Line::V4_0, None);
    let mut settings = rig.queue.settings().clone();
    settings.max_length = Some(5);
    settings.overflow = Overflow::RejectPublish;
    rig.queue = Queue::new(settings);
    rig.publish("0 1 2 3 4 5");
    assert_eq!((rig.push(message("6")), rig.queue.ready()), (Pushed::Refused, 6));
    // It takes messages again when four fifths of the limit are left.
    let taken = rig.take_many(1);
    assert_eq!(rig.push(message("6")), Pushed::Refused);
    rig.take();
    assert_eq!(rig.push(message("6")), Pushed::Kept);
    rig.requeue(taken, Return::Nack);
    assert_eq!((rig.push(message("7")), rig.died().as_str()), (Pushed::Refused, ""));
}

/// Section 8: reject-publish-dlx behaves as drop-head.
#[test]
fn the_other_overflow_drops_the_head() {
    for overflow in [Overflow::DropHead, Overflow::RejectPublishDeadLetter] {
        let mut settings = settings(Line::V4_0, QueueKind::Quorum { delivery_limit: None });
        settings.max_length = Some(2);
        settings.overflow = overflow;
        let mut rig = Rig::new(settings);
        rig.publish("a b c");
        assert_eq!((rig.died().as_str(), rig.drain().as_str()), ("a:maxlen", "b c"));
    }
}

/// Section 9 holds for the head of the line of returns, too.
#[test]
fn a_returned_message_keeps_its_deadline() {
    let mut rig = Rig::quorum(Line::V4_0, None);
    rig.push(expiring("a", 10));
    rig.push(expiring("b", 5));
    let taken = rig.take();
    rig.now = at(7);
    rig.requeue(vec![taken], Return::Nack);
    assert_eq!((rig.died().as_str(), rig.queue.next_expiry()), ("", Some(at(10))));
    rig.pass_time(3);
    assert_eq!((rig.died().as_str(), rig.queue.ready()), ("a:expired b:expired", 0));
}

#[test]
fn purge_and_restart() {
    let mut rig = Rig::quorum(Line::V3_10, Some(5));
    rig.publish("0 1 2 3");
    let taken = rig.take_many(2);
    rig.requeue(taken, Return::ConnectionLost);
    rig.queue.restart(rig.now, false);
    assert_eq!((rig.ready().as_str(), rig.queue.ready_bytes()), ("0 1 2 3", 4));
    assert_eq!((rig.queue.purge(), rig.queue.ready()), (4, 0));
}
