//! Consumers over a recovery: each is consumed again once, with its options, or is reported as lost.

use std::collections::BTreeSet;

use actix_pika::{
    ChannelEvent, Consume, ConsumerEnd, DeclareExchange, DeclareQueue, Delivery, ErrorKind,
    events::{Events, Health},
    testing::Probe,
};
use futures_util::{FutureExt, StreamExt, future::join_all};

use crate::support::{
    broker::ConsumerInfo,
    eventually,
    proxy::{Cut, Direction},
    robust_connection::RobustConnection,
    take, within,
};

async fn next_event(events: &mut Events<ChannelEvent>) -> ChannelEvent {
    within("an event of the channel", 15, events.next()).await.expect("the channel is not closed")
}

/// Expects `Reopened`, and returns the code of its cause.
async fn expect_reopened(events: &mut Events<ChannelEvent>) -> Option<u16> {
    match next_event(events).await {
        ChannelEvent::Reopened(cause) => cause.close_reason().map(|reason| reason.code),
        other => panic!("{other:?}"),
    }
}

/// REC-26: a thousand consumers of one queue recover under their tags, each once.
#[actix::test]
async fn a_thousand_consumers_recover() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let probe = Probe::<Delivery>::start();
    let consumers = join_all((0..1000).map(|_| queue.consume(probe.recipient()))).await;
    let tags: BTreeSet<String> = consumers.iter().map(|c| c.as_ref().unwrap().tag().to_owned()).collect();
    let oracle = robust.oracle().await;
    for _ in 0..2 {
        robust.cut_and_recover().await;
        oracle.wait_for_consumers("jobs", 1000).await;
    }
    let at_broker = async || {
        let consumers = robust.vhost.consumers("jobs").await;
        let tag = |consumer: &ConsumerInfo| consumer.tag.clone();
        (consumers.len() == 1000).then(|| consumers.iter().map(tag).collect::<BTreeSet<_>>())
    };
    assert_eq!(eventually("a thousand consumers", 40, at_broker).await, tags);
    assert_eq!(robust.records().await.consumers, 1000);
}

/// REC-29, REC-40: after ten losses in a row, some of them during a recovery, the queue has one consumer.
#[actix::test]
async fn ten_losses_leave_one_consumer() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    let oracle = robust.oracle().await;
    for n in 0..10_u64 {
        // The next connection is cut in the handshake, the declarations or the consume.
        robust.proxy.cut_once_after(
            if n % 2 == 0 { Direction::ToBroker } else { Direction::ToClient },
            150 + n * 90,
            Cut::Rst,
        );
        robust.proxy.cut_all(Cut::Rst);
        robust.wait_for_loss().await;
        assert!(robust.wait_for_recovery().await.is_empty());
        robust.proxy.stop_cutting();
        within("a publish", 10, channel.default_exchange().publish("x", "jobs")).await.unwrap();
        // It may be a redelivery, if an earlier ack was lost with its connection.
        let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
        let _ = delivery.ack();
        oracle.wait_for_consumers("jobs", 1).await;
    }
    let connections = robust.proxy.accepted_count();
    assert!(connections > 1 + 10, "{connections} connections: none was lost during a recovery");
    let records = robust.records().await;
    assert_eq!((records.queues, records.consumers), (1, 1));
}

/// REC-41, design 13.11: a recovered consumer has the same exclusive flag, `no_ack`, priority and prefetch.
#[actix::test]
async fn consumers_keep_their_options() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let probe = Probe::<Delivery>::start();
    let alone = channel.declare_queue("alone").await.unwrap();
    let options = Consume::new().exclusive(true).prefetch(7).argument("x-priority", 9);
    let alone = alone.consume_with(options, probe.recipient()).await.unwrap();
    let flood = channel.declare_queue("flood").await.unwrap();
    flood.consume_with(Consume::new().no_ack(true).tag("flood"), probe.recipient()).await.unwrap();
    robust.cut_and_recover().await;
    for (queue, tag, exclusive, ack, prefetch) in
        [("alone", alone.tag(), true, true, 7), ("flood", "flood", false, false, 0)]
    {
        let one = async || Some(robust.vhost.consumers(queue).await).filter(|consumers| consumers.len() == 1);
        let consumer = eventually("the consumer", 15, one).await.remove(0);
        assert_eq!(consumer.tag, tag);
        assert_eq!(consumer.exclusive, exclusive);
        assert_eq!(consumer.needs_ack, ack);
        if ack {
            assert_eq!(consumer.prefetch, prefetch);
            assert_eq!(consumer.arguments.get("x-priority"), Some(&9i64.into()));
        }
    }
}

