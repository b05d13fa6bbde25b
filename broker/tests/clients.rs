//! A client that knows nothing of this project uses the broker.

#![allow(missing_docs)]

use std::{future::Future, time::Duration};

use actix_pika_broker::{Broker, Line};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Connection, ConnectionProperties, ErrorKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, LongString},
};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it takes less than 10 s")
}

async fn connect(broker: &Broker) -> Connection {
    within(Connection::connect(&broker.url(), ConnectionProperties::default())).await.unwrap()
}

#[tokio::test]
async fn what_is_published_with_a_confirm_is_delivered_and_acked() {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3] {
        let broker = Broker::builder().line(line).start().unwrap();
        let connection = connect(&broker).await;
        let channel = within(connection.create_channel()).await.unwrap();
        within(channel.queue_declare("orders".into(), QueueDeclareOptions::durable(), FieldTable::default()))
            .await
            .unwrap();
        within(channel.confirm_select(ConfirmSelectOptions::default())).await.unwrap();
        let body = vec![7; 300_000];
        for body in [&b"one"[..], b"", &body] {
            let confirm = within(channel.basic_publish(
                "".into(),
                "orders".into(),
                BasicPublishOptions::default(),
                body,
                BasicProperties::default().with_message_id("id".into()),
            ))
            .await
            .unwrap();
            assert!(within(confirm).await.unwrap().is_ack());
        }
        broker.assert_messages("orders", 3, 0);
        let options = BasicConsumeOptions::default();
        let mut consumer =
            within(channel.basic_consume("orders".into(), "c".into(), options, FieldTable::default()))
                .await
                .unwrap();
        for body in [&b"one"[..], b"", &body] {
            let delivery = within(consumer.next()).await.unwrap().unwrap();
            assert_eq!(delivery.data, body);
            assert_eq!(delivery.properties.message_id().as_ref().map(|id| id.as_str()), Some("id"));
            within(delivery.ack(BasicAckOptions::default())).await.unwrap();
        }
        within(broker.until(|state| state.unacked("orders") == 0)).await;
        broker.assert_messages("orders", 0, 0);
        assert_eq!(broker.published("orders").len(), 3);
        within(connection.close(200, "bye".into())).await.unwrap();
        within(broker.until(|state| state.connections().is_empty())).await;
    }
}

#[tokio::test]
async fn time_is_moved_by_the_test() {
    let broker = Broker::builder().manual_clock().start().unwrap();
    let connection = connect(&broker).await;
    let channel = within(connection.create_channel()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(30_000));
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(LongString::from("")));
    arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(LongString::from("late")));
    let declare = |name: &'static str, arguments| {
        let channel = channel.clone();
        async move {
            within(channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments))
                .await
                .unwrap()
        }
    };
    declare("wait", arguments).await;
    declare("late", FieldTable::default()).await;
    let publish = channel.basic_publish(
        "".into(),
        "wait".into(),
        BasicPublishOptions::default(),
        b"x",
        BasicProperties::default(),
    );
    within(publish).await.unwrap();
    within(broker.until(|state| state.ready("wait") == 1)).await;
    broker.advance(Duration::from_millis(29_999));
    broker.assert_messages("wait", 1, 0);
    broker.advance(Duration::from_millis(1));
    broker.assert_messages("wait", 0, 0);
    broker.assert_messages("late", 1, 0);
    let got =
        within(channel.basic_get("late".into(), BasicGetOptions { no_ack: true })).await.unwrap().unwrap();
    assert_eq!(got.data, b"x");
}

#[tokio::test]
async fn a_restart_keeps_what_is_durable() {
    let broker = Broker::start().unwrap();
    let connection = connect(&broker).await;
    let channel = within(connection.create_channel()).await.unwrap();
    within(channel.queue_declare("kept".into(), QueueDeclareOptions::durable(), FieldTable::default()))
        .await
        .unwrap();
    within(channel.queue_declare("gone".into(), QueueDeclareOptions::default(), FieldTable::default()))
        .await
        .unwrap();
    for mode in [1, 2] {
        let properties = BasicProperties::default().with_delivery_mode(mode);
        within(channel.basic_publish(
            "".into(),
            "kept".into(),
            BasicPublishOptions::default(),
            b"x",
            properties,
        ))
        .await
        .unwrap();
    }
    within(broker.until(|state| state.ready("kept") == 2)).await;
    broker.restart();
    within(broker.until(|state| state.connections().is_empty())).await;
    broker.assert_messages("kept", 1, 0);
    assert_eq!(broker.queues().len(), 1);
    broker.restart_empty();
    assert_eq!(broker.queues().len(), 0);
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let broker = Broker::start().unwrap();
    let url = broker.url_of("guest", "wrong", "%2f");
    let error = within(Connection::connect(&url, ConnectionProperties::default())).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ProtocolError(_)), "{error:?}");
    assert!(error.to_string().contains("ACCESS_REFUSED"), "{error}");
}

#[tokio::test]
async fn two_hundred_brokers_side_by_side() {
    let brokers: Vec<Broker> = (0..200).map(|_| Broker::start().unwrap()).collect();
    for broker in &brokers {
        let connection = connect(broker).await;
        let channel = within(connection.create_channel()).await.unwrap();
        within(channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()))
            .await
            .unwrap();
        assert_eq!(broker.queues().len(), 1);
    }
}
