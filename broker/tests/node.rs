//! A node that is stopped, killed and paused, under a client that knows nothing of this project.

#![allow(missing_docs)]

use std::{future::Future, io::ErrorKind, time::Duration};

use actix_pika_broker::Broker;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it takes less than 10 s")
}

/// Publishes a persistent message to a durable queue of another virtual host.
async fn publish(broker: &Broker) -> Connection {
    let url = broker.url_of("guest", "guest", "orders");
    let connection = within(Connection::connect(&url, ConnectionProperties::default())).await.unwrap();
    let channel = within(connection.create_channel()).await.unwrap();
    within(channel.queue_declare("kept".into(), QueueDeclareOptions::durable(), FieldTable::default()))
        .await
        .unwrap();
    within(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirm =
        channel.basic_publish("".into(), "kept".into(), BasicPublishOptions::default(), b"x", properties);
    assert!(within(within(confirm).await.unwrap()).await.unwrap().is_ack());
    connection
}

#[tokio::test]
async fn a_node_that_is_stopped_or_killed_refuses_connects_until_it_starts() {
    for kill in [false, true] {
        let broker = Broker::builder().vhost("orders").start().unwrap();
        let connection = publish(&broker).await;
        if kill {
            broker.kill_node()
        } else {
            broker.stop_node()
        }
        let refused = within(TcpStream::connect(("127.0.0.1", broker.port()))).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        within(async {
            while connection.status().connected() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        broker.start_node().unwrap();
        broker.in_vhost("orders").assert_messages("kept", 1, 0);
        within(broker.until(|state| state.connections().is_empty())).await;
        drop(publish(&broker).await);
        assert_eq!(broker.in_vhost("orders").messages("kept").len(), 2);
        assert!(broker.queues().is_empty(), "of another virtual host");
    }
}

#[tokio::test]
async fn a_node_that_is_paused_keeps_its_sockets_and_says_nothing() {
    let broker = Broker::start().unwrap();
    broker.pause_node();
    let mut socket = within(TcpStream::connect(("127.0.0.1", broker.port()))).await.unwrap();
    within(socket.write_all(b"AMQP\0\0\x09\x01")).await.unwrap();
    let mut byte = [0];
    let silent = tokio::time::timeout(Duration::from_millis(100), socket.read(&mut byte)).await;
    assert!(silent.is_err());
    broker.resume_node();
    assert_eq!(within(socket.read(&mut byte)).await.unwrap(), 1);
    // One that ends while it is paused ends.
    broker.pause_node();
    drop(broker);
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
#[tokio::test]
async fn the_port_for_tls_is_closed_with_the_other_one() {
    for order in [Broker::stop_node, Broker::kill_node] {
        let broker = Broker::builder().tls().start().unwrap();
        let ports = [broker.port(), broker.tls_port()];
        for _ in 0..2 {
            order(&broker);
            for port in ports {
                let refused = within(TcpStream::connect(("127.0.0.1", port))).await.unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            }
            broker.start_node().unwrap();
            for port in ports {
                within(TcpStream::connect(("127.0.0.1", port))).await.unwrap();
            }
        }
    }
}

/// The orders of the test to a node that is paused do not wait for ever.
#[tokio::test]
async fn a_paused_node_can_be_stopped_killed_and_started() {
    let orders: [fn(&Broker); 3] =
        [Broker::stop_node, Broker::kill_node, |broker| broker.start_node().unwrap()];
    for order in orders {
        let broker = Broker::start().unwrap();
        broker.pause_node();
        let ordered = tokio::task::spawn_blocking(move || {
            order(&broker);
            broker.start_node().unwrap();
            broker
        });
        let broker = within(ordered).await.unwrap();
        let mut socket = within(TcpStream::connect(("127.0.0.1", broker.port()))).await.unwrap();
        within(socket.write_all(b"AMQP\0\0\x09\x01")).await.unwrap();
        assert_eq!(within(socket.read(&mut [0])).await.unwrap(), 1);
    }
}
