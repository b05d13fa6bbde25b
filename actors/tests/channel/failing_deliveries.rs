//! When a dropped delivery is requeued, by what its queue says about earlier ones. Over in-memory streams with a paused
//! clock, so that the waits are exact.

use std::time::Duration;

use actix_pika_actors::{
    OpenChannel,
    testing::{
        HandshakeScript, PeerMessage, RawFrame,
        protocol::{BasicProperties, basic},
    },
};
use amq_protocol::types::{AMQPValue, FieldTable};
use tokio::time::{Instant, pause};

use crate::common::{Bench, TAG};

/// A delivery with these counts in its headers, and whether it is redelivered.
fn delivery(tag: u64, redelivered: bool, counts: &[(&str, i64)]) -> Vec<RawFrame> {
    let mut headers = FieldTable::default();
    for (name, count) in counts {
        headers.insert((*name).into(), AMQPValue::LongLongInt(*count));
    }
    let properties = BasicProperties::default().with_headers(headers);
    let names =
        basic::Deliver { consumer_tag: TAG.into(), delivery_tag: tag, redelivered, ..Default::default() };
    let content = PeerMessage::from("x").properties(&properties);
    std::iter::once(RawFrame::method(1, names)).chain(content.frames(1, 4096)).collect()
}

/// CNS-20
#[actix::test]
async fn a_dropped_delivery_waits_by_the_failures_that_its_queue_counts() {
    pause();
    let script = HandshakeScript::new().tune(2047, 131_072, 0);
    let mut bench = Bench::open_in_memory(&script, |_| {}).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let mut deliveries = bench.consume(&channel).await;
    type Headers<'a> = &'a [(&'a str, i64)];
    let cases: [(bool, Headers<'_>, u64); 9] = [
        (false, &[], 0),
        // RabbitMQ 3.10 counts from the first delivery on.
        (false, &[("x-delivery-count", 0)], 0),
        (true, &[("x-delivery-count", 1)], 100),
        (true, &[("x-delivery-count", 4)], 800),
        (true, &[("x-delivery-count", 100)], 10_000),
        // RabbitMQ 4.3: a dead letter, or one that came back with basic.nack, has not failed.
        (true, &[("x-acquired-count", 0)], 0),
        (true, &[("x-acquired-count", 3)], 0),
        (true, &[("x-acquired-count", 5), ("x-delivery-count", 2)], 200),
        // A classic queue does not count.
        (true, &[], 100),
    ];
    for (tag, (redelivered, counts, wait)) in (1..).zip(cases) {
        bench.socket.send_frames(&delivery(tag, redelivered, counts)).await.unwrap();
        let dropped_at = Instant::now();
        drop(deliveries.next().await.unwrap());
        assert_eq!(channel.outbox.load().unsettled, usize::from(wait > 0), "{redelivered} {counts:?}");
        bench.socket.set_time_limit(Duration::from_secs(60));
        let reject = bench.socket.expect::<basic::Reject>(1).await.unwrap();
        assert_eq!((reject.delivery_tag, reject.requeue), (tag, true));
        let waited = dropped_at.elapsed().as_millis() as u64;
        // A paused clock moves in steps of a millisecond.
        assert!((wait..=wait + 2).contains(&waited), "{redelivered} {counts:?}: {waited} ms");
    }
}
