//! Confirms, nacks and returns from a scripted peer, in every order that the protocol allows and in some that it does
//! not.

use crate::support::{
    scripted_peer::{confirm_result, connect_with_channel, publish, return_message, round_trip},
    scripted_peer::{connect_with_script, open_channel},
    within,
};
use actix_pika::{
    ErrorKind, OpenChannel, Publishing,
    message::{Properties, Table},
    testing::{
        HandshakeScript, PeerMessage, PeerSocket, RawFrame,
        protocol::{BasicProperties, basic, queue},
        types::AMQPValue,
    },
};
use futures_util::{FutureExt, future::join_all};

async fn settle(socket: &mut PeerSocket, tag: u64, multiple: bool, nack: bool) {
    let sent =
        if nack { socket.nack(1, tag, multiple).await } else { socket.confirm(1, tag, multiple).await };
    sent.unwrap();
}

/// PUB-11, PUB-14: single and multiple confirms in any order, mixed with nacks: each publish completes with its own
/// result, when its tag is covered and not before.
#[actix::test]
async fn confirms_in_any_order_complete_their_publishes() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), true).await;
    let mut confirms = Vec::new();
    for n in 1..=10u64 {
        let confirm = publish(&channel, "key", n.to_string()).await;
        assert_eq!(confirm.sequence(), Some(n));
        assert_eq!(socket.expect_publish(1).await.unwrap().body, n.to_string());
        confirms.push(confirm);
    }
    let mut is_open = [true; 10];
    for (tag, multiple, nack, completed) in [
        (10, false, false, &[10][..]),
        (3, false, false, &[3]),
        (3, false, true, &[]),
        (5, true, false, &[1, 2, 4, 5]),
        (4, true, true, &[]),
        (7, false, false, &[7]),
        (8, true, true, &[6, 8]),
        (0, true, false, &[9]),
    ] {
        settle(&mut socket, tag, multiple, nack).await;
        round_trip(&mut socket, &channel).await;
        for n in 1..=10usize {
            let result = if is_open[n - 1] { (&mut confirms[n - 1]).now_or_never() } else { None };
            assert_eq!(result.is_some(), completed.contains(&n), "{n} after {tag} {multiple} {nack}");
            let Some(result) = result else { continue };
            is_open[n - 1] = false;
            match result {
                Ok(confirmation) => assert!(!nack && confirmation.sequence() == Some(n as u64)),
                Err(error) => assert!(nack && error.kind() == ErrorKind::Nacked, "{error}"),
            }
        }
    }
    let load = channel.load();
    assert_eq!((load.unconfirmed, load.bytes), (0, 0));
}

/// PUB-06: returns out of order, with equal keys, equal bodies and bodies of many frames, are matched to the publish
/// that was returned, never to one that was not mandatory.
#[actix::test]
async fn returns_out_of_order_are_matched_to_their_publishes() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), true).await;
    let large = "large ".repeat(5000);
    let publishes = [
        ("k1", "a"),
        ("k2", "b"),
        ("k1", "b"),
        ("k1", ""),
        ("k1", &large),
        ("k1", "a"),
        ("k3", ""),
        ("k1", &large[1..]),
    ];
    let mut confirms = Vec::new();
    let mut published = Vec::new();
    for (n, (key, body)) in publishes.into_iter().enumerate() {
        let optional = Publishing::new(body).mandatory(false).message_id("optional");
        drop(publish(&channel, key, optional).await);
        assert!(!socket.expect_publish(1).await.unwrap().mandatory);
        confirms.push(publish(&channel, key, Publishing::new(body).message_id(n.to_string())).await);
        published.push(socket.expect_publish(1).await.unwrap());
        assert!(published[n].mandatory);
    }
    assert_eq!(published[4].frame_lengths.len(), 8);
    let returned_order = [7, 2, 4, 5, 0, 3];
    for n in returned_order {
        return_message(&mut socket, published[n].clone()).await;
    }
    // A return that matches no publish, and one that matches only a publish that is not mandatory, are ignored.
    socket.return_message(1, 312, "NO_ROUTE", PeerMessage::from("a").published_to("ex", "k4")).await.unwrap();
    socket
        .return_message(1, 312, "NO_ROUTE", PeerMessage::from("").published_to("other", "k3"))
        .await
        .unwrap();
    socket.confirm(1, 16, true).await.unwrap();
    for (n, confirm) in confirms.into_iter().enumerate() {
        match confirm_result(confirm).await {
            Ok(sequence) => assert!(!returned_order.contains(&n) && sequence == 2 * n as u64 + 2, "{n}"),
            Err(error) => {
                assert!(returned_order.contains(&n), "{n}: {error}");
                let returned = error.returned().unwrap();
                assert_eq!(returned.properties.as_ref().unwrap().message_id(), Some(&*n.to_string()));
                assert_eq!(
                    (&*returned.routing_key, &returned.body[..]),
                    (publishes[n].0, publishes[n].1.as_bytes())
                );
            }
        }
    }
}

