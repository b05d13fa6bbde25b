//! Content that a publisher made to break consumers: it is delivered, it can be settled, and so is the next one. And
//! content that the network cuts anywhere.

use actix_pika_actors::{
    Delivery, ErrorKind, Get, OpenChannel, OpenedChannel, Properties, Publish, Result,
    testing::{
        PeerMessage, PeerSocket, RawFrame,
        protocol::{BasicProperties, basic, channel, connection},
    },
};

use crate::common::{Bench, Deliveries, TAG, ask};

/// Builds `basic.deliver` from names that need not be UTF-8.
fn deliver_raw(tag: u64, exchange: &[u8], routing_key: &[u8]) -> RawFrame {
    let mut payload = vec![0, 60, 0, 60];
    let short = |payload: &mut Vec<u8>, bytes: &[u8]| {
        payload.push(bytes.len() as u8);
        payload.extend(bytes);
    };
    short(&mut payload, TAG.as_bytes());
    payload.extend(tag.to_be_bytes());
    payload.push(0);
    short(&mut payload, exchange);
    short(&mut payload, routing_key);
    RawFrame::new(RawFrame::METHOD, 1, payload)
}

/// Encodes properties with these bytes as the table of headers.
fn headers(table: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x20, 0];
    bytes.extend((table.len() as u32).to_be_bytes());
    bytes.extend(table);
    bytes
}

/// Encodes a header of so many arrays, one in another.
fn nested(levels: u32) -> Vec<u8> {
    let mut table = b"\x01k".to_vec();
    for level in (0..levels).rev() {
        table.push(b'A');
        table.extend((5 * level).to_be_bytes());
    }
    headers(&table)
}

async fn consuming() -> (Bench, OpenedChannel, Deliveries) {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let deliveries = bench.consume(&channel).await;
    (bench, channel, deliveries)
}

async fn expect_ack(socket: &mut PeerSocket, tag: u64) {
    assert_eq!(socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag, tag);
}

/// Checks that only the properties cannot be read, and that later deliveries are not affected.
async fn assert_only_properties_fail(properties: Vec<u8>) {
    assert_harmless(properties, |properties| {
        assert_eq!(properties.unwrap_err().kind(), ErrorKind::Codec);
    })
    .await;
}

/// Checks that only the headers cannot be read, and that later deliveries are not affected.
async fn assert_only_headers_fail(properties: Vec<u8>) {
    assert_harmless(properties, |properties| {
        let properties = properties.unwrap();
        assert!(properties.headers().is_none() && properties.headers_error().is_some());
    })
    .await;
}

async fn assert_harmless(properties: Vec<u8>, check: impl Fn(Result<&Properties>)) {
    let (mut bench, _channel, mut deliveries) = consuming().await;
    let content = PeerMessage::from("poison").published_to("logs", "info").raw_properties(properties.clone());
    bench.socket.deliver(1, TAG, 1, content.clone()).await.unwrap();
    bench
        .socket
        .deliver(1, TAG, 2, PeerMessage::from("poison").raw_properties(properties.clone()))
        .await
        .unwrap();
    let good = BasicProperties::default().with_message_id("m1".into());
    bench.socket.deliver(1, TAG, 3, PeerMessage::from("good").properties(&good)).await.unwrap();

    let first = deliveries.next().await.unwrap();
    for _ in 0..2 {
        check(first.properties());
    }
    assert_eq!((first.body(), first.exchange(), first.routing_key()), (&b"poison"[..], "logs", "info"));
    assert_eq!(first.raw_properties()[..], properties[..]);
    assert!(!format!("{first:?}").is_empty());
    first.ack().unwrap();
    expect_ack(&mut bench.socket, 1).await;
    deliveries.next().await.unwrap().reject(false).unwrap();
    assert!(!bench.socket.expect::<basic::Reject>(1).await.unwrap().requeue);
    let third = deliveries.next().await.unwrap();
    assert_eq!(third.properties().unwrap().message_id(), Some("m1"));
    third.ack().unwrap();
    expect_ack(&mut bench.socket, 3).await;
    assert!(bench.client.is_open());
}

#[actix::test]
async fn headers_26000_arrays_deep_do_no_harm() {
    assert_only_headers_fail(nested(26_000)).await;
}

