//! The publish window and the publish deadline, with a scripted peer.

use std::{pin::pin, time::Duration};

use crate::support::{
    eventually,
    scripted_peer::{confirm_result, connect_with_channel, publish, return_message, round_trip},
    within,
};
use actix_pika::{
    ErrorKind, OpenChannel,
    testing::protocol::connection::{Blocked, Unblocked},
};
use futures_util::{future::join_all, poll};

/// PUB-13: a publish that is not confirmed by its deadline fails with `Timeout` and may have arrived. The channel stays
/// open, and late confirms, nacks and returns are accepted.
#[actix::test]
async fn an_unconfirmed_publish_times_out_and_the_channel_stays_open() {
    let options = OpenChannel::new().deadline(Duration::from_millis(200));
    let (mut socket, _connection, channel) = connect_with_channel(options, true).await;
    let late = [
        publish(&channel, "key", "1").await,
        publish(&channel, "key", "2").await,
        publish(&channel, "key", "3").await,
    ];
    for confirm in late {
        let error = confirm_result(confirm).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.may_have_arrived(), error.is_retryable()),
            (ErrorKind::Timeout, true, true)
        );
    }
    let mut published = Vec::new();
    for _ in 0..3 {
        published.push(socket.expect_publish(1).await.unwrap());
    }
    // They count in the window until they are confirmed.
    assert_eq!(channel.load().unconfirmed, 3);
    let next = publish(&channel, "key", "4").await;
    socket.expect_publish(1).await.unwrap();
    socket.confirm(1, 4, false).await.unwrap();
    assert_eq!(confirm_result(next).await.unwrap(), 4);
    return_message(&mut socket, published.remove(0)).await;
    socket.confirm(1, 1, false).await.unwrap();
    socket.nack(1, 2, false).await.unwrap();
    socket.confirm(1, 3, true).await.unwrap();
    round_trip(&mut socket, &channel).await;
    assert_eq!((channel.load().unconfirmed, channel.load().bytes), (0, 0));
    let last = publish(&channel, "key", "5").await;
    socket.expect_publish(1).await.unwrap();
    socket.confirm(1, 5, false).await.unwrap();
    assert_eq!(confirm_result(last).await.unwrap(), 5);
}

/// PUB-04, PUB-13: when the broker closes the channel, each publish fails with the reason: those that were sent
/// before the last may have arrived, those that waited have not.
#[actix::test]
async fn a_channel_close_fails_sent_and_waiting_publishes() {
    let (mut socket, connection, channel) = connect_with_channel(OpenChannel::new().window(2), true).await;
    let sent = [publish(&channel, "key", "1").await, publish(&channel, "key", "2").await];
    let waiting = actix_rt::spawn({
        let exchange = channel.exchange("ex");
        async move { exchange.publish("3", "key").await }
    });
    socket.expect_publish(1).await.unwrap();
    socket.expect_publish(1).await.unwrap();
    eventually("a waiting publish", 5, || async { (channel.load().waiting == 1).then_some(()) }).await;
    socket.close_channel(1, 404, "NOT_FOUND - no exchange 'ex'", 60, 40).await.unwrap();
    // The exchange may have existed until the last of them, which was surely refused.
    for (confirm, arrived) in sent.into_iter().zip([true, false]) {
        let error = confirm_result(confirm).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, arrived));
        assert_eq!(
            error.close_reason().map(|reason| (reason.code, reason.method)),
            Some((404, "basic.publish"))
        );
    }
    let error = within("a result", 5, waiting).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ChannelClosed, false));
    assert_eq!(error.close_reason().unwrap().code, 404);
    assert!(!connection.is_closed());
    assert_eq!(channel.load().waiting, 0);
}

/// PUB-15: with a peer that never confirms, closing a channel waits until the publishes time out, closes it, and
/// returns `Timeout` with their number. Publishes and calls made meanwhile are refused.
#[actix::test]
async fn close_reports_unconfirmed_publishes() {
    let options = OpenChannel::new().deadline(Duration::from_millis(300));
    let (mut socket, _connection, channel) = connect_with_channel(options, true).await;
    let first = publish(&channel, "key", "1").await;
    let second = publish(&channel, "key", "2").await;
    socket.expect_publish(1).await.unwrap();
    socket.expect_publish(1).await.unwrap();
    let mut closing = pin!(channel.close());
    assert!(poll!(&mut closing).is_pending());
    // When this call returns, the channel has handled the close.
    assert_eq!(channel.set_qos(1).await.unwrap_err().kind(), ErrorKind::ChannelClosed);
    let refused = channel.exchange("ex").try_publish("late", "key").unwrap_err();
    assert_eq!((refused.kind(), refused.may_have_arrived()), (ErrorKind::ChannelClosed, false));
    for confirm in [first, second] {
        let error = confirm_result(confirm).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, true), "{error}");
    }
    let server = async { socket.expect_channel_close(1).await.unwrap() };
    let (closed, close) = within("the close", 5, async { tokio::join!(closing, server) }).await;
    let error = closed.unwrap_err();
    assert_eq!((error.kind(), close.0, channel.is_closed()), (ErrorKind::Timeout, 200, true));
    assert!(error.to_string().contains("2 publishes"), "{error}");
}

