//! The supervised connection: how it reconnects, what happens to calls meanwhile, and how it closes for good.

#![allow(missing_docs, unreachable_pub, dead_code)]

mod common;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use actix_pika_actors::{
    Address, ChannelEvent, CloseConnection, ConnectionEvent, ConnectionOptions, ConnectionState, Credentials,
    DeclareExchange, DeclareQueue, ErrorKind, GetHealth, GetState, Health, OpenChannel, OpenedChannel,
    PauseConsumer, Recovery, ReleaseConnection, SharedProvider, UpdateSecret, WatchChannel, WatchConnection,
    testing::{
        GetRecordCounts, HandshakeScript, HandshakeStep, Panic, PanicConnection, Peer, PeerSocket, Probe,
        RawFrame,
        protocol::{basic, channel as methods, confirm, connection, exchange, queue},
    },
};

use self::common::{
    Bench, Client, TAG, Waiters, answer_consume, ask, at_once, close,
    recovery::{RecoveryBench, publish, until},
};

fn recovers(options: &mut ConnectionOptions) {
    options.recovery = Recovery::fixed(Duration::from_millis(1));
}

async fn declare_ok(socket: &mut PeerSocket, channel: u16, name: &str) {
    let declared = socket
        .answer(channel, |declare: queue::Declare| queue::DeclareOk {
            queue: declare.queue,
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(declared.queue.as_str(), name);
}

/// Returns when the channel has handled the messages sent so far.
async fn mailbox_handled(channel: &OpenedChannel) {
    at_once("an answer", channel.actor.send(PauseConsumer::pause("nobody"))).await.unwrap().unwrap_err();
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
        options.credentials = Some(SharedProvider::new(provider));
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

/// ACT-04, CON-19: a call without a reply fails as retryable. Calls made while the connection is down are sent after the
/// reconnect, in order, except those whose caller gave up; calls made with `do_send` are sent too.
#[actix::test]
async fn calls_wait_for_the_connection_in_their_order() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new().confirms(false)).await;
    let under_way = ask(&channel.actor, DeclareQueue::new("under way"));
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    test.disconnect().await;
    let error = under_way.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectionClosed, true));
    let first = ask(&channel.actor, DeclareQueue::new("first").robust(false));
    let dropped = ask(&channel.actor, DeclareQueue::new("dropped"));
    mailbox_handled(&channel).await;
    channel.actor.do_send(DeclareExchange::topic("sent"));
    let last = ask(&channel.actor, DeclareQueue::new("last"));
    mailbox_handled(&channel).await;
    dropped.give_up().await;
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    declare_ok(&mut test.bench.socket, 1, "first").await;
    let sent = test.bench.socket.answer(1, |_: exchange::Declare| exchange::DeclareOk {}).await.unwrap();
    assert_eq!(sent.exchange.as_str(), "sent");
    declare_ok(&mut test.bench.socket, 1, "last").await;
    assert_eq!(first.answer().await.unwrap().name, "first");
    assert_eq!(last.answer().await.unwrap().name, "last");
    let records = test.bench.client.supervisor.send(GetRecordCounts).await.unwrap();
    assert_eq!((records.exchanges, records.queues), (1, 1));
}

/// ACT-04, design 13.9: calls and channel opens that wait for the connection have a deadline.
#[actix::test]
async fn calls_that_wait_for_the_connection_have_a_deadline() {
    let deadline = Duration::from_millis(60);
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new().deadline(deadline)).await;
    test.disconnect().await;
    let call = ask(&channel.actor, DeclareQueue::new("late"));
    let open = ask(&test.bench.client.supervisor, OpenChannel::new().deadline(deadline));
    let patient = ask(&test.bench.client.supervisor, OpenChannel::new().confirms(false));
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(open.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    test.reconnect().await;
    test.reopen_channel(1).await;
    test.bench.socket.open_channel(3).await.unwrap();
    patient.answer().await.unwrap();
    test.recovered().await;
    test.bench.round_trip(&channel).await;
    test.bench.assert_works(2).await;
}