#[actix::test]
async fn headers_one_array_too_deep_do_no_harm() {
    let (mut bench, _channel, mut deliveries) = consuming().await;
    bench.socket.deliver(1, TAG, 1, PeerMessage::from("x").raw_properties(nested(32))).await.unwrap();
    bench.socket.deliver(1, TAG, 2, PeerMessage::from("x").raw_properties(nested(33))).await.unwrap();
    let (most, too_deep) = (deliveries.next().await.unwrap(), deliveries.next().await.unwrap());
    assert!(most.properties().is_ok());
    assert!(too_deep.properties().unwrap().headers_error().is_some());
}

#[actix::test]
async fn a_correlation_id_that_is_not_utf8_does_no_harm() {
    assert_harmless(b"\x06\x00\x03\xff\xfe\xfd\x05reply".to_vec(), |properties| {
        let properties = properties.unwrap();
        assert_eq!((properties.correlation_id(), properties.reply_to()), (None, Some("reply")));
        assert_eq!(properties.correlation_id_bytes(), Some(&[0xff, 0xfe, 0xfd][..]));
    })
    .await;
}

/// A key that is not text is kept as bytes, so that the other headers can be read.
#[actix::test]
async fn other_headers_are_read_beside_a_key_that_is_not_utf8() {
    let (mut bench, _channel, mut deliveries) = consuming().await;
    let content = PeerMessage::from("x").raw_properties(headers(b"\x02\xc3\x28t\x01\x01at\x01"));
    bench.socket.deliver(1, TAG, 1, content).await.unwrap();
    let delivery = deliveries.next().await.unwrap();
    let table = delivery.properties().unwrap().headers().unwrap();
    assert_eq!((table.len(), table.get("a").and_then(|value| value.as_bool())), (2, Some(true)));
    delivery.ack().unwrap();
    expect_ack(&mut bench.socket, 1).await;
}

#[actix::test]
async fn an_unknown_field_type_does_no_harm() {
    assert_only_headers_fail(headers(b"\x01kZ\0\0\0\0")).await;
}

/// PRO-16
#[actix::test]
async fn a_table_within_a_table_that_ends_too_late_does_no_harm() {
    assert_only_headers_fail(headers(b"\x01kF\0\0\0\x09\x01kV")).await;
}

/// PRO-16
#[actix::test]
async fn properties_cut_short_do_no_harm() {
    for properties in [&b""[..], b"\x80", b"\x80\0", b"\x80\0\x09text", b"\x20\0\0\0\0\x09", b"\xff\xff\xff"]
    {
        assert_only_properties_fail(properties.to_vec()).await;
    }
}

#[actix::test]
async fn names_that_are_not_utf8_do_no_harm() {
    let (mut bench, _channel, mut deliveries) = consuming().await;
    let mut frames = vec![deliver_raw(1, b"lo\xffs", b"k\xc3\x28")];
    frames.extend(PeerMessage::from("x").frames(1, 4096));
    bench.socket.send_frames(&frames).await.unwrap();
    let delivery = deliveries.next().await.unwrap();
    assert_eq!((delivery.exchange(), delivery.routing_key()), ("lo\u{fffd}s", "k\u{fffd}("));
    assert_eq!(delivery.routing_key_bytes(), b"k\xc3\x28");
    assert!(delivery.properties().is_ok());
    delivery.ack().unwrap();
    expect_ack(&mut bench.socket, 1).await;
    // A consumer tag that is not UTF-8 belongs to no consumer.
    let unknown =
        RawFrame::new(1, 1, [&b"\0\x3c\0\x3c\x02\xff\xfe"[..], &2u64.to_be_bytes(), &[0, 0, 0]].concat());
    let mut frames = vec![unknown];
    frames.extend(PeerMessage::from("x").frames(1, 4096));
    bench.socket.send_frames(&frames).await.unwrap();
    assert_eq!(bench.socket.expect::<basic::Nack>(1).await.unwrap().delivery_tag, 2);
}

/// The same with `basic.get` and `basic.return`.
#[actix::test]
async fn malformed_properties_of_a_get_or_a_return_do_no_harm() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let call = ask(&channel.actor, Get::new("jobs"));
    bench.socket.expect::<basic::Get>(1).await.unwrap();
    bench.socket.get_ok(1, 1, 0, PeerMessage::from("x").raw_properties(nested(26_000))).await.unwrap();
    let delivery: Delivery = call.answer().await.unwrap().expect("a message");
    assert!(delivery.properties().unwrap().headers_error().is_some());
    delivery.ack().unwrap();
    expect_ack(&mut bench.socket, 1).await;
    let call = ask(&channel.actor, Publish::new("", "nowhere", "x"));
    bench.socket.expect_publish(1).await.unwrap();
    let back = PeerMessage::from("x").published_to("", "nowhere").raw_properties(nested(26_000));
    bench.socket.return_message(1, 312, "NO_ROUTE", back).await.unwrap();
    bench.socket.confirm(1, 1, false).await.unwrap();
    let error = call.answer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable);
    assert!(error.returned().unwrap().properties.as_ref().unwrap().headers_error().is_some());
}

