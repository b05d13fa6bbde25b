//! Network faults: slow and silent links, and segments of one byte or of many frames.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{
    broker::Vhost,
    eventually,
    oracle::Oracle,
    proxy::{Direction, Proxy},
    robust_connection::RobustConnection,
    take, within,
};
use actix_pika::{
    ChannelEvent, ConnectionEvent, Connector, Consume, DeclareQueue, Delivery, ErrorKind, OpenChannel,
    testing::Probe,
};
use futures_util::StreamExt;

const SHORT: Duration = Duration::from_millis(300);

async fn oracle(vhost: &Vhost) -> Oracle {
    within("the oracle", 10, Oracle::connect(&vhost.url())).await
}

/// NET-01: the connection and its declarations go through the proxy.
#[actix::test]
async fn the_connection_goes_through_the_proxy() {
    let robust = RobustConnection::connect().await;
    assert_ne!(robust.proxy.url(&robust.vhost.url()), robust.vhost.url());
    assert_eq!(robust.connection.peer_addr(), Some(robust.proxy.address()));
    let channel = robust.channel().await;
    let before = robust.proxy.byte_count(Direction::ToClient);
    channel.declare_queue("there").await.unwrap();
    assert!(robust.proxy.byte_count(Direction::ToClient) > before);
    assert_eq!(oracle(&robust.vhost).await.queue_counts("there").await, Some((0, 0)));
}

/// NET-02: a slow link that is cut with deliveries in flight loses no message. A channel that is opened meanwhile opens
/// on the next connection, or times out at its deadline.
#[actix::test]
async fn a_cut_of_a_slow_link_loses_no_message() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("slow").await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    for direction in [Direction::ToBroker, Direction::ToClient] {
        robust.proxy.delay(direction, Duration::from_millis(200));
    }
    let oracle = oracle(&robust.vhost).await;
    for n in 0..5 {
        oracle.publish("", "slow", format!("{n}")).await;
    }
    robust.disconnect().await;
    let options = OpenChannel::new().deadline(SHORT);
    let error = within("no channel", 10, robust.connection.channel_with(options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let connection = robust.connection.clone();
    let opening = actix_rt::spawn(async move { connection.channel().await });
    robust.proxy.accept_new().await;
    assert!(robust.wait_for_recovery().await.is_empty());
    let opened = within("a channel", 10, opening).await.unwrap().unwrap();
    within("a call", 10, opened.set_qos(1)).await.unwrap();
    for n in 5..10 {
        oracle.publish("", "slow", format!("{n}")).await;
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 10 {
        let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
        let first = seen.insert(delivery.body().to_vec());
        assert!(first || delivery.redelivered());
        delivery.ack().unwrap();
    }
    within("close", 10, deliveries.close()).await.unwrap();
    within("close", 10, robust.connection.close()).await.unwrap();
    oracle.wait_for_count("slow", 0).await;
}

/// NET-03, NET-10: a loop over a stream sees no error, and receives the messages that were published during the outage.
#[actix::test]
async fn a_delivery_loop_continues_after_an_outage() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("loop").await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    let oracle = oracle(&robust.vhost).await;
    for n in 0..3 {
        oracle.publish("", "loop", format!("{n}")).await;
        let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
        assert_eq!((delivery.body(), delivery.redelivered()), (format!("{n}").as_bytes(), false));
        delivery.ack().unwrap();
    }
    // When this returns, the acks were sent.
    within("a call", 10, channel.set_qos(0)).await.unwrap();
    robust.disconnect().await;
    for n in 3..8 {
        oracle.publish("", "loop", format!("{n}")).await;
    }
    robust.proxy.accept_new().await;
    assert!(robust.wait_for_recovery().await.is_empty());
    for n in 3..8 {
        // It may be redelivered, if the broker had sent it on the lost connection.
        let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
        assert_eq!(delivery.body(), format!("{n}").as_bytes());
        delivery.ack().unwrap();
    }
    assert!(deliveries.end().is_none());
    within("close", 10, deliveries.close()).await.unwrap();
    oracle.wait_for_count("loop", 0).await;
}

/// NET-11: a stream that is polled for single messages continues after a cut.
#[actix::test]
async fn a_stream_polled_for_single_messages_continues() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("one").await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    let exchange = channel.default_exchange();
    exchange.publish("1", "one").await.unwrap();
    let first = within("1", 10, deliveries.next()).await.unwrap();
    first.ack().unwrap();
    robust.cut_and_recover().await;
    within("a publish", 10, exchange.publish("2", "one")).await.unwrap();
    loop {
        let delivery = within("2", 10, deliveries.next()).await.unwrap();
        let body = delivery.body().to_vec();
        let redelivered = delivery.redelivered();
        delivery.ack().unwrap();
        if body == b"2" {
            break;
        }
        assert!(body == b"1" && redelivered, "only a lost ack allows a redelivery");
    }
}

