//! What a connection that comes back remembers, and what it does not: by handle and by message.

use actix_pika::{
    Consume, ConsumerEnd, DeclareExchange, DeclareQueue, Delivery, ErrorKind,
    message::{BindExchange, BindQueue, DeleteExchange, DeleteQueue, UnbindExchange, UnbindQueue},
    testing::Probe,
};

use crate::support::{eventually, oracle::Oracle, robust_connection::RobustConnection, take, within};

async fn welcome(robust: &mut RobustConnection) {
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    assert!(skipped.is_empty(), "{skipped:?}");
}

async fn gone(oracle: &Oracle, queue: &str) {
    let gone = async || oracle.queue_counts(queue).await.is_none().then_some(());
    eventually("the queue is gone", 10, gone).await;
}

/// REC-20: of an exchange, a queue, a binding and a consumer of each sort, the robust ones are there again, and the
/// others are not.
#[actix::test]
async fn of_each_pair_only_the_robust_one_is_restored() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let mut probe = Probe::<Delivery>::start();
    for (name, is) in [("kept", true), ("loose", false)] {
        channel.declare_exchange(DeclareExchange::topic(name).robust(is)).await.unwrap();
        channel.declare_queue(DeclareQueue::new(name).robust(is)).await.unwrap();
    }
    let queue = channel.queue("kept");
    queue.bind_with(BindQueue::new("kept", "kept", "kept")).await.unwrap();
    queue.bind_with(BindQueue::new("kept", "kept", "loose").robust(false)).await.unwrap();
    let kept = queue.consume_with(Consume::new().tag("kept"), probe.recipient()).await.unwrap();
    let loose = Consume::new().tag("loose").robust(false);
    let loose = queue.consume_with(loose, probe.recipient()).await.unwrap();
    let records = robust.records().await;
    let counts = [records.exchanges, records.queues, records.bindings, records.consumers];
    // The other consumer keeps its queue while it is there.
    assert_eq!(counts, [1, 1, 1, 2]);
    let oracle = robust.oracle().await;
    robust.disconnect().await;
    for name in ["kept", "loose"] {
        oracle.channel().queue_delete(name.into(), Default::default()).await.unwrap();
        oracle.channel().exchange_delete(name.into(), Default::default()).await.unwrap();
    }
    welcome(&mut robust).await;
    assert_eq!(oracle.queue_counts("kept").await, Some((0, 1)));
    assert_eq!(oracle.queue_counts("loose").await, None);
    assert!(kept.end().is_none());
    let end = within("its end", 10, loose.ended()).await;
    assert!(matches!(end, ConsumerEnd::Closed(error) if error.kind() == ErrorKind::ConnectionClosed));
    let exchange = channel.exchange("kept");
    exchange.publish("x", "kept").await.unwrap();
    let delivery = take(&mut probe, 1).await.remove(0);
    assert_eq!(delivery.consumer_tag(), "kept");
    delivery.ack().unwrap();
    assert_eq!(exchange.publish("x", "loose").await.unwrap_err().kind(), ErrorKind::Unroutable);
    let error = channel.get_exchange("loose").await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
}

/// REC-39: there is no way past the records: what is declared, bound, unbound, deleted and consumed by message to the
/// Channel actor comes back, or stays gone, as if it had been done by handle.
#[actix::test]
async fn what_is_done_by_message_is_recorded_alike() {
    let mut robust = RobustConnection::connect().await;
    let handle = robust.channel().await;
    let channel = handle.actor();
    let mut probe = Probe::<Delivery>::start();
    for name in ["front", "back", "gone"] {
        channel.send(DeclareExchange::topic(name)).await.unwrap().unwrap();
    }
    for name in ["jobs", "gone"] {
        channel.send(DeclareQueue::new(name)).await.unwrap().unwrap();
    }
    for key in ["a", "b"] {
        channel.send(BindExchange::new("back", "front", key)).await.unwrap().unwrap();
        channel.send(BindQueue::new("jobs", "back", key)).await.unwrap().unwrap();
    }
    channel.send(BindQueue::new("jobs", "front", "c")).await.unwrap().unwrap();
    channel.send(BindQueue::new("gone", "gone", "#")).await.unwrap().unwrap();
    for queue in ["jobs", "gone"] {
        let consume = Consume::new().queue(queue).tag(queue).deliver_to(probe.recipient());
        channel.send(consume).await.unwrap().unwrap();
    }
    let records = robust.records().await;
    let counts = [records.exchanges, records.queues, records.bindings, records.consumers];
    assert_eq!(counts, [3, 2, 6, 2]);
    channel.send(UnbindExchange::new("back", "front", "b")).await.unwrap().unwrap();
    channel.send(UnbindQueue::new("jobs", "front", "c")).await.unwrap().unwrap();
    channel.send(DeleteQueue::new("gone")).await.unwrap().unwrap();
    channel.send(DeleteExchange::new("gone")).await.unwrap().unwrap();
    let records = robust.records().await;
    let counts = [records.exchanges, records.queues, records.bindings, records.consumers];
    assert_eq!(counts, [2, 1, 3, 1]);
    let oracle = robust.oracle().await;
    robust.disconnect().await;
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    for name in ["front", "back"] {
        oracle.channel().exchange_delete(name.into(), Default::default()).await.unwrap();
    }
    welcome(&mut robust).await;
    assert_eq!((oracle.queue_counts("jobs").await, oracle.queue_counts("gone").await), (Some((0, 1)), None));
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
    let error = handle.get_exchange("gone").await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
}

