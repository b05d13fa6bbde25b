//! Basic recovery: the same handles work after a loss, queues are renamed, and unconfirmed publishes are resent.

use std::time::Duration;

use crate::support::{robust_connection::RobustConnection, take, within};
use actix_pika::{
    ConnectionEvent, Consume, DeclareExchange, DeclareQueue, Delivery, ErrorKind,
    events::ConnectionState,
    testing::{GetRecordCounts, Probe},
};
use futures_util::StreamExt;

/// REC-02, REC-03: a lost connection reconnects under the same handle, with `Lost`, `Connected` and `Recovered` in
/// order.
#[actix::test]
async fn a_connection_recovers_under_its_handle() {
    let mut robust = RobustConnection::connect().await;
    robust.proxy.cut_all(crate::support::proxy::Cut::Rst);
    let error = robust.wait_for_loss().await;
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(matches!(robust.next_event().await, ConnectionEvent::Connected));
    let ConnectionEvent::Recovered { skipped, .. } = robust.next_event().await else { panic!() };
    assert!(skipped.is_empty());
    assert!(matches!(robust.connection.state(), ConnectionState::Open(_)));
    assert!(robust.connection.health().await.unwrap().is_up());
    within("a channel", 10, robust.connection.channel()).await.unwrap();
    within("close", 10, robust.connection.close()).await.unwrap();
}

/// REC-05, REC-06, NET-12: publishing and consuming continue after a loss; unacknowledged messages are redelivered.
#[actix::test]
async fn publishing_and_consuming_continue() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let events = channel.declare_exchange(DeclareExchange::topic("events").auto_delete(true)).await.unwrap();
    let queue = channel.declare_queue("log").await.unwrap();
    queue.bind("events", "#").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    let consumer = queue.consume_with(Consume::new().tag("mine"), probe.recipient()).await.unwrap();
    events.publish("before", "a").await.unwrap();
    let before = take(&mut probe, 1).await.remove(0);
    robust.cut_and_recover().await;
    assert!(before.is_stale());
    assert_eq!(before.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
    let again = take(&mut probe, 1).await.remove(0);
    assert_eq!((again.body(), again.redelivered(), again.consumer_tag()), (&b"before"[..], true, "mine"));
    again.ack().unwrap();
    within("a publish", 10, events.publish("after", "b")).await.unwrap();
    let after = take(&mut probe, 1).await.remove(0);
    assert_eq!((after.body(), after.redelivered()), (&b"after"[..], false));
    after.ack().unwrap();
    assert_eq!(consumer.tag(), "mine");
    consumer.cancel().await.unwrap();
    robust.oracle().await.wait_for_consumers("log", 0).await;
}

/// REC-11, REC-12: a server-named queue has a new name after a recovery; its bindings, consumers and handles use it.
#[actix::test]
async fn a_server_named_queue_is_renamed_everywhere() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    let old = queue.name().to_owned();
    robust.cut_and_recover().await;
    let new = queue.name().to_owned();
    assert_ne!(old, new);
    channel.exchange("amq.fanout").publish("bound", "").await.unwrap();
    channel.default_exchange().publish("named", queue.name()).await.unwrap();
    for body in ["bound", "named"] {
        let delivery = within(body, 10, deliveries.next()).await.unwrap();
        assert_eq!(delivery.body(), body.as_bytes());
        delivery.ack().unwrap();
    }
    let records = robust.connection.actor().send(GetRecordCounts).await.unwrap();
    assert_eq!((records.queues, records.bindings, records.consumers), (1, 1, 1));
    queue.delete().await.unwrap();
    let records = robust.connection.actor().send(GetRecordCounts).await.unwrap();
    assert_eq!((records.queues, records.bindings, records.consumers), (0, 0, 0));
}

/// PUB: publishes that were unconfirmed at the loss are resent in order, before later ones.
#[actix::test]
async fn unconfirmed_publishes_are_resent_in_order() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue("jobs").await.unwrap();
    let exchange = channel.default_exchange();
    robust.proxy.stall(crate::support::proxy::Direction::ToClient);
    let mut confirms = Vec::new();
    for n in 0..50 {
        confirms.push(exchange.publish_deferred(format!("{n}"), "jobs").await.unwrap());
    }
    robust.proxy.cut_all(crate::support::proxy::Cut::Rst);
    robust.proxy.resume(crate::support::proxy::Direction::ToClient);
    robust.wait_for_loss().await;
    for n in 50..100 {
        confirms.push(exchange.publish_deferred(format!("{n}"), "jobs").await.unwrap());
    }
    for confirm in confirms {
        within("a confirm", 20, confirm).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut first = Vec::new();
    while let Some(delivery) = channel.queue("jobs").get().await.unwrap() {
        let n: u32 = std::str::from_utf8(delivery.body()).unwrap().parse().unwrap();
        if !seen.contains(&n) {
            first.push(n);
        }
        seen.push(n);
        delivery.ack().unwrap();
    }
    assert_eq!(first, (0..100).collect::<Vec<_>>());
    assert!(seen.len() <= 150, "{}", seen.len());
    tokio::time::timeout(Duration::from_secs(10), robust.connection.close()).await.unwrap().unwrap();
}

/// CH-05, NET-04: a channel that the broker closed is reopened under the same handle, and also recovers with its
/// connection.
#[actix::test]
async fn a_channel_closed_by_an_error_is_reopened() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let mut events = channel.events();
    let error = within("a refusal", 10, channel.get_queue("missing")).await.unwrap_err();
    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Refused, 404));
    within("a declare", 10, channel.declare_queue("there")).await.unwrap();
    let event = within("an event", 10, events.next()).await.unwrap();
    assert!(
        matches!(event, actix_pika::ChannelEvent::Reopened(cause) if cause.close_reason().unwrap().code == 404)
    );
    channel.set_qos(7).await.unwrap();
    robust.cut_and_recover().await;
    channel.set_qos(8).await.unwrap();
    assert!(!channel.is_closed());
}
