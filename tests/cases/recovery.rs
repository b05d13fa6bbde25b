//! Limits, refusals and changed queues that a robust connection has to survive.

use std::time::Duration;

use actix_pika::testing::{Peer, Probe};
use actix_pika::{Connector, DeclareQueue, Delivery, Recovery, events::EntityKind, message::Qos};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::{is_missing, recovered, scripted_broker};
use crate::support::{
    proxy::{Cut, Proxy},
    robust_connection::RobustConnection,
    take, within,
};

/// A consumer that its queue's new type rules out is named as skipped and as missing, and other channels recover.
#[actix::test]
#[ignore = "known fault: a consumer refused with 540 is lost, while nothing is skipped and the health is up"]
async fn consumer_of_a_queue_that_changed_its_type_is_reported_as_missing() {
    let mut robust = RobustConnection::connect().await;
    let oracle = robust.oracle().await;
    oracle.declare_queue("jobs").await;
    oracle.declare_queue("other").await;
    let channel = robust.channel().await;
    channel.set_qos_with(Qos::new(5).global(true)).await.unwrap();
    let probe = Probe::<Delivery>::start();
    let consumer = channel.queue("jobs").consume(probe.recipient()).await.unwrap();
    let neighbour = robust.channel().await;
    let mut beside = Probe::<Delivery>::start();
    neighbour.queue("other").consume(beside.recipient()).await.unwrap();
    robust.disconnect().await;
    oracle.channel().queue_delete("jobs".into(), QueueDeleteOptions::default()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    oracle.declare_queue_with("jobs", QueueDeclareOptions::durable(), arguments).await;
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    assert!(skipped.iter().any(|skipped| skipped.kind == EntityKind::Consumer), "{skipped:?}");
    let health = robust.connection.health().await.unwrap();
    assert!(is_missing(&health, EntityKind::Consumer), "{health:?}");
    assert!(consumer.end().is_none());
    oracle.publish("", "other", "work").await;
    within("the delivery", 10, take(&mut beside, 1)).await.remove(0).ack().unwrap();
}

/// A declaration that the broker answers with the end of the connection is skipped, and everything else recovers.
#[actix::test]
#[ignore = "known fault: a declaration refused with 541 costs every new connection, so that nothing recovers"]
async fn declaration_that_costs_the_connection_is_skipped() {
    let peer = Peer::listen().await.unwrap();
    let proxy = Proxy::to(&peer.addr().to_string());
    let connector = Connector::new(&proxy.url(&peer.url())).unwrap();
    scripted_broker(peer, |connection, queue| connection > 0 && queue == "temporary");
    let connector = connector.recovery(Recovery::fixed(Duration::from_millis(50)));
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    let consumer = channel.queue("jobs").consume(probe.recipient()).await.unwrap();
    let neighbour = connection.channel().await.unwrap();
    neighbour.declare_queue(DeclareQueue::new("temporary").durable(false)).await.unwrap();
    within("a delivery", 10, take(&mut probe, 1)).await;
    let mut events = connection.events();
    proxy.cut_all(Cut::Rst);
    let skipped = recovered(&mut events).await;
    let names: Vec<_> = skipped.iter().map(|skipped| (skipped.kind, skipped.name.as_str())).collect();
    assert_eq!(names, [(EntityKind::Queue, "temporary")]);
    let health = connection.health().await.unwrap();
    assert!(is_missing(&health, EntityKind::Queue), "{health:?}");
    within("a delivery", 10, take(&mut probe, 1)).await;
    assert!(consumer.end().is_none());
}
