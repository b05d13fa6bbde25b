//! What was declared or consumed stays wanted until it is given up: what is missing is tried again, is visible, and costs
//! nothing else.

use std::time::Duration;

use actix_pika::{
    ChannelEvent, Connection, ConnectionEvent, Connector, ConsumerEnd, DeclareExchange, DeclareQueue,
    Delivery, Recovery,
    events::{EntityKind, Events, Health, NextTry},
    testing::Probe,
};
use futures_util::{FutureExt, StreamExt};

use crate::support::{
    broker::Vhost,
    eventually,
    oracle::Oracle,
    proxy::{Cut, Proxy},
    robust_connection::RobustConnection,
    take, within,
};

/// A connection of a user that may have this many channels, and the proxy between.
async fn connect_limited(vhost: &Vhost, channels: u32) -> (Connection, Proxy) {
    let user = vhost.create_user("secret").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    vhost.limit_channels_of(&user, channels).await;
    let proxy = Proxy::to(&vhost.broker().address());
    let url = proxy.url(&vhost.url_as(&user, "secret"));
    let connector = Connector::new(&url).unwrap().recovery(Recovery::fixed(Duration::from_millis(200)));
    (within("connect", 10, connector.connect()).await.unwrap(), proxy)
}

async fn next_event(events: &mut Events<ChannelEvent>) -> ChannelEvent {
    within("an event of the channel", 15, events.next()).await.expect("the channel is not closed")
}

/// REC-61: the broker refuses one channel more with the end of the connection, so that the consumers are repaired on their
/// own channel.
#[actix::test]
async fn a_consumer_of_a_user_at_its_limit_of_channels_is_repaired() {
    let vhost = Vhost::fresh().await;
    let (connection, proxy) = connect_limited(&vhost, 1).await;
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let other = channel.declare_queue("other").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    let first = queue.consume(probe.recipient()).await.unwrap();
    let second = queue.consume(probe.recipient()).await.unwrap();
    let beside = other.consume(probe.recipient()).await.unwrap();
    let mut connection_events = connection.events();
    let mut events = channel.events();
    let oracle = Oracle::connect(&vhost.url()).await;
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    for _ in 0..2 {
        let event = next_event(&mut events).await;
        assert!(matches!(event, ChannelEvent::ConsumerRecovered { .. }), "{event:?}");
    }
    channel.exchange("amq.fanout").publish("x", "").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    assert!([first, second, beside].iter().all(|consumer| consumer.end().is_none()));
    eventually("a healthy connection", 10, async || connection.health().await.unwrap().is_up().then_some(()))
        .await;
    while let Some(event) = connection_events.next().now_or_never().flatten() {
        assert!(matches!(event, ConnectionEvent::Health(_)), "{event:?}");
    }
    // The recovery opens a channel of its own before those of the application.
    proxy.cut_all(Cut::Rst);
    let recovered = async {
        loop {
            match connection_events.next().await.unwrap() {
                ConnectionEvent::Recovered { skipped, .. } => {
                    break assert!(skipped.is_empty(), "{skipped:?}");
                }
                ConnectionEvent::Closed(cause) => panic!("{cause:?}"),
                _ => {}
            }
        }
    };
    within("the recovery", 60, recovered).await;
    channel.exchange("amq.fanout").publish("y", "").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
}

/// REC-62: a queue that is deleted again while its consumer is repaired ends nothing.
#[actix::test]
async fn a_queue_that_is_deleted_twice_in_a_row_ends_no_consumer() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    let consumer = queue.consume(probe.recipient()).await.unwrap();
    let oracle = robust.oracle().await;
    for round in 0..8 {
        for _ in 0..1 + round % 4 {
            oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
        }
        robust.wait_for_health(Health::is_up).await;
        eventually("the consumer", 20, async || {
            oracle.queue_counts("jobs").await.filter(|(_, consumers)| *consumers == 1)
        })
        .await;
        assert!(consumer.end().is_none(), "round {round}");
    }
    channel.default_exchange().publish("x", "jobs").await.unwrap();
    take(&mut probe, 1).await.remove(0).ack().unwrap();
    robust.wait_for_health(Health::is_up).await;
}

/// REC-63: what an operator has deleted for good is given up without a frame about it.
#[actix::test]
async fn what_is_forgotten_is_not_declared_again() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_exchange(DeclareExchange::fanout("events")).await.unwrap();
    let queue = channel.declare_queue("legacy").await.unwrap();
    queue.bind("events", "").await.unwrap();
    let kept = channel.declare_queue("kept").await.unwrap();
    kept.bind("events", "").await.unwrap();
    let probe = Probe::<Delivery>::start();
    let consumer = queue.consume(probe.recipient()).await.unwrap();
    assert!(robust.connection.forget(EntityKind::Queue, "legacy").await.unwrap());
    assert!(matches!(within("the end", 10, consumer.ended()).await, ConsumerEnd::Forgotten));
    assert!(!robust.connection.forget(EntityKind::Queue, "legacy").await.unwrap());
    let records = robust.records().await;
    assert_eq!((records.queues, records.bindings, records.consumers), (1, 1, 0));
    let oracle = robust.oracle().await;
    assert_eq!(oracle.queue_counts("legacy").await, Some((0, 0)), "nothing is deleted");
    oracle.channel().queue_delete("legacy".into(), Default::default()).await.unwrap();
    robust.cut_and_recover().await;
    assert!(oracle.queue_counts("legacy").await.is_none());
    assert!(robust.connection.forget(EntityKind::Binding, "events -> kept ()").await.unwrap());
    assert_eq!(robust.records().await.bindings, 0);
}

/// REC-64: what was declared passively is awaited, and what another client has redefined is tried at the longest pause.
#[actix::test]
async fn what_is_missing_is_listed_with_its_cause_until_it_is_back() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let oracle = robust.oracle().await;
    oracle.declare_queue("theirs").await;
    channel.declare_queue(DeclareQueue::existing("theirs")).await.unwrap();
    channel.declare_queue(DeclareQueue::new("changed").max_length(10)).await.unwrap();
    assert!(robust.connection.missing().await.unwrap().is_empty());
    robust.disconnect().await;
    for queue in ["theirs", "changed"] {
        oracle.channel().queue_delete(queue.into(), Default::default()).await.unwrap();
    }
    oracle.declare_queue("changed").await;
    robust.proxy.accept_new().await;
    assert_eq!(robust.wait_for_recovery().await.len(), 2);
    let missing = robust.connection.missing().await.unwrap();
    let listed: Vec<_> = missing.iter().map(|one| (one.kind, one.name.as_str(), one.error.code())).collect();
    let queue = EntityKind::Queue;
    assert_eq!(listed, [(queue, "changed", Some(406)), (queue, "theirs", Some(404))]);
    assert!(missing.iter().all(|one| matches!(one.next_try, NextTry::At(_) | NextTry::Now)), "{missing:?}");
    assert!(oracle.queue_counts("theirs").await.is_none(), "it is not made");
    oracle.declare_queue("theirs").await;
    robust.wait_for_health(|health| matches!(health, Health::Degraded(why) if why.len() == 1)).await;
    oracle.channel().queue_delete("changed".into(), Default::default()).await.unwrap();
    robust.wait_for_health(Health::is_up).await;
    assert!(robust.connection.missing().await.unwrap().is_empty());
}
