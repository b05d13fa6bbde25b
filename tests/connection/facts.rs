//! What an open connection tells of itself, and what the broker is told of its end.

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

/// CON-11: our end is what the broker takes for its peer.
#[actix::test]
async fn both_ends_of_the_socket_are_told() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, actix_pika::connect(vhost.url())).await.unwrap();
    let (local, peer) = (connection.local_addr().unwrap(), connection.peer_addr().unwrap());
    let shown = eventually("the broker shows the connection", 15, async || {
        let connections = vhost.connections().await;
        let one = connections.first()?;
        Some((one["peer_port"].as_u64()?, one["port"].as_u64()?))
    });
    assert_eq!(shown.await, (local.port().into(), peer.port().into()));
    let ConnectionState::Open(opened) = connection.state() else { panic!("open") };
    assert_eq!((opened.local_addr, opened.peer_addr), (local, peer));
    assert_eq!(opened.address.port, peer.port());
    assert_eq!(Some(opened.channel_max()), connection.channel_max());
    within("close", 10, connection.close()).await.unwrap();
    assert_eq!((connection.local_addr(), connection.peer_addr()), (None, None));
}

/// The socket is set up before it connects, and works.
#[actix::test]
async fn tcp_options_do_not_get_in_the_way() {
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

/// The reason that an application gives for closing.
#[actix::test]
async fn the_peer_hears_the_reason_of_a_close() {
    for (reason, heard) in [
        (CloseConnection::new(), (200, "closed by the application".to_owned())),
        (CloseConnection::new().reason(320, "moving house"), (320, "moving house".to_owned())),
        (CloseConnection::new().reason(200, "\u{e9}".repeat(200)), (200, "\u{e9}".repeat(127))),
    ] {
        let (connection, mut socket, _) =
            within("connect", 10, connect_with_script(|connector| connector, &HandshakeScript::new())).await;
        let (closed, said) = tokio::join!(connection.close_with(reason), socket.expect_close());
        closed.unwrap();
        assert_eq!(said.unwrap(), heard);
        assert!(within("the end", 5, connection.closed()).await.is_ok());
    }
}

/// ACT-08: at any time, as a message, before and after the end.
#[actix::test]
async fn the_state_can_be_asked_for_in_a_message() {
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

/// CON-04: who comes too late to see the end is told of it all the same, once.
#[actix::test]
async fn a_late_watcher_hears_of_the_end_at_once() {
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
    let state = within("a turn of the actor", 5, connection.actor().send(GetState)).await;
    assert!(matches!(state, Ok(ConnectionState::Closed(_))));
    assert_eq!(probe.count().await, 1);
    let mut events = connection.events();
    let event = within("an event of a closed connection", 5, events.next()).await;
    assert!(matches!(event, Some(ConnectionEvent::Closed(Some(_)))), "{event:?}");
    assert!(within("the end of the stream", 5, events.next()).await.is_none());
}

/// CON-22: the error says which step it was and what may have been wrong with it; it is not one of kind `Auth`.
#[actix::test]
async fn a_hang_up_without_a_word_names_what_may_have_been_refused() {
    for (step, stage, suspect) in [
        (HandshakeStep::Tune, "connection.tune", "the login"),
        (HandshakeStep::OpenOk, "connection.open-ok", "the limits of tune-ok"),
    ] {
        let peer = Peer::listen().await.unwrap();
        let script = HandshakeScript::new().silent_at(step);
        let hang_up = async {
            let (socket, _) = accept_with_script(&peer, &script).await;
            socket.reset().unwrap();
        };
        let connect = Connector::new(&peer.url()).unwrap().connect();
        let (result, ()) = within("an end", 10, async { tokio::join!(connect, hang_up) }).await;
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true));
        let text = error.to_string();
        assert!(text.contains(stage) && text.contains(suspect), "{text}");
    }
}

/// PRO-15: too long by one byte is refused before anything of it is sent, for every address alike.
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