/// A consume that the broker refuses does not start when its channel is reopened.
#[actix::test]
async fn a_refused_consume_is_not_retried() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let mut events = channel.events();
    let probe = Probe::<Delivery>::start();
    let ends = Probe::<ConsumerEnd>::start();
    let error = channel.queue("missing").consume(probe.recipient()).await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
    assert_eq!(expect_reopened(&mut events).await, Some(404));
    let queue = channel.declare_queue("missing").await.unwrap();

    let oracle = robust.oracle().await;
    let exclusive = lapin::options::BasicConsumeOptions { exclusive: true, ..Default::default() };
    let holder = oracle.channel().basic_consume("missing".into(), "o".into(), exclusive, Default::default());
    let holder = holder.await.unwrap();
    let options = Consume::new().exclusive(true).watch(ends.recipient());
    let error = queue.consume_with(options, probe.recipient()).await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 403);
    assert_eq!(expect_reopened(&mut events).await, Some(403));
    oracle.channel().basic_cancel("o".into(), Default::default()).await.unwrap();
    drop(holder);
    robust.cut_and_recover().await;
    assert!(matches!(next_event(&mut events).await, ChannelEvent::Reopened(_)));
    assert_eq!(oracle.queue_counts("missing").await, Some((0, 0)));
    assert_eq!(robust.records().await.consumers, 0);
    assert!(robust.connection.health().await.unwrap().is_up());
    assert!(events.next().now_or_never().is_none(), "no other event");
    assert_eq!(ends.count().await, 1);
}

/// Consumers of deleted queues that were not declared here wait for them, with one reopening of their channel per queue;
/// the others recover.
#[actix::test]
async fn consumers_of_deleted_queues_wait_for_them() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let oracle = robust.oracle().await;
    for queue in ["a", "b", "c"] {
        oracle.declare_queue(queue).await;
    }
    let mut probe = Probe::<Delivery>::start();
    let mut of_deleted = Vec::new();
    for queue in ["a", "a", "a", "b"] {
        of_deleted.push(channel.queue(queue).consume(probe.recipient()).await.unwrap());
    }
    let of_existing = channel.queue("c").consume(probe.recipient()).await.unwrap();
    let mut events = channel.events();
    robust.disconnect().await;
    for queue in ["a", "b"] {
        oracle.channel().queue_delete(queue.into(), Default::default()).await.unwrap();
    }
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    assert_eq!(skipped.len(), 4, "{skipped:?}");
    assert!(skipped.iter().all(|one| one.error.close_reason().unwrap().code == 404));
    assert_eq!(expect_reopened(&mut events).await, Some(404));
    oracle.publish("", "c", "x").await;
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    assert!(matches!(robust.connection.health().await.unwrap(), Health::Degraded(why) if why.len() == 4));
    for queue in ["a", "b"] {
        oracle.declare_queue(queue).await;
    }
    let mut recovered = BTreeSet::new();
    for _ in 0..4 {
        let ChannelEvent::ConsumerRecovered { tag } = next_event(&mut events).await else { panic!() };
        recovered.insert(tag.to_string());
    }
    assert_eq!(recovered, of_deleted.iter().map(|consumer| consumer.tag().to_owned()).collect());
    assert!(of_deleted.iter().chain([&of_existing]).all(|consumer| consumer.end().is_none()));
    robust.wait_for_health(Health::is_up).await;
    assert_eq!(oracle.queue_counts("a").await.unwrap().1, 3);
}

