//! Closing a connection while it recovers, by the application or without handles.

use std::time::Duration;

use actix_pika_actors::{
    CloseConnection, ConnectionEvent, DeclareQueue, ErrorKind, OpenChannel, Recovery,
    facade::ReleaseConnection,
    testing::{HandshakeScript, HandshakeStep, protocol::channel as methods},
};

use super::common::{
    Waiters, ask,
    recovery::{RecoveryBench, declare_ok, publish, until},
};

/// The phase of the recovery in which the user closes the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CloseIn {
    BackOff,
    Dialling,
    Handshake,
    Redeclaration,
    Channels,
}

/// CON-23, ACT-07, design 13.12: a close ends the recovery in every phase and answers all callers at once.
#[actix::test]
async fn a_close_wins_over_the_recovery() {
    for at in
        [CloseIn::BackOff, CloseIn::Dialling, CloseIn::Handshake, CloseIn::Redeclaration, CloseIn::Channels]
    {
        let wait = Duration::from_millis(if at == CloseIn::BackOff { 60_000 } else { 1 });
        let recovery = Recovery::fixed(wait);
        let mut test =
            RecoveryBench::start_with(&HandshakeScript::new(), |options| options.recovery = recovery).await;
        let channel = test.bench.channel(4, OpenChannel::new().number(4)).await;
        let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
        declare_ok(&mut test.bench.socket, 4, "jobs").await;
        declare.answer().await.unwrap();
        let waiters = Waiters::start(&mut test.bench).await;
        test.disconnect().await;
        let call = ask(&channel.actor, DeclareQueue::new("jobs"));
        let open = ask(&test.bench.client.supervisor, OpenChannel::new());
        let socket = match at {
            CloseIn::BackOff => None,
            CloseIn::Dialling => {
                let mut socket = test.bench.peer.accept().await.unwrap();
                socket.expect_header().await.unwrap();
                Some(socket)
            }
            CloseIn::Handshake => {
                let mut socket = test.bench.peer.accept().await.unwrap();
                socket
                    .handshake_with(&HandshakeScript::new().silent_at(HandshakeStep::OpenOk))
                    .await
                    .unwrap();
                Some(socket)
            }
            CloseIn::Redeclaration | CloseIn::Channels => {
                let mut socket = test.bench.peer.accept().await.unwrap();
                socket.handshake().await.unwrap();
                socket.open_channel(2047).await.unwrap();
                if at == CloseIn::Channels {
                    declare_ok(&mut socket, 2047, "jobs").await;
                    socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
                    socket.expect::<methods::Open>(1).await.unwrap();
                }
                Some(socket)
            }
        };
        let close = ask(&test.bench.client.supervisor, CloseConnection::new());
        if let Some(mut socket) = socket {
            if matches!(at, CloseIn::Redeclaration | CloseIn::Channels) {
                socket.expect_close().await.unwrap();
            }
            socket.read_to_end().await.unwrap();
        }
        let error = close.answer().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionClosed, "{at:?}: {error}");
        assert_eq!(error.io_kind(), Some(std::io::ErrorKind::ConnectionReset), "{at:?}: {error}");
        assert!(error.to_string().contains("with 1 publishes unconfirmed"), "{at:?}: {error}");
        waiters.are_answered().await;
        for kind in [call.answer().await.unwrap_err().kind(), open.answer().await.unwrap_err().kind()] {
            assert_eq!(kind, ErrorKind::ConnectionClosed, "{at:?}");
        }
        assert!(test.bench.client.closed().await.is_none(), "{at:?}");
        test.events.next_matching(|event| matches!(event, ConnectionEvent::Closed(None))).await.unwrap();
        test.bench.peer.time_limit(Duration::from_millis(20)).accept().await.unwrap_err();
    }
}

/// CON-23: a close during an outage names its cause, and which publishes were never sent.
#[actix::test]
async fn a_close_during_an_outage_knows_what_was_never_sent() {
    let recovery = Recovery::fixed(Duration::from_secs(60));
    let mut test =
        RecoveryBench::start_with(&HandshakeScript::new(), |options| options.recovery = recovery).await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let sent = publish(&channel, "sent").await;
    test.expect_publishes(&["sent"]).await;
    test.disconnect().await;
    let queued = [publish(&channel, "queued").await, publish(&channel, "queued too").await];
    let error = ask(&test.bench.client.supervisor, CloseConnection::new()).answer().await.unwrap_err();
    let reset = Some(std::io::ErrorKind::ConnectionReset);
    assert_eq!(
        (error.kind(), error.io_kind(), error.may_have_arrived()),
        (ErrorKind::ConnectionClosed, reset, true)
    );
    assert!(error.to_string().contains("3 publishes unconfirmed, of which 1 may have arrived"), "{error}");
    for (publish, may_have_arrived) in
        [(sent, true)].into_iter().chain(queued.map(|publish| (publish, false)))
    {
        let error = publish.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.io_kind()), (ErrorKind::ConnectionClosed, reset), "{error}");
        assert_eq!(error.may_have_arrived(), may_have_arrived, "{error}");
        assert!(error.to_string().contains("closed by the application"), "{error}");
    }
}

/// ACT-07, design 13.12: when the last handle is dropped during the back-off, the connection is not dialled again.
#[actix::test]
async fn a_connection_without_handles_is_not_dialled_again() {
    let recovery = Recovery::fixed(Duration::from_secs(60));
    let mut test =
        RecoveryBench::start_with(&HandshakeScript::new(), |options| options.recovery = recovery).await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    test.disconnect().await;
    drop(channel);
    test.bench.client.supervisor.do_send(ReleaseConnection);
    assert!(test.bench.client.closed().await.is_none());
    let supervisor = test.bench.client.supervisor.clone();
    until("the supervisor has ended", || !supervisor.connected()).await;
}

/// ACT-07: an unconfirmed publish keeps the channel of a dropped handle open until its confirm, over a reconnect too.
#[actix::test]
async fn an_unconfirmed_publish_outlives_its_handle_and_the_connection() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let outbox = channel.outbox.clone();
    publish(&channel, "kept").await.give_up().await;
    test.expect_publishes(&["kept"]).await;
    drop(channel);
    test.bench.client.supervisor.do_send(ReleaseConnection);
    test.disconnect_and_recover().await;
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    assert_eq!(test.bench.socket.expect_channel_close(1).await.unwrap().0, 200);
    test.bench.socket.expect_close().await.unwrap();
    assert!(test.bench.client.closed().await.is_none());
    assert_eq!(outbox.load().unconfirmed, 0);
}
