//! Behaviour that is wanted and not there yet: one test for each known fault, ignored until the fault is mended.
//!
//! A mended fault takes the `#[ignore]` away and moves the test to the file of its area.

mod auto_delete_exchange;
mod blocked;
mod quorum;
mod recovery;
mod routing;

use std::time::Duration;

use actix_pika::testing::{
    HandshakeScript, Peer, PeerSocket,
    protocol::{AMQPClass, basic, channel, confirm, connection, queue},
};
use actix_pika::{
    Connection, ConnectionEvent,
    events::{Degradation, EntityKind, Events, Health, Skipped},
};
use futures_util::StreamExt;

use crate::support::{eventually, within};

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