/// When another client deletes a queue, it is redeclared, and its consumers recover. TOP: its bindings, and the
/// auto-delete exchanges that were deleted with them, are redeclared as well.
#[actix::test]
async fn consumers_of_a_recorded_queue_recover_from_a_broker_cancel() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let events_exchange =
        channel.declare_exchange(DeclareExchange::topic("events").auto_delete(true)).await.unwrap();
    channel.declare_exchange(DeclareExchange::fanout("front").auto_delete(true)).await.unwrap();
    channel.exchange("events").bind("front", "").await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    queue.bind("events", "#").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    let mut events = channel.events();
    let first = queue.consume(probe.recipient()).await.unwrap();
    let second = queue.consume(probe.recipient()).await.unwrap();
    let oracle = robust.oracle().await;
    for round in 0..2 {
        oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
        let mut recovered = BTreeSet::new();
        for _ in 0..2 {
            let ChannelEvent::ConsumerRecovered { tag } = next_event(&mut events).await else { panic!() };
            recovered.insert(tag.to_string());
        }
        assert_eq!(recovered, [first.tag(), second.tag()].map(str::to_owned).into());
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 2)), "round {round}");
        events_exchange.publish("routed", "a").await.unwrap();
        channel.exchange("front").publish("chained", "a").await.unwrap();
        for delivery in take(&mut probe, 2).await {
            delivery.ack().unwrap();
        }
    }
    assert!(robust.connection.health().await.unwrap().is_up());
    assert_eq!(robust.records().await.bindings, 2);
}

/// If one of its bindings cannot be redeclared, a consumer recovers all the same.
#[actix::test]
async fn a_consumer_recovers_without_a_failed_binding() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let oracle = robust.oracle().await;
    oracle.declare_exchange("theirs", lapin::ExchangeKind::Fanout).await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    queue.bind("theirs", "").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    let consumer = queue.consume(probe.recipient()).await.unwrap();
    let mut events = channel.events();
    oracle.channel().exchange_delete("theirs".into(), Default::default()).await.unwrap();
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    assert!(matches!(next_event(&mut events).await, ChannelEvent::ConsumerRecovered { .. }));
    assert!(consumer.end().is_none());
    channel.default_exchange().publish("x", "jobs").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    robust.wait_for_health(|health| matches!(health, Health::Degraded(why) if why.len() == 1)).await;
    // After the unbind, the binding is no longer missing.
    queue.unbind("theirs", "").await.unwrap();
    robust.wait_for_health(Health::is_up).await;
}

/// When another client deletes a server-named queue, a new one replaces it for all of its consumers.
#[actix::test]
async fn a_deleted_server_named_queue_is_replaced() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    // Not exclusive, so that the other client can delete it.
    let queue = channel.declare_queue(DeclareQueue::new("").auto_delete(true)).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    for tag in ["first", "second"] {
        queue.consume_with(Consume::new().tag(tag), probe.recipient()).await.unwrap();
    }
    let old_name = queue.name().to_owned();
    let mut events = channel.events();
    let oracle = robust.oracle().await;
    oracle.channel().queue_delete(old_name.as_str().into(), Default::default()).await.unwrap();
    let renamed = next_event(&mut events).await;
    let ChannelEvent::QueueRenamed { old, new } = renamed else { panic!("{renamed:?}") };
    assert_eq!(old, old_name);
    let mut recovered = BTreeSet::new();
    for _ in 0..2 {
        let ChannelEvent::ConsumerRecovered { tag } = next_event(&mut events).await else { panic!() };
        recovered.insert(tag.to_string());
    }
    assert_eq!(recovered, ["first", "second"].map(str::to_owned).into());
    assert_eq!(queue.name(), new);
    assert_eq!(oracle.queue_counts(&new).await, Some((0, 2)));
    channel.exchange("amq.fanout").publish("x", "").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    let records = robust.records().await;
    assert_eq!((records.queues, records.bindings, records.consumers), (1, 1, 2));
}

/// An auto-delete queue that another client deletes is redeclared with its consumer: a trial consumer would delete it.
#[actix::test]
async fn a_deleted_auto_delete_queue_is_redeclared() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::new("jobs").auto_delete(true)).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume_with(Consume::new().exclusive(true), probe.recipient()).await.unwrap();
    let mut events = channel.events();
    let oracle = robust.oracle().await;
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    let recovered = next_event(&mut events).await;
    assert!(matches!(recovered, ChannelEvent::ConsumerRecovered { .. }), "{recovered:?}");
    channel.exchange("amq.fanout").publish("x", "").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
}