/// PRO-10
#[actix::test]
async fn a_body_in_frames_of_one_byte_and_of_none_is_assembled() {
    let (mut bench, _channel, mut deliveries) = consuming().await;
    let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag: 1, ..Default::default() };
    let mut frames = vec![RawFrame::method(1, names), RawFrame::header(1, 200, &BasicProperties::default())];
    for n in 0..200u8 {
        if n % 4 == 0 {
            frames.push(RawFrame::body(1, ""));
        }
        frames.push(RawFrame::body(1, [n]));
    }
    bench.socket.send_frames(&frames).await.unwrap();
    let delivery = deliveries.next().await.unwrap();
    assert_eq!(delivery.body()[..], (0..200).collect::<Vec<u8>>()[..]);
}

/// A dialogue, one byte at a time.
#[actix::test]
async fn one_byte_per_segment_is_the_same_dialogue() {
    let (mut bench, channel, mut deliveries) = consuming().await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "x"));
    bench.socket.expect_publish(1).await.unwrap();
    let frames = dialogue();
    let bytes: Vec<u8> = frames.iter().flat_map(RawFrame::to_bytes).collect();
    for byte in bytes.chunks(1) {
        bench.socket.send_raw(byte).await.unwrap();
        // Lets the client read before the next one is there.
        tokio::task::yield_now().await;
    }
    assert_dialogue_is_read(bench, deliveries_of(&mut deliveries).await, publish).await;
}

/// The same dialogue in one segment.
#[actix::test]
async fn everything_in_one_segment_is_the_same_dialogue() {
    let (mut bench, channel, mut deliveries) = consuming().await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "x"));
    bench.socket.expect_publish(1).await.unwrap();
    bench.socket.send_frames(&dialogue()).await.unwrap();
    assert_dialogue_is_read(bench, deliveries_of(&mut deliveries).await, publish).await;
}

/// Returns two deliveries with heartbeats in between, a confirm, flow, and blocked.
fn dialogue() -> Vec<RawFrame> {
    let properties = BasicProperties::default().with_message_id("m1".into());
    let mut frames = Vec::new();
    for tag in 1..=2u64 {
        let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag: tag, ..Default::default() };
        frames.push(RawFrame::method(1, names));
        frames.push(RawFrame::heartbeat());
        frames.extend(
            PeerMessage::from("some words").properties(&properties).body_frame_size(3).frames(1, 4096),
        );
    }
    frames.push(RawFrame::method(1, basic::Ack { delivery_tag: 1, multiple: false }));
    frames.push(RawFrame::method(1, channel::Flow { active: true }));
    frames.push(RawFrame::method(0, connection::Blocked { reason: "memory".into() }));
    frames.push(RawFrame::method(0, connection::Unblocked {}));
    frames
}

async fn deliveries_of(deliveries: &mut Deliveries) -> [Delivery; 2] {
    [deliveries.next().await.unwrap(), deliveries.next().await.unwrap()]
}

async fn assert_dialogue_is_read(
    mut bench: Bench,
    deliveries: [Delivery; 2],
    publish: crate::common::Call<actix_pika_actors::Confirmation>,
) {
    for (tag, delivery) in (1..).zip(deliveries) {
        assert_eq!((delivery.delivery_tag(), delivery.body()), (tag, &b"some words"[..]));
        assert_eq!(delivery.properties().unwrap().message_id(), Some("m1"));
        delivery.ack().unwrap();
    }
    publish.answer().await.unwrap();
    let (mut acked, mut flows) = (0, 0);
    while acked < 2 || flows < 1 {
        let frame = bench.socket.next_frame_on(1).await.unwrap();
        if frame.is::<basic::Ack>() {
            acked = crate::common::method::<basic::Ack>(&frame).delivery_tag;
        } else if frame.is::<channel::FlowOk>() {
            flows += 1;
        }
    }
    bench.assert_works(2).await;
}
