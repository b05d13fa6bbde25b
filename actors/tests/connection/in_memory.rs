//! Connections over in-memory streams with a paused clock: no network, and no waiting for timeouts.

use std::{io, time::Duration};

use actix_pika_actors::{
    ConnectionOptions, ErrorKind, OpenChannel, Publish, Recovery,
    testing::{HandshakeScript, HandshakeStep, MemoryPeer},
};
use tokio::time::{Instant, pause};

use crate::common::{Bench, Client, ask};

#[actix::test]
async fn a_publish_is_confirmed() {
    pause();
    let mut bench = Bench::open_in_memory(&HandshakeScript::new(), |_| {}).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", vec![b'x'; 1 << 20]));
    assert_eq!(bench.socket.expect_publish(1).await.unwrap().body.len(), 1 << 20);
    bench.socket.confirm(1, 1, false).await.unwrap();
    assert_eq!(publish.answer().await.unwrap().sequence(), Some(1));
}

#[actix::test]
async fn a_silent_handshake_times_out_without_waiting() {
    pause();
    let mut peer = MemoryPeer::new();
    let since = Instant::now();
    let client =
        Client::dial_in_memory(&peer, |options| options.connect_timeout = Duration::from_millis(1500));
    let mut socket = peer.accept().await.unwrap();
    let silent = HandshakeScript::new().silent_at(HandshakeStep::Tune);
    socket.handshake_with(&silent).await.unwrap();
    let error = client.closed().await.expect("a cause");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let took = since.elapsed();
    assert!((Duration::from_millis(1500)..Duration::from_millis(1510)).contains(&took), "{took:?}");
}

/// Each attempt after a loss gets a new stream.
#[actix::test]
async fn a_client_reconnects() {
    pause();
    let set =
        |options: &mut ConnectionOptions| options.recovery = Recovery::fixed(Duration::from_millis(500));
    let mut bench = Bench::open_in_memory(&HandshakeScript::new(), set).await;
    for _ in 0..3 {
        drop(bench.socket);
        bench.socket = bench.peer.accept().await.unwrap();
        bench.socket.handshake().await.unwrap();
    }
    bench.assert_works(1).await;
}

#[actix::test]
async fn a_dropped_peer_refuses_clients() {
    let peer = MemoryPeer::new();
    let dialer = peer.dialer();
    drop(peer);
    let client = Client::dial_in_memory(&MemoryPeer::new(), |options| options.memory = Some(dialer));
    let error = client.closed().await.expect("a cause");
    assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused), "{error}");
}
