//! Classic queues: broker.md sections 5, 8, 9 and 12.

use super::*;

/// Section 5: each message is put back at its own place.
#[test]
fn a_requeued_message_returns_to_its_place() {
    let mut rig = Rig::classic(|_| {});
    rig.publish("0 1 2 3 4");
    let mut taken = rig.take_many(3);
    let (zero, one) = (taken.remove(0), taken.remove(0));
    rig.requeue(vec![one], Return::Reject);
    rig.requeue(vec![zero], Return::Nack);
    assert_eq!(rig.drain(), "0 1 3 4");
    rig.requeue(taken, Return::ChannelClosed);
    assert_eq!(rig.drain(), "2");
}

/// Section 5: after the original, also between others that are ready.
#[test]
fn a_message_returns_between_others() {
    let mut rig = Rig::classic(|_| {});
    rig.publish("0 1 2 3");
    let mut taken = rig.take_many(3);
    let [zero, two, one] = [taken.remove(0), taken.remove(1), taken.remove(0)];
    for (stored, expected) in [(zero, "0 3"), (two, "0 2 3"), (one, "0 1 2 3")] {
        rig.requeue(vec![stored], Return::Nack);
        assert_eq!(rig.ready(), expected);
    }
    assert!(rig.take_many(3).iter().all(|stored| stored.redelivered));
    assert!(!rig.take().redelivered);
}

/// Section 5: many come back one by one, of two consumers that hold every other one. Each takes its place without moving
/// the others.
#[test]
fn many_messages_return_to_their_places() {
    let mut rig = Rig::classic(|_| {});
    let published: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    rig.publish(&published.join(" "));
    let (even, odd): (Vec<_>, Vec<_>) =
        rig.take_many(10_000).into_iter().partition(|stored| stored.place % 2 == 0);
    for stored in even.into_iter().chain(odd) {
        rig.requeue(vec![stored], Return::Nack);
    }
    assert_eq!((rig.queue.ready(), rig.queue.unacked()), (20_000, 0));
    assert!(rig.queue.iter().map(body).eq(published));
    let redelivered = rig.take_many(20_000).iter().filter(|stored| stored.redelivered).count();
    assert_eq!(redelivered, 10_000);
}

/// Section 5: counts are of ready messages only, and purge leaves the unacked ones.
#[test]
fn counts_are_of_ready_messages() {
    let mut rig = Rig::classic(|_| {});
    rig.publish("aa b ccc");
    let first = rig.take();
    assert_eq!((rig.queue.ready(), rig.queue.unacked(), rig.queue.ready_bytes()), (2, 1, 4));
    assert_eq!(rig.queue.purge(), 2);
    assert_eq!((rig.queue.ready(), rig.queue.unacked(), rig.queue.ready_bytes()), (0, 1, 0));
    rig.requeue(vec![first], Return::Nack);
    assert_eq!((rig.queue.ready(), rig.queue.unacked(), rig.queue.ready_bytes()), (1, 0, 2));
    let first = rig.take();
    rig.queue.settle(&first);
    assert_eq!((rig.queue.ready(), rig.queue.unacked()), (0, 0));
    assert_eq!(rig.died(), "");
}

/// Section 6: what goes straight to a consumer counts for no limit, and does not expire.
#[test]
fn a_message_that_passes_is_never_ready() {
    let mut rig = Rig::classic(|settings| {
        settings.message_ttl = Some(0);
        settings.max_length = Some(0);
    });
    let passed = rig.queue.pass(rig.now, message("a"));
    assert_eq!((body(&passed), rig.queue.ready(), rig.queue.unacked()), ("a".to_owned(), 0, 1));
    rig.publish("b");
    assert_eq!((rig.died().as_str(), rig.queue.ready()), ("b:maxlen", 0));
}

