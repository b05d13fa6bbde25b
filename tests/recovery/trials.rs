//! What costs a connection is left out when the next one recovers, and tried on a connection of its own.
//!
//! `actors/tests/recovery/trials` has what RabbitMQ does not do at will.

use std::time::Duration;

use actix_pika::testing::{
    HandshakeScript, Peer, PeerSocket, Probe,
    protocol::{AMQPClass, basic, channel, confirm, connection, queue},
};
use actix_pika::{
    Connection, ConnectionEvent, Connector, DeclareQueue, Delivery, Recovery,
    events::{Degradation, EntityKind, Events, Health, Skipped},
    message::Qos,
};
use futures_util::StreamExt;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::support::{
    broker::{Broker, SecondNode, Setting, Vhost},
    eventually,
    oracle::Oracle,
    proxy::{Cut, Proxy},
    robust_connection::RobustConnection,
    take, within,
};

/// REC-51: a consumer that a recovery cannot register, because the queue has no leader, comes back with the queue.
#[actix::test]
async fn a_consumer_comes_back_when_its_queue_has_a_leader_again() {
    let peer = Peer::listen().await.unwrap();
    let proxy = Proxy::to(&peer.addr().to_string());
    let connector = Connector::new(&proxy.url(&peer.url())).unwrap();
    scripted_broker(peer, |connection, queue| connection == 1 && queue == "jobs");
    let connector = connector.recovery(Recovery::fixed(Duration::from_millis(100)));
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let mut probe = Probe::<Delivery>::start().time_limit(Duration::from_secs(30));
    let consumer = channel.queue("jobs").consume(probe.recipient()).await.unwrap();
    within("a delivery", 10, take(&mut probe, 1)).await;
    proxy.cut_all(Cut::Rst);
    within("a delivery after the recovery", 40, take(&mut probe, 1)).await;
    assert!(consumer.end().is_none());
    healthy(&connection, 10).await;
}

/// REC-51: a consumer that its queue's new type rules out is named as skipped and as missing, and the others recover. It
/// starts again when the queue has a type that allows it.
#[actix::test]
async fn a_consumer_comes_back_when_its_queue_has_a_type_that_allows_it() {
    let (_node, mut robust) = connect_where_prefetch_is_shared().await;
    let oracle = robust.oracle().await;
    oracle.declare_queue("jobs").await;
    oracle.declare_queue("other").await;
    let channel = robust.channel().await;
    channel.set_qos_with(Qos::new(5).global(true).permitted(true)).await.unwrap();
    let mut probe = Probe::<Delivery>::start().time_limit(Duration::from_secs(60));
    let consumer = channel.queue("jobs").consume(probe.recipient()).await.unwrap();
    let neighbour = robust.channel().await;
    let mut beside = Probe::<Delivery>::start();
    neighbour.queue("other").consume(beside.recipient()).await.unwrap();
    robust.disconnect().await;
    redeclare(&oracle, "jobs", "quorum").await;
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    let names: Vec<_> = skipped.iter().map(|skipped| (skipped.kind, skipped.name.as_str())).collect();
    assert_eq!(names, [(EntityKind::Consumer, consumer.tag())]);
    assert_eq!(skipped[0].error.code(), Some(540));
    let health = robust.connection.health().await.unwrap();
    assert!(is_missing(&health, EntityKind::Consumer), "{health:?}");
    oracle.publish("", "other", "work").await;
    within("the delivery", 10, take(&mut beside, 1)).await.remove(0).ack().unwrap();
    redeclare(&oracle, "jobs", "classic").await;
    oracle.publish("", "jobs", "work").await;
    within("the delivery", 60, take(&mut probe, 1)).await.remove(0).ack().unwrap();
    robust.wait_for_health(Health::is_up).await;
    assert!(consumer.end().is_none());
}

/// REC-51: a consumer that the shared prefetch of its channel rules out starts again when that is lifted. The trials lose no
/// message.
#[actix::test]
async fn a_consumer_comes_back_when_the_shared_prefetch_is_lifted() {
    let (_node, mut robust) = connect_where_prefetch_is_shared().await;
    let channel = robust.channel().await;
    let mut probe = Probe::<Delivery>::start().time_limit(Duration::from_secs(60));
    let quorum = channel.declare_queue(DeclareQueue::new("quorum").quorum()).await.unwrap();
    let consumer = quorum.consume(probe.recipient()).await.unwrap();
    // The broker allows this after the consume and refuses it before. On the next connection it is sent before.
    channel.set_qos_with(Qos::new(5).global(true).permitted(true)).await.unwrap();
    robust.proxy.cut_all(Cut::Rst);
    let skipped = robust.wait_for_recovery().await;
    assert_eq!(skipped.len(), 1, "{skipped:?}");
    let exchange = channel.default_exchange();
    for body in ["1", "2", "3"] {
        within("a publish", 10, exchange.publish(body, "quorum")).await.unwrap();
    }
    channel.set_qos_with(Qos::new(0).global(true)).await.unwrap();
    let mut bodies = Vec::new();
    for delivery in take(&mut probe, 3).await {
        bodies.push(delivery.body().to_vec());
        delivery.ack().unwrap();
    }
    bodies.sort();
    assert_eq!(bodies, [b"1", b"2", b"3"]);
    robust.wait_for_health(Health::is_up).await;
    assert!(consumer.end().is_none());
}

