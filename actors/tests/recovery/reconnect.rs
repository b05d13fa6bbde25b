//! How a connection reconnects: attempts, addresses, credentials, and what a former connection leaves.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use actix_pika_actors::{
    Address, ChannelEvent, CloseConnection, ConnectionEvent, ConnectionOptions, ConnectionState, Credentials,
    DeclareQueue, ErrorKind, GetState, OpenChannel, Recovery, SharedProvider, UpdateSecret, WatchChannel,
    WatchConnection,
    testing::{
        HandshakeScript, HandshakeStep, PanicConnection, Peer, Probe,
        protocol::{basic, confirm, connection, queue},
    },
};

use super::common::{
    Bench, Client, TAG, answer_consume, ask, at_once, close,
    recovery::{RecoveryBench, publish, until},
};

fn recovers(options: &mut ConnectionOptions) {
    options.recovery = Recovery::fixed(Duration::from_millis(1));
}

async fn watch(client: &Client) -> Probe<ConnectionEvent> {
    let events = Probe::start();
    client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
    events
}

async fn retrying(events: &mut Probe<ConnectionEvent>, number: u32) -> ErrorKind {
    match events.next().await.unwrap() {
        ConnectionEvent::Retrying { attempt, error, .. } if attempt == number => error.kind(),
        other => panic!("{other:?} instead of attempt {number}"),
    }
}

/// CON-03, ACT-05: the first connect fails at its first failure, without a retry.
#[actix::test]
async fn the_first_connect_fails_fast() {
    let peer = Peer::listen().await.unwrap();
    let client = Client::dial_with(&peer, recovers);
    let mut socket = peer.accept().await.unwrap();
    socket
        .handshake_with(&HandshakeScript::new().refuse_at(HandshakeStep::OpenOk, 530, "NOT_ALLOWED"))
        .await
        .unwrap();
    assert_eq!(client.closed().await.unwrap().kind(), ErrorKind::Vhost);
    let peer = peer.time_limit(Duration::from_millis(50));
    peer.accept().await.unwrap_err();
}

/// ACT-01, BRK-06: a broker that is still booting (silent, closing at once, or refusing) is dialled again at the
/// interval; the first connection recovers nothing.
#[actix::test]
async fn a_broker_that_is_booting_is_tried_again() {
    let peer = Peer::listen().await.unwrap();
    let client = Client::dial_with(&peer, |options| {
        recovers(options);
        options.fail_fast = false;
        options.connect_timeout = Duration::from_millis(100);
    });
    let mut events = watch(&client).await;
    peer.accept().await.unwrap().reset().unwrap();
    assert_eq!(retrying(&mut events, 1).await, ErrorKind::Io);
    let early = ask(&client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::ConnectionClosed);
    let silent = peer.accept().await.unwrap();
    assert_eq!(retrying(&mut events, 2).await, ErrorKind::Timeout);
    drop(silent);
    let refusal = HandshakeScript::new().refuse_at(HandshakeStep::OpenOk, 530, "NOT_ALLOWED - vhost is down");
    peer.accept().await.unwrap().handshake_with(&refusal).await.unwrap();
    assert_eq!(retrying(&mut events, 3).await, ErrorKind::Vhost);
    let mut socket = peer.accept().await.unwrap();
    let terms = socket.handshake().await.unwrap();
    assert!(matches!(events.next().await.unwrap(), ConnectionEvent::Connected));
    assert!(client.is_open());
    let mut bench = Bench { peer, socket, client, terms };
    bench.assert_works(1).await;
    let ConnectionEvent::Health(health) = events.next().await.unwrap() else { panic!("no health") };
    assert!(health.is_up());
    assert_eq!(events.count().await, 5);
}

/// ACT-01, REC-23: after the last attempt the connection closes for good; each caller and watcher receives the last
/// failure once.
#[actix::test]
async fn the_connection_closes_after_the_last_attempt() {
    let recovery = Recovery::fixed(Duration::from_millis(1)).attempts(2);
    let mut test =
        RecoveryBench::start_with(&HandshakeScript::new(), |options| options.recovery = recovery).await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let in_flight = publish(&channel, "in flight").await;
    test.expect_publishes(&["in flight"]).await;
    test.disconnect().await;
    for number in [1, 2] {
        retrying(&mut test.events, number).await;
        test.bench.peer.accept().await.unwrap().reset().unwrap();
    }
    let cause = test.bench.client.closed().await.unwrap();
    assert_eq!(cause.kind(), ErrorKind::Io);
    let error = in_flight.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, true));
    assert!(matches!(test.events.next().await.unwrap(), ConnectionEvent::Closed(Some(_))));
    let late = ask(&test.bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ConnectionClosed);
    at_once("close", test.bench.client.supervisor.send(CloseConnection::new())).await.unwrap().unwrap();
}

