//! The connection that is supervised: how it comes back, what becomes of calls meanwhile, and how it ends for good.

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
    lives::{Lives, publish, until},
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

/// Returns when the channel has read its mail: what it answers at once comes last.
async fn settled(channel: &OpenedChannel) {
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
        other => panic!("{other:?} where try {number} is due"),
    }
}

/// CON-03, ACT-05: the first connect fails at its first failure, and nothing is tried again.
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

/// ACT-01, BRK-06: a broker that is still booting, silent, closing at once or refusing, is tried again at the interval,
/// and its first life needs nothing restored.
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
    bench.goes_on(1).await;
    let ConnectionEvent::Health(health) = events.next().await.unwrap() else { panic!("no health") };
    assert!(health.is_up());
    assert_eq!(events.count().await, 5);
}

/// ACT-01, REC-23: after so many tries it is over; everyone hears of it once, and of the last failure.
#[actix::test]
async fn after_so_many_tries_it_is_over() {
    let recovery = Recovery::fixed(Duration::from_millis(1)).attempts(2);
    let mut lives = Lives::begin_with(&HandshakeScript::new(), |options| options.recovery = recovery).await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let in_flight = publish(&channel, "in flight").await;
    lives.publishes(&["in flight"]).await;
    lives.lose().await;
    for number in [1, 2] {
        retrying(&mut lives.events, number).await;
        lives.bench.peer.accept().await.unwrap().reset().unwrap();
    }
    let cause = lives.bench.client.closed().await.unwrap();
    assert_eq!(cause.kind(), ErrorKind::Io);
    let error = in_flight.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, true));
    assert!(matches!(lives.events.next().await.unwrap(), ConnectionEvent::Closed(Some(_))));
    let late = ask(&lives.bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ConnectionClosed);
    at_once("close", lives.bench.client.supervisor.send(CloseConnection::new())).await.unwrap().unwrap();
}

/// CON-14: of several addresses the next one takes over.
#[actix::test]
async fn the_next_address_takes_over() {
    let other = Peer::listen().await.unwrap();
    let port = other.addr().port();
    let mut lives = Lives::begin_with(&HandshakeScript::new(), |options| {
        options.other_addresses = vec![Address::new("127.0.0.1", port)];
    })
    .await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let kept = publish(&channel, "kept").await;
    lives.publishes(&["kept"]).await;
    // Nobody listens at the first one any more.
    lives.bench.peer = other;
    lives.cut().await;
    lives.publishes(&["kept"]).await;
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    let ConnectionState::Open(opened) = lives.bench.client.supervisor.send(GetState).await.unwrap() else {
        panic!("not open")
    };
    assert_eq!(opened.peer_addr.port(), port);
}

/// AUTH-11: credentials are asked for at every try, one that fails included.
#[actix::test]
async fn credentials_are_asked_for_at_every_try() {
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

/// AUTH-11: a secret that the broker has taken is that of the next connect; one that it has not is not.
#[actix::test]
async fn an_updated_secret_is_kept_for_the_next_connect() {
    let mut lives = Lives::begin().await;
    let taken = ask(&lives.bench.client.supervisor, UpdateSecret::new("taken", "test"));
    lives.bench.socket.answer(0, |_: connection::UpdateSecret| connection::UpdateSecretOk {}).await.unwrap();
    taken.answer().await.unwrap();
    let lost = ask(&lives.bench.client.supervisor, UpdateSecret::new("lost", "test"));
    lives.bench.socket.expect::<connection::UpdateSecret>(0).await.unwrap();
    lives.lose().await;
    assert_eq!(lost.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    let mut socket = lives.bench.peer.accept().await.unwrap();
    assert_eq!(socket.handshake().await.unwrap().response, b"\0guest\0taken");
}

/// ACT-04, CON-19: a call that was under way fails and may be made again; those made while the
/// connection is away are made later, in order, except for those that were given up; those only sent are made too.
#[actix::test]
async fn calls_wait_for_the_connection_in_their_order() {
    let mut lives = Lives::begin().await;
    let channel = lives.bench.channel(1, OpenChannel::new().confirms(false)).await;
    let under_way = ask(&channel.actor, DeclareQueue::new("under way"));
    lives.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    lives.lose().await;
    let error = under_way.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectionClosed, true));
    let first = ask(&channel.actor, DeclareQueue::new("first").robust(false));
    let dropped = ask(&channel.actor, DeclareQueue::new("dropped"));
    settled(&channel).await;
    channel.actor.do_send(DeclareExchange::topic("sent"));
    let last = ask(&channel.actor, DeclareQueue::new("last"));
    settled(&channel).await;
    dropped.give_up().await;
    lives.back().await;
    lives.bench.socket.open_channel(1).await.unwrap();
    declare_ok(&mut lives.bench.socket, 1, "first").await;
    let sent = lives.bench.socket.answer(1, |_: exchange::Declare| exchange::DeclareOk {}).await.unwrap();
    assert_eq!(sent.exchange.as_str(), "sent");
    declare_ok(&mut lives.bench.socket, 1, "last").await;
    assert_eq!(first.answer().await.unwrap().name, "first");
    assert_eq!(last.answer().await.unwrap().name, "last");
    let records = lives.bench.client.supervisor.send(GetRecordCounts).await.unwrap();
    assert_eq!((records.exchanges, records.queues), (1, 1));
}

