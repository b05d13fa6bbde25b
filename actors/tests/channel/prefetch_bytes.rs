//! Consumers whose deliveries have too many bytes: confirms and replies are read meanwhile.

use actix_pika_actors::{
    ConnectionOptions, Consume, DeclareQueue, OpenChannel, Publish,
    testing::{
        PeerMessage,
        protocol::{basic, queue},
    },
};

use crate::common::{Bench, TAG, answer_consume, ask};

/// Sends `count` deliveries of 100 kB, the first with this tag.
async fn deliver(bench: &mut Bench, first: u64, count: u64) {
    for tag in first..first + count {
        let content = PeerMessage::from(vec![b'x'; 100_000]).body_frame_size(4088);
        bench.socket.deliver(1, TAG, tag, content).await.unwrap();
    }
}

/// The consumer is cancelled, and starts again with this prefetch; what was not begun returns before.
async fn expect_restart(bench: &mut Bench, prefetch: u16) {
    let cancel = bench.socket.expect::<basic::Cancel>(1).await.unwrap();
    assert_eq!(cancel.consumer_tag.as_str(), TAG);
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    let qos = loop {
        let frame = bench.socket.next_frame_on(1).await.unwrap();
        if !frame.is::<basic::Nack>() {
            break frame;
        }
    };
    assert!(qos.is::<basic::Qos>(), "{qos:?}");
    assert_eq!(qos.payload[8..10], prefetch.to_be_bytes());
    bench.socket.send(1, basic::QosOk {}).await.unwrap();
    answer_consume(&mut bench.socket, 1).await;
}

/// PRO-20: an application that awaits a confirm before it settles gets it, by a prefetch that is too large.
#[actix::test]
async fn a_confirm_is_read_behind_too_many_prefetched_bytes() {
    let set = |options: &mut ConnectionOptions| options.prefetch_bytes = 1_000_000;
    let mut bench = Bench::open_with(&Default::default(), set).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let mut deliveries = bench.consume(&channel).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "x"));
    bench.socket.expect_publish(1).await.unwrap();
    deliver(&mut bench, 1, 30).await;
    bench.socket.confirm(1, 1, false).await.unwrap();
    expect_restart(&mut bench, 4).await;
    assert!(publish.answer().await.unwrap().is_confirmed());
    deliver(&mut bench, 31, 4).await;
    while deliveries.next().await.unwrap().delivery_tag() < 34 {}
    bench.assert_works(2).await;
}

/// PRO-20: the same without a prefetch, and by a call.
#[actix::test]
async fn a_reply_is_read_behind_too_many_bytes_without_a_prefetch() {
    let set = |options: &mut ConnectionOptions| options.read_ahead = 1_000_000;
    let mut bench = Bench::open_with(&Default::default(), set).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let mut deliveries = bench.consume_as(&channel, Consume::new().tag(TAG).prefetch(0)).await;
    let call = ask(&channel.actor, DeclareQueue::new("other"));
    bench.socket.expect::<queue::Declare>(1).await.unwrap();
    deliver(&mut bench, 1, 30).await;
    bench.socket.send(1, queue::DeclareOk { queue: "other".into(), ..Default::default() }).await.unwrap();
    expect_restart(&mut bench, 4).await;
    call.answer().await.unwrap();
    deliver(&mut bench, 31, 4).await;
    while deliveries.next().await.unwrap().delivery_tag() < 34 {}
    bench.assert_works(2).await;
}
