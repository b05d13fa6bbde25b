//! Publishes with a deadline of their own.

use std::time::Duration;

use actix_pika::testing::{HandshakeScript, Peer, PeerSocket, protocol::connection};
use actix_pika::{ConnectionEvent, Connector, ErrorKind, OpenChannel, Publishing, Recovery};
use futures_util::StreamExt;

use crate::support::scripted_peer::{connect_to_peer, open_channel};
use crate::support::{eventually, within};

const OWN: Duration = Duration::from_millis(100);

fn short(body: &str) -> Publishing {
    Publishing::new(body.to_owned()).deadline(OWN)
}

async fn block(connection: &actix_pika::Connection, socket: &mut PeerSocket) {
    socket.send(0, connection::Blocked { reason: "low on memory".into() }).await.unwrap();
    eventually("the alarm", 5, async || connection.is_blocked().then_some(())).await;
}

/// PUB-39: a publish fails with `Timeout` at its own deadline. Its place in the window is free once it is confirmed.
#[actix::test]
async fn an_unconfirmed_publish_times_out_at_its_own_deadline() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new().window(3)).await;
    let exchange = channel.default_exchange();
    let deferred = exchange.publish_deferred(short("deferred"), "q").await.unwrap();
    let tried = exchange.try_publish(short("tried"), "q").unwrap().unwrap();
    let awaited = within("its deadline", 5, exchange.publish(short("awaited"), "q")).await;
    for result in [awaited.map(drop), deferred.await.map(drop), tried.await.map(drop)] {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, true), "{error}");
        assert!(error.is_retryable());
    }
    assert_eq!(channel.load().unconfirmed, 3);
    let waiting = within("its deadline", 5, exchange.publish(short("no room"), "q")).await.unwrap_err();
    assert_eq!((waiting.kind(), waiting.may_have_arrived()), (ErrorKind::Timeout, false), "{waiting}");
    for _ in 0..3 {
        socket.expect_publish(1).await.unwrap();
    }
    socket.confirm(1, 3, true).await.unwrap();
    eventually("room", 5, async || (channel.load().unconfirmed == 0).then_some(())).await;
    let next = exchange.publish(short("next"), "q");
    let answer = async {
        assert_eq!(&socket.expect_publish(1).await.unwrap().body[..], b"next");
        socket.confirm(1, 4, false).await.unwrap();
    };
    let (confirmed, ()) = tokio::join!(within("a confirm", 5, next), answer);
    assert_eq!(confirmed.unwrap().sequence(), Some(4));
}

/// PUB-39: many publishes have their own deadlines, too. Those that were confirmed in time are counted as such.
#[actix::test]
async fn publishes_of_a_batch_time_out_at_their_own_deadlines() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    let contents = [Publishing::new("patient"), short("1"), short("2"), short("3")];
    let batch = actix_rt::spawn({
        let exchange = channel.default_exchange();
        async move { exchange.publish_all(contents, "q").await }
    });
    for _ in 0..4 {
        socket.expect_publish(1).await.unwrap();
    }
    socket.confirm(1, 3, false).await.unwrap();
    socket.expect_nothing(2 * OWN).await.unwrap();
    assert!(!batch.is_finished());
    socket.confirm(1, 1, false).await.unwrap();
    let error = within("the result", 5, batch).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, true), "{error}");
    assert_eq!(channel.load().unconfirmed, 2);
}

/// PUB-39, BLK-05: during an alarm, the error names it; what was not written is withdrawn.
#[actix::test]
async fn an_own_deadline_during_an_alarm_names_the_alarm() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    block(&connection, &mut socket).await;
    let error =
        within("its deadline", 5, channel.default_exchange().publish(short("x"), "q")).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, false), "{error}");
    assert!(error.to_string().contains("low on memory"), "{error}");
    assert_eq!(channel.load().waiting, 0);
}

/// PUB-39: after a reconnect, a publish is not resent if its own deadline has passed; one that was never written has not
/// arrived.
#[actix::test]
async fn a_publish_is_not_sent_after_its_own_deadline() {
    let peer = Peer::listen().await.unwrap();
    let recovery = Recovery::fixed(Duration::from_millis(1));
    let connector = Connector::new(&peer.url()).unwrap().recovery(recovery);
    let (connection, socket) = tokio::join!(connector.connect(), async {
        let mut socket = peer.accept().await.unwrap();
        socket.handshake_with(&HandshakeScript::new()).await.unwrap();
        socket
    });
    let (connection, mut socket) = (connection.unwrap(), socket);
    let mut events = connection.events();
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    let exchange = channel.default_exchange();
    let written = exchange.publish_deferred(short("written"), "q").await.unwrap();
    socket.expect_publish(1).await.unwrap();
    socket.reset().unwrap();
    within("the loss", 5, async { while !matches!(events.next().await, Some(ConnectionEvent::Lost(_))) {} })
        .await;
    let unwritten = exchange.publish_deferred(short("unwritten"), "q").await.unwrap();
    let kept = exchange.publish_deferred("kept", "q").await.unwrap();
    for (confirm, arrived) in [(written, true), (unwritten, false)] {
        let error = within("its deadline", 5, confirm).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, arrived), "{error}");
        assert!(std::error::Error::source(&error).is_some(), "{error}");
    }
    let mut socket = peer.accept().await.unwrap();
    socket.handshake_with(&HandshakeScript::new()).await.unwrap();
    socket.open_channel(1).await.unwrap();
    let select = |_: actix_pika::testing::protocol::confirm::Select| {
        actix_pika::testing::protocol::confirm::SelectOk {}
    };
    socket.answer(1, select).await.unwrap();
    assert_eq!(&socket.expect_publish(1).await.unwrap().body[..], b"kept");
    socket.confirm(1, 1, false).await.unwrap();
    assert_eq!(within("a confirm", 5, kept).await.unwrap().sequence(), Some(3));
    assert_eq!(channel.load().unconfirmed, 0);
}