/// ACT-04, design 13.9: what waits for the connection has a deadline: calls, and channels that are to open.
#[actix::test]
async fn what_waits_for_the_connection_has_a_deadline() {
    let deadline = Duration::from_millis(60);
    let mut lives = Lives::begin().await;
    let channel = lives.bench.channel(1, OpenChannel::new().deadline(deadline)).await;
    lives.lose().await;
    let call = ask(&channel.actor, DeclareQueue::new("late"));
    let open = ask(&lives.bench.client.supervisor, OpenChannel::new().deadline(deadline));
    let patient = ask(&lives.bench.client.supervisor, OpenChannel::new().confirms(false));
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(open.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    lives.back().await;
    lives.reopen(1).await;
    lives.bench.socket.open_channel(3).await.unwrap();
    patient.answer().await.unwrap();
    lives.restored().await;
    lives.bench.round_trip(&channel).await;
    lives.bench.goes_on(2).await;
}

/// ACT-02, ACT-03: what a former connection still says, and its end, are nobody's business any more; each channel hears of
/// the loss once and is opened once.
#[actix::test]
async fn the_echo_of_a_former_connection_changes_nothing() {
    let mut lives = Lives::begin().await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let mut changes = Probe::<ChannelEvent>::start();
    channel.actor.send(WatchChannel(changes.recipient())).await.unwrap();
    let kept = publish(&channel, "kept").await;
    lives.publishes(&["kept"]).await;
    lives.bench.socket.send(0, close(320, "CONNECTION_FORCED")).await.unwrap();
    assert_eq!(lives.lost().await.close_reason().unwrap().code, 320);
    let mut former = lives.take_socket();
    lives.back().await;
    lives.reopen(1).await;
    lives.publishes(&["kept"]).await;
    lives.restored().await;
    let events = lives.events.count().await;
    // Its socket may be gone already.
    let _ = former.confirm(1, 1, false).await;
    former.reset().unwrap();
    lives.bench.round_trip(&channel).await;
    assert!(!kept.is_answered());
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    assert!(matches!(changes.next().await.unwrap(), ChannelEvent::Reopened(_)));
    assert_eq!((changes.count().await, lives.events.count().await), (1, events));
}

/// ACT-15: a panic in the Connection actor is a lost connection like any other: calls fail, publishes are sent again,
/// consumers go on, and the next connection has each channel once.
#[actix::test]
async fn a_connection_that_panics_is_replaced() {
    let mut lives = Lives::begin().await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let mut deliveries = lives.bench.consume(&channel).await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    lives.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    let kept = publish(&channel, "kept").await;
    lives.publishes(&["kept"]).await;
    lives.bench.client.supervisor.do_send(PanicConnection);
    assert_eq!(lives.lost().await.kind(), ErrorKind::Stopped);
    let error = declare.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectionClosed, true));
    assert!(lives.bench.socket.read_to_end().await.unwrap().is_empty());
    lives.back().await;
    lives.bench.socket.open_channel(1).await.unwrap();
    answer_consume(&mut lives.bench.socket, 1).await;
    lives.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    lives.publishes(&["kept"]).await;
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    lives.bench.socket.deliver(1, TAG, 1, "x").await.unwrap();
    deliveries.next().await.unwrap().ack().unwrap();
    lives.bench.socket.expect::<basic::Ack>(1).await.unwrap();
    lives.restored().await;
}

