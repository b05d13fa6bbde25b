//! Heartbeats of one second, over in-memory streams with a paused clock: an idle connection sends them, a busy one does
//! not, and a silent peer is found dead after two intervals. One test does the same over TCP in real time.

use std::time::Duration;

use actix_pika_actors::{
    ConnectionOptions, Consume, Error, ErrorKind, OpenChannel, Publish,
    testing::{HandshakeScript, MemoryPeer, PeerMessage, RawFrame, protocol::basic},
};
use tokio::time::{Instant, interval, pause, sleep, timeout};

use crate::common::{Bench, Deliveries, TAG, TryPublish, Waiters, ask};

const TICK: Duration = Duration::from_millis(250);

fn script(heartbeat: u16) -> HandshakeScript {
    HandshakeScript::new().tune(2047, 131_072, heartbeat)
}

/// Opens an in-memory connection with a heartbeat of so many seconds, and pauses the clock.
async fn open(heartbeat: u16) -> Bench<MemoryPeer> {
    pause();
    Bench::open_in_memory(&script(heartbeat), |_| {}).await
}

/// Sends nothing but heartbeats for so long, and counts those of the client.
async fn idle(bench: &mut Bench<MemoryPeer>, length: Duration) -> u64 {
    let before = bench.socket.heartbeats();
    let until = Instant::now() + length;
    while Instant::now() < until {
        bench.socket.send_heartbeat().await.unwrap();
        bench.socket.set_time_limit(TICK);
        // Nothing comes but heartbeats, which are counted on the way.
        bench.socket.next_frame().await.unwrap_err();
    }
    bench.socket.heartbeats() - before
}

/// Waits until the client has closed a connection whose peer is silent. Returns its error and how long it took.
async fn found_dead<P>(bench: &Bench<P>, since: Instant) -> (Error, Duration) {
    let mut state = bench.client.state.clone();
    let closed = state.wait_for(|state| matches!(state, actix_pika_actors::ConnectionState::Closed(_)));
    timeout(Duration::from_secs(4), closed).await.expect("found dead in time").expect("the supervisor runs");
    (bench.client.closed().await.expect("a cause"), since.elapsed())
}

fn assert_is_timeout(error: &Error) {
    assert_eq!((error.kind(), error.io_kind()), (ErrorKind::ConnectionClosed, None));
    assert!(error.is_retryable());
    assert!(error.to_string().contains("two heartbeats of 1s"), "{error}");
}

/// Eight ticks without a read, after the tick in which the last read was. Each may be late by a millisecond, the
/// resolution of timers.
fn is_two_intervals(took: Duration) -> bool {
    (Duration::from_millis(2000)..Duration::from_millis(2270)).contains(&took)
}

/// HB-01
#[actix::test]
async fn an_interval_of_0_turns_heartbeats_off() {
    let mut bench = open(0).await;
    bench.socket.set_time_limit(Duration::from_secs(2 * 86_400));
    bench.socket.expect_nothing(Duration::from_secs(86_400)).await.unwrap();
    bench.assert_works(1).await;
}

/// HB-02: twice in each interval.
#[actix::test]
async fn an_idle_connection_sends_two_heartbeats_per_interval() {
    let mut bench = open(1).await;
    let heartbeats = idle(&mut bench, Duration::from_secs(600)).await;
    assert!((1180..=1200).contains(&heartbeats), "{heartbeats}");
    bench.socket.set_time_limit(Duration::from_secs(2));
    bench.assert_works(1).await;
}

/// HB-02: every call of a dead connection is answered.
#[actix::test]
async fn a_silent_peer_is_found_dead_after_two_intervals() {
    let mut bench = open(1).await;
    let waiters = Waiters::start(&mut bench).await;
    let (error, took) = found_dead(&bench, Instant::now()).await;
    assert_is_timeout(&error);
    assert!(is_two_intervals(took), "{took:?}");
    waiters.all_fail().await;
    // The client closes the socket without connection.close.
    assert!(bench.socket.read_to_end().await.unwrap().is_empty());
}