/// A consumer whose queue was not declared here waits for the queue after the broker's cancel, and is not declared.
#[actix::test]
async fn consumers_of_unrecorded_queues_wait_for_them_after_a_broker_cancel() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let oracle = robust.oracle().await;
    oracle.declare_queue("theirs").await;
    let unrecorded = channel.declare_queue(DeclareQueue::new("not robust").robust(false)).await.unwrap();
    let probe = Probe::<Delivery>::start();
    let mut events = channel.events();
    for queue in [channel.queue("theirs"), unrecorded] {
        let consumer = queue.consume(probe.recipient()).await.unwrap();
        oracle.channel().queue_delete(queue.name().into(), Default::default()).await.unwrap();
        robust.wait_for_health(|health| !health.is_up()).await;
        let missing = robust.connection.missing().await.unwrap();
        assert!(matches!(&missing[..], [one] if one.name == consumer.tag()), "{missing:?}");
        robust.proxy.cut_all(Cut::Rst);
        robust.wait_for_loss().await;
        assert_eq!(robust.wait_for_recovery().await.len(), 1);
        assert!(oracle.queue_counts(queue.name()).await.is_none());
        assert_eq!(expect_reopened(&mut events).await, Some(404));
        oracle.declare_queue(queue.name()).await;
        let recovered = next_event(&mut events).await;
        assert!(matches!(&recovered, ChannelEvent::ConsumerRecovered { tag } if **tag == *consumer.tag()));
        robust.wait_for_health(Health::is_up).await;
        consumer.cancel().await.unwrap();
    }
    assert_eq!(robust.records().await.consumers, 0);
}

/// REC-15, REC-34: a deleted queue, a cancelled consumer and a closed channel do not come back in a recovery.
#[actix::test]
async fn cancelled_consumers_and_deleted_queues_do_not_come_back() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let other = robust.channel().await;
    let probe = Probe::<Delivery>::start();
    let mut queues = Vec::new();
    for name in ["deleted", "cancelled", "closed", "active"] {
        queues.push(channel.declare_queue(name).await.unwrap());
    }
    let deleted = queues[0].consume(probe.recipient()).await.unwrap();
    let cancelled = queues[1].consume(probe.recipient()).await.unwrap();
    other.queue("closed").consume(probe.recipient()).await.unwrap();
    let active = queues[3].consume(probe.recipient()).await.unwrap();
    assert_eq!(robust.records().await.consumers, 4);
    queues[0].delete().await.unwrap();
    assert!(matches!(within("the end", 10, deleted.ended()).await, ConsumerEnd::CancelledByBroker));
    cancelled.cancel().await.unwrap();
    other.close().await.unwrap();
    let records = robust.records().await;
    assert_eq!((records.queues, records.consumers), (3, 1));
    robust.cut_and_recover().await;
    let oracle = robust.oracle().await;
    assert_eq!(oracle.queue_counts("deleted").await, None);
    assert_eq!(oracle.queue_counts("cancelled").await, Some((0, 0)));
    assert_eq!(oracle.queue_counts("closed").await, Some((0, 0)));
    oracle.wait_for_consumers("active", 1).await;
    assert!(active.end().is_none());
    assert_eq!(other.set_qos(1).await.unwrap_err().kind(), ErrorKind::ChannelClosed);
}

/// A consumer with `robust(false)` ends with its connection and is not started again.
#[actix::test]
async fn a_consumer_that_is_not_robust_ends() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let probe = Probe::<Delivery>::start();
    let consumer = queue.consume_with(Consume::new().robust(false), probe.recipient()).await.unwrap();
    robust.cut_and_recover().await;
    let end = within("the end", 10, consumer.ended()).await;
    assert!(matches!(end, ConsumerEnd::Closed(error) if error.kind() == ErrorKind::ConnectionClosed));
    robust.oracle().await.wait_for_consumers("jobs", 0).await;
}