/// Design 13.6: a publish that does not fit into the byte window waits, and so do later ones that would fit; a message
/// larger than the window is sent alone.
#[actix::test]
async fn a_message_larger_than_the_window_is_sent_alone() {
    let (mut socket, _connection, channel) =
        connect_with_channel(OpenChannel::new().window_bytes(10_000), true).await;
    let small = [publish(&channel, "key", "1").await, publish(&channel, "key", vec![2; 9000]).await];
    let mut waiting = Vec::new();
    for (at, body) in [vec![3; 50_000], vec![4]].into_iter().enumerate() {
        let exchange = channel.exchange("ex");
        waiting.push(actix_rt::spawn(async move { exchange.publish(body, "key").await }));
        eventually("one more waiting publish", 5, || async {
            (channel.load().waiting == at + 1).then_some(())
        })
        .await;
    }
    assert!(channel.exchange("ex").try_publish("refused", "key").unwrap().is_none());
    assert_eq!(socket.expect_publish(1).await.unwrap().body.len(), 1);
    assert_eq!(socket.expect_publish(1).await.unwrap().body.len(), 9000);
    socket.confirm(1, 1, false).await.unwrap();
    // No publish is sent: the large one waits for an empty window, and the small one waits behind it.
    round_trip(&mut socket, &channel).await;
    assert_eq!((channel.load().waiting, channel.load().unconfirmed), (2, 1));
    socket.confirm(1, 2, false).await.unwrap();
    assert_eq!(socket.expect_publish(1).await.unwrap().body, vec![3; 50_000]);
    round_trip(&mut socket, &channel).await;
    assert_eq!((channel.load().waiting, channel.load().unconfirmed), (1, 1));
    assert!(channel.load().bytes > 50_000);
    socket.confirm(1, 3, false).await.unwrap();
    assert_eq!(socket.expect_publish(1).await.unwrap().body, vec![4]);
    socket.confirm(1, 4, false).await.unwrap();
    for (at, publish) in waiting.into_iter().enumerate() {
        assert_eq!(within("a result", 5, publish).await.unwrap().unwrap().sequence(), Some(at as u64 + 3));
    }
    join_all(small).await.into_iter().for_each(|result| assert!(result.is_ok()));
    assert_eq!(channel.load().bytes, 0);
}

/// BLK-07, design 7.13: while the broker blocks the connection, publishes wait. At their deadline they fail with
/// `Blocked`: not sent for those that waited, may have arrived for the one that was written. After
/// `connection.unblocked` the waiting ones are sent.
#[actix::test]
async fn publishes_wait_while_the_connection_is_blocked() {
    let options = OpenChannel::new().deadline(Duration::from_millis(400));
    let (mut socket, _connection, channel) = connect_with_channel(options, true).await;
    let written = publish(&channel, "key", "written").await;
    socket.expect_publish(1).await.unwrap();
    socket.send(0, Blocked { reason: "low on memory".into() }).await.unwrap();
    let exchange = channel.exchange("ex");
    round_trip(&mut socket, &channel).await;
    assert!(exchange.try_publish("refused", "key").unwrap().is_none());
    let late = exchange.publish("late", "key");
    let error = within("the deadline", 5, late).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.may_have_arrived(), error.is_retryable()),
        (ErrorKind::Blocked, false, true)
    );
    let error = confirm_result(written).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Blocked, true));
    assert!(!channel.is_closed());

    let mut waiting = Vec::new();
    for at in 0..3 {
        let exchange = exchange.clone();
        waiting.push(actix_rt::spawn(async move { exchange.publish(at.to_string(), "key").await }));
        eventually("one more waiting publish", 5, || async {
            (channel.load().waiting == at + 1).then_some(())
        })
        .await;
    }
    socket.send(0, Unblocked {}).await.unwrap();
    for at in 0..3 {
        assert_eq!(socket.expect_publish(1).await.unwrap().body, at.to_string());
    }
    socket.confirm(1, 4, true).await.unwrap();
    for (at, publish) in waiting.into_iter().enumerate() {
        assert_eq!(within("a result", 5, publish).await.unwrap().unwrap().sequence(), Some(at as u64 + 2));
    }
    assert_eq!(channel.load().unconfirmed, 0);
}