/// HB-02, over TCP and in real time.
#[actix::test]
async fn a_silent_peer_is_found_dead_over_tcp() {
    let mut bench = Bench::open_with(&script(1), |_| {}).await;
    let (error, took) = found_dead(&bench, Instant::now()).await;
    assert_is_timeout(&error);
    // Two intervals, and one second at most for a busy machine.
    assert!(took >= Duration::from_millis(1500) && took < Duration::from_secs(3), "{took:?}");
    assert!(bench.socket.read_to_end().await.unwrap().is_empty());
}

/// HB-04: heartbeats begin again when there is nothing to write.
#[actix::test]
async fn a_connection_that_writes_sends_no_heartbeats() {
    let mut bench = open(1).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut every = interval(Duration::from_millis(20));
    let before = bench.socket.heartbeats();
    for n in 0..500 {
        every.tick().await;
        if n % 50 == 0 {
            bench.socket.send_heartbeat().await.unwrap();
        }
        channel.outbox.try_publish_text("jobs", "x");
        bench.socket.expect_publish(1).await.unwrap();
    }
    assert_eq!(bench.socket.heartbeats(), before);
    bench.socket.send_heartbeat().await.unwrap();
    bench.socket.set_time_limit(Duration::from_secs(1));
    bench.socket.expect_heartbeat().await.unwrap();
}

/// HB-05
#[actix::test]
async fn a_connection_that_only_receives_sends_heartbeats() {
    let mut bench = open(1).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume_as(&channel, Consume::new().tag(TAG).no_ack(true)).await;
    let mut every = interval(Duration::from_millis(20));
    for tag in 1..=500 {
        every.tick().await;
        bench.socket.deliver(1, TAG, tag, "x").await.unwrap();
        let _ = deliveries.next().await.unwrap();
    }
    bench.socket.set_time_limit(TICK);
    bench.socket.next_frame_on(77).await.unwrap_err();
    let heartbeats = bench.socket.heartbeats();
    assert!((18..=21).contains(&heartbeats), "{heartbeats}");
    assert!(bench.client.is_open());
}

/// HB-05
#[actix::test]
async fn a_connection_that_only_publishes_finds_a_silent_peer_dead() {
    let mut bench = open(1).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let since = Instant::now();
    let mut confirms = Vec::new();
    while bench.client.is_open() && since.elapsed() < Duration::from_secs(4) {
        confirms.push(ask(&channel.actor, Publish::new("", "jobs", "x")));
        sleep(Duration::from_millis(100)).await;
    }
    let (error, took) = found_dead(&bench, since).await;
    assert_is_timeout(&error);
    assert!(took < Duration::from_millis(2400), "{took:?}");
    for confirm in confirms {
        assert_eq!(confirm.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    }
}

/// HB-05: a frame that takes longer than two intervals is not silence.
#[actix::test]
async fn a_slow_frame_is_not_silence() {
    let mut bench = open(1).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries: Deliveries = bench.consume(&channel).await;
    let deliver = basic::Deliver { consumer_tag: TAG.into(), delivery_tag: 1, ..Default::default() };
    bench.socket.send(1, deliver).await.unwrap();
    bench.socket.send_frames(&PeerMessage::default().announced_size(10).frames(1, 4096)).await.unwrap();
    for byte in RawFrame::body(1, "0123456789").to_bytes() {
        sleep(Duration::from_millis(1900)).await;
        bench.socket.send_raw(&[byte]).await.unwrap();
    }
    assert_eq!(deliveries.next().await.unwrap().body(), b"0123456789");
    assert!(bench.client.is_open());
}

/// While reading is paused because consumers hold too much, the peer cannot be found dead. Nothing is lost.
#[actix::test]
async fn a_peer_is_not_dead_while_reading_is_paused() {
    pause();
    let set = |options: &mut ConnectionOptions| options.read_ahead = 10_000;
    let mut bench = Bench::open_in_memory(&HandshakeScript::new().tune(0, 0, 1), set).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume_as(&channel, Consume::new().tag(TAG).no_ack(true)).await;
    // More than the client reads ahead, less than the stream buffers.
    for tag in 1..=50 {
        bench.socket.deliver(1, TAG, tag, vec![b'x'; 1000]).await.unwrap();
    }
    sleep(Duration::from_secs(10)).await;
    assert!(bench.client.is_open());
    for tag in 1..=50 {
        assert_eq!(deliveries.next().await.unwrap().delivery_tag(), tag);
    }
}
