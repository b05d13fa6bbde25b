//! Confirms of publishes that no connection has taken.

use super::*;
use crate::outbox::attachment::Outage;

/// A broker that works has read a publish before it confirms it.
#[actix::test]
async fn a_confirm_of_a_publish_that_is_not_written_changes_nothing() {
    let (outbox, _) = attached(true, 131_072);
    let body = Bytes::from_static(b"x");
    let unknown = |tag: u64, left: usize| {
        for multiple in [false, true] {
            assert_eq!((outbox.ack(tag, multiple), outbox.nack(tag, multiple)), (Err(()), Err(())), "{tag}");
        }
        assert_eq!(outbox.load().unconfirmed, left, "{tag}");
    };
    unknown(1, 0);
    publish(&outbox, "key", &body);
    unknown(1, 1);
    take_all(&outbox, usize::MAX);
    publish(&outbox, "key", &body);
    publish(&outbox, "key", &body);
    unknown(2, 3);
    unknown(3, 3);
    unknown(u64::MAX, 3);
    // All that is written.
    outbox.ack(0, true).unwrap();
    assert_eq!(outbox.load().unconfirmed, 2);
    outbox.ack(1, false).unwrap();
    unknown(2, 2);
    take_all(&outbox, usize::MAX);
    outbox.ack(2, false).unwrap();

    // On the next connection, the third one is to be written again, as its first.
    let lost = Error::connection_closed("lost", None);
    outbox.detach(&Outage { error: &lost, fail: false, hard_error: false });
    let connection = Arc::new(Flushes::default().start().recipient());
    outbox.attach(EPOCH, connection, 131_072, true);
    unknown(3, 1);
    outbox.finish_recovery(&Default::default(), None);
    unknown(1, 1);
    take_all(&outbox, usize::MAX);
    unknown(2, 1);
    outbox.ack(1, false).unwrap();
    assert_eq!(outbox.load().unconfirmed, 0);
}