/// ACT-07, design 13.9: a Channel actor that panics costs its connection, or nothing while that is away; handles, publishes
/// and consumers go on with the next one.
#[actix::test]
async fn a_channel_that_panics_goes_on_with_another_connection() {
    for phase in ["open", "away", "restoring"] {
        let mut lives = Lives::begin().await;
        let channel = lives.bench.channel(1, OpenChannel::new().window(1)).await;
        let mut deliveries = lives.bench.consume(&channel).await;
        let first = publish(&channel, "first").await;
        let second = publish(&channel, "second").await;
        lives.publishes(&["first"]).await;
        if phase != "open" {
            lives.lose().await;
        }
        if phase == "restoring" {
            lives.back().await;
            lives.bench.socket.expect::<methods::Open>(1).await.unwrap();
        }
        let call = ask(&channel.actor, DeclareQueue::new("jobs"));
        if phase == "open" {
            lives.bench.socket.expect::<queue::Declare>(1).await.unwrap();
        }
        channel.actor.do_send(Panic);
        if phase != "away" {
            lives.bench.socket.expect_close().await.unwrap();
            assert_eq!(lives.lost().await.kind(), ErrorKind::Protocol);
        }
        lives.back().await;
        lives.bench.socket.open_channel(1).await.unwrap();
        answer_consume(&mut lives.bench.socket, 1).await;
        lives.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
        lives.publishes(&["first"]).await;
        if phase == "open" {
            assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
        } else {
            declare_ok(&mut lives.bench.socket, 1, "jobs").await;
            call.answer().await.unwrap();
        }
        lives.bench.socket.confirm(1, 1, false).await.unwrap();
        assert_eq!(first.answer().await.unwrap().sequence(), Some(1));
        lives.publishes(&["second"]).await;
        lives.bench.socket.confirm(1, 2, false).await.unwrap();
        assert_eq!(second.answer().await.unwrap().sequence(), Some(2));
        lives.bench.socket.deliver(1, TAG, 1, "x").await.unwrap();
        deliveries.next().await.unwrap().ack().unwrap();
        lives.bench.socket.expect::<basic::Ack>(1).await.unwrap();
        lives.restored().await;
    }
}

/// Design 13.10: who asked hears of it after a deadline; after one more the channel is closed and opened again, and what
/// was under way and not confirmed may have arrived.
#[actix::test]
async fn a_channel_whose_broker_is_silent_is_opened_again() {
    let mut lives = Lives::begin().await;
    let options = OpenChannel::new().deadline(Duration::from_millis(150));
    let channel = lives.bench.channel(1, options).await;
    let call = ask(&channel.actor, DeclareQueue::new("jobs"));
    lives.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    let close = lives.bench.socket.expect::<methods::Close>(1).await.unwrap();
    assert_eq!(close.reply_code, 541);
    let waiting = ask(&channel.actor, DeclareQueue::new("others"));
    // Too late: nobody may take it for an answer.
    let late = queue::DeclareOk { queue: "jobs".into(), ..Default::default() };
    lives.bench.socket.send(1, late).await.unwrap();
    lives.bench.socket.send(1, methods::CloseOk {}).await.unwrap();
    lives.reopen(1).await;
    declare_ok(&mut lives.bench.socket, 1, "others").await;
    assert_eq!(waiting.answer().await.unwrap().name, "others");
    let call = publish(&channel, "goes on").await;
    lives.publishes(&["goes on"]).await;
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    call.answer().await.unwrap();
}