/// REC-19: what is bound by the handle of a queue or an exchange that is not declared again is not bound again either, so
/// that no reconnect misses it.
#[actix::test]
async fn bindings_of_what_is_not_robust_are_not_recorded() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let mine = DeclareQueue::server_named().robust(false);
    let mine = channel.declare_queue(mine).await.unwrap();
    mine.bind("amq.fanout", "").await.unwrap();
    mine.bind_with(BindQueue::new(mine.name(), "amq.headers", "").argument("x-match", "all")).await.unwrap();
    let loose = DeclareExchange::fanout("loose").auto_delete(true).robust(false);
    let loose = channel.declare_exchange(loose).await.unwrap();
    loose.bind("amq.topic", "#").await.unwrap();
    loose.bind_with(BindExchange::new("loose", "amq.direct", "k")).await.unwrap();
    assert_eq!(robust.records().await.bindings, 0);
    // The options name both ends: what is bound here is robust.
    channel.declare_queue("jobs").await.unwrap();
    mine.bind_with(BindQueue::new("jobs", "amq.topic", "jobs")).await.unwrap();
    assert_eq!(robust.records().await.bindings, 1);
    let oracle = robust.oracle().await;
    robust.disconnect().await;
    gone(&oracle, mine.name()).await;
    oracle.channel().exchange_delete("loose".into(), Default::default()).await.unwrap();
    welcome(&mut robust).await;
    assert!(robust.connection.health().await.unwrap().is_up());
    channel.exchange("amq.topic").publish("x", "jobs").await.unwrap();
    oracle.wait_for_count("jobs", 1).await;
}

/// REC-16: a queue that deletes itself is forgotten with its last consumer, also where that is one that would not have
/// been restored; and not with a robust one while such a one is left.
#[actix::test]
async fn a_queue_is_forgotten_with_its_last_consumer_of_any_kind() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let oracle = robust.oracle().await;
    let probe = Probe::<Delivery>::start();
    let passing = || Consume::new().robust(false);
    let queue = channel.declare_queue(DeclareQueue::new("own").auto_delete(true)).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let first = queue.consume(probe.recipient()).await.unwrap();
    let second = queue.consume_with(passing(), probe.recipient()).await.unwrap();
    let third = queue.consume_with(passing(), probe.recipient()).await.unwrap();
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

    // With its channel, too.
    let other = robust.channel().await;
    let queue = other.declare_queue(DeclareQueue::new("own").auto_delete(true)).await.unwrap();
    queue.consume_with(passing(), probe.recipient()).await.unwrap();
    assert_eq!(counts().await, [1, 0, 1]);
    other.close().await.unwrap();
    assert_eq!(counts().await, [0, 0, 0]);
    assert_eq!(oracle.queue_counts("own").await, None);

    // A consumer that was lost has not left: the queue is there again, without it.
    let queue = channel.declare_queue(DeclareQueue::new("own").auto_delete(true)).await.unwrap();
    let lost = queue.consume_with(passing(), probe.recipient()).await.unwrap();
    robust.disconnect().await;
    gone(&oracle, "own").await;
    welcome(&mut robust).await;
    assert!(lost.end().is_some());
    assert_eq!(oracle.queue_counts("own").await, Some((0, 0)));
    let records = robust.records().await;
    assert_eq!((records.queues, records.consumers), (1, 0));
}

/// TOP-46: each channel has its own prefetch again.
#[actix::test]
async fn the_prefetch_stays_that_of_its_channel() {
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
    let both = async || Some(robust.vhost.consumers("jobs").await).filter(|those| those.len() == 2);
    for consumer in eventually("both consumers", 15, both).await {
        assert_eq!(consumer["consumer_tag"], consumer["prefetch_count"].to_string());
    }
}
