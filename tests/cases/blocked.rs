//! Publishes and the close of a connection that an alarm of the broker blocks.

use std::time::Duration;

use actix_pika::testing::{PeerSocket, protocol::connection};
use actix_pika::{Connection, ErrorKind, OpenChannel};

use crate::support::dialogue::{meet, open};
use crate::support::{eventually, within};

const SHORT: Duration = Duration::from_millis(300);

async fn raise_alarm(connection: &Connection, socket: &mut PeerSocket) {
    socket.send(0, connection::Blocked { reason: "low on memory".into() }).await.unwrap();
    eventually("the alarm", 5, async || connection.is_blocked().then_some(())).await;
}

/// A publish that finds the window full during an alarm fails with an error that names the alarm.
#[actix::test]
#[ignore = "known fault: the error mentions the publish window only"]
async fn publish_without_room_names_the_alarm() {
    let (connection, mut socket) = within("connect", 10, meet(|connector| connector)).await;
    let options = OpenChannel::new().window(1).deadline(SHORT);
    let channel = open(&connection, &mut socket, 1, options).await;
    raise_alarm(&connection, &mut socket).await;
    let exchange = channel.default_exchange();
    let _first = within("room", 5, exchange.publish_deferred("first", "q")).await.unwrap();
    let error = within("a refusal", 5, exchange.publish("second", "q")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked, "{error}");
    assert!(error.to_string().contains("low on memory"), "{error}");
}

/// The close of a blocked connection ends at its own limit, not at that of the publishes.
#[actix::test]
#[ignore = "known fault: the close waits for the publishes that the alarm holds up"]
async fn close_during_an_alarm_ends_at_its_own_limit() {
    let meeting = meet(|connector| connector.close_timeout(SHORT));
    let (connection, mut socket) = within("connect", 10, meeting).await;
    let options = OpenChannel::new().deadline(Duration::from_secs(30));
    let channel = open(&connection, &mut socket, 1, options).await;
    raise_alarm(&connection, &mut socket).await;
    let _confirm = channel.default_exchange().publish_deferred("held up", "q").await.unwrap();
    let error = within("the end of the close", 5, connection.close()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}
