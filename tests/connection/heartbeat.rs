//! Heartbeats with a real broker, which drops a client that stops sending them.

use std::time::Duration;

use crate::support::{
    broker::Vhost,
    proxy::{Cut, Direction, Proxy},
    within,
};
use actix::prelude::*;
use actix_pika::{
    Connection, ConnectionEvent, Connector, DeclareQueue, Delivery, ErrorKind, Recovery, Result,
    events::Events,
};
use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// HB-02: with a heartbeat of one second, the broker drops a client whose bytes no longer arrive; an idle client stays
/// connected. The broker's heartbeats still arrive, so the client does not close the connection itself.
#[actix::test]
async fn the_broker_drops_a_client_that_stops_sending() {
    let vhost = Vhost::fresh().await;
    let proxy = Proxy::to(&vhost.broker().address());
    let connect = async |url: &str| {
        let connector = Connector::new(url).unwrap().heartbeat(Duration::from_secs(1));
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        assert_eq!(connection.heartbeat(), Some(Duration::from_secs(1)));
        connection
    };
    let idle = connect(&vhost.url()).await;
    let stalled = connect(&proxy.url(&vhost.url())).await;
    let channel = stalled.channel().await.unwrap();
    let before = proxy.byte_count(Direction::ToClient);
    proxy.stall(Direction::ToBroker);
    let call = actix_rt::spawn(async move { channel.declare_queue("never").await.map(drop) });
    let error = within("the end", 20, stalled.closed()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true), "{error}");
    assert!(!error.to_string().contains("heartbeat"), "{error}");
    assert!(proxy.byte_count(Direction::ToClient) > before, "the broker sent heartbeats");
    let error = within("the call", 5, call).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
    // It was idle for at least as long.
    assert!(!idle.is_closed());
    let channel = idle.channel().await.unwrap();
    let error = channel.declare_queue(DeclareQueue::new("never").passive(true)).await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
    proxy.cut_all(Cut::Rst);
    within("close", 10, idle.close()).await.unwrap();
}

/// Blocks its thread for 5 s at the first delivery, acknowledges, and sends the result of that.
struct Blocker {
    blocked: bool,
    results: UnboundedSender<Result<()>>,
}

impl Actor for Blocker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Blocker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        if !std::mem::replace(&mut self.blocked, true) {
            std::thread::sleep(Duration::from_secs(5));
        }
        let _ = self.results.send(delivery.ack());
    }
}

/// A handler blocks its arbiter for five heartbeat intervals. Returns the results of its acknowledgements.
async fn block(
    connector: impl FnOnce(Connector) -> Connector,
) -> (Connection, Events<ConnectionEvent>, UnboundedReceiver<Result<()>>, Vhost) {
    let vhost = Vhost::fresh().await;
    let options = Connector::new(&vhost.url()).unwrap().heartbeat(Duration::from_secs(1));
    let options = connector(options.recovery(Recovery::default()));
    let connection = within("connect", 10, options.connect()).await.unwrap();
    let events = connection.events();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    within("a publish", 10, channel.default_exchange().publish("work", "jobs")).await.unwrap();
    let (results, acks) = unbounded_channel();
    queue.consume(Blocker { blocked: false, results }.start()).await.unwrap();
    (connection, events, acks, vhost)
}

/// HB-08: a handler that blocks the arbiter of the connection for too long: its acknowledgement is an error, the cause of
/// the loss names the arbiter, and the message comes once more.
#[actix::test]
async fn an_ack_fails_when_the_arbiter_was_blocked_beyond_the_heartbeat() {
    let (connection, mut events, mut acks, _vhost) = block(|connector| connector).await;
    let first = within("the first ack", 30, acks.recv()).await.unwrap();
    assert_eq!(first.unwrap_err().kind(), ErrorKind::StaleDelivery);
    let cause = within("the loss", 20, async {
        loop {
            if let ConnectionEvent::Lost(cause) = events.next().await.unwrap() {
                return cause;
            }
        }
    })
    .await;
    assert!(cause.to_string().contains("the arbiter of the connection stood still for"), "{cause}");
    within("the second ack", 30, acks.recv()).await.unwrap().unwrap();
    within("close", 10, connection.close()).await.unwrap();
    assert!(acks.recv().await.is_none());
}

/// HB-08: on a thread of its own, the connection is not affected.
#[actix::test]
async fn a_connection_on_its_own_thread_outlives_a_blocked_arbiter() {
    let (connection, mut events, mut acks, _vhost) = block(Connector::own_thread).await;
    within("the ack", 30, acks.recv()).await.unwrap().unwrap();
    within("close", 10, connection.close()).await.unwrap();
    while let Some(event) = events.next().await {
        assert!(!matches!(event, ConnectionEvent::Lost(_)), "{event:?}");
    }
}
