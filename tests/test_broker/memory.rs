//! Connections in memory.

use std::io;

use actix_pika::{ConnectionEvent, Consume, connect};
use actix_pika_broker::Broker;
use futures_util::StreamExt;
use tokio::time::pause;

use super::{in_memory, robust, soon};

#[actix::test]
async fn a_client_publishes_and_gets() {
    pause();
    let broker = Broker::builder().start_here();
    let connection = soon(connect(in_memory(&broker))).await.unwrap();
    let channel = soon(connection.channel()).await.unwrap();
    let queue = soon(channel.declare_queue("jobs")).await.unwrap();
    let large = vec![b'x'; 1 << 20];
    soon(channel.default_exchange().publish(large.clone(), "jobs")).await.unwrap();
    broker.assert_messages("jobs", 1, 0);
    let delivery = soon(queue.get()).await.unwrap().unwrap();
    assert_eq!(delivery.body(), large);
    delivery.ack().unwrap();
    soon(connection.close()).await.unwrap();
    soon(broker.until(|state| state.connections().is_empty())).await;
    broker.assert_messages("jobs", 0, 0);
}

/// A broker on a thread of its own has the same streams.
#[actix::test]
async fn a_broker_with_a_socket_is_dialled_in_memory_too() {
    let broker = Broker::start().unwrap();
    let connection = soon(connect(in_memory(&broker))).await.unwrap();
    let over_tcp = soon(connect(broker.url())).await.unwrap();
    let mut addresses: Vec<String> =
        broker.connections().into_iter().map(|connection| connection.address).collect();
    addresses.sort();
    assert!(addresses[0].starts_with("127.0.0.1:") && addresses[1] == "in memory", "{addresses:?}");
    soon(connection.close()).await.unwrap();
    soon(over_tcp.close()).await.unwrap();
}

/// Cut at a byte, closed with a code, refused, restarted: each time the same dialer connects again, and nothing is lost.
#[actix::test]
async fn a_robust_client_reconnects_by_the_same_dialer() {
    pause();
    let broker = Broker::builder().start_here();
    let connection = robust(&broker).await;
    let mut events = connection.events();
    let channel = soon(connection.channel()).await.unwrap();
    let queue = soon(channel.declare_queue("jobs")).await.unwrap();
    let mut deliveries = soon(queue.deliveries_with(Consume::new().prefetch(1))).await.unwrap();
    let faults: [fn(&Broker); 6] = [
        |broker| assert!(broker.cut(broker.connections()[0].id)),
        |broker| assert!(broker.cut_after(broker.connections()[0].id, 5)),
        |broker| assert!(broker.cut_input_after(broker.connections()[0].id, 40)),
        |broker| assert!(broker.close_connection(broker.connections()[0].id, 320, "bye")),
        |broker| {
            broker.refuse_connects(3);
            broker.restart();
        },
        |broker| broker.restart_empty(),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        fault(&broker);
        let job = format!("job {n}");
        soon(channel.default_exchange().publish(job.clone(), "jobs")).await.unwrap();
        while !matches!(soon(events.next()).await.unwrap(), ConnectionEvent::Recovered { .. }) {}
        // A publish whose confirm was cut off comes twice.
        loop {
            let delivery = soon(deliveries.next()).await.unwrap();
            let is_new = delivery.body() == job.as_bytes();
            delivery.ack().unwrap();
            if is_new {
                break;
            }
        }
    }
}

#[actix::test]
async fn a_broker_that_has_ended_refuses_connects() {
    pause();
    let broker = Broker::builder().start_here();
    let connector = in_memory(&broker);
    let connection = soon(connect(connector.clone())).await.unwrap();
    drop(broker);
    soon(connection.closed()).await.unwrap_err();
    let error = soon(connect(connector)).await.unwrap_err();
    assert_eq!(error.io_kind(), Some(io::ErrorKind::ConnectionRefused), "{error}");
}
