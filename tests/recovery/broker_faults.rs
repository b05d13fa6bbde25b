//! Faults of a running broker: closed connections, a deleted virtual host, a silent or paused node, locks, timeouts.

use std::time::Duration;

use super::restart_options;
use crate::support::{
    broker::{SecondNode, Vhost},
    eventually,
    oracle::Oracle,
    proxy::{Cut, Direction},
    robust_connection::RobustConnection,
    take, within,
};
use actix_pika::{
    ChannelEvent, ConnectionEvent, Connector, Consume, DeclareExchange, DeclareQueue, Delivery, ErrorKind,
    Recovery,
    events::{ConnectionState, EntityKind, Health},
    testing::Probe,
};
use futures_util::StreamExt;

async fn close_connections(robust: &RobustConnection, reason: &str) {
    eventually("a connection to close", 20, async || {
        (robust.vhost.delete_connections(reason).await > 0).then_some(())
    })
    .await;
}

/// REC-02, BRK-01: a connection that is closed through the management API is lost with 320 and the given reason, and
/// recovers.
#[actix::test]
async fn a_connection_closed_by_an_operator_recovers() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume(probe.recipient()).await.unwrap();
    for round in 1..=2 {
        close_connections(&robust, "closed by an operator").await;
        let error = robust.wait_for_loss().await;
        let reason = error.close_reason().expect("the broker's reason");
        assert_eq!(reason.code, 320);
        assert!(reason.text.contains("closed by an operator"), "{reason}");
        assert!(error.is_retryable(), "{error}");
        assert!(matches!(robust.next_event().await, ConnectionEvent::Connected));
        let ConnectionEvent::Recovered { epoch, skipped, .. } = robust.next_event().await else { panic!() };
        assert_eq!((epoch, skipped.len()), (round + 1, 0));
        within("a publish", 10, channel.default_exchange().publish("x", queue.name())).await.unwrap();
        take(&mut probe, 1).await.remove(0).ack().unwrap();
    }
}

/// BRK-07: when the virtual host is deleted, the connection is lost with 320, or with 541 for a queue that was declared
/// again meanwhile. Reconnects fail with 530 until it is created again; then the topology is redeclared.
#[actix::test]
async fn the_topology_is_redeclared_after_the_virtual_host_was_deleted() {
    let mut robust =
        RobustConnection::connect_without_proxy(Vhost::fresh().await, |connector| connector).await;
    let channel = within("a channel", 10, robust.connection.channel_with(restart_options())).await.unwrap();
    let exchange = channel.declare_exchange(DeclareExchange::topic("events")).await.unwrap();
    let queue = channel.declare_queue("log").await.unwrap();
    queue.bind("events", "#").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume(probe.recipient()).await.unwrap();
    exchange.publish("before", "a").await.unwrap();
    let before = take(&mut probe, 1).await.remove(0);
    robust.vhost.delete().await;
    let error = loop {
        match within("an event", 30, robust.events.next()).await.unwrap() {
            ConnectionEvent::Lost(error) => break error,
            ConnectionEvent::Health(_) => {}
            event => panic!("{event:?}"),
        }
    };
    let reason = error.close_reason().unwrap_or_else(|| panic!("{error}"));
    match reason.code {
        // The text is "is deleted", or "is down" if the broker stops the virtual host first.
        320 => assert!(reason.text.contains(robust.vhost.name()), "{reason}"),
        // Before it closes the connections, the broker deletes the queues, and then the virtual host. The queue is
        // declared again at once. If the virtual host is gone then, 4.x looks in vain for its default queue type, and
        // its channel crashes.
        541 if robust.vhost.broker().version().await >= (4, 0) => {
            assert_eq!((reason.text.as_str(), reason.method), ("INTERNAL_ERROR", ""), "{reason}");
        }
        _ => panic!("{reason}"),
    }
    let mut refused = 0;
    while refused < 3 {
        if let ConnectionEvent::Retrying { error, .. } =
            within("an event", 30, robust.events.next()).await.unwrap()
            && error.close_reason().is_some_and(|reason| reason.code == 530)
        {
            assert_eq!(error.kind(), ErrorKind::Vhost);
            refused += 1;
        }
    }
    assert!(matches!(robust.connection.state(), ConnectionState::Reconnecting(_)));
    let waiting = {
        let exchange = exchange.clone();
        actix_rt::spawn(async move { exchange.publish("published meanwhile", "b").await.map(drop) })
    };
    robust.vhost.create().await;
    assert!(robust.wait_for_recovery().await.is_empty());
    assert_eq!(before.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
    within("the publish", 10, waiting).await.unwrap().unwrap();
    within("a publish", 10, exchange.publish("after", "c")).await.unwrap();
    for body in ["published meanwhile", "after"] {
        let delivery = take(&mut probe, 1).await.remove(0);
        assert_eq!((delivery.body(), delivery.redelivered()), (body.as_bytes(), false));
        delivery.ack().unwrap();
    }
}

/// BRK-07: if the virtual host stays deleted, the connection is closed with 530 after the given number of attempts.
#[actix::test]
async fn a_deleted_virtual_host_closes_the_connection_after_its_attempts() {
    let recovery = Recovery::fixed(Duration::from_millis(10)).attempts(3);
    let mut robust = RobustConnection::connect_with(|connector| connector.recovery(recovery)).await;
    let channel = robust.channel().await;
    channel.declare_queue("log").await.unwrap();
    robust.vhost.delete().await;
    let publish = {
        let exchange = channel.default_exchange();
        actix_rt::spawn(async move { exchange.publish("never", "log").await.map(drop) })
    };
    robust.wait_for_loss().await;
    let ConnectionEvent::Closed(Some(error)) = robust.next_event().await else { panic!() };
    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::Vhost, 530));
    within("the publish", 10, publish).await.unwrap().unwrap_err();
    let error = within("a call", 10, channel.declare_queue("more")).await.unwrap_err();
    assert_eq!((error.kind(), error.close_reason().unwrap().code), (ErrorKind::ConnectionClosed, 530));
}

