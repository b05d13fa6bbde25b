//! What an outbox counts, and when.

use super::*;

/// Each answer and outcome counts once, also where one frame covers many; what is sent again does not count
/// again, and a closed channel counts nothing more.
#[actix::test]
async fn publishes_and_deliveries_are_counted_by_outcome() {
    let (tally, flushes) = (Arc::<ConnectionTally>::default(), Flushes::default().start());
    let outbox = Arc::new(Outbox::sharing(config(true), Arc::default(), tally.clone()));
    tally.add(&outbox);
    let flush: Arc<Recipient<Flush>> = Arc::new(flushes.recipient());
    outbox.attach(EPOCH, flush.clone(), 131_072, false);
    let body = Bytes::from_static(b"x");
    for n in 1..=8 {
        publish(&outbox, &n.to_string(), &body);
    }
    take_all(&outbox, usize::MAX);
    let returned = Return {
        code: 312,
        text: "NO_ROUTE".into(),
        exchange: "ex".into(),
        routing_key: "2".into(),
        properties: Ok(Properties::new()),
        body: body.clone(),
    };
    assert!(outbox.returned(returned, &[0, 0]).is_none());
    outbox.ack(4, true).unwrap();
    outbox.ack(4, true).unwrap();
    outbox.nack(6, false).unwrap();
    // Of two consumers, and one delivery that needs no settling.
    let batch = [
        DeliveredTags { first: 1, last: 7, consumer: Some(1) },
        DeliveredTags { first: 8, last: 8, consumer: None },
    ];
    outbox.delivered(&batch, 3).unwrap();
    outbox.settle(0, 2, 1, Outcome::AckAll).unwrap();
    outbox.settle(0, 3, 1, Outcome::Nack { requeue: false }).unwrap();
    outbox.settle(0, 4, 1, Outcome::Reject { requeue: true }).unwrap();
    outbox.settle(0, 5, 1, Outcome::NotBegun).unwrap();
    outbox.settle(0, 5, 1, Outcome::Ack).unwrap_err();
    let expected = ChannelCounters {
        published: 8,
        confirmed: 3,
        publishes_nacked: 1,
        returned: 1,
        delivered: 8,
        redelivered: 3,
        acked: 2,
        deliveries_nacked: 2,
        deliveries_rejected: 1,
        requeued: 2,
    };
    assert_eq!(outbox.counters(), expected);

    // 5, 7 and 8 are sent again.
    let error = Error::connection_closed("lost", None);
    outbox.detach(&Outage { error: &error, fail: false, hard_error: false });
    outbox.attach(EPOCH, flush, 131_072, true);
    outbox.finish_recovery(&Default::default(), None);
    take_all(&outbox, usize::MAX);
    outbox.ack(2, true).unwrap();
    outbox.settle(0, 6, 1, Outcome::Ack).unwrap_err();
    let expected = ChannelCounters { confirmed: 5, ..expected };
    assert_eq!(outbox.counters(), expected);
    assert_eq!(tally.counters(Instant::now()).channels, expected);

    outbox.end(Error::channel_closed("over", None), FinalFrames::None);
    outbox.delivered(&[DeliveredTags { first: 1, last: 1, consumer: Some(1) }], 0).unwrap();
    assert_eq!(outbox.counters(), expected);
    drop(outbox);
    assert_eq!(tally.counters(Instant::now()).channels, expected, "of a closed channel");
}

#[actix::test]
async fn publishes_without_confirms_are_counted_when_they_are_taken_into_the_window() {
    let (outbox, _) = attached(false, 131_072);
    for _ in 0..5 {
        publish(&outbox, "key", &Bytes::from_static(b"x"));
    }
    assert_eq!(outbox.counters(), ChannelCounters { published: 5, ..ChannelCounters::default() });
}

#[actix::test]
async fn a_deferred_nack_is_counted_when_it_is_final() {
    let (outbox, _) = attached(true, 131_072);
    let error = Error::connection_closed("lost", None);
    outbox.detach(&Outage { error: &error, fail: false, hard_error: false });
    let (_, flushes) = attached(true, 131_072);
    let flush = Arc::new(Flushes(flushes).start().recipient());
    outbox.attach(EPOCH, flush, 131_072, true);
    outbox.finish_recovery(&Default::default(), Some(Instant::now() + Duration::from_secs(3600)));
    publish(&outbox, "key", &Bytes::from_static(b"x"));
    take_all(&outbox, usize::MAX);
    assert!(outbox.nack(1, false).unwrap());
    assert_eq!(outbox.counters().publishes_nacked, 0);
    outbox.end_nack_retry();
    assert_eq!((outbox.counters().publishes_nacked, outbox.counters().published), (1, 1));
}
