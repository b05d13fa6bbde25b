//! The topology records: which entities, bindings and consumers are redeclared, by handle and by actor message.

use actix_pika::{
    Consume, ConsumerEnd, DeclareExchange, DeclareQueue, Delivery, ErrorKind,
    message::{BindExchange, BindQueue, DeleteExchange, DeleteQueue, UnbindExchange, UnbindQueue},
    testing::Probe,
};

use crate::support::{eventually, oracle::Oracle, robust_connection::RobustConnection, take, within};

/// Lets the connection reconnect, and waits until it has recovered completely.
async fn reconnect(robust: &mut RobustConnection) {
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    assert!(skipped.is_empty(), "{skipped:?}");
}

async fn wait_until_deleted(oracle: &Oracle, queue: &str) {
    let deleted = async || oracle.queue_counts(queue).await.is_none().then_some(());
    eventually("the queue is deleted", 10, deleted).await;
}

/// REC-20: of two exchanges, queues, bindings and consumers, the robust ones are recovered and those with
/// `robust(false)` are not.
#[actix::test]
async fn only_robust_entities_are_recovered() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let mut probe = Probe::<Delivery>::start();
    for (name, robust) in [("robust", true), ("not robust", false)] {
        channel.declare_exchange(DeclareExchange::topic(name).robust(robust)).await.unwrap();
        channel.declare_queue(DeclareQueue::new(name).robust(robust)).await.unwrap();
    }
    let queue = channel.queue("robust");
    queue.bind_with(BindQueue::new("robust", "robust", "robust")).await.unwrap();
    queue.bind_with(BindQueue::new("robust", "robust", "not robust").robust(false)).await.unwrap();
    let robust_consumer = queue.consume_with(Consume::new().tag("robust"), probe.recipient()).await.unwrap();
    let options = Consume::new().tag("not robust").robust(false);
    let other_consumer = queue.consume_with(options, probe.recipient()).await.unwrap();
    let records = robust.records().await;
    let counts = [records.exchanges, records.queues, records.bindings, records.consumers];
    // The other consumer is recorded while it runs, since it counts as a user of its queue.
    assert_eq!(counts, [1, 1, 1, 2]);
    let oracle = robust.oracle().await;
    robust.disconnect().await;
    for name in ["robust", "not robust"] {
        oracle.channel().queue_delete(name.into(), Default::default()).await.unwrap();
        oracle.channel().exchange_delete(name.into(), Default::default()).await.unwrap();
    }
    reconnect(&mut robust).await;
    assert_eq!(oracle.queue_counts("robust").await, Some((0, 1)));
    assert_eq!(oracle.queue_counts("not robust").await, None);
    assert!(robust_consumer.end().is_none());
    let end = within("the end", 10, other_consumer.ended()).await;
    assert!(matches!(end, ConsumerEnd::Closed(error) if error.kind() == ErrorKind::ConnectionClosed));
    let exchange = channel.exchange("robust");
    exchange.publish("x", "robust").await.unwrap();
    let delivery = take(&mut probe, 1).await.remove(0);
    assert_eq!(delivery.consumer_tag(), "robust");
    delivery.ack().unwrap();
    assert_eq!(exchange.publish("x", "not robust").await.unwrap_err().kind(), ErrorKind::Unroutable);
    let error = channel.get_exchange("not robust").await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
}

/// REC-39: declares, binds, unbinds, deletes and consumes by message to the `Channel` actor are recorded like those by
/// handle.
#[actix::test]
async fn calls_by_actor_message_are_recorded() {
    let mut robust = RobustConnection::connect().await;
    let handle = robust.channel().await;
    let channel = handle.actor();
    let mut probe = Probe::<Delivery>::start();
    for name in ["front", "back", "deleted"] {
        channel.send(DeclareExchange::topic(name)).await.unwrap().unwrap();
    }
    for name in ["jobs", "deleted"] {
        channel.send(DeclareQueue::new(name)).await.unwrap().unwrap();
    }
    for key in ["a", "b"] {
        channel.send(BindExchange::new("back", "front", key)).await.unwrap().unwrap();
        channel.send(BindQueue::new("jobs", "back", key)).await.unwrap().unwrap();
    }
    channel.send(BindQueue::new("jobs", "front", "c")).await.unwrap().unwrap();
    channel.send(BindQueue::new("deleted", "deleted", "#")).await.unwrap().unwrap();
    for queue in ["jobs", "deleted"] {
        let consume = Consume::new().queue(queue).tag(queue).deliver_to(probe.recipient());
        channel.send(consume).await.unwrap().unwrap();
    }
    let records = robust.records().await;
    let counts = [records.exchanges, records.queues, records.bindings, records.consumers];
    assert_eq!(counts, [3, 2, 6, 2]);
    channel.send(UnbindExchange::new("back", "front", "b")).await.unwrap().unwrap();
    channel.send(UnbindQueue::new("jobs", "front", "c")).await.unwrap().unwrap();
    channel.send(DeleteQueue::new("deleted")).await.unwrap().unwrap();
    channel.send(DeleteExchange::new("deleted")).await.unwrap().unwrap();
    let records = robust.records().await;
    let counts = [records.exchanges, records.queues, records.bindings, records.consumers];
    assert_eq!(counts, [2, 1, 3, 1]);
    let oracle = robust.oracle().await;
    robust.disconnect().await;
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    for name in ["front", "back"] {
        oracle.channel().exchange_delete(name.into(), Default::default()).await.unwrap();
    }
    reconnect(&mut robust).await;
    assert_eq!(
        (oracle.queue_counts("jobs").await, oracle.queue_counts("deleted").await),
        (Some((0, 1)), None)
    );
    for (exchange, key) in [("front", "a"), ("back", "b")] {
        handle.exchange(exchange).publish(key, key).await.unwrap();
        let delivery = take(&mut probe, 1).await.remove(0);
        assert_eq!((delivery.body(), delivery.consumer_tag()), (key.as_bytes(), "jobs"));
        delivery.ack().unwrap();
    }
    for key in ["b", "c"] {
        let error = handle.exchange("front").publish("x", key).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable, "{key}");
    }
    let error = handle.get_exchange("deleted").await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
}