/// Section 8: drop-head drops from the delivery end, also the message that was just requeued.
#[test]
fn drop_head_drops_from_the_delivery_end() {
    let mut rig = Rig::classic(|settings| settings.max_length = Some(2));
    rig.publish("0 1 2 3");
    assert_eq!((rig.died().as_str(), rig.ready().as_str()), ("0:maxlen 1:maxlen", "2 3"));
    let mut one = Rig::classic(|settings| settings.max_length = Some(1));
    one.publish("a");
    let a = one.take();
    one.publish("b");
    one.requeue(vec![a], Return::Nack);
    assert_eq!((one.died().as_str(), one.ready().as_str()), ("a:maxlen", "b"));
}

/// Section 8: bytes are those of bodies, and a message larger than the limit empties the queue.
#[test]
fn drop_head_by_bytes() {
    let mut rig = Rig::classic(|settings| settings.max_bytes = Some(5));
    rig.publish("aa bb c");
    assert_eq!(rig.queue.ready_bytes(), 5);
    rig.publish("dd");
    assert_eq!((rig.died().as_str(), rig.ready().as_str()), ("aa:maxlen", "bb c dd"));
    rig.publish("longer");
    assert_eq!(
        (rig.died().as_str(), rig.ready().as_str()),
        ("bb:maxlen c:maxlen dd:maxlen longer:maxlen", "")
    );
    rig.publish("x");
    assert_eq!((rig.queue.ready(), rig.queue.ready_bytes()), (1, 1));
}

/// Section 8: in a priority queue the head is the highest priority.
#[test]
fn drop_head_of_a_priority_queue_drops_the_highest() {
    let mut rig = Rig::classic(|settings| {
        settings.kind = QueueKind::Classic { max_priority: Some(3) };
        settings.max_length = Some(2);
    });
    rig.publish_priorities(&[Some(3), Some(0), Some(1), Some(2)]);
    assert_eq!((rig.died().as_str(), rig.drain().as_str()), ("3:maxlen 2:maxlen", "1 0"));
}

/// Section 8: reject-publish keeps what is there, and only ready messages count.
#[test]
fn reject_publish_refuses_the_new_message() {
    for (overflow, died) in
        [(Overflow::RejectPublish, ""), (Overflow::RejectPublishDeadLetter, "c:maxlen d:maxlen")]
    {
        let mut rig = Rig::classic(|settings| {
            settings.max_length = Some(2);
            settings.max_bytes = Some(3);
            settings.overflow = overflow;
        });
        rig.publish("a b");
        assert_eq!((rig.push(message("c")), rig.push(message("d"))), (Pushed::Refused, Pushed::Refused));
        assert_eq!((rig.died().as_str(), rig.ready().as_str()), (died, "a b"));
        let taken = rig.take();
        rig.publish("e");
        // A requeue is not refused, and drops nothing.
        rig.requeue(vec![taken], Return::Nack);
        assert_eq!((rig.died().as_str(), rig.drain().as_str()), ("", "a b e"));
        assert_eq!(rig.push(message("long")), Pushed::Refused);
    }
}

/// Section 9: the smaller of both times is taken once, at enqueue.
#[test]
fn the_smaller_time_to_live_counts() {
    let mut rig = Rig::classic(|settings| settings.message_ttl = Some(100));
    rig.push(expiring("message", 50));
    assert_eq!(rig.queue.next_expiry(), Some(at(50)));
    rig.pass_time(49);
    assert_eq!(rig.died(), "");
    rig.pass_time(1);
    assert_eq!(rig.died(), "message:expired");
    rig.push(expiring("queue", 5000));
    assert_eq!(rig.queue.next_expiry(), Some(at(150)));
    // A requeued message keeps its deadline, and does not expire while it is unacked.
    let taken = rig.take();
    rig.pass_time(200);
    assert_eq!((rig.died().as_str(), rig.queue.next_expiry()), ("", None));
    rig.requeue(vec![taken], Return::Nack);
    assert_eq!(rig.died(), "queue:expired");
}

