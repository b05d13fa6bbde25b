//! Bridges that are stopped and drained.

use super::*;
use crate::support::{broker::Vhost, eventually};
use actix_pika::{bridge::Bridge, connect};
use std::time::Duration;

async fn bridge(vhost: &Vhost) -> (Channel, Bridge) {
    let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let bridge = channel.exchange("amq.topic").bridge().start().await.unwrap();
    (channel, bridge)
}

async fn until_received(bridge: &Bridge, messages: u64) {
    eventually("received", 10, async || (bridge.stats().received == messages).then_some(())).await;
}

async fn until_queue_is_gone(vhost: &Vhost) {
    eventually("no queue", 10, async || vhost.queues().await.is_empty().then_some(())).await;
}

/// BRG-09: a drain lets subscribers take what waits for them, tells them the end, and deletes the queue.
#[actix::test]
async fn a_drain_hands_over_what_waits() {
    let vhost = Vhost::fresh().await;
    let (channel, bridge) = bridge(&vhost).await;
    let mut stream = bridge.stream("#", 64).await.unwrap();
    let mut probe = Probe::<BridgeEvent>::start();
    let _subscription = bridge.subscribe("#", 64, probe.recipient()).await.unwrap();
    for n in 0..3 {
        publish(&channel, "amq.topic", "a", n).await;
    }
    until_received(&bridge, 3).await;
    for n in 0..3 {
        assert_eq!(next_of(&mut probe).await, message("a", n));
    }
    let (report, told) = futures_util::future::join(bridge.drain(Duration::from_secs(20)), async {
        let mut told = Vec::new();
        while let Some(event) = within("an event", 10, stream.next()).await {
            told.push(Told::from(event));
        }
        told
    })
    .await;
    assert_eq!(told, [message("a", 0), message("a", 1), message("a", 2), Told::Ended("cancelled")]);
    assert_eq!(next_of(&mut probe).await, Told::Ended("cancelled"));
    assert_eq!((report.finished, report.given_back, report.abandoned), (3, 0, 0));
    assert_eq!(bridge.drain(Duration::ZERO).await, report);
    assert!(matches!(bridge.ended().await, ConsumerEnd::Cancelled));
    assert_eq!(bridge.stream("#", 1).await.unwrap_err().kind(), actix_pika::ErrorKind::Stopped);
    until_queue_is_gone(&vhost).await;
    assert!(!channel.is_closed());
}

/// BRG-09: at the limit of a drain, what a subscriber has not taken is lost, and it is told so.
#[actix::test]
async fn a_drain_does_not_wait_for_a_stuck_subscriber() {
    let vhost = Vhost::fresh().await;
    let (channel, bridge) = bridge(&vhost).await;
    let mut stream = bridge.stream("#", 64).await.unwrap();
    for n in 0..3 {
        publish(&channel, "amq.topic", "a", n).await;
    }
    until_received(&bridge, 3).await;
    let report = within("a drain", 10, bridge.drain(Duration::from_millis(200))).await;
    assert_eq!((report.finished, report.abandoned), (0, 3));
    assert_eq!(
        [next(&mut stream).await, next(&mut stream).await],
        [Told::Lagged(3), Told::Ended("cancelled")]
    );
}

/// BRG-10: a bridge ends with its last handle and its last subscription.
#[actix::test]
async fn a_bridge_ends_with_its_last_handle() {
    let vhost = Vhost::fresh().await;
    let (channel, bridge) = bridge(&vhost).await;
    let mut stream = bridge.stream("#", 64).await.unwrap();
    drop(bridge);
    publish(&channel, "amq.topic", "a", 1).await;
    assert_eq!(next(&mut stream).await, message("a", 1));
    drop(stream);
    until_queue_is_gone(&vhost).await;
}