/// NET-08: a silent link is detected by heartbeats, and the connection recovers once data passes again.
#[actix::test]
async fn a_silent_link_is_detected_and_replaced() {
    // A busy machine may take longer for the first handshake as well.
    let mut robust = RobustConnection::connect_with(|connector| {
        let limit = Duration::from_secs(1);
        connector.heartbeat(limit).connect_timeout(limit).fail_fast(false)
    })
    .await;
    assert_eq!(robust.connection.heartbeat(), Some(Duration::from_secs(1)));
    let channel = robust.channel().await;
    channel.set_qos(5).await.unwrap();
    let before = robust.proxy.accepted_count();
    robust.proxy.stall(Direction::ToClient);
    let publish = {
        let exchange = channel.exchange("amq.topic");
        let publishing = actix_pika::Publishing::new("kept").mandatory(false);
        actix_rt::spawn(async move { exchange.publish(publishing, "k").await.map(drop) })
    };
    let error = robust.wait_for_loss().await;
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::ConnectionClosed, true), "{error}");
    assert!(error.to_string().contains("two heartbeats"), "{error}");
    // The handshakes of the next connections get no reply either.
    within("two attempts", 30, robust.proxy.wait_for_accepted(before + 2)).await;
    robust.proxy.resume(Direction::ToClient);
    assert!(robust.wait_for_recovery().await.is_empty());
    within("the publish", 10, publish).await.unwrap().unwrap();
    within("a call", 10, channel.set_qos(6)).await.unwrap();
    within("close", 10, robust.connection.close()).await.unwrap();
    robust.proxy.wait_for_open(0).await;
}

/// NET-09: a connection without recovery is closed on a silent link, and leaves no socket.
#[actix::test]
async fn a_plain_connection_is_closed_on_a_silent_link() {
    let vhost = Vhost::fresh().await;
    let proxy = Proxy::to(&vhost.broker().address());
    let connector = Connector::new(&proxy.url(&vhost.url())).unwrap().heartbeat(Duration::from_secs(1));
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    proxy.stall(Direction::ToClient);
    let call = actix_rt::spawn(async move { channel.declare_queue("q").await.map(drop) });
    let error = within("the end", 20, connection.closed()).await.unwrap_err();
    assert!(error.to_string().contains("two heartbeats"), "{error}");
    let error = within("the call", 5, call).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
    assert!(connection.is_closed());
    proxy.resume(Direction::ToClient);
    within("no socket", 10, proxy.wait_for_open(0)).await;
}

