//! Heartbeats of one second, in real time: a sign of life when there is nothing to say, and none when there is; a peer
//! that gives none is found dead.

#![allow(missing_docs, unreachable_pub, dead_code)]

mod common;

use std::time::{Duration, Instant};

use actix_pika_actors::{
    Consume, Error, ErrorKind, OpenChannel, Publish,
    testing::{HandshakeScript, PeerMessage, RawFrame, protocol::basic},
};
use tokio::time::{interval, sleep, timeout};

use self::common::{Bench, Deliveries, TAG, TryPublish, Waiters, ask};

const TICK: Duration = Duration::from_millis(250);

/// A connection with a heartbeat of so many seconds.
async fn beating(seconds: u16) -> Bench {
    Bench::open_with(&HandshakeScript::new().tune(2047, 131_072, seconds), |_| {}).await
}

/// Keeps a connection going for so long without a word of its own, and counts its heartbeats.
async fn idle(bench: &mut Bench, length: Duration) -> u64 {
    let before = bench.socket.heartbeats();
    let until = Instant::now() + length;
    while Instant::now() < until {
        bench.socket.send_heartbeat().await.unwrap();
        bench.socket.set_time_limit(TICK);
        // Heartbeats are counted on the way to what does not come.
        bench.socket.next_frame().await.unwrap_err();
    }
    bench.socket.heartbeats() - before
}

/// Waits for the end of a connection whose peer is silent, and tells how long it took.
async fn found_dead(bench: &Bench, since: Instant) -> (Error, Duration) {
    let mut state = bench.client.state.clone();
    let gone = state.wait_for(|state| matches!(state, actix_pika_actors::ConnectionState::Closed(_)));
    timeout(Duration::from_secs(4), gone).await.expect("found dead in time").expect("the supervisor lives");
    (bench.client.closed().await.expect("a cause"), since.elapsed())
}

fn is_silence(error: &Error, took: Duration) {
    assert_eq!((error.kind(), error.io_kind()), (ErrorKind::ConnectionClosed, None));
    assert!(error.is_retryable());
    assert!(error.to_string().contains("two heartbeats of 1s"), "{error}");
    // Two intervals of silence, and one more second at most.
    assert!(took >= Duration::from_millis(1500) && took < Duration::from_secs(3), "{took:?}");
}

/// HB-01
#[actix::test]
async fn a_heartbeat_of_0_is_none() {
    let mut bench = beating(0).await;
    bench.socket.expect_nothing(Duration::from_secs(3)).await.unwrap();
    bench.goes_on(1).await;
}

/// HB-02: idle, it stays open and says at least once in each half interval that it lives.
#[actix::test]
async fn an_idle_connection_gives_signs_of_life() {
    let mut bench = beating(1).await;
    let beats = idle(&mut bench, Duration::from_millis(3100)).await;
    // Six by the clock; a machine that is busy may swallow some, but never two intervals.
    assert!((3..=7).contains(&beats), "{beats}");
    bench.socket.set_time_limit(Duration::from_secs(2));
    bench.goes_on(1).await;
}

/// HB-02, and the waiters of a connection that died so.
#[actix::test]
async fn a_silent_peer_is_found_dead_within_two_intervals() {
    let mut bench = beating(1).await;
    let waiters = Waiters::start(&mut bench).await;
    let (error, took) = found_dead(&bench, Instant::now()).await;
    is_silence(&error, took);
    waiters.all_fail().await;
    // It is not spoken to any more.
    assert!(bench.socket.read_to_end().await.unwrap().is_empty());
}

/// HB-04: who speaks needs no heartbeat, and begins again when there is nothing to say.
#[actix::test]
async fn traffic_is_a_sign_of_life() {
    let mut bench = beating(1).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut every = interval(Duration::from_millis(20));
    bench.socket.send_heartbeat().await.unwrap();
    let before = bench.socket.heartbeats();
    for _ in 0..75 {
        every.tick().await;
        channel.outbox.try_publish_text("jobs", "x");
        bench.socket.expect_publish(1).await.unwrap();
    }
    // An idle connection would have said three; one is let pass for a machine that is busy.
    assert!(bench.socket.heartbeats() - before <= 1, "{}", bench.socket.heartbeats() - before);
    bench.socket.send_heartbeat().await.unwrap();
    bench.socket.set_time_limit(Duration::from_secs(1));
    bench.socket.expect_heartbeat().await.unwrap();
}

/// HB-05: who only listens still gives signs of life.
#[actix::test]
async fn a_connection_that_only_receives_gives_signs_of_life() {
    let mut bench = beating(1).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume_as(&channel, Consume::new().tag(TAG).no_ack(true)).await;
    let mut every = interval(Duration::from_millis(20));
    for tag in 1..=125 {
        every.tick().await;
        bench.socket.deliver(1, TAG, tag, "x").await.unwrap();
        let _ = deliveries.next().await.unwrap();
    }
    bench.socket.set_time_limit(TICK);
    bench.socket.next_frame_on(77).await.unwrap_err();
    assert!(bench.socket.heartbeats() >= 3, "{}", bench.socket.heartbeats());
    assert!(bench.client.is_open());
}

/// HB-05: who only speaks still finds out that nobody answers.
#[actix::test]
async fn a_connection_that_only_publishes_finds_a_silent_peer_dead() {
    let mut bench = beating(1).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let since = Instant::now();
    let mut confirms = Vec::new();
    while bench.client.is_open() && since.elapsed() < Duration::from_secs(4) {
        confirms.push(ask(&channel.actor, Publish::new("", "jobs", "x")));
        sleep(Duration::from_millis(100)).await;
    }
    let (error, took) = found_dead(&bench, since).await;
    is_silence(&error, took);
    for confirm in confirms {
        assert_eq!(confirm.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    }
}

/// HB-05: a frame that takes longer than the interval is not silence.
#[actix::test]
async fn a_slow_frame_is_not_silence() {
    let mut bench = beating(1).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries: Deliveries = bench.consume(&channel).await;
    let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag: 1, ..Default::default() };
    bench.socket.send(1, names).await.unwrap();
    bench.socket.send_frames(&PeerMessage::default().announced_size(10).frames(1, 4096)).await.unwrap();
    for byte in RawFrame::body(1, "0123456789").to_bytes() {
        sleep(Duration::from_millis(160)).await;
        bench.socket.send_raw(&[byte]).await.unwrap();
    }
    assert_eq!(deliveries.next().await.unwrap().body(), b"0123456789");
    assert!(bench.client.is_open());
}

/// Silence while we do not listen, because user code has too much to do, is not death; all comes through in the end.
#[actix::test]
async fn a_peer_that_is_not_listened_to_is_not_dead() {
    let script = HandshakeScript::new().tune(0, 0, 1);
    let mut bench = Bench::open_with(&script, |options| options.read_ahead = 10_000).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume_as(&channel, Consume::new().tag(TAG).no_ack(true)).await;
    for tag in 1..=100 {
        bench.socket.deliver(1, TAG, tag, vec![b'x'; 1000]).await.unwrap();
    }
    sleep(Duration::from_millis(3200)).await;
    assert!(bench.client.is_open());
    for tag in 1..=100 {
        assert_eq!(deliveries.next().await.unwrap().delivery_tag(), tag);
    }
}