/// BRK-06: while a broker that boots resets connections or sends nothing, each attempt fails and the next follows.
#[actix::test]
async fn a_booting_broker_is_retried_until_it_replies() {
    // On a busy machine the first handshake may time out as well.
    let mut robust = RobustConnection::connect_with(|connector| {
        let short = connector.connect_timeout(Duration::from_millis(200)).heartbeat(Duration::from_secs(1));
        short.fail_fast(false)
    })
    .await;
    let channel = robust.channel().await;
    channel.declare_queue("log").await.unwrap();
    let before = robust.proxy.accepted_count();
    robust.proxy.reset_new().await;
    robust.proxy.cut_all(Cut::Fin);
    robust.wait_for_loss().await;
    robust.proxy.wait_for_accepted(before + 3).await;
    robust.proxy.stall(Direction::ToClient);
    robust.proxy.accept_new().await;
    let mut silent = 0;
    while silent < 2 {
        match within("an event", 30, robust.events.next()).await.unwrap() {
            ConnectionEvent::Retrying { error, .. } if error.kind() == ErrorKind::Timeout => silent += 1,
            ConnectionEvent::Retrying { error, .. } => assert_eq!(error.kind(), ErrorKind::Io, "{error}"),
            event => panic!("{event:?}"),
        }
    }
    robust.proxy.resume(Direction::ToClient);
    assert!(robust.wait_for_recovery().await.is_empty());
    within("a publish", 10, channel.default_exchange().publish("x", "log")).await.unwrap();
}

