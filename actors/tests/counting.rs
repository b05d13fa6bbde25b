//! The number of reads and writes per burst of messages.

#![allow(missing_docs, unreachable_pub, dead_code)]

mod common;

use actix_pika_actors::{
    Consume, OpenChannel,
    testing::{GetIoCounts, IoCounts, PeerMessage, RawFrame, protocol::basic},
};

use self::common::{Bench, TAG, TryPublish};

async fn counts(bench: &Bench) -> IoCounts {
    bench.client.supervisor.send(GetIoCounts).await.unwrap().expect("a connection")
}

fn burst(deliveries: u64) -> Vec<RawFrame> {
    let one = |tag| {
        let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag: tag, ..Default::default() };
        std::iter::once(RawFrame::method(1, names))
            .chain(PeerMessage::from("sixteen octets..").frames(1, 4096))
    };
    (1..=deliveries).flat_map(one).collect()
}

#[actix::test]
async fn a_burst_of_publishes_is_one_write() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let before = counts(&bench).await;
    for _ in 0..500 {
        channel.outbox.try_publish_text("jobs", "sixteen octets..");
    }
    for _ in 0..500 {
        bench.socket.expect_publish(1).await.unwrap();
    }
    assert_eq!(counts(&bench).await.writes - before.writes, 1);
}

#[actix::test]
async fn a_burst_of_confirms_is_one_read() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    for _ in 0..500 {
        channel.outbox.try_publish_text("jobs", "x");
    }
    for _ in 0..500 {
        bench.socket.expect_publish(1).await.unwrap();
    }
    let before = counts(&bench).await;
    let acks: Vec<_> =
        (1..=500).map(|tag| RawFrame::method(1, basic::Ack { delivery_tag: tag, multiple: false })).collect();
    bench.socket.send_frames(&acks).await.unwrap();
    bench.round_trip(&channel).await;
    assert_eq!(channel.outbox.load().unconfirmed, 0);
    // One for the acks, and one for the reply of the round trip if it comes later.
    assert!(counts(&bench).await.reads - before.reads <= 2);
}

#[actix::test]
async fn a_burst_of_deliveries_is_one_read_and_one_write() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume_as(&channel, Consume::new().tag(TAG).prefetch(500)).await;
    let before = counts(&bench).await;
    bench.socket.send_frames(&burst(500)).await.unwrap();
    for _ in 0..500 {
        deliveries.next().await.unwrap().ack().unwrap();
    }
    let ack = bench.socket.expect::<basic::Ack>(1).await.unwrap();
    assert_eq!((ack.delivery_tag, ack.multiple), (500, true));
    let after = counts(&bench).await;
    assert_eq!((after.reads - before.reads, after.writes - before.writes), (1, 1));
}
