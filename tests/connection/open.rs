//! Opening and closing a connection: negotiated limits, client properties, events, and errors after the end.

use std::time::Duration;

use crate::support::scripted_peer::{connect_to_peer, open_channel, try_connect_with_script};
use crate::support::{broker::Vhost, eventually, within};
use actix_pika::testing::{HandshakeScript, Probe, protocol::connection, types::AMQPValue};
use actix_pika::{
    ConnectionEvent, Connector, DeclareQueue, Error, ErrorKind, OpenChannel, connect, events::ConnectionState,
};
use futures_util::{StreamExt, future::join_all};

/// Asserts that a call failed because its connection was closed with this reply code.
fn assert_connection_closed(error: &Error, code: u16) {
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed, "{error:?}");
    assert_eq!(error.close_reason().map(|reason| reason.code), Some(code), "{error:?}");
}

/// CON-01
#[actix::test]
async fn a_connection_is_open_until_it_is_closed() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    assert!(!connection.is_closed());
    assert!(matches!(connection.state(), ConnectionState::Open(_)));
    within("close", 10, connection.close()).await.unwrap();
    assert!(connection.is_closed());
    assert!(matches!(connection.state(), ConnectionState::Closed(None)));
    within("closed", 5, connection.closed()).await.unwrap();
}

/// CON-08: those of the broker, or those of the client where they are lower.
#[actix::test]
async fn the_negotiated_limits_are_readable() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    assert!(connection.channel_max().unwrap() > 0);
    assert!(connection.heartbeat().unwrap() > Duration::from_secs(1));
    assert!(connection.frame_max().unwrap() > 1024);
    let server = connection.server_properties().unwrap();
    assert_eq!(server.get("product").and_then(|value| value.as_str()), Some("RabbitMQ"));
    connection.close().await.unwrap();
    assert_eq!(connection.channel_max(), None);

    let url = format!("{}?heartbeat=30&channel_max=10&frame_max=8192", vhost.url());
    let limited = within("connect", 10, connect(url)).await.unwrap();
    assert_eq!(
        (limited.heartbeat(), limited.channel_max(), limited.frame_max()),
        (Some(Duration::from_secs(30)), Some(10), Some(8192))
    );
}

/// CON-08: the getters return what was sent in tune-ok, also where the server offered 0.
#[actix::test]
async fn the_limits_of_tune_ok_are_those_of_the_connection() {
    let cases = [
        ((2047, 131_072, 60), (2047, 131_072, 60)),
        ((1, 4096, 1), (1, 4096, 1)),
        ((0, 0, 0), (u16::MAX, 131_072, 0)),
        ((u16::MAX, u32::MAX, u16::MAX), (u16::MAX, 131_072, u16::MAX)),
    ];
    for (offered, agreed) in cases {
        let script = HandshakeScript::new().tune(offered.0, offered.1, offered.2);
        let connect = try_connect_with_script(|connector| connector, &script);
        let (result, _socket, handshake) = within("a handshake", 10, connect).await;
        assert_eq!((handshake.channel_max, handshake.frame_max, handshake.heartbeat), agreed);
        let connection = result.unwrap();
        let limits = (connection.channel_max(), connection.frame_max(), connection.heartbeat());
        let heartbeat = Duration::from_secs(agreed.2.into());
        assert_eq!(limits, (Some(agreed.0), Some(agreed.1), Some(heartbeat)));
    }
}

/// CON-10
#[actix::test]
async fn client_properties_have_product_version_and_capabilities() {
    let (_result, _socket, handshake) =
        within("a handshake", 10, try_connect_with_script(|connector| connector, &HandshakeScript::new()))
            .await;
    assert_eq!(handshake.locale, "en_US");
    let properties = handshake.properties.inner();
    let text = |key: &str| match properties.get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("{key}: {other:?}"),
    };
    assert_eq!((&*text("product"), &*text("platform")), ("actix-pika", "Rust"));
    assert_eq!(text("version").split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 3);
    let Some(AMQPValue::FieldTable(capabilities)) = properties.get("capabilities") else {
        panic!("no capabilities: {properties:?}");
    };
    for capability in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ] {
        assert_eq!(capabilities.inner().get(capability), Some(&AMQPValue::Boolean(true)), "{capability}");
    }
}

/// CON-10
#[actix::test]
async fn client_properties_of_the_application_replace_those_of_the_library() {
    let own = |connector: Connector| connector.client_property("product", "shop").client_property("shard", 7);
    let (_result, _socket, handshake) =
        within("a handshake", 10, try_connect_with_script(own, &HandshakeScript::new())).await;
    let properties = handshake.properties.inner();
    assert_eq!(properties.get("product"), Some(&AMQPValue::LongString("shop".into())));
    assert_eq!(properties.get("shard"), Some(&AMQPValue::LongInt(7)));
    assert!(properties.contains_key("capabilities"));
}

