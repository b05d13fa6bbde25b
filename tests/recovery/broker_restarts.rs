//! Restarts of a broker: a node that is stopped or killed, and started again.

use std::{collections::BTreeSet, time::Duration};

use super::restart_options;
use crate::support::{
    broker::{SecondNode, Vhost},
    robust_connection::RobustConnection,
    take, within,
};
use actix_pika::{
    Confirm, ConnectionEvent, Connector, Consume, DeclareExchange, DeclareQueue, Delivery, ErrorKind, Queue,
    Recovery,
    testing::{GetRecordCounts, Probe},
};
use futures_util::StreamExt;

/// Retries every 500 ms, so that the event stream has room for the events of a whole restart.
fn retry_slowly(connector: Connector) -> Connector {
    connector.recovery(Recovery::fixed(Duration::from_millis(500)))
}

async fn connect_to(node: &SecondNode) -> RobustConnection {
    RobustConnection::connect_to(Vhost::fresh_on(node.broker()).await, retry_slowly).await
}

/// Takes all messages of a queue. Returns the numbers in their bodies without repeats, in order of first appearance.
async fn drain_numbers(queue: &Queue) -> Vec<u32> {
    let (mut first, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some(delivery) = within("a get", 10, queue.get()).await.unwrap() {
        let n = std::str::from_utf8(delivery.body()).unwrap().parse().unwrap();
        if seen.insert(n) {
            first.push(n);
        }
        delivery.ack().unwrap();
    }
    first
}

/// BRK-02: when the broker is killed during publishes, each publish is still confirmed, all messages arrive in order,
/// and the consumer of another queue continues.
#[actix::test]
async fn publishes_are_confirmed_after_the_broker_was_killed() {
    let node = SecondNode::start().await;
    let mut robust = connect_to(&node).await;
    let channel = within("a channel", 10, robust.connection.channel_with(restart_options())).await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    let results = channel.declare_queue("results").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    let consumer = results.consume_with(Consume::new().tag("mine"), probe.recipient()).await.unwrap();
    node.sync().await;
    let exchange = channel.default_exchange();
    let early: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
    assert_eq!(within("the confirms", 60, exchange.publish_all(early, "jobs")).await.unwrap(), 2000);
    let publisher = {
        let exchange = exchange.clone();
        actix_rt::spawn(async move {
            let mut confirms: Vec<Confirm> = Vec::new();
            for n in 2000..6000 {
                confirms.push(exchange.publish_deferred(n.to_string(), "jobs").await?);
            }
            for confirm in confirms {
                confirm.await?;
            }
            Ok::<_, actix_pika::Error>(())
        })
    };
    // Waits until the broker has confirmed some of them.
    let before = robust.proxy.byte_count(crate::support::proxy::Direction::ToClient);
    robust.proxy.wait_for_bytes(crate::support::proxy::Direction::ToClient, before + 1).await;
    node.kill9().await;
    let error = robust.wait_for_loss().await;
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    node.start_again().await;
    assert!(robust.wait_for_recovery().await.is_empty());
    within("the publisher", 60, publisher).await.unwrap().unwrap();
    assert_eq!(drain_numbers(&queue).await, (0..6000).collect::<Vec<_>>());
    within("a publish", 10, exchange.publish("done", "results")).await.unwrap();
    let delivery = take(&mut probe, 1).await.remove(0);
    assert_eq!((delivery.body(), delivery.consumer_tag()), (&b"done"[..], "mine"));
    delivery.ack().unwrap();
    assert!(consumer.end().is_none());
}

/// BRK-01, BRK-03, BRK-04, CLU-04: a broker that is stopped closes the connection with 320, and reconnects are tried
/// until it is back. Entities that the broker does not keep over the restart are redeclared: an exclusive queue,
/// transient queues with a given and a generated name, and bindings. Entities declared with `robust(false)` are not.
#[actix::test]
async fn transient_entities_are_redeclared_after_a_restart() {
    let node = SecondNode::start().await;
    let mut robust =
        RobustConnection::connect_without_proxy(Vhost::fresh_on(node.broker()).await, retry_slowly).await;
    let channel = within("a channel", 10, robust.connection.channel_with(restart_options())).await.unwrap();
    let transient = DeclareExchange::fanout("transient").durable(false);
    let exchange = channel.declare_exchange(transient).await.unwrap();
    let not_robust = DeclareExchange::fanout("gone").durable(false).robust(false);
    channel.declare_exchange(not_robust).await.unwrap();
    let durable = channel.declare_queue("durable").await.unwrap();
    let exclusive = channel.declare_queue(DeclareQueue::new("mine").exclusive(true)).await.unwrap();
    let named = DeclareQueue::new("named").durable(false).auto_delete(true);
    let named = channel.declare_queue(named).await.unwrap();
    let server_named = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    let not_robust = DeclareQueue::new("gone").durable(false).robust(false);
    channel.declare_queue(not_robust).await.unwrap();
    let queues = [&durable, &exclusive, &named, &server_named];
    for queue in queues {
        queue.bind("transient", "").await.unwrap();
    }
    durable
        .bind_with(actix_pika::message::BindQueue::new("durable", "gone", "").robust(false))
        .await
        .unwrap();
    let old_name = server_named.name().to_owned();
    channel.default_exchange().publish("kept", "durable").await.unwrap();
    exclusive.channel().default_exchange().publish("lost", "mine").await.unwrap();
    node.stop().await;
    let error = robust.wait_for_loss().await;
    let reason = error.close_reason().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(reason.code, 320);
    assert!(error.is_retryable(), "{error}");
    let publish = {
        let exchange = channel.default_exchange();
        actix_rt::spawn(async move { exchange.publish("meanwhile", "durable").await.map(drop) })
    };
    let mut refused = 0;
    while refused < 2 {
        match within("an attempt", 30, robust.events.next()).await.unwrap() {
            // The error of the first attempt is the loss itself.
            ConnectionEvent::Retrying { attempt: 2.., error, .. } => {
                assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                refused += 1;
            }
            ConnectionEvent::Retrying { .. } | ConnectionEvent::Health(_) => {}
            event => panic!("{event:?}"),
        }
    }
    node.start_again().await;
    assert!(robust.wait_for_recovery().await.is_empty());
    within("the publish", 10, publish).await.unwrap().unwrap();
    assert_ne!(server_named.name(), old_name);
    let records = robust.connection.actor().send(GetRecordCounts).await.unwrap();
    assert_eq!((records.exchanges, records.queues, records.bindings), (1, 4, 4));
    exchange.publish("routed", "").await.unwrap();
    for queue in queues {
        let expected: &[&[u8]] =
            if queue.name() == "durable" { &[b"kept", b"meanwhile", b"routed"] } else { &[b"routed"] };
        for body in expected {
            let delivery = within("a get", 10, queue.get()).await.unwrap();
            let delivery = delivery.unwrap_or_else(|| panic!("{} is empty", queue.name()));
            assert_eq!(delivery.body(), *body, "{}", queue.name());
            delivery.ack().unwrap();
        }
        assert!(within("a get", 10, queue.get()).await.unwrap().is_none(), "{}", queue.name());
    }
    let exchanges = robust.vhost.exchanges().await;
    let bindings = robust.vhost.bindings().await;
    let exists = exchanges.iter().any(|exchange| exchange.name == "gone");
    let is_bound = bindings.iter().any(|binding| binding.source == "gone");
    let deleted = node.broker().line().await.restart_deletes_transient_exchanges();
    assert_eq!((exists, is_bound), (!deleted, !deleted), "{bindings:?}");
    assert!(robust.vhost.queue("gone").await.is_none());
    assert!(bindings.iter().any(|binding| binding.source == "transient"));
    within("close", 10, robust.connection.close()).await.unwrap();
}