/// PUB-06, PUB-07: of identical publishes, as many fail as were returned, the oldest first, in each of twenty rounds.
#[actix::test]
async fn returns_of_identical_publishes_fail_the_oldest() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), true).await;
    for round in 0..20u64 {
        let mut confirms = Vec::new();
        for _ in 0..10 {
            confirms.push(publish(&channel, "key", "same").await);
        }
        let first = socket.expect_publish(1).await.unwrap();
        for _ in 1..10 {
            assert_eq!(socket.expect_publish(1).await.unwrap(), first);
        }
        let base = round * 10;
        // The first publish is returned and confirmed, then the second and third; the others are only confirmed.
        return_message(&mut socket, first.clone()).await;
        socket.confirm(1, base + 1, false).await.unwrap();
        return_message(&mut socket, first.clone()).await;
        return_message(&mut socket, first).await;
        socket.confirm(1, base + 10, true).await.unwrap();
        let kinds = join_all(confirms.into_iter().map(confirm_result)).await;
        let kinds: Vec<_> = kinds.into_iter().map(|result| result.map_err(|error| error.kind())).collect();
        let expected: Vec<_> =
            (1..=10).map(|n| if n <= 3 { Err(ErrorKind::Unroutable) } else { Ok(base + n) }).collect();
        assert_eq!(kinds, expected);
    }
}

/// PUB-06: a publish that is returned and then nacked is `Nacked`; malformed properties do not hide the rest of a
/// return.
#[actix::test]
async fn returns_may_be_nacked_or_have_malformed_properties() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), true).await;
    let nacked = publish(&channel, "key", "nacked").await;
    let published = socket.expect_publish(1).await.unwrap();
    return_message(&mut socket, published).await;
    socket.nack(1, 1, false).await.unwrap();
    assert_eq!(confirm_result(nacked).await.unwrap_err().kind(), ErrorKind::Nacked);

    let odd = publish(&channel, "key", "odd").await;
    socket.expect_publish(1).await.unwrap();
    let content = PeerMessage::from("odd")
        .published_to("ex", "key")
        .raw_properties([0x20, 0, 0, 0, 0, 4, 1, b'k', b'Z', 0]);
    socket.return_message(1, 313, "NO_CONSUMERS", content.body_frame_size(1)).await.unwrap();
    socket.confirm(1, 2, false).await.unwrap();
    let error = confirm_result(odd).await.unwrap_err();
    let returned = error.returned().unwrap();
    assert_eq!((returned.code, &*returned.text, &returned.body[..]), (313, "NO_CONSUMERS", &b"odd"[..]));
    assert!(returned.properties.as_ref().unwrap().headers_error().is_some());
}

/// PUB-07: on a channel without confirms, a return completes no publish and leaves the channel open.
#[actix::test]
async fn a_return_without_confirms_leaves_the_channel_open() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), false).await;
    assert_eq!(within("no wait", 5, publish(&channel, "key", "body").await).await.unwrap().sequence(), None);
    let published = socket.expect_publish(1).await.unwrap();
    return_message(&mut socket, published).await;
    round_trip(&mut socket, &channel).await;
    assert!(!channel.is_closed());
}

