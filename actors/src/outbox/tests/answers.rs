//! What waits for a peer that does not read.

use super::*;

/// PRO-17
#[actix::test]
async fn what_the_peer_alone_has_caused_is_told_from_what_the_application_has_settled() {
    let (outbox, _) = attached(false, 131_072);
    let deliver = |tag, consumer| {
        outbox.delivered(&[DeliveredTags { first: tag, last: tag, consumer: Some(consumer) }], 0).unwrap();
    };
    deliver(1, 7);
    deliver(2, 7);
    deliver(3, 7);
    deliver(4, NOBODY);
    outbox.settle(0, 2, 7, Outcome::Ack).unwrap();
    outbox.settle(0, 3, 7, Outcome::NotBegun).unwrap();
    outbox.settle(0, 4, NOBODY, Outcome::NotBegun).unwrap();
    let WaitingAnswers { caused, settled } = outbox.waiting_answers();
    assert_eq!((caused, settled), (21, 2 * 24));
    // They become frames in front of a method.
    outbox.append_method(Bytes::from_static(b"method"), FrameQueue::method).unwrap();
    let frames = outbox.waiting_answers();
    assert!(frames.caused > 21 && frames.settled > 2 * 21, "{frames:?}");
    let mut out = Vec::new();
    outbox.take(EPOCH, usize::MAX, &mut out);
    assert_eq!(outbox.waiting_answers(), WaitingAnswers::default());
    assert_eq!(out.concat().len(), 3 * 21 + 6);
}