/// BRK-09: a delivery that is not acknowledged in time. Up to 4.2 the broker closes its channel, which is reopened. From
/// 4.3 on it does so for no queue: a classic queue has no time limit, and a quorum queue takes the message back and cancels
/// the consumer, which is started again. In each case the message is redelivered, and the late ack fails or is void.
#[actix::test]
async fn a_late_delivery_costs_its_channel_or_its_consumer_for_a_moment() {
    let node = SecondNode::start().await;
    let closes_channel = node.broker().line().await.late_settle_closes_channel();
    node.set_consumer_timeout(Duration::from_millis(500)).await;
    let robust =
        RobustConnection::connect_to(Vhost::fresh_on(node.broker()).await, |connector| connector).await;
    let channel = robust.channel().await;
    let mut events = channel.events();
    let classic = channel.declare_queue("classic").await.unwrap();
    let quorum = DeclareQueue::new("slow").quorum().argument("x-consumer-timeout", 500);
    let slow = if closes_channel { DeclareQueue::new("slow") } else { quorum };
    let slow = channel.declare_queue(slow).await.unwrap();
    if closes_channel {
        // A channel reads the timeout when it is opened.
        node.set_consumer_timeout(Duration::from_secs(1_800)).await;
    }
    let (mut probe, mut classic_probe) = (Probe::<Delivery>::start(), Probe::<Delivery>::start());
    let consumer = slow.consume_with(Consume::new().tag("slow"), probe.recipient()).await.unwrap();
    let held = if closes_channel {
        None
    } else {
        classic.consume(classic_probe.recipient()).await.unwrap();
        channel.default_exchange().publish("held", "classic").await.unwrap();
        Some(take(&mut classic_probe, 1).await.remove(0))
    };
    channel.default_exchange().publish("x", "slow").await.unwrap();
    let unsettled = take(&mut probe, 1).await.remove(0);
    match within("an event", 60, events.next()).await.unwrap() {
        ChannelEvent::Reopened(cause) if closes_channel => {
            let reason = cause.close_reason().expect("the broker's reason");
            assert_eq!(reason.code, 406);
            assert!(reason.text.contains("timed out"), "{reason}");
        }
        ChannelEvent::ConsumerRecovered { tag } if !closes_channel => assert_eq!(&*tag, "slow"),
        event => panic!("{event:?}"),
    }
    assert!(unsettled.is_stale());
    assert_eq!(unsettled.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
    let again = take(&mut probe, 1).await.remove(0);
    assert_eq!((again.body(), again.redelivered(), again.consumer_tag()), (&b"x"[..], true, "slow"));
    again.ack().unwrap();
    if let Some(held) = held {
        // Longer unsettled than the other one, and still valid.
        assert!(!held.is_stale());
        held.ack().unwrap();
    }
    assert!(consumer.end().is_none());
    within("close", 10, robust.connection.close()).await.unwrap();
    let oracle = within("the oracle", 10, Oracle::connect(&robust.vhost.url())).await;
    oracle.wait_for_count("slow", 0).await;
    oracle.wait_for_count("classic", 0).await;
    node.reset_consumer_timeout().await;
}

/// NET-08, HB: the connection to a paused node is lost after two heartbeats without data, and recovers when the node is
/// resumed.
#[actix::test]
async fn a_paused_node_is_detected_by_heartbeats() {
    let node = SecondNode::start().await;
    let mut robust = RobustConnection::connect_to(Vhost::fresh_on(node.broker()).await, |connector| {
        let short = connector.heartbeat(Duration::from_secs(1)).connect_timeout(Duration::from_millis(500));
        short.fail_fast(false)
    })
    .await;
    assert_eq!(robust.connection.heartbeat(), Some(Duration::from_secs(1)));
    let channel = within("a channel", 10, robust.connection.channel_with(restart_options())).await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume(probe.recipient()).await.unwrap();
    node.pause().await;
    let publish = {
        let (exchange, name) = (channel.default_exchange(), queue.name().to_owned());
        actix_rt::spawn(async move { exchange.publish("meanwhile", &name).await.map(drop) })
    };
    let error = robust.wait_for_loss().await;
    assert!(error.to_string().contains("two heartbeats"), "{error}");
    let mut silent = 0;
    while silent < 2 {
        match within("an attempt", 30, robust.events.next()).await.unwrap() {
            ConnectionEvent::Retrying { error, .. } if error.kind() == ErrorKind::Timeout => silent += 1,
            ConnectionEvent::Retrying { .. } => {}
            event => panic!("{event:?}"),
        }
    }
    node.resume().await;
    assert!(robust.wait_for_recovery().await.is_empty());
    within("the publish", 20, publish).await.unwrap().unwrap();
    let delivery = take(&mut probe, 1).await.remove(0);
    assert_eq!(delivery.body(), b"meanwhile");
    delivery.ack().unwrap();
}

/// REC, CLU-02: a queue that another connection locks is skipped with its bindings, and redeclared when the lock is
/// gone.
#[actix::test]
async fn a_locked_queue_is_redeclared_when_the_lock_is_gone() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::new("mine").exclusive(true)).await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    robust.disconnect().await;
    let other = within("the other connection", 10, Connector::new(&robust.vhost.url()).unwrap().connect())
        .await
        .unwrap();
    let other_channel = other.channel().await.unwrap();
    eventually("the lock", 30, async || {
        other_channel.declare_queue(DeclareQueue::new("mine").exclusive(true)).await.ok().map(drop)
    })
    .await;
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    let codes: Vec<_> =
        skipped.iter().map(|one| (one.kind, one.error.close_reason().unwrap().code)).collect();
    assert_eq!(codes, [(EntityKind::Queue, 405), (EntityKind::Binding, 405)]);
    assert!(!robust.connection.health().await.unwrap().is_up());
    within("close", 10, other.close()).await.unwrap();
    within("health", 30, async {
        while !matches!(robust.events.next().await.unwrap(), ConnectionEvent::Health(Health::Up)) {}
    })
    .await;
    channel.exchange("amq.fanout").publish("bound", "").await.unwrap();
    let delivery = within("a get", 10, queue.get()).await.unwrap().expect("a message");
    assert_eq!(delivery.body(), b"bound");
    delivery.ack().unwrap();
}

/// REC: a consumer that was skipped is removed from the health when it is cancelled.
#[actix::test]
async fn cancelling_a_skipped_consumer_restores_health() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("shared").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    let consumer = queue.consume(probe.recipient()).await.unwrap();
    robust.disconnect().await;
    let other = within("the other connection", 10, Connector::new(&robust.vhost.url()).unwrap().connect())
        .await
        .unwrap();
    let other_queue = other.channel().await.unwrap().queue("shared");
    robust.oracle().await.wait_for_consumers("shared", 0).await;
    let mut other_probe = Probe::<Delivery>::start();
    let exclusive =
        other_queue.consume_with(Consume::new().exclusive(true), other_probe.recipient()).await.unwrap();
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    assert_eq!((skipped.len(), skipped[0].kind), (1, EntityKind::Consumer));
    assert_eq!(skipped[0].error.close_reason().unwrap().code, 403);
    assert!(!robust.connection.health().await.unwrap().is_up());
    within("a cancel", 10, consumer.cancel()).await.unwrap();
    assert!(robust.connection.health().await.unwrap().is_up());
    channel.default_exchange().publish("x", "shared").await.unwrap();
    take(&mut other_probe, 1).await.remove(0).ack().unwrap();
    exclusive.cancel().await.unwrap();
    within("close", 10, robust.connection.close()).await.unwrap();
    assert!(probe.drain().await.is_empty());
}