/// Section 9: only the head is looked at.
#[test]
fn an_expired_message_stays_behind_a_live_one() {
    let mut rig = Rig::classic(|_| {});
    rig.push(expiring("long", 1000));
    rig.push(expiring("short", 10));
    rig.push(message("unlimited"));
    rig.push(expiring("last", 10));
    rig.pass_time(500);
    assert_eq!((rig.died().as_str(), rig.queue.ready()), ("", 4));
    // It goes the moment the one before it is taken.
    assert_eq!(body(&rig.take()), "long");
    rig.pass_time(0);
    assert_eq!((rig.died().as_str(), rig.ready().as_str()), ("short:expired", "unlimited last"));
    assert_eq!(
        (body(&rig.take()).as_str(), rig.drain().as_str(), rig.died().as_str()),
        ("unlimited", "", "last:expired")
    );
}

/// Section 9: in a priority queue the head of the whole queue is meant.
#[test]
fn a_live_message_of_higher_priority_keeps_an_expired_one() {
    let mut rig = Rig::classic(|settings| settings.kind = QueueKind::Classic { max_priority: Some(5) });
    rig.push(expiring("low", 10));
    rig.push(message_with("high", |properties| properties.with_priority(5)));
    rig.pass_time(500);
    assert_eq!((rig.died().as_str(), rig.queue.ready()), ("", 2));
    rig.take();
    rig.pass_time(0);
    assert_eq!(rig.died(), "low:expired");
}

/// Section 9: a time to live of 0 expires at once, unless the message passes to a consumer.
#[test]
fn a_time_to_live_of_zero_expires_at_once() {
    let mut rig = Rig::classic(|_| {});
    assert_eq!(rig.push(expiring("a", 0)), Pushed::Kept);
    assert_eq!((rig.died().as_str(), rig.queue.ready()), ("a:expired", 0));
    assert!(!rig.queue.pass(rig.now, expiring("b", 0)).redelivered);
    // Behind another one it stays until that goes.
    rig.publish("head");
    rig.push(expiring("c", 0));
    assert_eq!((rig.died().as_str(), rig.queue.ready()), ("", 2));
    assert_eq!((rig.drain().as_str(), rig.died().as_str()), ("head", "c:expired"));
}

/// Section 12: priorities above the maximum count as it, absent as 0, and equals are first in, first out.
#[test]
fn priorities_have_a_maximum() {
    let mut rig = Rig::classic(|settings| settings.kind = QueueKind::Classic { max_priority: Some(3) });
    rig.publish_priorities(&[None, Some(0), Some(1), Some(2), Some(3), Some(9)]);
    assert_eq!(rig.ready(), "3 9 2 1 none 0");
    let taken = rig.take();
    rig.publish_priorities(&[Some(255)]);
    // A requeued message returns to the front of its own priority.
    rig.requeue(vec![taken], Return::Nack);
    assert_eq!(rig.drain(), "3 9 255 2 1 none 0");
}

#[test]
fn a_queue_may_have_a_single_priority() {
    let mut rig = Rig::classic(|settings| settings.kind = QueueKind::Classic { max_priority: Some(0) });
    rig.publish_priorities(&[None, Some(5), Some(0)]);
    assert_eq!((rig.queue.ready(), rig.drain().as_str()), (3, "none 5 0"));
}

/// Section 9: deadlines start anew at a restart, which only persistent messages survive.
#[test]
fn a_restart_keeps_persistent_messages() {
    let mut rig = Rig::classic(|settings| settings.message_ttl = Some(100));
    rig.publish("transient");
    rig.push(persistent("kept"));
    rig.pass_time(60);
    rig.queue.restart(rig.now, false);
    assert_eq!(
        (rig.ready().as_str(), rig.queue.ready_bytes(), rig.queue.next_expiry()),
        ("kept", 4, Some(at(160)))
    );
    rig.publish("transient");
    rig.queue.restart(rig.now, true);
    assert_eq!(rig.ready(), "kept transient");
}

#[test]
fn classic_deliveries_have_no_headers() {
    let mut rig = Rig::classic(|_| {});
    rig.publish("a");
    let taken = rig.take();
    rig.requeue(vec![taken], Return::Reject);
    assert_eq!(rig.take().headers_to_add(rig.queue.settings(), HandOut::Get).count(), 0);
}
