//! Heartbeats with a real broker: who gives them stays, and who stops is reset.

use std::time::Duration;

use crate::support::{
    broker::Vhost,
    proxy::{Cut, Direction, Proxy},
    within,
};
use actix_pika::{Connector, DeclareQueue, ErrorKind};

/// HB-02: with a heartbeat of a second, the broker drops a client that it does not hear any more, while one that is
/// idle beside it stays. Nothing stops the broker's own heartbeats, so it is not we who find out.
#[actix::test]
async fn the_broker_drops_who_stops_sending() {
    let vhost = Vhost::fresh().await;
    let proxy = Proxy::to(&vhost.broker().address());
    let beating = async |url: &str| {
        let connector = Connector::new(url).unwrap().heartbeat(Duration::from_secs(1));
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        assert_eq!(connection.heartbeat(), Some(Duration::from_secs(1)));
        connection
    };
    let idle = beating(&vhost.url()).await;
    let dumb = beating(&proxy.url(&vhost.url())).await;
    let channel = dumb.channel().await.unwrap();
    let before = proxy.byte_count(Direction::ToClient);
    proxy.stall(Direction::ToBroker);
    let call = actix_rt::spawn(async move { channel.declare_queue("never").await.map(drop) });
    let error = within("the end", 20, dumb.closed()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true), "{error}");
    assert!(!error.to_string().contains("heartbeat"), "{error}");
    assert!(proxy.byte_count(Direction::ToClient) > before, "the broker went on with its own heartbeats");
    let error = within("the call", 5, call).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
    // It had as much time in silence, and more.
    assert!(!idle.is_closed());
    let channel = idle.channel().await.unwrap();
    let error = channel.declare_queue(DeclareQueue::new("never").passive(true)).await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
    proxy.cut_all(Cut::Rst);
    within("close", 10, idle.close()).await.unwrap();
}
