//! Bodies over a limit of this client: they are skipped, and channel and connection go on.

use actix_pika_actors::{
    ConnectionOptions, Consume, ErrorKind, Get, OpenChannel, OversizedDelivery, Publish,
    testing::{
        PeerMessage, PeerSocket, RawFrame,
        protocol::{BasicProperties, basic},
    },
};

use crate::common::{Bench, TAG, ask};

const LIMIT: usize = 20_000;

async fn bench() -> Bench {
    let set = |options: &mut ConnectionOptions| options.body_max = LIMIT as u64;
    Bench::open_with(&Default::default(), set).await
}

fn body(bytes: usize) -> PeerMessage {
    PeerMessage::from(vec![b'x'; bytes]).body_frame_size(5000 - 8)
}

/// PRO-09: by consume; a body at the limit is accepted, also behind one that is skipped.
#[actix::test]
async fn a_delivery_over_the_limit_is_settled_and_the_next_is_delivered() {
    let mut bench = bench().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let options = Consume::new().tag(TAG).oversized(OversizedDelivery::Reject);
    let mut deliveries = bench.consume_as(&channel, options).await;
    for (tag, bytes) in [(1, LIMIT), (2, LIMIT + 1), (3, 4 * LIMIT), (4, LIMIT)] {
        bench.socket.deliver(1, TAG, tag, body(bytes)).await.unwrap();
    }
    for tag in [1, 4] {
        let delivery = deliveries.next().await.unwrap();
        assert_eq!((delivery.delivery_tag(), delivery.body().len()), (tag, LIMIT));
    }
    for tag in [2, 3] {
        let reject = bench.socket.expect::<basic::Reject>(1).await.unwrap();
        assert_eq!((reject.delivery_tag, reject.requeue), (tag, false));
    }
    bench.assert_works(2).await;
}

/// PRO-09: by get.
#[actix::test]
async fn a_get_over_the_limit_fails_and_the_message_returns() {
    let mut bench = bench().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    for tag in 1..=2 {
        let call = ask(&channel.actor, Get::new("jobs"));
        bench.socket.expect::<basic::Get>(1).await.unwrap();
        bench.socket.get_ok(1, tag, 0, body(LIMIT + 1)).await.unwrap();
        let error = call.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Limit, None));
        assert!(error.to_string().contains("20001") && error.to_string().contains("jobs"), "{error}");
        let reject = bench.socket.expect::<basic::Reject>(1).await.unwrap();
        assert_eq!((reject.delivery_tag, reject.requeue), (tag, true));
    }
    bench.assert_works(2).await;
}

/// A publish that comes back fails, though its body is not read.
#[actix::test]
async fn a_return_over_the_limit_fails_its_publish() {
    let mut bench = bench().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let call = ask(&channel.actor, Publish::new("", "nowhere", vec![b'x'; LIMIT + 1]));
    bench.socket.expect_publish(1).await.unwrap();
    let back = body(LIMIT + 1).published_to("", "nowhere");
    bench.socket.return_message(1, 312, "NO_ROUTE", back).await.unwrap();
    bench.socket.confirm(1, 1, false).await.unwrap();
    let error = call.answer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable);
    assert!(error.returned().unwrap().body.is_empty());
    bench.assert_works(2).await;
}

/// Sends the beginning of a delivery: method, header, and this many bytes of its body.
async fn begin(socket: &mut PeerSocket, channel: u16, announced: u64, bytes: usize) {
    let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag: 1, ..Default::default() };
    let header = RawFrame::header(channel, announced, &BasicProperties::default());
    socket.send_frames(&[RawFrame::method(channel, names), header]).await.unwrap();
    for part in vec![b'x'; bytes].chunks(100_000) {
        socket.send_frames(&[RawFrame::body(channel, part)]).await.unwrap();
    }
}

/// PRO-19: of incomplete bodies over the limit of the connection the largest is skipped, and returns to its queue;
/// the channels go on.
#[actix::test]
async fn the_largest_incomplete_body_makes_room_for_the_others() {
    let set = |options: &mut ConnectionOptions| options.partial_body_max = 1_000_000;
    let mut bench = Bench::open_with(&Default::default(), set).await;
    let mut all = Vec::new();
    for number in 1..=3 {
        let channel = bench.channel(number, OpenChannel::new()).await;
        all.push((bench.consume(&channel).await, channel));
    }
    begin(&mut bench.socket, 1, 400_000, 300_000).await;
    begin(&mut bench.socket, 2, 600_000, 500_000).await;
    begin(&mut bench.socket, 3, 400_000, 300_000).await;
    for number in 1..=3 {
        bench.socket.send_frames(&[RawFrame::body(number, vec![b'x'; 100_000])]).await.unwrap();
    }
    for (number, bytes) in [(0, 400_000), (2, 400_000)] {
        let (deliveries, _) = &mut all[number];
        assert_eq!(deliveries.next().await.unwrap().body().len(), bytes);
    }
    // It waits for a second.
    let nack = bench.socket.expect::<basic::Nack>(2).await.unwrap();
    assert_eq!((nack.delivery_tag, nack.requeue), (1, true));
    bench.socket.deliver(2, TAG, 2, body(300_000)).await.unwrap();
    assert_eq!(all[1].0.next().await.unwrap().body().len(), 300_000);
}
