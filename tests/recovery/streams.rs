//! Consumers of stream queues over a recovery: they continue after the last offset up to which everything was settled.

use actix_pika::{Channel, Consume, DeclareQueue, Delivery, Queue, options::StreamOffset, testing::Probe};
use futures_util::StreamExt;

use crate::support::{robust_connection::RobustConnection, take, within};

/// Declares the stream "log" and publishes `count` messages to it.
async fn fill_log(channel: &Channel, count: u64) -> Queue {
    let log = channel.declare_queue(DeclareQueue::new("log").stream()).await.unwrap();
    for n in 0..count {
        channel.default_exchange().publish(n.to_string(), "log").await.unwrap();
    }
    log
}

fn from_the_first() -> Consume {
    Consume::new().prefetch(100).stream_offset(StreamOffset::First)
}

fn offsets(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| delivery.stream_offset().unwrap()).collect()
}

/// A consumer continues after the last acknowledged offset, or from the first unacknowledged one before it.
#[actix::test]
async fn a_consumer_continues_at_the_first_unsettled_offset() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let log = fill_log(&channel, 10).await;
    let mut probe = Probe::<Delivery>::start();
    log.consume_with(from_the_first(), probe.recipient()).await.unwrap();
    let deliveries = take(&mut probe, 10).await;
    assert_eq!(offsets(&deliveries), (0..10).collect::<Vec<_>>());
    let mut unsettled = Vec::new();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match n {
            3 | 7 => unsettled.push(delivery),
            _ => delivery.ack().unwrap(),
        }
    }
    robust.cut_and_recover().await;
    assert!(unsettled.iter().all(Delivery::is_stale));
    let again = take(&mut probe, 7).await;
    assert_eq!(offsets(&again), (3..10).collect::<Vec<_>>(), "from the first unsettled one");
    again.into_iter().next_back().unwrap().ack_all().unwrap();
    robust.cut_and_recover().await;
    channel.default_exchange().publish("new", "log").await.unwrap();
    assert_eq!(offsets(&take(&mut probe, 1).await), [10]);
}

/// A requeued or dropped delivery is delivered again with all later ones; a rejected one counts as settled.
#[actix::test]
async fn requeued_offsets_are_delivered_again() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let log = fill_log(&channel, 6).await;
    let mut probe = Probe::<Delivery>::start();
    log.consume_with(from_the_first(), probe.recipient()).await.unwrap();
    let mut deliveries = take(&mut probe, 6).await.into_iter();
    deliveries.next().unwrap().ack().unwrap();
    deliveries.next().unwrap().reject(false).unwrap();
    deliveries.next().unwrap().nack(true).unwrap();
    deliveries.for_each(|delivery| delivery.ack().unwrap());
    robust.cut_and_recover().await;
    let mut deliveries = take(&mut probe, 4).await;
    assert_eq!(offsets(&deliveries), [2, 3, 4, 5]);
    drop(deliveries.remove(1));
    deliveries.into_iter().for_each(|delivery| delivery.ack().unwrap());
    robust.cut_and_recover().await;
    assert_eq!(offsets(&take(&mut probe, 3).await), [3, 4, 5]);
}

/// A `DeliveryStream` returns each offset once over two recoveries.
#[actix::test]
async fn a_delivery_stream_continues_without_gaps() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let log = fill_log(&channel, 20).await;
    let mut deliveries = log.deliveries_with(from_the_first()).await.unwrap();
    for n in 0..5 {
        let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
        assert_eq!(delivery.stream_offset(), Some(n));
        delivery.ack().unwrap();
    }
    robust.cut_and_recover().await;
    for n in 5..20 {
        let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
        assert_eq!(delivery.stream_offset(), Some(n));
        delivery.ack().unwrap();
    }
    robust.cut_and_recover().await;
    channel.default_exchange().publish("new", "log").await.unwrap();
    let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
    assert_eq!(delivery.stream_offset(), Some(20));
}

/// Before the first delivery, a recovery uses the given offset again.
#[actix::test]
async fn a_consumer_without_deliveries_starts_at_its_offset() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let log = channel.declare_queue(DeclareQueue::new("log").stream()).await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    log.consume_with(from_the_first(), probe.recipient()).await.unwrap();
    robust.cut_and_recover().await;
    for n in 0..3 {
        channel.default_exchange().publish(n.to_string(), "log").await.unwrap();
    }
    assert_eq!(offsets(&take(&mut probe, 3).await), [0, 1, 2]);
}
