//! Consumers of stream queues that go on after an outage: behind what was settled without a gap.

use actix_pika::{Channel, Consume, DeclareQueue, Delivery, Queue, options::StreamOffset, testing::Probe};
use futures_util::StreamExt;

use crate::support::{robust_connection::RobustConnection, take, within};

async fn log_of(channel: &Channel, count: u64) -> Queue {
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

/// Goes on behind the last one that was acknowledged; with a gap, from the gap.
#[actix::test]
async fn a_stream_goes_on_behind_what_was_settled() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let log = log_of(&channel, 10).await;
    let mut probe = Probe::<Delivery>::start();
    log.consume_with(from_the_first(), probe.recipient()).await.unwrap();
    let deliveries = take(&mut probe, 10).await;
    assert_eq!(offsets(&deliveries), (0..10).collect::<Vec<_>>());
    let mut kept = Vec::new();
    for (n, delivery) in deliveries.into_iter().enumerate() {
        match n {
            3 | 7 => kept.push(delivery),
            _ => delivery.ack().unwrap(),
        }
    }
    robust.cut_and_recover().await;
    assert!(kept.iter().all(Delivery::is_stale));
    let again = take(&mut probe, 7).await;
    assert_eq!(offsets(&again), (3..10).collect::<Vec<_>>(), "from the first gap");
    again.into_iter().next_back().unwrap().ack_all().unwrap();
    robust.cut_and_recover().await;
    channel.default_exchange().publish("new", "log").await.unwrap();
    assert_eq!(offsets(&take(&mut probe, 1).await), [10]);
}

/// What was handed back, or dropped, comes again with everything behind it; what was rejected for good does not.
#[actix::test]
async fn what_a_stream_got_back_comes_again() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let log = log_of(&channel, 6).await;
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

/// A `DeliveryStream` shows nothing twice in one life and skips nothing over two; batches count as one settle each.
#[actix::test]
async fn a_delivery_stream_and_batches_go_on() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let log = log_of(&channel, 20).await;
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

/// Nothing was delivered yet: the offset that was asked for is asked for again.
#[actix::test]
async fn a_stream_that_gave_nothing_begins_where_it_should() {
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