/// CON-09: set by the builder or by the URI. Two connections may have the same name.
#[actix::test]
async fn the_management_api_shows_the_connection_name() {
    let vhost = Vhost::fresh().await;
    let first = Connector::new(&vhost.url()).unwrap().name("orders").connect().await.unwrap();
    let second = connect(format!("{}?name=orders", vhost.url())).await.unwrap();
    let names = eventually("the API shows two connections with a name", 10, async || {
        let connections = vhost.connections().await;
        let names: Vec<_> =
            connections.iter().filter_map(|connection| connection.client_name.clone()).collect();
        (names.len() == 2).then_some(names)
    })
    .await;
    assert_eq!(names, ["orders", "orders"]);
    first.close().await.unwrap();
    second.close().await.unwrap();
}

/// URI-10, HB: fractions of a second are rounded up, so that a short interval does not turn heartbeats off.
#[actix::test]
async fn the_heartbeat_of_tune_ok_is_the_configured_one() {
    for (configured, sent) in [(0, 0), (1, 1), (500, 1), (1_000, 1), (1_500, 2), (9_000, 9), (600_000, 60)] {
        let settings = |connector: Connector| connector.heartbeat(Duration::from_millis(configured));
        let (_result, _socket, handshake) =
            within("a handshake", 10, try_connect_with_script(settings, &HandshakeScript::new())).await;
        assert_eq!(handshake.heartbeat, sent, "configured {configured} ms");
    }
}

/// CON-04: each watcher and each stream receives one `Closed` event.
#[actix::test]
async fn the_end_of_a_connection_is_reported_once() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let mut probe = Probe::<ConnectionEvent>::start();
    connection.watch(probe.recipient());
    let mut events = connection.events();
    let (first, second) = tokio::join!(connection.close(), connection.close());
    first.unwrap();
    second.unwrap();
    assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::Closed(None)));
    within("a third close", 5, connection.close()).await.unwrap();
    assert_eq!(probe.count().await, 1);
    assert!(matches!(events.next().await, Some(ConnectionEvent::Closed(None))));
    assert!(within("the end of the stream", 5, events.next()).await.is_none());
    let mut events = connection.events();
    let event = within("an event of a closed connection", 5, events.next()).await;
    assert!(matches!(event, Some(ConnectionEvent::Closed(None))), "{event:?}");
    assert!(within("the end of the stream", 5, events.next()).await.is_none());
}

/// D7: eight concurrent calls of `close` send one `connection.close`.
#[actix::test]
async fn a_connection_is_closed_with_one_frame() {
    let (connection, mut socket) = within("a handshake", 10, connect_to_peer(|connector| connector)).await;
    let closes = join_all((0..8).map(|_| connection.close()));
    let server = async {
        assert_eq!(socket.expect_close().await.unwrap().0, 200);
        socket.expect_eof().await.unwrap();
    };
    let (closed, ()) = within("eight closes", 10, async { tokio::join!(closes, server) }).await;
    assert!(closed.iter().all(Result::is_ok), "{closed:?}");
}

/// CON-05
#[actix::test]
async fn calls_on_a_closed_connection_fail_with_connection_closed() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    connection.close().await.unwrap();
    let calls = async {
        let kind = |error: Error| error.kind();
        assert_eq!(connection.channel().await.map_err(kind).unwrap_err(), ErrorKind::ConnectionClosed);
        assert_eq!(
            channel.declare_queue("jobs").await.map_err(kind).unwrap_err(),
            ErrorKind::ConnectionClosed
        );
        assert_eq!(channel.set_qos(1).await.map_err(kind).unwrap_err(), ErrorKind::ConnectionClosed);
        assert_eq!(queue.get().await.map_err(kind).unwrap_err(), ErrorKind::ConnectionClosed);
        assert_eq!(queue.deliveries().await.map_err(kind).unwrap_err(), ErrorKind::ConnectionClosed);
        let exchange = channel.default_exchange();
        assert_eq!(
            exchange.publish("late", "jobs").await.map_err(kind).unwrap_err(),
            ErrorKind::ConnectionClosed
        );
        assert_eq!(
            exchange.try_publish("late", "jobs").map_err(kind).unwrap_err(),
            ErrorKind::ConnectionClosed
        );
        channel.close().await.unwrap();
        connection.close().await.unwrap();
    };
    within("calls on a closed connection", 10, calls).await;
    assert!(channel.is_closed());
}