/// REC-19: bindings made through the handle of a queue or an exchange with `robust(false)` are not recorded, so that no
/// recovery reports them as missing.
#[actix::test]
async fn bindings_of_entities_that_are_not_robust_are_not_recorded() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = DeclareQueue::server_named().robust(false);
    let queue = channel.declare_queue(queue).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    queue
        .bind_with(BindQueue::new(queue.name(), "amq.headers", "").argument("x-match", "all"))
        .await
        .unwrap();
    let exchange = DeclareExchange::fanout("not robust").auto_delete(true).robust(false);
    let exchange = channel.declare_exchange(exchange).await.unwrap();
    exchange.bind("amq.topic", "#").await.unwrap();
    exchange.bind_with(BindExchange::new("not robust", "amq.direct", "k")).await.unwrap();
    assert_eq!(robust.records().await.bindings, 0);
    // This binding names another queue, so it is recorded.
    channel.declare_queue("jobs").await.unwrap();
    queue.bind_with(BindQueue::new("jobs", "amq.topic", "jobs")).await.unwrap();
    assert_eq!(robust.records().await.bindings, 1);
    let oracle = robust.oracle().await;
    robust.disconnect().await;
    wait_until_deleted(&oracle, queue.name()).await;
    oracle.channel().exchange_delete("not robust".into(), Default::default()).await.unwrap();
    reconnect(&mut robust).await;
    assert!(robust.connection.health().await.unwrap().is_up());
    channel.exchange("amq.topic").publish("x", "jobs").await.unwrap();
    oracle.wait_for_count("jobs", 1).await;
}

/// REC-16: the record of an auto-delete queue is removed with its last consumer, robust or not, and not before.
#[actix::test]
async fn an_auto_delete_queue_loses_its_record_with_its_last_consumer() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let oracle = robust.oracle().await;
    let probe = Probe::<Delivery>::start();
    let not_robust = || Consume::new().robust(false);
    let queue = channel.declare_queue(DeclareQueue::new("own").auto_delete(true)).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let first = queue.consume(probe.recipient()).await.unwrap();
    let second = queue.consume_with(not_robust(), probe.recipient()).await.unwrap();
    let third = queue.consume_with(not_robust(), probe.recipient()).await.unwrap();
    let counts = async || {
        let records = robust.records().await;
        [records.queues, records.bindings, records.consumers]
    };
    assert_eq!(counts().await, [1, 1, 3]);
    first.cancel().await.unwrap();
    second.cancel().await.unwrap();
    assert_eq!(counts().await, [1, 1, 1]);
    assert_eq!(oracle.queue_counts("own").await, Some((0, 1)));
    third.cancel().await.unwrap();
    assert_eq!(counts().await, [0, 0, 0]);
    assert_eq!(oracle.queue_counts("own").await, None);

    // Closing the channel of the last consumer removes it, too.
    let other = robust.channel().await;
    let queue = other.declare_queue(DeclareQueue::new("own").auto_delete(true)).await.unwrap();
    queue.consume_with(not_robust(), probe.recipient()).await.unwrap();
    assert_eq!(counts().await, [1, 0, 1]);
    other.close().await.unwrap();
    assert_eq!(counts().await, [0, 0, 0]);
    assert_eq!(oracle.queue_counts("own").await, None);

    // A consumer that ends with the connection does not remove it: the queue is redeclared, without the consumer.
    let queue = channel.declare_queue(DeclareQueue::new("own").auto_delete(true)).await.unwrap();
    let lost = queue.consume_with(not_robust(), probe.recipient()).await.unwrap();
    robust.disconnect().await;
    wait_until_deleted(&oracle, "own").await;
    reconnect(&mut robust).await;
    assert!(lost.end().is_some());
    assert_eq!(oracle.queue_counts("own").await, Some((0, 0)));
    let records = robust.records().await;
    assert_eq!((records.queues, records.consumers), (1, 0));
}

/// TOP-46: each channel has its own prefetch after a recovery.
#[actix::test]
async fn each_channel_keeps_its_prefetch() {
    let mut robust = RobustConnection::connect().await;
    let probe = Probe::<Delivery>::start();
    let mut channels = Vec::new();
    for prefetch in [3, 5] {
        let channel = robust.channel().await;
        channel.set_qos(prefetch).await.unwrap();
        channels.push((channel, prefetch));
    }
    channels[0].0.declare_queue("jobs").await.unwrap();
    robust.cut_and_recover().await;
    for (channel, prefetch) in &channels {
        let options = Consume::new().tag(prefetch.to_string());
        channel.queue("jobs").consume_with(options, probe.recipient()).await.unwrap();
    }
    let both = async || Some(robust.vhost.consumers("jobs").await).filter(|consumers| consumers.len() == 2);
    for consumer in eventually("both consumers", 15, both).await {
        assert_eq!(consumer.tag, consumer.prefetch.to_string());
    }
}