/// NET-13, CH-21: a channel with a call that timed out is reopened after one more deadline, and works.
#[actix::test]
async fn a_timed_out_call_can_be_repeated() {
    let mut robust = RobustConnection::connect().await;
    let options = OpenChannel::new().deadline(SHORT);
    let channel = within("a channel", 10, robust.connection.channel_with(options)).await.unwrap();
    let mut events = channel.events();
    robust.proxy.stall(Direction::ToClient);
    let error = within("a deadline", 10, channel.declare_queue("late")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert_eq!(error.entity(), Some("late"));
    robust.proxy.wait_for_method(Direction::ToBroker, (20, 40), 0).await;
    robust.proxy.resume(Direction::ToClient);
    let again = loop {
        match within("a declare", 10, channel.declare_queue("late")).await {
            // The channel still waits for the reply to the first one.
            Err(error) if error.kind() == ErrorKind::Timeout => {}
            other => break other.unwrap(),
        }
    };
    assert_eq!(again.name(), "late");
    // The same on a link that is slow but not silent, and is then cut.
    robust.proxy.delay(Direction::ToClient, 2 * SHORT);
    within("a deadline", 10, channel.set_qos(3)).await.unwrap_err();
    robust.proxy.delay(Direction::ToClient, Duration::ZERO);
    robust.cut_and_recover().await;
    within("a call", 10, channel.set_qos(4)).await.unwrap();
    let reopened = within("reopened", 10, events.next()).await.unwrap();
    assert!(matches!(reopened, ChannelEvent::Reopened(_)), "{reopened:?}");
}

/// NET-18: handshake, recovery and messages with one byte per segment in both directions, then many frames in one
/// segment.
#[actix::test]
async fn segments_of_one_byte_and_of_many_frames() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("bytes").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume(probe.recipient()).await.unwrap();
    for direction in [Direction::ToBroker, Direction::ToClient] {
        robust.proxy.one_byte_segments(direction);
    }
    // The next handshake and recovery use segments of one byte, too.
    robust.cut_and_recover().await;
    let exchange = channel.default_exchange();
    let sizes = [0, 1, 7, 300];
    for size in sizes {
        within("a publish", 10, exchange.publish(vec![b'x'; size], "bytes")).await.unwrap();
    }
    for (delivery, size) in take(&mut probe, sizes.len()).await.into_iter().zip(sizes) {
        assert_eq!(delivery.body().len(), size);
        delivery.ack().unwrap();
    }
    for direction in [Direction::ToBroker, Direction::ToClient] {
        robust.proxy.unchanged_segments(direction);
        robust.proxy.stall(direction);
    }
    let mut confirms = Vec::new();
    for n in 0..200 {
        confirms.push(exchange.publish_deferred(format!("{n}"), "bytes").await.unwrap());
    }
    robust.proxy.resume(Direction::ToBroker);
    let oracle = oracle(&robust.vhost).await;
    let arrived = async || (oracle.queue_counts("bytes").await == Some((0, 1))).then_some(());
    eventually("all messages", 10, arrived).await;
    robust.proxy.resume(Direction::ToClient);
    for confirm in confirms {
        within("a confirm", 10, confirm).await.unwrap();
    }
    for (n, delivery) in take(&mut probe, 200).await.into_iter().enumerate() {
        assert_eq!(delivery.body(), format!("{n}").as_bytes());
        delivery.ack().unwrap();
    }
}

/// NET-14: a `no_ack` consumer whose connection the broker closed for missing heartbeats continues after the recovery.
#[actix::test]
async fn a_no_ack_consumer_continues_after_missing_heartbeats() {
    let mut robust = RobustConnection::connect_with(|connector| {
        connector.heartbeat(Duration::from_secs(1)).read_ahead(64 << 10)
    })
    .await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::new("fast")).await.unwrap();
    let mut deliveries = queue.deliveries_with(Consume::new().no_ack(true)).await.unwrap();
    let oracle = oracle(&robust.vhost).await;
    oracle.publish("", "fast", "first").await;
    let first = within("the first", 10, deliveries.next()).await.unwrap();
    assert_eq!(first.body(), b"first");
    // No heartbeat reaches the broker, so it closes the connection.
    robust.proxy.stall(Direction::ToBroker);
    robust.wait_for_loss().await;
    robust.proxy.resume(Direction::ToBroker);
    robust.wait_for_recovery().await;
    oracle.publish("", "fast", "second").await;
    let second = within("the second", 10, deliveries.next()).await.unwrap();
    assert_eq!(second.body(), b"second");
    within("close", 10, robust.connection.close()).await.unwrap();
    assert!(matches!(robust.next_event().await, ConnectionEvent::Closed(None)));
}
