//! Bridges over a reconnect.

use super::*;
use crate::support::{eventually, robust_connection::RobustConnection};

/// BRG-05: over a reconnect, subscribers are told of the gap once, at its place, and go on; so do those that subscribe
/// and those that leave meanwhile.
#[actix::test]
async fn a_reconnect_is_told_and_survived() {
    let mut setup = RobustConnection::connect().await;
    let oracle = setup.oracle().await;
    let channel = setup.channel().await;
    let bridge = channel.exchange("amq.topic").bridge().start().await.unwrap();
    let mut stream = bridge.stream("orders.#", 64).await.unwrap();
    let mut probe = Probe::<BridgeEvent>::start();
    let subscription = bridge.subscribe("orders.at", 64, probe.recipient()).await.unwrap();
    let leaving = bridge.stream("bills.#", 64).await.unwrap();
    oracle.publish("amq.topic", "orders.at", "1").await;
    assert_eq!(
        (next(&mut stream).await, next_of(&mut probe).await),
        (message("orders.at", 1), message("orders.at", 1))
    );

    setup.disconnect().await;
    oracle.publish("amq.topic", "orders.at", "lost").await;
    drop(leaving);
    let coming = bridge.stream("prices.#", 64);
    let (coming, _) = futures_util::future::join(within("a stream", 30, coming), async {
        setup.proxy.accept_new().await;
        setup.wait_for_recovery().await;
    })
    .await;
    let mut coming = coming.unwrap();

    assert_eq!((next(&mut stream).await, next_of(&mut probe).await), (Told::Gap, Told::Gap));
    oracle.publish("amq.topic", "orders.at", "2").await;
    oracle.publish("amq.topic", "prices.at", "3").await;
    assert_eq!(
        (next(&mut stream).await, next_of(&mut probe).await),
        (message("orders.at", 2), message("orders.at", 2))
    );
    // It came before the gap or after it.
    let first = next(&mut coming).await;
    let second = if first == Told::Gap { next(&mut coming).await } else { first };
    assert_eq!(second, message("prices.at", 3));
    eventually("the bindings", 10, async || {
        let bindings = setup.vhost.bindings().await;
        let mut keys: Vec<_> = bindings.iter().filter(|one| one.source == "amq.topic").collect();
        keys.sort_by_key(|one| one.routing_key.clone());
        let keys: Vec<_> = keys.into_iter().map(|one| &*one.routing_key).collect();
        (keys == ["orders.#", "orders.at", "prices.#"]).then_some(())
    })
    .await;
    assert_eq!((stream.lost(), subscription.lost()), (0, 0));
    assert!(bridge.end().is_none());
}

/// BRG-05: on a connection that does not recover, subscribers are told the end.
#[actix::test]
async fn without_recovery_the_loss_is_the_end() {
    let vhost = crate::support::broker::Vhost::fresh().await;
    let connection = actix_pika::connect(vhost.url()).await.unwrap();
    let bridge = connection.channel().await.unwrap().exchange("amq.topic").bridge().start().await.unwrap();
    let mut stream = bridge.stream("#", 64).await.unwrap();
    eventually("the connection", 10, async || (!vhost.connections().await.is_empty()).then_some(())).await;
    vhost.delete_connections("a test").await;
    assert_eq!(next(&mut stream).await, Told::Ended("closed"));
    assert!(within("the end", 10, stream.next()).await.is_none());
    assert!(matches!(bridge.end(), Some(ConsumerEnd::Closed(_))));
    assert_eq!(bridge.stream("#", 1).await.unwrap_err().kind(), actix_pika::ErrorKind::Stopped);
}
