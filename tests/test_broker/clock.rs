//! A clock that is paused moves the broker and the client together.

use std::time::Duration;

use actix_pika::{ConnectionEvent, Consume, DeclareExchange, DeclareQueue, ErrorKind, Publishing, connect};
use actix_pika_broker::{Broker, Line};
use futures_util::StreamExt;
use tokio::time::{Instant, advance, pause, sleep};

use super::{in_memory, robust, soon};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// `sleep` lets each timer run at its time: both ends send their heartbeats.
#[actix::test]
async fn a_silent_hour_loses_no_connection() {
    pause();
    let broker = Broker::builder().start_here();
    let connection = soon(connect(in_memory(&broker).heartbeat(10 * SECOND))).await.unwrap();
    sleep(HOUR).await;
    assert!(!connection.is_closed());
    assert_eq!(broker.connections().len(), 1);
}

/// `advance` jumps: all heartbeats of the hour are missed.
#[actix::test]
async fn an_hour_that_is_jumped_over_loses_a_connection() {
    pause();
    let broker = Broker::builder().start_here();
    let connector = in_memory(&broker).heartbeat(10 * SECOND);
    let connection = soon(connect(connector)).await.unwrap();
    advance(HOUR).await;
    soon(connection.closed()).await.unwrap_err();
    soon(broker.until(|state| state.connections().is_empty())).await;
}

/// A broker that is not read, or does not read, is given up by the rules of heartbeats.
#[actix::test]
async fn a_silent_broker_is_noticed_after_two_heartbeats() {
    pause();
    let broker = Broker::builder().start_here();
    let connection = soon(connect(in_memory(&broker).heartbeat(10 * SECOND))).await.unwrap();
    let since = Instant::now();
    broker.delay(broker.connections()[0].id, HOUR);
    let error = soon(connection.closed()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed, "{error}");
    let took = since.elapsed();
    assert!((20 * SECOND..=30 * SECOND).contains(&took), "{took:?}");
}

#[actix::test]
async fn messages_expire_at_their_time() {
    pause();
    let broker = Broker::builder().start_here();
    let connection = soon(connect(in_memory(&broker))).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    let wait = DeclareQueue::new("wait")
        .message_ttl(30 * SECOND)
        .dead_letter_exchange("")
        .dead_letter_routing_key("jobs");
    soon(channel.declare_queue(wait)).await.unwrap();
    soon(channel.declare_queue("jobs")).await.unwrap();
    let published = Instant::now();
    soon(channel.default_exchange().publish("x", "wait")).await.unwrap();
    assert_eq!(published.elapsed(), Duration::ZERO);
    sleep(30 * SECOND - Duration::from_millis(2)).await;
    broker.assert_messages("wait", 1, 0);
    soon(broker.until(|state| state.ready("jobs") == 1)).await;
    assert_eq!(published.elapsed().as_secs_f64().round(), 30.0);
    broker.assert_messages("wait", 0, 0);
}

/// The time of queues goes ahead of tokio's clock: the client notices no time.
#[actix::test]
async fn the_time_of_queues_moves_alone() {
    pause();
    let broker = Broker::builder().start_here();
    let connection = soon(connect(in_memory(&broker).heartbeat(10 * SECOND))).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    soon(channel.declare_queue(DeclareQueue::new("wait").message_ttl(HOUR))).await.unwrap();
    let published = Instant::now();
    soon(channel.default_exchange().publish("x", "wait")).await.unwrap();
    broker.advance(HOUR);
    broker.assert_messages("wait", 0, 0);
    assert_eq!(published.elapsed(), Duration::ZERO);
    assert!(!connection.is_closed());
}

#[actix::test]
async fn delayed_messages_come_at_their_time_in_their_order() {
    pause();
    let broker = Broker::builder().start_here();
    let connection = soon(connect(in_memory(&broker))).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    let later = DeclareExchange::new("later", "x-delayed-message").argument("x-delayed-type", "direct");
    let later = soon(channel.declare_exchange(later)).await.unwrap();
    let queue = soon(channel.declare_queue("jobs")).await.unwrap();
    soon(queue.bind("later", "jobs")).await.unwrap();
    let since = Instant::now();
    for seconds in [60_i32, 1, 10] {
        let message = Publishing::new(seconds.to_string()).header("x-delay", seconds * 1000);
        // RabbitMQ's plug-in returns a mandatory message that waits.
        soon(later.publish(message.mandatory(false), "jobs")).await.unwrap();
    }
    let mut deliveries = soon(queue.deliveries_with(Consume::new())).await.unwrap();
    let mut came = Vec::new();
    for _ in 0..3 {
        let delivery = soon(deliveries.next()).await.unwrap();
        came.push((String::from_utf8(delivery.body().to_vec()).unwrap(), since.elapsed().as_secs()));
        delivery.ack().unwrap();
    }
    let expected = [("1", 1), ("10", 10), ("60", 60)];
    assert_eq!(came, expected.map(|(body, seconds)| (body.to_owned(), seconds)));
}

/// `consumer_timeout`: the channel is closed with 406, and a robust one consumes again.
#[actix::test]
async fn a_delivery_that_is_held_for_too_long_closes_its_channel() {
    pause();
    let broker = Broker::builder().line(Line::V4_0).consumer_timeout(Some(HOUR / 2)).start_here();
    let connection = robust(&broker).await;
    let mut events = connection.events();
    let channel = soon(connection.channel()).await.unwrap();
    let queue = soon(channel.declare_queue("jobs")).await.unwrap();
    soon(channel.default_exchange().publish("x", "jobs")).await.unwrap();
    let mut deliveries = soon(queue.deliveries_with(Consume::new())).await.unwrap();
    let held = soon(deliveries.next()).await.unwrap();
    let since = Instant::now();
    let again = tokio::time::timeout(HOUR, deliveries.next()).await.unwrap().unwrap();
    assert_eq!(since.elapsed().as_secs(), 1800);
    assert!(again.redelivered());
    held.ack().unwrap_err();
    again.ack().unwrap();
    soon(broker.until(|state| state.unacked("jobs") == 0)).await;
    connection.close().await.unwrap();
    let mut lost = 0;
    while let Some(event) = soon(events.next()).await {
        lost += usize::from(matches!(event, ConnectionEvent::Lost(_)));
    }
    assert_eq!(lost, 0);
}