/// Design 13.9: a peer that answers the resend of the topology with nonsense costs this connection, and there is another.
#[actix::test]
async fn a_replay_that_is_answered_with_nonsense_is_tried_on_another_connection() {
    let mut lives = Lives::begin().await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    declare_ok(&mut lives.bench.socket, 1, "jobs").await;
    declare.answer().await.unwrap();
    let kept = publish(&channel, "kept").await;
    lives.publishes(&["kept"]).await;
    lives.lose().await;
    lives.back().await;
    lives.bench.socket.open_channel(2047).await.unwrap();
    lives.bench.socket.answer(2047, |_: queue::Declare| queue::PurgeOk::default()).await.unwrap();
    lives.bench.socket.expect_close().await.unwrap();
    assert_eq!(lives.lost().await.kind(), ErrorKind::Protocol);
    lives.back().await;
    lives.bench.socket.open_channel(2047).await.unwrap();
    declare_ok(&mut lives.bench.socket, 2047, "jobs").await;
    lives.bench.socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    lives.reopen(1).await;
    lives.publishes(&["kept"]).await;
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    lives.restored().await;
}

/// How far a connection has come back when its user closes it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Until {
    BackOff,
    Dial,
    Handshake,
    Replay,
    Channels,
}

/// CON-23, ACT-07, design 13.12: a close wins over the recovery at whatever point, answers everyone at once, and leaves
/// nothing behind; so does it when nobody holds the connection any more.
#[actix::test]
async fn a_close_wins_over_the_recovery() {
    for at in [Until::BackOff, Until::Dial, Until::Handshake, Until::Replay, Until::Channels] {
        let wait = Duration::from_millis(if at == Until::BackOff { 60_000 } else { 1 });
        let recovery = Recovery::fixed(wait);
        let mut lives =
            Lives::begin_with(&HandshakeScript::new(), |options| options.recovery = recovery).await;
        let channel = lives.bench.channel(4, OpenChannel::new().number(4)).await;
        let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
        declare_ok(&mut lives.bench.socket, 4, "jobs").await;
        declare.answer().await.unwrap();
        let waiters = Waiters::start(&mut lives.bench).await;
        lives.lose().await;
        let call = ask(&channel.actor, DeclareQueue::new("jobs"));
        let open = ask(&lives.bench.client.supervisor, OpenChannel::new());
        let socket = match at {
            Until::BackOff => None,
            Until::Dial => {
                let mut socket = lives.bench.peer.accept().await.unwrap();
                socket.expect_header().await.unwrap();
                Some(socket)
            }
            Until::Handshake => {
                let mut socket = lives.bench.peer.accept().await.unwrap();
                socket
                    .handshake_with(&HandshakeScript::new().silent_at(HandshakeStep::OpenOk))
                    .await
                    .unwrap();
                Some(socket)
            }
            Until::Replay | Until::Channels => {
                let mut socket = lives.bench.peer.accept().await.unwrap();
                socket.handshake().await.unwrap();
                socket.open_channel(2047).await.unwrap();
                if at == Until::Channels {
                    declare_ok(&mut socket, 2047, "jobs").await;
                    socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
                    socket.expect::<methods::Open>(1).await.unwrap();
                }
                Some(socket)
            }
        };
        let close = ask(&lives.bench.client.supervisor, CloseConnection::new());
        if let Some(mut socket) = socket {
            if matches!(at, Until::Replay | Until::Channels) {
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
        assert!(lives.bench.client.closed().await.is_none(), "{at:?}");
        lives.events.next_matching(|event| matches!(event, ConnectionEvent::Closed(None))).await.unwrap();
        lives.bench.peer.time_limit(Duration::from_millis(20)).accept().await.unwrap_err();
    }
}

/// ACT-07, design 13.12: the last handles go while the connection is away: nobody connects for them any more.
#[actix::test]
async fn without_handles_nothing_is_tried_again() {
    let recovery = Recovery::fixed(Duration::from_secs(60));
    let mut lives = Lives::begin_with(&HandshakeScript::new(), |options| options.recovery = recovery).await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    lives.lose().await;
    drop(channel);
    lives.bench.client.supervisor.do_send(ReleaseConnection);
    assert!(lives.bench.client.closed().await.is_none());
    let supervisor = lives.bench.client.supervisor.clone();
    until("the supervisor has ended", || !supervisor.connected()).await;
}

/// ACT-07: a publish under way keeps the channel of a dropped handle until its confirm, over a reconnect, too.
#[actix::test]
async fn a_publish_under_way_outlives_its_handle_and_the_connection() {
    let mut lives = Lives::begin().await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let outbox = channel.outbox.clone();
    publish(&channel, "kept").await.give_up().await;
    lives.publishes(&["kept"]).await;
    drop(channel);
    lives.bench.client.supervisor.do_send(ReleaseConnection);
    lives.cut().await;
    lives.publishes(&["kept"]).await;
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    assert_eq!(lives.bench.socket.expect_channel_close(1).await.unwrap().0, 200);
    lives.bench.socket.expect_close().await.unwrap();
    assert!(lives.bench.client.closed().await.is_none());
    assert_eq!(outbox.load().unconfirmed, 0);
}

/// BLK-08, REC-08: an alarm does not outlast its connection, not even one of a life that its channels had no part in; the next
/// connection tells of its own.
#[actix::test]
async fn an_alarm_ends_with_its_connection() {
    let blocked = || connection::Blocked { reason: "low on memory".into() };
    let mut lives = Lives::begin().await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    declare_ok(&mut lives.bench.socket, 1, "jobs").await;
    declare.answer().await.unwrap();
    lives.bench.socket.send(0, blocked()).await.unwrap();
    lives.events.next_matching(|event| matches!(event, ConnectionEvent::Blocked(_))).await.unwrap();
    let held = publish(&channel, "held").await;
    assert_eq!(channel.outbox.load().waiting, 1);
    lives.lose().await;
    // Blocked again, before the channel is restored.
    lives.back().await;
    lives.bench.socket.open_channel(2047).await.unwrap();
    lives.bench.socket.send(0, blocked()).await.unwrap();
    lives.events.next_matching(|event| matches!(event, ConnectionEvent::Blocked(_))).await.unwrap();
    let Health::Degraded(_) = lives.bench.client.supervisor.send(GetHealth).await.unwrap() else {
        panic!("not degraded")
    };
    lives.lose().await;
    lives.back().await;
    lives.bench.socket.open_channel(2047).await.unwrap();
    declare_ok(&mut lives.bench.socket, 2047, "jobs").await;
    lives.bench.socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    lives.reopen(1).await;
    lives.publishes(&["held"]).await;
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    held.answer().await.unwrap();
    lives.restored().await;
    assert!(lives.bench.client.supervisor.send(GetHealth).await.unwrap().is_up());
    // And a life that begins with an alarm, told in one breath, holds publishes back until it is over.
    lives.lose().await;
    lives.back_with(&HandshakeScript::new().silent_at(HandshakeStep::OpenOk)).await;
    let words = [RawFrame::method(0, connection::OpenOk {}), RawFrame::method(0, blocked())];
    lives.bench.socket.send_frames(&words).await.unwrap();
    lives.events.next_matching(|event| matches!(event, ConnectionEvent::Blocked(_))).await.unwrap();
    lives.bench.socket.open_channel(2047).await.unwrap();
    declare_ok(&mut lives.bench.socket, 2047, "jobs").await;
    lives.bench.socket.answer(2047, |_: methods::Close| methods::CloseOk {}).await.unwrap();
    lives.reopen(1).await;
    lives.restored().await;
    let held = publish(&channel, "held").await;
    assert_eq!(channel.outbox.load().waiting, 1);
    lives.bench.socket.send(0, connection::Unblocked {}).await.unwrap();
    lives.publishes(&["held"]).await;
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    held.answer().await.unwrap();
}

/// HB, design 7.13: a peer that falls silent is lost after two heartbeats, and the connection comes back.
#[actix::test]
async fn a_silent_peer_is_lost_and_replaced() {
    let mut lives = Lives::begin_with(&HandshakeScript::new().tune(10, 131_072, 1), |_| {}).await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let kept = publish(&channel, "kept").await;
    lives.publishes(&["kept"]).await;
    let silent = async { lives.bench.socket.read_to_end().await.unwrap() };
    assert!(silent.await.is_empty());
    lives.lost().await;
    lives.back().await;
    lives.reopen(1).await;
    lives.publishes(&["kept"]).await;
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
}