/// CON-14: the next of several addresses is dialled when the first one does not answer.
#[actix::test]
async fn the_next_address_is_dialled() {
    let other = Peer::listen().await.unwrap();
    let port = other.addr().port();
    let mut test = RecoveryBench::start_with(&HandshakeScript::new(), |options| {
        options.other_addresses = vec![Address::new("127.0.0.1", port)];
    })
    .await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let kept = publish(&channel, "kept").await;
    test.expect_publishes(&["kept"]).await;
    // Nobody listens at the first address any more.
    test.bench.peer = other;
    test.disconnect_and_recover().await;
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    let ConnectionState::Open(opened) = test.bench.client.supervisor.send(GetState).await.unwrap() else {
        panic!("not open")
    };
    assert_eq!(opened.peer_addr.port(), port);
}

/// AUTH-11: the provider is asked for credentials at every attempt, failed ones included.
#[actix::test]
async fn credentials_are_asked_for_at_every_attempt() {
    let peer = Peer::listen().await.unwrap();
    let asked = AtomicU32::new(0);
    let client = Client::dial_with(&peer, |options| {
        recovers(options);
        let provider = move || {
            let times = asked.fetch_add(1, Ordering::Relaxed);
            async move { Ok(Credentials::new("user", format!("secret{times}"))) }
        };
        options.credentials = SharedProvider::new(provider);
    });
    let mut responses = Vec::new();
    for refused in [false, true, false] {
        let mut socket = peer.accept().await.unwrap();
        let script = match refused {
            true => HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "ACCESS_REFUSED"),
            false => HandshakeScript::new(),
        };
        responses.push(socket.handshake_with(&script).await.unwrap().response);
        if !refused {
            until("it is open", || client.is_open()).await;
        }
        socket.reset().unwrap();
    }
    assert_eq!(responses, [b"\0user\0secret0", b"\0user\0secret1", b"\0user\0secret2"].map(Vec::from));
}

/// AUTH-11: a secret that the broker accepted is used for the next login; one without an answer is not.
#[actix::test]
async fn an_updated_secret_is_kept_for_the_next_connect() {
    let mut test = RecoveryBench::start().await;
    let taken = ask(&test.bench.client.supervisor, UpdateSecret::new("taken", "test"));
    test.bench.socket.answer(0, |_: connection::UpdateSecret| connection::UpdateSecretOk {}).await.unwrap();
    taken.answer().await.unwrap();
    let lost = ask(&test.bench.client.supervisor, UpdateSecret::new("lost", "test"));
    test.bench.socket.expect::<connection::UpdateSecret>(0).await.unwrap();
    test.disconnect().await;
    assert_eq!(lost.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    let mut socket = test.bench.peer.accept().await.unwrap();
    assert_eq!(socket.handshake().await.unwrap().response, b"\0guest\0taken");
}

/// ACT-02, ACT-03: frames and the end of a former connection change nothing; each channel is detached once and reopened
/// once.
#[actix::test]
async fn frames_of_a_former_connection_change_nothing() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let mut changes = Probe::<ChannelEvent>::start();
    channel.actor.send(WatchChannel(changes.recipient())).await.unwrap();
    let kept = publish(&channel, "kept").await;
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.send(0, close(320, "CONNECTION_FORCED")).await.unwrap();
    assert_eq!(test.lost().await.close_reason().unwrap().code, 320);
    let mut former = test.take_socket();
    test.reconnect_and_reopen().await;
    test.expect_publishes(&["kept"]).await;
    test.recovered().await;
    let events = test.events.count().await;
    // The socket may be closed already.
    let _ = former.confirm(1, 1, false).await;
    former.reset().unwrap();
    test.bench.round_trip(&channel).await;
    assert!(!kept.is_answered());
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    assert!(matches!(changes.next().await.unwrap(), ChannelEvent::Reopened(_)));
    assert_eq!((changes.count().await, test.events.count().await), (1, events));
}

/// ACT-15: a panic in the Connection actor is handled like any lost connection: calls fail, publishes are resent,
/// consumers recover, and the next connection opens each channel once.
#[actix::test]
async fn a_connection_that_panics_is_replaced() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let mut deliveries = test.bench.consume(&channel).await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    let kept = publish(&channel, "kept").await;
    test.expect_publishes(&["kept"]).await;
    test.bench.client.supervisor.do_send(PanicConnection);
    assert_eq!(test.lost().await.kind(), ErrorKind::Stopped);
    let error = declare.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectionClosed, true));
    assert!(test.bench.socket.read_to_end().await.unwrap().is_empty());
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    answer_consume(&mut test.bench.socket, 1).await;
    test.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    test.bench.socket.deliver(1, TAG, 1, "x").await.unwrap();
    deliveries.next().await.unwrap().ack().unwrap();
    test.bench.socket.expect::<basic::Ack>(1).await.unwrap();
    test.recovered().await;
}

/// HB, design 7.13: a connection without traffic for two heartbeats is closed and dialled again.
#[actix::test]
async fn a_silent_connection_is_dialled_again() {
    let mut test = RecoveryBench::start_with(&HandshakeScript::new().tune(10, 131_072, 1), |_| {}).await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let kept = publish(&channel, "kept").await;
    test.expect_publishes(&["kept"]).await;
    let silent = async { test.bench.socket.read_to_end().await.unwrap() };
    assert!(silent.await.is_empty());
    test.lost().await;
    test.reconnect_and_reopen().await;
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
}