/// REC-06, REC-42, design 13.2: settling stale deliveries of a consumer or a get sends no frame, and each message is
/// redelivered once.
#[actix::test]
async fn stale_deliveries_send_no_settle_frame() {
    let mut robust = RobustConnection::connect_plain().await;
    robust.proxy.record();
    robust.cut_and_recover().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let got = channel.declare_queue("got").await.unwrap();
    let exchange = channel.default_exchange();
    for n in 0..6 {
        exchange.publish(format!("{n}"), "jobs").await.unwrap();
        exchange.publish(format!("{n}"), "got").await.unwrap();
    }
    let mut probe = Probe::<Delivery>::start();
    queue.consume(probe.recipient()).await.unwrap();
    let mut stale = take(&mut probe, 6).await;
    for _ in 0..6 {
        stale.push(got.get().await.unwrap().unwrap());
    }
    robust.cut_and_recover().await;
    for (n, delivery) in stale.into_iter().enumerate() {
        assert!(delivery.is_stale());
        let result = match n % 4 {
            0 => delivery.ack(),
            1 => delivery.ack_all(),
            2 => delivery.nack(true),
            _ => {
                drop(delivery);
                continue;
            }
        };
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StaleDelivery);
    }
    for (n, delivery) in take(&mut probe, 6).await.into_iter().enumerate() {
        assert_eq!((delivery.body(), delivery.redelivered()), (n.to_string().as_bytes(), true));
        delivery.ack().unwrap();
    }
    for n in 0..6 {
        let delivery = got.get().await.unwrap().unwrap();
        assert_eq!((delivery.body(), delivery.redelivered()), (n.to_string().as_bytes(), true));
        delivery.ack().unwrap();
    }
    // When this returns, the settle frames were sent.
    channel.set_qos(1).await.unwrap();
    let recordings = robust.proxy.recordings();
    let settles: Vec<usize> = recordings
        .iter()
        .map(|recording| {
            let tags = recording.frames(Direction::ToBroker).filter_map(|frame| match frame.method() {
                Some((60, 80 | 90 | 120)) => {
                    assert_eq!(frame.method(), Some((60, 80)), "only the acks were sent in time");
                    Some(u64::from_be_bytes(frame.payload[4..12].try_into().unwrap()))
                }
                _ => None,
            });
            tags.max().unwrap_or(0) as usize
        })
        .collect();
    assert_eq!(settles.last(), Some(&12), "{settles:?}");
    assert!(settles[..settles.len() - 1].iter().all(|&tag| tag == 0), "{settles:?}");
    let oracle = robust.oracle().await;
    oracle.wait_for_count("jobs", 0).await;
    oracle.wait_for_count("got", 0).await;
}

/// REC-28: sixteen channels recover with twenty queues, bindings and consumers each.
#[actix::test]
async fn sixteen_channels_with_twenty_queues_recover() {
    let mut robust = RobustConnection::connect().await;
    let mut probe = Probe::<Delivery>::start();
    let mut channels = Vec::new();
    for c in 0..16 {
        let channel = robust.channel().await;
        let declares = (0..20).map(|q| {
            let (channel, to) = (channel.clone(), probe.recipient());
            async move {
                let queue = channel.declare_queue(format!("q{c}.{q}")).await?;
                queue.bind("amq.topic", &format!("to.{c}.{q}")).await?;
                queue.consume(to).await
            }
        });
        join_all(declares).await.into_iter().for_each(|consumer| drop(consumer.unwrap()));
        channels.push(channel);
    }
    robust.cut_and_recover().await;
    let records = robust.records().await;
    assert_eq!((records.queues, records.bindings, records.consumers), (320, 320, 320));
    let exchanges: Vec<_> = channels.iter().map(|channel| channel.exchange("amq.topic")).collect();
    let publishes = (0..320).map(|n| (n / 20, format!("to.{}.{}", n / 20, n % 20)));
    let publishes: Vec<_> = publishes.collect();
    let sent = publishes.iter().map(|(c, key)| exchanges[*c].publish(key.as_str(), key));
    within("all publishes", 30, join_all(sent)).await.into_iter().for_each(|sent| assert!(sent.is_ok()));
    let mut seen = BTreeSet::new();
    for delivery in take(&mut probe, 320).await {
        assert!(seen.insert(delivery.body().to_vec()));
        delivery.ack().unwrap();
    }
}