/// Connects to a broker that keeps a shared prefetch: from 4.3 on, to the second node, whose operator then permits it.
async fn connect_where_prefetch_is_shared() -> (Option<SecondNode>, RobustConnection) {
    if Broker::under_test().line().await.shares_prefetch() {
        return (None, RobustConnection::connect().await);
    }
    let mut node = SecondNode::start().await;
    node.configure(&[Setting::PermitGlobalQos(true)]).await;
    let vhost = Vhost::fresh_on(node.broker()).await;
    (Some(node), RobustConnection::connect_to(vhost, |connector| connector).await)
}

/// Deletes a queue and declares another one with its name.
async fn redeclare(oracle: &Oracle, queue: &str, queue_type: &str) {
    oracle.channel().queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(queue_type.into()));
    oracle.declare_queue_with(queue, QueueDeclareOptions::durable(), arguments).await;
}

/// REC-50: a declaration that the broker answers with the end of the connection is skipped, and everything else recovers.
#[actix::test]
async fn a_declaration_that_costs_the_connection_is_skipped() {
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

/// Waits for the end of a recovery; returns what it did not restore.
async fn recovered(events: &mut Events<ConnectionEvent>) -> std::sync::Arc<[Skipped]> {
    within("a recovery", 30, async {
        loop {
            match events.next().await.expect("an open connection") {
                ConnectionEvent::Recovered { skipped, .. } => return skipped,
                ConnectionEvent::Closed(cause) => panic!("the connection closed: {cause:?}"),
                _ => {}
            }
        }
    })
    .await
}

/// Returns whether an entity of this kind is reported as missing.
fn is_missing(health: &Health, kind: EntityKind) -> bool {
    let Health::Degraded(reasons) = health else { return false };
    reasons.iter().any(|reason| matches!(reason, Degradation::Missing(missing) if missing.kind == kind))
}

/// Waits until the connection is open with everything restored.
async fn healthy(connection: &Connection, secs: u64) {
    eventually("a healthy connection", secs, async || {
        connection.health().await.unwrap().is_up().then_some(())
    })
    .await;
}

/// Plays a broker that delivers one message to each new consumer. For each `queue.declare` and `basic.consume`, `refuse`
/// gets the number of the connection (from 0) and the queue, and decides whether the connection is closed with 541.
fn scripted_broker(peer: Peer, refuse: fn(usize, &str) -> bool) {
    actix_rt::spawn(async move {
        let peer = peer.time_limit(Duration::from_secs(120));
        let mut number = 0;
        while let Ok(mut socket) = peer.accept().await {
            if socket.handshake_with(&HandshakeScript::new()).await.is_ok() {
                actix_rt::spawn(answer_all(socket, move |queue| refuse(number, queue)));
                number += 1;
            }
        }
    });
}

/// Closes the connection with 541 because of this method.
async fn refuse_call(socket: &mut PeerSocket, why: &str, class_id: u16, method_id: u16) {
    let reply_text = format!("INTERNAL_ERROR - {why}").as_str().into();
    let close = connection::Close { reply_code: 541, reply_text, class_id, method_id };
    if socket.send(0, close).await.is_ok() {
        let _ = socket.expect::<connection::CloseOk>(0).await;
    }
}

async fn answer_all(mut socket: PeerSocket, refuse: impl Fn(&str) -> bool) {
    socket.set_time_limit(Duration::from_secs(120));
    while let Ok(frame) = socket.next_frame().await {
        let on = frame.channel;
        let answered = match frame.class() {
            Some(AMQPClass::Queue(queue::AMQPMethod::Declare(declare))) if refuse(declare.queue.as_str()) => {
                return refuse_call(&mut socket, "declaration refused", 50, 10).await;
            }
            Some(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) if refuse(consume.queue.as_str()) => {
                let why = format!("timed out consuming from quorum queue '{}' in vhost '/'", consume.queue);
                return refuse_call(&mut socket, &why, 60, 20).await;
            }
            Some(AMQPClass::Connection(connection::AMQPMethod::Close(_))) => {
                let _ = socket.send(0, connection::CloseOk {}).await;
                return;
            }
            Some(AMQPClass::Channel(channel::AMQPMethod::Open(_))) => {
                socket.send(on, channel::OpenOk {}).await
            }
            Some(AMQPClass::Channel(channel::AMQPMethod::Close(_))) => {
                socket.send(on, channel::CloseOk {}).await
            }
            Some(AMQPClass::Confirm(_)) => socket.send(on, confirm::SelectOk {}).await,
            Some(AMQPClass::Queue(queue::AMQPMethod::Declare(declare))) => {
                let ok = queue::DeclareOk { queue: declare.queue, message_count: 0, consumer_count: 0 };
                socket.send(on, ok).await
            }
            Some(AMQPClass::Basic(basic::AMQPMethod::Qos(_))) => socket.send(on, basic::QosOk {}).await,
            Some(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) => {
                let tag = consume.consumer_tag.to_string();
                let ok = basic::ConsumeOk { consumer_tag: consume.consumer_tag };
                match socket.send(on, ok).await {
                    Ok(()) => socket.deliver(on, &tag, 1, "work").await,
                    failed => failed,
                }
            }
            _ => Ok(()),
        };
        if answered.is_err() {
            return;
        }
    }
}
