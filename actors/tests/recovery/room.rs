//! A user at its limit of channels, and other connections of it that make room.

use std::time::Duration;

use actix_pika_actors::{
    ConnectionEvent, DeclareExchange, GetHealth, GetMissing, NextTry, OpenChannel, Recovery, WatchConnection,
    testing::{
        HandshakeScript, MemoryPeer, PeerSocket, Probe,
        protocol::{channel, confirm, connection, exchange},
    },
};

use super::common::{Client, ask};

/// The number of the library's channel.
const OWN: u16 = 10;
const LONG: Duration = Duration::from_secs(3600);
const MISSING: &str = "NOT_FOUND - no exchange 'theirs' in vhost '/'";

async fn accept(peer: &mut MemoryPeer) -> PeerSocket {
    let mut socket = peer.accept().await.unwrap();
    socket.set_time_limit(LONG);
    socket.handshake_with(&HandshakeScript::new().tune(OWN, 4096, 0)).await.unwrap();
    socket
}

/// Closes the connection for one channel too many.
async fn refuse_channel(mut socket: PeerSocket, number: u16) {
    socket.expect::<channel::Open>(number).await.unwrap();
    let text = "NOT_ALLOWED - number of channels opened for user 'guest' has reached the maximum allowed limit of (1)";
    let close = connection::Close { reply_code: 530, reply_text: text.into(), class_id: 20, method_id: 10 };
    socket.send(0, close).await.unwrap();
    socket.expect::<connection::CloseOk>(0).await.unwrap();
}

async fn open(socket: &mut PeerSocket) {
    socket.open_channel(1).await.unwrap();
    socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
}

/// REC-56: a user at its limit of channels loses the connection once. After that connections of their own look for room, at
/// growing pauses, and what waits is tried when there is some.
#[actix::test]
async fn room_for_a_channel_is_looked_for_on_other_connections() {
    tokio::time::pause();
    let mut peer = MemoryPeer::new().time_limit(LONG);
    let client = Client::dial_in_memory(&peer, |options| {
        options.recovery = Recovery::fixed(Duration::from_millis(100));
    });
    let mut socket = accept(&mut peer).await;
    client.opened().await;
    let mut events = Probe::<ConnectionEvent>::start().time_limit(LONG);
    client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
    let opened = ask(&client.supervisor, OpenChannel::new());
    open(&mut socket).await;
    let channel = opened.answer().await.unwrap();
    let declare = ask(&channel.actor, DeclareExchange::existing("theirs"));
    socket.answer(1, |_: exchange::Declare| exchange::DeclareOk {}).await.unwrap();
    declare.answer().await.unwrap();
    socket.close_channel(1, 404, MISSING, 60, 40).await.unwrap();
    open(&mut socket).await;
    refuse_channel(socket, OWN).await;
    let started = tokio::time::Instant::now();

    // Before the channels are attached there is room.
    let mut socket = accept(&mut peer).await;
    socket.open_channel(OWN).await.unwrap();
    socket.expect::<exchange::Declare>(OWN).await.unwrap();
    socket.close_channel(OWN, 404, MISSING, 40, 10).await.unwrap();
    socket.open_channel(OWN).await.unwrap();
    socket.answer(OWN, |_: channel::Close| channel::CloseOk {}).await.unwrap();
    open(&mut socket).await;
    while !matches!(events.next().await.unwrap(), ConnectionEvent::Recovered { .. }) {}
    let missing = client.supervisor.send(GetMissing).await.unwrap();
    assert!(matches!(&missing[..], [one] if matches!(one.next_try, NextTry::At(_))), "{missing:?}");

    let mut pauses = Vec::new();
    for accepts in [false, false, true] {
        let mut probe = accept(&mut peer).await;
        pauses.push(started.elapsed().as_secs());
        match accepts {
            false => refuse_channel(probe, 1).await,
            true => {
                probe.open_channel(1).await.unwrap();
                probe.answer(1, |_: channel::Close| channel::CloseOk {}).await.unwrap();
                probe.expect_close().await.unwrap();
            }
        }
    }
    assert_eq!(pauses, [5, 15, 35], "in seconds");
    socket.open_channel(OWN).await.unwrap();
    socket.answer(OWN, |_: exchange::Declare| exchange::DeclareOk {}).await.unwrap();
    socket.answer(OWN, |_: channel::Close| channel::CloseOk {}).await.unwrap();
    while !client.supervisor.send(GetHealth).await.unwrap().is_up() {
        events.next().await.unwrap();
    }
}