/// ACT-02, ACT-03: frames and the end of a former connection change nothing; each channel is detached once and reopened
/// once.
#[actix::test]
async fn frames_of_a_former_connection_change_nothing() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let mut changes = Probe::<ChannelEvent>::start();
    channel.actor.send(WatchChannel(changes.recipient())).await.unwrap();
    let kept = publish(&channel, "kept").await;
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.send(0, close(320, "CONNECTION_FORCED")).await.unwrap();
    assert_eq!(test.lost().await.close_reason().unwrap().code, 320);
    let mut former = test.take_socket();
    test.reconnect().await;
    test.reopen_channel(1).await;
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
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
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

/// ACT-07, design 13.9: a panic in a Channel actor closes the connection, unless that is down anyway; handles, publishes
/// and consumers recover with the next one.
#[actix::test]
async fn a_channel_that_panics_recovers_with_another_connection() {
    for phase in ["open", "down", "recovering"] {
        let mut test = RecoveryBench::start().await;
        let channel = test.bench.channel(1, OpenChannel::new().window(1)).await;
        let mut deliveries = test.bench.consume(&channel).await;
        let first = publish(&channel, "first").await;
        let second = publish(&channel, "second").await;
        test.expect_publishes(&["first"]).await;
        if phase != "open" {
            test.disconnect().await;
        }
        if phase == "recovering" {
            test.reconnect().await;
            test.bench.socket.expect::<methods::Open>(1).await.unwrap();
        }
        let call = ask(&channel.actor, DeclareQueue::new("jobs"));
        if phase == "open" {
            test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
        }
        channel.actor.do_send(Panic);
        if phase != "down" {
            test.bench.socket.expect_close().await.unwrap();
            assert_eq!(test.lost().await.kind(), ErrorKind::Protocol);
        }
        test.reconnect().await;
        test.bench.socket.open_channel(1).await.unwrap();
        answer_consume(&mut test.bench.socket, 1).await;
        test.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
        test.expect_publishes(&["first"]).await;
        if phase == "open" {
            assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
        } else {
            declare_ok(&mut test.bench.socket, 1, "jobs").await;
            call.answer().await.unwrap();
        }
        test.bench.socket.confirm(1, 1, false).await.unwrap();
        assert_eq!(first.answer().await.unwrap().sequence(), Some(1));
        test.expect_publishes(&["second"]).await;
        test.bench.socket.confirm(1, 2, false).await.unwrap();
        assert_eq!(second.answer().await.unwrap().sequence(), Some(2));
        test.bench.socket.deliver(1, TAG, 1, "x").await.unwrap();
        deliveries.next().await.unwrap().ack().unwrap();
        test.bench.socket.expect::<basic::Ack>(1).await.unwrap();
        test.recovered().await;
    }
}

