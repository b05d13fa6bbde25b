//! Heartbeats with a real broker, which drops a client that stops sending them.

use std::time::Duration;

use crate::support::{
    broker::Vhost,
    proxy::{Cut, Direction, Proxy},
    within,
};
use actix_pika::{Connector, DeclareQueue, ErrorKind};

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