/// CON-19, CH-28
#[actix::test]
async fn a_connection_error_reaches_every_channel_with_its_cause() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let mut events = connection.events();
    let channels: Vec<_> = join_all((0..3).map(|_| connection.channel())).await;
    let [first, second, third] = &channels[..] else { panic!("three channels") };
    let (first, second, third) = (first.as_ref().unwrap(), second.as_ref().unwrap(), third.as_ref().unwrap());
    // A stream does not support `basic.get`. The handle returned by the declare knows the queue type, and would refuse
    // the call.
    within("a queue", 10, first.declare_queue(DeclareQueue::new("log").stream())).await.unwrap();
    let error = within("540", 10, first.queue("log").get()).await.unwrap_err();
    assert_connection_closed(&error, 540);
    assert_connection_closed(&within("closed", 5, connection.closed()).await.unwrap_err(), 540);
    for channel in [first, second, third] {
        assert_connection_closed(&channel.close_cause().expect("a cause"), 540);
        assert_connection_closed(&within("a call", 5, channel.set_qos(1)).await.unwrap_err(), 540);
        let exchange = channel.default_exchange();
        assert_connection_closed(&within("a publish", 5, exchange.publish("x", "y")).await.unwrap_err(), 540);
    }
    assert_connection_closed(&within("channel", 5, connection.channel()).await.unwrap_err(), 540);
    match events.next().await {
        Some(ConnectionEvent::Closed(Some(error))) => assert_connection_closed(&error, 540),
        other => panic!("{other:?}"),
    }
}

/// CON-19: pending calls and publishes of several channels, and a channel that is opening.
#[actix::test]
async fn pending_calls_of_all_channels_fail_when_the_connection_closes() {
    let (connection, mut socket) = within("a handshake", 10, connect_to_peer(|connector| connector)).await;
    let mut channels = Vec::new();
    for number in 1..=3 {
        channels.push(open_channel(&connection, &mut socket, number, OpenChannel::new()).await);
    }
    let calls = join_all(channels.iter().map(|channel| channel.set_qos(1)));
    let exchanges: Vec<_> = channels.iter().map(|channel| channel.default_exchange()).collect();
    let publishes = join_all(exchanges.iter().map(|exchange| exchange.publish("x", "y")));
    let opening = connection.channel();
    let server = async {
        for number in 1..=3 {
            socket.next_frame_on(number).await.unwrap();
        }
        socket.next_frame_on(4).await.unwrap();
        socket.close_connection(541, "INTERNAL_ERROR").await.unwrap();
    };
    let all = async { tokio::join!(calls, publishes, opening, server) };
    let (calls, publishes, opening, ()) = within("the results", 10, all).await;
    for error in calls.into_iter().map(Result::unwrap_err) {
        assert_connection_closed(&error, 541);
    }
    for error in publishes.into_iter().map(Result::unwrap_err) {
        assert_connection_closed(&error, 541);
    }
    assert_connection_closed(&opening.unwrap_err(), 541);
}

/// The broker may reset the socket right after connection.close.
#[actix::test]
async fn the_close_reason_is_reported_despite_a_reset_after_it() {
    for _ in 0..20 {
        let (connection, mut socket) =
            within("a handshake", 10, connect_to_peer(|connector| connector)).await;
        let close = connection::Close { reply_code: 320, reply_text: "forced".into(), ..Default::default() };
        socket.send(0, close).await.unwrap();
        socket.reset().unwrap();
        let error = within("closed", 10, connection.closed()).await.unwrap_err();
        assert_connection_closed(&error, 320);
        assert_eq!(error.close_reason().unwrap().text, "forced");
    }
}

/// 0.1
#[actix::test]
async fn a_close_by_the_management_api_is_320_with_its_reason() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    eventually("the API lists the connection", 10, async || {
        (vhost.delete_connections("out of hours").await > 0).then_some(())
    })
    .await;
    let error = within("closed", 10, connection.closed()).await.unwrap_err();
    assert_connection_closed(&error, 320);
    assert!(error.close_reason().unwrap().text.contains("out of hours"), "{error}");
}

/// CON-20
#[actix::test]
async fn ten_tasks_open_and_close_connections_concurrently() {
    let vhost = Vhost::fresh().await;
    let tasks = (0..10).map(|_| async {
        let connection = connect(vhost.url()).await?;
        connection.channel().await?.set_qos(1).await?;
        connection.close().await
    });
    let results = within("ten connections", 30, join_all(tasks)).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}
