//! A peer that sends what has to be answered, and never reads the answers: it is given up before they take much
//! memory.

use std::time::Duration;

use actix_pika_actors::{
    CloseChannel, ConnectionOptions, DeclareQueue, ErrorKind, OpenChannel, PurgeQueue, Recovery,
    testing::{
        HandshakeScript, MemoryPeer, PeerMessage, RawFrame,
        protocol::{basic, channel, connection, queue},
    },
};

use tokio::time::timeout;

use crate::common::{Bench, TAG, ask};

/// How long the peer sends at most.
const STORM: Duration = Duration::from_secs(60);

async fn open() -> Bench<MemoryPeer> {
    Bench::open_in_memory(&HandshakeScript::new(), |_| {}).await
}

/// Sends what `next` returns again and again, until the client closes the connection because of that.
async fn assert_given_up(mut bench: Bench<MemoryPeer>, mut next: impl FnMut() -> Vec<u8>) {
    let storm = async { while bench.socket.send_raw(&next()).await.is_ok() {} };
    timeout(STORM, storm).await.expect("the client stops reading");
    let cause = bench.client.closed().await.expect("a cause");
    assert_eq!(cause.kind(), ErrorKind::Protocol, "{cause}");
    assert!(cause.to_string().contains("506 the peer does not read"), "{cause}");
}

fn many(frame: RawFrame) -> Vec<u8> {
    frame.to_bytes().repeat(2000)
}

/// Deliveries with the next tags, in each call.
fn deliveries(tag: &str) -> impl FnMut() -> Vec<u8> {
    let (tag, mut tags) = (tag.to_owned(), 1..);
    move || {
        let delivery = |delivery_tag| {
            let deliver =
                basic::Deliver { consumer_tag: tag.as_str().into(), delivery_tag, ..Default::default() };
            let mut frames = vec![RawFrame::method(1, deliver)];
            frames.extend(PeerMessage::default().frames(1, 131_072));
            frames
        };
        tags.by_ref().take(1000).flat_map(delivery).flat_map(|frame| frame.to_bytes()).collect()
    }
}

/// PRO-17: `channel.flow-ok`
#[actix::test]
async fn a_storm_of_flow_ends_the_connection() {
    let mut bench = open().await;
    let _channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let flow = many(RawFrame::method(1, channel::Flow { active: true }));
    assert_given_up(bench, || flow.clone()).await;
}

/// PRO-17: `basic.nack`
#[actix::test]
async fn a_storm_of_deliveries_to_nobody_ends_the_connection() {
    let mut bench = open().await;
    let _channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    assert_given_up(bench, deliveries("nobody")).await;
}

/// PRO-17: `basic.ack`, one for each delivery, because the first one is kept. A broker that is out of memory reads
/// none of them for a while; that is not its fault.
#[actix::test]
async fn acks_that_are_not_read_for_a_while_cost_no_connection() {
    const BATCHES: u64 = 250;
    let mut bench = open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut stream = bench.consume(&channel).await;
    let handler = actix_rt::spawn(async move {
        let kept = stream.next().await.unwrap();
        for _ in 1..BATCHES * 1000 {
            stream.next().await.unwrap().ack().unwrap();
        }
        (kept, stream)
    });
    let mut next = deliveries(TAG);
    for _ in 0..BATCHES {
        timeout(STORM, bench.socket.send_raw(&next())).await.expect("the client reads").unwrap();
    }
    let kept = timeout(STORM, handler).await.expect("all deliveries").unwrap();
    let purge = ask(&channel.actor, PurgeQueue::new("jobs"));
    let mut acks = 0;
    loop {
        let frame = bench.socket.next_frame().await.unwrap();
        if frame.is::<queue::Purge>() {
            break;
        }
        acks += u64::from(frame.is::<basic::Ack>());
    }
    assert_eq!(acks, BATCHES * 1000 - 1);
    bench.socket.send(1, queue::PurgeOk::default()).await.unwrap();
    purge.answer().await.unwrap();
    drop(kept);
}

/// PRO-17: `channel.close-ok`, while the close of the client has no reply
#[actix::test]
async fn a_storm_of_channel_close_ends_the_connection() {
    let mut bench = open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let _close = ask(&channel.actor, CloseChannel::new());
    bench.socket.expect::<channel::Close>(1).await.unwrap();
    let close = many(RawFrame::method(1, channel::Close::default()));
    assert_given_up(bench, || close.clone()).await;
}

/// PRO-17: `channel.close-ok` and `channel.open` of the channel on which the topology is declared again
#[actix::test]
async fn a_storm_of_channel_close_during_a_recovery_ends_the_connection() {
    let set = |options: &mut ConnectionOptions| options.recovery = Recovery::fixed(Duration::from_millis(1));
    let mut bench = Bench::open_in_memory(&HandshakeScript::new(), set).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    let named = |declare: queue::Declare| queue::DeclareOk { queue: declare.queue, ..Default::default() };
    bench.socket.answer(1, named).await.unwrap();
    declare.answer().await.unwrap();
    drop(bench.socket);
    let mut socket = bench.peer.accept().await.unwrap();
    socket.handshake().await.unwrap();
    let utility = socket.next_frame().await.unwrap().channel;
    let close = many(RawFrame::method(utility, channel::Close::default()));
    let storm = async { while socket.send_raw(&close).await.is_ok() {} };
    timeout(STORM, storm).await.expect("the client stops reading");
    bench.peer.accept().await.unwrap().handshake().await.unwrap();
}

/// PRO-17: only the first `connection.close` is answered
#[actix::test]
async fn connection_close_is_answered_once() {
    let mut bench = open().await;
    let close = RawFrame::method(0, connection::Close { reply_code: 320, ..Default::default() });
    bench.socket.send_frames(&[close.clone(), close.clone(), close]).await.unwrap();
    bench.socket.expect::<connection::CloseOk>(0).await.unwrap();
    assert_eq!(bench.socket.read_to_end().await.unwrap(), []);
}