/// PUB-11: a confirm of a tag that was never published is a protocol error: the connection closes with 503, and each
/// unconfirmed publish fails.
#[actix::test]
async fn a_confirm_of_an_unknown_tag_closes_the_connection() {
    for (confirms, nack, tag) in
        [(true, false, 2), (true, true, 2), (true, false, u64::MAX), (false, false, 1)]
    {
        let (mut socket, connection, channel) = connect_with_channel(OpenChannel::new(), confirms).await;
        let confirm = publish(&channel, "key", "body").await;
        socket.expect_publish(1).await.unwrap();
        settle(&mut socket, tag, false, nack).await;
        let (code, text) = socket.expect_close().await.unwrap();
        assert_eq!(code, 503, "{text}");
        assert!(text.contains(&tag.to_string()), "{text}");
        if confirms {
            let error = confirm_result(confirm).await.unwrap_err();
            assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, true));
        }
        let error = within("the end", 5, connection.closed()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(channel.is_closed());
    }
}

/// PUB-14: publishes and calls of one task are sent in the order in which they were made.
#[actix::test]
async fn publishes_and_calls_keep_their_order() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), true).await;
    let client = actix_rt::spawn({
        let channel = channel.clone();
        async move {
            for n in 0..10 {
                drop(
                    channel.exchange("ex").publish_deferred(vec![n; 1000 * n as usize], "key").await.unwrap(),
                );
                assert_eq!(channel.queue("q").purge().await.unwrap(), u32::from(n));
            }
        }
    });
    for n in 0..10 {
        assert_eq!(socket.expect_publish(1).await.unwrap().body, vec![n; 1000 * n as usize]);
        socket.answer(1, |_: queue::Purge| queue::PurgeOk { message_count: n.into() }).await.unwrap();
    }
    within("the client", 5, client).await.unwrap();
}

/// MSG-05, PUB-03, PUB-25: a publish is mandatory and persistent by default, never immediate; no other property is set.
#[actix::test]
async fn a_publish_is_mandatory_and_persistent_by_default() {
    let (mut socket, _connection, channel) = connect_with_channel(OpenChannel::new(), false).await;
    drop(publish(&channel, "key", "body").await);
    let published = socket.expect_publish(1).await.unwrap();
    assert_eq!((published.mandatory, published.immediate), (true, false));
    assert_eq!(
        (&*published.exchange, &*published.routing_key, &published.frame_lengths[..]),
        ("ex", "key", &[4][..])
    );
    assert_eq!(published.properties, BasicProperties::default().with_delivery_mode(2));
    drop(publish(&channel, "", Publishing::new("").persistent(false).mandatory(false)).await);
    let published = socket.expect_publish(1).await.unwrap();
    assert_eq!((published.mandatory, published.frame_lengths.len()), (false, 0));
    assert_eq!(published.raw_properties[..], [0x10, 0, 1]);
    drop(publish(&channel, "key", Publishing::new("x").properties(Properties::new())).await);
    assert_eq!(socket.expect_publish(1).await.unwrap().raw_properties[..], [0x10, 0, 2]);
}

/// PUB-11: a method that only a client may send is a protocol error when the peer sends it.
#[actix::test]
async fn a_publish_from_the_peer_is_a_protocol_error() {
    let (mut socket, connection, _channel) = connect_with_channel(OpenChannel::new(), true).await;
    socket.send_frames(&[RawFrame::method(1, basic::Publish::default())]).await.unwrap();
    assert_eq!(socket.expect_close().await.unwrap().0, 503);
    let error = within("the end", 5, connection.closed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

/// PUB-24: with a server that tunes no frame limit, the client uses its own, and splits content of any size by it.
#[actix::test]
async fn without_a_server_frame_limit_the_clients_own_is_used() {
    let script = HandshakeScript::new().tune(10, 0, 60);
    let (connection, mut socket, handshake) =
        within("connect", 10, connect_with_script(|connector| connector, &script)).await;
    assert_eq!((handshake.frame_max, connection.frame_max()), (131_072, Some(131_072)));
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    let headers = Table::new().with("k", "v".repeat(50_000));
    let body: Vec<u8> = (0..500_000_u32).map(|n| (n / 7) as u8).collect();
    let confirm = publish(&channel, "key", Publishing::new(body.clone()).headers(headers)).await;
    let published = socket.expect_publish(1).await.unwrap();
    assert!(published.body == body);
    assert_eq!(published.frame_lengths, [131_064, 131_064, 131_064, 106_808]);
    let headers = published.properties.headers().as_ref().expect("headers").inner();
    assert_eq!(headers.get("k"), Some(&AMQPValue::LongString("v".repeat(50_000).into())));
    socket.confirm(1, 1, false).await.unwrap();
    assert_eq!(confirm_result(confirm).await.unwrap(), 1);
}
