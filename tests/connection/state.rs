//! The state of a connection: addresses, TCP options, close reasons, and errors of the handshake.

use std::time::Duration;

use crate::support::scripted_peer::{accept_with_script, connect_with_script};
use crate::support::{broker::Vhost, eventually, within};
use actix_pika::testing::{HandshakeScript, HandshakeStep, Peer, Probe};
use actix_pika::{
    ConnectionEvent, Connector, ErrorKind,
    events::ConnectionState,
    message::{CloseConnection, GetState},
    options::TcpOptions,
};
use futures_util::StreamExt;

/// CON-11: the local address is the peer address at the broker.
#[actix::test]
async fn local_and_peer_address_are_those_of_the_socket() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, actix_pika::connect(vhost.url())).await.unwrap();
    let (local, peer) = (connection.local_addr().unwrap(), connection.peer_addr().unwrap());
    let ports = eventually("the API shows the connection", 15, async || {
        let connections = vhost.connections().await;
        let connection = connections.first()?;
        Some((connection.client_port?, connection.broker_port?))
    });
    assert_eq!(ports.await, (local.port().into(), peer.port().into()));
    let ConnectionState::Open(opened) = connection.state() else { panic!("not open") };
    assert_eq!((opened.local_addr, opened.peer_addr), (local, peer));
    assert_eq!(opened.address.port, peer.port());
    assert_eq!(Some(opened.channel_max()), connection.channel_max());
    within("close", 10, connection.close()).await.unwrap();
    assert_eq!((connection.local_addr(), connection.peer_addr()), (None, None));
}

/// A connection with every TCP option set transfers a large message.
#[actix::test]
async fn tcp_options_are_accepted() {
    let vhost = Vhost::fresh().await;
    let options = TcpOptions::new()
        .keepalive(Duration::from_secs(60))
        .user_timeout(Duration::from_secs(20))
        .send_buffer(64 * 1024)
        .receive_buffer(64 * 1024);
    let connector = Connector::new(&vhost.url()).unwrap().tcp(options);
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    let queue = within("a queue", 10, channel.declare_queue("q")).await.unwrap();
    let body = vec![7; 1 << 20];
    within("a publish", 20, channel.default_exchange().publish(body.clone(), "q")).await.unwrap();
    let delivery = within("get", 20, queue.get()).await.unwrap().unwrap();
    assert_eq!(delivery.body(), &body);
    within("close", 10, connection.close()).await.unwrap();
}

/// The reason of `close_with`, which is cut to 255 bytes between characters.
#[actix::test]
async fn the_close_reason_is_sent_to_the_broker() {
    for (close, expected) in [
        (CloseConnection::new(), (200, "closed by the application".to_owned())),
        (CloseConnection::new().reason(320, "moving house"), (320, "moving house".to_owned())),
        (CloseConnection::new().reason(200, "\u{e9}".repeat(200)), (200, "\u{e9}".repeat(127))),
    ] {
        let (connection, mut socket, _) =
            within("connect", 10, connect_with_script(|connector| connector, &HandshakeScript::new())).await;
        let (closed, sent) = tokio::join!(connection.close_with(close), socket.expect_close());
        closed.unwrap();
        assert_eq!(sent.unwrap(), expected);
        assert!(within("the end", 5, connection.closed()).await.is_ok());
    }
}

/// ACT-08: before and after the end of the connection.
#[actix::test]
async fn get_state_returns_the_state_at_any_time() {
    let (connection, mut socket, _) =
        within("connect", 10, connect_with_script(|connector| connector, &HandshakeScript::new())).await;
    let state = within("the state", 5, connection.actor().send(GetState)).await.unwrap();
    assert!(matches!(state, ConnectionState::Open(_)));
    socket.close_connection(320, "CONNECTION_FORCED - bye").await.unwrap();
    within("the end", 5, connection.closed()).await.unwrap_err();
    let state = within("the state", 5, connection.actor().send(GetState)).await.unwrap();
    let ConnectionState::Closed(Some(cause)) = state else { panic!("{state:?}") };
    assert_eq!(cause.close_reason().unwrap().code, 320);
}

/// CON-04: a watcher of a closed connection receives one `Closed` event.
#[actix::test]
async fn a_watcher_of_a_closed_connection_gets_closed_at_once() {
    let (connection, mut socket, _) =
        within("connect", 10, connect_with_script(|connector| connector, &HandshakeScript::new())).await;
    socket.close_connection(320, "CONNECTION_FORCED - bye").await.unwrap();
    within("the end", 5, connection.closed()).await.unwrap_err();
    let mut probe = Probe::<ConnectionEvent>::start();
    connection.watch(probe.recipient());
    match probe.next().await.unwrap() {
        ConnectionEvent::Closed(Some(cause)) => assert_eq!(cause.close_reason().unwrap().code, 320),
        other => panic!("{other:?}"),
    }
    let state = within("the actor handles a message", 5, connection.actor().send(GetState)).await;
    assert!(matches!(state, Ok(ConnectionState::Closed(_))));
    assert_eq!(probe.count().await, 1);
    let mut events = connection.events();
    let event = within("an event of a closed connection", 5, events.next()).await;
    assert!(matches!(event, Some(ConnectionEvent::Closed(Some(_)))), "{event:?}");
    assert!(within("the end of the stream", 5, events.next()).await.is_none());
}

/// CON-22: the error names the step of the handshake and what the server may have rejected. Its kind is not `Auth`.
#[actix::test]
async fn a_disconnect_in_the_handshake_names_the_likely_rejection() {
    for (step, method, rejected) in [
        (HandshakeStep::Tune, "connection.tune", "the login"),
        (HandshakeStep::OpenOk, "connection.open-ok", "the limits of tune-ok"),
    ] {
        let peer = Peer::listen().await.unwrap();
        let script = HandshakeScript::new().silent_at(step);
        let server = async {
            let (socket, _) = accept_with_script(&peer, &script).await;
            socket.reset().unwrap();
        };
        let connect = Connector::new(&peer.url()).unwrap().connect();
        let (result, ()) = within("an end", 10, async { tokio::join!(connect, server) }).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true));
        let text = error.to_string();
        assert!(text.contains(method) && text.contains(rejected), "{text}");
    }
}

/// PRO-15: nothing is sent, because no server would accept it.
#[actix::test]
async fn a_start_ok_that_is_too_long_is_a_limit_error() {
    let peer = Peer::listen().await.unwrap();
    let script = HandshakeScript::new();
    let connect = Connector::new(&peer.url()).unwrap().client_property("essay", "x".repeat(4096)).connect();
    let server = async {
        let mut socket = peer.accept().await.unwrap();
        socket.handshake_with(&script).await.unwrap_err();
    };
    let (result, ()) = within("an error", 10, async { tokio::join!(connect, server) }).await;
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Limit, false));
    assert!(error.to_string().contains("4096"), "{error}");
}