/// Design 13.10: the caller gets `Timeout` after the deadline; after one more deadline the channel is closed and
/// reopened, and unconfirmed publishes may have arrived.
#[actix::test]
async fn a_channel_without_replies_is_reopened() {
    let mut test = RecoveryBench::start().await;
    let options = OpenChannel::new().deadline(Duration::from_millis(150));
    let channel = test.bench.channel(1, options).await;
    let call = ask(&channel.actor, DeclareQueue::new("jobs"));
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    let close = test.bench.socket.expect::<methods::Close>(1).await.unwrap();
    assert_eq!(close.reply_code, 541);
    let waiting = ask(&channel.actor, DeclareQueue::new("others"));
    // Too late: it must not be taken for a reply to another call.
    let late = queue::DeclareOk { queue: "jobs".into(), ..Default::default() };
    test.bench.socket.send(1, late).await.unwrap();
    test.bench.socket.send(1, methods::CloseOk {}).await.unwrap();
    test.reopen_channel(1).await;
    declare_ok(&mut test.bench.socket, 1, "others").await;
    assert_eq!(waiting.answer().await.unwrap().name, "others");
    let call = publish(&channel, "goes on").await;
    test.expect_publishes(&["goes on"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    call.answer().await.unwrap();
}

/// Design 13.9: an unexpected reply during the redeclaration closes the connection; the next one redeclares.
#[actix::test]
async fn a_wrong_reply_to_a_redeclaration_causes_another_reconnect() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    declare_ok(&mut test.bench.socket, 1, "jobs").await;
    declare.answer().await.unwrap();
    let kept = publish(&channel, "kept").await;
    test.expect_publishes(&["kept"]).await;
    test.disconnect().await;
    test.reconnect().await;
    test.bench.socket.open_channel(2047).await.unwrap();
    test.bench.socket.answer(2047, |_: queue::Declare| queue::PurgeOk::default()).await.unwrap();
    test.bench.socket.expect_close().await.unwrap();
    assert_eq!(test.lost().await.kind(), ErrorKind::Protocol);
    test.reconnect().await;
    test.bench.socket.open_channel(2047).await.unwrap();
    declare_ok(&mut test.bench.socket, 2047, "jobs").await;
    test.bench.socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    test.reopen_channel(1).await;
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    test.recovered().await;
}

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
        assert_eq!(error.kind(), ErrorKind::Timeout, "{at:?}: {error}");
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
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
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

/// BLK-08, REC-08: an alarm ends with its connection, even with one that its channels were never attached to; the next
/// connection reports its own.
#[actix::test]
async fn an_alarm_ends_with_its_connection() {
    let blocked = || connection::Blocked { reason: "low on memory".into() };
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    declare_ok(&mut test.bench.socket, 1, "jobs").await;
    declare.answer().await.unwrap();
    test.bench.socket.send(0, blocked()).await.unwrap();
    test.events.next_matching(|event| matches!(event, ConnectionEvent::Blocked(_))).await.unwrap();
    let held = publish(&channel, "held").await;
    assert_eq!(channel.outbox.load().waiting, 1);
    test.disconnect().await;
    // Blocked again, before the channel has recovered.
    test.reconnect().await;
    test.bench.socket.open_channel(2047).await.unwrap();
    test.bench.socket.send(0, blocked()).await.unwrap();
    test.events.next_matching(|event| matches!(event, ConnectionEvent::Blocked(_))).await.unwrap();
    let Health::Degraded(_) = test.bench.client.supervisor.send(GetHealth).await.unwrap() else {
        panic!("not degraded")
    };
    test.disconnect().await;
    test.reconnect().await;
    test.bench.socket.open_channel(2047).await.unwrap();
    declare_ok(&mut test.bench.socket, 2047, "jobs").await;
    test.bench.socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    test.reopen_channel(1).await;
    test.expect_publishes(&["held"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    held.answer().await.unwrap();
    test.recovered().await;
    assert!(test.bench.client.supervisor.send(GetHealth).await.unwrap().is_up());
    // Publishes wait on a connection whose open-ok and alarm arrive in one read.
    test.disconnect().await;
    test.reconnect_with(&HandshakeScript::new().silent_at(HandshakeStep::OpenOk)).await;
    let words = [RawFrame::method(0, connection::OpenOk {}), RawFrame::method(0, blocked())];
    test.bench.socket.send_frames(&words).await.unwrap();
    test.events.next_matching(|event| matches!(event, ConnectionEvent::Blocked(_))).await.unwrap();
    test.bench.socket.open_channel(2047).await.unwrap();
    declare_ok(&mut test.bench.socket, 2047, "jobs").await;
    test.bench.socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    test.reopen_channel(1).await;
    test.recovered().await;
    let held = publish(&channel, "held").await;
    assert_eq!(channel.outbox.load().waiting, 1);
    test.bench.socket.send(0, connection::Unblocked {}).await.unwrap();
    test.expect_publishes(&["held"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    held.answer().await.unwrap();
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
    test.reconnect().await;
    test.reopen_channel(1).await;
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
}
